"""``report.html``: a run on one page that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from omniloop.core.errors import OmniloopError
from omniloop.core.time import US_PER_S
from omniloop.report.aggregate import outcome_counts
from omniloop.report.incidents import Incident, incidents_from_metrics
from omniloop.report.injected import injected_lines, injected_settings
from omniloop.report.page_parts import (
    exclusions_of,
    facts_of,
    machine_lines,
    missing_rollouts,
    rerun_command,
    rollout_timings,
    service_timings,
    settings_lines,
    tiles_of,
    undefined_scores,
    warnings_of,
)  # fmt: skip
from omniloop.report.palette import DARK, LIGHT
from omniloop.report.pictures import KeyFrame, Pictures, make_pictures
from omniloop.report.player_budget import (
    FOLDER,
    MOST_INLINE,
    PAGE_BYTES,
    Placed,
    Player,
    place,
)
from omniloop.report.player_data import to_json
from omniloop.report.summary import (
    UNDEFINED,
    Cell,
    Column,
    Mean,
    cell,
    columns_of,
    means_of,
    outcome_label,
)
from omniloop.report.tabular import text
from omniloop.report.time_budget import Budget, budget_of
from omniloop.runlog.files import write_atomic
from omniloop.runlog.folder import (
    LOG_NAME,
    RUN_YAML,
    open_existing,
    read_run_yaml,
    rollout_dir,
    to_yaml,
)
from omniloop.runlog.results import FoundResults, RolloutResult, find_results

REPORT_NAME = "report.html"

MOST_PICTURED = 24
"""Pictures are made of this many rollouts, and of as many again that had incidents or failed; of
twice as many where there are no more."""

MOST_ROWS = 5000
"""Rollouts listed in the table; further ones are in ``scores.csv`` alone."""

_MOST_CELLS = 30_000
_LEAST_COLUMNS = 8
_MOST_KEYED = 24
_KEYED_EACH = 3
_MOST_LINES = 300
_MARGIN_BYTES = 64_000


@dataclass(frozen=True)
class Row:
    """A rollout in the score table.

    Attributes:
        incident_words: What the filter of incidents looks for: "yes", "no" or "undefined",
            then kinds.
        text: What the text filter looks for, in lower case.
    """

    anchor: str
    result: RolloutResult
    outcome: str
    cells: tuple[Cell, ...]
    wall_s: float | None
    incidents: tuple[tuple[float | None, Incident], ...]
    pictured: bool
    incident_words: str
    text: str


@dataclass(frozen=True, eq=False)
class Section:
    """A rollout with its pictures; `missing` says why there are none."""

    row: Row
    pictures: Pictures | None
    missing: str
    log: str
    videos: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    scores: tuple[tuple[str, str, str], ...]


def write_report(
    run_dir: Path, found: FoundResults | None = None, *, most_inline: int = MOST_INLINE
) -> Path:
    """Write a run's ``report.html`` from what its folder holds; return its path.

    Rollouts without a result are named as missing. A log that cannot be read costs its
    rollout the pictures, and the page says so.

    Args:
        found: The run's results, if they have been read already.
        most_inline: Players in the page itself; further ones go into ``report_players/``.

    Raises:
        RunFolderError: the folder is no run, or the page cannot be written.
    """
    folder = open_existing(run_dir)
    found = find_results(folder) if found is None else found
    settings = read_run_yaml(folder) if (folder / RUN_YAML).is_file() else {}
    results = found.results
    every = columns_of(results)
    columns = every[: max(_LEAST_COLUMNS, _MOST_CELLS // max(len(results), 1))]
    pictured = choose_pictured(results)
    tags = settings.get("tags") or {}
    rows = [
        _row(k, r, columns, k in pictured, tags.get(r.scene) or []) for k, r in enumerate(results)
    ]
    keyed = _keyed([row for row in rows if row.pictured])
    sections = [_section(folder, row, keyed.get(row.anchor, 0)) for row in rows if row.pictured]
    warnings = [*found.damaged, *warnings_of(settings, results)]
    warnings += [f"{s.row.result.session_id}: {s.missing}" for s in sections if s.missing]

    page = page_with(
        name=folder.resolve().name, settings=settings, rows=rows, columns=columns,
        columns_left=len(every) - len(columns), sections=sections, warnings=warnings,
        budget=budget_of(folder, results),
    )  # fmt: skip
    bare = len(page(Placed({}, {}, "")).encode("utf-8", "replace"))
    room = PAGE_BYTES - bare - _MARGIN_BYTES
    placed = place(_players(sections), folder, room, most_inline)
    path = folder / REPORT_NAME
    write_atomic(path, page(placed).encode("utf-8", "replace"))
    return path


def _players(sections: Sequence[Section]) -> list[Player]:
    return [
        Player(
            anchor=section.row.anchor, data=section.pictures.player, film=section.pictures.film,
            handover_us=section.pictures.handover_us,
            urgent=bool(section.row.incidents) or section.row.result.outcome != "completed",
        )
        for section in sections
        if section.pictures is not None
    ]  # fmt: skip


def _map_marks(sections: Sequence[Section]) -> dict[str, str]:
    """Names of the map's features that the players show, and the CSS of their marks."""
    marks = {}
    for section in sections:
        shown = section.pictures.player["map"] if section.pictures is not None else {}
        for one in shown.get("features", ()):
            color = "rgb({}, {}, {})".format(*getattr(LIGHT, one["color"]))
            striped = f"repeating-linear-gradient(135deg, {color} 0 1px, transparent 1px 4px)"
            marks[one["label"]] = striped if one["draw"] == "line" else color
    return marks


def _keyed(rows: Sequence[Row]) -> dict[str, int]:
    """Of how many incidents each rollout gets key frames: everyone's first, then the second."""
    found: dict[str, int] = {}
    left = _MOST_KEYED
    for nth in range(1, _KEYED_EACH + 1):
        for row in rows:
            if left and len(row.incidents) >= nth:
                found[row.anchor] = nth
                left -= 1
    return found


def choose_pictured(results: Sequence[RolloutResult]) -> set[int]:
    """Indices of the rollouts that get pictures: the first ones, and the first with trouble."""
    trouble = [
        k
        for k, result in enumerate(results)
        if result.outcome != "completed" or incidents_from_metrics(result.metrics)
    ]
    whole = len(results) <= 2 * MOST_PICTURED
    first = range(len(results) if whole else MOST_PICTURED)
    return {*first, *trouble[:MOST_PICTURED]}


def page_with(
    *,
    name: str,
    settings: Mapping[str, Any],
    rows: Sequence[Row],
    columns: Sequence[Column],
    columns_left: int,
    sections: Sequence[Section],
    warnings: Sequence[str],
    budget: Budget,
) -> Callable[[Placed], str]:
    """The page as a function of where its players are; every text is escaped.

    Scripts may run by their SHA-256 alone, or from the page's own folder.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_packaged("report.html.j2"))
    scripts = [_packaged("score_table.js"), _packaged("player.js")]
    results = [row.result for row in rows]
    incidents = [(row, at_s, incident) for row in rows for at_s, incident in row.incidents]
    undefined = undefined_scores(results, columns)
    missing = missing_rollouts(settings, results)
    config = settings.get("config") or {}
    environment_facts = settings.get("environment") or {}
    edits = [(scene, lines) for scene, lines in (settings.get("edits") or {}).items() if lines]
    facts = {
        "name": name,
        "dash": UNDEFINED,
        "scripts": [Markup(script) for script in scripts],
        "hashes": [_sha256(script) for script in scripts],
        "palettes": Markup(to_json({"light": asdict(LIGHT), "dark": asdict(DARK)})),
        "players_folder": FOLDER,
        "map_marks": _map_marks(sections),
        "gallery": _gallery(sections),
        "counts": [(o, outcome_label(o), n) for o, n in outcome_counts(results).items()],
        "tiles": tiles_of(results),
        "privileged": list(
            dict.fromkeys(
                (r.plugins.get("policy", ""), ", ".join(r.privileged))
                for r in results
                if r.privileged
            )
        ),
        "rows": rows,
        "listed": rows[:MOST_ROWS],
        "columns": columns,
        "columns_left": columns_left,
        "means": list(zip(columns, means_of(results, [c.name for c in columns]), strict=True)),
        "mean_text": _mean_text,
        "sections": sections,
        "incidents": incidents[:_MOST_LINES],
        "incidents_left": max(len(incidents) - _MOST_LINES, 0),
        "undefined": undefined[:_MOST_LINES],
        "undefined_left": max(len(undefined) - _MOST_LINES, 0),
        "most_pictured": MOST_PICTURED,
        "budget": budget,
        "shown": text,
        "timings": service_timings(results),
        "parts": rollout_timings(results),
        "wall_s": sum(row.wall_s or 0.0 for row in rows),
        "settings": settings_lines(
            {group: v for group, v in config.items() if group != "imperfection"},
            settings.get("root_seed"),
        ),
        "yaml": to_yaml(config) if config else "",
        "command": rerun_command(settings, name),
        "hashed": list((settings.get("scenes") or {}).items())[:_MOST_LINES],
        "machine": machine_lines(environment_facts),
        "injected": [
            (label, injected_settings(config, kind), text)
            for kind, label, text in injected_lines(results)
        ],
        "edits": edits[:_MOST_LINES],
        "edits_left": max(len(edits) - _MOST_LINES, 0),
        "exclusions": exclusions_of(settings),
        "missing": missing[:_MOST_LINES],
        "missing_left": max(len(missing) - _MOST_LINES, 0),
        "warnings": list(dict.fromkeys(warnings))[:_MOST_LINES],
    }

    def page(placed: Placed) -> str:
        players = {anchor: Markup(text) for anchor, text in placed.inline.items()}
        return template.render(
            **facts, players=players, beside=placed.beside, limits=placed.limits
        )  # fmt: skip

    return page


def _packaged(name: str) -> str:
    return files("omniloop.report").joinpath(name).read_text(encoding="utf-8")


def _sha256(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"sha256-{digest}"


def _gallery(
    sections: Sequence[Section],
) -> list[tuple[Row, float | None, Incident, tuple[KeyFrame, ...]]]:
    """Incidents with key frames, those at fault first."""
    found = [
        (section.row, at_s, incident, frames)
        for section in sections
        if section.pictures is not None
        for (at_s, incident), frames in zip(
            section.row.incidents, section.pictures.key_frames, strict=False
        )
        if frames
    ]
    return sorted(found, key=lambda entry: not entry[2].at_fault)


def _mean_text(column: Column, mean: Mean) -> str:
    return UNDEFINED if mean.value is None else column.mean_text(mean.value)


def _row(
    index: int,
    result: RolloutResult,
    columns: Sequence[Column],
    pictured: bool,
    tags: Sequence[str],
) -> Row:
    found = incidents_from_metrics(result.metrics)
    flag = result.metrics.get("incident")
    happened = "undefined" if flag is None or flag.value is None else "yes" if flag.value else "no"
    kinds = {i.kind for i in found} | {"at_fault" for i in found if i.at_fault}
    words = [result.session_id, result.outcome, outcome_label(result.outcome), *tags]
    words += [*result.plugins.values(), *(f"{i.label} {i.facts}" for i in found)]
    words += [str((result.error or {}).get("what", ""))]
    handover = result.handover_us
    wall = result.timings.get("wall_s")
    return Row(
        anchor=f"r{index}",
        result=result,
        outcome=outcome_label(result.outcome),
        cells=tuple(cell(result, column) for column in columns),
        wall_s=float(wall) if isinstance(wall, int | float) else None,
        incidents=tuple(
            (None if handover is None else (i.start_us - handover) / US_PER_S, i) for i in found
        ),
        pictured=pictured,
        incident_words=" ".join([happened, *sorted(kinds)]),
        text=" ".join(str(word) for word in words if word).lower(),
    )


def _section(folder: Path, row: Row, keyed: int) -> Section:
    result = row.result
    kept = rollout_dir(folder, result.scene, result.seed)
    pictures, missing = None, ""
    try:
        pictures = make_pictures(
            kept / LOG_NAME, [incident for _, incident in row.incidents], keyed
        )
    except OmniloopError as error:
        missing = f"no pictures: {error.what}"
    except (ValueError, OSError) as error:
        missing = f"no pictures: {error}"

    def link(path: Path) -> str:
        return quote(path.relative_to(folder).as_posix())

    log = kept / LOG_NAME
    return Section(
        row=row,
        pictures=pictures,
        missing=missing,
        log=link(log) if log.is_file() else "",
        videos=tuple((path.name, link(path)) for path in sorted(kept.glob("*.mp4"))),
        facts=facts_of(result),
        scores=tuple(
            (name, f"{m.value:.6g}" if m.value is not None else UNDEFINED, m.reason)
            for name, m in result.metrics.items()
        ),
    )
