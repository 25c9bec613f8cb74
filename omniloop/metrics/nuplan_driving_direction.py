"""nuPlan's driving direction compliance: how far ego goes against its lane's direction."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from omniloop.core import geometry
from omniloop.core.contracts import MetricValue
from omniloop.core.geometry import Array
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.core.time import SCORE_STEP_US, US_PER_S
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.lanes_under import CENTRE, NO_LANES, LanesUnder, lane_shapes, lanes_under
from omniloop.metrics.nuplan_definition import nuplan_score
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NOTHING_DRIVEN, undefined

NAME = "nuplan_driving_direction_compliance"

COMPLIANT_M, VIOLATED_M = 2.0, 6.0
"""Below the first the score is 1, below the second 0.5, else 0."""

HORIZON_SAMPLES = int(US_PER_S / SCORE_STEP_US)


def lane_of_centre(under: LanesUnder) -> NDArray[np.intp]:
    """``(K,)`` index in `under` of the one lane that the box's centre is in; -1 for none.

    Of many it is one outside an intersection (nuPlan's lanes go before its lane connectors),
    then the one whose direction is nearest to ego's heading.
    """
    held = under.inside[:, CENTRE]
    if not under.lanes:
        return np.full(len(held), -1)
    turn = np.abs(geometry.wrap_rad(under.centre_feet.heading_rad - under.yaw_rad[:, None]))
    cost = np.where(held, turn + 10.0 * under.in_intersection, np.inf)
    return np.where(held.any(axis=1), cost.argmin(axis=1), -1)


def progress_in_lane_m(lane: NDArray[np.intp], s_m: Array) -> Array:
    """Progress ``(K,)`` along the lane since the sample before.

    0 in no lane, and until ego has been in a lane at two samples before this one, as in
    nuPlan's code; the first lane needs one. Back in the lane that it left for none, ego is
    in it anew; nuPlan's code adds what was made beside it.

    Args:
        lane: ``(K,)`` of `lane_of_centre`.
        s_m: ``(K, M)`` arc lengths of the centre along the centre lines.
    """
    out = np.zeros(len(lane))
    if not s_m.shape[1]:
        return out
    rows = np.arange(1, len(lane))
    same = (lane[1:] == lane[:-1]) & (lane[1:] >= 0)
    settled = np.append(True, same[:-1])
    step = s_m[rows, lane[1:]] - s_m[rows - 1, lane[1:]]
    out[1:][same & settled] = step[same & settled]
    return out


def window_sums(values: Array, samples: int) -> Array:
    """Sums ``(K,)`` of each value and of as many as `samples` before it."""
    total = np.concatenate([np.zeros(1 + samples), np.cumsum(values)])
    return np.asarray(total[1 + samples :] - total[: len(values)])


def compliance(against_m: float) -> float:
    """1, 0.5 or 0 for a distance driven against the direction within the horizon."""
    return 1.0 if against_m < COMPLIANT_M else 0.5 if against_m < VIOLATED_M else 0.0


@once_per_object
def _scores(record: RolloutRecord) -> list[MetricValue]:
    samples = score_samples(record)
    if samples is None:
        return undefined([NAME], NOTHING_DRIVEN)
    if not lane_shapes(record.scene.map).lanes:
        return undefined([NAME], NO_LANES)
    under = lanes_under(record)
    step_m = progress_in_lane_m(lane_of_centre(under), under.centre_feet.s_m)
    over_m = window_sums(step_m, HORIZON_SAMPLES)
    at = int(over_m.argmin())
    against_m = max(0.0, -float(over_m[at]))
    details: dict[str, object] = {
        "against_m": against_m,
        "at_us": int(samples.times_us[at]) if against_m > 0 else None,
    }
    return [MetricValue(NAME, compliance(against_m), details=details)]


class NuplanDrivingDirectionMetric:
    """DD of nuPlan's closed-loop score."""

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        nuplan_score(
            NAME,
            formula="1 if m < 2 m, 0.5 if m < 6 m, else 0; m is the most that the box's centre goes"
            " back along the centre line of its lane within the last 1 s (the last 11 steps, as in"
            " nuPlan's code). Of several lanes one outside an intersection counts, then the one"
            " nearest to ego's heading; changing lanes and being in none are steps of 0",
            over_time="the worst second",
            undefined="the map has no lanes",
            source="driving_direction_compliance.py",
        ),
    )
    names: ClassVar[tuple[str, ...]] = tuple(d.name for d in definitions)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`; the details tell m."""
        return _scores(record)
