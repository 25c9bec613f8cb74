"""The map in ClipGT tables (contracts.md 2.6, alpasim.md 6.3).

Elements with points that are not finite, or with too few, are passed over, as NVIDIA's
readers do; what was passed over is told. Unknown line styles are drawn as those readers
draw them. A lane without a row in ``lane`` may come from the newer ``dw_lane`` instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.scene import (
    Area,
    Lane,
    LaneLine,
    MapFeature,
    MarkColor,
    MarkStyle,
    Polyline,
    TrafficLight,
    TrafficSign,
    VectorMap,
)
from omniloop.scenes.clipgt_lanes_dw import read_dw_lanes
from omniloop.scenes.clipgt_tables import FEATURE_TABLES, MPH_MPS, TableReader
from omniloop.scenes.clipgt_write import lane_rails

T = TypeVar("T")

MISSING_LANES = "there is no table of lanes"


def read_map(
    clip_id: str, files: Mapping[str, bytes], where: str
) -> tuple[VectorMap, tuple[str, ...]]:
    """Read the map tables of a clip; a table that is not there has no elements.

    Args:
        files: Parquet files by table.

    Returns:
        The map, and one line about each thing that was left out or mended.

    Raises:
        SceneError: a table is damaged.
    """
    read = _MapReader(clip_id, files, where)
    return read.map(), tuple(read.notes)


class _MapReader:
    def __init__(self, clip_id: str, files: Mapping[str, bytes], where: str) -> None:
        self._clip_id = clip_id
        self._files = files
        self._where = where
        self.notes: list[str] = []

    def _table(self, name: str) -> TableReader:
        place = f"{self._clip_id}.{name}" if self._clip_id else name
        table = TableReader(name, self._files.get(name), f"{self._where}, {place}")
        if name in self._files and not len(table):
            self.notes.append(f"table {name} has no elements")
        return table

    def _usable(
        self, name: str, keys: list[T], lines: list[Array], fewest: int
    ) -> list[tuple[T, Array]]:
        kept = [
            (key, points)
            for key, points in zip(keys, lines, strict=True)
            if len(points) >= fewest and np.isfinite(points).all()
        ]
        self._left_out(name, len(keys) - len(kept), len(keys), f"fewer than {fewest} points or ")
        return kept

    def _left_out(self, name: str, left_out: int, of: int, or_else: str = "") -> None:
        if left_out:
            self.notes.append(
                f"table {name}: {left_out} of {of} elements left out:"
                f" {or_else}numbers that are missing or not finite"
            )

    def map(self) -> VectorMap:
        links = self._associations()
        ruled = _lanes_by_element(links)
        return VectorMap(
            lanes=self._lanes(links),
            lane_lines=self._lane_lines(),
            road_boundaries=tuple(Polyline(i, x) for i, x in self._shapes("road_boundary", 2)),
            crosswalks=tuple(Area(i, _open_ring(x)) for i, x in self._shapes("crosswalk", 3)),
            stop_lines=self._stop_lines(ruled),
            signs=tuple(
                TrafficSign(name, pose, size, kind, ruled.get(("SIGN_TO_LANE", name), ()))
                for name, pose, size, kind in self._boxes("traffic_sign")
            ),
            lights=tuple(
                TrafficLight(name, pose, size, ruled.get(("LIGHT_TO_LANE", name), ()))
                for name, pose, size, _ in self._boxes("traffic_light")
            ),
            features=tuple(f for name in FEATURE_TABLES for f in self._features(name)),
        )

    def _shapes(self, name: str, fewest: int) -> list[tuple[str, Array]]:
        table = self._table(name)
        return self._usable(name, _ids(table), table.polylines("location"), fewest)

    def _features(self, name: str) -> list[MapFeature]:
        table = self._table(name)
        rows = list(zip(_ids(table), table.texts("category"), strict=True))
        lines = table.polylines("location")
        return [
            MapFeature(key, name, _open_ring(points) if name != "pole" else points, category)
            for (key, category), points in self._usable(name, rows, lines, FEATURE_TABLES[name])
        ]

    def _lane_lines(self) -> tuple[LaneLine, ...]:
        table = self._table("lane_line")
        field = "line_rail" if table.has("line_rail") or not table.has("path") else "path"
        styles, colors = table.text_lists("styles"), table.text_lists("colors")
        rows = self._usable("lane_line", list(range(len(table))), table.polylines(field), 2)
        names = _ids(table)
        return tuple(
            LaneLine(names[i], points, _style(styles[i]), _color(colors[i])) for i, points in rows
        )

    def _stop_lines(self, ruled: Links) -> tuple[Polyline, ...]:
        """One line for all rows of a wait id; each row's id names one of its lanes."""
        lines: dict[str, Polyline] = {}
        for name, points in self._shapes("wait_line", 2):
            wait_id, _, lane = name.partition("-")
            before = lines.get(wait_id, Polyline(wait_id, points))
            more = (lane,) if lane else ruled.get(("WAIT_LINE_TO_LANE", name), ())
            lanes = (*before.lanes, *(x for x in more if x not in before.lanes))
            lines[wait_id] = replace(before, lanes=lanes)
        return tuple(lines.values())

    def _lanes(self, links: Links) -> tuple[Lane, ...]:
        if "lane" not in self._files and {"dw_lane", "lane_chunk"} <= self._files.keys():
            seen, notes = read_dw_lanes(self._table("dw_lane"), self._table("lane_chunk"))
            self.notes += notes
            return seen
        table = self._table("lane")
        left, right = table.polylines("left_rail"), table.polylines("right_rail")
        limits, kinds = table.numbers("speed_limit"), table.text_lists("vehicle_types")
        crossing = {
            name
            for (kind, subject), objects in links.items()
            if kind == "INTERSECTION_AREA_TO_LANE"
            for name in (subject, *objects)
        }
        lanes: list[Lane] = []
        unequal = 0
        for i, (name, a, b) in enumerate(zip(_ids(table), left, right, strict=True)):
            if min(len(a), len(b)) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
                continue
            unequal += len(a) != len(b)
            rails = lane_rails(Lane(name, a, a, b))
            lanes.append(
                Lane(
                    name, (rails[0] + rails[1]) / 2, left=a, right=b,
                    kind=_kind(kinds[i]), in_intersection=name in crossing,
                    speed_limit_mps=_limit_mps(float(limits[i])),
                    successors=links.get(("NEXT_LANE", name), ()),
                    predecessors=links.get(("PREVIOUS_LANE", name), ()),
                    left_lane=next(iter(links.get(("LEFT_LANE", name), ())), None),
                    right_lane=next(iter(links.get(("RIGHT_LANE", name), ())), None),
                )
            )  # fmt: skip
        self._left_out("lane", len(table) - len(lanes), len(table), "fewer than 2 points or ")
        if unequal:
            self.notes.append(
                f"table lane: {unequal} of {len(table)} lanes have unequal numbers of points left"
                " and right; their centre lines are between equal parts of both lengths"
            )
        return tuple(lanes)

    def _associations(self) -> Links:
        table = self._table("association")
        kinds, objects = table.texts("kind", "key"), table.text_lists("objects")
        found: Links = {}
        for kind, subjects, row in zip(kinds, table.text_lists("subjects"), objects, strict=True):
            for subject in subjects:
                found[kind, subject] = found.get((kind, subject), ()) + tuple(row)
        return found

    def _boxes(self, name: str) -> list[tuple[str, Array, Array, str]]:
        table = self._table(name)
        poses = poses_of(table.vectors("center"), table.vectors("orientation", "xyzw"))
        sizes, kinds = table.vectors("dimensions"), table.texts("category")
        usable = np.isfinite(poses).all(axis=1) & np.isfinite(sizes).all(axis=1)
        self._left_out(name, len(table) - int(usable.sum()), len(table))
        ids = _ids(table)
        return [(ids[i], poses[i], sizes[i], kinds[i]) for i in np.flatnonzero(usable).tolist()]


Links = dict[tuple[str, str], tuple[str, ...]]
"""Objects by kind and subject."""


def _lanes_by_element(links: Links) -> Links:
    """Links of elements to lanes, said in whichever direction, by the element."""
    out: Links = {}
    for (kind, subject), objects in links.items():
        if kind.endswith("_TO_LANE"):
            for name in objects:
                out[kind, name] = (*out.get((kind, name), ()), subject)
    return out | {key: found for key, found in links.items() if key[0].endswith("_TO_LANE")}


def _ids(table: TableReader) -> list[str]:
    """Map ids; the row's number where there is none."""
    return [name or str(row) for row, name in enumerate(table.texts("map_id", "key"))]


def poses_of(position: Array, orientation: Array) -> Array:
    """Poses ``(N, 7)`` with unit quaternions; NaN where a quaternion is none."""
    length = np.linalg.norm(orientation, axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = np.where(length > 1e-6, orientation / length, np.nan)
    return np.concatenate([position, unit], axis=1)


def _open_ring(points: Array) -> Array:
    """Without a last point that repeats the first."""
    return points[:-1] if len(points) > 3 and (points[0] == points[-1]).all() else points


def _limit_mps(limit_mph: float) -> float | None:
    known = np.isfinite(limit_mph) and limit_mph > 0
    return round(limit_mph * MPH_MPS, 6) if known else None


def _kind(vehicle_types: list[str]) -> str:
    kinds = [x.lower() for x in vehicle_types]
    return "vehicle" if not kinds or "car" in kinds else kinds[0]


def _style(styles: list[str]) -> MarkStyle:
    name = styles[0].upper() if styles else "SOLID_SINGLE"
    if name in MarkStyle.__members__:
        return MarkStyle[name]
    if name == "VIRTUAL":
        return MarkStyle.NONE
    if "DOT" in name or "SHORT" in name:
        return MarkStyle.SHORT_DASHED_SINGLE
    solid = "SOLID" in name and "DASHED" not in name
    return MarkStyle.SOLID_SINGLE if solid else MarkStyle.LONG_DASHED_SINGLE


def _color(colors: list[str]) -> MarkColor:
    name = colors[0].upper() if colors else "WHITE"
    return MarkColor[name] if name in MarkColor.__members__ else MarkColor.UNKNOWN
