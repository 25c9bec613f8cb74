"""What AlpaSim leaves of a run, under its own names: the run table and its summary file.

Names and layout are those of AlpaSim at commit 3032e0c (``aggregate/``, written by
``eval/aggregation``). ``metrics_results.txt`` has two columns more: what each score rests on.
"""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from omniloop.core.errors import ConfigError
from omniloop.metrics.alpasim_definitions import PREFIX
from omniloop.metrics.alpasim_settings import Settings
from omniloop.metrics.alpasim_summary import metrics_results, results_summary
from omniloop.metrics.alpasim_table import SCORE, Line, table
from omniloop.metrics.alpasim_table import Table as RunTable
from omniloop.report.runs import Run
from omniloop.report.score_tables import chosen_scores, listed
from omniloop.report.tabular import Table, Value, number, text, to_parquet
from omniloop.runlog.files import usable, write_atomic

FOLDER = "aggregate"
"""``metrics_results.txt``, ``.parquet`` and ``results-summary.json`` stand in it."""

_FULL = (
    "score", "mean", "std", "time_aggregation", "rollouts", "dist_traveled_m", "reason",
)  # fmt: skip
_BRIEF = ("score", "mean", "over time", "rollouts", "driven in the tube [km]")
_WIDTH = 160


def is_scored(run: Run) -> bool:
    """Whether any rollout of a run has scores of the family."""
    return any(SCORE in result.metrics for result in run.results)


def alpasim_tables(run: Run, wanted: Sequence[str] | None = None) -> tuple[Table, Table]:
    """The run table: in full, and for people.

    Args:
        wanted: Patterns of scores, with or without our prefix; all if None.

    Raises:
        ConfigError: the run has no scores of the family, or a pattern matches none.
    """
    if not is_scored(run):
        raise ConfigError(
            "the run has no scores of the family alpasim", where=str(run.path),
            remedy="run it with metrics=alpasim or metrics=all",
        )  # fmt: skip
    whole = table(run.results)
    names = [line.name for line in whole.lines]
    patterns = None if wanted is None else [pattern.removeprefix(PREFIX) for pattern in wanted]
    chosen = chosen_scores(names, patterns)
    lines = {line.name: line for line in whole.lines}
    title = f"AlpaSim's scores of {run.name}"
    notes = tuple(_notes(run, whole))
    return (
        Table("alpasim", title, _FULL, tuple(_full_row(lines[n]) for n in chosen), notes),
        Table("alpasim", title, _BRIEF, tuple(_brief_row(lines[n]) for n in chosen), notes),
    )


def _full_row(line: Line) -> tuple[Value, ...]:
    return (
        line.name, line.mean, line.std, line.over_time or None, line.valid, line.distance_m,
        line.reason or None,
    )  # fmt: skip


def _brief_row(line: Line) -> tuple[Value, ...]:
    value = text(None) if line.mean is None else number(line.mean)
    if line.std is not None:
        value += f" ± {number(line.std)}"
    return (line.name, value, line.over_time, line.valid, f"{line.distance_m / 1000:.3f}")


def _notes(run: Run, whole: RunTable) -> Iterator[str]:
    settings = _settings(run)
    clips = f"{whole.clips:g}"
    yield (
        f"n_clips: {clips}, n_rollouts/clip: {whole.numbers}; means are over scenes, then over"
        " rollouts of one number; ± is the standard deviation over these"
    )
    yield (
        f"compat={settings.compat}; driven in the tube: dist_traveled_m, up to the first incident or"
        f" {settings.max_dist_to_gt_trajectory:g} m from the recorded path, warm-up included"
    )
    if whole.removed_black:
        yield (
            f"black images: {len(whole.removed_black)} of {whole.rollouts} rollout(s) removed:"
            f" {listed(whole.removed_black)}"
        )
    elif not whole.black_unknown:
        yield f"black images: none of {whole.rollouts} rollout(s) removed"
    for reason, count in whole.black_unknown:
        yield f"black images: the rule was not applied to {count} of {whole.rollouts} rollout(s): {reason}"  # fmt: skip
    if whole.without_rows:
        yield f"without any row: {listed(whole.without_rows)}"
    reasons: dict[str, list[str]] = {}
    for line in whole.lines:
        if line.mean is None:
            reasons.setdefault(line.reason, []).append(line.name)
    for reason, names in reasons.items():
        yield f"{text(None)} {listed(names)}: {reason}"
    yield from run.problems
    yield from run.damaged
    if run.missing:
        yield f"{len(run.missing)} planned rollout(s) without a result: {listed(run.missing)}"


def _settings(run: Run) -> Settings:
    """The settings that the run was scored with; the defaults where it does not know."""
    given = (run.config.get("metrics") or {}).get("alpasim") or {}
    try:
        return Settings(**given).checked()
    except TypeError as error:
        raise ConfigError(
            f"the settings of metrics.alpasim cannot be read: {error}", where=str(run.path),
            remedy="read it with the version of omniloop that wrote it",
        ) from error  # fmt: skip


def run_uuid(run: Run) -> str:
    """AlpaSim's name of a run: the same for the same settings, scenes and name."""
    said = {key: run.settings.get(key) for key in ("config", "root_seed", "scenes")}
    content = json.dumps([run.name, said], sort_keys=True, default=str)
    return str(uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(content.encode()).hexdigest()))


def write_alpasim_tables(run: Run) -> list[Path]:
    """Write ``aggregate/`` into a run's folder; nothing if the run has no scores of the family.

    Raises:
        RunFolderError: they cannot be written.
    """
    if not is_scored(run):
        return []
    name, identity = run.name, run_uuid(run)
    row = metrics_results(table(run.results), name, identity)
    summary = results_summary(run.results, name, identity, _settings(run))
    wide = Table("metrics_results", "", tuple(row), (tuple(row.values()),))  # type: ignore[arg-type]
    contents = {
        "metrics_results.txt": _as_text(run).encode("utf-8", "backslashreplace"),
        "metrics_results.parquet": to_parquet(wide),
        "results-summary.json": (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode(),
    }
    folder = run.path / FOLDER
    with usable(folder, "made", "choose a writable folder with run.dir="):
        folder.mkdir(exist_ok=True)
    for file, data in contents.items():
        write_atomic(folder / file, data)
    return [folder / file for file in contents]


def _as_text(run: Run) -> str:
    """The run table as text, in AlpaSim's columns and with what each score rests on."""
    from rich.console import Console
    from rich.table import Table as Grid

    _, brief = alpasim_tables(run)
    grid = Grid(title=f"Run: {run.name}")
    for k, header in enumerate(
        ("Metric Name", "Metric Value", "Time Aggregation", "Rollouts", "Driven in Tube [km]")
    ):
        grid.add_column(header, justify="left" if k == 0 else "center")
    for row in sorted(brief.rows, key=lambda row: str(row[0])):
        grid.add_row(*(text(value) for value in row))
    out = io.StringIO()
    console = Console(file=out, width=_WIDTH, color_system=None, highlight=False, markup=False)
    console.print(grid)
    for note in brief.notes:
        console.print(note, markup=False)
    return out.getvalue()
