"""Contacts of ego with actors: every one, from its first to its last overlapping sample.

Ego and an actor are in contact while their footprints overlap with positive area and
their vertical extents meet. They are looked at on the score grid and, through every grid
step at either end of which the circles around their footprints are closer than 5 m, also
every 20 ms in between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion, EgoMotion, Mask, Times, bracket
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import Vehicle
from omniloop.core.time import SCORE_STEP_US
from omniloop.metrics.boxes import TOUCH_M, edge_lines, footprints, penetration_m, vertical_gap_m
from omniloop.metrics.samples import (
    EgoSamples,
    ScoreSamples,
    episodes,
    ignored_since_handover,
    sample_ego,
    score_samples,
)

Index = NDArray[np.intp]

SUBSTEP_US = 20_000
"""Pairs that are near are looked at this often between two score samples."""

NEAR_M = 5.0
"""Pairs are near when the circles around their footprints are closer than this."""

STOPPED_MPS = 0.05
"""Ego stands at or below this speed (nuPlan, `no_ego_at_fault_collisions.py`)."""

VERTICAL_TOLERANCE_M = 0.3
"""Boxes this little above one another still meet: heights of ground, ego and labelled
boxes disagree by decimetres, while a bridge leaves metres."""

PER_STEP = SCORE_STEP_US // SUBSTEP_US
"""Samples of a pair that is near, in one step of the score grid."""


@dataclass(frozen=True, eq=False)
class Overlaps:
    """What was seen of every pair of ego and an actor.

    Attributes:
        times_us: ``(F,)`` every 20 ms; each fifth lies on the score grid.
        seen: ``(A, F)`` whether the pair was looked at and the actor was present.
        depth_m: ``(A, F)`` how deep the pair overlaps; 0 where it does not.
        ego: The ego at `times_us`.
    """

    times_us: Times
    seen: Mask
    depth_m: Array
    ego: EgoSamples

    @property
    def overlapping(self) -> Mask:
        """``(A, F)`` whether the pair is in contact."""
        return np.asarray(self.depth_m > 0)


@dataclass(frozen=True)
class Contact:
    """Ego and an actor touch, from one sample to another, without parting in between.

    Attributes:
        actor_id: The actor, and `actor_class` its class.
        start_us: First overlapping sample; all else is stated for it.
        end_us: Last overlapping sample.
        kind: "ego_stopped", "front", "rear" or "lateral".
        ego_speed_mps: Speed of ego.
        actor_speed_mps: Speed of the actor over that grid step; None if not known.
        relative_speed_mps: Length of the difference of both velocities.
        depth_m: Greatest overlap of the footprints over the whole contact.
    """

    actor_id: str
    actor_class: str
    start_us: int
    end_us: int
    kind: str
    ego_speed_mps: float
    actor_speed_mps: float | None
    relative_speed_mps: float | None
    depth_m: float

    @property
    def at_fault(self) -> bool:
        """Front or lateral, as AlpaSim counts; a stopped ego is never at fault."""
        return self.kind in ("front", "lateral")


@dataclass(frozen=True)
class IgnoredOverlap:
    """A pair that overlapped at handover already; `parted_us` is None if it never parted."""

    actor_id: str
    actor_class: str
    parted_us: int | None


@dataclass(frozen=True)
class Contacts:
    """All contacts after handover by their start, then in the order of actors."""

    contacts: tuple[Contact, ...]
    ignored: tuple[IgnoredOverlap, ...]


def _positions(
    actors: ActorMotion, rows: Index | slice, lo: Index, hi: Index, alpha: Array
) -> Array:
    before = actors.local_to_aabb[rows, lo, :2]
    if lo is hi:  # committed on the grid
        return before
    after = actors.local_to_aabb[rows, hi, :2]
    return np.asarray(before + alpha[:, None] * (after - before))


def find_overlaps(
    ego: EgoMotion,
    actors: ActorMotion,
    vehicle: Vehicle,
    actor_sizes_m: Array,
    grid_us: Times,
    *,
    vertical_tolerance_m: float = VERTICAL_TOLERANCE_M,
) -> Overlaps:
    """Look for overlaps of ego with every actor.

    Args:
        ego: Committed ego states around `grid_us`.
        actors: Committed actor states around `grid_us`.
        actor_sizes_m: ``(A, 3)``.
        grid_us: ``(K,)`` consecutive times of the score grid, K >= 1.
        vertical_tolerance_m: Free height between boxes that still counts as meeting.
    """
    fine_us = np.arange(grid_us[0], grid_us[-1] + 1, SUBSTEP_US, dtype=np.int64)
    at_ego = sample_ego(ego, vehicle, fine_us)
    lo, hi, alpha = bracket(actors.times_us, fine_us)
    present = actors.valid[:, lo] & actors.valid[:, hi]

    # Circles around footprints sort out the pairs that are far apart, on the grid first.
    reach_m = np.hypot(*vehicle.size_m[:2]) / 2 + np.hypot(*actor_sizes_m[:, :2].T) / 2
    on_grid = slice(None, None, PER_STEP)
    centres = _positions(actors, slice(None), *bracket(actors.times_us, fine_us[on_grid]))
    away = centres - at_ego.local_to_aabb[on_grid, :2]
    gap_m = np.hypot(away[..., 0], away[..., 1]) - reach_m[:, None]
    near = present[:, on_grid] & (gap_m < NEAR_M)
    looked_at = np.zeros(present.shape, dtype=bool)
    looked_at[:, on_grid] = True
    for substep in range(1, PER_STEP):
        looked_at[:, substep::PER_STEP] = near[:, :-1] | near[:, 1:]
    seen = looked_at & present

    close = seen.copy()
    close[:, on_grid] &= near
    row, column = np.nonzero(close)
    xy = _positions(actors, row, lo[column], hi[column], alpha[column])
    away = xy - at_ego.local_to_aabb[column, :2]
    meet = np.hypot(away[:, 0], away[:, 1]) < reach_m[row]
    row, column = row[meet], column[meet]
    depth_m = np.zeros(present.shape)
    if not len(row):  # most steps of a rollout that is watched
        return Overlaps(fine_us, seen, depth_m, at_ego)
    poses = actor_poses(actors, row, fine_us[column])
    boxes, sizes = at_ego.local_to_aabb[column], actor_sizes_m[row]
    ego_sizes = np.broadcast_to(vehicle.size_m, sizes.shape)
    found_m = penetration_m(footprints(boxes, ego_sizes), footprints(poses, sizes))
    found_m[found_m <= TOUCH_M] = 0.0
    found_m[vertical_gap_m(boxes, ego_sizes, poses, sizes) > vertical_tolerance_m] = 0.0
    depth_m[row, column] = found_m
    return Overlaps(fine_us, seen, depth_m, at_ego)


def actor_poses(actors: ActorMotion, row: Index, time_us: Times) -> Array:
    """Poses ``(N, 7)`` of actors ``row`` at times ``(N,)``, each present around its time."""
    lo, hi, alpha = bracket(actors.times_us, time_us)
    return geometry.interpolate_poses(
        actors.local_to_aabb[row, lo], actors.local_to_aabb[row, hi], alpha
    )


@once_per_object
def contacts(record: RolloutRecord, stopped_mps: float, vertical_tolerance_m: float) -> Contacts:
    """Find and classify all contacts of a rollout.

    Raises:
        ValueError: the record has no score samples.
    """
    samples = score_samples(record)
    if samples is None:
        raise ValueError(f"{record.session_id} has no score samples")
    scene = record.scene
    seen_of = find_overlaps(
        record.ego, record.actors, scene.vehicle, scene.actor_sizes_m, samples.times_us,
        vertical_tolerance_m=vertical_tolerance_m,
    )  # fmt: skip
    overlapping, seen = seen_of.overlapping, seen_of.seen
    ignored = ignored_since_handover(overlapping, seen, overlapping[:, 0])
    found: list[tuple[int, int, int]] = []
    left_alone = []
    for row in np.flatnonzero(overlapping.any(axis=1)):
        if overlapping[row, 0]:
            parted = np.flatnonzero(~ignored[row])
            parted_us = int(seen_of.times_us[parted[0]]) if len(parted) else None
            actor = scene.actors[row]
            left_alone.append(IgnoredOverlap(actor.id, actor.actor_class.name, parted_us))
        # An actor that is not seen for a while has not parted.
        columns = np.flatnonzero(seen[row])
        counted = (overlapping & ~ignored)[row, columns]
        found += [(int(row), int(columns[a]), int(columns[b])) for a, b in episodes(counted)]
    found.sort(key=lambda episode: (episode[1], episode[0]))
    return Contacts(
        tuple(_classify(record, samples, seen_of, found, stopped_mps)), tuple(left_alone)
    )


def _classify(
    record: RolloutRecord,
    samples: ScoreSamples,
    seen: Overlaps,
    found: list[tuple[int, int, int]],
    stopped_mps: float,
) -> list[Contact]:
    """Classify each episode (actor row, first and last column) at its first sample."""
    if not found:
        return []
    row, first, _ = np.array(found, dtype=np.intp).T
    ego_boxes = seen.ego.local_to_aabb[first]
    sizes = record.scene.actor_sizes_m[row]
    ego_sizes = np.broadcast_to(record.scene.vehicle.size_m, sizes.shape)
    ego = footprints(ego_boxes, ego_sizes)
    other = footprints(actor_poses(record.actors, row, seen.times_us[first]), sizes)
    front = penetration_m(edge_lines(ego, 1), other) >= -TOUCH_M
    rear = penetration_m(edge_lines(ego, -1), other) >= -TOUCH_M
    speed_mps = seen.ego.speed_mps[first]
    velocity = samples.actor_velocity_mps[row, -(-first // PER_STEP)]
    relative = np.linalg.norm(seen.ego.velocity_mps[first] - velocity, axis=1)
    out = []
    for i, (actor_row, start, end) in enumerate(found):
        actor = record.scene.actors[actor_row]
        known = bool(np.isfinite(relative[i]))
        if speed_mps[i] <= stopped_mps:
            kind = "ego_stopped"
        else:
            kind = "front" if front[i] else "rear" if rear[i] else "lateral"
        out.append(
            Contact(
                actor_id=actor.id,
                actor_class=actor.actor_class.name,
                start_us=int(seen.times_us[start]),
                end_us=int(seen.times_us[end]),
                kind=kind,
                ego_speed_mps=float(speed_mps[i]),
                actor_speed_mps=float(np.linalg.norm(velocity[i])) if known else None,
                relative_speed_mps=float(relative[i]) if known else None,
                depth_m=float(seen.depth_m[actor_row, start : end + 1].max()),
            )
        )
    return out
