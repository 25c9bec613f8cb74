"""How far plans are from what was recorded, and from what ego then drove."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from omniloop.core.contracts import MetricValue
from omniloop.core.motion import Trajectory
from omniloop.core.record import RolloutRecord
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.plans import HORIZONS_S, NO_PLANS, Plans, min_ade_m, plans_of
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NEVER_DRIVEN, NOTHING_DRIVEN, own, undefined

_AGAINST = (("recorded", "the recorded ego"), ("driven", "what ego then drove"))


def _name(horizon_s: float, against: str) -> str:
    return f"plan_min_ade_{against}_{horizon_s:g}s_m"


class PlanErrorMetric:
    """minADE of plans against the recording, and against what ego then drove.

    For each decision from handover on: the mean distance of the rig origin, every 100 ms from
    0.1 s after the decision up to the horizon, between a plan and the truth at the same times;
    of the plan and its further samples the least. A score is the mean over decisions whose plan
    and truth reach the horizon. Against the recording it tells how human plans are from where
    ego has got to; against what was driven, how well ego does what was planned, by the vehicle
    and by plans that follow.
    """

    definitions: ClassVar[tuple[MetricDefinition, ...]] = tuple(
        own(
            _name(horizon, against), "m",
            f"mean over decisions of the least mean distance to {words} within {horizon:g} s",
            "mean over decisions",
            undefined=f"{NEVER_DRIVEN}; {NO_PLANS}; no plan, or {words}, reaches so far",
            source="AlpaSim, `min_ade`; minADE of motion forecasting",
        )
        for against, words in _AGAINST
        for horizon in HORIZONS_S
    )  # fmt: skip
    names = tuple(d.name for d in definitions)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`; the number of decisions is in the details."""
        if score_samples(record) is None:
            return undefined(self.names, NOTHING_DRIVEN)
        plans = plans_of(record)
        if plans is None:
            return undefined(self.names, NO_PLANS)
        truths = (record.scene.ego, record.ego.trajectory)
        return [
            _value(plans, truth, horizon, against, words)
            for (against, words), truth in zip(_AGAINST, truths, strict=True)
            for horizon in HORIZONS_S
        ]


def _value(
    plans: Plans, truth: Trajectory, horizon_s: float, against: str, words: str
) -> MetricValue:
    name = _name(horizon_s, against)
    found = min_ade_m(plans, truth, horizon_s)
    found = found[~np.isnan(found)]
    if not len(found):
        return MetricValue(name, None, f"no plan, or {words}, reaches {horizon_s:g} s")
    return MetricValue(name, float(found.mean()), details={"decisions": len(found)})
