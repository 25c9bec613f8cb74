"""`omniloop run`: progress while it runs, a table and paths when it is done."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from omniloop.configs.schema import RunConfig
from omniloop.core.errors import OmniloopError
from omniloop.report.alpasim_tables import FOLDER as ALPASIM_FOLDER
from omniloop.report.html import write_report
from omniloop.report.run_tables import write_tables
from omniloop.report.runs import read_run
from omniloop.report.table import print_scores
from omniloop.runlog.results import RolloutResult
from omniloop.runner.assemble import Setup
from omniloop.runner.job import Job
from omniloop.runner.run import execute


class _Watcher:
    """A progress bar on a terminal, a line a rollout elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self.run_dir: Path | None = None
        self.done = 0
        self.total = 0

    def started(self, setup: Setup, run_dir: Path, todo: int, done: int) -> None:
        self.run_dir, self.total = run_dir, todo
        for exclusion in setup.exclusions:
            self._console.print(f"excluded {exclusion.scene_id}: {exclusion.reason}", markup=False)
        resumed = f", {done} already there" if done else ""
        if setup.suite is not None:
            suite = setup.suite
            self._console.print(f"suite {suite.name}, sha256 {suite.sha256}", markup=False)
        self._console.print(f"{todo} rollout(s) into {run_dir}{resumed}", markup=False)
        if self._console.is_terminal and todo:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                console=self._console, transient=True,
            )  # fmt: skip
            self._bar.start()
            self._bar.add_task("rollouts", total=todo)

    def finished(self, job: Job, result: RolloutResult, done: int, total: int) -> None:
        self.done = done
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0])
        if self._bar is None or result.outcome != "completed":
            wall_s = result.timings.get("wall_s", 0.0)
            self._console.print(
                f"[{done}/{total}] {job.name}: {result.outcome} ({wall_s:.1f} s)", markup=False
            )
            if result.error is not None:
                self._console.print(f"  {result.error['what']}", markup=False)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def run_and_report(config: RunConfig) -> int:
    """Run, print the score table and the paths; return the exit code."""
    console = Console(highlight=False)
    watcher = _Watcher(console)
    try:
        finished = execute(config, watcher.finished, watcher.started)
    except KeyboardInterrupt:
        watcher.close()
        where = f" in {watcher.run_dir}" if watcher.run_dir else ""
        typer.echo(
            f"interrupted: {watcher.done} of {watcher.total} rollout(s) complete{where}", err=True
        )
        if watcher.run_dir:
            typer.echo(f"  go on with run.name={watcher.run_dir.name} run.resume=true", err=True)
        return 1
    except OmniloopError as error:
        if watcher.run_dir is None:  # bad input, found before anything started
            raise
        watcher.close()
        typer.echo(f"error: {error}", err=True)
        return 1
    finally:
        watcher.close()
    report = write_report(finished.run_dir)
    tables = write_tables(read_run(finished.run_dir)) if finished.results else []
    print_scores(finished.results, console)
    for warning in finished.warnings:
        console.print(f"warning: {warning}", markup=False)
    console.print(f"report: {report}", markup=False, soft_wrap=True)
    for path in tables:
        if path.parent.name == ALPASIM_FOLDER:
            console.print(f"alpasim: {path}", markup=False, soft_wrap=True)
    for video in sorted(finished.run_dir.glob("rollouts/*/*/*.mp4")):
        console.print(f"video:  {video}", markup=False, soft_wrap=True)
    console.print(f"{len(finished.results)} rollout(s) in {finished.wall_s:.1f} s", markup=False)
    return finished.exit_code
