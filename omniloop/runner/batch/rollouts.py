"""The rollouts of one process: run side by side, watched, ended where they hang."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from omniloop.core.errors import ServiceError
from omniloop.runlog.folder import RunFolder
from omniloop.runlog.results import RolloutResult
from omniloop.runner.assemble import Setup
from omniloop.runner.batch.machine import resident_mib
from omniloop.runner.job import Order, Track, run_job, unfinished

_TICK_S = 0.1
_AGAIN_S = 30.0
"""A hung rollout that did not end when it was told to is told again after so long."""


@dataclass(frozen=True)
class ServiceUse:
    """How busy one address of a service was since the process began, see `core.load.Load`."""

    service: str
    address: str
    calls: int
    busy_s: float
    waiting_s: float


@dataclass(frozen=True)
class Beat:
    """How a process is.

    Attributes:
        lag_ms: The longest that its event loop was late since the last beat.
        running: Rollouts that it has.
    """

    lag_ms: float = 0.0
    memory_mib: float = 0.0
    running: int = 0
    services: tuple[ServiceUse, ...] = ()


@dataclass
class _Running:
    order: Order
    track: Track
    task: asyncio.Task[RolloutResult]
    calls: int = -1
    moved_s: float = field(default_factory=time.monotonic)
    hung: bool = False


class Rollouts:
    """Runs the rollouts of one process in its event loop.

    A rollout none of whose services has answered for `hang_s` is ended and recorded. A loop
    that does not turn for so long cannot end anything: `blocked` is called, from another
    thread, with the rollouts that it holds.

    Args:
        hang_s: None never gives up.
        blocked: Told of a loop that stands still.
    """

    def __init__(self, hang_s: float | None, blocked: Callable[[float, list[Order]], None]) -> None:
        self._hang_s = hang_s
        self._blocked = blocked
        self._running: dict[int, _Running] = {}
        self._setups: list[Setup] = []
        self._lag_s = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch the running event loop."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._watch, args=(loop,), name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    async def run(
        self, setup: Setup, folder: RunFolder, order: Order, simulated: Callable[[], None]
    ) -> RolloutResult:
        """Run a rollout, and leave its folder complete; see `omniloop.runner.job.run_job`.

        Raises:
            RunFolderError: the folder cannot be written.
        """
        if setup not in self._setups:
            self._setups.append(setup)
        track = Track(simulated=simulated)
        task = asyncio.create_task(run_job(setup, folder, order, track))
        mine = self._running[id(track)] = _Running(order, track, task)
        try:
            return await task
        except asyncio.CancelledError:
            if not mine.hung:
                raise
            result = unfinished(setup, order, hung_error(order, self._hang_s or 0.0))
            folder.finish_rollout(result)
            return result
        finally:
            task.cancel()
            del self._running[id(track)]

    def forget(self, setup: Setup) -> None:
        """Let go of a setup that has no more rollouts."""
        if setup in self._setups:
            self._setups.remove(setup)

    def beat(self) -> Beat:
        """How the process is now."""
        lag_s, self._lag_s = self._lag_s, 0.0
        used: dict[tuple[str, str], list[float]] = {}
        for setup in tuple(self._setups):
            for key, load in tuple(setup.loads.items()):
                sums = used.setdefault(key, [0, 0.0, 0.0])
                sums[0] += load.calls
                sums[1] += load.busy_s
                sums[2] += load.waiting_s
        services = tuple(
            ServiceUse(name, address, int(sums[0]), round(sums[1], 6), round(sums[2], 6))
            for (name, address), sums in sorted(used.items())
        )
        return Beat(round(1e3 * lag_s, 3), resident_mib(), len(self._running), services)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread of its own: how late is the loop, and which rollout stands still."""
        answered = threading.Event()
        asked_s = time.monotonic()
        while not self._stop.wait(_TICK_S):
            answered.clear()
            asked_s = time.monotonic()
            try:
                loop.call_soon_threadsafe(answered.set)
            except RuntimeError:  # the loop is closed
                return
            while not answered.wait(_TICK_S):
                late_s = time.monotonic() - asked_s
                self._lag_s = max(self._lag_s, late_s)
                if self._stop.is_set():
                    return
                if self._hang_s is not None and late_s > self._hang_s:
                    self._blocked(late_s, [r.order for r in tuple(self._running.values())])
                    return
            self._lag_s = max(self._lag_s, time.monotonic() - asked_s)
            if self._hang_s is not None:
                self._end_hung(loop, self._hang_s)

    def _end_hung(self, loop: asyncio.AbstractEventLoop, hang_s: float) -> None:
        now_s = time.monotonic()
        for rollout in tuple(self._running.values()):
            calls = rollout.track.calls
            if calls != rollout.calls:
                rollout.calls, rollout.moved_s = calls, now_s
            elif now_s - rollout.moved_s > hang_s:
                rollout.hung, rollout.moved_s = True, now_s - hang_s + _AGAIN_S
                loop.call_soon_threadsafe(rollout.task.cancel)


def hung_error(order: Order, hang_s: float) -> ServiceError:
    """Why a rollout was ended that stood still."""
    return ServiceError(
        f"the rollout hung: no service answered for {hang_s:g} s", where=order.job.name,
        remedy="see which service stands still, or raise run.hang_s",
    )  # fmt: skip
