"""A baseline: brake comfortably to a stop."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import Observation, Plan, PolicySpec
from omniloop.core.errors import PluginError
from omniloop.core.motion import Trajectory
from omniloop.core.time import MAX_STATE_STEP_US, US_PER_S


class BrakeToStopPolicy:
    """Goes straight on and brakes from its present speed until it stands.

    The plan moves along the rig's x axis; the speed falls by `decel_mps2` at every plan, so that
    ego stops after ``v^2 / (2 decel)`` from handover. It looks at nothing.

    Args:
        decel_mps2: How hard it brakes.
        horizon_s: How far plans reach; poses are 100 ms apart.
    """

    def __init__(self, decel_mps2: float = 2.0, horizon_s: float = 5.0) -> None:
        if not 0.1 <= decel_mps2 <= 10.0:
            raise PluginError(
                f"decel_mps2 is {decel_mps2}", where="policy.decel_mps2", remedy="give 0.1 to 10"
            )
        if not 0.1 <= horizon_s <= 60:
            raise PluginError(
                f"horizon_s is {horizon_s}", where="policy.horizon_s", remedy="give 0.1 to 60 s"
            )
        self.spec = PolicySpec(horizon_s=horizon_s, route=False)
        self._decel_mps2 = decel_mps2
        steps = np.arange(0, round(horizon_s * US_PER_S), MAX_STATE_STEP_US, dtype=np.int64)
        self._offset_us = np.append(steps, np.int64(round(horizon_s * US_PER_S)))

    def plan(self, observation: Observation) -> Plan:
        """Return poses every 100 ms, the first at ego's own."""
        now = observation.ego.local_to_rig[-1]
        speed_mps = max(float(observation.ego.dynamics[-1, 0]), 0.0)
        braked_s = np.minimum(self._offset_us / US_PER_S, speed_mps / self._decel_mps2)
        ahead_m = speed_mps * braked_s - self._decel_mps2 * braked_s**2 / 2
        forward = geometry.rotate(now[3:], np.array([1.0, 0.0, 0.0]))
        poses = np.tile(now, (len(self._offset_us), 1))
        poses[:, :3] += ahead_m[:, None] * forward
        return Plan(Trajectory(observation.time_us + self._offset_us, poses))
