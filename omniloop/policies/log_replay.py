"""A baseline: drive as recorded."""

from __future__ import annotations

import numpy as np

from omniloop.core.contracts import Observation, Plan, PolicySpec
from omniloop.core.errors import PluginError, PolicyError
from omniloop.core.geometry import Array
from omniloop.core.motion import Times, Trajectory
from omniloop.core.time import MAX_STATE_STEP_US, US_PER_S

_TAIL_US = 500_000
"""The speed at the recording's end is taken over its last half second."""


class LogReplayPolicy:
    """Plans the recorded poses, whatever happens around ego.

    The plan starts at ego's own pose and goes on with the recording interpolated at every
    time that a controller reports: each later decision of the same period, and every 100
    ms from it. Perfect tracking therefore goes through exactly the recorded motion, also
    if plans take effect late. Beyond the recording's end ego keeps its last recorded
    velocity (mean of the last 0.5 s) and heading.

    Args:
        horizon_s: How far plans reach.
    """

    def __init__(self, horizon_s: float = 5.0) -> None:
        if not 0.1 <= horizon_s <= 60:
            raise PluginError(
                f"horizon_s is {horizon_s}", where="policy.horizon_s", remedy="give 0.1 to 60 s"
            )
        self.spec = PolicySpec(
            horizon_s=horizon_s, route=False, privileged=frozenset({"recording"})
        )
        self._horizon_us = round(horizon_s * US_PER_S)

    def plan(self, observation: Observation) -> Plan:
        """Return ego's pose, then recorded poses.

        Raises:
            PolicyError: there is no recording, or it begins after the decision.
        """
        recording, now_us = recording_of(observation, "log-replay"), observation.time_us
        times = _report_times_us(now_us, observation.next_decision_us - now_us, self._horizon_us)
        later = recorded_or_extrapolated(recording, times[1:])
        return Plan(Trajectory(times, np.vstack([observation.ego.local_to_rig[-1], later])))


def recording_of(observation: Observation, policy: str) -> Trajectory:
    """The recorded ego motion that a policy is privileged to see.

    Raises:
        PolicyError: there is no recording, or it begins after the decision.
    """
    recording, now_us = observation.recording, observation.time_us
    if recording is None or len(recording) == 0 or recording.start_us > now_us:
        raise PolicyError(
            f"the {policy} policy has no recording at {now_us} us",
            where=observation.session_id,
            remedy="serve it with the privilege 'recording', on a scene with a recorded ego",
        )
    return recording


def _report_times_us(now_us: int, period_us: int, horizon_us: int) -> Times:
    """`now_us`, all times of 100 ms grids that restart at each decision, and the horizon."""
    decisions = np.arange(0, horizon_us, period_us, dtype=np.int64)
    within = np.arange(0, period_us, MAX_STATE_STEP_US, dtype=np.int64)
    offsets = (decisions[:, None] + within).ravel()
    return np.append(offsets[offsets < horizon_us], np.int64(horizon_us)) + now_us


def recorded_or_extrapolated(recording: Trajectory, times_us: Times) -> Array:
    """Recorded poses ``(K, 7)``, beyond the end with the last velocity and heading.

    Args:
        times_us: ``(K,)`` not before the recording's start.
    """
    poses = recording.sample_clamped(times_us)
    beyond = times_us > recording.end_us
    tail_us = min(_TAIL_US, recording.end_us - recording.start_us)
    if beyond.any() and tail_us:
        start = recording.sample(recording.end_us - tail_us)[0]
        step = (recording.poses[-1, :3] - start[:3]) / tail_us
        poses[beyond, :3] += (times_us[beyond] - recording.end_us)[:, None] * step
    return poses
