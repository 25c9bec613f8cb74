"""Contacts of ego by nuPlan's table: what kind each is, and whether ego is at fault.

A contact is that of `omniloop.metrics.contacts`: looked for every 20 ms where actors are
near, boxes overlap with positive area and meet in height too, and a pair that overlaps at
handover counts once it has parted. nuPlan looks at 10 Hz in the plane and lets boxes
collide that merely touch. Each actor counts once, at its first contact.

Source: nuplan-devkit, `planning/metrics/evaluation_metrics/common/no_ego_at_fault_collisions.py`
and `planning/metrics/utils/collision_utils.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import Actor, ActorClass
from omniloop.metrics.boxes import TOUCH_M, edge_lines, footprints, penetration_m
from omniloop.metrics.contacts import STOPPED_MPS, VERTICAL_TOLERANCE_M, actor_poses, contacts
from omniloop.metrics.samples import sample_ego, score_samples
from omniloop.metrics.values import NOTHING_DRIVEN

STOPPED_EGO, STOPPED_TRACK = "stopped_ego", "stopped_track"
ACTIVE_REAR, ACTIVE_FRONT, ACTIVE_LATERAL = "active_rear", "active_front", "active_lateral"
KINDS = (STOPPED_EGO, STOPPED_TRACK, ACTIVE_REAR, ACTIVE_FRONT, ACTIVE_LATERAL)
"""In the order of the table: the first test that holds names the contact."""

BEHIND_RAD = np.deg2rad(150.0)
"""A track is behind if its centre lies farther than this from ego's heading."""

MASS_KG = 2000.0
"""Of ego and of every actor (`collision_utils.py`)."""

VRU, VEHICLE, OBJECT = "vru", "vehicle", "object"

GROUPS = {
    ActorClass.CAR: VEHICLE, ActorClass.TRUCK: VEHICLE, ActorClass.PEDESTRIAN: VRU,
    ActorClass.CYCLIST: VRU, ActorClass.OTHER: OBJECT,
}  # fmt: skip
"""nuPlan's groups of classes; its objects are cones, barriers, signs and generic ones."""


@dataclass(frozen=True)
class Collision:
    """The first contact of ego with an actor.

    Attributes:
        actor_id: The actor, `row` its place in the scene and `group` its group.
        start_us: First sample of the contact; all else is stated for it.
        sample: The first sample of the score grid at or after `start_us`.
        kind: One of `KINDS`.
        ego_speed_mps: Speed of ego.
        actor_speed_mps: Speed of the actor over that grid step; None if not known.
        delta_v_mps: Change of ego's speed in a plastic impact; None if not known.
    """

    actor_id: str
    row: int
    group: str
    start_us: int
    sample: int
    kind: str
    ego_speed_mps: float
    actor_speed_mps: float | None
    delta_v_mps: float | None

    def at_fault(self, beside_lane: Mask | None) -> bool | None:
        """Whether ego is at fault.

        Args:
            beside_lane: ``(K,)`` whether ego is in several lanes or in a non-drivable area;
                None if that cannot be told.

        Returns:
            None if it hangs on `beside_lane`, which is None.
        """
        if self.kind == ACTIVE_LATERAL:
            return None if beside_lane is None else bool(beside_lane[self.sample])
        return self.kind in (STOPPED_TRACK, ACTIVE_FRONT)


def off_heading_rad(origin_xy: Array, heading_rad: Array, points_xy: Array) -> Array:
    """Angle ``(...)`` in [0, pi] between a heading and the way to a point; 0 at no distance."""
    away = points_xy - origin_xy
    cos, sin = np.cos(heading_rad), np.sin(heading_rad)
    ahead = away[..., 0] * cos + away[..., 1] * sin
    aside = away[..., 1] * cos - away[..., 0] * sin
    return np.asarray(np.arctan2(np.abs(aside), ahead))


def kinds(ego_speed_mps: Array, actor_stopped: Mask, behind: Mask, front: Mask) -> NDArray[np.str_]:
    """Names ``(N,)`` of contacts by nuPlan's table.

    Args:
        ego_speed_mps: ``(N,)``.
        actor_stopped: Whether the actor stands.
        behind: Whether its centre is behind, see `BEHIND_RAD`.
        front: Whether ego's front edge meets its box.
    """
    tests = [ego_speed_mps <= STOPPED_MPS, actor_stopped, behind, front]
    return np.asarray(np.select(tests, KINDS[:4], ACTIVE_LATERAL))


def delta_v_mps(
    ego_speed_mps: Array | float, actor_speed_mps: Array | float, turn_rad: Array | float
) -> Array:
    """Change of ego's speed in an impact of two bodies of equal mass that stay together.

    Args:
        turn_rad: Angle between the headings.
    """
    squared = ego_speed_mps**2 + actor_speed_mps**2
    squared = squared - 2 * ego_speed_mps * actor_speed_mps * np.cos(turn_rad)
    return np.asarray(MASS_KG / (MASS_KG + MASS_KG) * np.sqrt(np.maximum(squared, 0.0)))


def stands_always(actor: Actor) -> bool:
    """Whether an actor counts as standing whatever its boxes do: nuPlan's objects have no speed."""
    return actor.is_static or GROUPS[actor.actor_class] == OBJECT


@once_per_object
def collisions(record: RolloutRecord) -> tuple[Collision, ...]:
    """The first contact of ego with each actor, by time.

    Raises:
        ValueError: the record has no score samples.
    """
    samples = score_samples(record)
    if samples is None:
        raise ValueError(f"{record.session_id}: {NOTHING_DRIVEN}")
    row_of = {actor.id: row for row, actor in enumerate(record.scene.actors)}
    first: dict[str, int] = {}
    for contact in contacts(record, STOPPED_MPS, VERTICAL_TOLERANCE_M).contacts:
        first.setdefault(contact.actor_id, contact.start_us)
    if not first:
        return ()
    rows = np.array([row_of[name] for name in first], dtype=np.intp)
    times_us = np.array(list(first.values()), dtype=np.int64)
    at = np.searchsorted(samples.times_us, times_us)
    ego = sample_ego(record.ego, record.scene.vehicle, times_us)
    boxes = actor_poses(record.actors, rows, times_us)
    yaw, turned = geometry.yaw_rad(ego.local_to_rig), geometry.yaw_rad(boxes)
    sizes = record.scene.actor_sizes_m[rows]
    ego_box = footprints(
        ego.local_to_aabb, np.broadcast_to(record.scene.vehicle.size_m, sizes.shape)
    )
    actors = [record.scene.actors[row] for row in rows]
    stands = np.array([stands_always(actor) for actor in actors], dtype=bool)
    speed = np.hypot(*samples.actor_velocity_mps[rows, at].T)
    speed[stands] = 0.0
    found = kinds(
        ego.speed_mps,
        speed <= STOPPED_MPS,
        off_heading_rad(ego.local_to_rig[:, :2], yaw, boxes[:, :2]) > BEHIND_RAD,
        penetration_m(edge_lines(ego_box, 1), footprints(boxes, sizes)) >= -TOUCH_M,
    )
    change = delta_v_mps(ego.speed_mps, speed, yaw - turned)
    known = np.isfinite(speed)
    return tuple(
        Collision(
            actor_id=actors[i].id,
            row=int(rows[i]),
            group=GROUPS[actors[i].actor_class],
            start_us=int(times_us[i]),
            sample=int(at[i]),
            kind=str(found[i]),
            ego_speed_mps=float(ego.speed_mps[i]),
            actor_speed_mps=float(speed[i]) if known[i] else None,
            delta_v_mps=float(change[i]) if known[i] else None,
        )
        for i in range(len(rows))
    )


@once_per_object
def overlapping_since_handover(record: RolloutRecord) -> Mask:
    """``(A, K)`` which actors overlap since handover and have not parted, on the score grid.

    Raises:
        ValueError: the record has no score samples.
    """
    samples = score_samples(record)
    if samples is None:
        raise ValueError(f"{record.session_id}: {NOTHING_DRIVEN}")
    out = np.zeros(samples.actors.valid.shape, dtype=bool)
    row_of = {actor.id: row for row, actor in enumerate(record.scene.actors)}
    for overlap in contacts(record, STOPPED_MPS, VERTICAL_TOLERANCE_M).ignored:
        until_us = overlap.parted_us
        out[row_of[overlap.actor_id]] = until_us is None or samples.times_us < until_us
    return out


@once_per_object
def left_out(record: RolloutRecord) -> Mask:
    """``(A, K)`` which actors nuPlan's time to collision does not look at, on the score grid.

    Those that overlap since handover, and those that have been in contact, from its first
    sample on.

    Raises:
        ValueError: the record has no score samples.
    """
    samples = score_samples(record)
    if samples is None:
        raise ValueError(f"{record.session_id}: {NOTHING_DRIVEN}")
    out = overlapping_since_handover(record).copy()
    for one in collisions(record):
        out[one.row, samples.times_us >= one.start_us] = True
    return out
