"""Scenarios of the Waymo Open Motion Dataset in JSON, as Nocturne and GPUDrive convert them.

The keys are those of GPUDrive's converter (data_utils/process_waymo_files.py) and of
Nocturne's (scripts/json_generation/waymo_scenario_construction.py), which has no heights, no
ids and does not say who recorded. There are no times: steps are 0.1 s apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from omniloop.core import geometry
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.core.scene import Area, LaneLine, Polyline
from omniloop.scenes.build import (
    LARGEST,
    MAX_DOCUMENT_BYTES,
    damaged,
    finite_array,
    member,
    read_json,
)
from omniloop.scenes.womd_headings import are_degrees
from omniloop.scenes.womd_index import too_long
from omniloop.scenes.womd_recording import (
    BIKE_LANE,
    LINE_TYPES,
    LaneFeature,
    MapFeatures,
    RecordedObject,
    Recording,
    SignalState,
    StopSignFeature,
)

HeadingUnit = Literal["auto", "degrees", "radians"]

STEP_US = 100_000
MAX_JSON_BYTES = MAX_DOCUMENT_BYTES
"""Converters write 1 to 4 MB."""

FILLS = (-1e4, 1e-4)
"""What converters write for x and for y where an object was not observed."""

_FIRST_LINE_TYPE = 5
"""`map_element_id` of a road line is 5 plus the dataset's RoadLineType; of a lane it is its
LaneType."""

_STATES = {
    "stop": "red", "arrow_stop": "red", "caution": "yellow", "arrow_caution": "yellow",
    "go": "green", "arrow_go": "green", "unknown": "off", "flashing_stop": "off",
    "flashing_caution": "off",
}  # fmt: skip


def read_json_scenario(path: Path, heading_unit: HeadingUnit) -> Recording:
    """Read a file.

    Heights count only if all valid positions and all points of the map have a z.

    Raises:
        SceneError: the file is too long, no JSON, or lacks something; a list has another
            length than the others; a number is not finite; the unit of headings cannot be told.
    """
    where = str(path)
    if path.is_file() and path.stat().st_size > MAX_JSON_BYTES:
        raise too_long(where, MAX_JSON_BYTES)
    raw = read_json(path)
    listed = _list(raw, "objects", where)
    roads = _list(raw, "roads", where)
    names = _names(listed, where)
    objects = [
        _Object(entry, f"{where}, object {name}") for name, entry in zip(names, listed, strict=True)
    ]
    counts = sorted({len(o.valid) for o in objects})
    if len(counts) > 1:
        raise damaged(f"objects have {counts[0]} to {counts[-1]} steps, not all the same", where)
    geometries = [
        _points(_list(road, "geometry", here), "geometry", here)
        for here, road in ((_road_name(i, r, where), r) for i, r in enumerate(roads))
    ]
    planar = not (all(o.has_z for o in objects) and all(has_z for _, has_z in geometries))
    if heading_unit == "auto":
        degrees = are_degrees(
            [o.heading for o in objects], [o.centers for o in objects],
            [o.valid for o in objects], f"{where}, key 'heading'",
        )  # fmt: skip
    else:
        degrees = heading_unit == "degrees"
    if planar:
        for points in [o.centers for o in objects] + [points for points, _ in geometries]:
            points[:, 2] = 0.0
    count = counts[0] if counts else 0
    metadata = raw.get("metadata") or {}
    return Recording(
        where=where,
        times_us=np.arange(count, dtype=np.int64) * STEP_US,
        objects=tuple(o.recorded(name, degrees) for name, o in zip(names, objects, strict=True)),
        ego=_ego(metadata, listed, where),
        map=_map(roads, [points for points, _ in geometries], where),
        signals=_signals(raw.get("tl_states") or {}, count, planar, where),
        planar=planar,
        notes=("json", f"headings_in_{'degrees' if degrees else 'radians'}")
        + (("planar",) if planar else ()),
    )


class _Object:
    """One of the objects, as far as it can be read alone."""

    def __init__(self, entry: Any, where: str) -> None:
        self.where = where
        self.centers, has_z = _points(
            _list(entry, "position", where), "position", where, finite=False
        )
        count = len(self.centers)
        self.heading = _numbers(member(entry, "heading", where), count, "heading", where)
        filled = np.any([(self.centers[:, :2] == fill).all(axis=1) for fill in FILLS], axis=0)
        if entry.get("valid") is None:
            self.valid: Mask = ~filled & np.isfinite(self.centers[:, :2]).all(axis=1)
        else:
            self.valid = _numbers(entry["valid"], count, "valid", where) > 0.5
        for bad, what in (
            (self.valid & filled, "the converter's fill value"),
            (self.valid & ~np.isfinite(self.centers).all(axis=1), "a position that is not finite"),
            (
                self.valid & (np.abs(self.centers) > LARGEST).any(axis=1),
                f"a position beyond {LARGEST:g}",
            ),
            (self.valid & ~np.isfinite(self.heading), "a heading that is not finite"),
        ):
            if bad.any():
                at = int(np.argmax(bad))
                raise SceneError(
                    f"step {at} is marked valid but holds {what}: {self.centers[at].tolist()}, heading {self.heading[at]}",
                    where=where, remedy="convert the scenario again, or leave the file out",
                )  # fmt: skip
        self.has_z = has_z
        self.kind = str(member(entry, "type", where))
        height = entry.get("height")
        size = [member(entry, "length", where), member(entry, "width", where), height or 0.0]
        self.size_m = finite_array(size, (3,), "length, width, height", where)

    def recorded(self, name: str, degrees: bool) -> RecordedObject:
        heading = np.where(self.valid, self.heading, 0.0)
        return RecordedObject(
            id=name,
            kind=self.kind,
            size_m=np.tile(self.size_m, (len(self.valid), 1)),
            centers=self.centers,
            heading_rad=geometry.wrap_rad(np.deg2rad(heading) if degrees else heading),
            valid=self.valid,
        )


def _list(mapping: Any, key: str, where: str) -> list[Any]:
    out = member(mapping, key, where)
    if not isinstance(out, list):
        raise damaged(f"'{key}' is a {type(out).__name__}, not a list", where)
    return out


def _names(objects: list[Any], where: str) -> list[str]:
    """The objects' ids; without them their places in the list."""
    ids = [entry.get("id") if isinstance(entry, Mapping) else None for entry in objects]
    if None in ids:
        return [str(i) for i in range(len(objects))]
    names = [str(name) for name in ids]
    name, often = Counter(names).most_common(1)[0] if names else ("", 1)
    if often > 1:
        raise damaged(f"{often} objects have the id {name}", where)
    return names


def _ego(metadata: Any, objects: list[Any], where: str) -> int | None:
    if not isinstance(metadata, Mapping):
        raise damaged(f"'metadata' is a {type(metadata).__name__}, not a mapping", where)
    marked = [i for i, entry in enumerate(objects) if entry.get("is_sdc") is True]
    index = metadata.get("sdc_track_index", marked[0] if len(marked) == 1 else None)
    if index is None:
        return None
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(objects):
        raise damaged(
            f"sdc_track_index is {index!r:.60}, but there are {len(objects)} objects",
            f"{where}, metadata",
        )
    return index


def _points(
    listed: Sequence[Any], what: str, where: str, *, finite: bool = True
) -> tuple[Array, bool]:
    """Points ``(N, 3)`` and whether all have a z; without it z is 0."""
    try:
        has_z = all("z" in p for p in listed)
        rows = [(p["x"], p["y"], p["z"] if has_z else 0.0) for p in listed]
        out = np.array(rows, dtype=np.float64).reshape(-1, 3)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise damaged(f"'{what}' is no list of points with x and y: {error!r}", where) from error
    return (finite_array(out, (None, 3), what, where) if finite else out), has_z


def _numbers(values: Any, count: int, what: str, where: str) -> Array:
    try:
        out = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise damaged(f"'{what}' is no list of numbers: {error}", where) from error
    if out.shape != (count,):
        raise damaged(f"'{what}' has shape {out.shape}, but there are {count} positions", where)
    return out


def _road_name(index: int, road: Any, where: str) -> str:
    own = road.get("id") if isinstance(road, Mapping) else None
    return f"{where}, road {index if own is None else own}"


def _map(roads: list[Any], geometries: list[Array], where: str) -> MapFeatures:
    """Features by their types; without ids they are called by their places in the list."""
    lanes, lines, edges, crosswalks, signs = [], [], [], [], []
    named = all(road.get("id") is not None for road in roads)
    for i, (road, points) in enumerate(zip(roads, geometries, strict=True)):
        name = str(road["id"]) if named else f"road-{i}"
        element = road.get("map_element_id")
        kind = road.get("type")
        if kind == "lane":
            lanes.append(LaneFeature(name, points, is_bike_lane=element == BIKE_LANE))
        elif kind == "road_line":
            known = isinstance(element, int) and 0 <= element - _FIRST_LINE_TYPE < len(LINE_TYPES)
            style, color = LINE_TYPES[int(element) - _FIRST_LINE_TYPE if known else 0]
            lines.append(LaneLine(name, points, style, color))
        elif kind == "road_edge":
            edges.append(Polyline(name, points))
        elif kind == "crosswalk":
            crosswalks.append(Area(name, points))
        elif kind == "stop_sign" and len(points):
            signs.append(StopSignFeature(name, points[0]))
        elif not (kind is None or isinstance(kind, str)):
            raise damaged(f"'type' is {kind!r}, not a word", _road_name(i, road, where))
    return MapFeatures(tuple(lanes), tuple(lines), tuple(edges), tuple(crosswalks), tuple(signs))


def _signals(states: Any, count: int, planar: bool, where: str) -> tuple[SignalState, ...]:
    if not isinstance(states, Mapping):
        raise damaged(f"'tl_states' is a {type(states).__name__}, not a mapping", where)
    out = []
    for lane, signal in states.items():
        here = f"{where}, tl_states of lane {lane}"
        shown = _list(signal, "state", here)
        columns = [_numbers(member(signal, axis, here), len(shown), axis, here) for axis in "xy"]
        heights = None if planar else signal.get("z")
        columns.append(
            np.zeros(len(shown)) if heights is None else _numbers(heights, len(shown), "z", here)
        )
        stops = finite_array(np.column_stack(columns), (None, 3), "x, y, z", here)
        listed = signal.get("time_index", list(range(len(shown))))
        steps = finite_array(listed, (len(shown),), "time_index", here)
        if ((steps < 0) | (steps >= count)).any():
            raise damaged(f"'time_index' goes beyond the {count} steps", here)
        for step, word, stop in zip(steps.astype(int).tolist(), shown, stops, strict=True):
            if not isinstance(word, str) or word not in _STATES:
                raise damaged(f"state {word!r:.100} is unknown", here)
            out.append(SignalState(step, str(lane), _STATES[word], stop))
    return tuple(out)
