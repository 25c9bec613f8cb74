"""Ego's motion between the states that a controller answered."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.motion import EgoMotion, Times, bracket, grid_times_us
from omniloop.core.time import MAX_STATE_STEP_US


def since(time_us: int, local_to_rig: Array, dynamics: Array, states: EgoMotion) -> EgoMotion:
    """The states with the one before them in front.

    Args:
        local_to_rig: ``(7,)`` pose at `time_us`.
        dynamics: ``(12,)`` motion at `time_us`.
    """
    return EgoMotion(
        np.append(np.int64(time_us), states.times_us),
        np.vstack([local_to_rig, states.local_to_rig]),
        np.vstack([dynamics, states.dynamics]),
    )


def sampled(motion: EgoMotion, times_us: Times) -> EgoMotion:
    """Motion at times inside it: poses by lerp and slerp, dynamics by lerp."""
    lo, hi, alpha = bracket(motion.times_us, times_us)
    before, after = motion.dynamics[lo], motion.dynamics[hi]
    dynamics = before + alpha[:, None] * (after - before)
    return EgoMotion(times_us, motion.trajectory.sample(times_us), dynamics)


def filled(motion: EgoMotion) -> EgoMotion:
    """The states after the first, and more every 100 ms where they are further apart."""
    times = motion.times_us
    if (np.diff(times) <= MAX_STATE_STEP_US).all():
        return EgoMotion(times[1:], motion.local_to_rig[1:], motion.dynamics[1:])
    gaps = [grid_times_us(a, b, MAX_STATE_STEP_US) for a, b in pairwise(times.tolist())]
    return sampled(motion, np.concatenate(gaps))
