"""A probe of traffic: an ego that stops for no reason."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera
from omniloop.core.contracts import Observation, Plan, PolicySpec, SessionInfo
from omniloop.core.errors import PluginError
from omniloop.core.geometry import Array
from omniloop.core.motion import Times, Trajectory
from omniloop.core.replay import recorded_motion_at
from omniloop.policies.log_replay import recording_of

_STEP_US, _STEPS = 100_000, 50


class HardBrakePolicy:
    """Drives as recorded, then brakes to a stop on the recorded path and stays there.

    Args:
        decel_mps2: How hard it brakes.
        at_s: When it begins to, after handover.
    """

    spec = PolicySpec(horizon_s=5.0, route=False, privileged=frozenset({"recording"}))

    def __init__(self, decel_mps2: float = 6.0, at_s: float = 0.0) -> None:
        if not 0.1 <= decel_mps2 <= 20.0:
            raise PluginError(
                f"decel_mps2 is {decel_mps2}", where="policy.decel_mps2", remedy="give 0.1 to 20"
            )
        if not 0.0 <= at_s <= 3600.0:
            raise PluginError(f"at_s is {at_s}", where="policy.at_s", remedy="give 0 to 3600")
        self._decel_mps2, self._after_us = decel_mps2, round(at_s * 1e6)

    def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> HardBrakeSession:
        """Begin a rollout."""
        return HardBrakeSession(session.handover_us + self._after_us, self._decel_mps2)


class HardBrakeSession:
    """One rollout; where ego is to be follows from the time and the recording alone."""

    def __init__(self, brake_us: int, decel_mps2: float) -> None:
        self._brake_us, self._decel_mps2 = brake_us, decel_mps2

    def plan(self, observation: Observation) -> Plan:
        """Return ego's pose, then where it brakes to.

        Raises:
            PolicyError: there is no recording, or it begins after the decision.
        """
        now_us, recording = observation.time_us, recording_of(observation, "hard-brake")
        times_us = now_us + _STEP_US * np.arange(_STEPS + 1)
        poses = self._poses_at(recording, times_us)
        poses[0] = observation.ego.local_to_rig[-1]
        return Plan(Trajectory(times_us, poses))

    def _poses_at(self, recording: Trajectory, times_us: Times) -> Array:
        brake_us = min(self._brake_us, recording.end_us)
        before = np.minimum(times_us, brake_us)
        speed_mps = recorded_motion_at(recording, np.array([brake_us])).dynamics[0, 0]
        speed_mps = max(float(speed_mps), 0.0)
        braked_s = np.minimum((times_us - before) / 1e6, speed_mps / self._decel_mps2)
        braked_m = speed_mps * braked_s - self._decel_mps2 * braked_s**2 / 2
        # The recording was at the same place at another time.
        done_m = geometry.arc_length_m(recording.poses[:, :3])
        at_m = np.interp(brake_us, recording.times_us, done_m) + braked_m
        there = np.rint(np.interp(at_m, done_m, recording.times_us - brake_us)).astype(np.int64)
        poses = recording.sample(np.where(braked_m > 0, brake_us + there, before))
        # Where the recording is too short, straight on.
        beyond_m = np.maximum(at_m - done_m[-1], 0.0)
        poses[:, :3] += geometry.rotate(poses[:, 3:], np.array([1.0, 0, 0])) * beyond_m[:, None]
        return poses
