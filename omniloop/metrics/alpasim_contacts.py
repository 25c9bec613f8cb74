"""AlpaSim's collisions and distances to obstacles, of ego's shape with actors' shapes.

In the plane: heights are not looked at, and what overlaps at handover counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask, Times, bracket
from omniloop.core.record import RolloutRecord
from omniloop.metrics.alpasim_rows import Rows, actors_of
from omniloop.metrics.alpasim_settings import Settings
from omniloop.metrics.alpasim_shapes import (
    RoundedSizes,
    Shapes,
    bumpers,
    distance_m,
    outline,
    placed,
    rounded_sizes,
    touch,
)

Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class RowContacts:
    """What ego's shape meets at every row.

    Attributes:
        front, rear, lateral: ``(K,)`` whether there is a collision of the kind.
        obstacle_m: ``(K,)`` distance to the nearest actor; NaN where none is present.
    """

    front: Mask
    rear: Mask
    lateral: Mask
    obstacle_m: Array


def row_contacts(record: RolloutRecord, rows: Rows, settings: Settings) -> RowContacts:
    """Find what ego collides with, and how near it comes to actors."""
    count = len(rows.times_us)
    front, rear, lateral = (np.zeros(count, dtype=bool) for _ in range(3))
    obstacle_m = np.full(count, np.nan)
    actors = actors_of(record, settings.strict).sample(rows.times_us)
    if not actors.valid.any():
        return RowContacts(front, rear, lateral, obstacle_m)
    ego, others = _sizes(record, settings)
    away = actors.local_to_aabb[..., :2] - rows.ego_xy
    centre_m = np.hypot(away[..., 0], away[..., 1])
    # The nearest actor is among those that, by the circles around their shapes, may be
    # nearer than any actor can be far by the circles inside them.
    at_most = np.where(actors.valid, centre_m - others.core_m[:, None] - ego.core_m, np.inf)
    at_least = np.where(actors.valid, centre_m - others.reach_m[:, None] - ego.reach_m, np.inf)
    limit_m = np.maximum(at_most.min(axis=0), 0.0)
    actor, row = np.nonzero((at_least <= limit_m) & actors.valid)
    boxes = actors.local_to_aabb[actor, row]
    yaw = geometry.yaw_rad(boxes)
    gap_m = distance_m(
        rows.ego_xy[row], rows.ego_yaw_rad[row], ego.take(np.zeros_like(row)),
        boxes[:, :2], yaw, others.take(actor),
    )  # fmt: skip
    nearest = np.full(count, np.inf)
    np.minimum.at(nearest, row, np.maximum(gap_m, 0.0))
    seen = np.isfinite(nearest)
    obstacle_m[seen] = nearest[seen]

    hit = np.flatnonzero(gap_m <= 0.0)
    if settings.strict:
        hit = _last_of_each_row(row, hit)  # np.nonzero gives actors in their order
    if len(hit):
        at, who = row[hit], actor[hit]
        shapes = _placed_each(others, who, boxes[hit, :2], yaw[hit])
        ends = bumpers(ego.half_m[0], float(ego.radius_m[0]))
        kinds = [
            shapely.intersects(placed(end, rows.ego_xy[at], rows.ego_yaw_rad[at]), shapes)
            for end in ends
        ]
        front[at[kinds[0]]] = True
        rear[at[~kinds[0] & kinds[1]]] = True
        lateral[at[~kinds[0] & ~kinds[1]]] = True
    return RowContacts(front, rear, lateral, obstacle_m)


def plans_collide(
    record: RolloutRecord, xy: Array, yaw_rad: Array, times_us: Times, settings: Settings
) -> Mask:
    """Whether ego's shape at planned poses ``(N,)`` meets an actor where it is at that time.

    Times must not be earlier than the record; after its frontier no actor is present.
    """
    out = np.zeros(len(times_us), dtype=bool)
    actors = actors_of(record, settings.strict)
    inside = np.flatnonzero(times_us <= actors.times_us[-1])
    if not len(inside) or not actors.valid.any():
        return out
    ego, others = _sizes(record, settings)
    # Plans share most of their times: actors are placed once for each.
    unique_us, where = np.unique(times_us[inside], return_inverse=True)
    lo, hi, alpha = bracket(actors.times_us, unique_us)
    present = actors.valid[:, lo] & actors.valid[:, hi]
    before, after = actors.local_to_aabb[:, lo, :2], actors.local_to_aabb[:, hi, :2]
    centres = before + alpha[:, None] * (after - before)
    centres[~present] = np.inf
    reach_m = others.reach_m + ego.reach_m
    # Poses of one time lie together: an actor away from all of them is sorted out at once.
    order = np.argsort(where, kind="stable")
    first = np.searchsorted(where[order], np.arange(len(unique_us) + 1))
    poses_xy = xy[inside]
    low, high = (f.reduceat(poses_xy[order], first[:-1]) for f in (np.minimum, np.maximum))
    beyond = np.maximum(low - centres, centres - high).max(axis=2)
    actor, time = np.nonzero(beyond <= reach_m[:, None])
    count = np.diff(first)[time]
    place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    pose, met = order[np.repeat(first[time], count) + place], np.repeat(np.arange(len(time)), count)
    away = centres[actor, time][met] - poses_xy[pose]
    close = np.hypot(away[:, 0], away[:, 1]) <= reach_m[actor][met]
    pose, met = pose[close], met[close]
    if not len(met):
        return out
    boxes = geometry.interpolate_poses(
        actors.local_to_aabb[actor, lo[time]], actors.local_to_aabb[actor, hi[time]], alpha[time]
    )
    planned = inside[pose]
    touching = touch(
        xy[planned], yaw_rad[planned], ego.take(np.zeros_like(pose)),
        boxes[met, :2], geometry.yaw_rad(boxes)[met], others.take(actor[met]),
    )  # fmt: skip
    out[planned[touching]] = True
    return out


def _sizes(record: RolloutRecord, settings: Settings) -> tuple[RoundedSizes, RoundedSizes]:
    """Ego, and the actors in the scene's order."""
    scene = record.scene
    return (
        rounded_sizes(scene.vehicle.size_m[None], settings),
        rounded_sizes(scene.actor_sizes_m, settings),
    )


def _last_of_each_row(row: Index, hit: Index) -> Index:
    """Of pairs that touch, in the order of actors, the last of each row."""
    last: dict[int, int] = {int(row[i]): int(i) for i in hit}
    return np.array(sorted(last.values()), dtype=np.intp)


def _placed_each(sizes: RoundedSizes, who: Index, xy: Array, yaw_rad: Array) -> Shapes:
    """The shapes of actors ``who`` at N poses."""
    out = np.empty(len(who), dtype=object)
    for index in np.unique(who):
        here = who == index
        shape = outline(sizes.half_m[index], float(sizes.radius_m[index]))
        out[here] = placed(shape, xy[here], yaw_rad[here])
    return out
