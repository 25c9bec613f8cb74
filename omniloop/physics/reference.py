"""A plan as a path in the plane and as progress along it."""

from __future__ import annotations

import math
from bisect import bisect_right

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Times, Trajectory
from omniloop.core.time import US_PER_S

_STEP_M = 0.25
_SURE_M = 0.05
"""Steps longer than this are forward unless they clearly go back; shorter ones may be noise."""

_LAST_S = 0.2
"""The speed at a plan's end is taken over this time."""

_SEARCH_M = 10.0


class Reference:
    """A plan seen from a vehicle that moves along it.

    The path is the plan's positions where it moves forward, resampled about every 0.25 m
    and straight beyond both ends. Moves back shorten the progress and are not part of
    the path. `follow` keeps `s_m`, the vehicle's own progress, by projecting its place.

    Args:
        plan: ``local_to_rig``, at least two poses.
        time_us: Now, inside the plan.
        x_m: The vehicle's place now, in `local`.
        y_m: Likewise.

    Attributes:
        s_m: The vehicle's progress along the path.
        start_s_m: The same, at first.
        last_mps: Speed at the plan's end, at which it goes on; negative if it goes back.
    """

    def __init__(self, plan: Trajectory, time_us: int, x_m: float, y_m: float) -> None:
        times_s: Array = (plan.times_us - time_us) / US_PER_S
        yaw = geometry.yaw_rad(plan.poses)
        s = np.append(0.0, np.cumsum(_forward_steps(plan.poses[:, :2], yaw)))
        self._times_s: list[float] = times_s.tolist()
        self._s: list[float] = s.tolist()
        tail_s = min(_LAST_S, float(times_s[-1] - times_s[0]))
        self.last_mps = float(s[-1] - np.interp(times_s[-1] - tail_s, times_s, s)) / tail_s
        self._plan_us, self._now_us = plan.times_us, time_us
        self._reached_m = np.maximum.accumulate(s)
        self._end_m = float(self._reached_m[-1])

        count = max(math.ceil(self._end_m / _STEP_M), 1)
        self._step_m = self._end_m / count
        grid = np.linspace(0.0, self._end_m, count + 1)
        x = np.interp(grid, self._reached_m, plan.poses[:, 0])
        y = np.interp(grid, self._reached_m, plan.poses[:, 1])
        self._x: list[float] = x.tolist()
        self._y: list[float] = y.tolist()
        first, last = float(yaw[0]), float(yaw[-1])
        self._first = (math.cos(first), math.sin(first))
        self._last = (math.cos(last), math.sin(last))

        self.s_m = float(np.interp(0.0, times_s, s))
        if plan.start_us < time_us:
            near = np.abs(grid - self.s_m) <= _SEARCH_M
            gap2 = np.where(near, (x - x_m) ** 2 + (y - y_m) ** 2, np.inf)
            self.s_m = float(grid[int(np.argmin(gap2))])
        self.follow(x_m, y_m)
        self.start_s_m = self.s_m

    def point(self, s_m: float) -> tuple[float, float]:
        """The path's point at an arc length; straight beyond both ends."""
        return self._point_and_tangent(s_m)[:2]

    def _point_and_tangent(self, s_m: float) -> tuple[float, float, float, float]:
        if s_m < 0.0:
            ux, uy = self._first
            return self._x[0] + s_m * ux, self._y[0] + s_m * uy, ux, uy
        if s_m >= self._end_m:
            ux, uy = self._last
            beyond = s_m - self._end_m
            return self._x[-1] + beyond * ux, self._y[-1] + beyond * uy, ux, uy
        i = min(int(s_m / self._step_m), len(self._x) - 2)
        part = s_m / self._step_m - i
        dx, dy = self._x[i + 1] - self._x[i], self._y[i + 1] - self._y[i]
        return self._x[i] + part * dx, self._y[i] + part * dy, dx / self._step_m, dy / self._step_m

    def follow(self, x_m: float, y_m: float) -> None:
        """Move `s_m` to the projection of a place near the last one."""
        x, y, ux, uy = self._point_and_tangent(self.s_m)
        self.s_m += (x_m - x) * ux + (y_m - y) * uy

    def left_m(self) -> float:
        """How much of the plan's path lies ahead of the vehicle."""
        return self._end_m - self.s_m

    def progress(self, time_s: float) -> float:
        """Planned progress [m] at a time after now; beyond the end at the last speed."""
        times, s = self._times_s, self._s
        if time_s >= times[-1]:
            return s[-1] + (time_s - times[-1]) * self.last_mps
        i = max(bisect_right(times, time_s) - 1, 0)
        part = max((time_s - times[i]) / (times[i + 1] - times[i]), 0.0)
        return s[i] + part * (s[i + 1] - s[i])

    def time_at(self, s_m: Array) -> Times:
        """When the plan gets to progress ``(K,)``; its ends where it never does."""
        return np.rint(np.interp(s_m, self._reached_m, self._plan_us)).astype(np.int64)


def _forward_steps(positions_xy: Array, yaw_rad: Array) -> Array:
    """Signed length ``(N - 1,)`` of steps: negative where the plan goes back.

    Steps of a few centimetres count by their part along the heading, so that the noise of
    a standing vehicle cancels out.
    """
    step = np.diff(positions_xy, axis=0)
    length = np.sqrt(step[:, 0] ** 2 + step[:, 1] ** 2)
    along = np.cos(yaw_rad[:-1]) * step[:, 0] + np.sin(yaw_rad[:-1]) * step[:, 1]
    forward = (length > _SURE_M) & (along > -0.5 * length)
    return np.asarray(np.where(forward, length, along))
