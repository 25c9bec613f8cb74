"""The built-in driver: follows its route, slows for curves, keeps its distance."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera
from omniloop.core.contracts import Observation, Plan, PolicySpec, Route, SessionInfo
from omniloop.core.errors import PluginError
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask, Trajectory
from omniloop.core.scene import Actor, ActorClass
from omniloop.core.time import US_PER_S
from omniloop.policies.idm import SpeedSettings, allowed_speeds, progress
from omniloop.policies.leads import NO_OBSTACLES, find_obstacles
from omniloop.policies.smooth_path import SmoothPath, pitch_roll_rad, smooth_path

_STEP_US = 100_000
_FLOOR_MPS = 8.0
"""Cruise speed of an ego that stands or crawls at handover."""

_JOIN_S, _MIN_JOIN_M, _JOIN_MPS2 = 1.0, 5.0, 1.5
"""How soon ego is back on its route: within a second, or as lateral acceleration allows."""

_SHORT_ROUTE_M = 70.0
"""A shorter route ends there: ego stops at its last waypoint but one."""

_STRAIGHT_M = 80.0

_VEHICLES = frozenset({ActorClass.CAR, ActorClass.TRUCK, ActorClass.CYCLIST})


class RouteFollowerPolicy:
    """Follows the route at the speed that ego had at handover, among other actors.

    The plan joins the route smoothly from ego's pose, keeps lateral acceleration in
    curves, follows the nearest actor ahead by IDM and waits for actors about to cross.
    It has no eyes: actors' committed motion is a privileged input. Without a route, or
    with one that lies behind, ego brakes straight ahead.

    Args:
        target_speed_mps: Cruise speed; None for ego's own at handover, at least 8 m/s.
        horizon_s: How far plans reach; poses are 100 ms apart.
        min_gap_m: Bumper to bumper behind a standing actor.
        headway_s: Time to the actor ahead.
        max_accel_mps2: When speeding up.
        comfortable_brake_mps2: When slowing down.
        emergency_brake_mps2: Never brakes harder.
        max_lateral_mps2: In curves.
    """

    def __init__(
        self,
        target_speed_mps: float | None = None,
        horizon_s: float = 5.0,
        min_gap_m: float = 1.5,
        headway_s: float = 1.5,
        max_accel_mps2: float = 1.0,
        comfortable_brake_mps2: float = 3.0,
        emergency_brake_mps2: float = 8.0,
        max_lateral_mps2: float = 2.0,
    ) -> None:
        self.settings = SpeedSettings(
            min_gap_m, headway_s, max_accel_mps2, comfortable_brake_mps2,
            emergency_brake_mps2, max_lateral_mps2,
        )  # fmt: skip
        given = {field.name: getattr(self.settings, field.name) for field in fields(SpeedSettings)}
        given["horizon_s"] = horizon_s
        if target_speed_mps is not None:
            given["target_speed_mps"] = target_speed_mps
        for name, value in given.items():
            if not 0.1 <= value <= 100.0:
                raise PluginError(
                    f"{name} is {value}", where=f"policy.{name}", remedy="give 0.1 to 100"
                )
        self.target_speed_mps = target_speed_mps
        self.count = math.ceil(horizon_s * US_PER_S / _STEP_US - 1e-9)
        self.spec = PolicySpec(horizon_s=horizon_s, privileged=frozenset({"actors"}))

    def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> RouteFollowerSession:
        """Begin a rollout."""
        return RouteFollowerSession(self, session.handover_us)


class RouteFollowerSession:
    """One rollout's driver: it remembers its cruise speed and the actors' sizes."""

    def __init__(self, policy: RouteFollowerPolicy, handover_us: int) -> None:
        self._settings = policy.settings
        self._target_mps = policy.target_speed_mps
        self._count = policy.count
        self._handover_us = handover_us
        self._cruise_mps: float | None = policy.target_speed_mps
        self._bodies: tuple[Array, Mask] | None = None

    def plan(self, observation: Observation) -> Plan:
        """Return poses every 100 ms, the first at ego's own."""
        now = observation.ego.local_to_rig[-1]
        speed = max(float(observation.ego.dynamics[-1, 0]), 0.0)
        cruise = self._cruise(observation.time_us, speed)
        path, stop_m, reasoning = self._path(observation.route, now, speed)
        obstacles = NO_OBSTACLES
        if observation.actors and observation.actor_motion is not None:
            if self._bodies is None:
                self._bodies = _bodies(observation.actors)
            obstacles = find_obstacles(
                path, speed, observation.vehicle, observation.actor_motion, *self._bodies
            )
        allowed = allowed_speeds(path, cruise, stop_m, self._settings)
        s = progress(
            path,
            allowed,
            obstacles,
            speed,
            cruise,
            _STEP_US / US_PER_S,
            self._count,
            self._settings,
        )
        poses = path.poses(s, pitch_roll_rad(now)[1])
        poses[s == 0.0] = now
        times = observation.time_us + _STEP_US * np.arange(self._count + 1, dtype=np.int64)
        return Plan(Trajectory.unchecked(times, poses), reasoning=reasoning)

    def _cruise(self, time_us: int, speed_mps: float) -> float:
        """The cruise speed: ego's own until handover, then it stays."""
        if self._target_mps is not None:
            return self._target_mps
        if self._cruise_mps is None or time_us <= self._handover_us:
            self._cruise_mps = max(speed_mps, _FLOOR_MPS)
        return self._cruise_mps

    def _path(
        self, route: Route | None, now: Array, speed_mps: float
    ) -> tuple[SmoothPath, float, str]:
        """Ego's path, where on it ego must stand, and why if it must at once."""
        rotation = geometry.matrix_from_pose(now)[:3, :3]
        place, forward = now[:3], rotation[:, 0]
        waypoints = None if route is None else _distinct(route.waypoints_rig)
        reasoning = ""
        if waypoints is None:
            reasoning = "no route: braking straight ahead"
        elif waypoints[1, 0] < waypoints[0, 0]:
            reasoning = "the route lies behind: braking straight ahead"
        if reasoning or waypoints is None:
            ahead = np.stack([place, place + _STRAIGHT_M * forward])
            return smooth_path(ahead, place, forward, _MIN_JOIN_M), 0.0, reasoning
        # A Hermite that fades an offset out over a length begins to bend by 6 offset / length^2.
        offset = math.hypot(float(waypoints[0, 0]), float(waypoints[0, 1]))
        join_s = max(_JOIN_S, math.sqrt(6 * offset / _JOIN_MPS2))
        join_m = max(join_s * speed_mps, _MIN_JOIN_M)
        path = smooth_path(waypoints @ rotation.T + place, place, forward, join_m)
        stop_m = math.inf
        if path.route_end_m < _SHORT_ROUTE_M:
            last = waypoints[-1] - waypoints[-2]
            stop_m = max(path.route_end_m - math.hypot(float(last[0]), float(last[1])), 0.0)
        return path, stop_m, ""


def _bodies(actors: tuple[Actor, ...]) -> tuple[Array, Mask]:
    """Sizes ``(A, 3)`` of actors, and which of them are vehicles that move."""
    sizes = np.array([actor.size_m for actor in actors], dtype=np.float64)
    return sizes, np.array([a.actor_class in _VEHICLES and not a.is_static for a in actors])


def _distinct(waypoints: Array) -> Array | None:
    """Finite waypoints without repetitions; None if fewer than two are left.

    A foreign runtime may pad routes with NaN or repeat their end.
    """
    if not np.isfinite(waypoints).all():
        waypoints = waypoints[np.isfinite(waypoints).all(axis=1)]
    step = waypoints[1:, :2] - waypoints[:-1, :2]
    apart = step[:, 0] ** 2 + step[:, 1] ** 2 > 1e-4
    if not apart.all():
        waypoints = waypoints[np.append(True, apart)]
    return waypoints if len(waypoints) > 1 else None
