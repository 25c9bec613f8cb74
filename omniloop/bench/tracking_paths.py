"""Paths that controllers are measured on, and driving them as a rollout does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import SessionInfo, VehicleRequest
from omniloop.core.geometry import Array
from omniloop.core.motion import EgoMotion, Trajectory
from omniloop.core.scene import Scene, Vehicle
from omniloop.core.time import US_PER_S

RADIUS_M = 30.0
LEAD_IN_M = 20.0
SINE_M, SINE_LENGTH_M = 2.0, 60.0
LANE_CHANGE_M = 3.5
_FINE_M = 0.01
_BEYOND_M = 60.0
_PLAN_S = 4.0
_STOOD_S = 7.0
_PLAN_STEP_US = 100_000

Cut = Literal["progress", "time"]


@dataclass(frozen=True, eq=False)
class Path:
    """A path in the plane, driven at a schedule.

    Attributes:
        name: What tables call it.
        points: ``(N, 2)`` of the path every centimetre.
        s_m: ``(N,)`` arc lengths of the points.
        place: Exact place and heading ``(K, 3)`` at parameters of the path.
        parameter: ``(N,)`` parameters of the points.
        times_s: ``(M,)`` times of the schedule.
        driven_m: ``(M,)`` arc lengths at these times.
        speed_mps: Speed at first.
        measured_s: How long it is driven; the schedule goes on so that plans have a future.
    """

    name: str
    points: Array
    s_m: Array
    place: Callable[[Array], Array]
    parameter: Array
    times_s: Array
    driven_m: Array
    speed_mps: float
    measured_s: float

    def poses(self, time_s: Array) -> Array:
        """``local_to_rig`` ``(K, 7)`` at times of the schedule; held at its end."""
        s = np.interp(time_s, self.times_s, self.driven_m)
        rows = self.place(np.interp(s, self.s_m, self.parameter))
        return geometry.poses_from_xyz_yaw(np.column_stack([rows[:, :2], 0 * s]), rows[:, 2])

    def time_at(self, place_xy: Array) -> float:
        """When the schedule passes the path's nearest point."""
        s = geometry.project_on_polyline(place_xy[None], self.points)[0]
        return float(np.interp(s, self.driven_m, self.times_s)[0])

    def cross_track_m(self, places_xy: Array) -> tuple[Array, Array]:
        """Arc lengths ``(K,)`` of the path's nearest points, and distances from them, positive
        to the left."""
        s, distance = geometry.project_on_polyline(places_xy, self.points)
        x, y, yaw = self.place(np.interp(s, self.s_m, self.parameter)).T
        dx, dy = places_xy[:, 0] - x, places_xy[:, 1] - y
        return s, np.copysign(distance, np.cos(yaw) * dy - np.sin(yaw) * dx)


def _path(name: str, place: Callable[[Array], Array], until: float, lateral_mps2: float) -> Path:
    """A path at the constant speed whose largest lateral acceleration is `lateral_mps2`."""
    parameter = np.arange(0.0, until + _BEYOND_M, _FINE_M)
    rows = place(parameter)
    s = geometry.arc_length_m(rows[:, :2])
    curvature = np.abs(np.diff(np.unwrap(rows[:, 2])) / np.diff(s)).max()
    speed = float(np.sqrt(lateral_mps2 / curvature))
    ends = np.array([0.0, s[-1] / speed])
    measured_s = float(np.interp(until, parameter, s)) / speed
    return Path(
        name, rows[:, :2], s, place, parameter, ends, np.array([0.0, s[-1]]), speed, measured_s
    )  # fmt: skip


def circle(lateral_mps2: float) -> Path:
    """A straight of 20 m, then most of a circle of radius 30 m: the curvature jumps."""

    def place(s: Array) -> Array:
        turned = np.maximum(s - LEAD_IN_M, 0.0) / RADIUS_M
        x = np.minimum(s, LEAD_IN_M) + RADIUS_M * np.sin(turned)
        return np.column_stack([x, RADIUS_M * (1 - np.cos(turned)), turned])

    return _path("circle", place, LEAD_IN_M + 4.0 * RADIUS_M, lateral_mps2)


def sine(lateral_mps2: float) -> Path:
    """Two periods of a sine of 2 m over 60 m; it begins where the path is straight."""

    def place(x: Array) -> Array:
        k = 2 * np.pi / SINE_LENGTH_M
        slope = SINE_M * k * np.cos(k * x)
        return np.column_stack([x, SINE_M * np.sin(k * x), np.arctan(slope)])

    return _path("sine", place, 2 * SINE_LENGTH_M, lateral_mps2)


def lane_change(lateral_mps2: float) -> Path:
    """The double lane change of ISO 3888-1: 15 m, over to the left by 3.5 m in 30 m, 25 m there,
    back in 25 m, 30 m more; the changes are polynomials of the fifth degree."""

    def place(x: Array) -> Array:
        y, slope = np.zeros_like(x), np.zeros_like(x)
        for start, length, sign in ((15.0, 30.0, 1.0), (70.0, 25.0, -1.0)):
            u = np.clip((x - start) / length, 0.0, 1.0)
            y += sign * LANE_CHANGE_M * u**3 * (10 - 15 * u + 6 * u * u)
            slope += sign * LANE_CHANGE_M / length * 30 * u * u * (1 - u) ** 2
        return np.column_stack([x, y, np.arctan(slope)])

    return _path("double lane change", place, 125.0, lateral_mps2)


def stop(speed_mps: float, brake_mps2: float) -> Path:
    """A straight on which the schedule brakes to a stop after 2 s, and stands for 7 s."""
    cruise_s, brake_s = 2.0, speed_mps / brake_mps2
    times = np.linspace(0.0, cruise_s + brake_s, 400)
    braked = np.maximum(times - cruise_s, 0.0)
    driven = speed_mps * times - brake_mps2 * braked**2 / 2

    def place(s: Array) -> Array:
        return np.column_stack([s, 0 * s, 0 * s])

    s = np.arange(0.0, driven[-1] + 50.0, _FINE_M)
    return Path(
        "stop", place(s)[:, :2], s, place, s, times, driven, speed_mps, times[-1] + _STOOD_S
    )


PATHS = (circle, sine, lane_change)


def open_session(controller: Any) -> Any:
    """A session of a controller plugin, of a scene with a default vehicle."""
    still = Trajectory(np.array([0, 1]), np.tile(geometry.IDENTITY, (2, 1)))
    scene = Scene("bench", "bench", still)
    return controller.open(SessionInfo("bench/0", scene, 0, Vehicle(), 0, 0, 1))


def drive(
    session: Any,
    path: Path,
    period_us: int,
    cut: Cut = "progress",
) -> EgoMotion:
    """Drive a path in closed loop: at each decision a new plan, from ego's own pose on.

    Args:
        session: A controller's, new.
        path: What is driven, from its beginning, at its speed.
        period_us: From one decision to the next.
        cut: Plans go on from the path's point nearest to ego ("progress"), or with the
            schedule wherever ego is ("time").

    Returns:
        The first state and all that the session returned.
    """
    pose, motion = path.poses(np.array([0.0]))[0], np.zeros(12)
    motion[0] = path.speed_mps
    ahead_us = _PLAN_STEP_US * np.arange(1 + round(_PLAN_S * US_PER_S) // _PLAN_STEP_US)
    plan_us = np.union1d(ahead_us, [period_us])
    parts = [EgoMotion(np.zeros(1, dtype=np.int64), pose[None], motion[None])]
    for now_us in range(0, round(path.measured_s * US_PER_S), period_us):
        start_s = path.time_at(pose[:2]) if cut == "progress" else now_us / US_PER_S
        plan = path.poses(start_s + plan_us / US_PER_S)
        plan[0] = pose
        request = VehicleRequest(
            now_us, now_us + period_us, pose, motion, Trajectory(now_us + plan_us, plan)
        )
        parts.append(session.step(request))
        pose, motion = parts[-1].local_to_rig[-1], parts[-1].dynamics[-1]
    return EgoMotion(
        np.concatenate([p.times_us for p in parts]),
        np.concatenate([p.local_to_rig for p in parts]),
        np.concatenate([p.dynamics for p in parts]),
    )
