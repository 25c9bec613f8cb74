"""`omniloop compare`: differences between runs of the same scenes, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console

from omniloop.cli.printing import print_table
from omniloop.core.errors import ConfigError
from omniloop.report.aggregate import score_names
from omniloop.report.compare.comparison import Comparison, Grouped, compare
from omniloop.report.compare.pairing import pair_runs
from omniloop.report.compare.ranking_tables import (
    by_incident_type,
    full_ranking_table,
    ranking_table,
)
from omniloop.report.compare.ranks import rank_runs
from omniloop.report.compare.tables import (
    differences_table,
    flips_table,
    full_differences_table,
    full_rollouts_table,
    groups_table,
    rollouts_table,
)
from omniloop.report.runs import Run, read_run
from omniloop.report.score_tables import all_scores, chosen_scores, key_scores
from omniloop.report.tabular import SUFFIXES, TEXT_FORMATS, Table, to_csv
from omniloop.runlog.files import usable, write_atomic

_MAIN_FAMILY = "omniloop"


def compare_runs(
    run_dirs: Sequence[Path],
    *,
    wanted: Sequence[str] | None = None,
    kind: str = "text",
    out: Path | None = None,
    rank_by: str | None = None,
    tolerance_m: float = 0.1,
    logs: bool = True,
    by: str | None = None,
) -> int:
    """Compare each run with the first; print tables, or write them; return 0.

    Args:
        wanted: Patterns of score names; None for those of Omniloop's own family and of plugins.
        kind: "text", "md", "csv" or "latex".
        out: A folder for the tables.
        rank_by: A setting that splits the runs into groups that rank the policies.
        tolerance_m: How far apart egos must be to have parted.
        logs: Whether to read the logs for that.
        by: Compare also within groups of scenes: "tag" or "scene".

    Raises:
        InputError: fewer than two runs, one twice, nothing in common, or an unknown score.
        RunFolderError: a folder is no run or holds no result.
    """
    if not tolerance_m >= 0:  # also if it is no number
        raise ConfigError(
            f"a tolerance of {tolerance_m} m", where="--tolerance", remedy="give metres, 0 or more"
        )
    runs = _read(run_dirs)
    names = _scores(runs, wanted)
    grouped = None if by is None else Grouped(by, tuple(names if wanted else key_scores(names)))
    comparisons = [
        compare(pair_runs(runs[0], run), names, tolerance_m, logs, grouped) for run in runs[1:]
    ]
    full = [full_differences_table(comparisons), full_rollouts_table(comparisons)]
    brief = [
        table
        for c in comparisons
        for table in (differences_table(c), *_groups(c), flips_table(c), rollouts_table(c))
        if table.rows or table.notes
    ]
    if rank_by is not None:
        present = score_names([result for run in runs for result in run.results])
        ranked = by_incident_type([name for name in names if name in present])
        rankings = rank_runs(runs, rank_by, ranked)
        full.append(full_ranking_table(rankings, rank_by))
        brief.append(ranking_table(rankings, rank_by))
    if out is not None:
        _write(out, full, brief)
    if kind == "text":
        console = Console(highlight=False)
        for table in brief:
            print_table(table, console)
    elif kind == "csv":
        typer.echo(to_csv(full[0]), nl=False)
    else:
        typer.echo("\n".join(TEXT_FORMATS[kind](table) for table in brief), nl=False)
    return 0


def _read(run_dirs: Sequence[Path]) -> list[Run]:
    if len(run_dirs) < 2:
        raise ConfigError(
            "one run cannot be compared", where=", ".join(map(str, run_dirs)),
            remedy="give two runs or more; the first is what the others are compared with",
        )  # fmt: skip
    runs = [read_run(path) for path in run_dirs]
    seen: dict[Path, Run] = {}
    for run in runs:
        real = run.path.resolve()
        if real in seen:
            raise ConfigError(
                "a run is given twice", where=f"{seen[real].path} and {run.path}",
                remedy="give each run once",
            )  # fmt: skip
        seen[real] = run
    names = [run.name for run in runs]
    # Runs of one name in several folders go by their paths.
    return [run if names.count(run.name) == 1 else run.renamed(str(run.path)) for run in runs]


def _scores(runs: Sequence[Run], wanted: Sequence[str] | None) -> list[str]:
    """Scores to compare, those per km too."""
    present = all_scores([result for run in runs for result in run.results])
    if wanted:
        return chosen_scores(present, wanted)
    definitions = {name: d for run in runs for name, d in run.definitions.items()}
    own = [n for n in present if n not in definitions or definitions[n].family == _MAIN_FAMILY]
    return own or present


def _groups(comparison: Comparison) -> list[Table]:
    return [groups_table(comparison)] if comparison.by else []


def _write(out: Path, full: Sequence[Table], brief: Sequence[Table]) -> None:
    """Each full table as CSV, and all brief ones in one file of Markdown and one of LaTeX."""
    with usable(out, "made", "choose a writable folder with --out"):
        out.mkdir(parents=True, exist_ok=True)
    files = {f"{table.name}.csv": to_csv(table) for table in full}
    for kind in ("md", "latex"):
        files[f"comparison.{SUFFIXES[kind]}"] = "\n".join(map(TEXT_FORMATS[kind], brief))
    for name, content in files.items():
        write_atomic(out / name, content.encode("utf-8", "backslashreplace"))
        typer.echo(f"{out / name}", err=True)
