"""What controllers share: ego's past poses, at which plans are anchored."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import VehicleRequest
from omniloop.core.errors import PolicyError
from omniloop.core.geometry import Array
from omniloop.core.motion import EgoMotion, Trajectory
from omniloop.core.time import US_PER_S

_KEPT_US = 30 * US_PER_S


class PoseHistory:
    """Ego's own past poses: a plan is relative to the one at its first timestamp.

    This is AlpaSim's anchoring rule (its controller service keeps its own history too):
    a plan that takes effect late still starts where ego was when it was made.
    """

    def __init__(self) -> None:
        self._times_us: list[int] = []
        self._poses: list[Array] = []

    def adopt(self, time_us: int, local_to_rig: Array) -> None:
        """Take the true pose at `time_us`; it replaces whatever was predicted from then on."""
        at = bisect_left(self._times_us, time_us)
        del self._times_us[at:], self._poses[at:]
        self._times_us.append(time_us)
        self._poses.append(local_to_rig)
        old = bisect_right(self._times_us, time_us - _KEPT_US) - 1
        if old > 256:
            del self._times_us[:old], self._poses[:old]

    def extend(self, states: EgoMotion) -> None:
        """Take the states just returned."""
        self._times_us += states.times_us.tolist()
        self._poses += list(states.local_to_rig)

    @property
    def start_us(self) -> int:
        """The oldest time held; there must be one."""
        return self._times_us[0]

    def at(self, time_us: int) -> Array:
        """The pose ``(7,)`` at a time, held at both ends of the history."""
        hi = min(bisect_left(self._times_us, time_us), len(self._times_us) - 1)
        if hi == 0 or self._times_us[hi] <= time_us:
            return self._poses[hi]
        lo = hi - 1
        span = self._times_us[hi] - self._times_us[lo]
        alpha = np.array((time_us - self._times_us[lo]) / span)
        return geometry.interpolate_poses(self._poses[lo], self._poses[hi], alpha)

    def anchored_plan(self, request: VehicleRequest) -> Trajectory:
        """The plan in force, moved to start at ego's own pose at its first timestamp.

        A plan older than the history is anchored at the oldest pose known.

        Raises:
            PolicyError: the plan is empty, starts after `time_us`, or ends before
                `target_us`.
        """
        plan = request.plan_local_to_rig
        if len(plan) == 0:
            raise PolicyError(
                f"the plan in force at {request.time_us} us is empty",
                remedy="return at least ego's pose now and one at or after the next decision",
            )
        if plan.start_us > request.time_us or plan.end_us < request.target_us:
            raise PolicyError(
                f"the plan covers {plan.start_us} to {plan.end_us} us, not the motion from"
                f" {request.time_us} to {request.target_us} us",
                remedy="start plans at observation.time_us and let them reach at least"
                " observation.next_decision_us",
            )
        start_us = max(plan.start_us, self._times_us[0])
        own = self.at(start_us)
        planned = plan.poses[0] if start_us == plan.start_us else plan.sample(start_us)[0]
        if np.array_equal(own, planned):
            return plan
        return plan.transform(geometry.compose(own, geometry.inverse(planned)))
