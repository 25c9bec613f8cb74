"""The services of a rollout played by its log: each answers what it answered then.

Answers are those that the loop got: rounded by a wire and disturbed by imperfections where
these were in between. So a recorded service stands where the outermost wrapper stood.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simplejpeg

from omniloop.core.cameras import Camera
from omniloop.core.contracts import (
    GroundRequest,
    GroundResult,
    PolicySpec,
    RendererSpec,
    RenderRequest,
    RenderResult,
    SessionInfo,
)
from omniloop.core.schedule import Schedule
from omniloop.orchestrator.fetch import fetch_strategy
from omniloop.runlog import messages as topics
from omniloop.runlog.messages import FramesAsked
from omniloop.runner.replaying.recording import Course, FrameKey, Recording

_TOPICS = {
    "policy": (topics.PLAN,), "controller": (topics.VEHICLE,), "traffic": (topics.TRAFFIC,),
    "ground": (topics.GROUND, topics.COMMIT), "renderer": (topics.RENDER_REQUEST, topics.FRAME, topics.LOST_FRAME),
}  # fmt: skip


class RecordedService:
    """A service whose sessions answer from logs.

    Args:
        kind: "policy", "traffic", "controller", "ground" or "renderer".
        recordings: By session id.
        spec: What a policy or renderer declares.
    """

    def __init__(
        self,
        kind: str,
        recordings: Mapping[str, Recording],
        spec: PolicySpec | RendererSpec | None = None,
    ) -> None:
        self._kind = kind
        self._recordings = recordings
        if spec is not None:
            self.spec = spec

    async def open(self, session: SessionInfo, cameras: tuple[Camera, ...] = ()) -> Any:
        """Begin a rollout."""
        return recorded_session(self._kind, self._recordings[session.session_id], cameras)


def recorded_session(kind: str, recording: Recording, cameras: tuple[Camera, ...] = ()) -> Any:
    """A session of one service that answers from a log."""
    course = recording.course(_TOPICS[kind])
    if kind == "ground":
        return RecordedGroundSession(recording, course)
    if kind == "renderer":
        return RecordedRenderSession(recording, course, tuple(c.id for c in cameras))
    return RecordedSession(kind, recording, course)


class RecordedSession:
    """Policy, controller or traffic: one answer after another, each at its own time."""

    def __init__(self, kind: str, recording: Recording, course: Course) -> None:
        self._kind = kind
        self._recording = recording
        self._course = course
        self._answers: Iterator[tuple[int, Any]] = iter(
            [(e.time_us, e.value.plan if kind == "policy" else e.value[1]) for e in course.events]
        )
        self._next = next(self._answers, None)

    async def plan(self, request: Any) -> Any:
        """Answer as it was answered then.

        Raises:
            OmniloopError: the log holds no answer; where the service failed, that error.
        """
        if self._next is None or self._next[0] != request.time_us:
            raise self._recording.lacks(self._course, self._kind, request.time_us)
        answer = self._next[1]
        self._next = next(self._answers, None)
        return answer

    step = plan

    async def close(self) -> None:
        """Nothing is held."""


class RecordedGroundSession:
    """The ground: a log holds the boxes that it moved, so where it holds none they stayed."""

    def __init__(self, recording: Recording, course: Course) -> None:
        self._recording = recording
        self._course = course
        self._first_us = recording.header.schedule.first_decision_us
        self._answers: dict[tuple[bool, int, str], GroundResult] = {}
        before = True  # the context and the first interval may begin at one time
        for event in course.events:
            if event.topic == topics.COMMIT:
                before = False
            else:
                self._answers[before, event.time_us, event.value[1]] = event.value[2]

    async def correct(self, request: GroundRequest) -> GroundResult:
        """Answer as it was answered then.

        Raises:
            OmniloopError: the log ends here.
        """
        subject, time_us = "ego" if request.is_ego else "actors", request.time_us
        before = request.target_us <= self._first_us
        found = self._answers.get((before, time_us, subject))
        if found is not None:
            return found
        if self._ends_at(before, time_us, request.is_ego):
            raise self._recording.lacks(self._course, "ground", time_us)
        return GroundResult(request.local_to_aabb, np.zeros(len(request.local_to_aabb), np.int64))

    def _ends_at(self, before: bool, time_us: int, is_ego: bool) -> bool:
        course = self._course
        committed = course.commits_us if before else course.commits_us[1:]
        if time_us in committed or (is_ego and (topics.TRAFFIC, time_us) in course.seen):
            return False
        # Between vehicle and traffic nothing tells whose failure it was but its text.
        return course.failure is None or course.failure.what.startswith("ground")

    async def close(self) -> None:
        """Nothing is held."""


@dataclass
class _Shots:
    """What a log tells of frames.

    Attributes:
        available_us: When each frame that was delivered or lost reached the policy, or would have.
        lost: Those that were lost.
        asked: Those that were asked for.
        unanswered: Those of a request after which the log ends.
    """

    available_us: dict[FrameKey, int] = field(default_factory=dict)
    lost: set[FrameKey] = field(default_factory=set)
    asked: set[FrameKey] = field(default_factory=set)
    unanswered: set[FrameKey] = field(default_factory=set)


class RecordedRenderSession:
    """The renderer: images and delays as they were.

    Frames that were asked for and never reached the policy, for they were lost or due after the
    end, have no image in a log; grey ones stand for them, which never arrive either.
    """

    def __init__(self, recording: Recording, course: Course, camera_ids: tuple[str, ...]) -> None:
        self._recording = recording
        self._course = course
        self._ids = camera_ids
        schedule = recording.header.schedule
        self._end_us = schedule.end_us
        self._due_us = _due_us(schedule)
        self._shots = _shots(course, schedule)

    async def render(self, request: RenderRequest) -> RenderResult:
        """Answer as it was answered then.

        Raises:
            OmniloopError: the log holds no answer; where the renderer failed, that error.
        """
        shots = self._shots
        captures = np.asarray(request.times_us)[request.end_index].tolist()
        keys = [
            self._key(self._ids[number], capture_us)
            for number, capture_us in zip(
                np.asarray(request.camera_index).tolist(), captures, strict=True
            )
        ]
        images, late_us = [], []
        for key in keys:
            if key not in shots.asked or key in shots.unanswered:
                raise self._recording.lacks(self._course, "renderer", key[1])
            due_us = self._due_us[key[1]]
            held = key in shots.available_us and key not in shots.lost
            images.append(self._recording.images.get(key) if held else self._grey())
            arrives_us = shots.available_us.get(key, max(self._end_us, due_us) + 1)
            late_us.append(arrives_us - due_us)
        lost = np.array([key in shots.lost for key in keys], dtype=np.bool_)
        return RenderResult(tuple(images), lost=lost, late_us=np.array(late_us, dtype=np.int64))

    def _key(self, camera_id: str, capture_us: int) -> FrameKey:
        """The frame that is meant: on a wire a shutter without duration lasts one microsecond."""
        known = (camera_id, capture_us) in self._shots.asked
        before = (camera_id, capture_us - 1)
        return before if not known and before in self._shots.asked else (camera_id, capture_us)

    def _grey(self) -> bytes:
        spec = self._recording.renderer_spec()
        return _grey((16, 16) if spec is None else spec.size)

    async def close(self) -> None:
        """Let go of images."""
        self._recording.images.forget()


def _due_us(schedule: Schedule) -> dict[int, int]:
    """When frames reach the policy if nothing delays them, by capture time."""
    fetch = fetch_strategy(schedule)
    fetches = [fetch.initial(), *(fetch.after_commit(i) for i in range(schedule.n_decisions))]
    return {
        capture_us: available_us
        for part in fetches
        if part is not None
        for capture_us, available_us in zip(
            part.frames.capture_us.tolist(), part.available_us.tolist(), strict=True
        )
    }


def _shots(course: Course, schedule: Schedule) -> _Shots:
    ids = [clock.camera_id for clock in schedule.clocks]
    shots = _Shots()
    for event in course.events:
        if isinstance(event.value, FramesAsked):
            frames = event.value.frames
            cameras = [ids[number] for number in frames.camera_index.tolist()]
            shots.unanswered = set(zip(cameras, frames.capture_us.tolist(), strict=True))
            shots.asked |= shots.unanswered
        else:
            key = (event.value.camera_id, event.value.capture_us)
            shots.available_us[key] = event.value.available_us
            if event.topic == topics.LOST_FRAME:
                shots.lost.add(key)
    if course.last != topics.RENDER_REQUEST:
        shots.unanswered = set()
    return shots


@functools.lru_cache(maxsize=8)
def _grey(size: tuple[int, int]) -> bytes:
    pixels = np.full((size[1], size[0], 3), 128, dtype=np.uint8)
    return bytes(simplejpeg.encode_jpeg(pixels, quality=50, colorspace="RGB"))
