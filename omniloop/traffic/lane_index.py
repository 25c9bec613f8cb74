"""Lanes of a map, quick to find by place and heading."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.lanes import extend_along_lanes
from omniloop.core.scene import Lane, VectorMap

_NOT_FOR_VEHICLES = frozenset({"bike", "bicycle", "pedestrian", "sidewalk", "crosswalk", "walkway"})
_SPACING_M = 2.0
_NEIGHBOURS = 8

NEAR_M = 4.0
"""A lane is under a position when its centre line passes this close (`core.lanes`)."""

MAX_TURN_RAD = np.pi / 3
_WHOLE = slice(None)


class Line:
    """A polyline that points are projected on again and again.

    Args:
        points: ``(N, 3)``, N at least 2.

    Attributes:
        points: ``(N, 3)``.
        s_m: ``(N,)`` arc lengths in the plane.
    """

    def __init__(self, points: Array) -> None:
        self.points, self.s_m = points, geometry.arc_length_m(points[:, :2])
        self._x, self._y = points[:-1, 0].copy(), points[:-1, 1].copy()
        self._dx, self._dy = np.diff(points[:, 0]), np.diff(points[:, 1])
        self._length2 = np.maximum(self._dx**2 + self._dy**2, 1e-30)

    def part(self, from_m: float, until_m: float) -> slice:
        """The segments between two places, whole ones."""
        lo, hi = np.searchsorted(self.s_m, [from_m, until_m])
        return slice(min(max(int(lo) - 1, 0), len(self._x) - 1), min(int(hi), len(self._x)))

    def bounds(self, part: slice) -> tuple[Array, Array]:
        """Lowest and highest coordinates ``(2,)`` of some segments."""
        xy = self.points[part.start : part.stop + 1, :2]
        return xy.min(axis=0), xy.max(axis=0)

    def project(self, points_xy: Array, part: slice = _WHOLE) -> tuple[Array, Array]:
        """Arc lengths of the nearest points on some segments, and distances to them; see
        `core.geometry.project_on_polyline`."""
        dx, dy, length2 = self._dx[part], self._dy[part], self._length2[part]
        rel_x = points_xy[:, 0, None] - self._x[part]
        rel_y = points_xy[:, 1, None] - self._y[part]
        t = rel_x * dx
        t += rel_y * dy
        t /= length2
        np.maximum(t, 0.0, out=t)
        np.minimum(t, 1.0, out=t)
        rel_x -= t * dx
        rel_y -= t * dy
        rel_x *= rel_x
        rel_y *= rel_y
        rel_x += rel_y
        best = rel_x.argmin(axis=1)
        rows = np.arange(len(best))
        s = self.s_m[part][best] + t[rows, best] * np.sqrt(length2[best])
        return s, np.sqrt(rel_x[rows, best])


class LaneIndex:
    """Centre lines of the lanes that vehicles drive on.

    Args:
        vector_map: The scene's map.
    """

    def __init__(self, vector_map: VectorMap) -> None:
        self.lanes: list[Lane] = [
            lane
            for lane in vector_map.lanes
            if lane.kind.lower() not in _NOT_FOR_VEHICLES
            and len(lane.centerline) > 1
            and geometry.arc_length_m(lane.centerline[:, :2])[-1] > 0
        ]
        self.by_id = {lane.id: i for i, lane in enumerate(self.lanes)}
        points, headings, owners = [np.zeros((0, 2))], [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
        for i, lane in enumerate(self.lanes):
            line = lane.centerline[:, :2]
            length = float(geometry.arc_length_m(line)[-1])
            s = np.linspace(0.0, length, int(np.ceil(length / _SPACING_M)) + 1)
            on = geometry.resample_polyline(line, s)
            points.append(on)
            headings.append(tangents_rad(on))
            owners.append(np.full(len(on), i))
        self._points, self._heading = np.concatenate(points), np.concatenate(headings)
        self._owner = np.concatenate(owners)
        self._lines: dict[int, Line] = {}
        self._tree = None
        if len(self._points):
            from scipy.spatial import cKDTree

            self._tree = cKDTree(self._points)

    def nearest(self, positions_xy: Array, heading_rad: Array) -> NDArray[np.int64]:
        """Index into `lanes` of the lane under each of ``(N, 2)`` positions; -1 for none.

        A lane counts within 4 m and 60 degrees of heading.
        """
        if self._tree is None or len(positions_xy) == 0:
            return np.full(len(positions_xy), -1)
        k = min(_NEIGHBOURS, len(self._points))
        distance, found = self._tree.query(positions_xy, k=k, distance_upper_bound=NEAR_M)
        distance, found = distance.reshape(-1, k), found.reshape(-1, k)
        inside = np.isfinite(distance)
        found = np.where(inside, found, 0)
        turn = np.abs(geometry.wrap_rad(self._heading[found] - heading_rad[:, None]))
        cost = np.where(inside & (turn < MAX_TURN_RAD), distance**2 + (turn / 0.3) ** 2, np.inf)
        best = np.argmin(cost, axis=1)
        rows = np.arange(len(best))
        return np.where(np.isfinite(cost[rows, best]), self._owner[found[rows, best]], -1)

    def line(self, lane: int, ahead_m: float) -> Line:
        """Centre line of a lane and, beyond its end, of the straightest successors.

        Worked out once for each lane, whatever the session: it depends on the map alone.
        """
        if lane not in self._lines:
            centre = self.lanes[lane].centerline
            heading = float(tangents_rad(centre[:, :2])[-1])
            self._lines[lane] = Line(np.vstack([centre, self.onward(centre[-1], heading, ahead_m)]))
        return self._lines[lane]

    def onward(self, position: Array, heading_rad: float, ahead_m: float) -> Array:
        """Points ``(K, 3)`` that go on from a position ``(3,)`` along its lane and the
        straightest successors, see `core.lanes.extend_along_lanes`; none without a lane."""
        if self._tree is None:
            return np.zeros((0, 3))
        near = self._tree.query_ball_point(position[:2], NEAR_M + _SPACING_M)
        wanted = sorted({int(self._owner[i]) for i in near})
        reached = dict.fromkeys(wanted, 0.0)
        while wanted:
            i = wanted.pop()
            lane = self.lanes[i]
            far = reached[i] + float(geometry.arc_length_m(lane.centerline[:, :2])[-1])
            for name in lane.successors:
                j = self.by_id.get(name)
                if far < ahead_m + 50.0 and j is not None and far < reached.get(j, np.inf):
                    reached[j] = far
                    wanted.append(j)
        part = VectorMap(lanes=tuple(self.lanes[i] for i in sorted(reached)))
        return extend_along_lanes(part, position, heading_rad, ahead_m)


def tangents_rad(points_xy: Array) -> Array:
    """Directions ``(N,)`` of a polyline at its points: of the chord around each."""
    if len(points_xy) < 2:
        return np.zeros(len(points_xy))
    ahead = np.vstack([points_xy[1:], 2 * points_xy[-1:] - points_xy[-2:-1]])
    behind = np.vstack([2 * points_xy[:1] - points_xy[1:2], points_xy[:-1]])
    chord = ahead - behind
    return np.asarray(np.arctan2(chord[:, 1], chord[:, 0]))
