"""What would go wrong along a path: contact with others, or leaving the road."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion
from omniloop.core.scene import Vehicle
from omniloop.policies.leads import actor_velocities
from omniloop.scenes.surface import DrivableSurface

_DEEPER_M = 0.02
"""Ego that is off-road already may stay as deep as it is, but for this."""


@dataclass(frozen=True)
class Threat:
    """The first thing that goes wrong on a path.

    Attributes:
        after_s: When; infinite if nothing does.
        kind: "contact", "off-road", or empty.
        actor: Index of the actor in contact; -1 without one.
    """

    after_s: float = np.inf
    kind: str = ""
    actor: int = -1


def first_threats(
    paths: Array,
    step_s: float,
    vehicle: Vehicle,
    motion: ActorMotion,
    sizes_m: Array,
    surface: DrivableSurface | None,
    *,
    margin_m: float,
    offroad_tolerance_m: float,
) -> list[Threat]:
    """Find what goes wrong first on each of some paths of ego.

    Actors keep their velocity and heading. Who already overlaps ego does not count, nor who
    comes to touch ego from behind its rear: braking for those makes it worse. A path is
    off-road where ego is deeper outside than the tolerance, and deeper than where it begins.

    Args:
        paths: ``(C, T, 7)`` poses ``local_to_rig``, the first of each at the present.
        step_s: Time from one pose to the next.
        motion: Committed motion of A actors; its last states are the present.
        sizes_m: ``(A, 3)``.
        surface: Where ego may drive; None if the map does not say.
        margin_m: Room that ego keeps around itself.
        offroad_tolerance_m: How deep a corner may be outside.
    """
    boxes = geometry.compose(paths, vehicle.rig_to_aabb)
    contact_s, who = _contacts(boxes, step_s, vehicle.size_m, motion, sizes_m, margin_m)
    leaving_s = np.full(len(paths), np.inf)
    if surface is not None:
        depth = surface.depth_m(geometry.box_corners_xy(boxes, vehicle.size_m)).max(axis=-1)
        out = depth > np.maximum(offroad_tolerance_m, depth[:, :1] + _DEEPER_M)
        leaving_s = _first_s(out, step_s)
    return [
        Threat(float(c), "contact", int(w)) if c <= o and np.isfinite(c)
        else Threat(float(o), "off-road") if np.isfinite(o) else Threat()
        for c, w, o in zip(contact_s, who, leaving_s, strict=True)
    ]  # fmt: skip


def _first_s(happens: Array, step_s: float) -> Array:
    """Time of the first True along the last axis; infinite if there is none."""
    return np.where(happens.any(axis=-1), np.argmax(happens, axis=-1) * step_s, np.inf)


def _contacts(
    boxes: Array, step_s: float, size_m: Array, motion: ActorMotion, sizes_m: Array, margin_m: float
) -> tuple[Array, Array]:
    """Time ``(C,)`` of each path's first contact, and with whom."""
    paths, steps = boxes.shape[:2]
    none = np.full(paths, np.inf), np.full(paths, -1)
    if len(sizes_m) == 0 or len(motion.times_us) == 0:
        return none
    now = motion.local_to_aabb[:, -1]
    velocity, known = actor_velocities(motion)
    velocity = np.where(known[:, None], velocity, 0.0)
    times_s = step_s * np.arange(steps)
    where = now[:, None, :2] + velocity[:, None] * times_s[:, None]  # (A, T, 2)
    ego_m = float(np.hypot(*(size_m[:2] + 2 * margin_m))) / 2
    reach_m = ego_m + np.linalg.norm(sizes_m[:, :2], axis=1) / 2
    apart_m = np.linalg.norm(boxes[:, None, :, :2] - where, axis=-1)  # (C, A, T)
    level = np.abs(boxes[:, None, :1, 2] - now[None, :, None, 2]) < 3.0
    near = motion.valid[:, -1][None, :, None] & (apart_m < reach_m[:, None]) & level
    path, actor, step = np.nonzero(near)
    if len(path) == 0:
        return none
    there = now[actor].copy()
    there[:, :2] = where[actor, step]
    grown = size_m + np.array([2 * margin_m, 2 * margin_m, 0.0])
    ego_shape = shapely.polygons(geometry.box_corners_xy(boxes[path, step], grown))
    others = shapely.polygons(geometry.box_corners_xy(there, sizes_m[actor]))
    touches = np.zeros(near.shape, dtype=bool)
    touches[path, actor, step] = shapely.intersects(ego_shape, others)
    touches &= ~touches[:, :, :1]
    ahead = geometry.rotate(boxes[path, step, 3:], np.array([1.0, 0.0, 0.0]))[:, :2]
    along_m = np.sum((there[:, :2] - boxes[path, step, :2]) * ahead, axis=1)
    behind = np.zeros(near.shape, dtype=bool)
    behind[path, actor, step] = along_m < -size_m[0] / 2
    # Whoever is behind when he first touches has run into ego.
    first = np.argmax(touches, axis=-1)
    rear = np.take_along_axis(behind, first[..., None], axis=-1)[..., 0]
    by_actor = np.where(rear, np.inf, _first_s(touches, step_s))
    who = np.argmin(by_actor, axis=1)
    when = by_actor[np.arange(paths), who]
    return when, np.where(np.isfinite(when), who, -1)
