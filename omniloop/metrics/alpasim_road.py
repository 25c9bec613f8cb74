"""AlpaSim's road scores: off the road, in a wrong lane, distance to the lanes' boundary."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray

from omniloop.core.geometry import Array, wrap_rad
from omniloop.core.motion import Mask
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import VectorMap
from omniloop.metrics.alpasim_rows import Rows
from omniloop.metrics.alpasim_settings import Settings
from omniloop.metrics.alpasim_shapes import Shapes, outline, placed, rounded_sizes
from omniloop.metrics.lanes_under import LaneShapes, lane_shapes
from omniloop.scenes.surface import SEAM_M, DrivableSurface, drivable_surface

NEAR_LANE_M = 6.0
"""Lanes take part whose centre line is this near to the centre of ego's box."""

EDGE_M = 1e-3
"""Ego touches a road edge that is nearer than this."""

WRONG_WAY_RAD = 2 * np.pi / 3
"""A lane whose heading differs by more is a wrong one."""

_AHEAD_M = 0.01
"""The heading of a centre line is that of its piece this far to either side."""

NO_ROAD = "the map has no lanes, no road edges and no drivable areas"
NO_EDGES = "the map has neither road edges nor polygons to take their outline from"
NO_LANES = "the map has no lanes"


@dataclass(frozen=True, eq=False)
class RowRoad:
    """The road under ego at every row; a score that cannot be told has a reason instead.

    Attributes:
        offroad: ``(K,)`` or why there is none.
        wrong_lane: Likewise.
        boundary_m: ``(K,)`` distance of ego's shape from the boundary of the lanes around
            it together, 0 where it is not within them; or why there is none.
    """

    offroad: Mask | str
    wrong_lane: Mask | str
    boundary_m: Array | str


@dataclass(frozen=True, eq=False)
class _Roads:
    """The map as AlpaSim looks at it; lanes as `LaneShapes`.

    Attributes:
        lines: ``(L,)`` centre lines, None for a lane that has none.
        line_tree: Of `lines`.
        edges: Road edges as lines.
        edge_tree: Of `edges`.
        surface: For what lies beyond an edge.
        unions: What lanes make together, by their indices and whether seams are closed.
    """

    lanes: LaneShapes
    lines: Shapes
    line_tree: shapely.STRtree
    edges: Shapes
    edge_tree: shapely.STRtree
    surface: DrivableSurface | None
    unions: dict[tuple[tuple[int, ...], bool], shapely.Geometry] = field(default_factory=dict)

    def union(self, lanes: tuple[int, ...], closed: bool) -> shapely.Geometry:
        """The union of some lanes; `closed` grows each by `SEAM_M`, and so closes seams."""
        key = (lanes, closed)
        if key not in self.unions:
            parts = self.lanes.polygons[list(lanes)]
            if closed:
                parts = shapely.buffer(parts, SEAM_M, join_style="mitre")
            union = shapely.union_all(parts)
            shapely.prepare(union)
            self.unions[key] = union
        return self.unions[key]


@once_per_object
def _roads(vector_map: VectorMap) -> _Roads:
    lanes = lane_shapes(vector_map)
    lines = np.full(len(lanes.lanes), None, dtype=object)
    for i, lane in enumerate(lanes.lanes):
        if len(lane.centerline) > 1:
            lines[i] = shapely.LineString(lane.centerline[:, :2])
    edges = np.array(
        [shapely.LineString(e.points[:, :2]) for e in vector_map.road_boundaries if len(e.points) > 1],
        dtype=object,
    )  # fmt: skip
    return _Roads(
        lanes, lines, shapely.STRtree(lines), edges, shapely.STRtree(edges),
        drivable_surface(vector_map),
    )  # fmt: skip


def row_road(record: RolloutRecord, rows: Rows, settings: Settings) -> RowRoad:
    """Look at the road under ego at every row."""
    roads = _roads(record.scene.map)
    size = rounded_sizes(record.scene.vehicle.size_m[None], settings)
    shape = outline(size.half_m[0], float(size.radius_m[0]))
    ego = placed(shape, rows.ego_xy, rows.ego_yaw_rad)
    centres: Shapes = np.asarray(shapely.points(rows.ego_xy))
    in_one = np.zeros(len(ego), dtype=bool)
    wrong: Mask | str = NO_LANES
    boundary_m: Array | str = NO_LANES
    within = in_one
    if len(roads.lanes.lanes):
        row, lane = roads.lanes.tree.query(centres)
        held = shapely.contains_xy(roads.lanes.polygons[lane], *rows.ego_xy[row].T)
        row, lane = row[held], lane[held]
        in_one[row[shapely.contains(roads.lanes.polygons[lane], ego[row])]] = True
        wrong = _wrong_lane(roads, rows, row, lane, settings.strict)
        within, boundary_m = _in_union(roads, ego, centres, closed=not settings.strict)
    out = np.flatnonzero(~in_one & ~within)
    off = _strict_off if settings.strict else _off
    return RowRoad(off(roads, ego, centres, out), wrong, boundary_m)


def _wrong_lane(
    roads: _Roads, rows: Rows, row: NDArray[np.intp], lane: NDArray[np.intp], strict: bool
) -> Mask:
    """Whether a lane that holds ego's centre, pair by pair, heads another way."""
    has_line = np.array([roads.lines[i] is not None for i in lane], dtype=bool)
    row, lane = row[has_line], lane[has_line]
    out = np.zeros(len(rows.times_us), dtype=bool)
    if not len(row):
        return out
    lines = roads.lines[lane]
    at_m = shapely.line_locate_point(lines, shapely.points(rows.ego_xy[row]))
    ahead_m = np.minimum(at_m + _AHEAD_M, shapely.length(lines))
    ahead = shapely.get_coordinates(shapely.line_interpolate_point(lines, ahead_m))
    behind = shapely.get_coordinates(
        shapely.line_interpolate_point(lines, np.maximum(at_m - _AHEAD_M, 0.0))
    )
    dx, dy = (ahead - behind).T
    turn = np.arctan2(dy, dx) - rows.ego_yaw_rad[row]
    if not strict:
        turn = wrap_rad(turn)
    out[row[np.abs(turn) > WRONG_WAY_RAD]] = True
    return out


def _in_union(roads: _Roads, ego: Shapes, centres: Shapes, closed: bool) -> tuple[Mask, Array]:
    """Whether ego is within the union of lanes near it, and its distance from the boundary.

    Returns:
        ``(K,)`` and ``(K,)``; the distance is 0 outside.
    """
    row, lane = roads.line_tree.query(centres, predicate="dwithin", distance=NEAR_LANE_M)
    near: dict[int, list[int]] = {}
    for at, index in sorted(zip(row.tolist(), lane.tolist(), strict=True)):
        near.setdefault(at, []).append(index)
    groups: dict[tuple[int, ...], list[int]] = {}
    for at, lanes in near.items():
        groups.setdefault(tuple(lanes), []).append(at)
    within, out = np.zeros(len(ego), dtype=bool), np.zeros(len(ego))
    for lanes_of, at_rows in groups.items():
        union, shapes = roads.union(lanes_of, closed), ego[at_rows]
        held = shapely.contains(union, shapes)
        gap_m = shapely.distance(shapely.boundary(union), shapes)
        if closed:  # by as much as the lanes have grown
            gap_m -= SEAM_M
            held &= gap_m >= 0
        within[at_rows], out[at_rows] = held, np.where(held, gap_m, 0.0)
    return within, out


def _strict_off(roads: _Roads, ego: Shapes, centres: Shapes, out: NDArray[np.intp]) -> Mask:
    """Off the road as AlpaSim tells it: touching that edge which is nearest to ego's centre."""
    off = np.zeros(len(ego), dtype=bool)
    if len(roads.edges) and len(out):
        which, edge = roads.edge_tree.query_nearest(centres[out], all_matches=False)
        near_m = shapely.distance(roads.edges[edge], ego[out[which]])
        off[out[which][near_m < EDGE_M]] = True
    return off


def _off(roads: _Roads, ego: Shapes, centres: Shapes, out: NDArray[np.intp]) -> Mask | str:
    """Off the road: touching any edge, or beyond one."""
    surface = roads.surface
    if not len(roads.edges) and surface is None:
        return NO_EDGES if len(roads.lanes.lanes) else NO_ROAD
    off = np.zeros(len(ego), dtype=bool)
    if not len(out):
        return off
    if not len(roads.edges):
        assert surface is not None
        off[out] = ~shapely.contains(surface.geometry, ego[out])
        return off
    touching, _ = roads.edge_tree.query(ego[out], predicate="dwithin", distance=EDGE_M)
    off[out[touching]] = True
    left = out[~off[out]]
    if surface is not None:
        left = left[~shapely.intersects(surface.geometry, ego[left])]
    if len(roads.lanes.lanes) and len(left):
        which, lane = roads.lanes.tree.query_nearest(ego[left], all_matches=False)
        ways = shapely.shortest_line(roads.lanes.polygons[lane], ego[left[which]])
        crossing, _ = roads.edge_tree.query(ways, predicate="dwithin", distance=EDGE_M)
        off[left[which][crossing]] = True
    return off
