"""The rows that AlpaSim's scores are sampled on: ego and actors at the committed times.

AlpaSim scores every time at which its log holds actor poses: the start of the context, the
first decision, then every state that was driven. Here these are the context start, the
first decision D0, and every committed ego time after it. A row counts from handover on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion, Mask, Times, bracket
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import Scene


@dataclass(frozen=True, eq=False)
class Rows:
    """Ego at K row times.

    Attributes:
        times_us: ``(K,)``.
        relevant: ``(K,)`` AlpaSim's `eval_relevant`: at or after handover.
        ego_xy: ``(K, 2)`` centres of ego's box in `local`; the centroid of its shape.
        ego_yaw_rad: ``(K,)``.
    """

    times_us: Times
    relevant: Mask
    ego_xy: Array
    ego_yaw_rad: Array

    def at(self, times_us: Times) -> np.ndarray:
        """Indices of the rows at times that are rows."""
        return np.searchsorted(self.times_us, times_us)


@once_per_object
def rows(record: RolloutRecord) -> Rows:
    """The rows of a rollout, up to its frontier."""
    committed, first_us = record.ego.times_us, record.schedule.first_decision_us
    seeded = np.minimum([committed[0], first_us], committed[-1])
    times = np.unique(np.concatenate([seeded, committed[committed > first_us]]))
    boxes = box_centres(record.scene, record.ego.trajectory.sample(times))
    return Rows(times, times >= record.schedule.handover_us, boxes[:, :2], geometry.yaw_rad(boxes))


def box_centres(scene: Scene, local_to_rig: Array) -> Array:
    """Poses ``(N, 7)`` of ego's box centre for poses of its rig."""
    return geometry.shift_body(local_to_rig, scene.vehicle.rig_to_aabb[:3])


@once_per_object
def actors_of(record: RolloutRecord, strict: bool) -> ActorMotion:
    """The actors as they are scored.

    AlpaSim takes an actor for present from its first to its last pose, so that one that
    was not seen for a while is moved through the gap in a straight line: a ghost. Strict
    does the same; corrected leaves it absent.
    """
    motion = record.actors
    inner = np.logical_or.accumulate(motion.valid, axis=1)
    inner &= np.logical_or.accumulate(motion.valid[:, ::-1], axis=1)[:, ::-1]
    gaps = np.flatnonzero((inner & ~motion.valid).any(axis=1))
    if not strict or not len(gaps):
        return motion
    poses = motion.local_to_aabb.copy()
    for row in gaps:
        seen = motion.valid[row]
        hidden = inner[row] & ~seen
        lo, hi, alpha = bracket(motion.times_us[seen], motion.times_us[hidden])
        held = poses[row][seen]
        poses[row][hidden] = geometry.interpolate_poses(held[lo], held[hi], alpha)
    return ActorMotion(motion.times_us, poses, inner)


@once_per_object
def recorded_centres(scene: Scene) -> Array:
    """The recorded path ``(M, 2)`` of ego's box centre: every recorded pose, none left out."""
    return np.ascontiguousarray(box_centres(scene, scene.ego.poses)[:, :2])
