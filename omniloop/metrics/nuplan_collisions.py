"""nuPlan's score of collisions for which ego is at fault."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import ClassVar

import numpy as np

from omniloop.core.contracts import MetricValue
from omniloop.core.motion import Mask
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.lanes_under import ONE, lane_shapes, lanes_under
from omniloop.metrics.nuplan_definition import nuplan_score
from omniloop.metrics.nuplan_faults import OBJECT, VEHICLE, VRU, collisions
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NOTHING_DRIVEN, undefined

ALLOWED = {VRU: 0, VEHICLE: 0, OBJECT: 1}
"""At this many collisions of a group its score is above 0 (`max_violation_threshold_*`)."""

NAME = "nuplan_no_ego_at_fault_collisions"


def score_of(groups: Iterable[str]) -> float:
    """C: the product over groups of max(0, 1 - n / (allowed + 1)).

    Args:
        groups: One for each collision at fault.
    """
    count = dict.fromkeys(ALLOWED, 0)
    for group in groups:
        count[group] += 1
    score = 1.0
    for group, allowed in ALLOWED.items():
        score *= max(0.0, 1.0 - count[group] / (allowed + 1))
    return score


@once_per_object
def beside_lane(record: RolloutRecord) -> Mask | None:
    """``(K,)`` whether ego's corners are not all in one lane, or in it and its successors.

    nuPlan's "multiple lanes or non-drivable area". None if the map has no lanes.

    Raises:
        ValueError: the record has no score samples.
    """
    if not lane_shapes(record.scene.map).lanes:
        return None
    return np.asarray(lanes_under(record).box != ONE)


@once_per_object
def _scores(record: RolloutRecord) -> list[MetricValue]:
    if score_samples(record) is None:
        return undefined([NAME], NOTHING_DRIVEN)
    found = collisions(record)
    beside = beside_lane(record) if found else None
    faults = [one.at_fault(beside) for one in found]
    facts = [{**asdict(one), "at_fault": fault} for one, fault in zip(found, faults, strict=True)]
    details: dict[str, object] = {"collisions": facts}
    at_fault = [one.group for one, fault in zip(found, faults, strict=True) if fault]
    maybe = [one.group for one, fault in zip(found, faults, strict=True) if fault is None]
    score = score_of(at_fault)
    if score != score_of(at_fault + maybe):
        reason = "whose fault a lateral contact is cannot be told: the map has no lanes"
        return [MetricValue(NAME, None, reason, details)]
    return [MetricValue(NAME, score, details=details)]


class NuplanCollisionsMetric:
    """C of nuPlan's closed-loop score: 1, 0.5 after one hit of an object, else 0."""

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        nuplan_score(
            NAME,
            formula="the product over VRUs, vehicles and objects of max(0, 1 - n / (allowed + 1));"
            " n contacts at fault, allowed 0, 0 and 1. The first of these names a contact: ego at"
            " 0.05 m/s or less (not at fault); the actor at 0.05 m/s or less (at fault); its"
            " centre over 150 degrees from the heading at the rear axle (not); ego's front edge"
            " meets its box (at fault); else lateral, at fault if ego's corners are not all in"
            " one lane or in it and its successors",
            over_time="each actor counts once, at its first contact",
            undefined="the fault of a lateral contact decides and the map has no lanes",
            source="no_ego_at_fault_collisions.py and collision_utils.py",
        ),
    )
    names: ClassVar[tuple[str, ...]] = tuple(d.name for d in definitions)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`; every collision is in the details, with its kind, fault and delta v."""
        return _scores(record)
