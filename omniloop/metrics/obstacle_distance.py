"""How near ego comes to other actors."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from omniloop.core.contracts import MetricValue
from omniloop.core.record import RolloutRecord
from omniloop.metrics.boxes import distance_m, footprints, vertical_gap_m
from omniloop.metrics.contacts import VERTICAL_TOLERANCE_M
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.nuplan_faults import overlapping_since_handover
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NEVER_DRIVEN, NOTHING_DRIVEN, own, undefined

CLOSE_M = 15.0
"""Whose circles are this near is looked at before all others."""

NO_ACTOR = "no actor is ever present at ego's height"


class ObstacleDistanceMetric:
    """The least distance between ego's footprint and that of any actor.

    Distance in the plane of the exact rectangles, on the score grid; 0 where they touch or
    overlap. Actors whose vertical extent is more than 0.3 m above or below ego's do not count.
    Nor does an actor that overlaps ego at handover, until it has parted.
    """

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        own(
            "obstacle_distance_min_m", "m", "min over t and actors of the distance of the footprints",
            "least sample", "mean", "higher", undefined=f"{NEVER_DRIVEN}; {NO_ACTOR}",
        ),
    )  # fmt: skip
    names = tuple(d.name for d in definitions)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`; who was nearest, and when, is in the details."""
        samples = score_samples(record)
        if samples is None:
            return undefined(self.names, NOTHING_DRIVEN)
        looked_at = samples.actors.valid & ~overlapping_since_handover(record)
        # Circles inside and around the rectangles bound their distance from above and below.
        scene, size = record.scene, record.scene.vehicle.size_m
        sizes_m = scene.actor_sizes_m
        away = samples.actors.local_to_aabb[..., :2] - samples.ego.local_to_aabb[:, :2]
        centres_m = np.hypot(away[..., 0], away[..., 1])
        inside = (sizes_m[:, :2].min(axis=1) + size[:2].min()) / 2
        around = (np.hypot(*sizes_m[:, :2].T) + np.hypot(*size[:2])) / 2
        at_least_m = centres_m - around[:, None]
        # Heights of those close by are looked at first: mostly one of them is level with ego.
        for within_m in (CLOSE_M, np.inf):
            row, column = np.nonzero(looked_at & (at_least_m <= within_m))
            poses, sizes = samples.actors.local_to_aabb[row, column], sizes_m[row]
            ego, ego_sizes = samples.ego.local_to_aabb[column], np.broadcast_to(size, sizes.shape)
            level = vertical_gap_m(ego, ego_sizes, poses, sizes) <= VERTICAL_TOLERANCE_M
            at_most_m = (centres_m[row, column] - inside[row])[level]
            bound_m = max(float(at_most_m.min(initial=np.inf)), 0.0)
            if bound_m <= within_m:
                break
        if not level.any():
            return undefined(self.names, NO_ACTOR)
        near = np.flatnonzero(level & (at_least_m[row, column] <= bound_m))
        gap_m = distance_m(
            footprints(ego[near], ego_sizes[near]), footprints(poses[near], sizes[near])
        )
        nearest = int(np.argmin(gap_m))
        at = near[nearest]
        details: dict[str, object] = {
            "actor_id": scene.actors[row[at]].id,
            "at_us": int(samples.times_us[column[at]]),
        }
        return [MetricValue("obstacle_distance_min_m", float(gap_m[nearest]), details=details)]
