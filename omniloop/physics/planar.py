"""A vehicle in the plane that is driven along plans: what such controllers share."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import VehicleRequest
from omniloop.core.geometry import Array
from omniloop.core.motion import EgoMotion, Trajectory, grid_times_us
from omniloop.core.time import MAX_STATE_STEP_US, US_PER_S
from omniloop.physics.reference import Reference
from omniloop.physics.tracking import PoseHistory
from omniloop.physics.vehicle import PlanarState, VehicleModel

_HOLD_MPS, _HOLD_M = 0.1, 0.1
"""Below this speed, with less than this left of the plan, ego brakes to a stop and stays."""


class Follower(Protocol):
    """One rollout's law of control: where to steer and how to accelerate."""

    def begin(
        self, request: VehicleRequest, plan: Trajectory, reference: Reference, adopted: bool
    ) -> None:
        """Take the plan that is followed through ``(time_us, target_us]``.

        Args:
            plan: ``local_to_rig``, anchored; from now or before to the target or beyond.
            reference: The same plan; it keeps the vehicle's progress.
            adopted: The vehicle's motion was just set from outside.
        """
        ...

    def decide(self, state: PlanarState, time_s: float) -> None:
        """Choose inputs at a time after now; called at 0 and every 100 ms from there."""
        ...

    def command(self, state: PlanarState, time_s: float) -> tuple[float, float]:
        """Steering angle [rad] and acceleration [m/s^2] to hold for one sub-step."""
        ...

    def facts(self) -> dict[str, object]:
        """What the rollout's result should tell of it, as JSON."""
        ...


class PlanarSession:
    """One rollout's vehicle: a model driven by a follower in steps of at most 10 ms.

    Place and heading are the request's each time, so that a ground or a recording may move ego;
    speeds, wheels and actuators go on from the call before, unless the request coerces them.
    Height, roll and pitch are the plan's at ego's place.

    Attributes:
        model: What moves.
        follower: What drives it.
    """

    def __init__(self, model: VehicleModel, follower: Follower) -> None:
        self.model = model
        self.follower = follower
        self._history = PoseHistory()
        self._state: PlanarState | None = None

    def step(self, request: VehicleRequest) -> EgoMotion:
        """Return the vehicle's states through ``(time_us, target_us]``.

        Raises:
            PolicyError: the plan does not cover the time from now to the target.
        """
        self._history.adopt(request.time_us, request.local_to_rig)
        plan = self._history.anchored_plan(request)
        state, adopt = self._state, self._state is None or request.coerce
        if state is None or adopt:
            state = self._state = self.model.adopted(request.dynamics)
        state.x_m, state.y_m = (float(v) for v in request.local_to_rig[:2])
        state.yaw_rad = float(geometry.yaw_rad(request.local_to_rig))
        reference = Reference(plan, request.time_us, state.x_m, state.y_m)
        self.follower.begin(request, plan, reference, adopt)
        times = grid_times_us(request.time_us, request.target_us, MAX_STATE_STEP_US)
        rows, dynamics = np.empty((len(times), 4)), np.zeros((len(times), 12))
        done_s = 0.0
        for i, until_s in enumerate(((times - request.time_us) / US_PER_S).tolist()):
            self._advance(state, reference, done_s, until_s)
            rows[i] = state.x_m, state.y_m, state.yaw_rad, reference.s_m
            dynamics[i, [0, 1, 5, 6, 7, 11]] = self.model.rig_motion(state)
            done_s = until_s
        states = EgoMotion(
            times, planar_poses(rows, request.local_to_rig, plan, reference), dynamics
        )
        self._history.extend(states)
        return states

    def _advance(
        self, state: PlanarState, reference: Reference, from_s: float, until_s: float
    ) -> None:
        """Decide once, and integrate `state` in place."""
        model, follower = self.model, self.follower
        count = math.ceil((until_s - from_s) / model.substep_s - 1e-9)
        dt_s = (until_s - from_s) / count
        follower.decide(state, from_s)
        for k in range(count):
            steer, accel = follower.command(state, from_s + k * dt_s)
            if state.speed_mps < _HOLD_MPS and reference.left_m() < _HOLD_M:
                model.hold(state, steer, dt_s)
                continue
            model.advance(state, steer, accel, dt_s)
            reference.follow(state.x_m, state.y_m)

    def facts(self) -> dict[str, object]:
        """What the rollout's result should tell of the controller, as JSON; may be empty."""
        return self.follower.facts()


def planar_poses(rows: Array, now: Array, plan: Trajectory, reference: Reference) -> Array:
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
