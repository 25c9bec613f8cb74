"""Argoverse 2's vector maps (``log_map_archive_*.json``).

The format is that of av2-api, `src/av2/map`: lane segments with a left and a right
boundary, drivable areas, and pedestrian crossings of two edges, all 3D in the city frame.
Sensor logs and motion-forecasting scenarios share it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.scene import Area, Lane, LaneLine, MarkColor, MarkStyle, VectorMap
from omniloop.scenes import bounds
from omniloop.scenes.build import (
    between_boundaries,
    centerline,
    damaged,
    finite_array,
    member,
    read_json,
    to_local,
    without_repeats,
)
from omniloop.scenes.road_edges import road_edges

_STYLES = {
    "SOLID": MarkStyle.SOLID_SINGLE,
    "DASHED": MarkStyle.DASHED_SINGLE,
    "DOUBLE_SOLID": MarkStyle.SOLID_GROUP,
    "DOUBLE_DASH": MarkStyle.DASHED_GROUP,
    "SOLID_DASH": MarkStyle.SOLID_DASHED,
    "DASH_SOLID": MarkStyle.DASHED_SOLID,
}
"""`LaneMarkType` of av2-api without its colour."""

Height = Callable[[Array], Array]
"""Ground heights ``(N,)`` at positions ``(N, 2)`` of the city frame."""

_UNPAINTED = ("NONE", "UNKNOWN")


_SIDES = ("left", "right")
_MAX_LANES = 5_000
_MAX_POINTS = 40_000
"""Of all lanes, areas and crossings. Maps of logs have some hundred lanes of some thousand points;
the time to triangulate points on a circle grows with the square."""


@dataclass(frozen=True, eq=False)
class CityMap:
    """A map file as it was read, its points in the city frame.

    Attributes:
        where: The file, for errors.
        lanes: The lane segments by their ids, but for their boundaries.
        sides: Left and right boundary ``(N, 3)`` of each lane.
        areas: Outlines ``(N, 3)`` of drivable areas.
        crossings: The two edges ``(N, 3)`` of each pedestrian crossing.
    """

    where: str
    lanes: dict[str, Any]
    sides: dict[str, tuple[Array, Array]]
    areas: dict[str, Array]
    crossings: dict[str, tuple[Array, Array]]


def find_map(folder: Path) -> Path:
    """The one map file in a folder.

    Raises:
        SceneError: there is none, or there are several.
    """
    found = sorted(folder.glob("log_map_archive_*.json"))
    if len(found) != 1:
        raise SceneError(
            f"holds {len(found)} files log_map_archive_*.json, not one", where=str(folder),
            remedy="copy the log's map again from the dataset",
        )  # fmt: skip
    return found[0]


def read_city_map(path: Path) -> CityMap:
    """Read a map file.

    Raises:
        SceneError: it cannot be read, is not JSON, or lacks one of its parts.
    """
    raw, where = read_json(path), str(path)
    parts = []
    for key in ("lane_segments", "drivable_areas", "pedestrian_crossings"):
        part = member(raw, key, where)
        if not isinstance(part, dict):
            raise damaged(f"'{key}' is a {type(part).__name__}, not a mapping", where)
        bounds.check_names(part, f"{where}, {key}")
        parts.append(part)
    bounds.check_count(sum(map(len, parts)), bounds.MAX_MAP_ELEMENTS, "map elements", where)
    lanes, areas, crossings = parts
    bounds.check_count(len(lanes), _MAX_LANES, "lanes", where)
    found = CityMap(
        where, lanes,
        {
            name: _pair(lane, "left_lane_boundary", "right_lane_boundary", f"{where}, lane {name}")
            for name, lane in lanes.items()
        },
        {
            name: _points(area, "area_boundary", f"{where}, drivable area {name}")
            for name, area in areas.items()
        },
        {
            name: _pair(crossing, "edge1", "edge2", f"{where}, pedestrian crossing {name}")
            for name, crossing in crossings.items()
        },
    )  # fmt: skip
    pairs = (*found.sides.values(), *found.crossings.values())
    count = sum(len(line) for pair in pairs for line in pair) + sum(map(len, found.areas.values()))
    bounds.check_count(count, _MAX_POINTS, "points", where)
    return found


def vector_map(city: CityMap, origin_m: Array) -> VectorMap:
    """The map in `local`.

    Each painted line comes once, though both lanes beside it list it. Neighbours are kept
    only if they run the same way. Links to lanes outside the map are dropped, and
    predecessors are completed from successors (some files list these only). Argoverse 2
    has no road edges: they are the outline of all drivable areas together, without the
    parts that cut across a lane, where the map ends.

    Raises:
        SceneError: a part lacks a key or holds other than finite points.
    """
    lanes, lines = _lanes(city, origin_m)
    areas = _areas(city.areas, "drivable area", city.where, origin_m)
    rings = {
        name: _crossing(*edges, f"{city.where}, pedestrian crossing {name}")
        for name, edges in city.crossings.items()
    }
    crossings = _areas(rings, "pedestrian crossing", city.where, origin_m)
    with np.errstate(divide="ignore", invalid="ignore"):  # of GEOS, at mitres of sharp corners
        edges = road_edges(areas, lanes)
    return VectorMap(
        lanes=lanes, lane_lines=lines, road_boundaries=edges,
        drivable_areas=areas, crosswalks=crossings,
    )  # fmt: skip


def ground_height(city: CityMap) -> Height:
    """The map's ground: a function of city positions ``(N, 2)`` to heights ``(N,)``.

    Between the map's vertices heights are interpolated linearly on their Delaunay
    triangles; outside their hull the nearest vertex counts.

    Raises:
        SceneError: the map has no vertex.
    """
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
    from scipy.spatial import QhullError

    parts = [side for both in city.sides.values() for side in both] + list(city.areas.values())
    if not sum(map(len, parts)):
        raise damaged("has neither lanes nor drivable areas", city.where)
    vertices = np.concatenate(parts)
    _, first = np.unique(vertices[:, :2], axis=0, return_index=True)
    xy, z = vertices[first, :2], vertices[first, 2]
    middle = xy.mean(axis=0)  # city coordinates reach 10 km: triangulate near zero
    near = NearestNDInterpolator(xy - middle, z)
    try:
        inside: Height = LinearNDInterpolator(xy - middle, z)
    except (QhullError, ValueError):  # fewer than three vertices, or all on one line
        inside = near

    def height(points_xy: Array) -> Array:
        query = np.asarray(points_xy, dtype=np.float64) - middle
        out = np.asarray(inside(query), dtype=np.float64)
        unknown = np.isnan(out)
        out[unknown] = near(query[unknown])
        return out

    return height


def _points(part: Any, key: str, where: str) -> Array:
    listed = member(part, key, where)
    if not isinstance(listed, list):
        raise damaged(f"{key} is a {type(listed).__name__}, not a list of points", where)
    xyz = [[member(p, axis, where) for axis in "xyz"] for p in listed]
    points = finite_array(xyz or np.zeros((0, 3)), (None, 3), key, where)
    return bounds.check_numbers(points, key, where)


def _pair(part: Any, one: str, other: str, where: str) -> tuple[Array, Array]:
    return _points(part, one, where), _points(part, other, where)


def _lanes(city: CityMap, origin_m: Array) -> tuple[tuple[Lane, ...], tuple[LaneLine, ...]]:
    sides = {
        name: tuple(without_repeats(to_local(side, origin_m)) for side in both)
        for name, both in city.sides.items()
    }
    short = [name for name, both in sides.items() if min(map(len, both)) < 2]
    if short:
        raise SceneError(
            f"a boundary of lane {short[0]} has fewer than two points", where=city.where,
            remedy="copy the map again from the dataset",
        )  # fmt: skip
    bounds.check_lanes_length([side for both in sides.values() for side in both], city.where)
    before: dict[str, dict[str, None]] = {name: {} for name in city.lanes}
    after: dict[str, dict[str, None]] = {name: {} for name in city.lanes}
    for name, lane in city.lanes.items():
        here = f"{city.where}, lane {name}"
        links = [(name, n) for n in _names(lane, "successors", here)]
        links += [(n, name) for n in _names(lane, "predecessors", here)]
        for source, target in links:
            if source in before and target in before:
                after[source][target] = None
                before[target][source] = None
    lines: dict[bytes, LaneLine] = {}
    lanes = []
    for name, lane in city.lanes.items():
        here = f"{city.where}, lane {name}"
        left, right = sides[name]
        beside, painted = {}, {}
        for side, points in zip(_SIDES, (left, right), strict=True):
            other = _name(lane, f"{side}_neighbor_id", here)
            same = other in sides and _same_way(left, sides[other][0])
            beside[side] = other if same else None
            painted[side] = _line(lines, f"{name}-{side}", points, lane, side, here)
        lanes.append(
            Lane(
                id=name,
                centerline=centerline(left, right),
                left=left,
                right=right,
                polygon=_outline(between_boundaries(left, right), here),
                kind=str(_name(lane, "lane_type", here)).lower(),
                in_intersection=bool(member(lane, "is_intersection", here)),
                successors=tuple(after[name]),
                predecessors=tuple(before[name]),
                left_lane=beside["left"],
                right_lane=beside["right"],
                left_line=painted["left"],
                right_line=painted["right"],
            )
        )
    return tuple(lanes), tuple(lines.values())


def _names(lane: Any, key: str, where: str) -> list[str]:
    return bounds.names_of(member(lane, key, where), key, where)


def _name(lane: Any, key: str, where: str) -> str | None:
    value = member(lane, key, where)
    return None if value is None else bounds.name_of(value, key, where)


def _outline(ring: Array, where: str) -> Array:
    """A closed outline ``(P, 3)`` that has corners enough, and is not a tangle."""
    if len(ring) < 3:
        raise damaged(f"has an outline of {len(ring)} different points, not 3 or more", where)
    if not shapely.is_valid(shapely.Polygon(ring[:, :2])):
        bounds.check_tangled(ring[:, :2], where)
    return ring


def _areas(rings: dict[str, Array], what: str, where: str, origin_m: Array) -> tuple[Area, ...]:
    return tuple(
        Area(
            name,
            _outline(
                without_repeats(to_local(ring, origin_m), closed=True), f"{where}, {what} {name}"
            ),
        )
        for name, ring in rings.items()
    )


def _same_way(a: Array, b: Array) -> bool:
    return bool((a[-1] - a[0])[:2] @ (b[-1] - b[0])[:2] > 0)


def _line(
    lines: dict[bytes, LaneLine], name: str, points: Array, lane: Any, side: str, where: str
) -> str | None:
    """Enter a boundary's paint into `lines` unless it is there; return the line's id."""
    mark = bounds.name_of(member(lane, f"{side}_lane_mark_type", where), "lane mark type", where)
    if mark in _UNPAINTED:
        return None
    style, _, color = mark.rpartition("_")
    if style not in _STYLES or color not in MarkColor.__members__:
        raise SceneError(
            f"lane mark type '{mark}' is unknown", where=where,
            remedy="use one of av2-api's LaneMarkType",
        )  # fmt: skip
    # Lanes on both sides list the same vertices, opposite ones in opposite order.
    key = min((round_trip := np.round(points, 2) + 0.0).tobytes(), round_trip[::-1].tobytes())
    if key not in lines:
        lines[key] = LaneLine(name, points, _STYLES[style], MarkColor[color])
    return lines[key].id


def _crossing(one: Array, two: Array, where: str) -> Array:
    if len(one) < 2 or len(two) < 2:
        raise damaged("an edge has fewer than two points", where)
    return np.concatenate([one, two[::-1] if _same_way(one, two) else two])
