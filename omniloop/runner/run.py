"""Execute a config: many rollouts, each leaving its folder, on this machine or many."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from omniloop.configs.overrides import overrides_of
from omniloop.configs.schema import RunConfig
from omniloop.core.errors import ConfigError, OmniloopError, RunFolderError
from omniloop.live.broker import Broker
from omniloop.live.events import Event, Listener, RunEnded, RunStarted
from omniloop.live.listeners import listeners_for
from omniloop.live.prometheus import check_port
from omniloop.runlog.folder import RunFolder
from omniloop.runlog.results import FoundResults, RolloutResult
from omniloop.runner.assemble import Setup, assemble
from omniloop.runner.batch.choose import check_reachable, executor_for
from omniloop.runner.batch.content import content_of
from omniloop.runner.batch.control import RunControl, failing, progress_of
from omniloop.runner.batch.engine import Batch, Request, Rules
from omniloop.runner.batch.executor import Executor, Source
from omniloop.runner.batch.inline import Inline
from omniloop.runner.batch.sizing import check_sizes, concurrency_for, per_worker, workers_for
from omniloop.runner.job import Job
from omniloop.runner.score_meaning import keep_meaning

_PROGRESS_S = 1.0


@dataclass
class Finished:
    """What a run left.

    Attributes:
        results: One per rollout, in order of scene and seed; earlier ones when resumed.
        found: All that the folder holds.
        resumed: How many of `results` were there before.
        state: "completed", or "cancelled" if it was told to end.
        warnings: What a reader of the results should know.
    """

    run_dir: Path
    setup: Setup
    results: list[RolloutResult]
    found: FoundResults
    resumed: int = 0
    state: str = "completed"
    wall_s: float = 0.0
    warnings: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 if every rollout completed or failed by its policy, else 1."""
        failed = any(r.outcome == "infrastructure_failed" for r in self.results)
        return int(failed or self.state != "completed")


def default_name() -> str:
    """A run's name from the date and time; the only use of the wall clock, and no content."""
    return datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S")


def planned_jobs(setup: Setup) -> list[Job]:
    """Scenes outermost, so that rollouts of one scene share what is loaded."""
    return [Job(scene_id, seed) for scene_id in setup.ids for seed in setup.config.run.seeds]


@dataclass(frozen=True)
class Plan:
    """What is to be run, into which folder.

    Attributes:
        jobs: All rollouts of the run.
        contents: Their content hashes.
        todo: Those that have no result yet.
        kept: Results in the folder that the run leaves as they are.
    """

    setup: Setup
    folder: RunFolder
    jobs: Sequence[Job]
    contents: dict[Job, str]
    todo: Sequence[Job]
    kept: Sequence[RolloutResult]


def plan_run(setup: Setup, folder: RunFolder) -> Plan:
    """Find out what is to be done: all rollouts but those that have a result of their content.

    Raises:
        RunFolderError: the folder is of a run with other settings, or cannot be written.
    """
    run = setup.config.run
    jobs = planned_jobs(setup)
    content = content_of(setup)
    contents = {job: content(job.scene_id, job.seed) for job in jobs}
    wanted = {(job.scene_id, job.seed): content for job, content in contents.items()}
    there = folder.find().results
    if run.force_new:
        there = folder.set_aside(wanted, there)
    folder.write_run_yaml(describe(setup), force=run.force_new)
    done = folder.completed(wanted, there)
    keep_meaning(folder, setup.config.metrics, begun=bool(done))
    todo = [job for job in jobs if (job.scene_id, job.seed) not in done]
    kept = [result for result in there if result.key in done or result.key not in wanted]
    return Plan(setup, folder, jobs, contents, todo, kept)


def execute(
    config: RunConfig,
    listeners: Sequence[Listener] = (),
    started: Callable[[Setup, Path, int, int], None] | None = None,
) -> Finished:
    """Run everything that a config asks for.

    Args:
        listeners: Told of what happens.
        started: Told once of the setup, the folder, and how many rollouts are to do and done.

    Raises:
        InputError: something is wrong with the input; nothing has been written.
        RunFolderError: the folder exists, is in use, or cannot be written.
        ServiceError: workers cannot be had.
        KeyboardInterrupt: Ctrl-C, SIGTERM, or SIGHUP.
    """
    _refuse_event_loop()
    if config.run.mqtt is not None:
        Broker.parse(config.run.mqtt)  # refused before anything starts
    check_port(config.run.prometheus)
    setup = assemble(config, _notice)
    check_sizes(config, len(planned_jobs(setup)))
    check_reachable(config)
    run_dir = Path(config.run.dir) / (config.run.name or default_name())
    resume = config.run.resume or config.run.force_new
    with RunFolder.acquire(run_dir, resume=resume) as folder:
        began = time.perf_counter()
        plan = plan_run(setup, folder)
        before = len(plan.jobs) - len(plan.todo)
        if started is not None:
            started(setup, run_dir, len(plan.todo), before)
        state = "completed"
        if plan.todo:
            state = _until_terminated(_run(plan, listeners))
        found = folder.find(plan.kept)
        results = found.of((job.scene_id, job.seed) for job in plan.jobs)
        if state == "completed" and len(results) < len(plan.jobs):
            raise RunFolderError(
                f"{len(plan.jobs) - len(results)} of {len(plan.jobs)} results are gone or damaged,"
                " though they were written", where=str(run_dir),
                remedy="look who else changes this folder, then go on with run.resume=true",
            )  # fmt: skip
        finished = Finished(run_dir, setup, results, found, resumed=before, state=state)
        finished.warnings = list(folder.warnings)
        folder.write_tables(found.results)
        finished.wall_s = time.perf_counter() - began
    return finished


def _refuse_event_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # there is none, as it should be
        return
    raise ConfigError(
        "a run is started inside a running event loop, as a notebook has one", where="execute",
        remedy="await asyncio.to_thread(execute, config)",
    )  # fmt: skip


def describe(setup: Setup) -> dict[str, object]:
    """The content of run.yaml but for what the machine adds."""
    words = overrides_of(setup.config)
    return {
        "config": setup.config.model_dump(mode="json"),
        **({} if words is None else {"command": ["omniloop", "run", *words]}),
        "root_seed": setup.config.run.root_seed,
        **({} if setup.suite is None else {"suite": setup.suite.document()}),
        "scenes": dict(sorted(setup.hashes.items())),
        "edits": {name: list(lines) for name, lines in sorted(setup.edits.items())},
        "tags": {name: list(tags) for name, tags in sorted(setup.tags.items())},
        "services": setup.services.versions,
        "exclusions": [{"scene": e.scene_id, "reason": e.reason} for e in setup.exclusions],
    }


async def _run(plan: Plan, listeners: Sequence[Listener]) -> str:
    """Run what is to be done; return the state in which the run ended."""
    setup, config = plan.setup, plan.setup.config
    workers = workers_for(setup, len(plan.todo))
    concurrency = concurrency_for(setup, workers)
    executor = executor_for(config, workers, plan.folder)
    rules = Rules(
        config.run.retries + 1, config.run.hang_s, per_worker(setup), concurrency,
        finishing=max(2, concurrency // workers),
    )  # fmt: skip
    batch = Batch(executor, rules)
    source = Source("run", setup, plan.folder)
    request = Request(source, plan.todo, plan.contents.__getitem__)
    control = RunControl(batch, request, concurrency)
    before = len(plan.jobs) - len(plan.todo)

    def tell(event: Event) -> None:
        for listener in told:
            listener.tell(event)

    with listeners_for(
        config.run.mqtt, True, control, _notice, prometheus=config.run.prometheus
    ) as own:
        told = (*listeners, *own)
        request.listeners = told
        tell(RunStarted(
            plan.folder.path.name, str(plan.folder.path), len(plan.jobs), before, executor.kind,
            workers, concurrency,
        ))  # fmt: skip
        ended = RunEnded("failed", "interrupted")
        ticker = None
        try:
            await batch.start()
            batch.add(request)
            ticker = asyncio.create_task(_tick(batch, request, control, before, tell))
            await request.done
            ended = RunEnded("cancelled" if request.cancelled else "completed")
        except OmniloopError as error:
            ended = RunEnded("failed", error.what)
            raise
        finally:
            try:
                if ticker is not None:
                    ticker.cancel()
                    control.state = ended.state
                    tell(progress_of(batch, request, control, before))
            finally:
                await batch.stop()
                await setup.services.disconnect()
            tell(ended)
    return ended.state


def _notice(line: str) -> None:
    """Say what goes wrong beside the run, such as a broker that does not answer, or before it."""
    sys.stderr.write(f"notice: {line}\n")


async def _tick(
    batch: Batch,
    request: Request,
    control: RunControl,
    before: int,
    tell: Callable[[Event], None],
) -> None:
    """Tell where the run stands, about once a second."""
    said = ""
    while True:
        tell(progress_of(batch, request, control, before))
        await asyncio.sleep(_PROGRESS_S)
        control.mind_memory()
        if (down := failing(batch, request)) and down != said:
            _notice(
                f"{down} fails again and again: rollouts wait, and one tries it after 5 s, 10 s, ..."
                " 2 min; Ctrl-C ends the run, run.resume=true goes on with it"
            )
        said = down


async def run_here(setup: Setup, folder: RunFolder, jobs: Sequence[Job]) -> None:
    """Run jobs in this event loop, with services as they stand in the setup.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    executor: Executor = Inline(setup.config.run.hang_s)
    rules = Rules(1, setup.config.run.hang_s, per_worker(setup), concurrency_for(setup, 1))
    batch = Batch(executor, rules)
    request = Request(Source("run", setup, folder), jobs, lambda _: "")
    try:
        await batch.start()
        batch.add(request)
        await request.done
    finally:
        await batch.stop()
        await setup.services.disconnect()


def _until_terminated(run: Coroutine[None, None, str]) -> str:
    """Run a coroutine; SIGTERM and SIGHUP end it as Ctrl-C does.

    Raises:
        KeyboardInterrupt: either came.
    """
    stopped = False

    async def main() -> str:
        task = asyncio.current_task()
        assert task is not None  # a coroutine is running

        def stop() -> None:
            nonlocal stopped
            stopped = True
            task.cancel()

        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
                    asyncio.get_running_loop().add_signal_handler(number, stop)
        return await run

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if not stopped:
            raise
        raise KeyboardInterrupt from None
