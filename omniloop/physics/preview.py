"""A plan as a vehicle's controller looks ahead on it: poses every 100 ms from now."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Trajectory
from omniloop.core.time import US_PER_S

STEP_S = 0.1
_STEP_US = 100_000

LONGEST_GAP = 10
"""The most knots that `Preview.sure` skips."""


class Preview:
    """Knots every 100 ms from now: in the plane, in `local`.

    Beyond its end the plan goes on straight at its last speed.

    Args:
        plan: ``local_to_rig``, at least two poses, from now or before.
        time_us: Now.
        span_us: Controllers decide every 100 ms through it,
        ahead: and look so many knots ahead from each decision.
        last_mps: Speed at the plan's end, see `Reference`.

    Attributes:
        x_m: ``(count,)``.
        y_m: ``(count,)``.
        yaw_rad: ``(count,)`` without jumps of a whole turn.
        sure: The first knot that tells where the path lies. A plan begins at ego's own pose, be
            that on its path or beside it, so until the plan's second pose knots only lead from
            one to the other. 0 where that is past, or more than 1 s away.
    """

    def __init__(
        self, plan: Trajectory, time_us: int, span_us: int, ahead: int, last_mps: float
    ) -> None:
        count = -(-span_us // _STEP_US) + ahead
        times_us = time_us + _STEP_US * np.arange(count)
        poses = plan.sample_clamped(times_us)
        self.x_m: Array = poses[:, 0]
        self.y_m: Array = poses[:, 1]
        self.yaw_rad = unwrapped(geometry.yaw_rad(poses))
        if times_us[-1] > plan.end_us:
            beyond = max(last_mps, 0.0) / US_PER_S * np.maximum(times_us - plan.end_us, 0)
            self.x_m = self.x_m + beyond * np.cos(self.yaw_rad[-1])
            self.y_m = self.y_m + beyond * np.sin(self.yaw_rad[-1])
        self.sure = 0
        if len(plan) > 2 and time_us < plan.times_us[1]:
            gap = int(-(-(int(plan.times_us[1]) - time_us) // _STEP_US))
            self.sure = gap if gap <= LONGEST_GAP else 0


def unwrapped(yaw_rad: Array) -> Array:
    """Headings ``(N,)`` whose steps are at most half a turn."""
    steps = geometry.wrap_rad(yaw_rad[1:] - yaw_rad[:-1])
    out = np.empty(len(yaw_rad))
    out[0] = yaw_rad[0]
    np.cumsum(steps, out=out[1:])
    out[1:] += yaw_rad[0]
    return out
