"""Motion along curves: what ego and actors of the embedded scenes drive and walk.

Lines have continuous curvature and speeds have continuous acceleration, so that a
replayed vehicle moves as one could.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Times

_GRID_M = 0.1

REAR_AXLE_FRACTION = 0.26
"""From a car's rear axle to its box's centre, over its length; 1.3965 / 5.393 of AlpaSim's ego."""


@dataclass(frozen=True, eq=False)
class ReferenceLine:
    """A curve in the plane, straight beyond both ends.

    Attributes:
        s_m: ``(N,)`` arc lengths, from 0.
        xy_m: ``(N, 2)``.
        heading_rad: ``(N,)``.
        curvature: ``(N,)`` in 1/m, left positive; linear in between, 0 at both ends.
    """

    s_m: Array
    xy_m: Array
    heading_rad: Array
    curvature: Array

    @classmethod
    def from_curvature(
        cls, x_m: float, y_m: float, heading_rad: float, knots: Sequence[tuple[float, float]]
    ) -> ReferenceLine:
        """Integrate a curvature that is linear between knots ``(s, 1/m)``.

        Between straights and arcs this gives clothoids. The first knot is at s = 0.
        """
        at, values = np.array(knots, dtype=np.float64).T
        s = np.unique(np.concatenate([np.arange(0.0, at[-1], _GRID_M), at]))
        curvature = np.interp(s, at, values)
        step = np.diff(s)
        heading = heading_rad + np.append(
            0.0, np.cumsum(step * (curvature[1:] + curvature[:-1]) / 2)
        )
        chord = _chord_heading(
            heading[:-1], curvature[:-1], np.diff(curvature), np.ones(len(step)), step
        )
        moves = step[:, None] * np.stack([np.cos(chord), np.sin(chord)], axis=1)
        xy = np.array([x_m, y_m]) + np.concatenate([np.zeros((1, 2)), np.cumsum(moves, axis=0)])
        return cls(s, xy, heading, curvature)

    @property
    def length_m(self) -> float:
        """Arc length between the ends."""
        return float(self.s_m[-1])

    def reversed(self) -> ReferenceLine:
        """The same curve in the other direction."""
        return ReferenceLine(
            self.length_m - self.s_m[::-1],
            self.xy_m[::-1],
            self.heading_rad[::-1] + np.pi,
            -self.curvature[::-1],
        )

    def at(self, s_m: Array) -> tuple[Array, Array, Array]:
        """Points ``(K, 2)``, headings ``(K,)`` and curvatures ``(K,)`` at arc lengths ``(K,)``."""
        s = np.asarray(s_m, dtype=np.float64)
        i = np.clip(np.searchsorted(self.s_m, s, side="right") - 1, 0, len(self.s_m) - 2)
        step = self.s_m[i + 1] - self.s_m[i]
        delta = s - self.s_m[i]
        inside = (s >= 0) & (s <= self.length_m)
        start = np.where(inside, self.curvature[i], 0.0)
        change = np.where(inside, self.curvature[i + 1] - self.curvature[i], 0.0)
        i_end = np.where(s > self.length_m, len(self.s_m) - 1, i)
        delta = np.where(s > self.length_m, s - self.length_m, delta)
        base = self.heading_rad[i_end]
        fraction = delta / step
        chord = _chord_heading(base, start, change, fraction, delta)
        xy = self.xy_m[i_end] + delta[..., None] * np.stack([np.cos(chord), np.sin(chord)], axis=-1)
        heading = base + delta * (start + change * fraction / 2)
        return xy, heading, start + change * fraction

    def points(self, s_m: Array, offset_m: float, z_m: float = 0.0) -> Array:
        """Points ``(K, 3)`` at arc lengths ``(K,)``, `offset_m` to the left."""
        xy, heading, _ = self.at(s_m)
        left = np.stack([-np.sin(heading), np.cos(heading)], axis=-1)
        return np.concatenate([xy + offset_m * left, np.full((len(xy), 1), z_m)], axis=1)


def _chord_heading(
    heading: Array, start: Array, change: Array, fraction: Array, delta: Array
) -> Array:
    """Mean heading over `delta` metres where curvature grows linearly.

    Moving `delta` along it errs by less than ``curvature^2 delta^3 / 24``: 1e-7 m here.
    """
    return heading + delta * (start / 2 + change * fraction / 6)


def straight(x_m: float, y_m: float, heading_rad: float, length_m: float) -> ReferenceLine:
    """A straight line."""
    return ReferenceLine.from_curvature(x_m, y_m, heading_rad, [(0.0, 0.0), (length_m, 0.0)])


QUARTER_RAMP = 0.3
"""Share of a quarter turn's length on which its curvature grows, and again falls."""


def quarter_turn_knots(extent_m: float, direction: int) -> list[tuple[float, float]]:
    """Curvature of a turn by 90 degrees that moves `extent_m` ahead and as much aside.

    `direction` is 1 to the left, -1 to the right. The curve is symmetric, so both
    extents are equal and grow in proportion to its length.
    """

    def knots(length_m: float) -> list[tuple[float, float]]:
        peak = direction * np.pi / 2 / ((1 - QUARTER_RAMP) * length_m)
        ramp = QUARTER_RAMP * length_m
        return [(0.0, 0.0), (ramp, peak), (length_m - ramp, peak), (length_m, 0.0)]

    probe = ReferenceLine.from_curvature(0.0, 0.0, 0.0, knots(100.0))
    return knots(100.0 * extent_m / float(probe.xy_m[-1, 0]))


def speed_profile(knots: Sequence[tuple[float, float]], times_s: Array) -> tuple[Array, Array]:
    """Distances and speeds, each ``(K,)``, of one who holds speeds ``(s, m/s)`` at knots.

    Between knots the speed follows ``3 u^2 - 2 u^3``, whose integral is
    ``u^3 - u^4 / 2``; the acceleration peaks at 1.5 times its mean and is 0 at knots.
    Before the first and after the last knot the speed is constant.
    """
    at = np.array([k[0] for k in knots], dtype=np.float64)
    v = np.array([k[1] for k in knots], dtype=np.float64)
    span, dv = np.diff(at), np.diff(v)
    travelled = np.append(0.0, np.cumsum(span * (v[:-1] + dv / 2)))
    t = np.asarray(times_s, dtype=np.float64)
    if len(at) == 1:
        return v[0] * (t - at[0]), np.full(t.shape, v[0])
    i = np.clip(np.searchsorted(at, t, side="right") - 1, 0, len(span) - 1)
    u = np.clip((t - at[i]) / span[i], 0.0, 1.0)
    distance = travelled[i] + span[i] * (v[i] * u + dv[i] * (u**3 - u**4 / 2))
    distance += v[0] * np.minimum(t - at[0], 0.0) + v[-1] * np.maximum(t - at[-1], 0.0)
    return distance, v[i] + dv[i] * (3 * u**2 - 2 * u**3)


def offset_profile(knots: Sequence[tuple[float, float]], s_m: Array) -> tuple[Array, Array]:
    """Offsets and their slopes, each ``(K,)``, of one who holds offsets ``(s, m)`` at knots.

    Between knots: ``6 u^5 - 15 u^4 + 10 u^3``, whose curvature is 0 at both ends.
    """
    at = np.array([k[0] for k in knots], dtype=np.float64)
    d = np.array([k[1] for k in knots], dtype=np.float64)
    s = np.asarray(s_m, dtype=np.float64)
    if len(at) == 1:
        return np.full(s.shape, d[0]), np.zeros(s.shape)
    span, dd = np.diff(at), np.diff(d)
    i = np.clip(np.searchsorted(at, s, side="right") - 1, 0, len(span) - 1)
    u = np.clip((s - at[i]) / span[i], 0.0, 1.0)
    slope = dd[i] / span[i] * 30 * u**2 * (1 - u) ** 2
    return d[i] + dd[i] * u**3 * (10 - 15 * u + 6 * u**2), slope


def poses_along(line: ReferenceLine, offsets: Sequence[tuple[float, float]], s_m: Array) -> Array:
    """Poses ``(K, 7)`` on the ground at arc lengths ``(K,)`` of a line, moved aside of it.

    Args:
        offsets: See `offset_profile`.
    """
    xy, heading, curvature = line.at(s_m)
    d, slope = offset_profile(offsets, s_m)
    left = np.stack([-np.sin(heading), np.cos(heading)], axis=-1)
    xyz = np.concatenate([xy + d[:, None] * left, np.zeros((len(s_m), 1))], axis=1)
    yaw = heading + np.arctan2(slope, 1 - curvature * d)
    return geometry.poses_from_xyz_yaw(xyz, geometry.wrap_rad(yaw))


def box_around(local_to_rig: Array, size_m: Array) -> Array:
    """Poses ``(K, 7)`` of the centre of a box ``(3,)`` around a vehicle with these rear axles."""
    ahead = geometry.pose(REAR_AXLE_FRACTION * float(size_m[0]), 0.0, float(size_m[2]) / 2)
    return geometry.compose(local_to_rig, ahead)


@dataclass(frozen=True)
class Drive:
    """How a vehicle's rear axle moves along a line.

    Attributes:
        line: What it follows.
        start_s_m: Where it is at time 0.
        speeds: Knots of its speed along the line, see `speed_profile`.
        offsets: Knots of its offset to the left of the line, see `offset_profile`.
    """

    line: ReferenceLine
    start_s_m: float
    speeds: Sequence[tuple[float, float]]
    offsets: Sequence[tuple[float, float]] = ((0.0, 0.0),)

    def local_to_rig(self, times_us: Times) -> Array:
        """Poses ``(K, 7)`` of the rear axle on the ground at times ``(K,)``."""
        distance, _ = speed_profile(self.speeds, times_us / 1e6)
        zero, _ = speed_profile(self.speeds, np.zeros(1))
        s = self.start_s_m + distance - zero
        return poses_along(self.line, self.offsets, s)

    def local_to_aabb(self, times_us: Times, size_m: Array) -> Array:
        """Poses ``(K, 7)`` of the centre of a box ``(3,)`` around the vehicle."""
        return box_around(self.local_to_rig(times_us), size_m)
