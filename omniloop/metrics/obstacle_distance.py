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
        scene = record.scene
        looked_at = samples.actors.valid & ~overlapping_since_handover(record)
        row, column = np.nonzero(looked_at)
        poses, sizes = samples.actors.local_to_aabb[row, column], scene.actor_sizes_m[row]
        ego = samples.ego.local_to_aabb[column]
        ego_sizes = np.broadcast_to(scene.vehicle.size_m, sizes.shape)
        level = vertical_gap_m(ego, ego_sizes, poses, sizes) <= VERTICAL_TOLERANCE_M
        if not level.any():
            return undefined(self.names, NO_ACTOR)
        # Circles inside and around the rectangles bound their distance from above and below.
        centres_m = np.hypot(*(poses[:, :2] - ego[:, :2]).T)
        inside = (sizes[:, :2].min(axis=1) + ego_sizes[:, :2].min(axis=1)) / 2
        around = (np.hypot(*sizes[:, :2].T) + np.hypot(*ego_sizes[:, :2].T)) / 2
        bound_m = max(float((centres_m - inside)[level].min()), 0.0)
        near = np.flatnonzero(level & (centres_m - around <= bound_m))
        away = distance_m(
            footprints(ego[near], ego_sizes[near]), footprints(poses[near], sizes[near])
        )
        nearest = int(np.argmin(away))
        at = near[nearest]
        details: dict[str, object] = {
            "actor_id": scene.actors[row[at]].id,
            "at_us": int(samples.times_us[column[at]]),
        }
        return [MetricValue("obstacle_distance_min_m", float(away[nearest]), details=details)]
