"""Tracking by a linear time-varying model-predictive controller."""

from __future__ import annotations

from typing import Any

import numpy as np

from omniloop.core.contracts import SessionInfo, VehicleRequest
from omniloop.core.geometry import Array, wrap_rad
from omniloop.core.motion import Trajectory
from omniloop.core.scene import Scene
from omniloop.core.time import US_PER_S
from omniloop.physics.mpc_problem import STEPS, Problem, Values, solver
from omniloop.physics.planar import PlanarSession
from omniloop.physics.preview import STEP_S, Preview
from omniloop.physics.reference import Reference
from omniloop.physics.vehicle import PlanarState, VehicleChoice, VehicleModel


class MpcController:
    """Plans 2 s of commands at a time and drives the first; by default of a dynamic bicycle.

    Horizon, weights and bounds are those of AlpaSim's linear MPC (`Problem`), solved by OSQP.
    A solve is made when a plan comes and every 100 ms from there, and its first command is held
    until the next. Where there is no solution, the last one is driven on with, and the
    rollout's facts count it.

    Args:
        vehicle_model: "kinematic" or "dynamic".
        vehicle: Parameters to override, see `KinematicParameters` and `DynamicParameters`.

    Raises:
        ConfigError: a setting is wrong.
    """

    def __init__(
        self, vehicle_model: str = "dynamic", vehicle: dict[str, Any] | None = None
    ) -> None:
        self._vehicle = VehicleChoice.of(vehicle_model, vehicle)

    def check_scene(self, scene: Scene) -> None:
        """Check that the scene's ego vehicle can be this model.

        Raises:
            ConfigError: the centre of gravity does not lie between its axles.
        """
        self._vehicle.build(scene.vehicle)

    def open(self, session: SessionInfo) -> PlanarSession:
        """Begin a rollout."""
        model = self._vehicle.build(session.vehicle)
        return PlanarSession(model, _Predictive(model))


class _Predictive:
    """The predictive controller of one rollout."""

    _preview: Preview

    def __init__(self, model: VehicleModel) -> None:
        from osqp import SolverStatus

        self._problem = Problem(model)
        self._solver = solver(self._problem)
        # Inaccurate is within ten times the tolerance: still better than an older plan.
        self._solved = (int(SolverStatus.OSQP_SOLVED), int(SolverStatus.OSQP_SOLVED_INACCURATE))
        self._names = {int(status): status.name.lower() for status in SolverStatus}
        self._now_us = 0
        self._adopted = False
        self._command: tuple[float, float] = (0.0, 0.0)
        self._commands: Array = np.zeros((STEPS, 2))
        self._commands_us = 0
        self._solves = 0
        self._failures: dict[str, int] = {}

    def begin(
        self, request: VehicleRequest, plan: Trajectory, reference: Reference, adopted: bool
    ) -> None:
        self._now_us, self._adopted = request.time_us, adopted
        span_us = request.target_us - request.time_us
        self._preview = Preview(plan, request.time_us, span_us, STEPS + 1, reference.last_mps)

    def decide(self, state: PlanarState, time_s: float) -> None:
        if self._adopted:
            self._adopted = False
            self._command = state.steer_rad, state.accel_mps2
            self._commands = np.tile(np.array(self._command), (STEPS, 1))
            self._commands_us = self._now_us
        at_us = self._now_us + round(time_s * US_PER_S)
        values = self._values(state, round(time_s / STEP_S))
        solution = self._solution(values)
        if solution is not None:
            self._commands, self._commands_us = solution.reshape(2, STEPS).T, at_us
        step = int((at_us - self._commands_us) / (STEP_S * US_PER_S))
        steer, accel = self._commands[min(step, STEPS - 1)].tolist()
        self._command = steer, accel

    def _values(self, state: PlanarState, at: int) -> Values:
        """The problem of a decision at a knot of the preview, in the vehicle's axes."""
        preview, knots = self._preview, slice(at, at + STEPS + 1)
        dx, dy = preview.x_m[knots] - state.x_m, preview.y_m[knots] - state.y_m
        cos, sin = np.cos(state.yaw_rad), np.sin(state.yaw_rad)
        yaw = preview.yaw_rad[knots] - state.yaw_rad
        yaw += wrap_rad(yaw[0]) - yaw[0]
        return self._problem.values(
            state, cos * dx + sin * dy, cos * dy - sin * dx, yaw, self._command
        )

    def _solution(self, values: Values) -> Array | None:
        """The commands that solve a problem; None, and counted, if the solver finds none."""
        self._solver.update(q=values.q, l=values.lower, u=values.upper)
        self._solver.update(Px=self._problem.triangle(values.p))
        result = self._solver.solve(raise_error=False)
        self._solves += 1
        status = int(result.info.status_val)
        if status in self._solved:
            return np.asarray(result.x)
        name = self._names[status]
        self._failures[name] = self._failures.get(name, 0) + 1
        return None

    def command(self, state: PlanarState, time_s: float) -> tuple[float, float]:
        return self._command

    def facts(self) -> dict[str, object]:
        return {
            "solves": self._solves,
            "solve_failures": sum(self._failures.values()),
            "failure_status": dict(sorted(self._failures.items())),
        }
