"""Signal states of lanes as traffic lights with stop lines.

The Waymo Open Motion Dataset records what each lane's signal showed, and where its traffic has
to stop, but no lights. A lane with a signal mostly begins at its stop point and crosses the
junction, so that a lane's end would be no place to stop: every signal gets a stop line.
"""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.scene import Lane, Polyline, TrafficLight
from omniloop.scenes.build import to_local
from omniloop.scenes.commonroad_map import LIGHT_HEIGHT_M
from omniloop.scenes.surface import CENTERLINE_HALF_WIDTH_M
from omniloop.scenes.womd_recording import Recording, SignalState

LIGHT_SIZE_M = (0.3, 0.35, 1.0)
SAME_LINE_M = 0.5
SAME_LINE_RAD = np.deg2rad(30.0)
"""Lanes that part at a junction share a stop point, though arrows may differ: one line."""


def lights_and_stop_lines(
    recording: Recording, lanes: tuple[Lane, ...], origin_m: Array
) -> tuple[tuple[TrafficLight, ...], tuple[Polyline, ...]]:
    """One light per signalled lane, and one stop line per stop point, in `local`.

    A light hangs above its stop point and faces the lane's traffic. Where a lane's signal is
    not recorded at a step, it is "off" there: it rules nobody. Signals of lanes that are not
    in the map are left out.
    """
    by_lane: dict[str, list[SignalState]] = {}
    for signal in recording.signals:
        by_lane.setdefault(signal.lane, []).append(signal)
    lights: list[TrafficLight] = []
    lines: list[tuple[Array, float, Lane, list[str]]] = []
    for lane in lanes:
        signals = by_lane.get(lane.id)
        if not signals:
            continue
        stops = [s.stop for s in signals if s.stop is not None]
        at = to_local(stops[0], origin_m) if stops else lane.centerline[0]
        yaw = _heading_at(lane.centerline, at)
        pose = geometry.poses_from_xyz_yaw(at + [0.0, 0.0, LIGHT_HEIGHT_M], yaw + np.pi)
        shown = np.full(len(recording.times_us), "off", dtype=object)
        for signal in signals:
            shown[signal.step] = signal.state
        changes = np.flatnonzero(np.append(True, shown[1:] != shown[:-1]))
        lights.append(
            TrafficLight(
                lane.id, pose, np.array(LIGHT_SIZE_M), (lane.id,),
                recording.times_us[changes], tuple(shown[changes].tolist()),
            )
        )  # fmt: skip
        shared = next((x for x in lines if _same(x[0], x[1], at, yaw)), None)
        if shared is None:
            lines.append((at, yaw, lane, [lane.id]))
        else:
            shared[3].append(lane.id)
    return tuple(lights), tuple(
        Polyline(f"{lane.id}-stop", _across(lane, at, yaw), tuple(names))
        for at, yaw, lane, names in lines
    )


def _same(a: Array, a_yaw: float, b: Array, b_yaw: float) -> bool:
    close = float(np.linalg.norm((a - b)[:2])) < SAME_LINE_M
    return close and abs(float(geometry.wrap_rad(a_yaw - b_yaw))) < SAME_LINE_RAD


def _nearest(points: Array, at: Array) -> int:
    return int(np.argmin(np.linalg.norm(points[:, :2] - at[:2], axis=1)))


def _heading_at(centerline: Array, at: Array) -> float:
    lo = min(_nearest(centerline, at), len(centerline) - 2)
    step = centerline[lo + 1] - centerline[lo]
    return float(np.arctan2(step[1], step[0]))


def _across(lane: Lane, at: Array, yaw: float) -> Array:
    """The line ``(2, 3)`` through a stop point, from side to side of the lane."""
    to_left = np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    half = [CENTERLINE_HALF_WIDTH_M, CENTERLINE_HALF_WIDTH_M]
    for i, side in enumerate((lane.left, lane.right)):
        if side is not None:
            half[i] = float(geometry.project_on_polyline(at[None, :2], side[:, :2])[1][0])
    return np.stack([at + half[0] * to_left, at - half[1] * to_left])
