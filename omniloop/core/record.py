"""The record of one rollout: what scores, digests, videos and reports are made from.

It is assembled from memory as a rollout ends and from its log afterwards; both give the
same arrays, so both give the same scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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
