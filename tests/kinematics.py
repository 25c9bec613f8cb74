"""Motion by differences of neighbouring samples: an independent check of states in tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from omniloop.core import geometry
from omniloop.core.geometry import Array


def finite_difference_motion(times_us: NDArray[np.int64], poses: Array) -> Array:
    """Estimate body-frame motion from poses by central differences.

    Args:
        times_us: ``(N,)`` strictly increasing.
        poses: ``(N, 7)``.

    Returns:
        ``(N, 12)``: linear velocity [m/s], angular velocity [rad/s], linear
        acceleration [m/s^2] (what an observer at rest sees, so a steady turn has its
        centripetal part) and angular acceleration [rad/s^2], each in the body frame.
        Zeros where N < 2. Times are subtracted as integers before any float division,
        so that epoch-sized timestamps lose nothing.
    """
    n = len(times_us)
    out = np.zeros((n, 12))
    if n < 2:
        return out
    lo = np.maximum(np.arange(n) - 1, 0)
    hi = np.minimum(np.arange(n) + 1, n - 1)
    dt_s = ((times_us[hi] - times_us[lo]) / 1e6)[:, None]
    to_body = geometry.conjugate(poses[:, 3:])
    velocity_local = (poses[hi, :3] - poses[lo, :3]) / dt_s
    out[:, 0:3] = geometry.rotate(to_body, velocity_local)
    turn = geometry.quat_multiply(geometry.conjugate(poses[lo, 3:]), poses[hi, 3:])
    out[:, 3:6] = geometry.rotation_vectors(turn) / dt_s
    out[:, 6:9] = geometry.rotate(to_body, (velocity_local[hi] - velocity_local[lo]) / dt_s)
    out[:, 9:12] = (out[hi, 3:6] - out[lo, 3:6]) / dt_s
    return out
