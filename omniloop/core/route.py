"""The way ahead: a line in `local`, made once per scene, and the part of it that a policy sees."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import Route
from omniloop.core.geometry import Array
from omniloop.core.lanes import extend_along_lanes, match_lanes
from omniloop.core.motion import Trajectory
from omniloop.core.scene import VectorMap
from omniloop.core.time import US_PER_S

ROUTE_SPACING_M = 80 / 19
ROUTE_COUNT = 20
"""20 waypoints over 80 m: AlpaSim's route."""

_MIN_STEP_M = 0.2
_FOLD_COS = math.cos(math.radians(150))
"""Down-sampling distance and fold-back angle of AlpaSim's route."""

_STANDING_M = 1.0
_AHEAD_M = 80.0
_OUTRUN_MPS = 15.0
"""A closed-loop ego may be faster than a slow recording: the line reaches as far as this speed."""

_BEHIND_M, _BEYOND_M = 10.0, 50.0
"""Where the next projection is looked for, around the last one."""

_SLOPE_M = 40.0
"""A straight extension keeps its first slope this far, then it is level."""


@dataclass(frozen=True, eq=False)
class RouteLine:
    """A route of one scene.

    Attributes:
        points: ``(N, 3)`` in `local`, N >= 2, no two neighbours equal in the plane.
        notes: What a user should know about how it was made; may be empty.

    Raises:
        ValueError: fewer than two points, or points that are equal or not finite.
    """

    points: Array
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        points = np.asarray(self.points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3 or len(points) < 2:
            raise ValueError(f"a route needs at least two points (N, 3), not {points.shape}")
        if not np.isfinite(points).all():
            raise ValueError("a point of the route is not finite")
        object.__setattr__(self, "points", points)
        if not (np.diff(self.s_m) > 0).all():
            raise ValueError("two neighbouring points of the route are equal")

    @functools.cached_property
    def s_m(self) -> Array:
        """``(N,)`` arc length in the plane, from 0."""
        return geometry.arc_length_m(self.points[:, :2])

    @property
    def length_m(self) -> float:
        """Length in the plane."""
        return float(self.s_m[-1])

    @functools.cached_property
    def _direction(self) -> Array:
        """``(N - 1, 3)`` change of the point per metre of arc length."""
        return np.asarray(np.diff(self.points, axis=0) / np.diff(self.s_m)[:, None])

    @functools.cached_property
    def _columns(self) -> tuple[Array, Array, Array, Array, Array]:
        """Starts and unit directions of the segments, and lengths, each contiguous."""
        direction = self._direction
        parts = (self.points[:-1, 0], self.points[:-1, 1], direction[:, 0], direction[:, 1])
        x, y, ux, uy = (np.ascontiguousarray(p) for p in parts)
        return x, y, ux, uy, np.diff(self.s_m)

    def project(self, x_m: float, y_m: float, near_s_m: float | None = None) -> float:
        """Arc length of the point of the line nearest to a position in the plane.

        Both ends are straight without limit, so that the result may be below 0 or above
        `length_m`.

        Args:
            x_m: Position in `local`.
            y_m: Likewise.
            near_s_m: Search from 10 m behind to 50 m beyond this arc length, which keeps
                the projection on its branch where the line crosses itself; and the
                whole line only if the position lies beyond that part.
        """
        columns = self._columns
        first, last = 0, len(columns[0])
        if near_s_m is not None:
            near = min(max(near_s_m, 0.0), self.length_m)
            lo, hi = np.searchsorted(self.s_m, [near - _BEHIND_M, near + _BEYOND_M])
            first, last = max(int(lo) - 1, 0), min(max(int(hi), 1), last)
        x, y, ux, uy, length = (c[first:last] for c in columns)
        dx, dy = x_m - x, y_m - y
        free = ux * dx + uy * dy
        along = np.minimum(np.maximum(free, 0.0), length)
        gap2 = (dx - along * ux) ** 2 + (dy - along * uy) ** 2
        best = int(np.argmin(gap2))
        index, t, overshoot = first + best, float(along[best]), float(free[best] - along[best])
        before_part = index == first and overshoot < 0
        beyond_part = index == last - 1 and overshoot > 0
        if (before_part and first > 0) or (beyond_part and last < len(columns[0])):
            return self.project(x_m, y_m)
        if before_part or beyond_part:
            t += overshoot
        return float(self.s_m[index]) + t

    def at(self, s_m: Array) -> Array:
        """Points ``(K, 3)`` at arc lengths ``(K,)``; straight beyond both ends."""
        held = np.clip(s_m, 0.0, self.length_m)
        out = np.stack([np.interp(held, self.s_m, c) for c in self.points.T], axis=-1)
        beyond = s_m - held
        if beyond.any():
            ends = np.where((beyond > 0)[:, None], self._direction[-1], self._direction[0])
            out += beyond[:, None] * ends
        return np.asarray(out)


def route_at(
    line: RouteLine,
    local_to_rig: Array,
    time_us: int,
    *,
    near_s_m: float | None = None,
    spacing_m: float = ROUTE_SPACING_M,
    count: int = ROUTE_COUNT,
) -> tuple[Route, float]:
    """Return the way ahead of a pose.

    The first waypoint is the projection of the rig's origin on the line in the plane; the
    rest follow at `spacing_m` of arc length in the plane up to the end of the line, never
    padded. Where fewer than two are left, the line goes straight on for a second one.

    Args:
        local_to_rig: ``(7,)``.
        time_us: The instant of the pose.
        near_s_m: The last projection, see `RouteLine.project`.
        spacing_m: Distance between waypoints.
        count: At most this many waypoints, at least 2.

    Returns:
        The route in the rig frame, and the arc length of its first waypoint.
    """
    s = line.project(float(local_to_rig[0]), float(local_to_rig[1]), near_s_m)
    left = int((line.length_m - s) / spacing_m + 1e-9) + 1
    steps: Array = spacing_m * np.arange(max(min(left, count), 2), dtype=np.float64)
    points = line.at(s + steps)
    rotation = geometry.matrix_from_pose(local_to_rig)[:3, :3]
    return Route(time_us, (points - local_to_rig[:3]) @ rotation), s


def route_from_recording(ego: Trajectory, vector_map: VectorMap | None = None) -> RouteLine | None:
    """The path that ego drove in the recording, and on beyond its end.

    Positions closer than 0.2 m to the last one are dropped, and so are points at which
    the path folds back by more than 150 degrees: noise, or a way back that a route does
    not take. A path under 1 m (ego stands) counts as the last pose alone. Beyond the
    recording's end the line follows the lane under ego and its straightest successors,
    or goes straight on where there is none, for 80 m, or further if ego at 15 m/s would
    come further before the recording ends.

    Args:
        ego: Recorded ``local_to_rig``.
        vector_map: Lanes to go on along; may be None or empty.

    Returns:
        None if the recording is empty.
    """
    if len(ego) == 0:
        return None
    return _extended(_without_folds(ego.poses[:, :3]), ego, vector_map, ())


def route_from_lanes(vector_map: VectorMap, ego: Trajectory) -> RouteLine | None:
    """The centre lines of the lanes that ego drove along, and on beyond the recording.

    Recorded positions every metre are matched to lanes as a whole (see `match_lanes`) and
    moved to their lane's centre line; heights are the recorded ones. Where no lane lies
    within 10 m the recorded path stays, and `RouteLine.notes` says so. Goes on beyond the
    recording like `route_from_recording`.

    Returns:
        None if the recording is empty.
    """
    if len(ego) == 0:
        return None
    path = _without_folds(ego.poses[:, :3])
    if geometry.arc_length_m(path[:, :2])[-1] < _STANDING_M:
        return _extended(path, ego, vector_map, ())
    matched = match_lanes(vector_map, path)
    notes: tuple[str, ...] = ()
    if matched.off_m > 0:
        notes = (
            f"no lane within 10 m over {matched.off_m:.1f} m: the recorded path is used there",
        )
    return _extended(_without_folds(matched.points), ego, vector_map, notes)


def _without_folds(positions: Array) -> Array:
    """Down-sample to 0.2 m and let the path retreat where it folds back; ``(N, 3)``, N >= 1."""
    kept: list[list[float]] = []
    for point in positions.tolist():
        while len(kept) > 1:
            ax, ay = kept[-1][0] - kept[-2][0], kept[-1][1] - kept[-2][1]
            bx, by = point[0] - kept[-1][0], point[1] - kept[-1][1]
            norm = math.hypot(ax, ay) * math.hypot(bx, by)
            if math.hypot(bx, by) < _MIN_STEP_M or ax * bx + ay * by > _FOLD_COS * norm:
                break
            kept.pop()
        if not kept or math.hypot(point[0] - kept[-1][0], point[1] - kept[-1][1]) >= _MIN_STEP_M:
            kept.append(point)
    return np.array(kept)


def _extended(
    path: Array, ego: Trajectory, vector_map: VectorMap | None, notes: tuple[str, ...]
) -> RouteLine:
    """A line that starts with `path` and goes on beyond it."""
    last = ego.poses[-1]
    length = float(geometry.arc_length_m(path[:, :2])[-1])
    if length < _STANDING_M:
        path, length = last[None, :3], 0.0
        forward = geometry.rotate(last[3:], np.array([1.0, 0.0, 0.0]))
    else:
        s = geometry.arc_length_m(path[:, :2])
        forward = (
            path[-1] - path[max(int(np.searchsorted(s, length - _STANDING_M, side="right")) - 1, 0)]
        )
    duration_s = (ego.end_us - ego.start_us) / US_PER_S
    ahead = max(_AHEAD_M, _OUTRUN_MPS * duration_s - length)
    if vector_map is not None and vector_map.lanes:
        heading = float(np.arctan2(forward[1], forward[0]))
        lanes = extend_along_lanes(vector_map, path[-1], heading, ahead)
        if len(lanes):
            path = _without_folds(np.vstack([path, lanes]))
            forward = path[-1] - path[-2]
    flat = math.hypot(float(forward[0]), float(forward[1]))
    done = float(geometry.arc_length_m(path[:, :2])[-1]) - length
    rest = max(ahead - done, _MIN_STEP_M)
    step_m = np.unique([min(rest, _SLOPE_M), rest])
    tail = path[-1] + step_m[:, None] * (forward / flat)
    tail[:, 2] = path[-1, 2] + np.minimum(step_m, _SLOPE_M) * forward[2] / flat
    return RouteLine(np.vstack([path, tail]), notes)
