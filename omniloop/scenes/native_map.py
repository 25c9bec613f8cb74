"""The vector map in a native bundle: attributes as JSON, points as one numbered table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from omniloop.core.errors import SceneError
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
from omniloop.scenes import native_schema as schema
from omniloop.scenes.native_tables import POINT_COLUMNS, read_table, stack


class _LineWriter:
    """Numbers lines in the order of first use; equal lines share a number."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._number: dict[bytes, int] = {}
        self._lines: list[Array] = []

    def add(self, points: Array, element: str) -> int:
        line = np.ascontiguousarray(points, dtype=np.float64)
        if line.ndim != 2 or line.shape[1] != 3:
            raise SceneError(
                f"points of shape {line.shape} are not (N, 3)",
                where=f"{self._where}, {element}", remedy="give x, y and z of every point",
            )  # fmt: skip
        key = line.tobytes()
        if key not in self._number:
            self._number[key] = len(self._lines)
            self._lines.append(line)
        return self._number[key]

    def optional(self, points: Array | None, element: str) -> int | None:
        return None if points is None else self.add(points, element)

    @property
    def count(self) -> int:
        return len(self._lines)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        points = np.concatenate([np.zeros((0, 3)), *self._lines])
        counts = [len(line) for line in self._lines]
        return {
            "line": np.repeat(np.arange(len(counts), dtype=np.int32), counts),
            **{name: points[:, i] for i, name in enumerate(POINT_COLUMNS)},
        }


class _LineReader:
    """Points of numbered lines; a number without rows is an empty line."""

    def __init__(self, data: bytes, count: int, where: str) -> None:
        columns = read_table(data, {"line": "i", **dict.fromkeys(POINT_COLUMNS, "f")}, where)
        index = columns["line"].astype(np.int64)
        if len(index) and (index[0] < 0 or index[-1] >= count or (np.diff(index) < 0).any()):
            raise SceneError(
                f"line numbers are unsorted or outside 0..{count - 1}",
                where=where,
                remedy="sort the rows by line, number the lines from 0, state their count as 'lines' in map.json",
            )
        self._where = where
        self._count = count
        self._bounds = np.searchsorted(index, np.arange(count + 1))
        self._points = stack(columns, POINT_COLUMNS)

    def get(self, number: int) -> Array:
        if number >= self._count:
            raise SceneError(
                f"line {number} is not among the {self._count} lines",
                where=self._where, remedy="mend the number in map.json",
            )  # fmt: skip
        return self._points[self._bounds[number] : self._bounds[number + 1]]

    def optional(self, number: int | None) -> Array | None:
        return None if number is None else self.get(number)


def encode_map(
    vector_map: VectorMap, where: str
) -> tuple[schema.MapDoc, dict[str, NDArray[np.generic]]]:
    """Return the document and the columns of the points of a map.

    Raises:
        SceneError: points are not ``(N, 3)``.
        pydantic.ValidationError: another attribute is not of its type.
    """
    lines = _LineWriter(where)
    document = {
        "lanes": tuple(_lane_doc(lane, lines) for lane in vector_map.lanes),
        "lane_lines": tuple(
            {
                "id": e.id, "points": lines.add(e.points, f"lane line {e.id}"),
                "style": e.style.value, "color": e.color.value,
            }
            for e in vector_map.lane_lines
        ),
        "road_boundaries": tuple(
            _polyline_doc(e, lines, "road boundary") for e in vector_map.road_boundaries
        ),
        "drivable_areas": tuple(_area_doc(e, lines, "drivable area") for e in vector_map.drivable_areas),
        "crosswalks": tuple(_area_doc(e, lines, "crosswalk") for e in vector_map.crosswalks),
        "stop_lines": tuple(_polyline_doc(e, lines, "stop line") for e in vector_map.stop_lines),
        "signs": tuple(
            {
                "id": e.id, "local_to_sign": _floats(e.local_to_sign), "size_m": _floats(e.size_m),
                "kind": e.kind, "lanes": tuple(e.lanes),
            }
            for e in vector_map.signs
        ),
        "lights": tuple(
            {
                "id": e.id, "local_to_light": _floats(e.local_to_light), "size_m": _floats(e.size_m),
                "lanes": tuple(e.lanes), "times_us": tuple(int(t) for t in e.times_us),
                "states": tuple(e.states),
            }
            for e in vector_map.lights
        ),
        "features": tuple(
            {
                "id": e.id, "kind": e.kind, "points": lines.add(e.points, f"{e.kind} {e.id}"),
                "category": e.category,
            }
            for e in vector_map.features
        ),
    }  # fmt: skip
    columns = lines.columns()
    return schema.MapDoc.model_validate({"lines": lines.count, **document}), columns


def decode_map(document: schema.MapDoc, points: bytes, where: str) -> VectorMap:
    """Return the map of a document and the file of its points.

    Raises:
        SceneError: the points are damaged or lack a line that the document names.
    """
    lines = _LineReader(points, document.lines, f"{where}, map_points.parquet")
    return VectorMap(
        lanes=tuple(_lane(doc, lines) for doc in document.lanes),
        lane_lines=tuple(
            LaneLine(doc.id, lines.get(doc.points), MarkStyle(doc.style), MarkColor(doc.color))
            for doc in document.lane_lines
        ),
        road_boundaries=tuple(_polyline(doc, lines) for doc in document.road_boundaries),
        drivable_areas=tuple(_area(doc, lines) for doc in document.drivable_areas),
        crosswalks=tuple(_area(doc, lines) for doc in document.crosswalks),
        stop_lines=tuple(_polyline(doc, lines) for doc in document.stop_lines),
        signs=tuple(
            TrafficSign(d.id, np.array(d.local_to_sign), np.array(d.size_m), d.kind, d.lanes)
            for d in document.signs
        ),
        lights=tuple(
            TrafficLight(
                d.id, np.array(d.local_to_light), np.array(d.size_m), d.lanes,
                np.array(d.times_us, dtype=np.int64), d.states,
            )
            for d in document.lights
        ),
        features=tuple(
            MapFeature(d.id, d.kind, lines.get(d.points), d.category) for d in document.features
        ),
    )  # fmt: skip


def _floats(values: Array) -> tuple[float, ...]:
    return tuple(np.asarray(values, dtype=np.float64).tolist())


def _lane_doc(lane: Lane, lines: _LineWriter) -> dict[str, object]:
    element = f"lane {lane.id}"
    limit = lane.speed_limit_mps
    return {
        "id": lane.id,
        "centerline": lines.add(lane.centerline, element),
        "left": lines.optional(lane.left, element),
        "right": lines.optional(lane.right, element),
        "polygon": lines.optional(lane.polygon, element),
        "kind": lane.kind,
        "in_intersection": bool(lane.in_intersection),
        "speed_limit_mps": None if limit is None else float(limit),
        "successors": tuple(lane.successors),
        "predecessors": tuple(lane.predecessors),
        "left_lane": lane.left_lane,
        "right_lane": lane.right_lane,
        "left_line": lane.left_line,
        "right_line": lane.right_line,
    }


def _lane(doc: schema.LaneDoc, lines: _LineReader) -> Lane:
    return Lane(
        doc.id, lines.get(doc.centerline), lines.optional(doc.left), lines.optional(doc.right),
        lines.optional(doc.polygon), doc.kind, doc.in_intersection, doc.speed_limit_mps,
        doc.successors, doc.predecessors, doc.left_lane, doc.right_lane, doc.left_line, doc.right_line,
    )  # fmt: skip


def _polyline_doc(element: Polyline, lines: _LineWriter, kind: str) -> dict[str, object]:
    points = lines.add(element.points, f"{kind} {element.id}")
    return {"id": element.id, "points": points, "lanes": tuple(element.lanes)}


def _polyline(doc: schema.PolylineDoc, lines: _LineReader) -> Polyline:
    return Polyline(doc.id, lines.get(doc.points), doc.lanes)


def _area_doc(area: Area, lines: _LineWriter, kind: str) -> dict[str, object]:
    element = f"{kind} {area.id}"
    return {
        "id": area.id,
        "outline": lines.add(area.outline, element),
        "holes": tuple(lines.add(hole, element) for hole in area.holes),
    }


def _area(doc: schema.AreaDoc, lines: _LineReader) -> Area:
    return Area(doc.id, lines.get(doc.outline), tuple(lines.get(hole) for hole in doc.holes))
