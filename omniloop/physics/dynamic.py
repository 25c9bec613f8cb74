"""A planar dynamic bicycle with linear tyres, written for its centre of gravity."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from omniloop.core.errors import ConfigError
from omniloop.core.geometry import Array
from omniloop.physics.vehicle import (
    GRAVITY_MPS2,
    MIN_SPEED_MPS,
    DynamicParameters,
    PlanarState,
)

_BLEND_MPS = 5.0
_BLEND_GAIN = 10.0
"""Below this speed, lateral velocity and yaw rate go to those without slip at this rate [1/s]."""

_CG_PART = 1.59 / 2.85
_LEAST_LAG_S = 1e-3
_LONGEST_S = 0.01


class DynamicBicycle:
    """AlpaSim's reference vehicle, within the friction of its tyres.

    With ``f = L - l`` and ``l`` the distances of the axles from the centre of gravity, the
    tyres give ``F_f = 2 C_f (steer - (v_y + f r) / v_x)`` and ``F_r = -2 C_r (v_y - l r) /
    v_x``; then ``v_y' = (F_f + F_r) / m - v_x r``, ``r' = (f F_f - l F_r) / I_z`` and
    ``v_x' = a``: drive and brakes are taken to hold the front tyres' drag too (Rajamani,
    Vehicle Dynamics and Control, section 2.3). Below 5 m/s, where slip angles lose their meaning,
    ``v_y' = 10 (v_x steer l / L - v_y)`` and ``r' = 10 (v_x steer / L - r)``. Actuators are exact
    first-order lags; the rest is integrated by the midpoint rule (RK2). It does not reverse.

    Each axle bears its static part of the weight and gives that part of the longitudinal
    force; a force of an axle beyond ``friction`` times its weight is scaled down to it as a
    vector, so that the acceleration of the centre of gravity never exceeds ``friction g``. (The
    rig's own differs by ``r^2 l`` and ``r' l``.)

    Args:
        parameters: With a wheelbase.

    Raises:
        ConfigError: the centre of gravity does not lie between the axles.
    """

    def __init__(self, parameters: DynamicParameters) -> None:
        assert parameters.wheelbase_m is not None
        wheelbase_m, rear_m = parameters.wheelbase_m, parameters.cg_from_rear_m
        if rear_m is None:
            rear_m = _CG_PART * wheelbase_m
        if not 0 < rear_m < wheelbase_m:
            raise ConfigError(
                f"the centre of gravity lies {rear_m:g} m before the rear axle, with a wheelbase of"
                f" {wheelbase_m:g} m",
                where=f"controller.vehicle.cg_from_rear_m={rear_m!r}",
                remedy="give a distance between 0 and the wheelbase",
            )
        self.limits = replace(parameters, cg_from_rear_m=rear_m)
        self._wheelbase_m, self._rear_m, self._front_m = wheelbase_m, rear_m, wheelbase_m - rear_m
        self._mass_kg, self._inertia_kgm2 = parameters.mass_kg, parameters.yaw_inertia_kgm2
        self._front_npr = 2 * parameters.front_stiffness_npr
        self._rear_npr = 2 * parameters.rear_stiffness_npr
        self._front_kg = self._mass_kg * rear_m / wheelbase_m
        self._rear_kg = self._mass_kg - self._front_kg
        self._grip_mps2 = parameters.friction * GRAVITY_MPS2
        self.understeer_s2pm = self._front_kg / self._front_npr - self._rear_kg / self._rear_npr
        # The slip dynamics are fastest where they begin; the midpoint rule wants |rate| dt < 2.
        stiff = self.lateral_system(np.array([_BLEND_MPS]))[0][0, 2:4, 2:4]
        self.substep_s = min(_LONGEST_S, 1.0 / float(np.abs(np.linalg.eigvals(stiff)).max()))

    def adopted(self, dynamics: Array) -> PlanarState:
        """The state that explains a motion in the rig frame, moved to the centre of gravity."""
        vx, vy, rate = max(float(dynamics[0]), 0.0), float(dynamics[1]), float(dynamics[5])
        limits = self.limits
        # Of the rig, a_x = v_x' - v_y r.
        accel = float(dynamics[6]) + vy * rate
        accel = min(max(accel, -limits.max_decel_mps2), limits.max_accel_mps2)
        steer = math.atan(rate * self._wheelbase_m / vx) if vx > MIN_SPEED_MPS else 0.0
        if vx == 0.0:
            return PlanarState()
        return PlanarState(
            speed_mps=vx, lateral_mps=vy + rate * self._rear_m, yaw_rate_radps=rate,
            steer_rad=min(max(steer, -limits.max_steer_rad), limits.max_steer_rad),
            accel_mps2=accel,
        )  # fmt: skip

    def advance(self, state: PlanarState, steer_rad: float, accel_mps2: float, dt_s: float) -> None:
        """Move `state` by `dt_s` under commands held through it."""
        steer_before, accel_before = state.steer_rad, state.accel_mps2
        self._turn_wheels(state, steer_rad, dt_s)
        state.accel_mps2 += _share(dt_s, self.limits.accel_lag_s) * (accel_mps2 - accel_before)
        steer = (steer_before + state.steer_rad) / 2
        accel = (accel_before + state.accel_mps2) / 2
        vx, vy, rate = state.speed_mps, state.lateral_mps, state.yaw_rate_radps
        half_s = dt_s / 2
        dvx, dvy, drate = self._rates(vx, vy, rate, steer_before, accel_before)[:3]
        vx_mid = max(vx + half_s * dvx, 0.0)
        vy_mid, rate_mid = vy + half_s * dvy, rate + half_s * drate
        yaw_mid = state.yaw_rad + half_s * rate
        dvx, dvy, drate = self._rates(vx_mid, vy_mid, rate_mid, steer, accel)[:3]
        cos, sin = math.cos(yaw_mid), math.sin(yaw_mid)
        left = vy_mid - rate_mid * self._rear_m  # of the rear axle, where the rig is
        state.x_m += dt_s * (vx_mid * cos - left * sin)
        state.y_m += dt_s * (vx_mid * sin + left * cos)
        state.yaw_rad += dt_s * rate_mid
        state.speed_mps = max(vx + dt_s * dvx, 0.0)
        state.lateral_mps, state.yaw_rate_radps = vy + dt_s * dvy, rate + dt_s * drate
        if state.speed_mps == 0.0:
            state.accel_mps2 = max(state.accel_mps2, 0.0)
        *_, drate, forward, side = self._rates(
            state.speed_mps, state.lateral_mps, state.yaw_rate_radps, state.steer_rad,
            state.accel_mps2,
        )  # fmt: skip
        state.forward_mps2, state.side_mps2, state.yaw_accel_radps2 = forward, side, drate

    def hold(self, state: PlanarState, steer_rad: float, dt_s: float) -> None:
        """Stand for `dt_s`; the wheels go on turning."""
        self._turn_wheels(state, steer_rad, dt_s)
        state.stop()

    def _turn_wheels(self, state: PlanarState, steer_rad: float, dt_s: float) -> None:
        limits = self.limits
        wished = min(max(steer_rad, -limits.max_steer_rad), limits.max_steer_rad)
        turn = _share(dt_s, limits.steer_lag_s) * (wished - state.steer_rad)
        most = limits.max_steer_rate_radps * dt_s
        state.steer_rad += min(max(turn, -most), most)

    def _rates(
        self, vx: float, vy: float, rate: float, steer: float, accel: float
    ) -> tuple[float, float, float, float, float]:
        """``v_x'``, ``v_y'``, ``r'`` and the acceleration forward and to the left."""
        forward, grip = accel - vy * rate, self._grip_mps2
        if vx < _BLEND_MPS:
            length = self._wheelbase_m
            side = _BLEND_GAIN * (vx * steer * self._rear_m / length - vy) + vx * rate
            turn = _BLEND_GAIN * (vx * steer / length - rate)
            part = _within(grip, forward, side)
            forward, side = part * forward, part * side
        else:
            front = self._front_npr * (steer - (vy + self._front_m * rate) / vx)
            rear = -self._rear_npr * (vy - self._rear_m * rate) / vx
            front_part = _within(grip, forward, front / self._front_kg)
            rear_part = _within(grip, forward, rear / self._rear_kg)
            front, rear = front_part * front, rear_part * rear
            drive = front_part * self._front_kg + rear_part * self._rear_kg
            forward *= drive / self._mass_kg
            side = (front + rear) / self._mass_kg
            turn = (self._front_m * front - self._rear_m * rear) / self._inertia_kgm2
        return forward + vy * rate, side - vx * rate, turn, forward, side

    def rig_motion(self, state: PlanarState) -> tuple[float, float, float, float, float, float]:
        """See `VehicleModel`; moved from the centre of gravity to the rear axle."""
        rate, turn, rear_m = state.yaw_rate_radps, state.yaw_accel_radps2, self._rear_m
        return (
            state.speed_mps, state.lateral_mps - rate * rear_m, rate,
            state.forward_mps2 + rate * rate * rear_m, state.side_mps2 - turn * rear_m, turn,
        )  # fmt: skip

    def steer_for(self, curvature: float, speed_mps: float) -> float:
        """``(L + K v^2) curvature``."""
        limit = self.limits.max_steer_rad
        return min(max(self.steering_length_m(speed_mps) * curvature, -limit), limit)

    def steering_length_m(self, speed_mps: float) -> float:
        """``L + K v^2`` with the understeer gradient ``K = m / L (l / 2 C_f - f / 2 C_r)``."""
        if speed_mps < _BLEND_MPS:
            return self._wheelbase_m
        return self._wheelbase_m + self.understeer_s2pm * speed_mps**2

    def heading_ahead_rad(self, curvature: float, speed_mps: float) -> float:
        """The rear tyres' slip angle ``m_r v^2 curvature / 2 C_r``."""
        if speed_mps < _BLEND_MPS:
            return 0.0
        return self._rear_kg * speed_mps**2 * curvature / self._rear_npr

    def lateral_states(self, state: PlanarState) -> list[float]:
        """Lateral velocity of the centre of gravity, yaw rate and steering angle."""
        return [state.lateral_mps, state.yaw_rate_radps, state.steer_rad]

    def lateral_system(self, speed_mps: Array) -> tuple[Array, Array]:
        """See `VehicleModel`; the states are place, heading and `lateral_states`."""
        lag_s = max(self.limits.steer_lag_s, _LEAST_LAG_S)
        v, length = np.maximum(speed_mps, 0.0), self._wheelbase_m
        a, b = np.zeros((len(v), 5, 5)), np.zeros((len(v), 5))
        a[:, 0, 1], a[:, 0, 2], a[:, 0, 3] = v, 1.0, -self._rear_m
        a[:, 1, 3] = 1.0
        a[:, 4, 4], b[:, 4] = -1 / lag_s, 1 / lag_s
        slow = v < _BLEND_MPS
        mass, inertia, at = self._mass_kg, self._inertia_kgm2, np.where(slow, _BLEND_MPS, v)
        front, rear, f, r = self._front_npr, self._rear_npr, self._front_m, self._rear_m
        both = f * front - r * rear
        a[:, 2, 2] = np.where(slow, -_BLEND_GAIN, -(front + rear) / (mass * at))
        a[:, 2, 3] = np.where(slow, 0.0, -v - both / (mass * at))
        a[:, 2, 4] = np.where(slow, _BLEND_GAIN * v * r / length, front / mass)
        a[:, 3, 2] = np.where(slow, 0.0, -both / (inertia * at))
        stiff = f * f * front + r * r * rear
        a[:, 3, 3] = np.where(slow, -_BLEND_GAIN, -stiff / (inertia * at))
        a[:, 3, 4] = np.where(slow, _BLEND_GAIN * v / length, f * front / inertia)
        return a, b


def _share(dt_s: float, lag_s: float) -> float:
    """How much of the way to its command a first-order lag goes in `dt_s`."""
    return 1.0 - math.exp(-dt_s / lag_s) if lag_s > 0 else 1.0


def _within(most: float, forward: float, side: float) -> float:
    """The factor that brings a vector down to a length."""
    length2 = forward * forward + side * side
    return most / math.sqrt(length2) if length2 > most * most else 1.0
