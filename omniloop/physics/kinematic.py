"""A kinematic bicycle, written for its rear axle."""

from __future__ import annotations

import math

import numpy as np

from omniloop.core.geometry import Array
from omniloop.physics.vehicle import (
    GRAVITY_MPS2,
    MIN_SPEED_MPS,
    KinematicParameters,
    PlanarState,
)

_LEAST_LAG_S = 1e-3
"""For the linear system: a smaller lag is as good as none."""


class KinematicBicycle:
    """No slip: the rear axle moves along its heading and turns by ``v tan(steer) / L``.

    Actuators are first-order lags, integrated as nuPlan does:
    ``x += dt / (dt + lag) (command - x)``. The acceleration of the rear axle, ``(a, v^2
    tan(steer) / L)``, never exceeds ``friction g``: a larger one is scaled down to it as a
    vector, so that a vehicle too fast for its steering angle runs wide. It does not reverse.

    Args:
        parameters: With a wheelbase.
    """

    substep_s = 0.01

    def __init__(self, parameters: KinematicParameters) -> None:
        assert parameters.wheelbase_m is not None
        self.limits = parameters
        self._wheelbase_m = parameters.wheelbase_m
        self._grip_mps2 = parameters.friction * GRAVITY_MPS2

    def adopted(self, dynamics: Array) -> PlanarState:
        """Speed, acceleration and steering angle that explain a motion in the rig frame."""
        speed, limits = max(float(dynamics[0]), 0.0), self.limits
        accel = min(max(float(dynamics[6]), -limits.max_decel_mps2), limits.max_accel_mps2)
        steer = (
            math.atan(float(dynamics[5]) * self._wheelbase_m / speed)
            if speed > MIN_SPEED_MPS
            else 0.0
        )
        steer = min(max(steer, -limits.max_steer_rad), limits.max_steer_rad)
        yaw_rate = speed * math.tan(steer) / self._wheelbase_m
        return PlanarState(
            speed_mps=speed, yaw_rate_radps=yaw_rate, steer_rad=steer,
            accel_mps2=accel if speed > 0 else 0.0,
        )  # fmt: skip

    def advance(self, state: PlanarState, steer_rad: float, accel_mps2: float, dt_s: float) -> None:
        """Move `state` by `dt_s` under commands held through it."""
        self._turn_wheels(state, steer_rad, dt_s)
        before_mps = state.speed_mps
        state.accel_mps2 += (
            dt_s / (dt_s + self.limits.accel_lag_s) * (accel_mps2 - state.accel_mps2)
        )
        accel, tangent = state.accel_mps2, math.tan(state.steer_rad)
        fast_mps = max(before_mps, before_mps + accel * dt_s)
        side = fast_mps * fast_mps * tangent / self._wheelbase_m
        needed2, grip = accel * accel + side * side, self._grip_mps2
        if needed2 > grip * grip:
            part = grip / math.sqrt(needed2)
            accel, tangent = accel * part, tangent * part
        state.speed_mps = max(before_mps + accel * dt_s, 0.0)
        if state.speed_mps == 0.0:
            state.accel_mps2 = max(state.accel_mps2, 0.0)
            accel = max(accel, 0.0)
        moved_m = (before_mps + state.speed_mps) / 2 * dt_s
        turned_rad = moved_m * tangent / self._wheelbase_m
        state.x_m += moved_m * math.cos(state.yaw_rad + turned_rad / 2)
        state.y_m += moved_m * math.sin(state.yaw_rad + turned_rad / 2)
        state.yaw_rad += turned_rad
        rate = state.speed_mps * tangent / self._wheelbase_m
        state.yaw_accel_radps2 = (rate - state.yaw_rate_radps) / dt_s
        state.yaw_rate_radps = rate
        state.forward_mps2, state.side_mps2 = accel, state.speed_mps * rate

    def hold(self, state: PlanarState, steer_rad: float, dt_s: float) -> None:
        """Stand for `dt_s`; the wheels go on turning."""
        self._turn_wheels(state, steer_rad, dt_s)
        state.stop()

    def _turn_wheels(self, state: PlanarState, steer_rad: float, dt_s: float) -> None:
        limits = self.limits
        wished = min(max(steer_rad, -limits.max_steer_rad), limits.max_steer_rad)
        turn = dt_s / (dt_s + limits.steer_lag_s) * (wished - state.steer_rad)
        most = limits.max_steer_rate_radps * dt_s
        state.steer_rad += min(max(turn, -most), most)

    def rig_motion(self, state: PlanarState) -> tuple[float, float, float, float, float, float]:
        """See `VehicleModel`; the lateral velocity is 0."""
        return (
            state.speed_mps, 0.0, state.yaw_rate_radps, state.forward_mps2, state.side_mps2,
            state.yaw_accel_radps2,
        )  # fmt: skip

    def steer_for(self, curvature: float, speed_mps: float) -> float:
        """``atan(L curvature)``."""
        limit = self.limits.max_steer_rad
        return min(max(math.atan(self._wheelbase_m * curvature), -limit), limit)

    def steering_length_m(self, speed_mps: float) -> float:
        """The wheelbase, at any speed."""
        return self._wheelbase_m

    def heading_ahead_rad(self, curvature: float, speed_mps: float) -> float:
        """None: the rear axle does not slip."""
        return 0.0

    def lateral_states(self, state: PlanarState) -> list[float]:
        """The steering angle."""
        return [state.steer_rad]

    def lateral_system(self, speed_mps: Array) -> tuple[Array, Array]:
        """See `VehicleModel`; the states are place, heading and steering angle."""
        lag_s = max(self.limits.steer_lag_s, _LEAST_LAG_S)
        a, b = np.zeros((len(speed_mps), 3, 3)), np.zeros((len(speed_mps), 3))
        a[:, 0, 1] = speed_mps
        a[:, 1, 2] = speed_mps / self._wheelbase_m
        a[:, 2, 2], b[:, 2] = -1 / lag_s, 1 / lag_s
        return a, b
