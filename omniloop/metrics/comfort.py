"""Whether ego's ride stays within bounds of comfort."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from omniloop.core.contracts import MetricValue
from omniloop.core.record import RolloutRecord
from omniloop.metrics.comfort_filters import MIN_SAMPLES, comfort_of
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import FLAG, NEVER_DRIVEN, NOTHING_DRIVEN, own, threshold, undefined

MAX_ACCEL_MPS2 = 2.40
MAX_DECEL_MPS2 = 4.05
MAX_LAT_ACCEL_MPS2 = 4.89
MAX_JERK_MPS3 = 8.37
MAX_LON_JERK_MPS3 = 4.13
MAX_YAW_RATE_RADPS = 0.95
MAX_YAW_ACCEL_RADPS2 = 1.93

_SOURCE = "nuPlan, `ego_is_comfortable` and its six statistics"
_TOO_SHORT = f"fewer than {MIN_SAMPLES} score samples: the filters need as many"
_BOUNDS = (
    ("max_accel_mps2", MAX_ACCEL_MPS2), ("max_decel_mps2", MAX_DECEL_MPS2),
    ("max_lat_accel_mps2", MAX_LAT_ACCEL_MPS2), ("max_jerk_mps3", MAX_JERK_MPS3),
    ("max_lon_jerk_mps3", MAX_LON_JERK_MPS3), ("max_yaw_rate_radps", MAX_YAW_RATE_RADPS),
    ("max_yaw_accel_radps2", MAX_YAW_ACCEL_RADPS2),
)  # fmt: skip
_EXTREMES = (
    ("accel_max_mps2", "m/s^2", "max over t of the acceleration along ego's heading, 0 if it is never positive"),
    ("decel_max_mps2", "m/s^2", "max over t of the deceleration along ego's heading, 0 if it is never positive"),
    ("lat_accel_max_mps2", "m/s^2", "max over t of the size of the acceleration across ego's heading"),
    ("jerk_max_mps3", "m/s^3", "max over t of the size of the derivative of the size of the acceleration"),
    ("lon_jerk_max_mps3", "m/s^3", "max over t of the size of the derivative of the acceleration along ego's heading"),
    ("yaw_rate_max_radps", "rad/s", "max over t of the size of the yaw rate"),
    ("yaw_accel_max_radps2", "rad/s^2", "max over t of the size of the yaw acceleration"),
)  # fmt: skip


class ComfortMetric:
    """Comfort of the ride by nuPlan's bounds on accelerations, jerks and rates of turn.

    The acceleration of the box's centre is the central difference of its velocity on the score
    grid, taken apart along and across ego's heading. Savitzky-Golay filters as nuPlan's: order 2
    and window 8 for accelerations; derivatives of these with order 2 and window 15 for jerks;
    derivatives of the heading with window 5 and order 2 for the yaw rate, order 3 for the yaw
    acceleration. Values are rounded to 8 decimals. nuPlan takes accelerations as its simulator
    states them; a controller behind the wire need not state any.

    Args:
        max_accel_mps2: Along ego's heading.
        max_decel_mps2: Along ego's heading, as a positive number.
        max_lat_accel_mps2: Across ego's heading.
        max_jerk_mps3: Of the size of the acceleration.
        max_lon_jerk_mps3: Along ego's heading.
        max_yaw_rate_radps: Either way.
        max_yaw_accel_radps2: Either way.
    """

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        own(
            "comfort", FLAG, "1 if every sample of all seven quantities is within its bound",
            "all samples", "rate", "higher", undefined=f"{NEVER_DRIVEN}; {_TOO_SHORT}",
            source=_SOURCE, settings=_BOUNDS,
        ),
        own(
            "comfort_share", "1", "share of score samples at which all seven are within their bounds",
            "share of samples", "mean", "higher", undefined=f"{NEVER_DRIVEN}; {_TOO_SHORT}",
            source=_SOURCE, settings=_BOUNDS,
        ),
        *(
            own(
                name, unit, formula, "greatest sample", undefined=f"{NEVER_DRIVEN}; {_TOO_SHORT}",
                source=_SOURCE,
            )
            for name, unit, formula in _EXTREMES
        ),
    )  # fmt: skip
    names = tuple(d.name for d in definitions)

    def __init__(
        self,
        max_accel_mps2: float = MAX_ACCEL_MPS2,
        max_decel_mps2: float = MAX_DECEL_MPS2,
        max_lat_accel_mps2: float = MAX_LAT_ACCEL_MPS2,
        max_jerk_mps3: float = MAX_JERK_MPS3,
        max_lon_jerk_mps3: float = MAX_LON_JERK_MPS3,
        max_yaw_rate_radps: float = MAX_YAW_RATE_RADPS,
        max_yaw_accel_radps2: float = MAX_YAW_ACCEL_RADPS2,
    ) -> None:
        given = (
            max_accel_mps2, max_decel_mps2, max_lat_accel_mps2, max_jerk_mps3, max_lon_jerk_mps3,
            max_yaw_rate_radps, max_yaw_accel_radps2,
        )  # fmt: skip
        self.bounds = tuple(
            threshold(f"metrics.comfort.{name}", value)
            for (name, _), value in zip(_BOUNDS, given, strict=True)
        )

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`; which bounds are broken is in the details of `comfort`."""
        samples = score_samples(record)
        if samples is None:
            return undefined(self.names, NOTHING_DRIVEN)
        if len(samples.times_us) < MIN_SAMPLES:
            return undefined(self.names, _TOO_SHORT)
        series = comfort_of(record)
        sizes = np.stack(
            [
                series.lon_accel_mps2, -series.lon_accel_mps2, np.abs(series.lat_accel_mps2),
                np.abs(series.jerk_mps3), np.abs(series.lon_jerk_mps3),
                np.abs(series.yaw_rate_radps), np.abs(series.yaw_accel_radps2),
            ]
        )  # fmt: skip
        within = sizes <= np.array(self.bounds)[:, None]
        most = np.maximum(sizes.max(axis=1), 0.0)
        broken = [name for (name, _), row in zip(_BOUNDS, within, strict=True) if not row.all()]
        details: dict[str, object] = {"broken": broken}
        return [
            MetricValue("comfort", float(not broken), details=details),
            MetricValue("comfort_share", float(within.all(axis=0).mean())),
            *(
                MetricValue(name, float(value))
                for (name, *_), value in zip(_EXTREMES, most, strict=True)
            ),
        ]
