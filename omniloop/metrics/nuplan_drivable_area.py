"""nuPlan's drivable area compliance."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import shapely

from omniloop.core.contracts import MetricValue
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.excursions import NEVER_ON, NO_SURFACE
from omniloop.metrics.lanes_under import CENTRE, CORNERS, LanesUnder, lane_shapes, lanes_under
from omniloop.metrics.nuplan_definition import nuplan_score
from omniloop.metrics.samples import ignored_since_handover, score_samples
from omniloop.metrics.values import NOTHING_DRIVEN, undefined
from omniloop.scenes.surface import drivable_surface

NAME = "nuplan_drivable_area_compliance"

FAR_M = 0.3
"""A corner may be nearer than this to the drivable area (`max_violation_threshold`)."""


def far_corners(record: RolloutRecord, under: LanesUnder, depth_m: Array) -> Mask:
    """``(K, 4)`` corners in no lane, and `FAR_M` or more from the surface and from the
    lanes of the box's centre.

    Args:
        depth_m: ``(K, 4)`` distance of the corners from the drivable surface, 0 inside.
    """
    far = np.asarray((depth_m >= FAR_M) & ~under.inside[:, CORNERS].any(axis=2))
    at, corner = np.nonzero(far)
    if not len(at) or not under.lanes:
        return far
    shapes = lane_shapes(record.scene.map)
    polygon_of = dict(zip((lane.id for lane in shapes.lanes), shapes.polygons, strict=True))
    held = under.inside[at, CENTRE]
    which, lane = np.nonzero(held)
    polygons = np.array([polygon_of[one.id] for one in under.lanes], dtype=object)
    points = np.asarray(shapely.points(under.points_xy[:, CORNERS][at, corner]))
    near = shapely.distance(polygons[lane], points[which]) < FAR_M
    far[at[which[near]], corner[which[near]]] = False
    return far


@once_per_object
def _scores(record: RolloutRecord) -> list[MetricValue]:
    samples, surface = score_samples(record), drivable_surface(record.scene.map)
    if samples is None:
        return undefined([NAME], NOTHING_DRIVEN)
    if surface is None:
        return undefined([NAME], NO_SURFACE)
    depth_m = surface.depth_m(samples.ego.corners_xy)
    off = np.asarray(far_corners(record, lanes_under(record), depth_m).any(axis=1))
    ignored = ignored_since_handover(off[None], np.ones((1, len(off)), dtype=bool), off[:1])[0]
    if ignored.all():
        return undefined([NAME], NEVER_ON)
    counted = np.flatnonzero(off & ~ignored)
    details: dict[str, object] = {
        "surface": surface.kind,
        "first_us": int(samples.times_us[counted[0]]) if len(counted) else None,
        "ignored_until_us": int(samples.times_us[np.argmin(ignored)]) if ignored[0] else None,
    }
    return [MetricValue(NAME, float(not len(counted)), details=details)]


class NuplanDrivableAreaMetric:
    """DA of nuPlan's closed-loop score: 0 once a corner is 0.3 m or more off, else 1."""

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        nuplan_score(
            NAME,
            unit="0 or 1",
            formula="0 if at any sample a corner of ego's footprint is in no lane, 0.3 m or more"
            " from the drivable surface, and 0.3 m or more from every lane that the box's centre"
            " is in; else 1",
            over_time="any sample; those at handover do not count until ego is on the surface",
            undefined="the map has no drivable areas and no lane polygons;"
            " ego is off the surface throughout",
            source="drivable_area_compliance.py",
        ),
    )
    names: ClassVar[tuple[str, ...]] = tuple(d.name for d in definitions)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`."""
        return _scores(record)
