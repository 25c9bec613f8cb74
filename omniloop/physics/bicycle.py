"""A vehicle that tracks its plan by pure pursuit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from omniloop.core.contracts import SessionInfo, VehicleRequest
from omniloop.core.errors import ConfigError
from omniloop.core.motion import Trajectory
from omniloop.core.scene import Scene
from omniloop.physics.planar import PlanarSession
from omniloop.physics.reference import Reference
from omniloop.physics.vehicle import PlanarState, VehicleChoice, VehicleModel


class BicycleController:
    """Pure pursuit and preview control of progress; by default of a kinematic bicycle.

    Steering aims at the point of the plan's path a lookahead ahead of ego's projection
    (Coulter, "Implementation of the pure pursuit path tracking algorithm", CMU-RI-TR-92-01):
    curvature ``2 sin(alpha) / distance``. Acceleration aims likewise at the plan's progress
    a preview ahead: proportional feedback on speed and, as its integral, on progress, that
    needs no derivative of the plan. The vehicle does not reverse; height, roll and pitch are
    the plan's at ego's place.

    Args:
        vehicle_model: "kinematic" or "dynamic".
        vehicle: Parameters to override, see `KinematicParameters` and `DynamicParameters`.
        lookahead_s: Lookahead distance per speed.
        min_lookahead_m: Smallest lookahead distance.
        preview_s: How far ahead progress is met, beyond the lag of drive and brakes.

    Raises:
        ConfigError: a setting is wrong.
    """

    def __init__(
        self,
        vehicle: dict[str, Any] | None = None,
        lookahead_s: float = 0.6,
        min_lookahead_m: float = 3.0,
        preview_s: float = 0.5,
        vehicle_model: str = "kinematic",
    ) -> None:
        for name, value, low, high in (
            ("lookahead_s", lookahead_s, 0.1, 3.0), ("min_lookahead_m", min_lookahead_m, 1.0, 20.0),
            ("preview_s", preview_s, 0.1, 3.0),
        ):  # fmt: skip
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not low <= value <= high:
                raise ConfigError(
                    f"{name} is {value!r}", where=f"controller.{name}",
                    remedy=f"give a number from {low:g} to {high:g}",
                )  # fmt: skip
        self._vehicle = VehicleChoice.of(vehicle_model, vehicle)
        self._gains = _Gains(lookahead_s, min_lookahead_m, preview_s)

    def check_scene(self, scene: Scene) -> None:
        """Check that the scene's ego vehicle can be this model.

        Raises:
            ConfigError: the centre of gravity does not lie between its axles.
        """
        self._vehicle.build(scene.vehicle)

    def open(self, session: SessionInfo) -> PlanarSession:
        """Begin a rollout."""
        model = self._vehicle.build(session.vehicle)
        return PlanarSession(model, _Pursuit(model, self._gains))


@dataclass(frozen=True)
class _Gains:
    lookahead_s: float
    min_lookahead_m: float
    preview_s: float


class _Pursuit:
    """Pure pursuit and preview control, anew at every sub-step."""

    _reference: Reference

    def __init__(self, model: VehicleModel, gains: _Gains) -> None:
        self._model = model
        self._gains = gains

    def begin(
        self, request: VehicleRequest, plan: Trajectory, reference: Reference, adopted: bool
    ) -> None:
        self._reference = reference

    def decide(self, state: PlanarState, time_s: float) -> None:
        """Nothing is held: every sub-step has its own command."""

    def command(self, state: PlanarState, time_s: float) -> tuple[float, float]:
        return self._steer(state), self._accel(state, time_s)

    def facts(self) -> dict[str, object]:
        return {}

    def _steer(self, state: PlanarState) -> float:
        gains = self._gains
        ahead = max(gains.lookahead_s * state.speed_mps, gains.min_lookahead_m)
        x, y = self._reference.point(self._reference.s_m + ahead)
        dx, dy = x - state.x_m, y - state.y_m
        sideways = math.cos(state.yaw_rad) * dy - math.sin(state.yaw_rad) * dx
        curvature = 2 * sideways / max(dx * dx + dy * dy, 1.0)
        return self._model.steer_for(curvature, state.speed_mps)

    def _accel(self, state: PlanarState, time_s: float) -> float:
        """Constant acceleration that meets the plan's progress a preview ahead.

        With ``v' = a`` and ``lag a' = command - a``, the sums ``s + lag v`` and ``v + lag a``
        move as position and speed of a point that obeys the command at once.
        """
        limits, preview_s = self._model.limits, self._gains.preview_s
        lag_s = limits.accel_lag_s
        s = self._reference.s_m + lag_s * state.speed_mps
        speed = state.speed_mps + lag_s * state.accel_mps2
        lacking = self._reference.progress(time_s + lag_s + preview_s) - s - speed * preview_s
        command = 2.0 * lacking / preview_s**2
        return min(max(command, -limits.max_decel_mps2), limits.max_accel_mps2)
