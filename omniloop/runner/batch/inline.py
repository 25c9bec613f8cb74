"""Rollouts in the run's own process and event loop: one worker, nothing to start."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping

from omniloop.core.errors import RunFolderError
from omniloop.runlog.folder import RunFolder
from omniloop.runlog.results import RolloutResult
from omniloop.runner.assemble import Setup
from omniloop.runner.batch.executor import Source
from omniloop.runner.batch.rollouts import Beat, Rollouts, given_up, hung_error
from omniloop.runner.job import Order

_NAME = "here"


class Inline:
    """Runs rollouts in this event loop.

    A loop that stands still cannot be mended from inside: its rollouts are recorded as hung
    and the process ends, so that the run can be taken up.
    """

    kind = "inline"

    def __init__(self, hang_s: float | None) -> None:
        self._rollouts = Rollouts(hang_s, self._blocked)
        self._hang_s = hang_s
        self._sources: dict[str, tuple[Setup, RunFolder]] = {}
        self._of: dict[int, tuple[str, float]] = {}  # request and beginning of each order

    async def start(self) -> tuple[str, ...]:
        """See `Executor`."""
        self._rollouts.start()
        return (_NAME,)

    async def run(
        self, worker: str, source: Source, order: Order, simulated: Callable[[], None]
    ) -> RolloutResult:
        """See `Executor`."""
        self._sources[source.name] = source.setup, source.folder
        self._of[id(order)] = source.name, time.monotonic()
        try:
            return await self._rollouts.run(source.setup, source.folder, order, simulated)
        finally:
            self._of.pop(id(order), None)

    async def replace(self, worker: str) -> str:
        """See `Executor`."""
        return worker

    def forget(self, source: Source) -> None:
        """See `Executor`."""
        self._sources.pop(source.name, None)
        self._rollouts.forget(source.setup)

    def beats(self) -> Mapping[str, Beat]:
        """See `Executor`."""
        return {_NAME: self._rollouts.beat()}

    async def stop(self) -> None:
        """See `Executor`."""
        self._rollouts.stop()

    def _blocked(self, late_s: float, orders: list[Order]) -> None:
        names = ", ".join(order.job.name for order in orders)
        for order in orders:
            name, began_s = self._of[id(order)]
            setup, folder = self._sources[name]
            error, took_s = hung_error(order, self._hang_s or 0.0), time.monotonic() - began_s
            result = given_up(setup, order, error, took_s)
            try:
                folder.finish_rollout(result)
            except RunFolderError as error:  # then it has none, and runs again
                sys.stderr.write(f"error: {error}\n")
        sys.stderr.write(
            f"error: the event loop stood still for {late_s:.0f} s in {names}\n"
            "  remedy: a plugin does not return; run.workers=2 kills and replaces the process of"
            " such a one; go on with run.resume=true\n"
        )
        sys.stderr.flush()
        os._exit(1)
