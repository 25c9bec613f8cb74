"""nuPlan's speed limit compliance."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from omniloop.core.contracts import MetricValue
from omniloop.core.geometry import Array
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.core.time import US_PER_S
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.lanes_under import CENTRE, NO_LANES, LanesUnder, lane_shapes, lanes_under
from omniloop.metrics.nuplan_definition import nuplan_score
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NOTHING_DRIVEN, undefined

NAME = "nuplan_speed_limit_compliance"

OVERSPEED_MPS = 2.23
"""Speeding by this all the time scores 0 (`max_overspeed_value_threshold`)."""


def compliance(over_mps: Array, step_s: float) -> float:
    """SL: 1 less the mean of speeding over time, in parts of `OVERSPEED_MPS`.

    Args:
        over_mps: ``(K,)`` speed over the limit, 0 where there is none, every `step_s`.
    """
    duration_s = (len(over_mps) - 1) * step_s
    return max(0.0, 1.0 - float(over_mps.sum()) * step_s / (OVERSPEED_MPS * duration_s))


def limits_mps(record: RolloutRecord, under: LanesUnder) -> Array:
    """Speed limit ``(K,)`` at the box's centre; NaN where it is in no lane or it is not known.

    It is the greatest of the lanes' that the centre is in: those outside an intersection, if
    there are any. A lane in an intersection without a limit has the greatest of the lanes
    before and after it. If one of the lanes has none, none is known (as in nuPlan).
    """
    lane_by_id = record.scene.map.lane_by_id
    limit = under.speed_limit_mps.copy()
    for i in np.flatnonzero(np.isnan(limit) & under.in_intersection):
        joined = [*under.lanes[i].predecessors, *under.lanes[i].successors]
        known = [lane_by_id[name].speed_limit_mps for name in joined if name in lane_by_id]
        if known and None not in known:
            limit[i] = max(one for one in known if one is not None)
    held = under.inside[:, CENTRE]
    plain = held & ~under.in_intersection
    held = np.where(plain.any(axis=1, keepdims=True), plain, held)
    none = ~held.any(axis=1) | np.any(held & np.isnan(limit), axis=1)
    greatest = np.where(held, limit, -np.inf).max(axis=1, initial=-np.inf)
    return np.where(none, np.nan, greatest)


@once_per_object
def _scores(record: RolloutRecord) -> list[MetricValue]:
    samples = score_samples(record)
    if samples is None:
        return undefined([NAME], NOTHING_DRIVEN)
    if not lane_shapes(record.scene.map).lanes:
        return undefined([NAME], NO_LANES)
    limit = limits_mps(record, lanes_under(record))
    known = np.isfinite(limit)
    if not known.any():
        return undefined([NAME], "no speed limits: none is known where ego drove")
    over = np.where(
        known, np.maximum(samples.ego.speed_mps - np.where(known, limit, 0.0), 0.0), 0.0
    )
    step_s = float(np.diff(samples.times_us).mean()) / US_PER_S
    details: dict[str, object] = {
        "max_over_mps": float(over.max()),
        "over_s": float(np.count_nonzero(over > 0) * step_s),
        "unknown_s": float(np.count_nonzero(~known) * step_s),
    }
    return [MetricValue(NAME, compliance(over, step_s), details=details)]


class NuplanSpeedLimitMetric:
    """SL of nuPlan's closed-loop score."""

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        nuplan_score(
            NAME,
            formula="SL = max(0, 1 - sum(over dt) / (2.23 m/s T)); over is ego's speed less the"
            " limit, not below 0, and 0 where no limit is known; the limit is the greatest of the"
            " lanes that the box's centre is in (outside intersections first; a lane of an"
            " intersection without one has that of the lanes before and after it)",
            over_time="the mean over the samples, of duration T",
            undefined="the map has no lanes; no limit is known where ego drove",
            source="speed_limit_compliance.py",
        ),
    )
    names: ClassVar[tuple[str, ...]] = tuple(d.name for d in definitions)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`; the details tell the greatest excess and for how long."""
        return _scores(record)
