"""A baseline: keep speed and heading."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import Observation, Plan, PolicySpec
from omniloop.core.errors import PluginError
from omniloop.core.motion import Trajectory
from omniloop.core.time import MAX_STATE_STEP_US, US_PER_S


class ConstantVelocityPolicy:
    """Goes straight on at the present speed.

    The plan moves along the rig's x axis at the newest estimated forward speed, with a
    yaw rate of 0: the constant-velocity baseline of nuScenes prediction (Phan-Minh et
    al., "CoverNet", 2020). It needs neither images, nor a route, nor privileges.

    Args:
        horizon_s: How far plans reach; poses are 100 ms apart.
    """

    def __init__(self, horizon_s: float = 5.0) -> None:
        if not 0.1 <= horizon_s <= 60:
            raise PluginError(
                f"horizon_s is {horizon_s}", where="policy.horizon_s", remedy="give 0.1 to 60 s"
            )
        self.spec = PolicySpec(horizon_s=horizon_s, route=False)
        steps = np.arange(0, round(horizon_s * US_PER_S), MAX_STATE_STEP_US, dtype=np.int64)
        self._offset_us = np.append(steps, np.int64(round(horizon_s * US_PER_S)))

    def plan(self, observation: Observation) -> Plan:
        """Return poses every 100 ms, the first at ego's own."""
        now = observation.ego.local_to_rig[-1]
        speed_mps = observation.ego.dynamics[-1, 0]
        forward = geometry.rotate(now[3:], np.array([1.0, 0.0, 0.0]))
        poses = np.tile(now, (len(self._offset_us), 1))
        poses[:, :3] += (speed_mps * self._offset_us / US_PER_S)[:, None] * forward
        return Plan(Trajectory(observation.time_us + self._offset_us, poses))
