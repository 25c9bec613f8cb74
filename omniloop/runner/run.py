"""Execute a config: many rollouts in one event loop, each leaving its folder."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from omniloop.configs.overrides import overrides_of
from omniloop.configs.schema import RunConfig
from omniloop.runlog.folder import RunFolder
from omniloop.runlog.results import RolloutResult
from omniloop.runner.assemble import Setup, assemble
from omniloop.runner.job import Job, run_job
from omniloop.runner.score_meaning import keep_meaning
from omniloop.runner.side_by_side import side_by_side

Progress = Callable[[Job, RolloutResult, int, int], None]
"""Called after each rollout with how many of how many are done."""


@dataclass
class Finished:
    """What a run left.

    Attributes:
        results: One per rollout, in order of scene and seed; earlier ones when resumed.
        resumed: How many of them were there before.
        warnings: What a reader of the results should know.
    """

    run_dir: Path
    setup: Setup
    results: list[RolloutResult] = field(default_factory=list)
    resumed: int = 0
    wall_s: float = 0.0
    warnings: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 if every rollout completed or failed by its policy, else 1."""
        return int(any(r.outcome == "infrastructure_failed" for r in self.results))


def default_name() -> str:
    """A run's name from the date and time; the only use of the wall clock, and no content."""
    return datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S")


def concurrency_of(setup: Setup) -> int:
    """Rollouts at once: as asked, or one per core up to 8, or as many as services elsewhere hold."""
    wanted = setup.config.run.concurrency
    if isinstance(wanted, int):
        return wanted
    return max(min(os.cpu_count() or 1, 8), setup.services.capacity or 0)


def planned_jobs(setup: Setup) -> list[Job]:
    """Scenes outermost, so that rollouts of one scene share what is loaded."""
    return [Job(scene_id, seed) for scene_id in setup.ids for seed in setup.config.run.seeds]


def execute(
    config: RunConfig,
    progress: Progress | None = None,
    started: Callable[[Setup, Path, int, int], None] | None = None,
) -> Finished:
    """Run everything that a config asks for.

    Args:
        progress: Told of each finished rollout.
        started: Told once of the setup, the folder, and how many rollouts are to do and done.

    Raises:
        InputError: something is wrong with the input; nothing has been written.
        RunFolderError: the folder exists, is in use, or cannot be written.
    """
    setup = assemble(config)
    run_dir = Path(config.run.dir) / (config.run.name or default_name())
    with RunFolder.acquire(run_dir, resume=config.run.resume) as folder:
        began = time.perf_counter()
        jobs = planned_jobs(setup)
        done = folder.completed()
        todo = [job for job in jobs if (job.scene_id, job.seed) not in done]
        folder.write_run_yaml(describe(setup))
        keep_meaning(folder, config.metrics, begun=bool(done))
        if started is not None:
            started(setup, run_dir, len(todo), len(jobs) - len(todo))
        asyncio.run(run_all(setup, folder, todo, progress))
        results = folder.results([(job.scene_id, job.seed) for job in jobs])
        finished = Finished(run_dir, setup, results, resumed=len(jobs) - len(todo))
        finished.warnings = list(folder.warnings)
        folder.write_tables()
        finished.wall_s = time.perf_counter() - began
    return finished


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


async def run_all(
    setup: Setup, folder: RunFolder, todo: list[Job], progress: Progress | None
) -> None:
    """Run jobs, at most so many at once; a rollout that fails takes no other down."""
    finished = 0

    async def do(job: Job) -> None:
        nonlocal finished
        result = await run_job(setup, folder, job)
        finished += 1
        if progress is not None:
            progress(job, result, finished, len(todo))

    try:
        await side_by_side(todo, concurrency_of(setup), do)
    finally:
        await setup.services.disconnect()
