"""The clock of the ego's poses in nuScenes scenes converted by ScenarioNet.

ScenarioNet takes these poses from the vehicle's CAN bus: every fifth message of a stream
of nominally 50 Hz becomes one step of 0.1 s (scenarionet/converter/nuscenes/utils.py,
get_tracks_from_frames). Everything else is interpolated between keyframes, whose distance
it takes as 0.5 s. This has two defects, both plain in nuScenes v1.0-mini:

* Messages are lost. The step that lacks one covers 120 ms: the speed jumps up by a fifth
  for one step (20 times in scene-0061).
* The stream ends before the scene does, and the last steps are taken from the keyframes.
  By then the two clocks, which were never synchronised, have drifted apart, so the ego
  jumps: back by 0.6 m in scene-0061, 1.2 m in 0103 and 2.8 m in 0655.

`mend_bus_clock` gives each pose its own time again.
"""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Times

STEP_US = 100_000
MESSAGES_PER_STEP = 5

_NEIGHBOURS = 4
_LOST_RATIO = 1.12
_MOVING_MPS = 0.5
_TAIL_STEPS = 20
_JUMP_MPS = 1.5
_MAX_DRIFT = 0.05


def mend_bus_clock(times_us: Times, xy_yaw: Array, where: str) -> Array:
    """Resample the ego's poses on their own clock.

    A step whose speed exceeds the median of its eight neighbours by 12 % or more lost
    ``round(5 (ratio - 1))`` messages, and its pose comes that many fiftieths of a second
    later. Where the ego jumps in the last two seconds, the later poses are right: the time
    at which the stream passes the first of them is found by projecting it on the path, and
    the stream's clock is scaled (by 1 % or so) to meet it there. The result has neither
    spikes nor a jump. A recording without either comes back as it is.

    Args:
        times_us: ``(N,)`` strictly increasing.
        xy_yaw: ``(N, 3)`` position and heading.
        where: The file and track, for errors.

    Returns:
        ``(N, 3)`` poses at `times_us`.

    Raises:
        SceneError: the clocks differ by more than 5 %.
    """
    if len(times_us) < 2 * _NEIGHBOURS or (np.diff(times_us) != STEP_US).any():
        return xy_yaw  # not the converter's grid, so not its defects
    step_s = STEP_US / 1e6
    moved = np.diff(xy_yaw[:, :2], axis=0)
    heading = np.stack([np.cos(xy_yaw[:-1, 2]), np.sin(xy_yaw[:-1, 2])], axis=1)
    speed = np.sum(moved * heading, axis=1) / step_s
    usual = _median_of_neighbours(speed)
    ratio = np.where(usual > _MOVING_MPS, speed / np.maximum(usual, _MOVING_MPS), 1.0)

    jump = _jump(speed, usual)
    count = len(times_us) if jump is None else jump + 1  # poses that come from the bus
    lost = np.where(ratio >= _LOST_RATIO, np.rint((ratio - 1) * MESSAGES_PER_STEP), 0.0)[
        : count - 1
    ]
    if jump is None and not lost.any():
        return xy_yaw
    late = np.concatenate([[0.0], np.cumsum(lost)]) * step_s / MESSAGES_PER_STEP
    bus_s = np.arange(count) * step_s + late
    path = np.column_stack([xy_yaw[:, :2], np.unwrap(xy_yaw[:, 2])])
    frame_s = np.arange(len(times_us)) * step_s
    knots_s, knots, rate = bus_s, path[:count], 1.0
    if jump is not None:
        meet_s = _passing_time(bus_s, path[:count, :2], path[count, :2], abs(float(usual[jump])))
        rate = float(meet_s / frame_s[count])
        if abs(rate - 1) > _MAX_DRIFT:
            raise SceneError(
                f"the ego jumps by {np.linalg.norm(moved[jump]):.1f} m at {times_us[count]} us", where=where,
                remedy="leave the scene out: its ego poses do not fit together",
            )  # fmt: skip
        before = bus_s < meet_s - step_s / MESSAGES_PER_STEP
        knots_s = np.append(bus_s[before], meet_s)
        knots = np.concatenate([path[:count][before], path[count : count + 1]])
    out = np.array(xy_yaw)
    for axis in range(3):
        out[:count, axis] = np.interp(frame_s[:count] * rate, knots_s, knots[:, axis])
    out[:count, 2] = geometry.wrap_rad(out[:count, 2])
    return out


def _median_of_neighbours(values: Array) -> Array:
    padded = np.pad(values, _NEIGHBOURS, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * _NEIGHBOURS + 1)
    return np.asarray(np.nanmedian(np.delete(windows, _NEIGHBOURS, axis=1), axis=1))


def _jump(speed: Array, usual: Array) -> int | None:
    """The step in the last two seconds that no vehicle can have driven, if there is one."""
    back = usual - speed > np.maximum(_JUMP_MPS, usual / 2)
    ahead = speed - usual > np.maximum(_JUMP_MPS, 1.1 * usual)
    steps = np.flatnonzero((back | ahead) & (usual > _MOVING_MPS))
    steps = steps[steps >= len(speed) - _TAIL_STEPS]
    return int(steps[0]) if len(steps) else None


def _passing_time(bus_s: Array, path_xy: Array, point_xy: Array, speed_mps: float) -> float:
    """When the stream passes a point, in its own time."""
    s_m, _ = geometry.project_on_polyline(point_xy[None], path_xy)
    along = geometry.arc_length_m(path_xy)
    if s_m[0] < along[-1]:
        return float(np.interp(s_m[0], along, bus_s))
    return float(bus_s[-1] + np.linalg.norm(point_xy - path_xy[-1]) / speed_mps)
