"""What vehicle models share: their state in the plane, and being chosen by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from omniloop.core.errors import ConfigError, nearest
from omniloop.core.geometry import Array
from omniloop.core.scene import Vehicle

GRAVITY_MPS2 = 9.81

MIN_SPEED_MPS = 0.25
"""Below it, yaw rate and speed do not tell the steering angle (AlpaSim's threshold)."""


@dataclass(slots=True)
class PlanarState:
    """A vehicle in the plane.

    Attributes:
        x_m: Place of the rig (the rear axle) in `local`.
        y_m: Likewise.
        yaw_rad: Heading in `local`.
        speed_mps: Forward velocity, never negative.
        lateral_mps: Velocity to the left of the point that the model is written for: the
            rear axle of a kinematic bicycle (always 0), the centre of gravity of a dynamic one.
        yaw_rate_radps: Positive to the left.
        steer_rad: Of the front wheels, behind the actuator.
        accel_mps2: Of drive and brakes, behind the actuator.
        forward_mps2: Acceleration that the tyres let through, of the same point.
        side_mps2: Likewise, to the left.
        yaw_accel_radps2: Of the last sub-step.
    """

    x_m: float = 0.0
    y_m: float = 0.0
    yaw_rad: float = 0.0
    speed_mps: float = 0.0
    lateral_mps: float = 0.0
    yaw_rate_radps: float = 0.0
    steer_rad: float = 0.0
    accel_mps2: float = 0.0
    forward_mps2: float = 0.0
    side_mps2: float = 0.0
    yaw_accel_radps2: float = 0.0

    def stop(self) -> None:
        """Stand from now on; place, heading and wheels stay."""
        self.speed_mps = self.lateral_mps = self.yaw_rate_radps = self.accel_mps2 = 0.0
        self.forward_mps2 = self.side_mps2 = self.yaw_accel_radps2 = 0.0


class VehicleModel(Protocol):
    """Moves a `PlanarState`; holds no state of its own, so one serves any number of vehicles."""

    @property
    def limits(self) -> KinematicParameters:
        """Limits and lags of the actuators."""
        ...

    @property
    def substep_s(self) -> float:
        """The longest step of `advance`."""
        ...

    def adopted(self, dynamics: Array) -> PlanarState:
        """The state that explains a motion ``(12,)`` of the rig, at the origin of `local`."""
        ...

    def advance(self, state: PlanarState, steer_rad: float, accel_mps2: float, dt_s: float) -> None:
        """Move `state` by `dt_s` under commands held through it."""
        ...

    def hold(self, state: PlanarState, steer_rad: float, dt_s: float) -> None:
        """Stand for `dt_s`; only the wheels may turn."""
        ...

    def rig_motion(self, state: PlanarState) -> tuple[float, float, float, float, float, float]:
        """Forward and left velocity, yaw rate, forward and left acceleration as an observer at
        rest sees them, and yaw acceleration, of the rig in its own axes."""
        ...

    def steer_for(self, curvature: float, speed_mps: float) -> float:
        """The steering angle [rad] that keeps a curvature [1/m] in the steady state."""
        ...

    def steering_length_m(self, speed_mps: float) -> float:
        """Steering angle over curvature in the steady state, for small angles."""
        ...

    def heading_ahead_rad(self, curvature: float, speed_mps: float) -> float:
        """How far the heading leads the rig's direction of motion in a steady turn."""
        ...

    def lateral_states(self, state: PlanarState) -> list[float]:
        """The last states of `lateral_system`, from the third on."""
        ...

    def lateral_system(self, speed_mps: Array) -> tuple[Array, Array]:
        """Lateral motion at constant speeds ``(K,)``, linear in small headings.

        Returns:
            ``(K, n, n)`` and ``(K, n)`` of ``x' = A x + B u``: x is the rig's place to the
            left [m], its heading [rad], and `lateral_states`, whose last is the steering
            angle; u is the commanded steering angle.
        """
        ...


@dataclass(frozen=True)
class KinematicParameters:
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
        friction: Coefficient between tyres and road; 0.9 is dry asphalt.
    """

    wheelbase_m: float | None = None
    max_steer_rad: float = math.pi / 4
    max_steer_rate_radps: float = 1.0
    max_accel_mps2: float = 6.0
    max_decel_mps2: float = 9.0
    steer_lag_s: float = 0.05
    accel_lag_s: float = 0.2
    friction: float = 0.9


@dataclass(frozen=True)
class DynamicParameters(KinematicParameters):
    """A planar dynamic bicycle with linear tyres: AlpaSim's constants.

    Attributes:
        mass_kg: Of the vehicle.
        yaw_inertia_kgm2: About the centre of gravity.
        cg_from_rear_m: From the rear axle to the centre of gravity; None for AlpaSim's
            fraction of the wheelbase, 1.59 m of 2.85 m.
        front_stiffness_npr: Cornering stiffness of one front tyre [N/rad].
        rear_stiffness_npr: Of one rear tyre.
    """

    max_steer_rate_radps: float = 2.0
    steer_lag_s: float = 0.1
    accel_lag_s: float = 0.1
    mass_kg: float = 2014.4
    yaw_inertia_kgm2: float = 3414.2
    cg_from_rear_m: float | None = None
    front_stiffness_npr: float = 93_534.5
    rear_stiffness_npr: float = 176_162.1


_PARAMETERS: dict[str, type[KinematicParameters]] = {
    "kinematic": KinematicParameters,
    "dynamic": DynamicParameters,
}

_RANGES = {
    "wheelbase_m": (0.5, 20.0),
    "max_steer_rad": (0.05, 1.4),
    "max_steer_rate_radps": (0.05, 20.0),
    "max_accel_mps2": (0.1, 30.0),
    "max_decel_mps2": (0.1, 30.0),
    "steer_lag_s": (0.0, 1.0),
    "accel_lag_s": (0.0, 1.0),
    "friction": (0.05, 3.0),
    "mass_kg": (50.0, 100_000.0),
    "yaw_inertia_kgm2": (10.0, 1e6),
    "cg_from_rear_m": (0.1, 19.9),
    "front_stiffness_npr": (1e3, 1e7),
    "rear_stiffness_npr": (1e3, 1e7),
}


@dataclass(frozen=True)
class VehicleChoice:
    """A validated model with its parameters, as the settings of a controller give them."""

    name: str
    parameters: KinematicParameters

    @classmethod
    def of(cls, vehicle_model: str, vehicle: Mapping[str, Any] | None) -> VehicleChoice:
        """Check `controller.vehicle_model` and `controller.vehicle`.

        Raises:
            ConfigError: an unknown model or key, or a value that is no number or out of
                range.
        """
        if vehicle_model not in _PARAMETERS:
            raise ConfigError(
                f"vehicle_model is {vehicle_model!r}", where="controller.vehicle_model",
                remedy=f"choose {' or '.join(_PARAMETERS)}",
            )  # fmt: skip
        if vehicle is not None and not isinstance(vehicle, Mapping):
            raise ConfigError(
                f"vehicle is {vehicle!r}", where="controller.vehicle",
                remedy="give parameters by name, such as controller.vehicle.wheelbase_m=2.9",
            )  # fmt: skip
        kind, given = _PARAMETERS[vehicle_model], dict(vehicle or {})
        known = [field.name for field in fields(kind)]
        for key, value in list(given.items()):
            where = f"controller.vehicle.{key}={value!r}"
            if key not in known:
                raise ConfigError(
                    f"unknown vehicle parameter '{key}'.{nearest(str(key), known)}", where=where,
                    remedy=f"known for the {vehicle_model} model: {', '.join(known)}",
                )  # fmt: skip
            if value is None and getattr(kind, key) is None:
                del given[key]
                continue
            low, high = _RANGES[key]
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not low <= value <= high:
                raise ConfigError(
                    f"vehicle parameter {key} is {value!r}", where=where,
                    remedy=f"give a number from {low:g} to {high:g}",
                )  # fmt: skip
        parameters = replace(kind(), **{key: float(value) for key, value in given.items()})
        return cls(vehicle_model, parameters)

    def build(self, vehicle: Vehicle) -> VehicleModel:
        """The model of a scene's ego vehicle.

        Raises:
            ConfigError: the centre of gravity does not lie between the axles.
        """
        from omniloop.physics.dynamic import DynamicBicycle
        from omniloop.physics.kinematic import KinematicBicycle

        wheelbase = self.parameters.wheelbase_m or vehicle.wheelbase_m
        parameters = replace(self.parameters, wheelbase_m=wheelbase)
        if isinstance(parameters, DynamicParameters):
            return DynamicBicycle(parameters)
        return KinematicBicycle(parameters)
