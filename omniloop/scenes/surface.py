"""The drivable surface of a map, in the plane.

It is the union of the map's drivable areas, holes kept, or, where the map has none, of
its lanes. Seams narrower than 10 cm between neighbours are closed (each part is grown by
5 cm, the union shrunk by as much): lanes of real maps meet with seams of micrometres to
centimetres that nobody can drive off the road through.

Lanes are less than the carriageway, so a lane union gets two things more. Gaps up to 4 m
wide are closed: strips between opposing lanes, and the wedges that turning lanes leave
inside a junction. And where a lane begins or ends with no other lane beyond, the surface
goes on for 5 m: the map ends there, not the road.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from omniloop.core.geometry import Array
from omniloop.core.once import once_per_object
from omniloop.core.scene import Lane, VectorMap

SEAM_M = 0.05
"""Every part of the surface is grown by this, and the union shrunk by it."""

GAP_M = 4.0
"""Gaps of a lane union up to this width count as carriageway."""

MAP_END_M = 5.0
"""How far the surface goes on where a lane ends and nothing is mapped beyond."""

CENTERLINE_HALF_WIDTH_M = 1.85
"""Half the width of a lane of which only the centre line is known (AlpaSim's 3.7 m)."""

NOT_DRIVABLE = frozenset(
    ("sidewalk", "crosswalk", "walkway", "footway", "pedestrian", "stairs", "rail", "tram")
)
"""Words in `Lane.kind` that keep a lane out of the surface. Every other lane counts, bus
and bicycle lanes too: they are carriageway, and driving on them is another offence."""

_ARC_SEGMENTS = 4
"""Segments per quarter circle of a grown corner: the arc is 1 mm off at 5 cm."""


@dataclass(frozen=True, eq=False)
class DrivableSurface:
    """Where a vehicle may drive.

    Attributes:
        kind: "drivable areas" or "lane union".
        geometry: A valid polygon or multipolygon, prepared for point queries.
        from_centerlines: How many of its lanes have no outline: strips of 3.7 m width.
    """

    kind: str
    geometry: shapely.Geometry
    from_centerlines: int = 0

    @functools.cached_property
    def _edges(self) -> shapely.STRtree:
        xy, ring = shapely.get_coordinates(
            shapely.get_parts(shapely.boundary(self.geometry)), return_index=True
        )
        pairs = np.stack([xy[:-1], xy[1:]], axis=1)[ring[:-1] == ring[1:]]
        return shapely.STRtree(shapely.linestrings(pairs))

    def depth_m(self, points_xy: Array) -> Array:
        """How far outside the surface points ``(..., 2)`` lie: ``(...)``, 0 inside."""
        flat = np.asarray(points_xy, dtype=np.float64).reshape(-1, 2)
        depth = np.zeros(len(flat))
        outside = np.flatnonzero(~shapely.contains_xy(self.geometry, flat[:, 0], flat[:, 1]))
        if len(outside):
            (which, _), distance = self._edges.query_nearest(
                shapely.points(flat[outside]), return_distance=True, all_matches=False
            )
            depth[outside[which]] = distance
        return depth.reshape(np.shape(points_xy)[:-1])


@once_per_object
def drivable_surface(vector_map: VectorMap) -> DrivableSurface | None:
    """Build the drivable surface of a map; None if it has no polygon to build it from.

    Lanes without an outline take part as strips around their centre lines, but only
    beside lanes that have one: a surface of guessed widths alone would be no measure.
    """
    areas = _polygons((area.outline, area.holes) for area in vector_map.drivable_areas)
    if len(areas):
        return _surface("drivable areas", areas)
    lanes = [lane for lane in vector_map.lanes if is_drivable(lane)]
    outlines = [lane_outline(lane) for lane in lanes]
    polygons = _polygons((outline, ()) for outline in outlines if outline is not None)
    if not len(polygons):
        return None
    bare = [
        lane.centerline[:, :2]
        for lane, outline in zip(lanes, outlines, strict=True)
        if outline is None and len(lane.centerline) > 1
    ]
    lines = np.array([shapely.LineString(line) for line in bare], dtype=object)
    strips = shapely.buffer(
        lines, CENTERLINE_HALF_WIDTH_M, cap_style="flat", quad_segs=_ARC_SEGMENTS
    )
    parts = np.concatenate([polygons, strips])
    ends = _polygons((outline, ()) for outline in _map_ends(lanes, shapely.STRtree(parts)))
    return _surface("lane union", np.concatenate([parts, ends]), len(bare), GAP_M)


def is_drivable(lane: Lane) -> bool:
    """Whether a lane is part of the carriageway, by its kind."""
    return NOT_DRIVABLE.isdisjoint(re.findall("[a-z]+", lane.kind.lower()))


def lane_outline(lane: Lane) -> Array | None:
    """The outline ``(P, 2 or 3)`` of a lane: its polygon, else what its boundaries enclose."""
    if lane.polygon is not None:
        return lane.polygon
    if lane.left is not None and lane.right is not None:
        return np.concatenate([lane.left, lane.right[::-1]])
    return None


def _polygons(rings: Iterable[tuple[Array, tuple[Array, ...]]]) -> NDArray[np.object_]:
    """Valid polygons of outlines with holes; those without an area are left out."""
    out = [
        shapely.Polygon(outline[:, :2], [hole[:, :2] for hole in holes if len(hole) > 2])
        for outline, holes in rings
        if len(outline) > 2
    ]
    polygons = np.array(out, dtype=object)
    broken = ~shapely.is_valid(polygons)
    polygons[broken] = shapely.make_valid(polygons[broken])
    return polygons[shapely.area(polygons) > 0]


def _map_ends(lanes: list[Lane], mapped: shapely.STRtree) -> Iterable[Array]:
    """Outlines ``(4, 2)`` of what lies beyond lane ends where nothing is mapped."""
    for lane in lanes:
        if lane.left is None or lane.right is None or min(len(lane.left), len(lane.right)) < 2:
            continue
        for left, right in (
            (lane.left[-2:, :2], lane.right[-2:, :2]),
            (lane.left[1::-1, :2], lane.right[1::-1, :2]),
        ):
            outline = _beyond(left, right)
            # A fifth of the way, so that a seam between two lanes is no end.
            probe = shapely.Point(0.4 * (outline[0] + outline[3]) + 0.1 * (outline[1] + outline[2]))
            if not len(mapped.query(probe, predicate="intersects")):
                yield outline


def _beyond(one: Array, other: Array) -> Array:
    """Quadrilateral from the last points of two boundaries ``(2, 2)`` straight on."""
    step = (one[1] - one[0]) + (other[1] - other[0])
    ahead = MAP_END_M * step / max(float(np.linalg.norm(step)), 1e-9)
    return np.array([one[1], one[1] + ahead, other[1] + ahead, other[1]])


def _surface(
    kind: str, parts: NDArray[np.object_], from_centerlines: int = 0, gap_m: float = 0.0
) -> DrivableSurface:
    grown = shapely.buffer(parts, SEAM_M, quad_segs=_ARC_SEGMENTS)
    union: shapely.Geometry = shapely.buffer(
        shapely.union_all(grown), -SEAM_M, quad_segs=_ARC_SEGMENTS
    )
    if gap_m:
        # Mitred joins come back to where they were; rounded ones lose 4 cm at a corner.
        closed = shapely.buffer(
            shapely.buffer(union, gap_m / 2, join_style="mitre"), -gap_m / 2, join_style="mitre"
        )
        union = shapely.union(union, closed)
    shapely.prepare(union)
    return DrivableSurface(kind, union, from_centerlines)
