"""Time to collision at constant velocities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import MetricValue
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.core.record import RolloutRecord
from omniloop.metrics.boxes import Rectangles, footprints, vertical_gap_m
from omniloop.metrics.contacts import VERTICAL_TOLERANCE_M, Index
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.lanes_under import ONE, lanes_under
from omniloop.metrics.nuplan_faults import BEHIND_RAD, left_out
from omniloop.metrics.samples import ScoreSamples, score_samples
from omniloop.metrics.swept import first_step_s, overlap_times_s
from omniloop.metrics.values import NEVER_DRIVEN, NOTHING_DRIVEN, own, threshold, undefined

STEP_S = 0.1
HORIZON_S = 3.0
BOUND_S = 0.95
"""Below this a time to collision is short (nuPlan, `least_min_ttc`)."""

STANDS_MPS = 0.005
"""An ego at or below this speed drives into nobody (nuPlan)."""

AHEAD_RAD = np.deg2rad(30.0)

_SOURCE = "nuPlan, `time_to_collision_within_bound`"
_NO_CONFLICT = "no actor is on a collision course within the horizon at any sample"


@dataclass(frozen=True, eq=False)
class Nearest:
    """The least time to collision of each score sample.

    Attributes:
        ttc_s: ``(K,)``, infinite where nobody is on a collision course.
        row: ``(K,)`` index of the actor; meaningless where infinite.
    """

    ttc_s: Array
    row: Index


def considered(record: RolloutRecord, samples: ScoreSamples) -> Mask:
    """Which actors are looked at when, ``(A, K)``: see `TtcMetric`."""
    ego, boxes = samples.ego, samples.actors.local_to_aabb
    away = boxes[..., :2] - ego.local_to_rig[:, :2]
    yaw = geometry.yaw_rad(ego.local_to_rig)
    # The bearing against ego's heading by its cosine, without an arc tangent for every pair.
    ahead = away[..., 0] * np.cos(yaw) + away[..., 1] * np.sin(yaw)
    cosine = ahead / np.maximum(np.hypot(away[..., 0], away[..., 1]), 1e-9)
    under = lanes_under(record)
    free = under.centre_in_intersection.copy()
    if record.scene.map.lanes:
        free |= under.box != ONE
    wanted: Mask = (cosine > np.cos(AHEAD_RAD)) | (free & (cosine >= np.cos(BEHIND_RAD)))
    wanted &= samples.actors.valid & np.isfinite(samples.actor_velocity_mps[..., 0])
    wanted &= ego.speed_mps > STANDS_MPS
    wanted &= ~left_out(record)
    return wanted


def nearest_s(
    record: RolloutRecord, samples: ScoreSamples, wanted: Mask, horizon_s: float
) -> Nearest:
    """Times to collision with the actors of a mask ``(A, K)``, in steps of 0.1 s."""
    row, column = np.nonzero(wanted)
    all_sizes, size = record.scene.actor_sizes_m, record.scene.vehicle.size_m
    away = samples.actors.local_to_aabb[row, column, :2] - samples.ego.local_to_aabb[column, :2]
    relative = samples.actor_velocity_mps[row, column] - samples.ego.velocity_mps[column]
    # Who is too far away to be reached within the horizon is left out first.
    reach = (np.hypot(*all_sizes[:, :2].T) + np.hypot(*size[:2])) / 2
    reached = np.hypot(*away.T) - reach[row] <= np.hypot(*relative.T) * horizon_s
    row, column, relative = row[reached], column[reached], relative[reached]
    poses, sizes = samples.actors.local_to_aabb[row, column], all_sizes[row]
    ego, ego_sizes = samples.ego.local_to_aabb[column], np.broadcast_to(size, sizes.shape)
    close = vertical_gap_m(ego, ego_sizes, poses, sizes) <= VERTICAL_TOLERANCE_M
    row, column = row[close], column[close]
    a: Rectangles = footprints(ego[close], ego_sizes[close])
    b: Rectangles = footprints(poses[close], sizes[close])
    steps = int(np.floor(horizon_s / STEP_S + 1e-9))
    ttc = first_step_s(*overlap_times_s(a, b, relative[close]), STEP_S, steps)
    least = np.full(len(samples.times_us), np.inf)
    who = np.zeros(len(least), dtype=np.intp)
    order = np.lexsort((-row, -ttc))  # the last to be written is the least, of equals the first
    least[column[order]], who[column[order]] = ttc[order], row[order]
    return Nearest(least, who)


class TtcMetric:
    """Time to collision if ego and an actor kept their velocities and headings.

    At every score sample both boxes are moved on in steps of 0.1 s up to `horizon_s`; the first
    step at which they overlap is the time to collision with that actor. The velocity of an
    actor is its mean over the grid step. *Looked at* are actors whose centre lies less than
    30 deg off ego's heading, seen from the rig origin; and, while ego's centre is in an
    intersection or its box is not within one lane, all that are not behind it (more than
    150 deg). An actor that ego has touched is looked at no more; nor is anybody while ego's
    speed is at most 0.005 m/s.

    Args:
        bound_s: Below this a time is short.
        horizon_s: How far ahead is looked.
    """

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        own(
            "ttc_min_s", "s", "min over t and actors of the time to collision",
            "least sample", "mean", "higher", source=_SOURCE,
            undefined=f"{NEVER_DRIVEN}; {_NO_CONFLICT}", settings=(("horizon_s", HORIZON_S),),
        ),
        own(
            "ttc_short_share", "1", "share of score samples with a time to collision below bound_s",
            "share of samples", source=_SOURCE,
            settings=(("bound_s", BOUND_S), ("horizon_s", HORIZON_S)),
        ),
    )  # fmt: skip
    names = tuple(d.name for d in definitions)

    def __init__(self, bound_s: float = BOUND_S, horizon_s: float = HORIZON_S) -> None:
        self.bound_s = threshold("metrics.ttc.bound_s", bound_s)
        self.horizon_s = threshold("metrics.ttc.horizon_s", horizon_s)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`; with whom and when is in the details of `ttc_min_s`."""
        samples = score_samples(record)
        if samples is None:
            return undefined(self.names, NOTHING_DRIVEN)
        found = nearest_s(record, samples, considered(record, samples), self.horizon_s)
        share = float(np.mean(found.ttc_s < self.bound_s))
        at = int(np.argmin(found.ttc_s))
        least = MetricValue("ttc_min_s", None, _NO_CONFLICT)
        if np.isfinite(found.ttc_s[at]):
            details: dict[str, object] = {
                "actor_id": record.scene.actors[found.row[at]].id,
                "at_us": int(samples.times_us[at]),
            }
            least = MetricValue("ttc_min_s", float(found.ttc_s[at]), details=details)
        return [least, MetricValue("ttc_short_share", share)]
