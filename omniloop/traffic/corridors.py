"""Who is in whose way, worked out once for paths so that a step only looks it up.

A corridor is a path with its owner's width. For every station of every actor's path the table
says where on each corridor the box would stand, so the lead of an actor is found by reading one
number per pair, and the stretches over which two paths conflict are known before anyone is there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.traffic.paths import Index, PathTable

_STOREY_M = 3.0
_ALIGNED_COS = 0.7
_MAX_SWING_M = 1.0

Rows = Index


@dataclass(frozen=True, eq=False)
class Corridors:
    """Boxes at all stations, seen along the corridors of R actors; inf where outside.

    Attributes:
        rows: ``(R,)`` the corridors' owners.
        mid_m: ``(S, R)`` place of the box's centre along the corridor.
        half_m: ``(S, R)`` half its length along the corridor.
        along: ``(S, R)`` share of its speed that goes along the corridor.
    """

    rows: Rows
    mid_m: Array
    half_m: Array
    along: Array


@dataclass(frozen=True, eq=False)
class Stretches:
    """Where another's path enters a corridor, one entry per row, actor and entering.

    Attributes:
        row: ``(P,)`` index into the corridors' rows; `owner` the actor of it.
        other: ``(P,)`` who enters.
        other_in_m, other_out_m: ``(P,)`` its box is inside between these places of its path.
        near_m, far_m: ``(P,)`` its box then reaches over these places of the corridor.
        merges: ``(P,)`` it goes on along the corridor rather than across.
    """

    row: Index
    owner: Index
    other: Index
    other_in_m: Array
    other_out_m: Array
    near_m: Array
    far_m: Array
    merges: Mask


def corridors_of(table: PathTable, rows: Rows, sizes_m: Array, buffer_m: float) -> Corridors:
    """Look at all stations from the corridors of `rows`.

    Args:
        sizes_m: ``(A, 3)`` boxes.
        buffer_m: Room that is added to a corridor on either side.
    """
    shape = (len(rows), len(table.s_m))
    mid = np.full(shape, np.inf)
    half, along = np.zeros(shape), np.zeros(shape)
    for i, row in enumerate(rows.tolist()):
        mid[i], half[i], along[i] = corridor(table, row, sizes_m, buffer_m)
    return Corridors(rows, *(np.ascontiguousarray(x.T) for x in (mid, half, along)))


def with_new_path(
    old: Corridors, was: PathTable, table: PathTable, who: int, sizes_m: Array, buffer_m: float
) -> Corridors:
    """The corridors after one actor's path became another: its row and its stations are new."""
    lo, hi = int(was.start[who]), int(was.start[who + 1])
    fresh = slice(int(table.start[who]), int(table.start[who + 1]))
    parts = []
    for x, empty in ((old.mid_m, np.inf), (old.half_m, 0.0), (old.along, 0.0)):
        gap = np.full((fresh.stop - fresh.start, x.shape[1]), empty)
        parts.append(np.concatenate([x[:lo], gap, x[hi:]]))
    for i, row in enumerate(old.rows.tolist()):
        seen = corridor(table, row, sizes_m, buffer_m, None if row == who else fresh)
        for part, values in zip(parts, seen, strict=True):
            if row == who:
                part[:, i] = values
            else:
                part[fresh, i] = values[fresh]
    return Corridors(old.rows, *parts)


def corridor(
    table: PathTable, row: int, sizes_m: Array, buffer_m: float, only: slice | None = None
) -> tuple[Array, Array, Array]:
    """One row of `Corridors`: mid, half and along ``(S,)``; `only` some stations if given."""
    from scipy.spatial import cKDTree

    own = slice(int(table.start[row]), int(table.start[row + 1]))
    line, tangent, s = table.local_to_aabb[own], table.tangent_rad[own], table.s_m[own]
    poses, owner = table.local_to_aabb, table.owner
    mid, half, along = np.full(len(poses), np.inf), np.zeros(len(poses)), np.zeros(len(poses))
    half_w = swept_m(line, tangent, sizes_m[row]) + buffer_m
    reach = half_w.max() + 2.0 + np.hypot(sizes_m[:, 0], sizes_m[:, 1]) / 2
    low, high = line[:, :2].min(axis=0) - reach.max(), line[:, :2].max(axis=0) + reach.max()
    near = (
        (owner != row)
        & (poses[:, 0] > low[0]) & (poses[:, 0] < high[0])
        & (poses[:, 1] > low[1]) & (poses[:, 1] < high[1])
    )  # fmt: skip
    if only is not None:
        near[: only.start] = near[only.stop :] = False
    near = np.flatnonzero(near)
    if len(near) == 0:
        return mid, half, along
    distance, at = cKDTree(line[:, :2]).query(poses[near, :2])
    close = distance < reach[owner[near]]
    near, at = near[close], at[close]
    seen = seen_along(
        line[at], tangent[at], s[at], poses[near], table.tangent_rad[near],
        sizes_m[owner[near]], half_w[at], sizes_m[row, 2],
    )  # fmt: skip
    inside, place, reach_m, share = seen
    mid[near[inside]], half[near[inside]] = place[inside], reach_m[inside]
    along[near[inside]] = share[inside]
    return mid, half, along


def swept_m(poses: Array, tangent_rad: Array, size_m: Array) -> Array:
    """Half widths ``(M,)`` that a box needs along its path, headings beside it included."""
    turn = geometry.yaw_rad(poses) - tangent_rad
    across = np.abs(np.sin(turn)) * size_m[0] + np.abs(np.cos(turn)) * size_m[1]
    return np.asarray(np.minimum(across, size_m[1] + _MAX_SWING_M) / 2)


def seen_along(
    station: Array, tangent_rad: Array, s_m: Array, boxes: Array, heading_rad: Array,
    sizes_m: Array, half_w_m: Array | float, height_m: Array | float,
) -> tuple[Mask, Array, Array, Array]:  # fmt: skip
    """Boxes seen from the stations nearest to them, pair by pair ``(N,)``.

    Args:
        heading_rad: Where the boxes travel to; their shape is turned by their own yaw.

    Returns:
        Whether the box is inside the corridor, its centre's place along it, its half length
        along it, and the share of its speed that goes along.
    """
    c, s = np.cos(tangent_rad), np.sin(tangent_rad)
    dx, dy = boxes[:, 0] - station[:, 0], boxes[:, 1] - station[:, 1]
    place, aside = s_m + c * dx + s * dy, c * dy - s * dx
    qx, qy, qz, qw = (boxes[:, i] for i in range(3, 7))
    yaw_c, yaw_s = 1 - 2 * (qy * qy + qz * qz), 2 * (qw * qz + qx * qy)
    cos, sin = np.abs(c * yaw_c + s * yaw_s), np.abs(c * yaw_s - s * yaw_c)
    half_l, half_w = sizes_m[:, 0] / 2, sizes_m[:, 1] / 2
    level = np.abs(boxes[:, 2] - sizes_m[:, 2] / 2 - station[:, 2] + height_m / 2) < _STOREY_M
    inside = (np.abs(aside) < half_w_m + sin * half_l + cos * half_w) & level
    return inside, place, cos * half_l + sin * half_w, np.cos(heading_rad - tangent_rad)


def stretches_of(
    table: PathTable, corridors: Corridors, rows: slice = slice(None), who: int | None = None
) -> Stretches:
    """Find where paths enter corridors, or are inside from their start.

    Args:
        rows: Which corridors are looked at.
        who: Whose path alone is looked at; None for all.
    """
    if who is not None:
        part = slice(int(table.start[who]), int(table.start[who + 1]))
    else:
        part = slice(0, len(table.s_m))
    mid, half, along = (
        x[part, rows].T for x in (corridors.mid_m, corridors.half_m, corridors.along)
    )
    own = corridors.rows[rows]
    owners, place = table.owner[part], table.s_m[part]
    inside = np.isfinite(mid)
    first = np.append(True, owners[1:] != owners[:-1])[: len(owners)]
    before = np.zeros_like(inside)
    before[:, 1:] = inside[:, :-1]
    begins = inside & (~before | first)
    ends = np.zeros_like(inside)
    ends[:, :-1] = inside[:, :-1] & (~inside[:, 1:] | first[1:])
    ends[:, -1:] = inside[:, -1:]
    row, g_in = np.nonzero(begins)
    _, g_out = np.nonzero(ends)
    other = owners[g_in]
    moves = (table.length_m[other] > 0) & (place[g_in] <= table.end_m[other])
    row, g_in, g_out = row[moves], g_in[moves], g_out[moves]
    near, far = np.zeros(len(row)), np.zeros(len(row))
    if len(row):
        low, high = (mid - half).reshape(-1), (mid + half).reshape(-1)
        base = row * inside.shape[1]
        bounds = np.stack([base + g_in, base + g_out + 1], axis=1).reshape(-1)
        low, high = np.append(low, np.inf), np.append(high, -np.inf)
        near = np.minimum.reduceat(low, bounds)[::2]
        high[~np.isfinite(high)] = -np.inf
        far = np.maximum.reduceat(high, bounds)[::2]
    other = owners[g_in]
    merges = along[row, g_out] > _ALIGNED_COS
    merges &= (place[g_out] - place[g_in]) > 15.0
    entry = mid[row, g_in] - half[row, g_in]
    return Stretches(
        row + (rows.start or 0), own[row], other, place[g_in], place[g_out],
        np.where(merges, entry, near), far, merges,
    )  # fmt: skip


def joined(*parts: Stretches) -> Stretches:
    """Several lists of stretches as one."""
    names = Stretches.__dataclass_fields__
    return Stretches(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def chosen(stretches: Stretches, keep: Mask) -> Stretches:
    """Some of the stretches."""
    return Stretches(*(getattr(stretches, n)[keep] for n in Stretches.__dataclass_fields__))
