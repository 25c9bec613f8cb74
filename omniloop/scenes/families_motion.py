"""Recorded motion of the scene families: everybody on their lanes, by car following.

Scenes with drawn parameters cannot be checked by hand as the embedded ones are, so their
vehicles are simulated once: on a lane nobody drives into who is ahead, whatever is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.motion import Times
from omniloop.scenes.embedded_cast import Kind
from omniloop.scenes.embedded_paths import (
    REAR_AXLE_FRACTION,
    ReferenceLine,
    box_around,
    poses_along,
)

STEP_S = 0.1
_ACCEL, _BRAKE, _HARDEST, _LATERAL = 1.4, 2.0, 7.0, 1.8
"""IDM's acceleration and comfortable deceleration, the hardest braking, and the lateral
acceleration in bends, all in m/s^2."""
_GAP_M, _HEADWAY_S = 2.5, 1.4
_STOPPABLE = 5.0
"""Who would have to brake harder for a stop, in m/s^2, goes on."""
_GRID_M = 1.0


@dataclass(frozen=True)
class Stop:
    """A line that nobody's front passes for some time.

    Attributes:
        s_m: Along the line.
        from_s: It holds from then on.
        until_s: It is open again from then on.
        lanes: Where it holds.
    """

    s_m: float
    from_s: float
    until_s: float
    lanes: frozenset[int]


@dataclass(frozen=True)
class Driver:
    """One vehicle of a line, at first.

    Attributes:
        kind: Class, label and size.
        s_m: Where its rear axle is at time 0.
        cruise: Knots ``(s, m/s)`` of the speed that it wants, linear in between.
        lane: Its lane's number.
        into: The lane that it moves to, from `change_s` on for `change_for_s`.
        speed_mps: At time 0; as fast as it wants and may if None.
        side_m: Where it keeps in its lane, to the left of the lane's middle.
    """

    kind: Kind
    s_m: float
    cruise: tuple[tuple[float, float], ...]
    lane: int = 0
    into: int | None = None
    change_s: float = 0.0
    change_for_s: float = 4.0
    speed_mps: float | None = None
    side_m: float = 0.0


@dataclass(frozen=True, eq=False)
class Driven:
    """How a simulated vehicle moves along its line; has what a `Cast` asks of a drive.

    Attributes:
        s_m: ``(N,)`` rear axle every `STEP_S` from time 0.
        speed_mps: ``(N,)``.
        offsets: Knots of its offset to the left of the line over arc length.
    """

    line: ReferenceLine
    s_m: Array
    speed_mps: Array
    offsets: Sequence[tuple[float, float]]

    def s_at(self, times_us: Times) -> Array:
        """Arc lengths ``(K,)``: constant acceleration within a step."""
        t = np.asarray(times_us, dtype=np.float64) / 1e6
        k = np.clip((t / STEP_S).astype(np.int64), 0, len(self.s_m) - 2)
        tau = t - k * STEP_S
        accel = (self.speed_mps[k + 1] - self.speed_mps[k]) / STEP_S
        return np.asarray(self.s_m[k] + self.speed_mps[k] * tau + accel * tau**2 / 2)

    def local_to_rig(self, times_us: Times) -> Array:
        """Poses ``(K, 7)`` of the rear axle on the ground."""
        return poses_along(self.line, self.offsets, self.s_at(times_us))

    def local_to_aabb(self, times_us: Times, size_m: Array) -> Array:
        """Poses ``(K, 7)`` of the centre of a box ``(3,)`` around the vehicle."""
        return box_around(self.local_to_rig(times_us), size_m)


@dataclass
class Stream:
    """All vehicles that follow one line in its direction.

    Attributes:
        line: What they follow.
        lanes_m: Offset of each lane's middle to the left of the line.
        duration_s: Simulated from 0 to then.
        stops: Lines that hold some of them.
        drivers: In the order in which they were added.
    """

    line: ReferenceLine
    lanes_m: tuple[float, ...]
    duration_s: float
    stops: list[Stop] = field(default_factory=list)
    drivers: list[Driver] = field(default_factory=list)

    def simulate(self) -> list[Driven]:
        """How each driver moves; the intelligent driver model (Treiber et al., 2000)."""
        drivers = self.drivers
        allowed_mps = _allowed(self.line)
        knots = [tuple(np.array(d.cruise).T) for d in drivers]
        count = round(self.duration_s / STEP_S) + 1
        length = np.array([d.kind[2][0] for d in drivers])
        rear = length * (0.5 - REAR_AXLE_FRACTION)
        front = length - rear
        s, v = np.array([d.s_m for d in drivers]), np.zeros(len(drivers))
        for k, d in enumerate(drivers):
            wanted = min(d.cruise[0][1], float(_at(allowed_mps, np.array([d.s_m]))[0]))
            v[k] = wanted if d.speed_mps is None else d.speed_mps
        out_s, out_v = np.empty((count, len(drivers))), np.empty((count, len(drivers)))
        for step in range(count):
            out_s[step], out_v[step] = s, v
            t = step * STEP_S
            cruise = np.array([np.interp(t, at, mps) for at, mps in knots])
            wanted = np.maximum(np.minimum(cruise, _at(allowed_mps, s)), 0.1)
            gap, lead_v = self._ahead(t, s - rear, s + front, v)
            desired = _GAP_M + np.maximum(
                v * _HEADWAY_S + v * (v - lead_v) / (2 * np.sqrt(_ACCEL * _BRAKE)), 0.0
            )
            accel = _ACCEL * (1 - (v / wanted) ** 4 - (desired / np.maximum(gap, 0.1)) ** 2)
            accel = np.where(v > wanted, np.maximum(accel, -_BRAKE - (v - wanted)), accel)
            accel = np.clip(accel, -_HARDEST, _ACCEL)
            later = np.maximum(v + accel * STEP_S, 0.0)
            s, v = s + (v + later) / 2 * STEP_S, later
        return [
            Driven(self.line, out_s[:, k], out_v[:, k], self._offsets(d, out_s[:, k]))
            for k, d in enumerate(drivers)
        ]

    def _ahead(self, t: float, rear: Array, front: Array, v: Array) -> tuple[Array, Array]:
        """Gap and speed of what is ahead of each: a vehicle that shares a lane, or a stop."""
        lanes = np.zeros((len(v), len(self.lanes_m)), dtype=bool)
        for k, d in enumerate(self.drivers):
            moving = d.into is not None and t >= d.change_s
            lanes[k, d.lane] = not moving or t < d.change_s + d.change_for_s
            if d.into is not None and moving:
                lanes[k, d.into] = True
        shares = lanes @ lanes.T
        middle = (rear + front) / 2
        between = np.where(
            shares & (middle[None] > middle[:, None]), rear[None] - front[:, None], np.inf
        )
        lead = np.argmin(between, axis=1)
        row = np.arange(len(v))
        gap = between[row, lead]
        speed = np.where(np.isfinite(gap), v[lead], v)
        for stop in self.stops:
            if stop.from_s <= t < stop.until_s:
                before = stop.s_m - front
                can = (before > 0) & (v * v < 2 * _STOPPABLE * before)
                to_stop = before + _GAP_M - 0.5
                held = lanes[:, sorted(stop.lanes)].any(axis=1) & can & (to_stop < gap)
                gap, speed = np.where(held, to_stop, gap), np.where(held, 0.0, speed)
        return gap, speed

    def _offsets(self, driver: Driver, s_m: Array) -> tuple[tuple[float, float], ...]:
        start = self.lanes_m[driver.lane] + driver.side_m
        if driver.into is None:
            return ((0.0, start),)
        end = self.lanes_m[driver.into] + driver.side_m
        first = round(driver.change_s / STEP_S)
        last = round((driver.change_s + driver.change_for_s) / STEP_S)
        from_m, to_m = (float(s_m[min(k, len(s_m) - 1)]) for k in (first, last))
        return ((from_m, start), (max(to_m, from_m + 15.0), end))


def _allowed(line: ReferenceLine) -> tuple[Array, Array]:
    """Speeds that bends allow over arc length, with room to brake for them."""
    s = np.arange(-100.0, line.length_m + 100.0, _GRID_M)
    bend = np.abs(line.at(s)[2])
    squared = _LATERAL / np.maximum(bend, 1e-4)
    for k in range(len(s) - 2, -1, -1):
        squared[k] = min(squared[k], squared[k + 1] + 2 * 1.2 * _GRID_M)
    return s, np.sqrt(squared)


def _at(allowed: tuple[Array, Array], s_m: Array) -> Array:
    return np.asarray(np.interp(s_m, *allowed))
