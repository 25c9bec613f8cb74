"""A smooth path from ego's own pose on to its route."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array

_UNEVEN, _EVEN_M, _MAX_COUNT = 1.5, 4.0, 40
"""Waypoints whose distances differ more than this, or more of them, are first spread evenly."""

_BEYOND_M = 300.0
"""The path goes straight on this far beyond its last waypoint, lest a fast plan end there."""


@dataclass(frozen=True, eq=False)
class SmoothPath:
    """A path with its directions at four stations per waypoint, the last one far beyond.

    Attributes:
        s_m: ``(M,)`` arc length in the plane from ego's place.
        table: ``(M, 7)``: the point in `local`, the first being ego's place; the tangent,
            its change per metre of arc length in the plane; and the fade, 1 at ego's
            place and 0 where the path has joined the route.
        curvature_1pm: ``(M,)`` change of heading per metre, positive to the left.
        route_end_m: Arc length of the last waypoint.
    """

    s_m: Array
    table: Array
    curvature_1pm: Array
    route_end_m: float

    def poses(self, s_m: Array, roll_rad: float) -> Array:
        """Poses ``(K, 7)`` at arc lengths ``(K,)``; a roll at ego's place fades out.

        Positions are cubic between stations: an error of a millimetre to the inside of a
        curve at the start of every plan would add up to decimetres.
        """
        i = np.minimum(np.searchsorted(self.s_m, s_m, side="right") - 1, len(self.s_m) - 2)
        start, end, s0 = self.table[i], self.table[i + 1], self.s_m[i]
        h = (self.s_m[i + 1] - s0)[:, None]
        t = (s_m - s0)[:, None] / h
        bend = end - start
        mixed = start + t * bend
        # Hermite: linear between the points, plus what the tangents add to it.
        bend, left = bend[:, :3], 1 - t
        mixed[:, :3] += (
            t * left * (left * (h * start[:, 3:6] - bend) - t * (h * end[:, 3:6] - bend))
        )
        tx, ty, tz, fade = mixed[:, 3:].T
        pitch = -np.arctan2(tz, np.sqrt(tx * tx + ty * ty))
        out = np.empty((len(s_m), 7))
        out[:, :3] = mixed[:, :3]
        out[:, 3:] = quat_from_yaw_pitch_roll(np.arctan2(ty, tx), pitch, fade * roll_rad)
        return out


def quat_from_yaw_pitch_roll(yaw_rad: Array, pitch_rad: Array, roll_rad: Array) -> Array:
    """Quaternions ``(K, 4)`` of intrinsic turns about z, then y, then x."""
    half = np.stack([yaw_rad, pitch_rad, roll_rad]) / 2
    cy, cp, cr = np.cos(half)
    sy, sp, sr = np.sin(half)
    out = np.empty((len(yaw_rad), 4))
    out[:, 0] = cy * cp * sr - sy * sp * cr
    out[:, 1] = cy * sp * cr + sy * cp * sr
    out[:, 2] = sy * cp * cr - cy * sp * sr
    out[:, 3] = cy * cp * cr + sy * sp * sr
    return out


def pitch_roll_rad(pose: Array) -> tuple[float, float]:
    """Pitch and roll of one pose ``(7,)``, as turns about y and then x after the yaw."""
    x, y, z, w = (float(v) for v in pose[3:])
    pitch = math.asin(min(max(2 * (w * y - z * x), -1.0), 1.0))
    return pitch, math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))


def smooth_path(waypoints: Array, start: Array, forward: Array, join_m: float) -> SmoothPath:
    """Lay a cubic through waypoints and lead ego's own place and direction into it.

    Tangents are Catmull-Rom's, at the ends those of circles. Ego's offset and difference
    in direction fade out over `join_m` as a cubic Hermite, so that the path starts along
    ego's own heading.

    Args:
        waypoints: ``(K, 3)`` in `local`, K >= 2, no two neighbours equal in the plane.
        start: ``(3,)`` ego's place.
        forward: ``(3,)`` ego's direction, not vertical.
        join_m: Distance after which the path is the route.
    """
    points, tangents, s = _cubic(waypoints)
    t = np.minimum(s / join_m, 1.0)
    left = 1 - t
    fade = (1 + 2 * t) * left * left
    offset = start - points[0]
    turn = forward / math.hypot(float(forward[0]), float(forward[1])) - tangents[0]
    points += fade[:, None] * offset + (join_m * t * left * left)[:, None] * turn
    tangents += (-6 / join_m * t * left)[:, None] * offset + (left * (1 - 3 * t))[:, None] * turn

    step = points[1:, :2] - points[:-1, :2]
    gap = np.sqrt(step[:, 0] ** 2 + step[:, 1] ** 2)
    flat = np.sqrt(tangents[:, 0] ** 2 + tangents[:, 1] ** 2)
    tangents /= np.maximum(flat, 1e-9)[:, None]
    count = len(points)
    s_m, table, curvature = np.zeros(count + 1), np.zeros((count + 1, 7)), np.zeros(count + 1)
    np.cumsum(gap, out=s_m[1:count])
    s_m[count] = s_m[count - 1] + _BEYOND_M
    table[:count, :3], table[:count, 3:6], table[:count, 6] = points, tangents, fade
    table[count, :3], table[count, 3:6] = points[-1] + _BEYOND_M * tangents[-1], tangents[-1]
    tx, ty = tangents[:, 0], tangents[:, 1]
    bend = (tx[:-1] * ty[1:] - ty[:-1] * tx[1:]) / np.maximum(gap, 1e-3)
    curvature[0], curvature[count - 1] = bend[0], bend[-1]
    curvature[1 : count - 1] = (bend[1:] + bend[:-1]) / 2
    return SmoothPath(s_m, table, curvature, route_end_m=float(s_m[count - 1]))


def _cubic(waypoints: Array) -> tuple[Array, Array, Array]:
    """Points and tangents per metre ``(M, 3)`` at stations ``(M,)`` along the waypoints."""
    step = waypoints[1:] - waypoints[:-1]
    gap2 = step[:, 0] ** 2 + step[:, 1] ** 2
    if gap2.max() > _UNEVEN**2 * gap2.min() or len(waypoints) > _MAX_COUNT:
        length = min(geometry.arc_length_m(waypoints[:, :2])[-1], _EVEN_M * (_MAX_COUNT - 1))
        even = np.linspace(0.0, length, max(round(length / _EVEN_M), 1) + 1)
        waypoints = geometry.resample_polyline(waypoints, even)
        step = waypoints[1:] - waypoints[:-1]
        gap2 = step[:, 0] ** 2 + step[:, 1] ** 2
    count = len(waypoints)
    given = np.empty((2 * count, 3))
    tangent = given[count:]
    given[:count] = waypoints
    if count == 2:
        tangent[:] = step[0]
    else:
        tangent[1:-1] = (step[1:] + step[:-1]) / 2
        tangent[0] = _mirrored(tangent[1], step[0])
        tangent[-1] = _mirrored(tangent[-2], step[-1])
    to_points, to_tangents, along = _stations(count)
    spacing = math.sqrt(float(gap2[0]))
    return to_points @ given, (to_tangents @ given) / spacing, along * spacing


@functools.lru_cache(maxsize=_MAX_COUNT)
def _stations(count: int) -> tuple[Array, Array, Array]:
    """Matrices from waypoints and tangents ``(2 count, 3)`` to stations, and their places.

    Hermite's cubic: four stations per step and one at the end; tangents are per step.
    """
    place = np.append(np.arange(4 * (count - 1)) / 4, count - 1.0)
    step = np.minimum(place.astype(np.int64), count - 2)
    t, rows = place - step, np.arange(len(place))
    points, tangents = np.zeros((2, len(place), 2 * count))
    points[rows, step], points[rows, step + 1] = (1 + 2 * t) * (1 - t) ** 2, t * t * (3 - 2 * t)
    points[rows, count + step], points[rows, count + step + 1] = t * (1 - t) ** 2, t * t * (t - 1)
    tangents[rows, step], tangents[rows, step + 1] = -6 * t * (1 - t), 6 * t * (1 - t)
    tangents[rows, count + step] = (1 - t) * (1 - 3 * t)
    tangents[rows, count + step + 1] = t * (3 * t - 2)
    return points, tangents, place


def _mirrored(tangent: Array, chord: Array) -> list[float]:
    """The tangent ``(3,)`` at the other end of a circle's chord ``(3,)``."""
    tx, ty, tz = tangent.tolist()
    cx, cy, cz = chord.tolist()
    twice = 2 * (tx * cx + ty * cy) / (cx * cx + cy * cy)
    return [twice * cx - tx, twice * cy - ty, 2 * cz - tz]
