"""nuPlan's progress along the expert's route, and whether ego makes progress at all."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from omniloop.core.contracts import MetricValue
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.lanes_under import NO_LANES, lane_shapes
from omniloop.metrics.nuplan_definition import nuplan_score
from omniloop.metrics.nuplan_human import human_record
from omniloop.metrics.nuplan_route import route_offsets
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NOTHING_DRIVEN, undefined

FLOOR_M = 2.0
"""Progress below this says nothing (`score_progress_threshold`)."""

LEAST = 0.2
"""Ego makes progress from this share of the expert's on (`min_progress_threshold`)."""

NAMES = ("nuplan_ego_progress_along_expert_route", "nuplan_ego_is_making_progress")


def progress_m(s_m: Array, on_route: Mask) -> float:
    """Progress from the first sample to the last one on the route; 0 if there is none.

    nuPlan's sum of progress per frame comes to this: what is driven beside the route adds
    nothing, and back on it the way between counts.

    Args:
        s_m: ``(K,)`` arc lengths along the route.
        on_route: ``(K,)``.
    """
    on = np.flatnonzero(on_route)
    return float(s_m[on[-1]] - s_m[0]) if len(on) else 0.0


def ratio(ego_m: float, expert_m: float) -> float:
    """P: 0 for an ego that goes back by more than 2 m, else what it makes of the expert's."""
    if ego_m < -FLOOR_M:
        return 0.0
    return min(1.0, max(ego_m, FLOOR_M) / max(expert_m, FLOOR_M))


@once_per_object
def _scores(record: RolloutRecord) -> list[MetricValue]:
    samples = score_samples(record)
    if samples is None:
        return undefined(NAMES, NOTHING_DRIVEN)
    if not lane_shapes(record.scene.map).lanes:
        return undefined(NAMES, NO_LANES)
    if samples.times_us[-1] > record.scene.ego.end_us:
        return undefined(NAMES, "the recording ends before the rollout")
    ego = route_offsets(record)
    expert = route_offsets(human_record(record))
    if ego is None or expert is None:
        details: dict[str, object] = {"route": "none: no lane is under the recording"}
        share = 1.0
    else:
        ego_m = progress_m(ego.s_m, ego.on_route)
        expert_m = progress_m(expert.s_m, expert.on_route)
        share = ratio(ego_m, expert_m)
        details = {
            "ego_progress_m": ego_m,
            "expert_progress_m": expert_m,
            "off_route_samples": int(np.count_nonzero(~ego.on_route)),
        }
    return [
        MetricValue(NAMES[0], share, details=details),
        MetricValue(NAMES[1], float(share >= LEAST)),
    ]


_ALONG = nuplan_score(
    NAMES[0],
    formula="P = min(1, max(p_ego, 2 m) / max(p_expert, 2 m)); 0 if p_ego < -2 m; 1 if no lane is"
    " under the recording. p: distance along the route from the first sample to the last one on"
    " it. The route, in place of nuPlan's roadblocks, is the path of the recorded box centre"
    " matched to the centre lines of its lanes; ego is on it while its box's centre is in a lane"
    " within 45 degrees of its direction, and at most 12 m away",
    over_time="from handover to the last score sample, ego's and the recording's",
    undefined="the map has no lanes; the recording ends before the rollout",
    source="ego_progress_along_expert_route.py",
)


class NuplanProgressMetric:
    """P and MP of nuPlan's closed-loop score."""

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        _ALONG,
        replace(
            _ALONG,
            name=NAMES[1],
            unit="0 or 1",
            formula="MP = 1 if nuplan_ego_progress_along_expert_route is 0.2 or more, else 0",
            source="nuplan-devkit, ego_is_making_progress.py",
        ),
    )
    names: ClassVar[tuple[str, ...]] = tuple(d.name for d in definitions)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`; the details of P tell both distances."""
        return _scores(record)
