"""The record of one rollout: what scores, digests, videos and reports are made from.

It is assembled from memory as a rollout ends and from its log afterwards; both give the
same arrays, so both give the same scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from omniloop.core.contracts import MetricValue, Plan, Route
from omniloop.core.motion import ActorMotion, EgoMotion, Mask, Times
from omniloop.core.scene import Scene
from omniloop.core.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Decision:
    """One call of the policy.

    Attributes:
        time_us: When it decided.
        available_us: When its plan can take effect; `time_us` plus the decision latency.
        plan: Its answer, in the local frame as the policy knows it.
        dropped: Warm-up: the recording was driven instead.
        route: The route it was given, if any.
    """

    time_us: int
    available_us: int
    plan: Plan
    dropped: bool
    route: Route | None = None


@dataclass(frozen=True, eq=False)
class BlackFrames:
    """Which frames of a camera are black, all values at most 10 of 255.

    Attributes:
        camera_id: The camera.
        capture_us: ``(N,)`` of its delivered frames, increasing.
        black: ``(N,)``.
    """

    camera_id: str
    capture_us: Times
    black: Mask


class FrameTiming(Protocol):
    """What is told of a frame besides its image."""

    @property
    def camera_id(self) -> str:
        """Whose it is."""
        ...

    @property
    def capture_us(self) -> int:
        """End of its shutter."""
        ...

    @property
    def available_us(self) -> int:
        """When it reaches the policy, or would have."""
        ...


@dataclass(frozen=True, eq=False)
class LostFrames:
    """The frames of a camera that an injected fault took.

    Attributes:
        camera_id: The camera.
        capture_us: ``(N,)`` of the frames, in the order in which they were missed.
        available_us: ``(N,)`` when each would have reached the policy, not decreasing.
    """

    camera_id: str
    capture_us: Times
    available_us: Times


def lost_frames(frames: Iterable[FrameTiming]) -> tuple[LostFrames, ...]:
    """Lost frames in the order in which they were missed, by camera, sorted by its id."""
    times: dict[str, list[tuple[int, int]]] = {}
    for frame in frames:
        times.setdefault(frame.camera_id, []).append((frame.capture_us, frame.available_us))
    return tuple(
        LostFrames(camera, *np.array(times[camera], dtype=np.int64).T.copy())
        for camera in sorted(times)
    )


@dataclass(frozen=True, eq=False)
class RolloutRecord:
    """Everything simulated in a rollout but the images.

    Attributes:
        session_id: ``<scene>/<seed>``.
        ego: Committed true states over ``[context start, frontier]``, strictly increasing.
        ego_estimated: What the policy was told.
        actors: Committed motion of the scene's actors in their order.
        decisions: Every call of the policy, in order.
        privileged: What the policy was allowed to see beyond sensors.
        stopped_by: Why it ended before the schedule's end; empty if it did not.
        lost_frames: By camera, of those that lost any; frames that were due after the end are
            not among them.
        black_frames: Of one camera, if someone looked at its images; else None.
    """

    session_id: str
    scene: Scene
    schedule: Schedule
    ego: EgoMotion
    ego_estimated: EgoMotion
    actors: ActorMotion
    decisions: Sequence[Decision]
    privileged: tuple[str, ...] = ()
    stopped_by: str = ""
    lost_frames: tuple[LostFrames, ...] = ()
    black_frames: BlackFrames | None = None

    def __repr__(self) -> str:
        return f"RolloutRecord({self.session_id!r}, up to {self.frontier_us} us)"

    @property
    def frontier_us(self) -> int:
        """The last committed time."""
        return int(self.ego.times_us[-1])


class Metric(Protocol):
    """A metric plugin: one class, its constructor arguments are its thresholds."""

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """Score a rollout. An undefined score is a `MetricValue` with a reason."""
        ...
