"""nuPlan's time to collision: boxes go on at constant speed and heading until they meet."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import MetricValue
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.metrics.boxes import Rectangles, footprints, vertical_gap_m
from omniloop.metrics.contacts import VERTICAL_TOLERANCE_M
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.lanes_under import RIG, lanes_under
from omniloop.metrics.nuplan_collisions import beside_lane
from omniloop.metrics.nuplan_definition import nuplan_score
from omniloop.metrics.nuplan_faults import (
    BEHIND_RAD,
    collisions,
    left_out,
    off_heading_rad,
    stands_always,
)
from omniloop.metrics.samples import ScoreSamples, score_samples
from omniloop.metrics.swept import first_step_s, overlap_times_s
from omniloop.metrics.values import NOTHING_DRIVEN, undefined

NAME = "nuplan_time_to_collision_within_bound"

STEP_S = 0.1
STEPS = 29
"""Projections at 0.1, 0.2, ..., 2.9 s: ``arange(0.1, 3.0, 0.1)``."""

LEAST_S = 0.95
"""The least time to collision must exceed this (`least_min_ttc`)."""

AHEAD_RAD = np.deg2rad(30.0)
"""A track is ahead if its centre lies nearer than this to ego's heading."""

STANDING_MPS = 0.005
"""An ego at or below this speed has no time to collision (`stopped_speed_threshold`)."""


def time_to_contact_s(
    a: Rectangles, a_speed_mps: Array, b: Rectangles, b_speed_mps: Array
) -> Array:
    """First of `STEPS` projections at which rectangles overlap, pair by pair.

    Rectangles move along their headings.

    Returns:
        ``(N,)`` multiples of `STEP_S` from the first on; inf without an overlap.
    """
    velocity = b_speed_mps[:, None] * _heading(b) - a_speed_mps[:, None] * _heading(a)
    return first_step_s(*overlap_times_s(a, b, velocity), STEP_S, STEPS)


def _heading(of: Rectangles) -> Array:
    return np.stack([np.cos(of.yaw_rad), np.sin(of.yaw_rad)], axis=1)


def relevant(ahead: Mask, behind: Mask, beside: Mask, crossing: Mask) -> Mask:
    """``(A, K)`` whether an actor is looked at.

    Args:
        ahead: ``(A, K)`` nearer than `AHEAD_RAD` to ego's heading.
        behind: ``(A, K)`` farther than `BEHIND_RAD` from it.
        beside: ``(K,)`` ego is in several lanes or in a non-drivable area.
        crossing: ``(K,)`` ego's rear axle is in an intersection.
    """
    return ahead | ((beside | crossing) & ~behind)


def least_times_s(record: RolloutRecord, samples: ScoreSamples, beside: Mask) -> Array:
    """Time to collision ``(K,)`` on the score grid without contacts; inf where there is none."""
    ego, actors = samples.ego, samples.actors
    yaw = geometry.yaw_rad(ego.local_to_rig)
    angle = off_heading_rad(ego.local_to_rig[:, :2], yaw, actors.local_to_aabb[..., :2])
    under = lanes_under(record)
    crossing = np.any(under.inside[:, RIG] & under.in_intersection, axis=1)
    looked_at = relevant(angle < AHEAD_RAD, angle > BEHIND_RAD, beside, crossing)
    looked_at &= actors.valid & ~left_out(record) & (ego.speed_mps > STANDING_MPS)

    sizes, size = record.scene.actor_sizes_m, record.scene.vehicle.size_m
    speed = np.hypot(samples.actor_velocity_mps[..., 0], samples.actor_velocity_mps[..., 1])
    speed[np.isnan(speed)] = 0.0
    speed[[stands_always(actor) for actor in record.scene.actors]] = 0.0
    away = actors.local_to_aabb[..., :2] - ego.local_to_aabb[:, :2]
    reach_m = np.hypot(*size[:2]) / 2 + np.hypot(*sizes[:, :2].T)[:, None] / 2
    reach_m = reach_m + STEPS * STEP_S * (ego.speed_mps + speed)
    looked_at &= np.hypot(away[..., 0], away[..., 1]) <= reach_m

    row, at = np.nonzero(looked_at)
    boxes, poses = ego.local_to_aabb[at], actors.local_to_aabb[row, at]
    ego_sizes = np.broadcast_to(size, (len(row), 3))
    time_s = time_to_contact_s(
        footprints(boxes, ego_sizes), ego.speed_mps[at],
        footprints(poses, sizes[row]), speed[row, at],
    )  # fmt: skip
    over = vertical_gap_m(boxes, ego_sizes, poses, sizes[row]) > VERTICAL_TOLERANCE_M
    out = np.full(len(samples.times_us), np.inf)
    np.minimum.at(out, at[~over], time_s[~over])
    return out


@once_per_object
def _scores(record: RolloutRecord) -> list[MetricValue]:
    samples = score_samples(record)
    if samples is None:
        return undefined([NAME], NOTHING_DRIVEN)
    found = collisions(record)
    beside = beside_lane(record)
    faults = [one.at_fault(beside) for one in found]
    if beside is None:
        none = np.zeros(len(samples.times_us), dtype=bool)
        times_s = least_times_s(record, samples, none)
        possible = np.minimum(times_s, least_times_s(record, samples, ~none))
    else:
        times_s = possible = least_times_s(record, samples, beside)
    times_s, possible = times_s.copy(), possible.copy()
    for one, fault in zip(found, faults, strict=True):
        if fault:
            times_s[one.sample] = 0.0
        if fault is not False:
            possible[one.sample] = 0.0
    at = int(times_s.argmin())
    least_s = float(times_s[at])
    details: dict[str, object] = {
        "least_s": least_s if np.isfinite(least_s) else None,
        "at_us": int(samples.times_us[at]) if np.isfinite(least_s) else None,
    }
    within = least_s > LEAST_S
    if within != bool(possible.min() > LEAST_S):
        reason = "actors beside ego count only between lanes, and the map has no lanes"
        return [MetricValue(NAME, None, reason, details)]
    return [MetricValue(NAME, float(within), details=details)]


class NuplanTtcMetric:
    """TTC of nuPlan's closed-loop score: 1 if ego never comes within 0.95 s of a collision."""

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        nuplan_score(
            NAME,
            unit="0 or 1",
            formula="1 if the least time to collision exceeds 0.95 s. At each sample ego's box and"
            " the actors' go on at their speed along their heading for 0.1, 0.2, ..., 2.9 s; the"
            " first time at which two overlap counts. Looked at are actors whose centre lies less"
            " than 30 degrees from the heading at the rear axle, and, while ego's corners are not"
            " in one lane (and its successors) or its rear axle is in an intersection, all but"
            " those over 150 degrees from it. Actors that have been in contact are left out; so is"
            " an ego at 0.005 m/s or less; a contact at fault is a time of 0. Actors of class"
            " OTHER and those seen once do not move",
            over_time="the least over all samples",
            undefined="the map has no lanes and that decides",
            source="time_to_collision_within_bound.py",
        ),
    )
    names: ClassVar[tuple[str, ...]] = tuple(d.name for d in definitions)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`; the details tell the least time and when it was."""
        return _scores(record)
