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

from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.scene import Area, Lane, LaneLine, MarkColor, MarkStyle, VectorMap
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


@dataclass(frozen=True, eq=False)
class CityMap:
    """A map file as it was read.

    Attributes:
        where: The file, for errors.
        lanes, areas, crossings: Its parts by their ids.
    """

    where: str
    lanes: dict[str, Any]
    areas: dict[str, Any]
    crossings: dict[str, Any]


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
        parts.append({str(name): value for name, value in part.items()})
    return CityMap(where, *parts)


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
    areas = tuple(_area(name, a, city.where, origin_m) for name, a in city.areas.items())
    crossings = tuple(
        _crossing(name, c, city.where, origin_m) for name, c in city.crossings.items()
    )
    return VectorMap(
        lanes=lanes, lane_lines=lines, road_boundaries=road_edges(areas, lanes),
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

    zero = np.zeros(3)
    parts = [_points(lane, f"{side}_lane_boundary", city.where, zero)
             for lane in city.lanes.values() for side in ("left", "right")]  # fmt: skip
    parts += [_points(area, "area_boundary", city.where, zero) for area in city.areas.values()]
    if not parts:
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


def _points(part: Any, key: str, where: str, origin_m: Array) -> Array:
    listed = member(part, key, where)
    here = f"{where}, {key} of {part.get('id')}"
    if not isinstance(listed, list):
        raise damaged(f"{key} is a {type(listed).__name__}, not a list of points", here)
    xyz = [[member(p, axis, here) for axis in "xyz"] for p in listed]
    return to_local(finite_array(xyz or np.zeros((0, 3)), (None, 3), key, here), origin_m)


def _lanes(city: CityMap, origin_m: Array) -> tuple[tuple[Lane, ...], tuple[LaneLine, ...]]:
    sides = {
        name: {
            side: without_repeats(_points(lane, f"{side}_lane_boundary", city.where, origin_m))
            for side in ("left", "right")
        }
        for name, lane in city.lanes.items()
    }
    short = [name for name, both in sides.items() if min(map(len, both.values())) < 2]
    if short:
        raise SceneError(
            f"a boundary of lane {short[0]} has fewer than two points", where=city.where,
            remedy="copy the map again from the dataset",
        )  # fmt: skip
    before: dict[str, list[str]] = {name: [] for name in city.lanes}
    after: dict[str, list[str]] = {name: [] for name in city.lanes}
    for name, lane in city.lanes.items():
        links = [(name, str(n)) for n in member(lane, "successors", city.where)]
        links += [(str(n), name) for n in member(lane, "predecessors", city.where)]
        for source, target in links:
            if source in before and target in before and target not in after[source]:
                after[source].append(target)
                before[target].append(source)
    lines: dict[bytes, LaneLine] = {}
    lanes = []
    for name, lane in city.lanes.items():
        both = sides[name]
        beside, painted = {}, {}
        for side in ("left", "right"):
            other = str(member(lane, f"{side}_neighbor_id", city.where))
            same = other in sides and _same_way(both["left"], sides[other]["left"])
            beside[side] = other if same else None
            painted[side] = _line(lines, f"{name}-{side}", both[side], lane, side, city.where)
        lanes.append(
            Lane(
                id=name,
                centerline=centerline(both["left"], both["right"]),
                left=both["left"],
                right=both["right"],
                polygon=between_boundaries(both["left"], both["right"]),
                kind=str(member(lane, "lane_type", city.where)).lower(),
                in_intersection=bool(member(lane, "is_intersection", city.where)),
                successors=tuple(after[name]),
                predecessors=tuple(before[name]),
                left_lane=beside["left"],
                right_lane=beside["right"],
                left_line=painted["left"],
                right_line=painted["right"],
            )
        )
    return tuple(lanes), tuple(lines.values())


def _same_way(a: Array, b: Array) -> bool:
    return bool((a[-1] - a[0])[:2] @ (b[-1] - b[0])[:2] > 0)


def _line(
    lines: dict[bytes, LaneLine], name: str, points: Array, lane: Any, side: str, where: str
) -> str | None:
    """Enter a boundary's paint into `lines` unless it is there; return the line's id."""
    mark = str(member(lane, f"{side}_lane_mark_type", where))
    if mark in _UNPAINTED:
        return None
    style, _, color = mark.rpartition("_")
    if style not in _STYLES or color not in MarkColor.__members__:
        raise SceneError(
            f"lane mark type '{mark}' is unknown", where=f"{where}, lane {lane.get('id')}",
            remedy="use one of av2-api's LaneMarkType",
        )  # fmt: skip
    # Lanes on both sides list the same vertices, opposite ones in opposite order.
    key = min((round_trip := np.round(points, 2) + 0.0).tobytes(), round_trip[::-1].tobytes())
    if key not in lines:
        lines[key] = LaneLine(name, points, _STYLES[style], MarkColor[color])
    return lines[key].id


def _area(name: str, area: Any, where: str, origin_m: Array) -> Area:
    outline = without_repeats(_points(area, "area_boundary", where, origin_m), closed=True)
    if len(outline) < 3:
        raise damaged(f"drivable area {name} has {len(outline)} points", where)
    return Area(name, outline)


def _crossing(name: str, crossing: Any, where: str, origin_m: Array) -> Area:
    one = _points(crossing, "edge1", where, origin_m)
    two = _points(crossing, "edge2", where, origin_m)
    if len(one) < 2 or len(two) < 2:
        raise damaged(f"an edge of pedestrian crossing {name} has fewer than two points", where)
    other = two[::-1] if _same_way(one, two) else two
    return Area(name, without_repeats(np.concatenate([one, other]), closed=True))
