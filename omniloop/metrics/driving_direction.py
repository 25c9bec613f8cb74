"""How far ego drives against the direction of its lane."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from omniloop.core.contracts import MetricValue
from omniloop.core.geometry import Array
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.core.time import SCORE_STEP_US, US_PER_S
from omniloop.metrics.lanes_under import CENTRE, NO_LANES, lane_shapes, lanes_under
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import (
    FLAG,
    NEVER_DRIVEN,
    NOTHING_DRIVEN,
    own,
    threshold,
    undefined,
)

MAX_AGAINST_M = 2.0
"""So far against the lane within a second is tolerated (nuPlan, `driving_direction_compliance`)."""

WINDOW = US_PER_S // SCORE_STEP_US
"""Steps of the score grid in a second."""

NEVER_IN_LANE = "ego's centre is in no lane at any sample"
_SOURCE = "nuPlan, `driving_direction_compliance`"
_UNDEFINED = f"{NEVER_DRIVEN}; the map has no lanes; ego's centre is never in one"


@once_per_object
def progress_along_lanes_m(record: RolloutRecord) -> Array:
    """Ego's progress ``(K - 1,)`` along the lane under it, step by step of the score grid.

    A step is the movement of the box's centre along the heading of the centre line of a lane
    that holds the centre at the step's end; of several lanes, that which favours ego most,
    so that crossing lanes of a junction do no harm. 0 where there is none.
    """
    under = lanes_under(record)
    step = np.diff(under.points_xy[:, CENTRE], axis=0)
    if not under.lanes:
        return np.zeros(len(step))
    heading = under.centre_feet.heading_rad[1:]
    along = step[:, :1] * np.cos(heading) + step[:, 1:] * np.sin(heading)
    best = np.where(under.inside[1:, CENTRE], along, -np.inf).max(axis=1)
    return np.where(np.isfinite(best), best, 0.0)


def worst_window_m(progress_m: Array, window: int) -> tuple[float, int]:
    """The most negative sum over up to `window` consecutive steps that end at a step.

    Returns:
        Its size, 0 if no sum is negative, and the index of its last step.
    """
    total = np.cumsum(progress_m)
    sums = total - np.concatenate([np.zeros(window), total])[: len(total)]
    at = int(np.argmin(sums))
    return max(0.0, -float(sums[at])), at


class DrivingDirectionMetric:
    """Metres that ego drives against its lane within one second.

    Each step of the score grid is the movement of the box's centre along the heading of the
    lane under it (`omniloop.metrics.lanes_under`); of several lanes the one that favours ego
    most counts, so that crossing lanes of a junction do no harm; out of any lane a step is 0.
    Steps are summed over every second, forwards and backwards against each other, and the
    most negative sum is the score: reversing counts as well as driving on the wrong side.

    Args:
        max_against_m: So far is tolerated.
    """

    definitions: ClassVar = (
        own(
            "against_lane", FLAG, "1 if `against_lane_m` is max_against_m or more",
            "any second", "rate", undefined=_UNDEFINED, source=_SOURCE,
            settings=(("max_against_m", MAX_AGAINST_M),),
        ),
        own(
            "against_lane_m", "m", "max(0, -min over t of the progress along the lane in (t - 1 s, t])",
            "worst second", undefined=_UNDEFINED, source=_SOURCE,
        ),
    )  # fmt: skip
    names = tuple(d.name for d in definitions)

    def __init__(self, max_against_m: float = MAX_AGAINST_M) -> None:
        self.max_against_m = threshold("metrics.driving_direction.max_against_m", max_against_m)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`."""
        samples = score_samples(record)
        if samples is None:
            return undefined(self.names, NOTHING_DRIVEN)
        if not lane_shapes(record.scene.map).lanes:
            return undefined(self.names, NO_LANES)
        if not lanes_under(record).inside[:, CENTRE].any():
            return undefined(self.names, NEVER_IN_LANE)
        against_m, at = worst_window_m(progress_along_lanes_m(record), WINDOW)
        details: dict[str, object] = {"until_us": int(samples.times_us[at + 1])}
        return [
            MetricValue(
                "against_lane", float(0 < against_m >= self.max_against_m), details=details
            ),
            MetricValue("against_lane_m", against_m),
        ]
