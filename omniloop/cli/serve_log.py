"""`omniloop serve KIND --from-log`: a service played by the logs of a run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import typer

from omniloop.core.errors import ConfigError
from omniloop.runner.replaying.replay import find_recordings
from omniloop.runner.replaying.server import ReplayedService
from omniloop.runner.replaying.setup import RecordedScenes, config_of
from omniloop.services.roles import servicers
from omniloop.services.serving import Listening, serve_until_stopped
from omniloop.services.shelf import SceneShelf


def refuse_settings(settings: Sequence[str]) -> None:
    """A log has settings and scenes of its own.

    Raises:
        ConfigError: others are given.
    """
    if settings:
        raise ConfigError(
            f"'{settings[0]}' cannot be set for what a log answers", where="--from-log",
            remedy="leave settings out: scenes and all else are the log's",
        )  # fmt: skip


def serve_log(
    kind: str,
    source: Path,
    listening: Listening,
    max_sessions: int | None,
    idle_timeout_s: float,
    *,
    lenient: bool = False,
    tolerance: float | None = None,
) -> int:
    """Serve one service of recorded rollouts until SIGTERM or Ctrl-C; return 1 if it was asked otherwise.

    Raises:
        InputError: an option or the address is unusable, or the service was none.
        RunFolderError: there is no log, or one cannot be read.
    """
    if tolerance is not None and not 0 <= tolerance < float("inf"):
        raise ConfigError(
            f"a tolerance of {tolerance}", where="--tolerance", remedy="give a number, 0 or more"
        )
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    recordings = {r.session_id: r for r in find_recordings(source)}
    first = next(iter(recordings.values()))
    plugin: str = getattr(config_of(first), kind).name
    if plugin == "none":
        raise ConfigError(
            f"nothing was rendered when {first.session_id} was recorded", where=str(source),
            remedy="serve another service, or a run with frames",
        )  # fmt: skip
    service = ReplayedService(kind, recordings, tolerance, lenient)
    shelf = SceneShelf(RecordedScenes(recordings))
    for scene_id in shelf.ids:
        shelf.get(scene_id)  # one that is missing or damaged is told now
    protocols = servicers(kind, service, shelf, max_sessions, idle_timeout_s)
    for protocol in protocols:
        protocol.served = f"log of {plugin}"

    def started(port: int) -> None:
        names = ", ".join(s.service.full_name for s in protocols)
        typer.echo(f"serving {kind} log of {plugin} at {listening.host}:{port} ({names})")
        typer.echo(f"{len(recordings)} rollout(s) of {len(shelf.ids)} scene(s); Ctrl-C stops")

    asyncio.run(serve_until_stopped(protocols, listening, started))
    typer.echo(str(service.summary))
    return int(service.summary.mismatches > 0)
