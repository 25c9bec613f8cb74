"""Speed and curvature of a path of poses, by regularised least squares.

As nuPlan's trackers do (nuplan-devkit, tracker_utils.py): the profile whose integral explains the
poses best, with a penalty on jerk or on the rate of curvature instead of differences that amplify noise.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from omniloop.core.geometry import Array

JERK_PENALTY = 1e-4
CURVATURE_RATE_PENALTY = 1e-2
_FIRST_CURVATURE_PENALTY = 1e-10


@lru_cache(maxsize=16)
def _speed_from_steps(count: int, step_s: float) -> Array:
    """The linear map ``(count, count)`` from steps along the heading to speeds."""
    lower = np.tri(count)
    a = lower * step_s**2
    a[:, 0] = step_s
    jerk = np.zeros((max(count - 2, 0), count))
    for i in range(len(jerk)):
        jerk[i, i + 1], jerk[i, i + 2] = -1.0, 1.0
    # Unknowns: the first speed, then accelerations; steps along headings make the rows of
    # x and y one, since cos^2 + sin^2 = 1.
    fit = np.linalg.pinv(a.T @ a + JERK_PENALTY * jerk.T @ jerk) @ a.T
    speeds = lower * step_s
    speeds[:, 0] = 1.0
    return np.asarray(speeds @ fit)


def speed_profile(x_m: Array, y_m: Array, yaw_rad: Array, step_s: float) -> Array:
    """Speeds ``(N - 1,)`` [m/s] in the steps between ``(N,)`` poses."""
    along = np.cos(yaw_rad[:-1]) * (x_m[1:] - x_m[:-1]) + np.sin(yaw_rad[:-1]) * (
        y_m[1:] - y_m[:-1]
    )
    return np.asarray(_speed_from_steps(len(along), step_s) @ along)


def curvature_profile(yaw_rad: Array, speed_mps: Array, step_s: float) -> Array:
    """Curvatures ``(N - 1,)`` [1/m] in the steps between ``(N,)`` headings.

    Args:
        speed_mps: ``(N - 1,)``, see `speed_profile`.
    """
    count = len(speed_mps)
    sums = _lower(count)
    integral = sums * step_s
    integral[:, 0] = 1.0
    a = speed_mps[:, None] * step_s * integral
    normal = a.T @ a
    diagonal = normal.reshape(-1)[:: count + 1]
    diagonal += CURVATURE_RATE_PENALTY
    diagonal[0] += _FIRST_CURVATURE_PENALTY - CURVATURE_RATE_PENALTY
    rates = np.linalg.solve(normal, (yaw_rad[1:] - yaw_rad[:-1]) @ a)
    return np.asarray(integral @ rates)


@lru_cache(maxsize=16)
def _lower(count: int) -> Array:
    return np.tri(count)
