"""Thousands of rollouts: does anything grow?"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omniloop.bench.batch_kill import workers_of
from omniloop.configs.compose import compose
from omniloop.live.events import Event, RolloutEnded
from omniloop.runner.batch.machine import resident_mib
from omniloop.runner.run import execute

_SAMPLES = 40


@dataclass(frozen=True)
class Sample:
    """What the run's own process and its workers hold at one time.

    Attributes:
        parent_mib: Resident memory of the run's process.
        workers_mib: Of the largest worker.
        threads: Of all processes.
        files: Open file descriptors of all processes.
        tasks: Of the run's event loop.
    """

    done: int
    parent_mib: float
    workers_mib: float
    threads: int
    files: int
    tasks: int


class Stock:
    """Takes stock every so many rollouts."""

    def __init__(self, every: int) -> None:
        self.samples: list[Sample] = []
        self._every = every
        self._done = 0

    def tell(self, event: Event) -> None:
        """See `omniloop.live.events.Listener`."""
        if isinstance(event, RolloutEnded):
            self._done += 1
            if self._done % self._every == 0:
                self.samples.append(self._sample())

    def _sample(self) -> Sample:
        workers = workers_of(os.getpid())
        pids = [os.getpid(), *workers]
        return Sample(
            self._done, resident_mib(), max(map(resident_mib, workers), default=0.0),
            sum(len(os.listdir(f"/proc/{pid}/task")) for pid in pids),
            sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids), len(asyncio.all_tasks()),
        )  # fmt: skip


def soak(rollouts: int) -> dict[str, Any]:
    """Run so many short rollouts on two workers.

    Returns:
        The medians of the second and of the last quarter of the run, of all that could grow.
    """
    stock = Stock(max(rollouts // _SAMPLES, 1))
    with tempfile.TemporaryDirectory() as folder:
        finished = execute(compose([
            "renderer=none", "sync.duration_s=1.0", "scenes.ids=curve,straight_road",
            f"run.seeds={max(rollouts // 2, 1)}", "run.workers=2", f"run.dir={Path(folder)}",
        ]), (stock,))  # fmt: skip
        outcomes = {r.outcome for r in finished.results}
    quarter = max(len(stock.samples) // 4, 1)
    second, last = stock.samples[quarter : 2 * quarter], stock.samples[-quarter:]
    names = ("parent_mib", "workers_mib", "threads", "files", "tasks")
    return {
        "target": "none grows",
        "rollouts": len(finished.results),
        "outcomes": sorted(outcomes),
        "rollouts_per_s": round(len(finished.results) / finished.wall_s, 1),
        **{
            name: {
                "second quarter": statistics.median(getattr(s, name) for s in second),
                "last quarter": statistics.median(getattr(s, name) for s in last),
            }
            for name in names
        },
    }
