"""Commands that read what a run left: score, digest, report, tables, compare.

Each imports what it needs when it is called, so that `--help` is quick.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, such as runs/demo.")]


def score(
    run_dir: RunDir,
    frames: Annotated[
        bool,
        typer.Option("--frames", help="Look at logged images too: AlpaSim's rule for black ones."),
    ] = False,
) -> None:
    """Score a run again from its logs alone, and rewrite its results.

    **Examples**

        omniloop score runs/demo
        omniloop score runs/demo --frames
    """
    from omniloop.cli.inspect import score_again

    raise typer.Exit(score_again(run_dir, frames=frames))


def digest(run_dir: RunDir) -> None:
    """Print one SHA-256 per rollout over its simulated content: `<sha256>  <scene>/<seed>`.

    **Example**

        omniloop digest runs/demo > before.txt
    """
    from omniloop.runlog.digest import digest_run
    from omniloop.runlog.folder import open_existing

    for sha256, name in digest_run(open_existing(run_dir)):
        typer.echo(f"{sha256}  {name}")


def report(run_dir: RunDir) -> None:
    """Write report.html of a run again, and print its scores.

    **Example**

        omniloop report runs/demo
    """
    from omniloop.cli.inspect import report_again

    raise typer.Exit(report_again(run_dir))


class Grouping(StrEnum):
    """What the rollouts of a table's row have in common."""

    RUN = "run"
    SCENE = "scene"
    TAG = "tag"
    ROLLOUT = "rollout"


class SceneGrouping(StrEnum):
    """What the scenes of a group in a comparison have in common."""

    TAG = "tag"
    SCENE = "scene"


class TableFormat(StrEnum):
    """How a table is written."""

    MD = "md"
    CSV = "csv"
    LATEX = "latex"
    PARQUET = "parquet"


class ComparisonFormat(StrEnum):
    """How a comparison is printed."""

    TEXT = "text"
    MD = "md"
    CSV = "csv"
    LATEX = "latex"


Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric", help="Scores by name, with * for any letters, with commas or repeated."
    ),
]


def tables(
    run_dir: RunDir,
    by: Annotated[Grouping, typer.Option(help="What a row's rollouts share.")] = Grouping.RUN,
    form: Annotated[
        TableFormat, typer.Option("--format", help="csv and parquet hold every number in full.")
    ] = TableFormat.MD,
    metric: Metrics = None,
    family: Annotated[
        str | None,
        typer.Option(help="Scores of one family; alpasim's are summed up as AlpaSim does."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A file; else it is printed.")] = None,
) -> None:
    """Print the scores of a run with 95 % intervals, over all of it or by scene or tag.

    **Examples**

        omniloop tables runs/demo
        omniloop tables runs/demo --by scene --metric incident,progress_rel
        omniloop tables runs/demo --by tag --format latex --out scores.tex
        omniloop tables runs/demo --family alpasim
    """
    from omniloop.cli.tables import print_tables

    raise typer.Exit(print_tables(run_dir, by.value, form.value, _split(metric), out, family))


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN ...", help="The others against the first. With --grid: KEY=VALUE ..."
        ),
    ],
    metric: Metrics = None,
    form: Annotated[
        ComparisonFormat, typer.Option("--format", help="How to print it.")
    ] = ComparisonFormat.TEXT,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder for tables as CSV, Markdown and LaTeX; of a grid, for all of it."
        ),
    ] = None,
    rank_by: Annotated[
        str | None, typer.Option(help="Compare rankings of policies: renderer, renderer.chunk, ...")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Metres between egos at which rollouts have parted.")
    ] = 0.1,
    logs: Annotated[bool, typer.Option(help="Read the logs to find when rollouts part.")] = True,
    by: Annotated[
        SceneGrouping | None, typer.Option(help="Compare also within groups of scenes.")
    ] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="Run policy=a,b renderer=x,y first, and compare that.")
    ] = False,
    frozen: Annotated[
        str | None, typer.Option(help="Of a grid: the cell that each renderer draws again.")
    ] = None,
    no_frozen: Annotated[
        bool, typer.Option("--no-frozen", help="Of a grid: draw nothing again.")
    ] = False,
) -> None:
    """Compare runs of the same scenes and seeds: paired differences with 95 % intervals.

    With --grid, run every combination of policy=, renderer=, traffic= and controller= on one
    decision grid and compare them: scores, rankings of policies, frames of frozen states.

    **Examples**

        omniloop compare runs/a runs/b
        omniloop compare runs/a runs/b --metric 'collision*' --format md
        omniloop compare runs/a runs/b --by tag
        omniloop compare runs/a runs/b runs/c runs/d --rank-by renderer --out compared
        omniloop compare --grid policy=route_follower,constant_velocity renderer=rasterizer,degraded
        omniloop compare --grid policy=a,b renderer=rasterizer,mild mild=degraded mild.blur_px_per_m=0.1
    """
    from omniloop.cli.grid import refuse_options, refuse_settings

    if grid:
        from omniloop.cli.grid import compare_grid

        refuse_options(rank_by, tolerance, logs, by, frozen, no_frozen)
        done = compare_grid(
            runs, out=out, wanted=_split(metric), kind=form.value, frozen=frozen, draw=not no_frozen
        )
    else:
        from omniloop.cli.compare import compare_runs

        refuse_settings(runs, frozen, no_frozen)
        done = compare_runs(
            [Path(run) for run in runs], wanted=_split(metric), kind=form.value, out=out,
            rank_by=rank_by, tolerance_m=tolerance, logs=logs, by=by.value if by else None,
        )  # fmt: skip
    raise typer.Exit(done)


def _split(names: list[str] | None) -> list[str] | None:
    found = [part.strip() for name in names or () for part in name.split(",")]
    return [part for part in found if part] or None
