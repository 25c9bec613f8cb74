"""The rollouts of one process: run side by side, watched, ended where they hang."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from omniloop.core.calls import CONTRACT_METHODS
from omniloop.core.errors import OmniloopError, RolloutHung, ServiceError
from omniloop.runlog.folder import RunFolder
from omniloop.runlog.results import RolloutResult
from omniloop.runner.assemble import Setup
from omniloop.runner.batch.machine import resident_mib
from omniloop.runner.job import Order, Track, run_job, unfinished

_TICK_S = 0.1
_STEP_S = 1.0
"""A watch that slept for longer was frozen itself, as by SIGSTOP: this time counts for nothing."""
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
    longest_s: float = 0.0

    def __add__(self, other: ServiceUse) -> ServiceUse:
        """Both together: busy times are added as if they did not overlap."""
        return replace(
            self, calls=self.calls + other.calls, busy_s=round(self.busy_s + other.busy_s, 6),
            waiting_s=round(self.waiting_s + other.waiting_s, 6),
            longest_s=max(self.longest_s, other.longest_s),
        )  # fmt: skip


@dataclass(frozen=True)
class Beat:
    """How a process is.

    Attributes:
        lag_ms: The longest that its event loop was late since the last beat.
        running: Rollouts that it has.
        loop_s: CPU time of its event loop's thread since its rollouts began.
        cpu_s: CPU time of all its threads since then.
    """

    lag_ms: float = 0.0
    memory_mib: float = 0.0
    running: int = 0
    services: tuple[ServiceUse, ...] = ()
    loop_s: float = 0.0
    cpu_s: float = 0.0


class Pulse:
    """The beats of another process as its run hears them: no lag is lost between readings."""

    def __init__(self) -> None:
        self._beat = Beat()
        self._lag_ms = 0.0

    def hear(self, beat: Beat) -> None:
        """Take a beat."""
        self._beat = beat
        self._lag_ms = max(self._lag_ms, beat.lag_ms)

    def read(self) -> Beat:
        """The newest beat, with the longest lag since the last reading."""
        beat = replace(self._beat, lag_ms=self._lag_ms)
        self._lag_ms = 0.0
        return beat


@dataclass
class _Running:
    order: Order
    track: Track
    task: asyncio.Task[RolloutResult]
    moved_s: float
    calls: int = -1
    hung: RolloutHung | None = None


class Rollouts:
    """Runs the rollouts of one process in its event loop.

    A rollout none of whose services has answered for `hang_s` is ended and recorded. A loop
    that does not turn for so long, while no service answers, cannot end anything: `blocked` is
    called, from another thread, with the rollouts that it holds.

    Args:
        hang_s: None never gives up.
        blocked: Told of a loop that stands still.
    """

    def __init__(self, hang_s: float | None, blocked: Callable[[float, list[Order]], None]) -> None:
        self._hang_s = hang_s
        self._blocked = blocked
        self._running: dict[int, _Running] = {}
        self._setups: list[Setup] = []
        self._past: dict[tuple[str, str], ServiceUse] = {}
        self._lag_s = 0.0
        self._began_s = (0.0, 0.0)
        self._awake_s = 0.0
        self._seen_s = time.monotonic()
        self._is_opening = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch the running event loop."""
        loop = asyncio.get_running_loop()
        self._began_s = (time.thread_time(), time.process_time())
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
        began_s, track = time.monotonic(), Track(simulated=simulated)
        task = asyncio.create_task(run_job(setup, folder, order, track))
        mine = self._running[id(track)] = _Running(order, track, task, self._awake_s)
        try:
            return await task
        except asyncio.CancelledError:
            outer = asyncio.current_task()
            if outer is not None and outer.cancelling():
                raise  # nobody wants the rollout any more
            error = mine.hung or ServiceError(
                "the rollout was cancelled from within: a plugin raised CancelledError",
                where=order.job.name, remedy="see which service gives up its calls",
            )  # fmt: skip
            result = given_up(setup, order, error, time.monotonic() - began_s)
            folder.finish_rollout(result)
            return result
        finally:
            task.cancel()
            del self._running[id(track)]

    @contextlib.contextmanager
    def opening(self) -> Iterator[None]:
        """While plugins are constructed and scenes read, which may take minutes, nothing is hung."""
        self._is_opening = True
        try:
            yield
        finally:
            self._is_opening = False

    def forget(self, setup: Setup) -> None:
        """Let go of a setup that has no more rollouts."""
        if setup in self._setups:
            self._setups.remove(setup)
            _add(self._past, setup)  # what it used is not forgotten

    def beat(self) -> Beat:
        """How the process is now; called in the event loop's thread."""
        lag_s, self._lag_s = self._lag_s, 0.0
        used = dict(self._past)
        for setup in self._setups:
            _add(used, setup)
        return Beat(
            round(1e3 * lag_s, 3), resident_mib(), len(self._running),
            tuple(used[key] for key in sorted(used)),
            loop_s=round(time.thread_time() - self._began_s[0], 4),
            cpu_s=round(time.process_time() - self._began_s[1], 4),
        )  # fmt: skip

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread of its own: how late is the loop, and which rollout stands still."""
        answered = threading.Event()
        while not self._stop.wait(_TICK_S):
            answered.clear()
            asked_s, moved_s, calls = time.monotonic(), self._awake(), self._calls()
            try:
                loop.call_soon_threadsafe(answered.set)
            except RuntimeError:  # the loop is closed
                return
            while not answered.wait(_TICK_S):
                self._lag_s = max(self._lag_s, time.monotonic() - asked_s)
                if calls != (calls := self._calls()):  # plugins answer, and never wait
                    moved_s = self._awake()
                late_s = self._awake() - moved_s
                if self._stop.is_set():
                    return
                if self._hang_s is not None and late_s > self._hang_s:
                    self._blocked(late_s, [r.order for r in tuple(self._running.values())])
                    return
            self._lag_s = max(self._lag_s, time.monotonic() - asked_s)
            if self._hang_s is not None:
                self._end_hung(loop, self._hang_s)

    def _calls(self) -> int:
        return sum(rollout.track.calls for rollout in tuple(self._running.values()))

    def _awake(self) -> float:
        """Time in which a hang would have been seen [s]."""
        now_s = time.monotonic()
        step_s, self._seen_s = now_s - self._seen_s, now_s
        if not self._is_opening:
            self._awake_s += min(step_s, _STEP_S)
        return self._awake_s

    def _end_hung(self, loop: asyncio.AbstractEventLoop, hang_s: float) -> None:
        now_s = self._awake()
        for rollout in tuple(self._running.values()):
            calls = rollout.track.calls
            if calls != rollout.calls:
                rollout.calls, rollout.moved_s = calls, now_s
            elif now_s - rollout.moved_s > hang_s:
                rollout.moved_s = now_s - hang_s + _AGAIN_S
                loop.call_soon_threadsafe(_end, rollout, hang_s)


def _end(rollout: _Running, hang_s: float) -> None:
    """End a hung rollout; told again, it may hang where it is being closed."""
    if rollout.hung is None:
        call = rollout.track.call
        rollout.hung = hung_error(rollout.order, hang_s, call.under_way if call else ())
    rollout.task.cancel()


def _add(used: dict[tuple[str, str], ServiceUse], setup: Setup) -> None:
    for key, load in setup.loads.items():
        use = ServiceUse(
            *key, load.calls, round(load.busy_s, 6), round(load.waiting_s, 6),
            round(load.longest_s, 6),
        )  # fmt: skip
        used[key] = used[key] + use if key in used else use


def given_up(setup: Setup, order: Order, error: OmniloopError, took_s: float) -> RolloutResult:
    """The result of a rollout that was ended after so long, or whose process died."""
    result = unfinished(setup, order, error)
    result.timings["wall_s"] = round(took_s, 6)
    return result


def hung_error(
    order: Order, hang_s: float, under_way: Sequence[tuple[str, str]] = ()
) -> RolloutHung:
    """Why a rollout was ended that stood still.

    Args:
        under_way: See `omniloop.core.calls.CallFunnel`. The first call of a service elsewhere is
            what it hung in: the error has the address. Waiting for a session there is no call.
    """
    remote = (c for c in under_way if c[0] in order.addresses and c[1] not in CONTRACT_METHODS)
    where, address = [order.job.name], ""
    if found := next(remote, None):
        address = order.addresses[found[0]]
        where += [".".join(found), address]
    elif under_way:
        where.append(".".join(under_way[0]))
    error = RolloutHung(
        f"the rollout hung: no service answered for {hang_s:g} s", where=", ".join(where),
        remedy="see which service stands still, or raise run.hang_s",
    )  # fmt: skip
    error.address = address
    return error
