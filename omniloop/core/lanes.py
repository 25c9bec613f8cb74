"""Lanes under a driven path: matching it to them, and going on along them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.scene import Lane, VectorMap

_STEP_M = 1.0
_NEAR_M = 4.0
_OFF_MAP_M = 10.0
"""A lane is a candidate within 4 m, or as the nearest one within 10 m (AlpaSim's map route)."""

_MAX_TURN_RAD = np.pi / 3
_SIGMA_M, _SIGMA_RAD = 1.0, 0.3
_SUCCESSOR, _NEIGHBOUR, _JUMP, _OFF = 0.1, 4.0, 12.0, 60.0
"""Costs of the matching, in halves of squared standard deviations."""

_GAP_M = 0.25
_CHANGE_M = 8.0
"""A sideways step above 0.25 m is spread over up to 8 m before and after it."""

_FADE_M = 10.0
"""Going on along a lane, the distance over which an offset from its centre line fades out."""

_LOOK_M = 15.0
"""A successor's heading is that of its first 15 m: turns begin as straight as through lanes."""

_NO_LANE_KINDS = frozenset({"bike", "bicycle", "pedestrian", "sidewalk", "crosswalk", "walkway"})


@dataclass(frozen=True, eq=False)
class MatchedPath:
    """A path moved to lane centre lines.

    Attributes:
        points: ``(N, 3)``.
        off_m: Length over which no lane was near and the path stayed as it was.
    """

    points: Array
    off_m: float


@dataclass(frozen=True, eq=False)
class _Candidate:
    """One lane against all positions: foot points, distances and headings."""

    lane: Lane
    feet: Array
    distance_m: Array
    heading_rad: Array


def _drivable(vector_map: VectorMap) -> list[Lane]:
    return [
        lane
        for lane in vector_map.lanes
        if lane.kind.lower() not in _NO_LANE_KINDS
        and len(lane.centerline) > 1
        and geometry.arc_length_m(lane.centerline[:, :2])[-1] > 0
    ]


def _heading_at(line: Array, s_m: Array) -> Array:
    """Heading ``(K,)`` of a polyline's segments at arc lengths ``(K,)``."""
    s = geometry.arc_length_m(line[:, :2])
    step = np.diff(line[:, :2], axis=0)
    index = np.clip(np.searchsorted(s, s_m, side="right") - 1, 0, len(step) - 1)
    return np.asarray(np.arctan2(step[index, 1], step[index, 0]))


def _candidates(vector_map: VectorMap, positions_xy: Array) -> list[_Candidate]:
    low, high = positions_xy.min(axis=0) - _OFF_MAP_M, positions_xy.max(axis=0) + _OFF_MAP_M
    found = []
    for lane in _drivable(vector_map):
        line = lane.centerline[:, :2]
        if (line.max(axis=0) < low).any() or (line.min(axis=0) > high).any():
            continue
        s, distance = geometry.project_on_polyline(positions_xy, line)
        if distance.min() <= _OFF_MAP_M:
            feet = geometry.resample_polyline(line, s)
            found.append(_Candidate(lane, feet, distance, _heading_at(line, s)))
    return found


def match_lanes(vector_map: VectorMap, path: Array) -> MatchedPath:
    """Move a driven path to the centre lines of the lanes it most likely drove along.

    The lanes are chosen together by the Viterbi algorithm: near and parallel lanes are
    cheap, following a lane or a successor is nearly free, changing to a neighbour costs
    some and jumping elsewhere more. (Newson and Krumm, "Hidden Markov map matching
    through noise and sparseness", 2009, with lane topology as the transition model.)

    Args:
        path: ``(N, 3)`` driven positions in `local`, N >= 2, in driving order.
    """
    length = float(geometry.arc_length_m(path[:, :2])[-1])
    along = np.linspace(0.0, length, max(int(np.ceil(length / _STEP_M)), 1) + 1)
    positions = geometry.resample_polyline(path, along)
    heading = _heading_at(path, along)
    candidates = _candidates(vector_map, positions[:, :2])
    if not candidates:
        return MatchedPath(path, length)
    distance = np.stack([c.distance_m for c in candidates], axis=1)
    turn = np.abs(
        geometry.wrap_rad(np.stack([c.heading_rad for c in candidates], axis=1) - heading[:, None])
    )
    fits = (turn <= _MAX_TURN_RAD) & (distance <= _OFF_MAP_M)
    nearest = np.where(fits, distance, np.inf).min(axis=1, keepdims=True)
    fits &= (distance <= _NEAR_M) | (distance <= nearest)
    cost = np.where(fits, (distance / _SIGMA_M) ** 2 / 2 + (turn / _SIGMA_RAD) ** 2 / 2, np.inf)
    lane_of = _viterbi(np.hstack([cost, np.full((len(cost), 1), _OFF)]), _transitions(candidates))

    off = lane_of == len(candidates)
    feet = np.stack([c.feet for c in candidates], axis=1)
    rows = np.arange(len(positions))
    aside = np.zeros((len(positions), 2))
    aside[~off] = feet[rows[~off], lane_of[~off]] - positions[~off, :2]
    keep = np.ones(len(aside), dtype=bool)
    gap = np.linalg.norm(np.diff(aside, axis=0), axis=1)
    for i in np.flatnonzero(gap > _GAP_M):
        keep &= np.abs(along - (along[i] + along[i + 1]) / 2) > min(_CHANGE_M, 1.0 + 2.0 * gap[i])
    keep[[0, -1]] = True
    for axis in range(2):
        positions[:, axis] += np.interp(along, along[keep], aside[keep, axis])
    return MatchedPath(positions, float(off.mean() * length))


def _transitions(candidates: list[_Candidate]) -> Array:
    """Cost ``(C + 1, C + 1)`` of going from one lane to another; the last is off the lanes."""
    n = len(candidates)
    out = np.full((n + 1, n + 1), _JUMP)
    index = {c.lane.id: i for i, c in enumerate(candidates)}
    for i, candidate in enumerate(candidates):
        lane = candidate.lane
        for other, cost in (
            *((s, _SUCCESSOR) for s in lane.successors),
            (lane.left_lane, _NEIGHBOUR),
            (lane.right_lane, _NEIGHBOUR),
        ):
            if other in index:
                out[i, index[other]] = cost
    np.fill_diagonal(out, 0.0)
    return out


def _viterbi(cost: Array, transition: Array) -> np.ndarray:
    """The cheapest sequence of states ``(N,)`` for state costs ``(N, C)``."""
    total = cost[0]
    back = np.zeros(cost.shape, dtype=np.int64)
    for i in range(1, len(cost)):
        through = total[:, None] + transition
        back[i] = np.argmin(through, axis=0)
        total = through[back[i], np.arange(len(total))] + cost[i]
    out = np.empty(len(cost), dtype=np.int64)
    out[-1] = np.argmin(total)
    for i in range(len(cost) - 1, 0, -1):
        out[i - 1] = back[i, out[i]]
    return out


def extend_along_lanes(
    vector_map: VectorMap, position: Array, heading_rad: float, ahead_m: float
) -> Array:
    """Go on from a position along its lane and the straightest successors.

    Args:
        position: ``(3,)`` in `local`.
        heading_rad: Heading there: lanes within 60 degrees of it count.
        ahead_m: How far to go.

    Returns:
        ``(K, 3)`` points after `position`, up to `ahead_m` of lane; fewer where the lanes
        end and none where no lane lies within 4 m. They start beside the centre line,
        where the position is, and fade into it. Heights are the lanes', moved likewise
        but for good.
    """
    nearest = _nearest_lane(vector_map, position, heading_rad)
    if nearest is None:
        return np.zeros((0, 3))
    lane, s, offset = nearest
    drivable = {one.id: one for one in _drivable(vector_map)}
    parts, taken, seen = [_part_of(lane.centerline, s)], 0.0, {lane.id}
    fade_m = max(_FADE_M, 10.0 * offset)
    while True:
        taken = float(geometry.arc_length_m(np.vstack(parts)[:, :2])[-1])
        following = [drivable[i] for i in lane.successors if i in drivable and i not in seen]
        if taken >= ahead_m or not following:
            break
        end = _heading_at(lane.centerline, np.array([np.inf]))[0]
        lane = min(
            following, key=lambda one: (abs(geometry.wrap_rad(_first_heading(one) - end)), one.id)
        )
        seen.add(lane.id)
        parts.append(lane.centerline)
    line = np.vstack(parts)
    s_line = geometry.arc_length_m(line[:, :2])
    end = min(ahead_m, float(s_line[-1]))
    if end <= _STEP_M:
        return np.zeros((0, 3))
    wanted = np.union1d(
        np.arange(_STEP_M, min(end, fade_m), _STEP_M), s_line[(s_line > _STEP_M) & (s_line < end)]
    )
    wanted = np.append(wanted, end)
    out = geometry.resample_polyline(line, wanted)
    t = np.minimum(wanted / fade_m, 1.0)
    out[:, :2] += ((1 + 2 * t) * (1 - t) ** 2)[:, None] * (position[:2] - line[0, :2])
    out[:, 2] += position[2] - line[0, 2]
    return out


def _nearest_lane(
    vector_map: VectorMap, position: Array, heading_rad: float
) -> tuple[Lane, float, float] | None:
    """The lane within 4 m that fits the heading best: it, the arc length and the distance."""
    best: tuple[float, str, Lane, float, float] | None = None
    for lane in _drivable(vector_map):
        line = lane.centerline[:, :2]
        if (line.max(axis=0) < position[:2] - _NEAR_M).any() or (
            line.min(axis=0) > position[:2] + _NEAR_M
        ).any():
            continue
        s, distance = (float(v[0]) for v in geometry.project_on_polyline(position[None, :2], line))
        turn = abs(float(geometry.wrap_rad(_heading_at(line, np.array([s]))[0] - heading_rad)))
        if distance > _NEAR_M or turn > _MAX_TURN_RAD:
            continue
        cost = (distance / _SIGMA_M) ** 2 + (turn / _SIGMA_RAD) ** 2
        if best is None or (cost, lane.id) < best[:2]:
            best = (cost, lane.id, lane, s, distance)
    return None if best is None else best[2:]


def _part_of(line: Array, s_m: float) -> Array:
    """The polyline from arc length `s_m` on."""
    s = geometry.arc_length_m(line[:, :2])
    return geometry.resample_polyline(line, np.append(s_m, s[s > s_m]))


def _first_heading(lane: Lane) -> float:
    line = lane.centerline
    end = geometry.resample_polyline(line, [_LOOK_M])[0]
    return float(np.arctan2(end[1] - line[0, 1], end[0] - line[0, 0]))
