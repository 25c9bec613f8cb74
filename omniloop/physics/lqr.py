"""Tracking by two decoupled linear-quadratic regulators, as nuPlan's simulation does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from omniloop.core.contracts import SessionInfo, VehicleRequest
from omniloop.core.errors import ConfigError
from omniloop.core.motion import Trajectory
from omniloop.core.scene import Scene
from omniloop.physics.planar import PlanarSession
from omniloop.physics.preview import LONGEST_GAP, STEP_S, Preview
from omniloop.physics.profiles import curvature_profile, speed_profile
from omniloop.physics.reference import Reference
from omniloop.physics.vehicle import (
    KinematicParameters,
    PlanarState,
    VehicleChoice,
    VehicleModel,
)

_HORIZON = 10
_Q_SPEED, _R_ACCEL = 10.0, 1.0
_Q_PLACE, _Q_HEADING, _R_STEER_RATE = 1.0, 10.0, 1.0
_STOP_MPS, _STOP_GAIN = 0.2, 0.5
"""nuPlan's weights; the steering angle itself weighs nothing."""

_FIT = 20
"""Steps of the plan in which speed and curvature are sought."""

_CATCH_UP_S = 2.0
"""A distance behind the plan is made up in this time."""

_MOST_LAG_M = 10.0


class LqrController:
    """nuPlan's LQR tracker; by default of a kinematic bicycle.

    Every 100 ms, and when a plan comes, speed and curvature of the plan are found by regularised
    least squares. One regulator brings the speed to the plan's by a constant acceleration over
    1 s; the other brings place and heading beside the plan's path to 0 by a constant rate of
    steering over 1 s: ``u = -(B^T Q B + R)^-1 B^T Q (A x_0 + g - x_ref)``, anew each time.
    Below 0.2 m/s a proportional law stops the vehicle, and it is not steered.

    With `feedforward` they regulate the deviation from the plan's own steering and acceleration.
    Without, as in nuPlan, the inputs themselves, with the plan's curvature as a known disturbance and its
    speed 1 s ahead as the goal; an input that is constant over 1 s cuts what is shorter.

    In both, the lags of the actuators are known: the steering command leads the angle by its lag,
    and place and speed are what they will be once the acceleration in force has died out.
    Distance behind the plan is made up, not only speed. And where ego should be now is where the
    poses after the plan's first lead back to: a plan begins at ego's own pose, beside which there
    is never an error.

    Args:
        vehicle_model: "kinematic" or "dynamic".
        vehicle: Parameters to override, see `KinematicParameters` and `DynamicParameters`.
        feedforward: Regulate deviations.

    Raises:
        ConfigError: a setting is wrong.
    """

    def __init__(
        self,
        vehicle_model: str = "kinematic",
        vehicle: dict[str, Any] | None = None,
        feedforward: bool = True,
    ) -> None:
        if not isinstance(feedforward, bool):
            raise ConfigError(
                f"feedforward is {feedforward!r}", where="controller.feedforward",
                remedy="give true or false",
            )  # fmt: skip
        self._vehicle = VehicleChoice.of(vehicle_model, vehicle)
        self._feedforward = feedforward

    def check_scene(self, scene: Scene) -> None:
        """Check that the scene's ego vehicle can be this model.

        Raises:
            ConfigError: the centre of gravity does not lie between its axles.
        """
        self._vehicle.build(scene.vehicle)

    def open(self, session: SessionInfo) -> PlanarSession:
        """Begin a rollout."""
        model = self._vehicle.build(session.vehicle)
        return PlanarSession(model, _Regulators(model, self._feedforward))


class _Regulators:
    """The two regulators of one rollout."""

    _preview: Preview

    def __init__(self, model: VehicleModel, feedforward: bool) -> None:
        self._model = model
        self._feedforward = feedforward
        self._decided_s = 0.0
        self._steer_rad = self._steer_rate_radps = self._accel_mps2 = 0.0

    def begin(
        self, request: VehicleRequest, plan: Trajectory, reference: Reference, adopted: bool
    ) -> None:
        span_us = request.target_us - request.time_us
        ahead = LONGEST_GAP + _FIT + 1
        self._preview = Preview(plan, request.time_us, span_us, ahead, reference.last_mps)

    def decide(self, state: PlanarState, time_s: float) -> None:
        path = _Path(self._preview, round(time_s / STEP_S))
        behind_m, beside_m, turned_rad = path.error(state)
        self._decided_s, self._steer_rad = time_s, state.steer_rad
        self._accel_mps2, stopping = self._accel(path, state, behind_m)
        self._steer_rate_radps = (
            0.0 if stopping else self._steer_rate(path, state, beside_m, turned_rad)
        )

    def _accel(self, path: _Path, state: PlanarState, behind_m: float) -> tuple[float, bool]:
        """Acceleration to hold, and whether the vehicle is being stopped.

        With ``v' = a`` and ``lag a' = command - a``, the sums ``s + lag v`` and ``v + lag a``
        move as place and speed of a point that obeys the command at once.
        """
        limits = self._model.limits
        lag_s = limits.accel_lag_s
        speed = max(state.speed_mps + lag_s * state.accel_mps2, 0.0)
        planned, planned_accel = path.speed_at(lag_s)
        behind_m += lag_s * (path.speed_at(0.0)[0] - state.speed_mps)
        catch_up = min(max(behind_m, -_MOST_LAG_M), _MOST_LAG_M) / _CATCH_UP_S
        if not self._feedforward:
            planned, planned_accel = path.speed_mps[_HORIZON], 0.0
        wished = max(planned + catch_up, 0.0)
        stopping = max(wished, speed) <= _STOP_MPS
        reach_s = _HORIZON * STEP_S
        gain = reach_s * _Q_SPEED / (reach_s * _Q_SPEED * reach_s + _R_ACCEL)
        accel = (
            _STOP_GAIN * (wished - speed) if stopping else planned_accel + gain * (wished - speed)
        )
        return min(max(accel, -limits.max_decel_mps2), limits.max_accel_mps2), stopping

    def _steer_rate(
        self, path: _Path, state: PlanarState, beside_m: float, turned_rad: float
    ) -> float:
        """The one-step regulator of ``(place, heading, steering angle)`` over the horizon."""
        length_m = self._model.steering_length_m
        planned, planned_rate = path.steering(length_m(state.speed_mps), self._model.limits)
        off = state.steer_rad - planned if self._feedforward else state.steer_rad
        place, heading = beside_m, turned_rad
        if self._feedforward:
            bend = planned / length_m(state.speed_mps)
            heading -= self._model.heading_ahead_rad(bend, state.speed_mps)
        d_place = d_heading = d_steer = 0.0  # by the rate of steering
        for k in range(_HORIZON):
            speed = max(state.speed_mps + self._accel_mps2 * k * STEP_S, 0.0)
            moved = speed * STEP_S
            turn = moved / length_m(speed)
            place += moved * heading
            d_place += moved * d_heading
            heading += turn * off
            if not self._feedforward:
                heading -= moved * path.curvature[k]
            d_heading += turn * d_steer
            d_steer += STEP_S
        weighed = _Q_PLACE * d_place * place + _Q_HEADING * d_heading * heading
        rate = -weighed / (_Q_PLACE * d_place**2 + _Q_HEADING * d_heading**2 + _R_STEER_RATE)
        return rate + planned_rate if self._feedforward else rate

    def command(self, state: PlanarState, time_s: float) -> tuple[float, float]:
        # A first-order lag follows a ramp at its own rate if the command leads by the lag.
        since_s = time_s - self._decided_s + self._model.limits.steer_lag_s
        return self._steer_rad + self._steer_rate_radps * since_s, self._accel_mps2

    def facts(self) -> dict[str, object]:
        return {}


class _Path:
    """The plan from a decision on.

    Args:
        preview: The plan.
        at: The preview's knot of the decision.

    Attributes:
        speed_mps: Mean of each step of 100 ms.
        curvature: Likewise [1/m].
    """

    def __init__(self, preview: Preview, at: int) -> None:
        gap = max(preview.sure - at, 0)
        knots = slice(at + gap, at + gap + _FIT + 1)
        x, y, yaw = preview.x_m[knots], preview.y_m[knots], preview.yaw_rad[knots]
        speed = np.maximum(speed_profile(x, y, yaw, STEP_S), 0.0)
        self.curvature: list[float] = curvature_profile(yaw, speed, STEP_S).tolist()
        self.speed_mps: list[float] = speed.tolist()
        self._x_m, self._y_m, self._yaw_rad = float(x[0]), float(y[0]), float(yaw[0])
        if gap:
            self._lead_back(gap)

    def _lead_back(self, gap: int) -> None:
        """Put steps in front: the last with the change of those after it, the others steady."""
        speed = max(2 * self.speed_mps[0] - self.speed_mps[1], 0.0)
        curvature = 2 * self.curvature[0] - self.curvature[1]
        back_m = STEP_S * ((speed + self.speed_mps[0]) / 2 + (gap - 1) * speed)
        turn = back_m * curvature
        middle = self._yaw_rad - turn / 2
        self._x_m -= back_m * math.cos(middle)
        self._y_m -= back_m * math.sin(middle)
        self._yaw_rad -= turn
        self.speed_mps = [speed] * gap + self.speed_mps
        self.curvature = [curvature] * gap + self.curvature

    def speed_at(self, time_s: float) -> tuple[float, float]:
        """Planned speed and acceleration at a time up to 1 s after the decision."""
        since = time_s / STEP_S - 0.5
        k = min(max(int(since), 0), _FIT - 2)
        accel = (self.speed_mps[k + 1] - self.speed_mps[k]) / STEP_S
        return max(self.speed_mps[k] + accel * STEP_S * (since - k), 0.0), accel

    def steering(self, length_m: float, limits: KinematicParameters) -> tuple[float, float]:
        """Planned steering angle at the decision and its rate."""
        rate = length_m * (self.curvature[1] - self.curvature[0]) / STEP_S
        angle = length_m * self.curvature[0] - rate * STEP_S / 2
        most, most_rate = limits.max_steer_rad, limits.max_steer_rate_radps
        return min(max(angle, -most), most), min(max(rate, -most_rate), most_rate)

    def error(self, state: PlanarState) -> tuple[float, float, float]:
        """How far ego is behind its place on the path, to the left of the path beside it, and
        its heading relative to the path there."""
        cos, sin = math.cos(self._yaw_rad), math.sin(self._yaw_rad)
        dx, dy = state.x_m - self._x_m, state.y_m - self._y_m
        along = min(max(cos * dx + sin * dy, -_MOST_LAG_M), _MOST_LAG_M)
        turn = along * self.curvature[0]
        beside = cos * dy - sin * dx - along * turn / 2
        return -along, beside, math.remainder(state.yaw_rad - self._yaw_rad - turn, 2 * math.pi)
