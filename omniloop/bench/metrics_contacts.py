"""Contacts by brute force: a shapely polygon for every actor at every sample.

The definition is that of `omniloop.metrics.contacts`, the way to it is not: footprints are
polygons that intersect, heights are those of the eight corners, episodes are walked through
one sample at a time. To touch is not to overlap: ego's polygon is a micrometre smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import shapely

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask, Times
from omniloop.core.record import RolloutRecord
from omniloop.metrics.boxes import TOUCH_M
from omniloop.metrics.contacts import (
    NEAR_M,
    PER_STEP,
    STOPPED_MPS,
    SUBSTEP_US,
    VERTICAL_TOLERANCE_M,
    contacts,
)
from omniloop.metrics.samples import EgoSamples, sample_ego

_CORNERS = np.array([[x, y, z] for x in (1, -1) for y in (1, -1) for z in (1, -1)]) / 2.0
_RIM = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) / 2.0
"""Front left, front right, rear right, rear left, as shares of length and width."""


@dataclass(frozen=True)
class Found:
    """What is to be the same whoever looks.

    Attributes:
        contacts: Actor, first and last overlapping sample [us], kind.
        ignored: Actor that overlaps at handover, when it parted [us] or None.
    """

    contacts: tuple[tuple[str, int, int, str], ...]
    ignored: tuple[tuple[str, int | None], ...]


def by_metrics(record: RolloutRecord) -> Found:
    """What the metrics find."""
    found = contacts(record, STOPPED_MPS, VERTICAL_TOLERANCE_M)
    return Found(
        tuple((c.actor_id, c.start_us, c.end_us, c.kind) for c in found.contacts),
        tuple((one.actor_id, one.parted_us) for one in found.ignored),
    )


def one_by_one(record: RolloutRecord) -> Found:
    """One polygon and one test at a time."""

    def overlaps(ego: Array, actors: Array, looked_at: Mask) -> Mask:
        out = np.zeros(looked_at.shape, dtype=bool)
        boxes = [shapely.Polygon(rim) for rim in ego]
        for row in range(len(looked_at)):
            for column in np.flatnonzero(looked_at[row]):
                out[row, column] = boxes[column].intersects(shapely.Polygon(actors[row, column]))
        return out

    return _brute(record, overlaps)


def in_arrays(record: RolloutRecord) -> Found:
    """The same polygons and tests, by the array functions of shapely 2."""

    def overlaps(ego: Array, actors: Array, looked_at: Mask) -> Mask:
        out = np.zeros(looked_at.shape, dtype=bool)
        boxes, (_, column) = np.asarray(shapely.polygons(ego)), np.nonzero(looked_at)
        out[looked_at] = shapely.intersects(boxes[column], shapely.polygons(actors[looked_at]))
        return out

    return _brute(record, overlaps)


def _brute(record: RolloutRecord, overlaps: Callable[[Array, Array, Mask], Mask]) -> Found:
    """Find contacts, given what overlaps: rims ``(F, 4, 2)``, ``(A, F, 4, 2)``, where to look."""
    scene, until_us = record.scene, record.schedule.score_times_us(record.frontier_us)[-1]
    times = np.arange(record.schedule.handover_us, until_us + 1, SUBSTEP_US, dtype=np.int64)
    ego, actors = sample_ego(record.ego, scene.vehicle, times), record.actors.sample(times)
    boxes, ego_size = (ego.local_to_aabb, actors.local_to_aabb), scene.vehicle.size_m
    sizes = (ego_size, scene.actor_sizes_m[:, None])
    ego_rim, rims = (_rim(poses, size) for poses, size in zip(boxes, sizes, strict=True))
    inner_rim = _rim(ego.local_to_aabb, ego_size - 2 * TOUCH_M)
    ego_z, z = (_corner_heights(poses, size) for poses, size in zip(boxes, sizes, strict=True))
    seen = actors.valid & _looked_at(ego, actors.local_to_aabb, actors.valid, record)
    overlapping = overlaps(inner_rim, rims, seen) & (_gap_m(ego_z, z) <= VERTICAL_TOLERANCE_M)
    found, ignored = [], []
    for row, actor in enumerate(scene.actors):
        episodes, parted_us = _walk(times, seen[row], overlapping[row])
        if overlapping[row, 0]:
            ignored.append((actor.id, parted_us))
        for first, last in episodes:
            kind = _kind(ego.speed_mps[first], ego_rim[first], rims[row, first])
            found.append((int(times[first]), row, actor.id, int(times[last]), kind))
    return Found(
        tuple((name, start, end, kind) for start, _, name, end, kind in sorted(found)),
        tuple(ignored),
    )


def _rim(poses: Array, sizes_m: Array) -> Array:
    """``(..., 4, 2)`` corners of the footprints of boxes at poses ``(..., 7)``."""
    along, across = np.moveaxis(sizes_m[..., None, :2] * _RIM, -1, 0)
    yaw = geometry.yaw_rad(poses)[..., None]
    x = poses[..., :1] + along * np.cos(yaw) - across * np.sin(yaw)
    y = poses[..., 1:2] + along * np.sin(yaw) + across * np.cos(yaw)
    return np.stack([x, y], axis=-1)


def _corner_heights(poses: Array, sizes_m: Array) -> Array:
    """``(..., 8)`` heights of the corners of boxes, pitch and roll included."""
    return geometry.transform_points(poses[..., None, :], sizes_m[..., None, :] * _CORNERS)[..., 2]


def _gap_m(one_z: Array, other_z: Array) -> Array:
    """Free height between corners ``(F, 8)`` and ``(A, F, 8)``; negative where they overlap."""
    above = other_z.min(axis=-1) - one_z.max(axis=-1)
    below = one_z.min(axis=-1) - other_z.max(axis=-1)
    return np.asarray(np.maximum(above, below))


def _looked_at(ego: EgoSamples, poses: Array, present: Mask, record: RolloutRecord) -> Mask:
    """On the score grid always, in between through steps at either end of which a pair is near."""
    sizes, ego_size = record.scene.actor_sizes_m, record.scene.vehicle.size_m
    away = poses[..., :2] - ego.local_to_aabb[:, :2]
    reach_m: Array = (np.hypot(sizes[:, 0], sizes[:, 1]) + np.hypot(ego_size[0], ego_size[1])) / 2
    gap_m = np.hypot(away[..., 0], away[..., 1]) - reach_m[:, None]
    near = present & (gap_m < NEAR_M)
    out: Mask = np.zeros(present.shape, dtype=bool)
    for column in range(out.shape[1]):
        before = column - column % PER_STEP
        after = before if column == before else before + PER_STEP
        out[:, column] = near[:, before] | near[:, after] if column != before else True
    return out


def _walk(
    times_us: Times, seen: Mask, overlapping: Mask
) -> tuple[list[tuple[int, int]], int | None]:
    """First and last columns of contacts; when a pair that overlapped at first was seen apart."""
    episodes: list[tuple[int, int]] = []
    ignoring, parted_us, first, last = bool(overlapping[0]), None, None, -1
    for column in np.flatnonzero(seen).tolist():
        if overlapping[column]:
            if not ignoring:
                first = column if first is None else first
                last = column
            continue
        if ignoring:
            ignoring, parted_us = False, int(times_us[column])
        if first is not None:
            episodes.append((first, last))
            first = None
    if first is not None:
        episodes.append((first, last))
    return episodes, parted_us


def _kind(speed_mps: float, ego: Array, actor: Array) -> str:
    """By what of ego touches the actor; rims ``(4, 2)`` each."""
    if speed_mps <= STOPPED_MPS:
        return "ego_stopped"
    body = shapely.Polygon(actor)
    if shapely.LineString(ego[:2]).intersects(body):
        return "front"
    return "rear" if shapely.LineString(ego[2:]).intersects(body) else "lateral"
