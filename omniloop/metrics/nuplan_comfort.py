"""nuPlan's comfort: accelerations, jerks and rates of turn within bounds of human driving."""

from __future__ import annotations

from typing import ClassVar

from omniloop.core.contracts import MetricValue
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.metrics.comfort_filters import ComfortSeries, comfort_of
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.nuplan_definition import nuplan_score
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NOTHING_DRIVEN, undefined

NAME = "nuplan_ego_is_comfortable"

BOUNDS = {
    "lon_accel_mps2": (-4.05, 2.40),
    "lat_accel_mps2": (-4.89, 4.89),
    "jerk_mps3": (-8.37, 8.37),
    "lon_jerk_mps3": (-4.13, 4.13),
    "yaw_rate_radps": (-0.95, 0.95),
    "yaw_accel_radps2": (-1.93, 1.93),
}
"""Least and greatest value of each of `ComfortSeries` (`ego_is_comfortable` and its parts)."""

LEAST_SAMPLES = 4
"""Yaw acceleration is fitted by a polynomial of degree 3."""

TOO_SHORT = f"too short for the filters: fewer than {LEAST_SAMPLES} samples"


def beyond_bounds(series: ComfortSeries) -> dict[str, list[float]]:
    """Least and greatest value of the quantities that leave their bounds."""
    extremes = {
        name: [float(getattr(series, name).min()), float(getattr(series, name).max())]
        for name in BOUNDS
    }
    return {
        name: [low, high]
        for name, (low, high) in extremes.items()
        if low < BOUNDS[name][0] or high > BOUNDS[name][1]
    }


@once_per_object
def _scores(record: RolloutRecord) -> list[MetricValue]:
    samples = score_samples(record)
    if samples is None:
        return undefined([NAME], NOTHING_DRIVEN)
    if len(samples.times_us) < LEAST_SAMPLES:
        return undefined([NAME], TOO_SHORT)
    beyond = beyond_bounds(comfort_of(record))
    return [MetricValue(NAME, float(not beyond), details={"beyond_bounds": beyond})]


class NuplanComfortMetric:
    """CF of nuPlan's closed-loop score: 1 if every sample is within all bounds, else 0."""

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        nuplan_score(
            NAME,
            unit="0 or 1",
            formula="1 if at all samples longitudinal acceleration is within -4.05 and 2.40 m/s2,"
            " lateral within 4.89 m/s2, jerk of its size within 8.37 m/s3, longitudinal jerk"
            " within 4.13 m/s3, yaw rate within 0.95 rad/s and yaw acceleration within"
            " 1.93 rad/s2; else 0. Savitzky-Golay filters of order and window 2 and 8"
            " (accelerations), 2 and 15 (their derivatives), 2 and 5 (yaw rate), 3 and 5 (yaw"
            " acceleration), windows no longer than the rollout, rounded to 8 decimals."
            " Accelerations are differences of the velocity of the box's centre; nuPlan takes"
            " those that its simulator states",
            over_time="every sample",
            over_rollouts="rate",
            undefined="fewer than 4 samples",
            source="ego_is_comfortable.py and state_extractors.py",
        ),
    )
    names: ClassVar[tuple[str, ...]] = tuple(d.name for d in definitions)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`; the details tell which quantities leave their bounds, and how far."""
        return _scores(record)
