"""Which lanes are under ego: its box's centre, its rig origin and its corners, at every sample.

A lane's shape is its polygon, else what its boundaries enclose, else a strip of 3.7 m width
around its centre line. Shapes are closed and exact: a point on the border is in the lane, a
point in a seam between two lanes is in none. Lanes that no car drives on (`NOT_FOR_CARS`)
are left out. Lanes of junctions overlap, so that a point may be in many.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import Lane, VectorMap
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NOTHING_DRIVEN
from omniloop.scenes.surface import (
    CENTERLINE_HALF_WIDTH_M,
    NOT_DRIVABLE,
    drivable_surface,
    lane_outline,
)

NOT_FOR_CARS = NOT_DRIVABLE | {"bike", "bicycle", "cycle"}
"""Words in `Lane.kind` that keep a lane out: a bicycle lane is carriageway, but no lane of ego."""

NO_LANES = "the map has no lanes"

CENTRE, RIG = 0, 1
"""Rows of the points: the box's centre and the rig origin; the corners are `CORNERS`."""

CORNERS = slice(2, 6)

NONE, ONE, SEVERAL = 0, 1, 2
"""Where a box is: no corner in any lane; all four in one, or in it and its successors; else."""


@dataclass(frozen=True, eq=False)
class LaneShapes:
    """The lanes of a map that cars drive on, as prepared polygons.

    Attributes:
        lanes: In the map's order, L of them.
        polygons: ``(L,)`` shapely polygons or multipolygons.
        tree: Of `polygons`.
    """

    lanes: tuple[Lane, ...]
    polygons: NDArray[np.object_]
    tree: shapely.STRtree


@dataclass(frozen=True, eq=False)
class LanesUnder:
    """Ego on the lanes of the map, on the score grid: K samples.

    Only lanes that hold one of ego's six points at some sample are in it: M of them, in the
    map's order; M may be 0. The points are ``CENTRE``, ``RIG`` and the four ``CORNERS`` in the
    order of `geometry.box_corners_xy`.

    Attributes:
        points_xy: ``(K, 6, 2)`` in `local`.
        yaw_rad: ``(K,)`` ego's heading.
        lanes: ``(M,)``.
        inside: ``(K, 6, M)`` whether a point is in a lane.
        on_surface: ``(K, 6)`` whether a point is on the drivable surface; None without one.
    """

    points_xy: Array
    yaw_rad: Array
    lanes: tuple[Lane, ...]
    inside: Mask
    on_surface: Mask | None

    @functools.cached_property
    def in_intersection(self) -> Mask:
        """``(M,)`` whether a lane lies in an intersection."""
        return np.array([lane.in_intersection for lane in self.lanes], dtype=bool)

    @functools.cached_property
    def speed_limit_mps(self) -> Array:
        """``(M,)``, NaN where it is unknown."""
        limits = [lane.speed_limit_mps for lane in self.lanes]
        return np.array([np.nan if v is None else v for v in limits], dtype=np.float64)

    @functools.cached_property
    def centre_feet(self) -> Feet:
        """The box's centre on the centre lines of all M lanes."""
        return feet(self.points_xy[:, CENTRE], self.lanes)

    @functools.cached_property
    def centre_in_intersection(self) -> Mask:
        """``(K,)`` whether the box's centre is in a lane of an intersection."""
        return np.asarray(np.any(self.inside[:, CENTRE] & self.in_intersection, axis=1))

    @functools.cached_property
    def box(self) -> NDArray[np.int8]:
        """``(K,)`` ``NONE``, ``ONE`` or ``SEVERAL``, by the four corners.

        A box with some corners in a lane and others in none is in SEVERAL: it is not within
        one. A box that reaches from a lane into its successor is still in ONE.
        """
        corners = self.inside[:, CORNERS]
        row = {lane.id: i for i, lane in enumerate(self.lanes)}
        chain = np.eye(len(self.lanes), dtype=bool)
        for i, lane in enumerate(self.lanes):
            chain[i, [row[n] for n in lane.successors if n in row]] = True
        one = np.any(np.all(corners @ chain.T, axis=1), axis=1)
        some = np.any(corners, axis=(1, 2))
        return np.where(one, ONE, np.where(some, SEVERAL, NONE)).astype(np.int8)


@dataclass(frozen=True, eq=False)
class Feet:
    """Points on the centre lines of lanes: the nearest points on them.

    Attributes:
        s_m: ``(K, M)`` arc length along the centre line, in the plane.
        distance_m: ``(K, M)``.
        heading_rad: ``(K, M)`` heading of the centre line there.
    """

    s_m: Array
    distance_m: Array
    heading_rad: Array


@once_per_object
def lane_shapes(vector_map: VectorMap) -> LaneShapes:
    """The shapes of all lanes that cars drive on; those without an area are left out."""
    lanes, polygons = [], []
    for lane in vector_map.lanes:
        if not NOT_FOR_CARS.isdisjoint(re.findall("[a-z]+", lane.kind.lower())):
            continue
        polygon = _shape(lane)
        if polygon is not None and shapely.area(polygon) > 0:
            lanes.append(lane)
            polygons.append(polygon)
    shapes = np.array(polygons, dtype=object)
    shapely.prepare(shapes)
    return LaneShapes(tuple(lanes), shapes, shapely.STRtree(shapes))


def _shape(lane: Lane) -> shapely.Geometry | None:
    outline = lane_outline(lane)
    if outline is not None and len(outline) > 2:
        polygon = shapely.Polygon(outline[:, :2])
        return polygon if polygon.is_valid else shapely.make_valid(polygon)
    if len(lane.centerline) < 2:
        return None
    line = shapely.LineString(lane.centerline[:, :2])
    return shapely.buffer(line, CENTERLINE_HALF_WIDTH_M, cap_style="flat", quad_segs=4)


def feet(points_xy: Array, lanes: tuple[Lane, ...]) -> Feet:
    """Project points ``(K, 2)`` on the centre lines of M lanes."""
    shape = (len(points_xy), len(lanes))
    s_m, distance_m, heading_rad = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for i, lane in enumerate(lanes):
        line = lane.centerline[:, :2]
        s_m[:, i], distance_m[:, i] = geometry.project_on_polyline(points_xy, line)
        step = np.diff(line, axis=0)
        if len(step):
            at = np.searchsorted(geometry.arc_length_m(line), s_m[:, i], side="right") - 1
            dx, dy = step[np.clip(at, 0, len(step) - 1)].T
            heading_rad[:, i] = np.arctan2(dy, dx)
    return Feet(s_m, distance_m, heading_rad)


@once_per_object
def lanes_under(record: RolloutRecord) -> LanesUnder:
    """Find the lanes under ego.

    Raises:
        ValueError: the record has no score samples.
    """
    samples = score_samples(record)
    if samples is None:
        raise ValueError(f"{record.session_id}: {NOTHING_DRIVEN}")
    ego = samples.ego
    points = np.concatenate(
        [ego.local_to_aabb[:, None, :2], ego.local_to_rig[:, None, :2], ego.corners_xy], axis=1
    )
    shapes = lane_shapes(record.scene.map)
    flat = points.reshape(-1, 2)
    # One box around all points of a sample: few shapes to make, and the points decide.
    low, high = points.min(axis=1), points.max(axis=1)
    sample, lane = shapes.tree.query(shapely.box(*low.T, *high.T))
    point = (sample[:, None] * points.shape[1] + np.arange(points.shape[1])).reshape(-1)
    lane = np.repeat(lane, points.shape[1])
    held = shapely.intersects_xy(shapes.polygons[lane], flat[point, 0], flat[point, 1])
    point, lane = point[held], lane[held]
    met = np.unique(lane)
    inside = np.zeros((len(flat), len(met)), dtype=bool)
    inside[point, np.searchsorted(met, lane)] = True
    surface = drivable_surface(record.scene.map)
    on_surface = None
    if surface is not None:
        on_surface = shapely.intersects_xy(surface.geometry, flat[:, 0], flat[:, 1])
        on_surface = on_surface.reshape(points.shape[:2])
    return LanesUnder(
        points_xy=points,
        yaw_rad=geometry.yaw_rad(ego.local_to_rig),
        lanes=tuple(shapes.lanes[i] for i in met),
        inside=inside.reshape(*points.shape[:2], len(met)),
        on_surface=on_surface,
    )
