"""A scenario of the Waymo Open Motion Dataset made by hand, in each of its forms."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from omniloop.scenes.protos.womd_pb2 import MapFeature, Scenario, Track
from omniloop.scenes.tfrecord import crc32c, masked

SCENARIO_ID = "2a173b334be3d32c"
STEPS = 91
X0, Y0, Z0 = 10875.25, 3063.5, 59.0  # as far from the origin as real ones
VEHICLE, PEDESTRIAN, CYCLIST = 1, 2, 3
STOP, GO, UNKNOWN, CAUTION = 4, 6, 0, 5
WORDS = ("unset", "vehicle", "pedestrian", "cyclist", "other")
STATE_WORDS = (
    "unknown", "arrow_stop", "arrow_caution", "arrow_go", "stop", "caution", "go",
    "flashing_stop", "flashing_caution",
)  # fmt: skip


def made_scenario() -> Scenario:
    """Ego drives east at 10 m/s on the right one of two lanes, through a junction on green.

    Lanes 1 and 2 end at x = 0, where 11, 12 (straight on) and 13 (to the right) begin; 21 and
    22 go on at x = 20. Lanes are 3.6 m wide, lane 2's centre is at y = -1.8. A car leads, one
    is parked, a cyclist comes the other way with a gap, a pedestrian crosses behind.
    """
    out = Scenario(scenario_id=SCENARIO_ID, sdc_track_index=2)
    out.timestamps_seconds.extend(0.1 * k + 1e-5 * (k % 2) for k in range(STEPS))
    t = 0.1 * np.arange(STEPS)
    _track(out, 7, VEHICLE, (4.5, 2.0, 1.5), -30 + 10 * t, 0 * t - 1.8, 0 * t)
    _track(out, 8, VEHICLE, (4.6, 1.9, 1.7), 0 * t - 35, 0 * t - 5.0, 0 * t + 0.02)
    _track(out, 2252, VEHICLE, (5.0, 2.1, 1.8), -50 + 10 * t, 0 * t - 1.8, 0 * t)
    seen = (t < 3) | (t > 5)
    _track(out, 9, CYCLIST, (1.8, 0.6, 1.7), 60 - 5 * t, 0 * t + 5.0, 0 * t + math.pi - 1e-3, seen)
    _track(out, 10, PEDESTRIAN, (0.5, 0.6, 1.75), 0 * t - 56, -6 + 1.3 * t, 0 * t + math.pi / 2)
    _track(out, 11, VEHICLE, (4.5, 2.0, 1.5), 0 * t, 0 * t, 0 * t, t < 0)

    def line(y: float, lo: float, hi: float, step: float = 0.5) -> np.ndarray:
        x = np.arange(lo, hi + np.sign(hi - lo) * 1e-9, np.sign(hi - lo) * step)
        return np.column_stack([x, np.full(len(x), y)])

    for base, lo, hi in ((0, -60, 0), (10, 0, 20), (20, 20, 120)):
        for k, y in ((1, 1.8), (2, -1.8)):
            lane = _feature(out, base + k).lane
            lane.type, lane.speed_limit_mph, lane.interpolating = 2, 25.0, base == 10
            _points(lane.polyline, line(y, lo, hi))
            lane.entry_lanes.extend([base - 10 + k] if base else [99])
            lane.exit_lanes.extend([base + 10 + k] if base < 20 else [])
            if base == 10:
                continue
            last = len(lane.polyline) - 1
            other, left, right = (base + 2, 31, 41) if k == 1 else (base + 1, 41, 51)
            near = lane.right_neighbors if k == 1 else lane.left_neighbors
            near.add(feature_id=other, self_start_index=0, self_end_index=last)
            for side, name in ((lane.left_boundaries, left), (lane.right_boundaries, right)):
                side.add(lane_start_index=0, lane_end_index=last, boundary_feature_id=name)
    turn = _feature(out, 13).lane
    turn.type = 2
    angle = np.linspace(0, np.pi / 2, 26)
    _points(turn.polyline, np.column_stack([10 * np.sin(angle), -11.8 + 10 * np.cos(angle)]))
    turn.entry_lanes.append(2)
    bike = _feature(out, 3).lane
    bike.type = 3
    _points(bike.polyline, line(5.0, 120, -60))
    north = _feature(out, 14).lane
    _points(north.polyline, np.column_stack([np.full(61, 15.0), np.arange(-30.0, 31.0)]))
    for name, kind, y in ((31, 7, 3.6), (41, 1, 0.0)):
        feature = _feature(out, name).road_line
        feature.type = kind
        _points(feature.polyline, line(y, -60, 120))
    edge = _feature(out, 51).road_edge
    edge.type = 1
    _points(edge.polyline, line(-3.6, 120, -60))
    edge = _feature(out, 52).road_edge
    edge.type = 1
    _points(edge.polyline, line(6.4, -60, 120))
    _points(
        _feature(out, 61).crosswalk.polygon, np.array([[-58, -6], [-54, -6], [-54, 7], [-58, 7]])
    )
    sign = _feature(out, 71).stop_sign
    sign.lane.append(2)
    _set(sign.position, -1.0, -5.5, 0.0)
    _points(
        _feature(out, 81).road_line.polyline, np.array([[5.0, 5.0]])
    )  # a lone point, as in the dataset
    for k in range(STEPS):
        step = out.dynamic_map_states.add()
        if k < 5:
            continue
        for lane, y in ((12, -1.8), (13, -1.8)):
            red_until = 20 if lane == 12 else STEPS
            state = step.lane_states.add(lane=lane, state=STOP if k < red_until else GO)
            _set(state.stop_point, 0.0, y, 0.0)
    return out


def _track(
    out: Scenario, name: int, kind: int, size: tuple[float, ...], x: np.ndarray, y: np.ndarray,
    heading: np.ndarray, seen: np.ndarray | None = None,
) -> None:  # fmt: skip
    track: Track = out.tracks.add(id=name, object_type=kind)
    for k in range(len(x)):
        if seen is not None and not seen[k]:
            track.states.add(valid=False)
            continue
        state = track.states.add(heading=heading[k], valid=True)
        state.length, state.width, state.height = size
        state.center_x, state.center_y, state.center_z = X0 + x[k], Y0 + y[k], Z0 + size[2] / 2


def _feature(out: Scenario, name: int) -> MapFeature:
    return out.map_features.add(id=name)


def _set(point: Any, x: float, y: float, z: float) -> None:
    point.x, point.y, point.z = X0 + x, Y0 + y, Z0 + z


def _points(listed: Any, xy: np.ndarray) -> None:
    for x, y in xy.tolist():
        _set(listed.add(), x, y, 0.0)


def framed(*messages: bytes) -> bytes:
    """TFRecord bytes."""
    out = b""
    for data in messages:
        length = struct.pack("<Q", len(data))
        out += length + struct.pack("<I", masked(crc32c(length)))
        out += data + struct.pack("<I", masked(crc32c(data)))
    return out


def write_tfrecord(path: Path, *scenarios: Scenario) -> Path:
    path.write_bytes(framed(*(s.SerializeToString() for s in scenarios)))
    return path


def as_json(
    scenario: Scenario, *, degrees: bool = False, fill: float = -1e4, nocturne: bool = False
) -> dict[str, Any]:
    """The scenario as GPUDrive's converter gives it, or as Nocturne's: planar and without ids."""
    axes = "xy" if nocturne else "xyz"

    def point(p: Any) -> dict[str, float]:
        return {axis: getattr(p, axis) for axis in axes}

    def turned(angle: float) -> float:
        return math.degrees(angle) if degrees else angle

    objects, roads, signals = [], [], {}
    for track in scenario.tracks:
        last = ([s for s in track.states if s.valid] or track.states)[-1]
        one: dict[str, Any] = {
            "position": [
                {a: getattr(s, f"center_{a}") if s.valid else fill for a in axes} for s in track.states
            ],
            "width": last.width, "length": last.length, "height": last.height,
            "heading": [turned(s.heading) if s.valid else fill for s in track.states],
            "velocity": [dict.fromkeys("xy", 0.0 if s.valid else fill) for s in track.states],
            "valid": [s.valid for s in track.states],
            "goalPosition": {a: getattr(last, f"center_{a}") for a in axes},
            "type": WORDS[track.object_type], "id": track.id, "mark_as_expert": False,
        }  # fmt: skip
        for key in ("height", "id", "mark_as_expert") if nocturne else ():
            del one[key]
        objects.append(one)
    for feature in scenario.map_features:
        which = str(feature.WhichOneof("feature_data"))
        data = getattr(feature, which)
        points = (
            [data.position] if which == "stop_sign"
            else data.polygon if which == "crosswalk" else data.polyline
        )  # fmt: skip
        base = {"lane": 0, "road_line": 5, "road_edge": 14}.get(which)
        element = {"stop_sign": 17, "crosswalk": 18}[which] if base is None else base + data.type
        road = {"geometry": [point(p) for p in points], "type": which}
        roads.append(road if nocturne else road | {"map_element_id": element, "id": feature.id})
    for k, step in enumerate(scenario.dynamic_map_states):
        for state in step.lane_states:
            one = signals.setdefault(
                str(state.lane), {key: [] for key in ("state", *axes, "time_index")}
            )
            one["state"].append(STATE_WORDS[state.state])
            one["time_index"].append(k)
            for axis in axes:
                one[axis].append(getattr(state.stop_point, axis))
    out = {"name": "made.json", "objects": objects, "roads": roads, "tl_states": signals}
    if not nocturne:
        out |= {
            "scenario_id": scenario.scenario_id,
            "metadata": {"sdc_track_index": scenario.sdc_track_index, "tracks_to_predict": []},
        }
    return out


def write_json(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path
