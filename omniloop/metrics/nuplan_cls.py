"""nuPlan's closed-loop score: the parts of this family brought together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from omniloop.core.contracts import MetricValue
from omniloop.core.record import RolloutRecord
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.nuplan_collisions import NuplanCollisionsMetric
from omniloop.metrics.nuplan_comfort import NuplanComfortMetric
from omniloop.metrics.nuplan_definition import nuplan_score
from omniloop.metrics.nuplan_drivable_area import NuplanDrivableAreaMetric
from omniloop.metrics.nuplan_driving_direction import NuplanDrivingDirectionMetric
from omniloop.metrics.nuplan_progress import NuplanProgressMetric
from omniloop.metrics.nuplan_speed_limit import NuplanSpeedLimitMetric
from omniloop.metrics.nuplan_ttc import NuplanTtcMetric
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NOTHING_DRIVEN, undefined

NAME = "nuplan_cls"

MULTIPLIERS = (
    "nuplan_no_ego_at_fault_collisions",
    "nuplan_drivable_area_compliance",
    "nuplan_ego_is_making_progress",
    "nuplan_driving_direction_compliance",
)

WEIGHTS = {
    "nuplan_ego_progress_along_expert_route": 5.0,
    "nuplan_time_to_collision_within_bound": 5.0,
    "nuplan_speed_limit_compliance": 4.0,
    "nuplan_ego_is_comfortable": 2.0,
}


def closed_loop_score(scores: Mapping[str, float | None]) -> float | None:
    """CLS = C DA MP DD (5 P + 5 TTC + 4 SL + 2 CF) / 16.

    Args:
        scores: By the names of `MULTIPLIERS` and `WEIGHTS`. None leaves a term out of the
            product, or of the mean together with its weight.

    Returns:
        The score in [0, 1]; None if no weighted term is left.
    """
    product = 1.0
    for name in MULTIPLIERS:
        score = scores[name]
        product *= 1.0 if score is None else score
    total = weight = 0.0
    for name, share in WEIGHTS.items():
        score = scores[name]
        if score is not None:
            total, weight = total + share * score, weight + share
    return product * total / weight if weight else None


class NuplanClsMetric:
    """nuPlan's closed-loop score of one rollout, in [0, 1].

    Terms that are not defined are left out, as nuPlan leaves out scores that are None. The
    details name them with their reasons: a score without a term is not comparable with one
    that has it.
    """

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        nuplan_score(
            NAME,
            formula="C DA MP DD (5 P + 5 TTC + 4 SL + 2 CF) / 16 of no_ego_at_fault_collisions,"
            " drivable_area_compliance, ego_is_making_progress, driving_direction_compliance,"
            " ego_progress_along_expert_route, time_to_collision_within_bound,"
            " speed_limit_compliance and ego_is_comfortable; a term that is not defined is left"
            " out, with its weight",
            over_time="as its terms",
            undefined="none of P, TTC, SL and CF is defined",
            source="closed_loop_*_weighted_average.yaml",
        ),
    )
    names: ClassVar[tuple[str, ...]] = tuple(d.name for d in definitions)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`; the details hold the terms and what is left out."""
        if score_samples(record) is None:
            return undefined(self.names, NOTHING_DRIVEN)
        parts = (
            NuplanCollisionsMetric(), NuplanDrivableAreaMetric(), NuplanProgressMetric(),
            NuplanDrivingDirectionMetric(), NuplanTtcMetric(), NuplanSpeedLimitMetric(),
            NuplanComfortMetric(),
        )  # fmt: skip
        found = {value.name: value for part in parts for value in part.compute(record)}
        terms = {name: value.value for name, value in found.items()}
        left_out = {name: value.reason for name, value in found.items() if value.value is None}
        details: dict[str, object] = {"terms": terms, "left_out": left_out}
        score = closed_loop_score(terms)
        if score is None:
            reason = "none of the weighted terms is defined"
            return [MetricValue(NAME, None, reason, details)]
        return [MetricValue(NAME, score, details=details)]
