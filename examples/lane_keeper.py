"""A driving policy in 15 lines: omniloop run policy=examples.lane_keeper:LaneKeeper."""

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import Observation, Plan, PolicySpec
from omniloop.core.motion import Trajectory


class LaneKeeper:
    """Drives along its route at the speed it has, whoever is in the way."""

    spec = PolicySpec(horizon_s=3.0, route=True)

    def plan(self, observation: Observation) -> Plan:
        now, speed_mps = observation.ego.local_to_rig[-1], observation.ego.dynamics[-1, 0]
        way = observation.route.waypoints_rig.copy()
        way[0] = 0.0  # start at ego itself, not at its projection on the route
        offset_us = 100_000 * np.arange(31)
        ahead = geometry.resample_polyline(way, speed_mps * offset_us / 1e6)
        step = np.diff(ahead[:, :2], axis=0, append=ahead[-1:, :2])
        poses = geometry.poses_from_xyz_yaw(ahead, np.arctan2(step[:, 1], step[:, 0]))
        poses[0] = geometry.IDENTITY
        return Plan(Trajectory(observation.time_us + offset_us, geometry.compose(now, poses)))
