"""`omniloop compare --grid`: a whole grid of runs, made and compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from omniloop.cli.printing import print_table
from omniloop.core.errors import ConfigError, OmniloopError
from omniloop.live.events import Event, RolloutEnded
from omniloop.report.tabular import TEXT_FORMATS, to_csv
from omniloop.runlog.results import RolloutResult
from omniloop.runner.grids.answers import answer, with_frozen, write_answers
from omniloop.runner.grids.cells import (
    GridRun,
    begin_grid,
    choose_frozen,
    draw_frozen,
    run_cells,
)
from omniloop.runner.grids.clock import GridPlan, plan_grid
from omniloop.runner.grids.grid import Cell, read_grid


class _Watcher:
    """Says on stderr which cell runs and how far it is: a bar on a terminal, else lines."""

    def __init__(self, plan: GridPlan) -> None:
        self._cells = [cell.name for cell in plan.grid.cells]
        self._console = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self.at = ""
        self._done = self._todo = 0

    def started(self, cell: Cell, todo: int, there: int) -> None:
        number = self._cells.index(cell.name) + 1
        self.begin(f"cell {number} of {len(self._cells)}, {cell.name}", todo, there)

    def begin(self, what: str, todo: int, there: int) -> None:
        self.close()
        self.at, self._done, self._todo = what, 0, todo
        resumed = f", {there} already there" if there else ""
        self._say(f"{what}: {todo} rollout(s){resumed}")
        if self._console.is_terminal and todo:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                console=self._console, transient=True,
            )  # fmt: skip
            self._bar.start()
            self._bar.add_task("rollouts", total=todo)

    def tell(self, event: Event) -> None:
        """See `omniloop.live.events.Listener`."""
        if isinstance(event, RolloutEnded) and event.retry_in_s is None:
            self._done += 1
            self._count(event.result, self._done, self._todo)

    def drawn(self, label: str, result: RolloutResult, done: int, total: int) -> None:
        what = f"drawn again by {label}"
        if self.at != what:
            self.begin(what, total, 0)
        self._count(result, done, total)

    def _count(self, result: RolloutResult, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0])
        if self._bar is None or result.outcome != "completed":
            why = f": {result.error['what']}" if result.error else ""
            self._say(f"  [{done}/{total}] {result.session_id}: {result.outcome}{why}")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def compare_grid(
    settings: Sequence[str],
    *,
    out: Path | None = None,
    wanted: Sequence[str] | None = None,
    kind: str = "text",
    frozen: str | None = None,
    draw: bool = True,
) -> int:
    """Run what is missing of a grid, compare its cells, print and write the answers.

    Args:
        settings: See `omniloop.runner.grids.grid.read_grid`.
        out: The grid's folder; None for one in ``runs`` named after the values.
        wanted: Patterns of score names; None for the headline ones.
        kind: "text", "md", "csv" (the scores) or "latex".
        frozen: The cell whose rollouts each renderer draws again; None for the first that can be.
        draw: Whether to do that at all.

    Returns:
        Exit code: 0 if every rollout completed or failed by its policy, else 1.

    Raises:
        InputError: the grid cannot be run as a whole; nothing has been run.
        RunFolderError: the folder holds something else, or other settings.
    """
    grid = read_grid(settings)
    plan = plan_grid(grid, Path("runs") / grid.name if out is None else out)
    chosen = choose_frozen(grid, plan.clock, frozen) if draw else None
    begin_grid(plan)
    watcher = _Watcher(plan)
    try:
        done = run_cells(plan, watcher.started, (watcher,))
        drawn = {}
        if chosen is not None and chosen.cell.name in done.runs:
            drawn = draw_frozen(done, chosen, watcher.drawn)
    except KeyboardInterrupt:
        watcher.close()
        typer.echo(f"interrupted: {watcher.at}", err=True)
        typer.echo("  go on with the same command: what is there is kept", err=True)
        return 1
    finally:
        watcher.close()
    if done.runs:
        answers = answer(grid, done.runs, wanted)
        if chosen is not None and drawn:
            reference = plan.out / chosen.cell.name
            try:
                answers = with_frozen(answers, reference, chosen.cell.renderer, drawn, chosen.every)
            except OmniloopError as error:
                done.problems.append(f"frames cannot be compared: {error.what} ({error.where})")
        answers = answers.with_notes((*done.notes, *done.problems))
        paths = write_answers(plan.out, answers, f"Grid {plan.out.name}")
        if kind == "text":
            console = Console(highlight=False)
            for note in answers.notes:
                console.print(note, markup=False)
            console.print()
            for table in answers.brief:
                print_table(table, console)
        elif kind == "csv":
            typer.echo(to_csv(answers.full[0]), nl=False)
        else:
            typer.echo("\n".join(TEXT_FORMATS[kind](table) for table in answers.brief), nl=False)
        for path in paths:
            typer.echo(f"{path}", err=True)
    _tell(done)
    return done.exit_code


def refuse_settings(runs: Sequence[str], frozen: str | None, no_frozen: bool) -> None:
    """Refuse what is for grids only.

    Raises:
        ConfigError: it was given without --grid.
    """
    settings = [run for run in runs if "=" in run and not Path(run).exists()]
    given = [*settings, *(["--frozen"] if frozen else []), *(["--no-frozen"] if no_frozen else [])]
    if given:
        raise ConfigError(
            "settings are of a grid", where=" ".join(given),
            remedy="add --grid to run a grid, or give folders of runs",
        )  # fmt: skip


def refuse_options(
    rank_by: str | None,
    tolerance: float,
    logs: bool,
    by: str | None,
    frozen: str | None,
    no_frozen: bool,
) -> None:
    """Refuse options that say nothing of a grid.

    Raises:
        ConfigError: one was given.
    """
    given = {
        "--rank-by": rank_by is not None,
        "--tolerance": tolerance != 0.1,
        "--no-logs": not logs,
        "--by": by is not None,
    }
    for option, is_given in given.items():
        if is_given:
            raise ConfigError(
                f"{option} is for runs that are there", where="--grid",
                remedy=f"leave {option} out; compare the cells' folders with it afterwards",
            )  # fmt: skip
    if frozen is not None and no_frozen:
        raise ConfigError(
            "a cell is to be frozen and none is", where="--frozen, --no-frozen", remedy="give one"
        )


def _tell(done: GridRun) -> None:
    for problem in done.problems:
        typer.echo(f"failed: {problem}", err=True)
    if done.problems:
        typer.echo("  the same command runs what failed again", err=True)
