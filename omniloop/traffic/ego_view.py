"""Ego seen from the corridors of all actors: where its boxes stand, now and in the next seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.traffic.corridors import seen_along
from omniloop.traffic.ego_track import Ego
from omniloop.traffic.paths import Index, PathTable, ranges

AHEAD_S = np.arange(1, 7) * 0.5
"""Ego is taken to go on as it does for 3 s, and looked at so often."""

_MANY = 1 << 32
_FROM_M, _UNTIL_M, _UNTIL_S = -5.0, 25.0, 5.0


@dataclass(frozen=True, eq=False)
class Sight:
    """Boxes of ego inside corridors, N in all.

    Attributes:
        box: ``(N,)`` index of the box; `row` ``(N,)`` of the corridor.
        place_m: ``(N,)`` of its centre along the corridor; `half_m` ``(N,)`` half its length there.
        along: ``(N,)`` share of its speed along the corridor.
    """

    box: Index
    row: Index
    place_m: Array
    half_m: Array
    along: Array

    def of(self, which: Mask | slice) -> Sight:
        """Some of them."""
        return Sight(
            self.box[which], self.row[which], self.place_m[which], self.half_m[which],
            self.along[which],
        )  # fmt: skip


NOTHING = Sight(*(np.zeros(0, dtype=np.int64),) * 2, *(np.zeros(0),) * 3)


class EgoView:
    """Boxes of ego seen from R corridors; looks only at what is near, see `focus`.

    Args:
        ego_size_m: ``(3,)``.
        buffer_m: Room on either side of a corridor.
    """

    def __init__(self, ego_size_m: Array, buffer_m: float) -> None:
        self._size, self._buffer_m = ego_size_m, buffer_m

    def focus(
        self, table: PathTable, rows: Index, sizes_m: Array, ego_xy: Array, radius_m: float,
        row_m: Array | None = None, row_v: Array | None = None,
    ) -> None:  # fmt: skip
        """Look only at stations within a radius of ego from now on.

        Args:
            rows: ``(R,)`` owners of the corridors.
            sizes_m: ``(A, 3)``.
            row_m: ``(R,)`` places of the owners, `row_v` their speeds: of their corridors only
                what they may come to soon is looked at.
        """
        if row_m is None or row_v is None:
            near = ranges(table.start[rows], table.start[rows + 1])
        else:
            until = row_m + _UNTIL_M + _UNTIL_S * row_v
            near = table.between(rows, row_m + _FROM_M, until)
        x, y = table.x_m[near], table.y_m[near]
        dx, dy = x - ego_xy[0], y - ego_xy[1]
        close = np.flatnonzero(dx * dx + dy * dy < radius_m * radius_m)
        self._near, self._x, self._y = near[close], x[close], y[close]
        owner = table.owner[self._near]
        row_of = np.zeros(len(sizes_m), dtype=np.int64)
        row_of[rows] = np.arange(len(rows))
        self._row, self._height = row_of[owner], sizes_m[owner, 2]
        self._table = table
        widest = float(table.half_w_m[self._near].max(initial=0.0))
        self._reach_m = float(np.hypot(*self._size[:2])) / 2 + widest + self._buffer_m + 2.0

    def seen(self, local_to_aabb: Array, heading_rad: Array) -> Sight:
        """Where B boxes of ego ``(B, 7)`` stand in corridors.

        Args:
            heading_rad: ``(B,)`` where they travel to.
        """
        (x0, y0), (x1, y1) = local_to_aabb[:, :2].min(axis=0), local_to_aabb[:, :2].max(axis=0)
        reach = self._reach_m
        close = (self._x > x0 - reach) & (self._x < x1 + reach)
        close &= (self._y > y0 - reach) & (self._y < y1 + reach)
        near = np.flatnonzero(close)
        if len(near) == 0:
            return NOTHING
        away2 = self._x[near] - local_to_aabb[:, 0, None]
        away2 *= away2
        dy = self._y[near] - local_to_aabb[:, 1, None]
        dy *= dy
        away2 += dy
        box, at = np.nonzero(away2 < reach * reach)
        # Of each corridor only the station nearest to a box; those of one stand side by side.
        row = self._row[near[at]]
        group = box * _MANY + row
        begins = np.flatnonzero(np.append(True, group[1:] != group[:-1])[: len(group)])
        if len(begins) == 0:
            return NOTHING
        away = away2[box, at]
        least = np.minimum.reduceat(away, begins)
        nearest = away == np.repeat(least, np.diff(np.append(begins, len(away))))
        box, at, row = box[nearest], at[nearest], row[nearest]
        if len(box) > len(begins):  # of equally near ones the first
            group = box * _MANY + row
            first = np.append(True, group[1:] != group[:-1])
            box, at, row = box[first], at[first], row[first]
        station, local = self._near[near[at]], near[at]
        t = self._table
        clear, place, half, along = seen_along(
            t.local_to_aabb[station], t.tangent_rad[station], t.s_m[station], local_to_aabb[box],
            heading_rad[box], self._size[None], t.half_w_m[station] + self._buffer_m,
            self._height[local],
        )  # fmt: skip
        return Sight(box, row, place, half, along).of(clear < 0)


class Outlook:
    """Where ego stands at N instants, and at `AHEAD_S` after each if it goes on as it does.

    All is worked out at once, when it is first asked for.
    """

    def __init__(self, view: EgoView, egos: list[Ego]) -> None:
        self._view, self._egos = view, egos
        self._sight = NOTHING
        self._starts: list[int] = []

    def at(self, k: int) -> tuple[Sight, Sight]:
        """What is seen at instant k, and afterwards with boxes numbered as `AHEAD_S`."""
        each = 1 + len(AHEAD_S)
        if not self._starts:
            boxes, headings = _boxes(self._egos)
            self._sight = self._view.seen(boxes, headings)
            ends = np.arange(len(self._egos) + 1)[:, None] * each + [0, 1]
            self._starts = self._sight.box.searchsorted(ends.reshape(-1)).tolist()
        now, later, end = self._starts[2 * k : 2 * k + 3]
        sight = self._sight.of(slice(later, end))
        return self._sight.of(slice(now, later)), replace(sight, box=sight.box - (k * each + 1))


def _boxes(egos: list[Ego]) -> tuple[Array, Array]:
    """Boxes ``(7 N, 7)`` of ego, each now and at `AHEAD_S`, and their headings."""
    speed, accel, turn, heading = np.array(
        [(x.speed_mps, min(x.accel_mps2, 0.0), x.turn_radps, x.heading_rad) for x in egos]
    ).T[..., None]
    # One that brakes stands in the end; one that rolls back and brakes stands.
    lasts_s = np.maximum(speed, 0.0) / np.maximum(-accel, 1e-9)
    t = np.minimum(AHEAD_S, np.where(accel < 0, lasts_s, np.inf))
    gone = speed * t + accel * t * t / 2
    # Per metre, so that a braking ego stays on its arc.
    turned = turn / np.maximum(np.abs(speed), 1.0) * gone
    zero = np.zeros((len(egos), 1))
    gone, turned = np.append(zero, gone, axis=1), np.append(zero, turned, axis=1)
    local_to_aabb = np.stack([x.local_to_aabb for x in egos])[:, None]
    out = np.repeat(local_to_aabb, gone.shape[1], axis=1)
    out[..., 0] += gone * np.cos(heading + turned / 2)
    out[..., 1] += gone * np.sin(heading + turned / 2)
    # Turned about z first: (0, 0, sin, cos) times the quaternion.
    sin, cos = np.sin(turned / 2), np.cos(turned / 2)
    qx, qy, qz, qw = (local_to_aabb[..., i] for i in range(3, 7))
    out[..., 3], out[..., 4] = cos * qx - sin * qy, cos * qy + sin * qx
    out[..., 5], out[..., 6] = cos * qz + sin * qw, cos * qw - sin * qz
    return out.reshape(-1, 7), (heading + turned).reshape(-1)


def lead_in(sight: Sight, speed_mps: float, row_m: Array, row_half_m: Array) -> tuple[Array, Array]:
    """Gap and speed along the corridor ``(R,)`` of a box of ego as a lead; inf and 0 for none.

    Args:
        sight: Of that box.
        row_m: ``(R,)`` places of the corridors' owners, `row_half_m` half their lengths.
    """
    gap, speed = np.full(len(row_m), np.inf), np.zeros(len(row_m))
    row = sight.row
    found = sight.place_m - sight.half_m - row_m[row] - row_half_m[row]
    ahead = sight.place_m > row_m[row]
    gap[row[ahead]] = found[ahead]
    speed[row[ahead]] = speed_mps * sight.along[ahead]
    return gap, speed
