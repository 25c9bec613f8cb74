"""The quadratic programme of the predictive controller: shapes once, values at every solve."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from omniloop.core.geometry import Array
from omniloop.physics.preview import STEP_S
from omniloop.physics.vehicle import PlanarState, VehicleModel

STEPS = 20

_Q_ALONG, _Q_BESIDE, _Q_HEADING, _Q_ACCEL = 2.0, 1.0, 1.0, 0.1
_R_STEER, _R_ACCEL = 5.0, 1.0
"""AlpaSim's weights (parameters.md D.4), from the first step on."""

_MAX_SPEED_MPS = 35.0
_MIN_ACCEL_MPS2, _MAX_ACCEL_MPS2 = -8.0, 6.0
"""AlpaSim's bounds of the states; those of the inputs are the vehicle's."""

_BOUNDED = slice(3, None, 4)
"""Knots at which speed is bounded: at all, the rows are so alike that the solver crawls."""

_TABLE_STEP_MPS = 0.25
_SPEEDS = np.arange(0.0, 60.0, _TABLE_STEP_MPS)
_LEAST_LAG_S = 1e-3


@dataclass(frozen=True, eq=False)
class Values:
    """Objective ``z' P z / 2 + q' z`` and bounds ``lower <= A z <= upper`` of one solve.

    z holds the commanded steering angles of all steps [rad], then the accelerations [m/s^2].
    """

    p: Array
    q: Array
    lower: Array
    upper: Array


class Problem:
    """Predicts a vehicle over 20 steps of 100 ms, linearised along a reference.

    The vehicle's own axes at the first knot are the frame: headings are small there whatever the
    heading in `local`. In each step the vehicle moves forward along the reference's mean heading by
    its own speed, and sideways by ``v (heading - mean heading)`` and its slip. Lateral motion
    is discretised exactly at the speed that can be reached nearest to the reference's, longitudinal
    motion exactly at any speed; places are sums of steps. Errors are along and beside the
    reference's heading at each knot.

    The cost is on places, headings and acceleration at every knot and on the increments of
    the commands, the first against the command in force. Bounds of commands, increments of
    steering, speed (at every fourth knot) and acceleration; those of speed and acceleration are widened to what the
    vehicle does when its acceleration is let die out, so that there is always a solution.

    Args:
        model: The vehicle.
    """

    def __init__(self, model: VehicleModel) -> None:
        self._model = model
        limits = model.limits
        n = STEPS
        self._system, self._input = _lateral_table(model)
        self._longitudinal(max(limits.accel_lag_s, _LEAST_LAG_S))
        change = np.eye(n) - np.eye(n, k=-1)
        self._constant = np.zeros((2 * n, 2 * n))
        self._constant[:n, :n] = _R_STEER * change.T @ change
        self._constant[n:, n:] = _R_ACCEL * change.T @ change
        self._constant[n:, n:] += _Q_ACCEL * self._accel_by_u.T @ self._accel_by_u
        zero, one = np.zeros((n, n)), np.eye(n)
        self.rows = np.block([
            [one, zero], [zero, one], [change, zero], [zero[_BOUNDED], self._speed_by_u[_BOUNDED]], [zero, self._accel_by_u],
        ])  # fmt: skip
        steer = np.full(n, limits.max_steer_rad)
        most, speeds = np.full(n, limits.max_steer_rate_radps * STEP_S), len(range(n)[_BOUNDED])
        self._upper = np.concatenate([
            steer, np.full(n, limits.max_accel_mps2), most, np.full(speeds, _MAX_SPEED_MPS),
            np.full(n, _MAX_ACCEL_MPS2),
        ])  # fmt: skip
        self._lower = np.concatenate([
            -steer, np.full(n, -limits.max_decel_mps2), -most, np.zeros(speeds), np.full(n, _MIN_ACCEL_MPS2),
        ])  # fmt: skip
        self._places = np.zeros((2, n, 2 * n + 1))
        self._states = np.zeros((n + 1, self._system.shape[1] - 1, n + 1))
        self._triangle = np.flatnonzero(np.tri(2 * n).reshape(-1))

    def _longitudinal(self, lag_s: float) -> None:
        """Steps, speeds and accelerations by first speed and acceleration, and by commands."""
        from scipy.linalg import expm

        n, a = STEPS, np.zeros((4, 4))
        a[0, 1] = a[1, 2] = 1.0
        a[2, 2], a[2, 3] = -1 / lag_s, 1 / lag_s
        step = expm(a * STEP_S)
        response = np.zeros((n + 1, 2, n + 2))  # of speed and acceleration, by v, a and commands
        response[0, 0, 0] = response[0, 1, 1] = 1.0
        moved = np.zeros((n, n + 2))
        for k in range(n):
            moved[k] = step[0, 1:3] @ response[k]
            moved[k, 2 + k] += step[0, 3]
            response[k + 1] = step[1:3, 1:3] @ response[k]
            response[k + 1, :, 2 + k] += step[1:3, 3]
        self._moved_by_now, self._moved_by_u = moved[:, :2], moved[:, 2:]
        self._speed_by_now, self._speed_by_u = response[1:, 0, :2], response[1:, 0, 2:]
        self._accel_by_now, self._accel_by_u = response[1:, 1, :2], response[1:, 1, 2:]

    def triangle(self, p: Array) -> Array:
        """The upper triangle of a symmetric matrix, column by column, as the solver stores it."""
        return np.asarray(p.reshape(-1)[self._triangle])

    def values(
        self, state: PlanarState, x_m: Array, y_m: Array, yaw_rad: Array,
        command: tuple[float, float],
    ) -> Values:  # fmt: skip
        """What changes from solve to solve.

        Args:
            state: The vehicle now.
            x_m: ``(21,)`` of the reference in the vehicle's axes, the first now.
            y_m: Likewise.
            yaw_rad: Likewise, without jumps.
            command: Steering angle and acceleration in force.
        """
        n = STEPS
        now = np.array([state.speed_mps, state.accel_mps2])
        mean = (yaw_rad[1:] + yaw_rad[:-1]) / 2
        cos_mean, sin_mean = np.cos(mean)[:, None], np.sin(mean)[:, None]
        speed = self._reachable(state.speed_mps, x_m, y_m, cos_mean[:, 0], sin_mean[:, 0])
        headings, sideways = self._sideways(state, speed)
        sideways[:, 0] -= speed * STEP_S * mean
        forward_now = self._moved_by_now @ now

        # Columns: 1, steering commands, acceleration commands.
        x, y = self._places
        x[:, : n + 1] = -sin_mean * sideways
        y[:, : n + 1] = cos_mean * sideways
        x[:, 0] += cos_mean[:, 0] * forward_now
        y[:, 0] += sin_mean[:, 0] * forward_now
        x[:, n + 1 :] = cos_mean * self._moved_by_u
        y[:, n + 1 :] = sin_mean * self._moved_by_u
        np.cumsum(self._places, axis=1, out=self._places)
        x[:, 0] -= x_m[1:]
        y[:, 0] -= y_m[1:]
        cos, sin = np.cos(yaw_rad[1:])[:, None], np.sin(yaw_rad[1:])[:, None]
        along, beside = cos * x + sin * y, cos * y - sin * x
        headings[:, 0] -= yaw_rad[1:]

        hessian = _Q_ALONG * (along.T @ along) + _Q_BESIDE * (beside.T @ beside)
        hessian[: n + 1, : n + 1] += _Q_HEADING * (headings.T @ headings)
        p = hessian[1:, 1:] + self._constant
        q = hessian[1:, 0].copy()
        accel_now = self._accel_by_now @ now
        q[n:] += _Q_ACCEL * (accel_now @ self._accel_by_u)
        q[0] -= _R_STEER * command[0]
        q[n] -= _R_ACCEL * command[1]
        lower, upper = self._bounds(state, now, accel_now, command[0])
        return Values(p, q, lower, upper)

    def _reachable(self, speed: float, x_m: Array, y_m: Array, cos: Array, sin: Array) -> Array:
        """The reference's speeds in its steps, as far as the vehicle can be so quick or slow."""
        wished = (cos * (x_m[1:] - x_m[:-1]) + sin * (y_m[1:] - y_m[:-1])) / STEP_S
        since_s = STEP_S * np.arange(STEPS)
        low = np.maximum(speed + _MIN_ACCEL_MPS2 * since_s, 0.0)
        high = np.minimum(speed + _MAX_ACCEL_MPS2 * since_s, float(_SPEEDS[-1]) - 1.0)
        return np.asarray(np.maximum(np.minimum(wished, high), np.minimum(low, high)))

    def _sideways(self, state: PlanarState, speed: Array) -> tuple[Array, Array]:
        """Headings at the knots after now and steps to the left, by 1 and steering commands."""
        at = speed * (1 / _TABLE_STEP_MPS)
        low = at.astype(np.intp)
        part = (at - low)[:, None, None]
        system = self._system[low] * (1 - part) + self._system[low + 1] * part
        inputs = self._input[low] * (1 - part[:, 0]) + self._input[low + 1] * part[:, 0]
        states, inner = self._states, system[:, 1:, 1:]
        states[0, :, 0] = [0.0, *self._model.lateral_states(state)]
        for k in range(STEPS):
            np.matmul(inner[k], states[k], out=states[k + 1])
            states[k + 1, :, k + 1] += inputs[k, 1:]
        moved = np.matmul(system[:, :1, 1:], states[:-1])[:, 0]
        moved.reshape(-1)[1 :: STEPS + 2] += inputs[:, 0]
        return states[1:, 0].copy(), moved

    def _bounds(
        self, state: PlanarState, now: Array, accel_now: Array, steer_command: float
    ) -> tuple[Array, Array]:
        n = STEPS
        lower, upper = self._lower.copy(), self._upper.copy()
        lower[2 * n] += steer_command
        upper[2 * n] += steer_command
        speed_now = self._speed_by_now[_BOUNDED] @ now  # with all commands 0
        speeds, accels = slice(3 * n, -n), slice(-n, None)
        lower[speeds] = np.minimum(0.0, speed_now) - speed_now
        upper[speeds] = np.maximum(_MAX_SPEED_MPS, speed_now) - speed_now
        lower[accels] = min(_MIN_ACCEL_MPS2, state.accel_mps2) - accel_now
        upper[accels] = max(_MAX_ACCEL_MPS2, state.accel_mps2) - accel_now
        return lower, upper


@lru_cache(maxsize=8)
def _table(kind: type, parameters: Any) -> tuple[Array, Array]:
    from scipy.linalg import expm

    a, b = kind(parameters).lateral_system(_SPEEDS)
    n = a.shape[1]
    whole = np.zeros((len(_SPEEDS), n + 1, n + 1))
    whole[:, :n, :n], whole[:, :n, n] = a, b
    step = expm(whole * STEP_S)
    return step[:, :n, :n].copy(), step[:, :n, n].copy()


def _lateral_table(model: VehicleModel) -> tuple[Array, Array]:
    """The lateral system of a model, discretised at `_SPEEDS`."""
    return _table(type(model), model.limits)


def solver(problem: Problem) -> Any:
    """An OSQP solver set up with the problem's shape; to be updated with values.

    Every step of it is a function of its input alone: no limit or adaptation goes by the clock.
    """
    import osqp
    from scipy import sparse

    m = len(problem.rows)
    full = np.tri(2 * STEPS).T + 2.0 * STEPS * np.eye(2 * STEPS)  # a full triangle; any values do
    out = osqp.OSQP(algebra="builtin")
    out.setup(
        sparse.csc_matrix(full), np.zeros(2 * STEPS), sparse.csc_matrix(problem.rows),
        np.full(m, -1.0), np.full(m, 1.0),
        eps_abs=1e-4, eps_rel=1e-4, max_iter=500, sigma=1e-6, polishing=False, warm_starting=True,
        adaptive_rho=1, adaptive_rho_interval=50, check_termination=10, verbose=False,
    )  # fmt: skip
    return out
