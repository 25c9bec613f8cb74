"""NAVSIM's parts of comfort: HC of what was driven, EC of the plans it was driven by."""

from __future__ import annotations

import itertools

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Trajectory
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import Vehicle
from omniloop.core.time import SCORE_STEP_US, US_PER_S
from omniloop.metrics.comfort_filters import (
    ACCEL_ORDER,
    ACCEL_WINDOW,
    JERK_ORDER,
    JERK_WINDOW,
    YAW_ACCEL_ORDER,
    YAW_ACCEL_WINDOW,
    YAW_RATE_ORDER,
    YAW_RATE_WINDOW,
    centre_acceleration_mps2,
    comfort_series,
    smoothed,
)
from omniloop.metrics.navsim_parts import Part
from omniloop.metrics.nuplan_comfort import LEAST_SAMPLES, TOO_SHORT, beyond_bounds
from omniloop.metrics.samples import sample_ego, score_samples
from omniloop.metrics.values import NOTHING_DRIVEN

STEP_S = SCORE_STEP_US / US_PER_S

HISTORY_US = 1_500_000
"""Of the recording before handover: NAVSIM's four frames at 2 Hz."""

EXTENDED_BOUNDS = (0.7, 0.5, 0.1, 0.1)
"""Greatest RMS difference of acceleration [m/s2], jerk [m/s3], yaw rate [rad/s] and yaw
acceleration [rad/s2] of two plans."""

NO_PAIRS = (
    "no two consecutive plans with poses at least every 0.1 s that overlap by"
    f" {LEAST_SAMPLES} samples"
)


def history_comfort(record: RolloutRecord) -> Part:
    """HC: nuPlan's bounds of comfort on up to 1.5 s before handover and all that was driven."""
    samples = score_samples(record)
    if samples is None:
        raise ValueError(f"{record.session_id}: {NOTHING_DRIVEN}")
    first_us, last_us = int(samples.times_us[0]), int(samples.times_us[-1])
    before_us = min(HISTORY_US, first_us - int(record.ego.times_us[0]))
    first_us -= before_us // SCORE_STEP_US * SCORE_STEP_US
    times_us = np.arange(first_us, last_us + 1, SCORE_STEP_US, dtype=np.int64)
    if len(times_us) < LEAST_SAMPLES:
        return TOO_SHORT
    ego = sample_ego(record.ego, record.scene.vehicle, times_us)
    accel = centre_acceleration_mps2(ego, record.scene.vehicle)
    series = comfort_series(accel, geometry.yaw_rad(ego.local_to_rig), STEP_S)
    return float(not beyond_bounds(series))


def extended_comfort(record: RolloutRecord) -> Part:
    """EC: share of pairs of consecutive plans that agree within `EXTENDED_BOUNDS`.

    A pair is looked at every 0.1 s where its plans overlap, as the policy gave them; NAVSIM
    looks at plans after its own controller has followed them. Dropped plans are left out.
    """
    plans = [one.plan.local_to_rig for one in record.decisions if not one.dropped]
    pairs: dict[int, list[Array]] = {}
    for one, other in itertools.pairwise(plans):
        if not (_is_dense(one) and _is_dense(other)):
            continue
        start_us, end_us = max(one.start_us, other.start_us), min(one.end_us, other.end_us)
        times_us = np.arange(start_us, end_us + 1, SCORE_STEP_US, dtype=np.int64)
        if len(times_us) >= LEAST_SAMPLES:
            both = np.stack([one.sample(times_us), other.sample(times_us)])
            pairs.setdefault(len(times_us), []).append(both)
    if not pairs:
        return NO_PAIRS
    agree = [_agree(np.stack(same), record.scene.vehicle) for same in pairs.values()]
    return float(np.concatenate(agree).mean())


def _is_dense(plan: Trajectory) -> bool:
    return len(plan) > 1 and int(np.diff(plan.times_us).max()) <= SCORE_STEP_US


def _agree(poses: Array, vehicle: Vehicle) -> Array:
    """Whether pairs of plans ``(P, 2, K, 7)`` agree: ``(P,)``, 1 or 0."""
    xy = geometry.shift_body(poses, vehicle.rig_to_aabb[:3])[..., :2]
    accel = np.gradient(np.gradient(xy, STEP_S, axis=2), STEP_S, axis=2)
    size = smoothed(np.hypot(accel[..., 0], accel[..., 1]), ACCEL_WINDOW, ACCEL_ORDER, STEP_S)
    yaw = np.unwrap(geometry.yaw_rad(poses), axis=-1)
    features = np.stack(
        [
            size,
            smoothed(size, JERK_WINDOW, JERK_ORDER, STEP_S, 1),
            smoothed(yaw, YAW_RATE_WINDOW, YAW_RATE_ORDER, STEP_S, 1),
            smoothed(yaw, YAW_ACCEL_WINDOW, YAW_ACCEL_ORDER, STEP_S, 2),
        ]
    )
    rms = np.sqrt(np.mean((features[:, :, 0] - features[:, :, 1]) ** 2, axis=-1))
    return np.asarray((rms <= np.array(EXTENDED_BOUNDS)[:, None]).all(axis=0), dtype=np.float64)
