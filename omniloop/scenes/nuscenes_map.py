"""Map features of nuScenes scenes converted by ScenarioNet, as a vector map.

The map is planar, and the third number of a lane's points is no height but its heading:
the converter stores nuscenes-devkit's `discretize_lane`, which gives x, y and yaw. Every
element lies at z = 0, the ground.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import shapely

from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.scene import Area, Lane, LaneLine, MarkColor, MarkStyle, Polyline, VectorMap
from omniloop.scenes.bounds import (
    MAX_MAP_ELEMENTS,
    check_count,
    check_names,
    check_numbers,
    check_tangled,
    name_of,
    names_of,
)
from omniloop.scenes.build import damaged, finite_array, member, to_local, without_repeats
from omniloop.scenes.road_edges import road_edges

_STYLES = {
    "SOLID_SINGLE": MarkStyle.SOLID_SINGLE,
    "SOLID_DOUBLE": MarkStyle.SOLID_GROUP,
    "BROKEN_SINGLE": MarkStyle.DASHED_SINGLE,
    "BROKEN_DOUBLE": MarkStyle.DASHED_GROUP,
    "PASSING_DOUBLE": MarkStyle.SOLID_DASHED,
}
_ROAD_OUTLINE = "boundary_"
"""Ids that the converter gives to the rings round the drivable area."""

_MAX_OUTLINES = 1_000
"""Scenes have tens; the time to overlay them grows with the square."""

_SURFACES = ("Polygon", "MultiPolygon")

_JOINED_M = 0.1
"""Lanes and connectors that follow each other share an end to within millimetres."""


def vector_map(features: Any, origin_m: Array, where: str) -> VectorMap:
    """Turn ScenarioNet's ``map_features`` into a map in `local`.

    * Lanes have an outline; lane connectors, which lead through intersections, have none.
      Neither has known sides. Their ``speed_limit_kmh`` of 100 is the converter's filler.
    * Lanes are linked by ``entry_lanes`` and ``exit_lanes`` or, without these, where one
      ends within 10 cm of where another begins.
    * Lane dividers come as dashed white lines and road dividers as solid yellow ones: the
      converter's choice, as nuScenes' map does not record paint.
    * White solid lines called ``boundary_N`` are rings round nuScenes' drivable area. By the
      even-odd rule they become drivable areas with holes, and these the road boundaries.
    * Features of other types (walkways) have no place in a vector map and are left out.

    Raises:
        SceneError: a feature lacks a key or holds other than finite points.
    """
    if not isinstance(features, dict):
        raise damaged(f"map_features is a {type(features).__name__}, not a mapping", where)
    check_names(features, f"{where}, map_features")
    check_count(len(features), MAX_MAP_ELEMENTS, "map features", where)
    lanes: dict[str, Lane] = {}
    links: list[tuple[str, str]] = []
    lines, edges, crosswalks = [], [], []
    rings: dict[str, Array] = {}
    linked = False
    for name, feature in features.items():
        here = f"{where}, map feature {name}"
        kind = name_of(member(feature, "type", here), "type", here)
        if kind.startswith("LANE"):
            lanes[name] = _lane(name, kind, feature, origin_m, here)
            linked = linked or "entry_lanes" in feature or "exit_lanes" in feature
            before = names_of(feature.get("entry_lanes"), "entry_lanes", here)
            after = names_of(feature.get("exit_lanes"), "exit_lanes", here)
            links += [(other, name) for other in before] + [(name, other) for other in after]
        elif name.startswith(_ROAD_OUTLINE):
            rings[name] = _points(feature, "polyline", origin_m, here)
        elif kind.startswith("ROAD_EDGE"):
            edges.append(Polyline(name, _points(feature, "polyline", origin_m, here)))
        elif kind.startswith("ROAD_LINE_"):
            lines.append(_line(name, kind, feature, origin_m, here))
        elif kind == "CROSSWALK":
            crosswalks.append(Area(name, _ring(_points(feature, "polygon", origin_m, here), here)))
    linked_lanes = _linked(lanes, links if linked else _touching(lanes))
    areas = _drivable(rings, where)
    return VectorMap(
        lanes=linked_lanes,
        lane_lines=tuple(lines),
        road_boundaries=(*edges, *road_edges(areas, linked_lanes)),
        drivable_areas=areas,
        crosswalks=tuple(crosswalks),
    )


def _points(feature: Any, key: str, origin_m: Array, where: str) -> Array:
    """Points ``(N, 3)`` on the ground; the third number, if any, is dropped."""
    listed = member(feature, key, where)
    if not isinstance(listed, list) or not all(isinstance(p, list) and len(p) >= 2 for p in listed):
        raise SceneError(
            f"{key} is not a list of points", where=where, remedy="convert the scene again"
        )
    xy = finite_array([p[:2] for p in listed] or np.zeros((0, 2)), (None, 2), key, where)
    check_numbers(xy, key, where)
    points = without_repeats(to_local(np.column_stack([xy, np.zeros(len(xy))]), origin_m))
    if len(points) < 2:
        raise SceneError(
            f"{key} has fewer than two points",
            where=where,
            remedy="convert the scene again, or drop the feature",
        )
    return points


def _ring(points: Array, where: str) -> Array:
    ring = without_repeats(points, closed=True)
    if len(ring) < 3:
        raise SceneError(
            "polygon has fewer than three corners", where=where, remedy="drop the feature"
        )
    return ring


def _lane(name: str, kind: str, feature: Any, origin_m: Array, where: str) -> Lane:
    outlined = bool(feature.get("polygon"))
    return Lane(
        id=name,
        centerline=_points(feature, "polyline", origin_m, where),
        polygon=_ring(_points(feature, "polygon", origin_m, where), where) if outlined else None,
        kind="bike" if "BIKE" in kind else "vehicle",
        in_intersection=not outlined,
    )


def _line(name: str, kind: str, feature: Any, origin_m: Array, where: str) -> LaneLine:
    style, _, color = kind.removeprefix("ROAD_LINE_").rpartition("_")
    return LaneLine(
        name,
        _points(feature, "polyline", origin_m, where),
        _STYLES.get(style, MarkStyle.SOLID_SINGLE),
        MarkColor.__members__.get(color, MarkColor.UNKNOWN),
    )


def _touching(lanes: dict[str, Lane]) -> list[tuple[str, str]]:
    if not lanes:
        return []
    from scipy.spatial import cKDTree

    names = list(lanes)
    starts = cKDTree([lanes[n].centerline[0, :2] for n in names])
    ends = np.array([lanes[n].centerline[-1, :2] for n in names])
    return [
        (names[i], names[j])
        for i, near in enumerate(starts.query_ball_point(ends, _JOINED_M))
        for j in sorted(near)
        if i != j
    ]


def _linked(lanes: dict[str, Lane], links: list[tuple[str, str]]) -> tuple[Lane, ...]:
    after: dict[str, dict[str, None]] = {name: {} for name in lanes}
    before: dict[str, dict[str, None]] = {name: {} for name in lanes}
    for source, target in links:
        if source in lanes and target in lanes:
            after[source][target] = None
            before[target][source] = None
    return tuple(
        replace(lane, successors=tuple(after[name]), predecessors=tuple(before[name]))
        for name, lane in lanes.items()
    )


def _drivable(rings: dict[str, Array], where: str) -> tuple[Area, ...]:
    closed = {
        name: ring[:, :2]
        for name, ring in rings.items()
        if len(ring) > 3 and (ring[0, :2] == ring[-1, :2]).all()
    }
    check_count(len(closed), _MAX_OUTLINES, "outlines of the drivable area", where)
    if not closed:
        return ()
    surface: shapely.Geometry = shapely.Polygon()
    for name, ring in closed.items():
        surface = shapely.symmetric_difference(surface, _surface(ring, f"{where}, {name}"))
    parts = [p for p in shapely.get_parts(surface) if p.geom_type == "Polygon"]
    return tuple(
        Area(
            f"drivable-{i}",
            _flat(part.exterior.coords),
            tuple(_flat(hole.coords) for hole in part.interiors),
        )
        for i, part in enumerate(parts)
    )


def _surface(ring: Array, where: str) -> shapely.Geometry:
    """What a closed ring encloses; by the even-odd rule where it crosses or touches itself.

    Raises:
        SceneError: it does so very often: the time to mend it grows with the square.
    """
    found = shapely.Polygon(ring)
    if shapely.is_valid(found):
        return found
    check_tangled(ring[:-1], where)
    mended = shapely.get_parts(shapely.make_valid(found))
    return shapely.union_all([part for part in mended if part.geom_type in _SURFACES])


def _flat(coords: Any) -> Array:
    xy = np.asarray(coords, dtype=np.float64)[:-1, :2]
    return np.column_stack([xy, np.zeros(len(xy))])
