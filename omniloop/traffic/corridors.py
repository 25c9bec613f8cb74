"""Who is in whose way, worked out once for paths so that a step only looks it up.

A corridor is a path with its owner's width. For every station of every other path that comes into
it, it is noted where along the corridor the box would stand there: so the lead of an actor is
found by reading a number per pair, and the stretches over which two paths conflict are known before
anyone is there. Only pairs whose paths meet are held, each from the first station inside to the last.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.traffic.paths import Index, PathTable, ranges

_STOREY_M = 3.0
_ALIGNED_COS = 0.7
_MERGES_M = 15.0

BACK_M = 40.0
"""Of a new path nothing is looked at that lies further behind the actor than this."""

_SAMPLE_M = 1.0
"""Boxes are looked at from so much further away where only samples of their paths are."""

_ELSEWHERE_M = 1e6

_ENTRY = ("mid_m", "half_m", "along")

Rows = Index
_Columns = TypeVar("_Columns", bound=Any)


@dataclass(frozen=True, eq=False)
class Entries:
    """Boxes seen along corridors, K of them.

    Attributes:
        mid_m: ``(K,)`` place of the box's centre along the corridor; inf where outside.
        half_m: ``(K,)`` half its length along the corridor.
        along: ``(K,)`` share of its speed that goes along the corridor.
        more: Those that came later, for paths that one session has changed; the others
            are shared by all sessions. They are counted on from K.
    """

    mid_m: Array
    half_m: Array
    along: Array
    more: Entries | None = None

    def __len__(self) -> int:
        return len(self.mid_m)

    def at(self, entry: Index) -> tuple[Array, Array, Array]:
        """Place, half length and share of speed ``(N,)`` of entries ``(N,)``."""
        if self.more is None:
            return self.mid_m[entry], self.half_m[entry], self.along[entry]
        n = len(self)
        later = np.flatnonzero(entry >= n)
        first = np.minimum(entry, n - 1) if n else entry
        out = self.mid_m[first], self.half_m[first], self.along[first]
        for x, values in zip(out, self.more.at(entry[later] - n), strict=True):
            x[later] = values
        return out


@dataclass(frozen=True, eq=False)
class Corridors:
    """P pairs of a corridor and another path that comes into it.

    Attributes:
        rows: ``(R,)`` the corridors' owners.
        row: ``(P,)`` index into `rows`; `other` ``(P,)`` the actor that comes into it. Sorted.
        first, last: ``(P,)`` numbers of the stations of the other's path between which it
            does.
        at: ``(P,)`` the entry of station k is ``at + k``.
        boxes: The entries of all pairs.
    """

    rows: Rows
    row: Index
    other: Index
    first: Index
    last: Index
    at: Index
    boxes: Entries


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
    """Look at all paths from the corridors of `rows`.

    Args:
        sizes_m: ``(A, 3)`` boxes.
        buffer_m: Room that is added to a corridor on either side.
    """
    parts = []
    for i, owner in enumerate(rows.tolist()):
        around = _around(table, owner, sizes_m, buffer_m)
        near, at = _nearest(table, owner, around, sizes_m, buffer_m)
        clear, place, half, along = _seen(table, at, near, sizes_m, buffer_m)
        k = np.flatnonzero(clear < 0)
        parts.append((np.full(len(k), i), near[k], place[k], half[k], along[k]))
    return _packed(table, rows, parts)


def with_new_path(
    old: Corridors, table: PathTable, who: int, s_m: float, active: Mask, sizes_m: Array,
    buffer_m: float,
) -> tuple[Corridors, Corridors]:  # fmt: skip
    """The corridors after one actor's path became another.

    Boxes are measured at samples of the stations and taken to move in straight lines between.

    Args:
        table: With the new path.
        s_m: Where the actor is on it.
        active: ``(A,)`` those that may still be met.

    Returns:
        All corridors, and of them the pairs with `who` alone.
    """
    own = table.between(np.array([who]), np.array([s_m - BACK_M]), np.array([np.inf]))
    mine = own[table.sampled[own]]
    around = _around(table, who, sizes_m, buffer_m + _SAMPLE_M, own)
    around = around[table.sampled[around] & active[table.owner[around]]]
    near, at = _nearest(table, who, around, sizes_m, buffer_m + _SAMPLE_M)
    row = np.full(len(near), int(np.searchsorted(old.rows, who)))
    found = [(row, near, at)]
    # The others see one box each time: what is the same for all is worked out once.
    xy = np.ascontiguousarray(table.local_to_aabb[mine, :2])
    low, high = xy.min(axis=0), xy.max(axis=0)
    reach = table.widest_m + (buffer_m + _SAMPLE_M + 2.0) + float(np.hypot(*sizes_m[who, :2])) / 2
    meets = (table.low < high + reach[:, None]).all(axis=1) & active
    meets &= (table.high > low - reach[:, None]).all(axis=1)
    meets[who] = False
    for i in np.flatnonzero(meets[old.rows]).tolist():
        owner = int(old.rows[i])
        distance, at = table.tree(owner).query(xy, distance_upper_bound=reach[owner])
        close = np.flatnonzero(distance < reach[owner])
        found.append((np.full(len(close), i), mine[close], at[close] + table.start[owner]))
    rows_of, near, at = (np.concatenate(x) for x in zip(*found, strict=True))
    seen = _seen(table, at, near, sizes_m, buffer_m)
    fresh = _packed(table, old.rows, [_filled(table, rows_of, near, seen)])
    kept = without(old, (old.other == who) | (old.rows[old.row] == who))
    return _merged(kept, fresh), fresh


def _filled(table: PathTable, row: Index, near: Index, seen: tuple[Array, ...]) -> _Found:
    """Rows and stations of boxes inside, and what is seen there, from samples of the stations."""
    rank = np.cumsum(table.sampled)
    linked = np.append((row[1:] == row[:-1]) & (np.diff(rank[near]) == 1), False)
    linked[:-1] &= table.owner[near[1:]] == table.owner[near[:-1]]
    clear = seen[0]
    after = np.minimum(np.arange(len(near)) + 1, len(near) - 1)
    use = (clear < 0) | (linked & (clear[after] < 0))
    k = np.flatnonzero(use)
    n = np.where(linked, near[after] - near, 1)[k]
    station = ranges(near[k], near[k] + n)
    a = np.repeat(k, n)
    b = np.where(linked[a], a + 1, a)
    length = table.s_m[near[b]] - table.s_m[near[a]]
    w = (table.s_m[station] - table.s_m[near[a]]) / np.where(length > 0, length, 1.0)
    inside = clear[a] + w * (clear[b] - clear[a]) < 0
    a, b, w = a[inside], b[inside], w[inside]
    place, half, along = (x[a] + w * (x[b] - x[a]) for x in seen[1:])
    return row[a], station[inside], place, half, along


def without(corridors: Corridors, dropped: Mask) -> Corridors:
    """Corridors less some of their pairs ``(P,)``."""
    c, keep = corridors, ~dropped
    row, other, first, last, at = (x[keep] for x in (c.row, c.other, c.first, c.last, c.at))
    return Corridors(c.rows, row, other, first, last, at, c.boxes)


def _merged(a: Corridors, b: Corridors) -> Corridors:
    """Two lists of pairs as one; of the entries that came later only those in use are kept."""
    n, at = len(a.boxes), a.at.copy()
    parts: list[Entries] = [b.boxes]
    later = np.flatnonzero(at + a.first >= n)
    if a.boxes.more is not None and len(later):
        used = ranges((at + a.first)[later], (at + a.last + 1)[later])
        parts.insert(0, Entries(*a.boxes.more.at(used - n)))
        size = (a.last - a.first + 1)[later]
        at[later] = n + np.cumsum(size) - size - a.first[later]
    mid, half, along = (np.concatenate([getattr(p, x) for p in parts]) for x in _ENTRY)
    more = Entries(mid, half, along)
    row, other = np.append(a.row, b.row), np.append(a.other, b.other)
    order = np.lexsort((other, row))
    return Corridors(
        a.rows, row[order], other[order], np.append(a.first, b.first)[order],
        np.append(a.last, b.last)[order],
        np.append(at, b.at + n + len(more) - len(b.boxes))[order], replace(a.boxes, more=more),
    )  # fmt: skip


def _around(
    table: PathTable, row: int, sizes_m: Array, buffer_m: float, part: Index | None = None
) -> Index:
    """Stations of other paths in the rectangle around a path, or `part` of its stations."""
    reach = float(_reach_m(table, row, sizes_m, buffer_m).max())
    low, high = table.low[row] - reach, table.high[row] + reach
    if part is not None:
        xy = table.local_to_aabb[part, :2]
        low, high = xy.min(axis=0) - reach, xy.max(axis=0) + reach
    others = (table.low < high).all(axis=1) & (table.high > low).all(axis=1)
    others[row] = False
    who = np.flatnonzero(others)
    near = ranges(table.start[who], table.start[who + 1])
    x, y = table.x_m[near], table.y_m[near]
    inside = (x > low[0]) & (x < high[0]) & (y > low[1]) & (y < high[1])
    return np.asarray(near[inside])


def _reach_m(table: PathTable, row: int, sizes_m: Array, buffer_m: float) -> Array:
    """How near to one of its stations ``(A,)`` a box comes that is in an actor's corridor."""
    radius = np.hypot(sizes_m[:, 0], sizes_m[:, 1]) / 2
    return np.asarray(table.widest_m[row] + buffer_m + 2.0 + radius)


def _nearest(
    table: PathTable, row: int, near: Index, sizes_m: Array, buffer_m: float
) -> tuple[Index, Index]:
    """Stations that may be in a corridor, and the corridor's own nearest to them."""
    if len(near) == 0:
        return near, near
    reach = _reach_m(table, row, sizes_m, buffer_m)
    distance, at = table.tree(row).query(
        np.stack([table.x_m[near], table.y_m[near]], axis=1),
        distance_upper_bound=float(reach.max()),
    )
    close = distance < reach[table.owner[near]]
    return near[close], at[close] + table.start[row]


_Found = tuple[Index, Index, Array, Array, Array]


def _seen(
    table: PathTable, at: Index, near: Index, sizes_m: Array, buffer_m: float
) -> tuple[Array, Array, Array, Array]:
    """`seen_along` for boxes at stations `near` in the corridors of stations `at`, ``(N,)``."""
    return seen_along(
        table.local_to_aabb[at], table.tangent_rad[at], table.s_m[at], table.local_to_aabb[near],
        table.tangent_rad[near], sizes_m[table.owner[near]], table.half_w_m[at] + buffer_m,
        sizes_m[table.owner[at], 2],
    )  # fmt: skip


def _packed(table: PathTable, rows: Rows, parts: list[_Found]) -> Corridors:
    """Corridors from boxes found inside; of each row the stations must be in order."""
    nothing: _Found = (*(np.zeros(0, dtype=np.int64),) * 2, *(np.zeros(0),) * 3)
    row, station, *values = (np.concatenate(x) for x in zip(nothing, *parts, strict=True))
    other = table.owner[station]
    number = station - table.start[other]
    pair = row * len(table.paths) + other
    begins = np.append(True, pair[1:] != pair[:-1])[: len(pair)]
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(pair))[: len(starts)] - 1
    first, last = number[starts], number[ends]
    size = last - first + 1
    at = np.cumsum(size) - size - first
    entry = number + np.repeat(at, ends - starts + 1)
    mid = np.full(int(size.sum()), np.inf)
    half, along = np.zeros(len(mid)), np.zeros(len(mid))
    for x, found in zip((mid, half, along), values, strict=True):
        x[entry] = found
    return Corridors(rows, row[starts], other[starts], first, last, at, Entries(mid, half, along))


def seen_along(
    station: Array, tangent_rad: Array, s_m: Array, boxes: Array, heading_rad: Array,
    sizes_m: Array, half_w_m: Array | float, height_m: Array | float,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """Boxes seen from the stations nearest to them, pair by pair ``(N,)``.

    Args:
        heading_rad: Where the boxes travel to; their shape is turned by their own yaw.

    Returns:
        How far the box is from the corridor [m], negative inside and large on another storey; its
        centre's place along it, its half length along it, and the share of its speed along it.
    """
    c, s = np.cos(tangent_rad), np.sin(tangent_rad)
    dx, dy = boxes[:, 0] - station[:, 0], boxes[:, 1] - station[:, 1]
    place, aside = s_m + c * dx + s * dy, c * dy - s * dx
    qx, qy, qz, qw = (boxes[:, i] for i in range(3, 7))
    yaw_c, yaw_s = 1 - 2 * (qy * qy + qz * qz), 2 * (qw * qz + qx * qy)
    cos, sin = np.abs(c * yaw_c + s * yaw_s), np.abs(c * yaw_s - s * yaw_c)
    half_l, half_w = sizes_m[:, 0] / 2, sizes_m[:, 1] / 2
    level = np.abs(boxes[:, 2] - sizes_m[:, 2] / 2 - station[:, 2] + height_m / 2) < _STOREY_M
    clear = np.abs(aside) - (half_w_m + sin * half_l + cos * half_w)
    clear[~level] = _ELSEWHERE_M
    return clear, place, cos * half_l + sin * half_w, np.cos(heading_rad - tangent_rad)


def stretches_of(table: PathTable, corridors: Corridors) -> Stretches:
    """Find where paths enter corridors, or are inside from their start.

    Args:
        corridors: Whose entries stand in the order of their pairs, each from first to last.
    """
    c, boxes = corridors, corridors.boxes
    size = c.last - c.first + 1
    pair = np.repeat(np.arange(len(size)), size)
    station = np.arange(len(boxes)) - c.at[pair] + table.start[c.other[pair]]
    inside = np.isfinite(boxes.mid_m)
    begins, ends = inside.copy(), inside.copy()
    same = pair[1:] == pair[:-1]
    begins[1:] &= ~(inside[:-1] & same)
    ends[:-1] &= ~(inside[1:] & same)
    e_in, e_out = np.flatnonzero(begins), np.flatnonzero(ends)
    other = c.other[pair[e_in]]
    moves = (table.length_m[other] > 0) & (table.s_m[station[e_in]] <= table.end_m[other])
    e_in, e_out, other = e_in[moves], e_out[moves], other[moves]
    row = c.row[pair[e_in]]
    near, far = np.zeros(len(row)), np.zeros(len(row))
    if len(row):
        low, high = boxes.mid_m - boxes.half_m, boxes.mid_m + boxes.half_m
        high[~inside] = -np.inf
        bounds = np.stack([e_in, e_out + 1], axis=1).reshape(-1)
        near = np.minimum.reduceat(np.append(low, np.inf), bounds)[::2]
        far = np.maximum.reduceat(np.append(high, -np.inf), bounds)[::2]
    enters_m, leaves_m = table.s_m[station[e_in]], table.s_m[station[e_out]]
    merges = (boxes.along[e_out] > _ALIGNED_COS) & (leaves_m - enters_m > _MERGES_M)
    entry = boxes.mid_m[e_in] - boxes.half_m[e_in]
    return Stretches(
        row, c.rows[row], other, enters_m, leaves_m, np.where(merges, entry, near), far, merges
    )


def joined(*parts: _Columns) -> _Columns:
    """Several tables of columns as one."""
    names = [f.name for f in fields(parts[0])]
    return replace(parts[0], **{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})


def chosen(table: _Columns, keep: Mask) -> _Columns:
    """Some rows of a table of columns."""
    return replace(table, **{f.name: getattr(table, f.name)[keep] for f in fields(table)})
