"""`omniloop run`: progress while it runs, a table and paths when it is done."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from omniloop.configs.schema import RunConfig
from omniloop.core.errors import OmniloopError
from omniloop.live.events import Event, RolloutEnded, RunStarted, WorkerLost
from omniloop.report.alpasim_tables import FOLDER as ALPASIM_FOLDER
from omniloop.report.html import write_report
from omniloop.report.run_tables import write_tables
from omniloop.report.runs import read_run
from omniloop.report.table import print_scores
from omniloop.runlog.results import RolloutResult
from omniloop.runner.assemble import Setup
from omniloop.runner.run import Finished, execute


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

    def tell(self, event: Event) -> None:
        """See `omniloop.live.events.Listener`."""
        if isinstance(event, RunStarted) and event.workers > 1:
            self._say(f"{event.workers} workers, {event.concurrency} rollout(s) at once")
        elif isinstance(event, WorkerLost):
            self._say(f"{event.worker} is replaced: {event.why}")
        elif isinstance(event, RolloutEnded):
            self._ended(event.result, event.retry_in_s)

    def _ended(self, result: RolloutResult, retry_in_s: float | None) -> None:
        number = self.done + 1
        if retry_in_s is None:
            self.done += 1
            if self._bar is not None:
                self._bar.advance(self._bar.task_ids[0])
        if self._bar is None or result.outcome != "completed":
            wall_s = result.timings.get("wall_s", 0.0)
            again = "" if retry_in_s is None else f", again in {retry_in_s:.0f} s"
            self._say(
                f"[{number}/{self.total}] {result.session_id}: {result.outcome} ({wall_s:.1f} s){again}"
            )
            if result.error is not None:
                self._say(f"  {result.error['what']}")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def run_and_report(config: RunConfig) -> int:
    """Run, print the score table and the paths; return the exit code."""
    console = Console(highlight=False)
    watcher = _Watcher(console)
    try:
        finished = execute(config, (watcher,), watcher.started)
        watcher.close()
        _report(finished, console)
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
    return finished.exit_code


def _report(finished: Finished, console: Console) -> None:
    """Write the report and the tables, print the scores and the paths."""
    if finished.state == "cancelled":
        console.print(
            f"cancelled: {len(finished.results)} rollout(s) complete; go on with"
            f" run.name={finished.run_dir.name} run.resume=true", markup=False,
        )  # fmt: skip
    found = finished.found
    print_scores(finished.results, console)  # first: a full disk hides no score
    report = write_report(finished.run_dir, found)
    tables = write_tables(read_run(finished.run_dir, found)) if finished.results else []
    for warning in finished.warnings:
        console.print(f"warning: {warning}", markup=False)
    console.print(f"report: {report}", markup=False, soft_wrap=True)
    for path in tables:
        if path.parent.name == ALPASIM_FOLDER:
            console.print(f"alpasim: {path}", markup=False, soft_wrap=True)
    for video in sorted(finished.run_dir.glob("rollouts/*/*/*.mp4")):
        console.print(f"video:  {video}", markup=False, soft_wrap=True)
    console.print(f"{len(finished.results)} rollout(s) in {finished.wall_s:.1f} s", markup=False)
