"""Ego as traffic sees it: where it is in an interval, how it moves, whether as recorded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import SessionInfo
from omniloop.core.geometry import Array
from omniloop.core.motion import Trajectory
from omniloop.core.time import US_PER_S

_ON_TIME_M = 0.5
"""Ego is taken to do what was recorded while it is this close to its recorded place."""

_OVER_US = 100_000


@dataclass(frozen=True, eq=False)
class Ego:
    """Ego at an instant.

    Attributes:
        local_to_aabb: ``(7,)``.
        heading_rad, speed_mps: Of its box; the speed is signed.
        accel_mps2: Along its heading.
        turn_radps: Rate of turn.
        on_time: It does what was recorded.
    """

    local_to_aabb: Array
    heading_rad: float
    speed_mps: float
    accel_mps2: float
    turn_radps: float
    on_time: bool


class EgoTrack:
    """Ego's motion from one interval to the next."""

    def __init__(self, session: SessionInfo) -> None:
        self._recorded = session.scene.ego.shift_body(session.vehicle.rig_to_aabb)
        self._known: Trajectory | None = None
        self._speed: tuple[int, float] | None = None

    @property
    def recorded(self) -> Trajectory:
        """``local_to_aabb`` as recorded."""
        return self._recorded

    def extend(self, time_us: int, local_to_aabb: Trajectory) -> None:
        """Take ego's states of the interval after `time_us`; before the first it is as recorded."""
        before = self._known
        if before is None or before.end_us != time_us:
            start = max(time_us - _OVER_US, min(self._recorded.start_us, time_us))
            times = np.unique(np.array([start, time_us], dtype=np.int64))
            before = Trajectory.unchecked(times, self._recorded.sample_clamped(times))
        start = max(before.start_us, time_us - 2 * _OVER_US)
        tail = before.clip(start, time_us)
        self._known = Trajectory.unchecked(
            np.append(tail.times_us, local_to_aabb.times_us),
            np.vstack([tail.poses, local_to_aabb.poses]),
        )

    def at(self, time_us: int) -> Ego:
        """Ego at a time in the interval; its motion is that of the 100 ms before."""
        assert self._known is not None
        since = max(time_us - _OVER_US, self._known.start_us)
        poses = self._known.sample([since, time_us])
        dt_s = (time_us - since) / US_PER_S
        yaw = geometry.yaw_rad(poses)
        step = poses[1, :2] - poses[0, :2]
        heading = float(yaw[1])
        speed = float(np.cos(heading) * step[0] + np.sin(heading) * step[1]) / dt_s
        turn = float(geometry.wrap_rad(yaw[1] - yaw[0])) / dt_s
        accel = 0.0
        if self._speed is not None and self._speed[0] < time_us:
            accel = (speed - self._speed[1]) / ((time_us - self._speed[0]) / US_PER_S)
        self._speed = (time_us, speed)
        on_time = False
        if time_us <= self._recorded.end_us:
            away = self._recorded.sample([time_us])[0, :2] - poses[1, :2]
            on_time = bool(np.hypot(away[0], away[1]) < _ON_TIME_M)
        return Ego(poses[1], heading, speed, accel, turn, on_time)
