"""A kinematic bicycle that tracks its plan by pure pursuit."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import SessionInfo, VehicleRequest
from omniloop.core.errors import ConfigError, nearest
from omniloop.core.geometry import Array
from omniloop.core.motion import EgoMotion, Trajectory, grid_times_us
from omniloop.core.time import MAX_STATE_STEP_US, US_PER_S
from omniloop.physics.reference import Reference
from omniloop.physics.tracking import PoseHistory

_SUBSTEP_S = 0.01
_HOLD_MPS, _HOLD_M = 0.1, 0.1
"""Below this speed, with less than this left of the plan, ego brakes to a stop and stays."""

_MIN_SPEED_MPS = 0.25
"""Below it, yaw rate and speed do not tell the steering angle (AlpaSim's threshold)."""


@dataclass(frozen=True)
class BicycleParameters:
    """A kinematic bicycle with first-order actuators.

    The limits are those of AlpaSim's controller, the lags those of nuPlan's kinematic
    bicycle.

    Attributes:
        wheelbase_m: None for the scene's ego vehicle's.
        max_steer_rad: Of the front wheels, to either side.
        max_steer_rate_radps: Likewise.
        max_accel_mps2: Largest commanded acceleration.
        max_decel_mps2: Largest commanded deceleration, positive.
        steer_lag_s: Time constant of the steering.
        accel_lag_s: Time constant of drive and brakes.
    """

    wheelbase_m: float | None = None
    max_steer_rad: float = math.pi / 4
    max_steer_rate_radps: float = 1.0
    max_accel_mps2: float = 6.0
    max_decel_mps2: float = 9.0
    steer_lag_s: float = 0.05
    accel_lag_s: float = 0.2


_RANGES = {
    "wheelbase_m": (0.5, 20.0),
    "max_steer_rad": (0.05, 1.4),
    "max_steer_rate_radps": (0.05, 20.0),
    "max_accel_mps2": (0.1, 30.0),
    "max_decel_mps2": (0.1, 30.0),
    "steer_lag_s": (0.0, 1.0),
    "accel_lag_s": (0.0, 1.0),
}


def _parameters(vehicle: dict[str, Any] | None) -> BicycleParameters:
    """Validate the setting `controller.vehicle`.

    Raises:
        ConfigError: an unknown key, or a value that is no number or out of range.
    """
    given = dict(vehicle or {})
    known = [field.name for field in fields(BicycleParameters)]
    for key, value in given.items():
        where = f"controller.vehicle.{key}={value!r}"
        if key not in known:
            raise ConfigError(
                f"unknown vehicle parameter '{key}'.{nearest(str(key), known)}", where=where,
                remedy=f"known: {', '.join(known)}",
            )  # fmt: skip
        low, high = _RANGES[key]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise ConfigError(
                f"vehicle parameter {key} is {value!r}", where=where,
                remedy=f"give a number from {low:g} to {high:g}",
            )  # fmt: skip
    return replace(BicycleParameters(), **{key: float(value) for key, value in given.items()})


class BicycleController:
    """Kinematic bicycle on the rear axle under pure pursuit and preview control of progress.

    Steering aims at the point of the plan's path a lookahead ahead of ego's projection
    (Coulter, "Implementation of the pure pursuit path tracking algorithm", CMU-RI-TR-92-01):
    curvature ``2 sin(alpha) / distance``. Acceleration aims likewise at the plan's progress
    a preview ahead: proportional feedback on speed and, as its integral, on progress, that
    needs no derivative of the plan. The model is integrated in the plane in steps of at
    most 10 ms and does not reverse; height, roll and pitch are the plan's at ego's place.

    Args:
        vehicle: Parameters to override, see `BicycleParameters`.
        lookahead_s: Lookahead distance per speed.
        min_lookahead_m: Smallest lookahead distance.
        preview_s: How far ahead progress is met, beyond the lag of drive and brakes.
    """

    def __init__(
        self,
        vehicle: dict[str, Any] | None = None,
        lookahead_s: float = 0.6,
        min_lookahead_m: float = 3.0,
        preview_s: float = 0.5,
    ) -> None:
        if vehicle is not None and not isinstance(vehicle, dict):
            raise ConfigError(
                f"vehicle is {vehicle!r}", where="controller.vehicle",
                remedy="give parameters by name, such as controller.vehicle.wheelbase_m=2.9",
            )  # fmt: skip
        for name, value, low, high in (
            ("lookahead_s", lookahead_s, 0.1, 3.0), ("min_lookahead_m", min_lookahead_m, 1.0, 20.0),
            ("preview_s", preview_s, 0.1, 3.0),
        ):  # fmt: skip
            if not low <= value <= high:
                raise ConfigError(
                    f"{name} is {value}", where=f"controller.{name}",
                    remedy=f"give a number from {low:g} to {high:g}",
                )  # fmt: skip
        self._parameters = _parameters(vehicle)
        self._gains = _Gains(lookahead_s, min_lookahead_m, preview_s)

    def open(self, session: SessionInfo) -> BicycleSession:
        """Begin a rollout."""
        wheelbase = self._parameters.wheelbase_m or session.vehicle.wheelbase_m
        return BicycleSession(replace(self._parameters, wheelbase_m=wheelbase), self._gains)


@dataclass(frozen=True)
class _Gains:
    lookahead_s: float
    min_lookahead_m: float
    preview_s: float


@dataclass
class _State:
    """The bicycle's state in the plane."""

    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float
    accel_mps2: float
    steer_rad: float


class BicycleSession:
    """One rollout's vehicle."""

    def __init__(self, parameters: BicycleParameters, gains: _Gains) -> None:
        assert parameters.wheelbase_m is not None
        self._parameters = parameters
        self._wheelbase_m = parameters.wheelbase_m
        self._gains = gains
        self._history = PoseHistory()
        self._motion: tuple[float, float, float] | None = None

    def step(self, request: VehicleRequest) -> EgoMotion:
        """Return the vehicle's states through ``(time_us, target_us]``.

        Raises:
            PolicyError: the plan does not cover the time from now to the target.
        """
        self._history.adopt(request.time_us, request.local_to_rig)
        plan = self._history.anchored_plan(request)
        if self._motion is None or request.coerce:
            self._motion = self._adopted(request.dynamics)
        x, y = (float(v) for v in request.local_to_rig[:2])
        state = _State(x, y, float(geometry.yaw_rad(request.local_to_rig)), *self._motion)
        reference = Reference(plan, request.time_us, x, y)
        times = grid_times_us(request.time_us, request.target_us, MAX_STATE_STEP_US)
        rows = np.empty((len(times), 4))
        dynamics = np.zeros((len(times), 12))
        done_s = 0.0
        for i, until_s in enumerate(((times - request.time_us) / US_PER_S).tolist()):
            angular_accel = self._advance(state, reference, done_s, until_s)
            yaw_rate = self._yaw_rate(state)
            rows[i] = state.x_m, state.y_m, state.yaw_rad, reference.s_m
            dynamics[i, [0, 5, 6, 7, 11]] = (
                state.speed_mps, yaw_rate, state.accel_mps2, state.speed_mps * yaw_rate, angular_accel,
            )  # fmt: skip
            done_s = until_s
        self._motion = (state.speed_mps, state.accel_mps2, state.steer_rad)
        states = EgoMotion(times, _poses(rows, request.local_to_rig, plan, reference), dynamics)
        self._history.extend(states)
        return states

    def _adopted(self, dynamics: Array) -> tuple[float, float, float]:
        """Speed, acceleration and steering angle that explain a motion in the rig frame."""
        speed, limits = max(float(dynamics[0]), 0.0), self._parameters
        accel = min(max(float(dynamics[6]), -limits.max_decel_mps2), limits.max_accel_mps2)
        steer = (
            math.atan(float(dynamics[5]) * self._wheelbase_m / speed)
            if speed > _MIN_SPEED_MPS
            else 0.0
        )
        steer = min(max(steer, -limits.max_steer_rad), limits.max_steer_rad)
        return speed, accel if speed > 0 else 0.0, steer

    def _yaw_rate(self, state: _State) -> float:
        return state.speed_mps * math.tan(state.steer_rad) / self._wheelbase_m

    def _advance(self, state: _State, reference: Reference, from_s: float, until_s: float) -> float:
        """Integrate `state` in place; returns the last angular acceleration [rad/s^2]."""
        count = math.ceil((until_s - from_s) / _SUBSTEP_S - 1e-9)
        dt_s = (until_s - from_s) / count
        limits, angular_accel = self._parameters, 0.0
        to_steer = dt_s / (dt_s + limits.steer_lag_s)
        to_accel = dt_s / (dt_s + limits.accel_lag_s)
        max_turn = limits.max_steer_rate_radps * dt_s
        for k in range(count):
            rate_before, speed_before = self._yaw_rate(state), state.speed_mps
            turn = to_steer * (self._steer_command(state, reference) - state.steer_rad)
            state.steer_rad += min(max(turn, -max_turn), max_turn)
            accel = self._accel_command(state, reference, from_s + k * dt_s)
            state.accel_mps2 += to_accel * (accel - state.accel_mps2)
            if speed_before < _HOLD_MPS and reference.left_m() < _HOLD_M:
                state.speed_mps = state.accel_mps2 = angular_accel = 0.0
                continue
            state.speed_mps = max(speed_before + state.accel_mps2 * dt_s, 0.0)
            if state.speed_mps == 0.0:
                state.accel_mps2 = max(state.accel_mps2, 0.0)
            moved_m = (speed_before + state.speed_mps) / 2 * dt_s
            turned_rad = moved_m * math.tan(state.steer_rad) / self._wheelbase_m
            state.x_m += moved_m * math.cos(state.yaw_rad + turned_rad / 2)
            state.y_m += moved_m * math.sin(state.yaw_rad + turned_rad / 2)
            state.yaw_rad += turned_rad
            reference.follow(state.x_m, state.y_m)
            angular_accel = (self._yaw_rate(state) - rate_before) / dt_s
        return angular_accel

    def _steer_command(self, state: _State, reference: Reference) -> float:
        gains = self._gains
        ahead = max(gains.lookahead_s * state.speed_mps, gains.min_lookahead_m)
        x, y = reference.point(reference.s_m + ahead)
        dx, dy = x - state.x_m, y - state.y_m
        sideways = math.cos(state.yaw_rad) * dy - math.sin(state.yaw_rad) * dx
        steer = math.atan(self._wheelbase_m * 2 * sideways / max(dx * dx + dy * dy, 1.0))
        limit = self._parameters.max_steer_rad
        return min(max(steer, -limit), limit)

    def _accel_command(self, state: _State, reference: Reference, time_s: float) -> float:
        """Constant acceleration that meets the plan's progress a preview ahead.

        With ``v' = a`` and ``lag a' = command - a``, the sums ``s + lag v`` and ``v + lag a``
        move as position and speed of a point that obeys the command at once.
        """
        limits, preview_s = self._parameters, self._gains.preview_s
        lag_s = limits.accel_lag_s
        s = reference.s_m + lag_s * state.speed_mps
        speed = state.speed_mps + lag_s * state.accel_mps2
        lacking = reference.progress(time_s + lag_s + preview_s) - s - speed * preview_s
        command = 2.0 * lacking / preview_s**2
        return min(max(command, -limits.max_decel_mps2), limits.max_accel_mps2)


def _poses(rows: Array, now: Array, plan: Trajectory, reference: Reference) -> Array:
    """Poses in `local` from planar states, with the plan's height, roll and pitch.

    Args:
        rows: ``(K, 4)`` x, y, yaw, progress along the plan.
        now: ``(7,)`` pose before them: where ego has not moved, it stays to the bit.
    """
    at_s = plan.sample(reference.time_at(np.append(reference.start_s_m, rows[:, 3])))
    start, planned = at_s[0], at_s[1:]
    out = planned.copy()
    out[:, :2] = rows[:, :2]
    out[:, 2] += now[2] - start[2]
    half = (rows[:, 2] - geometry.yaw_rad(planned)) / 2
    turn = np.zeros((len(rows), 4))
    turn[:, 2], turn[:, 3] = np.sin(half), np.cos(half)
    out[:, 3:] = geometry.quat_multiply(turn, planned[:, 3:])
    still = (rows[:, 0] == now[0]) & (rows[:, 1] == now[1])
    out[still] = now
    return out
