"""The way of nuPlan's expert: the recorded ego, moved to centre lines, and what runs along it.

nuPlan's route is a chain of roadblocks: groups of lanes side by side. Our maps have no
roadblocks. Here the route is one line: the path of the recorded box centre, matched to the
lanes that it drove along (`omniloop.core.lanes.match_lanes`), and what lies before and after
it. Ego is on the route while its box's centre is in a lane that runs along it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.lanes import extend_along_lanes, match_lanes
from omniloop.core.motion import Mask
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import Lane, Scene, VectorMap
from omniloop.core.time import SCORE_STEP_US
from omniloop.metrics.lanes_under import CENTRE, feet, lane_shapes, lanes_under

AHEAD_M, BEYOND_M = 100.0, 200.0
"""After the recorded path the route follows its lane and the straightest successors for the
first, and goes straight on for the second; before it, straight for the second."""

ALONG_RAD = np.pi / 4
BESIDE_M = 12.0
"""A lane runs along the route while its direction is this near to the route's, and ego this
near to the route: three lanes of 3.7 m to the side."""

LEAST_M = 1.0
"""A recording that covers less than this is a place and a heading."""

END_M = 2.0
"""Of the path's ends that give their directions: poses of a standing ego are noisy."""


@dataclass(frozen=True, eq=False)
class RouteOffsets:
    """The centre of a box against the route, on K samples.

    Attributes:
        s_m: ``(K,)`` arc length of the nearest point of the route.
        distance_m: ``(K,)`` distance to it.
        on_route: ``(K,)`` whether the centre is in a lane that runs along the route.
    """

    s_m: Array
    distance_m: Array
    on_route: Mask


@once_per_object
def expert_route(scene: Scene) -> Lane | None:
    """The route as a lane that has a centre line only; None if no lane is under the recording."""
    times_us = np.arange(scene.start_us, scene.end_us + 1, SCORE_STEP_US, dtype=np.int64)
    poses = geometry.shift_body(scene.ego.sample(times_us), scene.vehicle.rig_to_aabb[:3])
    if not in_any_lane(scene.map, poses[:, :2]).any():
        return None
    path = poses[:, :3]
    if np.hypot(*np.ptp(path[:, :2], axis=0)) < LEAST_M:
        line, first_rad = path[:1], float(geometry.yaw_rad(poses[0]))
        last_rad = first_rad
    else:
        line = match_lanes(scene.map, path).points
        length_m = float(geometry.arc_length_m(line[:, :2])[-1])
        ends = [0.0, END_M, length_m - END_M, length_m]
        a, b, c, d = geometry.resample_polyline(line[:, :2], ends)
        first_rad, last_rad = _heading_rad(b - a), _heading_rad(d - c)
    onward = extend_along_lanes(scene.map, line[-1], last_rad, AHEAD_M)
    if len(onward) > 1:
        line, last_rad = np.vstack([line, onward]), _heading_rad(onward[-1] - onward[-2])
    behind, ahead = (
        BEYOND_M * np.array([np.cos(turn), np.sin(turn), 0.0]) for turn in (first_rad, last_rad)
    )
    line = np.vstack([line[0] - behind, line, line[-1] + ahead])
    return Lane("route", line[np.append(True, np.any(np.diff(line[:, :2], axis=0), axis=1))])


def _heading_rad(step: Array) -> float:
    return float(np.arctan2(step[1], step[0]))


@once_per_object
def route_offsets(record: RolloutRecord) -> RouteOffsets | None:
    """Ego's box centre against the expert's route, on the score grid; None without a route.

    Raises:
        ValueError: the record has no score samples.
    """
    under, route = lanes_under(record), expert_route(record.scene)
    if route is None:
        return None
    at = feet(under.points_xy[:, CENTRE], (route,))
    turn = np.abs(geometry.wrap_rad(under.centre_feet.heading_rad - at.heading_rad))
    along = np.any(under.inside[:, CENTRE] & (turn < ALONG_RAD), axis=1)
    near = at.distance_m[:, 0] <= BESIDE_M
    return RouteOffsets(at.s_m[:, 0], at.distance_m[:, 0], along & near)


def runs_along(route: Lane, lane: Lane) -> bool:
    """Whether the whole of a lane runs along the route, by `ALONG_RAD` and `BESIDE_M`."""
    line = lane.centerline[:, :2]
    length_m = float(geometry.arc_length_m(line)[-1])
    points = geometry.resample_polyline(line, np.arange(0.5, max(length_m, 1.0), 1.0))
    at, own = feet(points, (route,)), feet(points, (lane,))
    turn = np.abs(geometry.wrap_rad(own.heading_rad - at.heading_rad))
    return bool(((turn < ALONG_RAD) & (at.distance_m <= BESIDE_M)).all())


def in_any_lane(vector_map: VectorMap, points_xy: Array) -> Mask:
    """``(N,)`` whether points ``(N, 2)`` are in a lane."""
    shapes = lane_shapes(vector_map)
    point, lane = shapes.tree.query(shapely.points(points_xy))
    held = shapely.intersects_xy(shapes.polygons[lane], points_xy[point, 0], points_xy[point, 1])
    out = np.zeros(len(points_xy), dtype=bool)
    out[point[held]] = True
    return out
