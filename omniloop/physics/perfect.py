"""A vehicle that follows its plan exactly."""

from __future__ import annotations

from omniloop.core.contracts import SessionInfo, VehicleRequest
from omniloop.core.kinematics import motion_at
from omniloop.core.motion import EgoMotion, grid_times_us
from omniloop.core.time import MAX_STATE_STEP_US
from omniloop.physics.tracking import PoseHistory


class PerfectController:
    """Puts ego exactly on the plan in force.

    States are every 100 ms and at the target; their motion is differenced from the plan.
    """

    def open(self, session: SessionInfo) -> PerfectSession:
        """Begin a rollout."""
        return PerfectSession()


class PerfectSession:
    """One rollout's ego, with its own past poses."""

    def __init__(self) -> None:
        self._history = PoseHistory()

    def step(self, request: VehicleRequest) -> EgoMotion:
        """Return the plan's states through ``(time_us, target_us]``.

        Raises:
            PolicyError: the plan does not cover the time from now to the target.
        """
        history, now_us = self._history, request.time_us
        history.adopt(now_us, request.local_to_rig)
        plan = history.anchored_plan(request)
        times_us = grid_times_us(now_us, request.target_us, MAX_STATE_STEP_US)
        # Motion is the plan's own: where a late plan sets ego beside its old one, the step
        # between the two must not look like a speed.
        states = motion_at(plan, times_us, MAX_STATE_STEP_US)
        history.extend(states)
        return states
