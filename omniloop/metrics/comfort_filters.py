"""The filters of nuPlan's comfort metric, and the quantities that its bounds are put on.

Savitzky-Golay filters (Savitzky and Golay, Analytical Chemistry 36, 1964) with the windows and
orders of nuplan-devkit (`ego_*` statistics); values are rounded to 8 decimals as there. Windows
shrink to the length of a sequence.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import Vehicle
from omniloop.core.time import SCORE_STEP_US, US_PER_S
from omniloop.metrics.samples import EgoSamples, score_samples
from omniloop.metrics.values import NOTHING_DRIVEN

ACCEL_WINDOW, ACCEL_ORDER = 8, 2
JERK_WINDOW, JERK_ORDER = 15, 2
YAW_RATE_WINDOW, YAW_RATE_ORDER = 5, 2
YAW_ACCEL_WINDOW, YAW_ACCEL_ORDER = 5, 3

MIN_SAMPLES = JERK_WINDOW
"""From so many samples on no window shrinks."""


@dataclass(frozen=True, eq=False)
class ComfortSeries:
    """What comfort is judged by, each ``(K,)`` on one grid.

    Attributes:
        lon_accel_mps2, lat_accel_mps2: Of the box's centre along and across ego's heading.
        jerk_mps3: Derivative of the size of the acceleration, signed.
        lon_jerk_mps3: Derivative of `lon_accel_mps2`.
        yaw_rate_radps, yaw_accel_radps2: Derivatives of the heading.
    """

    lon_accel_mps2: Array
    lat_accel_mps2: Array
    jerk_mps3: Array
    lon_jerk_mps3: Array
    yaw_rate_radps: Array
    yaw_accel_radps2: Array


def smoothed(values: Array, window: int, order: int, step_s: float, derivative: int = 0) -> Array:
    """Filter ``(..., K)`` values along K, or differentiate them, and round to 8 decimals.

    The same as `scipy.signal.savgol_filter`, whose import takes longer than scoring a batch: a
    polynomial is fitted to the window around each value, and to the first and the last window
    for the values at the ends. An even window has no middle value: as there, it reaches one
    value farther ahead than back and is read half a step after the value.

    Raises:
        ValueError: there are no more values than the order.
    """
    count = values.shape[-1]
    window = min(window, count)
    if order >= window:
        raise ValueError(f"{count} values are too few for a filter of order {order}")
    rows, middle = _weights(window, order, derivative)
    half = window // 2
    first = half - 1 + window % 2
    out = np.empty(values.shape)
    inner = np.lib.stride_tricks.sliding_window_view(values, window, axis=-1) @ middle
    out[..., first : first + inner.shape[-1]] = inner
    out[..., :half] = values[..., :window] @ rows[:half].T
    out[..., count - half :] = values[..., count - window :] @ rows[window - half :].T
    return np.asarray(np.round(out / step_s**derivative, 8))


@functools.cache
def _weights(window: int, order: int, derivative: int) -> tuple[Array, Array]:
    """Weights of a window's values for the fitted polynomial, or its derivative, in it.

    Returns:
        ``(window, window)`` one row for each place of a value, and ``(window,)`` for the middle.
    """
    places = np.arange(window) - (window - 1) / 2
    fit = np.linalg.pinv(np.vander(places, order + 1, increasing=True))
    at = np.append(places, 0.0)
    powers = np.zeros((window + 1, order + 1))
    for k in range(derivative, order + 1):
        powers[:, k] = math.perm(k, derivative) * at ** (k - derivative)
    weights = powers @ fit
    return weights[:-1], weights[-1]


def comfort_series(accel_mps2: Array, yaw_rad: Array, step_s: float) -> ComfortSeries:
    """Filter accelerations and headings on a grid of times.

    Args:
        accel_mps2: ``(K, 2)`` acceleration along and across ego's heading, unfiltered.
        yaw_rad: ``(K,)`` headings, wrapped or not.
        step_s: Of the grid.

    Raises:
        ValueError: K is less than 4.
    """
    size = np.hypot(accel_mps2[:, 0], accel_mps2[:, 1])
    lon, lat, size = (
        smoothed(v, ACCEL_WINDOW, ACCEL_ORDER, step_s)
        for v in (accel_mps2[:, 0], accel_mps2[:, 1], size)
    )
    yaw = np.unwrap(yaw_rad)
    return ComfortSeries(
        lon,
        lat,
        smoothed(size, JERK_WINDOW, JERK_ORDER, step_s, 1),
        smoothed(lon, JERK_WINDOW, JERK_ORDER, step_s, 1),
        smoothed(yaw, YAW_RATE_WINDOW, YAW_RATE_ORDER, step_s, 1),
        smoothed(yaw, YAW_ACCEL_WINDOW, YAW_ACCEL_ORDER, step_s, 2),
    )


def centre_acceleration_mps2(ego: EgoSamples, vehicle: Vehicle) -> Array:
    """Acceleration ``(K, 2)`` of the box's centre along and across ego's heading.

    Central differences of the centre's velocity in `local`, one-sided at the ends: a
    controller behind the wire need not state accelerations, and may mean others by them.
    """
    yaw = geometry.yaw_rad(ego.local_to_rig)
    c, s = np.cos(yaw), np.sin(yaw)
    turn = (ego.yaw_rate_radps * vehicle.rear_axle_to_center_m)[:, None]
    velocity = ego.velocity_mps + turn * np.stack([-s, c], axis=1)
    accel = np.gradient(velocity, SCORE_STEP_US / US_PER_S, axis=0)
    return np.stack([c * accel[:, 0] + s * accel[:, 1], c * accel[:, 1] - s * accel[:, 0]], axis=1)


@once_per_object
def comfort_of(record: RolloutRecord) -> ComfortSeries:
    """The series of a rollout on the score grid.

    Raises:
        ValueError: it has fewer than 4 score samples.
    """
    samples = score_samples(record)
    if samples is None:
        raise ValueError(f"{record.session_id}: {NOTHING_DRIVEN}")
    accel = centre_acceleration_mps2(samples.ego, record.scene.vehicle)
    yaw = geometry.yaw_rad(samples.ego.local_to_rig)
    return comfort_series(accel, yaw, SCORE_STEP_US / US_PER_S)
