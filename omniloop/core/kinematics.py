"""Motion along a trajectory: velocities and accelerations from poses."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.motion import EgoMotion, Times, Trajectory
from omniloop.core.time import US_PER_S

_LEAST_US = 20_000
"""Nearer than this to an end, a symmetric window would amplify the noise of poses."""


def motion_at(local_to_rig: Trajectory, times_us: Times, half_us: int) -> EgoMotion:
    """Sample a trajectory with its motion in the body frame.

    Velocities are central differences over ``+-half_us``. Accelerations are the change
    between the mean velocities of the two halves, as an observer at rest sees them, so that a
    steady turn has its centripetal acceleration. Near an end of the trajectory both halves
    shrink alike; within 20 ms of it the outer half alone does, and where it is empty
    accelerations are 0. Times are subtracted as integers, so that epoch-sized timestamps
    lose nothing.

    Args:
        local_to_rig: At least one pose.
        times_us: ``(K,)`` inside the trajectory.
        half_us: Half of the window, positive.
    """
    times = np.asarray(times_us, dtype=np.int64)
    k = len(times)
    start_us, end_us = local_to_rig.start_us, local_to_rig.end_us
    nearer_us = np.minimum(times - start_us, end_us - times)
    reach_us = np.where(nearer_us < _LEAST_US, half_us, np.minimum(nearer_us, half_us))
    lo_us = np.maximum(times - reach_us, start_us)
    hi_us = np.minimum(times + reach_us, end_us)
    poses = local_to_rig.sample(np.concatenate([lo_us, times, hi_us]))
    now = poses[k : 2 * k]
    half_s = np.concatenate([times - lo_us, hi_us - times]) / US_PER_S  # (2K,)
    start, end = poses[: 2 * k], poses[k:]
    to_body = geometry.conjugate(now[:, 3:])
    rates = np.empty((2 * k, 6))
    rates[:, :3] = geometry.rotate(np.concatenate([to_body, to_body]), end[:, :3] - start[:, :3])
    turn = geometry.quat_multiply(geometry.conjugate(start[:, 3:]), end[:, 3:])
    rates[:, 3:] = geometry.rotation_vectors(turn)
    span_s = (half_s[:k] + half_s[k:])[:, None]
    dynamics = np.zeros((k, 12))
    np.divide(rates[:k] + rates[k:], span_s, out=dynamics[:, :6], where=span_s > 0)
    first_s, second_s = half_s[:k, None], half_s[k:, None]
    if first_s.all() and second_s.all():
        dynamics[:, 6:] = (rates[k:] / second_s - rates[:k] / first_s) / (span_s / 2)
    else:
        both = ((first_s > 0) & (second_s > 0))[:, 0]
        change = rates[k:][both] / second_s[both] - rates[:k][both] / first_s[both]
        dynamics[both, 6:] = change / (span_s[both] / 2)
    return EgoMotion(times, now, dynamics)
