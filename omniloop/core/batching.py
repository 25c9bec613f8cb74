"""Requests of concurrent rollouts answered together by a policy's `plan_batch`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from omniloop.core.errors import PluginError

SIZE, WAIT_MS = 8, 5.0
"""A policy's `batch_size` and `batch_wait_ms` if it names none."""


def padded(rows: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Stack rows of one shape to ``(size, ...)``: beyond them the first is repeated.

    Raises:
        ValueError: there are no rows, or more than `size`.
    """
    if not 1 <= len(rows) <= size:
        raise ValueError(f"{len(rows)} rows do not fit a batch of {size}")
    return np.stack([*rows, *[rows[0]] * (size - len(rows))])


@dataclass(frozen=True, eq=False)
class _Waiting:
    observation: Any
    session: Any
    answer: asyncio.Future[Any]


@dataclass(eq=False)
class _Lane:
    """What waits in one event loop."""

    waiting: list[_Waiting] = field(default_factory=list)
    sessions: int = 0
    timer: asyncio.TimerHandle | None = None
    busy: bool = False


class Batcher:
    """Collects observations until there are enough, or nobody else can come, or time is up.

    A batch starts at once when `size` requests wait or every open session does; else `wait_ms`
    after the first, or after the batch before: who has just been answered may soon ask again. It
    runs in a thread of its own, one batch at a time. How requests are grouped depends on the wall clock; that a
    plan does not is the policy's promise: it pads its arrays to `size` rows (see
    `padded`), so that on a CPU a row is computed alike whoever shares the batch.

    Args:
        plan_batch: Takes up to `size` observations, and their sessions if it has such; returns
            for each a plan, or an exception, which fails that rollout alone.
        with_sessions: Whether `plan_batch` takes sessions.
        size: The largest batch.
        wait_ms: How long the first waits for others, wall-clock.

    Raises:
        PluginError: `size` or `wait_ms` make no sense.
    """

    def __init__(
        self,
        plan_batch: Callable[..., Sequence[Any]],
        with_sessions: bool,
        size: int = SIZE,
        wait_ms: float = WAIT_MS,
    ) -> None:
        if not (isinstance(size, int) and size >= 1 and 0 <= wait_ms <= 10_000):
            raise PluginError(
                f"a batch of {size!r} with a wait of {wait_ms!r} ms",
                where="batch_size and batch_wait_ms of the policy",
                remedy="give a size of 1 or more, and 0 to 10000 ms",
            )
        self._plan_batch = plan_batch
        self._with_sessions = with_sessions
        self._size, self._wait_s = size, wait_ms / 1000
        self._lanes: WeakKeyDictionary[asyncio.AbstractEventLoop, _Lane] = WeakKeyDictionary()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="plan_batch")

    def opened(self) -> None:
        """A session of the running loop has begun."""
        self._lane().sessions += 1

    def closed(self) -> None:
        """A session of the running loop has ended, so that nobody need wait for it."""
        lane = self._lane()
        lane.sessions -= 1
        self._consider(lane)

    async def ask(self, observation: Any, session: Any) -> Any:
        """Wait for the plan of one observation.

        Raises:
            Exception: what the policy raised, or gave in place of this plan.
        """
        lane = self._lane()
        answer = asyncio.get_running_loop().create_future()
        lane.waiting.append(_Waiting(observation, session, answer))
        self._consider(lane)
        return await answer

    def _lane(self) -> _Lane:
        return self._lanes.setdefault(asyncio.get_running_loop(), _Lane())

    def _consider(self, lane: _Lane) -> None:
        if lane.busy or not lane.waiting:
            return
        if len(lane.waiting) >= min(self._size, lane.sessions):
            self._start(lane)
        elif lane.timer is None:
            lane.timer = asyncio.get_running_loop().call_later(self._wait_s, self._start, lane)

    def _start(self, lane: _Lane) -> None:
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        # Whoever was cancelled meanwhile wants no answer.
        lane.waiting = [w for w in lane.waiting if not w.answer.done()]
        batch, lane.waiting = lane.waiting[: self._size], lane.waiting[self._size :]
        if not batch:
            return
        lane.busy = True
        observations = [w.observation for w in batch]
        arguments = (observations, [w.session for w in batch])
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(
            self._thread, self._plan_batch, *arguments[: 1 + self._with_sessions]
        )
        done.add_done_callback(lambda finished: self._finish(lane, batch, finished))

    def _finish(
        self, lane: _Lane, batch: Sequence[_Waiting], finished: asyncio.Future[Sequence[Any]]
    ) -> None:
        lane.busy = False
        for waiting, answer in zip(batch, _answers(len(batch), finished), strict=True):
            if waiting.answer.done():
                continue
            if isinstance(answer, BaseException):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)
        self._consider(lane)


def _answers(count: int, finished: asyncio.Future[Sequence[Any]]) -> Sequence[Any]:
    """One answer for each request: a plan or an exception."""
    if finished.cancelled():
        return [asyncio.CancelledError()] * count
    failed = finished.exception()
    if failed is not None:
        return [failed] * count
    answers = finished.result()
    if not isinstance(answers, Sequence) or len(answers) != count:
        told = f"{len(answers)} plans" if isinstance(answers, Sequence) else type(answers).__name__
        wrong = PluginError(
            f"plan_batch returned {told} for {count} observations",
            remedy="return a list with a plan, or an exception, for each observation",
        )
        return [wrong] * count
    return answers
