"""Which players stand in the page, with how many pictures, so that it stays below its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omniloop.report.player_data import to_json
from omniloop.report.player_film import FILM_STEP_US, Film
from omniloop.runlog.files import usable, write_atomic

MOST_INLINE = 30
"""So many players stand in the page itself; further ones lie beside it."""

PAGE_BYTES = 15_000_000
"""The page is no larger than this."""

FOLDER = "report_players"
"""Beside the page: the scripts of further players."""

_THINNING = (1, 2, 4, 8, 0)


@dataclass(frozen=True, eq=False)
class Player:
    """A player before it is known where it goes.

    Attributes:
        anchor: Of its rollout in the page; a plain word.
        data: See `omniloop.report.player_data.player_data`.
        film: Its camera's pictures; None if nothing was rendered.
        handover_us: What the film's times are counted from.
        urgent: Whether the rollout had an incident or failed: these come first.
    """

    anchor: str
    data: dict[str, Any]
    film: Film | None
    handover_us: int
    urgent: bool

    def text(self, nth: int = 1) -> str:
        """The player's data as JSON with each nth picture of its film; 0 for none."""
        film = self.film.every(nth) if self.film is not None else None
        camera = {
            "id": film.camera_id if film is not None else "",
            "ms": [round((t - self.handover_us) / 1000) for t in film.times_us] if film else [],
            "jpg": film.uris() if film is not None else [],
        }
        return to_json({**self.data, "camera": camera})


@dataclass(frozen=True)
class Placed:
    """Where the players are.

    Attributes:
        inline: JSON by anchor.
        beside: Paths of scripts, relative to the page, by anchor.
        limits: What was left out to keep the page small, in words; empty if nothing.
    """

    inline: dict[str, str]
    beside: dict[str, str]
    limits: str


def choose_inline(players: Sequence[Player], most: int) -> list[Player]:
    """Players for the page itself: those of rollouts with trouble first, in the given order."""
    return sorted(players, key=lambda player: not player.urgent)[:most]


def fit(players: Sequence[Player], room_bytes: int) -> tuple[dict[str, str], str]:
    """Texts of players that together fit into some room, and what was left out for it.

    Camera pictures are thinned first, for all alike; when none are left, the last players go.
    """
    texts: dict[str, str] = {}
    for nth in _THINNING:
        texts = {player.anchor: player.text(nth) for player in players}
        if sum(map(len, texts.values())) <= room_bytes:  # the texts are ASCII
            return texts, _said(nth)
    room, kept = room_bytes, {}
    for anchor, text in texts.items():
        if len(text) > room:
            break
        kept[anchor] = text
        room -= len(text)
    left = len(texts) - len(kept)
    return kept, f"{_said(0)}; {left} more player{'s' if left > 1 else ''} lie beside it"


def _said(nth: int) -> str:
    if nth == 1:
        return ""
    if nth == 0:
        return "the players in the page have no camera pictures"
    return (
        "the players in the page have a camera picture each"
        f" {nth * FILM_STEP_US / 1e6:g} s instead of {FILM_STEP_US / 1e6:g} s"
    )


def place(players: Sequence[Player], run_dir: Path, room_bytes: int, most_inline: int) -> Placed:
    """Put players into the page as far as there is room, and the others beside it.

    Scripts of an earlier page are removed, and their folder if nothing is left in it.

    Args:
        room_bytes: For the players in the page, all together.
        most_inline: No more players than this go into the page.

    Raises:
        RunFolderError: a script cannot be written or removed.
    """
    inline, limits = fit(choose_inline(players, most_inline), room_bytes)
    beside: dict[str, str] = {}
    folder = run_dir / FOLDER
    with usable(folder, "written"):
        _clear(folder)
        if len(inline) < len(players):
            folder.mkdir(exist_ok=True)
    for player in players:
        if player.anchor in inline:
            continue
        name = f"{player.anchor}.js"
        script = f'omniloopPlayer("{player.anchor}",{player.text()});\n'
        write_atomic(folder / name, script.encode())
        beside[player.anchor] = f"{FOLDER}/{name}"
    return Placed(inline, beside, limits)


def _clear(folder: Path) -> None:
    for old in sorted(folder.glob("r*.js")):
        old.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
