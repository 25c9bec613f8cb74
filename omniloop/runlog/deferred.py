"""A recorder that writes while the rollout waits for a service."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from omniloop.core.contracts import (
    CameraFrame,
    GroundResult,
    Observation,
    RenderRequest,
    VehicleRequest,
)
from omniloop.core.motion import ActorMotion, EgoMotion
from omniloop.core.record import Decision
from omniloop.runlog.writer import LogWriter


class DeferredRecorder:
    """Hands every message on to a log, in order, a little later.

    Messages wait until the event loop turns, which is when a call to a service is on its way:
    encoding and writing then cost no time of their own. What a plugin returned is written
    before the next decision at the latest, since its author may use the arrays again.

    A log that cannot be written raises at the next message, or in `flush`.
    """

    def __init__(self, log: LogWriter) -> None:
        self._log = log
        self._waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._scheduled = False
        self._holds_answers = False
        self._error: Exception | None = None

    def observation(self, observation: Observation) -> None:
        """The policy is told this."""
        if self._holds_answers:
            self.flush()
        self._put(self._log.observation, observation)

    def plan(self, decision: Decision) -> None:
        """The policy answered."""
        self._put(self._log.plan, decision)

    def vehicle(self, request: VehicleRequest, answer: EgoMotion) -> None:
        """The controller answered."""
        self._holds_answers = True
        self._put(self._log.vehicle, request, answer)

    def ground(self, time_us: int, subject: str, result: GroundResult) -> None:
        """The ground corrected "ego" or "actors"."""
        self._holds_answers = True
        self._put(self._log.ground, time_us, subject, result)

    def traffic(self, time_us: int, answer: ActorMotion) -> None:
        """The traffic answered."""
        self._holds_answers = True
        self._put(self._log.traffic, time_us, answer)

    def commit(
        self, time_us: int, ego_true: EgoMotion, ego_estimated: EgoMotion, actors: ActorMotion
    ) -> None:
        """States were committed; the frontier is the last of them."""
        self._holds_answers = True
        self._put(self._log.commit, time_us, ego_true, ego_estimated, actors)

    def render_request(self, time_us: int, request: RenderRequest) -> None:
        """Frames were asked for."""
        self._put(self._log.render_request, time_us, request)

    def frame(self, frame: CameraFrame) -> None:
        """A frame was delivered."""
        self._put(self._log.frame, frame)

    def lost_frame(self, frame: CameraFrame) -> None:
        """A frame was not delivered, as a fault was injected."""
        self._put(self._log.lost_frame, frame)

    def notice(self, time_us: int, text: str) -> None:
        """Something that a reader of the log should know."""
        self._put(self._log.notice, time_us, text)

    def end(self, time_us: int, stopped_by: str) -> None:
        """The rollout ended; `stopped_by` is empty at the schedule's end."""
        self._put(self._log.end, time_us, stopped_by)

    def flush(self) -> None:
        """Write what waits.

        Raises:
            RunFolderError: the log cannot be written.
        """
        self._drain()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _put(self, write: Callable[..., None], *arguments: Any) -> None:
        if self._error is not None:
            self.flush()
        self._waiting.append((write, arguments))
        if not self._scheduled:
            self._scheduled = True
            # Two turns: what the rollout starts now is on its way after the first.
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: loop.call_soon(self._drain))

    def _drain(self) -> None:
        self._scheduled = self._holds_answers = False
        try:
            while self._waiting:
                write, arguments = self._waiting.popleft()
                write(*arguments)
        except Exception as error:  # raised again where the rollout can end by it
            self._waiting.clear()
            self._error = error
