"""Serialized `Scenario` messages of the Waymo Open Motion Dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Times
from omniloop.core.scene import Area, LaneLine, Polyline
from omniloop.scenes.build import damaged, finite_array
from omniloop.scenes.womd_recording import (
    BIKE_LANE,
    LINE_TYPES,
    LaneFeature,
    MapFeatures,
    RecordedObject,
    Recording,
    SignalState,
    StopSignFeature,
    Stretch,
)

MPH_MPS = 0.44704
"""One mile per hour, exactly."""

_KINDS = ("unset", "vehicle", "pedestrian", "cyclist", "other")
_STATES = ("off", "red", "yellow", "green", "red", "yellow", "green", "off", "off")
"""By the number of TrafficSignalLaneState.State: unknown; arrows stop, caution, go; round
signals stop, caution, go; flashing stop, flashing caution."""


def read_scenario(data: bytes, where: str) -> Recording:
    """Parse a message.

    Raises:
        SceneError: it cannot be parsed, its times do not increase, an object has another
            number of states than there are times, an index points nowhere, or a map point or
            stop point is not finite.
    """
    from google.protobuf.message import DecodeError

    from omniloop.scenes.protos.womd_pb2 import Scenario

    try:
        message = Scenario.FromString(data)
    except (DecodeError, UnicodeDecodeError) as error:
        raise damaged(f"is no Scenario message: {error}", where) from error
    times = times_us(list(message.timestamps_seconds), where)
    ego = message.sdc_track_index if message.HasField("sdc_track_index") else None
    if ego is not None and not 0 <= ego < len(message.tracks):
        raise damaged(
            f"sdc_track_index is {ego}, but there are {len(message.tracks)} tracks", where
        )
    return Recording(
        where=where,
        times_us=times,
        objects=tuple(_object(track, times, where) for track in message.tracks),
        ego=ego,
        map=_map(message.map_features, where),
        signals=_signals(message.dynamic_map_states, len(times), where),
        notes=("scenario",),
    )


def times_us(seconds: Sequence[float], where: str) -> Times:
    """Times in whole microseconds.

    Raises:
        SceneError: one is not finite, or not after the one before.
    """
    here = f"{where}, timestamps_seconds"
    exact = finite_array(seconds, (None,), "timestamps_seconds", here)
    if np.abs(exact).max(initial=0.0) > 1e12:
        raise damaged(f"a time of {np.abs(exact).max()} s", here)
    out = np.rint(exact * 1e6).astype(np.int64)
    back = np.diff(out) <= 0
    if back.any():
        at = int(np.argmax(back)) + 1
        raise SceneError(
            f"step {at} is at {exact[at]:.6f} s, not after step {at - 1} at {exact[at - 1]:.6f} s",
            where=here, remedy="copy the file again from the dataset, or leave the scenario out",
        )  # fmt: skip
    return out


def _object(track: Any, times: Times, where: str) -> RecordedObject:
    if len(track.states) != len(times):
        raise damaged(
            f"has {len(track.states)} states, but there are {len(times)} times",
            f"{where}, track {track.id}",
        )
    columns = np.array(
        [
            (s.center_x, s.center_y, s.center_z, s.heading, s.length, s.width, s.height, s.valid)
            for s in track.states
        ],
        dtype=np.float64,
    ).reshape(-1, 8)
    kind = track.object_type
    return RecordedObject(
        id=str(track.id),
        kind=_KINDS[kind] if 0 <= kind < len(_KINDS) else f"type {kind}",
        size_m=columns[:, 4:7],
        centers=columns[:, :3],
        heading_rad=columns[:, 3],
        valid=columns[:, 7] > 0,
    )


def _signals(steps: Sequence[Any], count: int, where: str) -> tuple[SignalState, ...]:
    if len(steps) > count:
        raise damaged(f"has {len(steps)} dynamic_map_states, but {count} times", where)
    out = []
    for step, states in enumerate(steps):
        for state in states.lane_states:
            here = f"{where}, dynamic_map_states {step}, lane {state.lane}"
            stop = _points([state.stop_point], here)[0] if state.HasField("stop_point") else None
            known = 0 <= state.state < len(_STATES)
            shown = _STATES[state.state] if known else "off"
            out.append(SignalState(step, str(state.lane), shown, stop))
    return tuple(out)


def _map(features: Sequence[Any], where: str) -> MapFeatures:
    lanes, lines, edges, crosswalks, signs = [], [], [], [], []
    for feature in features:
        name = str(feature.id)
        here = f"{where}, map feature {name}"
        which = feature.WhichOneof("feature_data")
        if which == "lane":
            lanes.append(_lane(name, feature.lane, here))
        elif which == "road_line":
            kind = feature.road_line.type
            style, color = LINE_TYPES[kind if 0 <= kind < len(LINE_TYPES) else 0]
            lines.append(LaneLine(name, _points(feature.road_line.polyline, here), style, color))
        elif which == "road_edge":
            edges.append(Polyline(name, _points(feature.road_edge.polyline, here)))
        elif which == "crosswalk":
            crosswalks.append(Area(name, _points(feature.crosswalk.polygon, here)))
        elif which == "stop_sign" and feature.stop_sign.HasField("position"):
            position = _points([feature.stop_sign.position], here)[0]
            ruled = tuple(str(lane) for lane in feature.stop_sign.lane)
            signs.append(StopSignFeature(name, position, ruled))
    return MapFeatures(tuple(lanes), tuple(lines), tuple(edges), tuple(crosswalks), tuple(signs))


def _lane(name: str, lane: Any, where: str) -> LaneFeature:
    limit = lane.speed_limit_mph
    return LaneFeature(
        id=name,
        points=_points(lane.polyline, where),
        is_bike_lane=lane.type == BIKE_LANE,
        speed_limit_mps=limit * MPH_MPS if 0 < limit < np.inf else None,
        interpolating=lane.interpolating,
        entries=tuple(str(other) for other in lane.entry_lanes),
        exits=tuple(str(other) for other in lane.exit_lanes),
        left_boundaries=_boundaries(lane.left_boundaries),
        right_boundaries=_boundaries(lane.right_boundaries),
        left_neighbors=_neighbors(lane.left_neighbors),
        right_neighbors=_neighbors(lane.right_neighbors),
    )


def _boundaries(segments: Sequence[Any]) -> tuple[Stretch, ...]:
    return tuple(
        Stretch(s.lane_start_index, s.lane_end_index, str(s.boundary_feature_id)) for s in segments
    )


def _neighbors(segments: Sequence[Any]) -> tuple[Stretch, ...]:
    return tuple(Stretch(s.self_start_index, s.self_end_index, str(s.feature_id)) for s in segments)


def _points(points: Sequence[Any], where: str) -> Array:
    xyz = np.array([(p.x, p.y, p.z) for p in points], dtype=np.float64).reshape(-1, 3)
    return finite_array(xyz, (None, 3), "points", where)
