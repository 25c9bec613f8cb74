"""Who drives ahead of whom: read from corridors for actors, measured for ego's boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.traffic.corridors import Corridors, seen_along, swept_m
from omniloop.traffic.paths import Index, PathTable

NOBODY = -1
_ALONG_COS = 0.5
_BEHIND_M, _AHEAD_M, _AHEAD_S = 5.0, 25.0, 5.0


@dataclass(frozen=True, eq=False)
class Leads:
    """The nearest one ahead in each of R corridors.

    Attributes:
        gap_m: ``(R,)`` from the owner's front to its near end; inf if nobody.
        speed_mps: ``(R,)`` its speed along the corridor.
        who: ``(R,)`` index of the actor, -1 for nobody.
    """

    gap_m: Array
    speed_mps: Array
    who: Index


def leads_among(
    corridors: Corridors,
    station: Index,
    beyond_m: Array,
    speed_mps: Array,
    row_m: Array,
    row_half_m: Array,
    counts: Mask,
    passes: Mask,
    projected: bool = True,
    standing_mps: float = 0.5,
) -> Leads:
    """Find the lead in each corridor among all actors.

    Args:
        station: ``(A,)`` last station each actor has passed, and `beyond_m` how far since.
        speed_mps: ``(A,)`` speeds along their own paths.
        row_m: ``(R,)`` place of each corridor's owner.
        row_half_m: ``(R,)`` half its length.
        counts: ``(A, R)`` which pairs are looked at.
        passes: ``(A, R)`` pairs of people on foot or on bicycles: they queue behind each other,
            but pass those that they meet.
        projected: The lead's speed is its component along the corridor, else all of it.
        standing_mps: Slower ones are obstacles however they are turned; of the others those
            that travel across a corridor are not leads in it but cross it.
    """
    along = corridors.along[station]
    mid = corridors.mid_m[station]
    mid += along * beyond_m[:, None]
    gap = mid - corridors.half_m[station]
    gap -= row_m + row_half_m
    usable = counts & (mid > row_m)
    usable &= (np.abs(along) > _ALONG_COS) | (speed_mps <= standing_mps)[:, None]
    usable &= ~passes | (along > _ALONG_COS)
    gap[~usable] = np.inf
    if len(gap) == 0:
        none = np.zeros(len(row_m))
        return Leads(none + np.inf, none, none.astype(np.int64) + NOBODY)
    who = np.argmin(gap, axis=0)
    rows = np.arange(len(row_m))
    nearest = gap[who, rows]
    found = np.isfinite(nearest)
    share = along[who, rows] if projected else np.ones(len(rows))
    speed = np.where(found, speed_mps[who] * share, 0.0)
    return Leads(nearest, speed, np.where(found, who, NOBODY))


class EgoView:
    """Boxes of ego seen from all corridors.

    Args:
        table: Paths of all actors.
        rows: ``(R,)`` owners of the corridors.
        sizes_m: ``(A, 3)``.
        ego_size_m: ``(3,)``.
        buffer_m: Room on either side of a corridor.
    """

    def __init__(
        self, table: PathTable, rows: Index, sizes_m: Array, ego_size_m: Array, buffer_m: float
    ) -> None:
        counts = table.start[rows + 1] - table.start[rows]
        self._row = np.repeat(np.arange(len(rows)), counts)
        at = np.concatenate(
            [np.arange(table.start[r], table.start[r + 1]) for r in rows.tolist()]
            or [np.zeros(0, dtype=np.int64)]
        )
        self._station = table.local_to_aabb[at, :3]
        self._tangent, self._s_m = table.tangent_rad[at], table.s_m[at]
        self._half_w = buffer_m + np.concatenate(
            [
                swept_m(p.local_to_aabb, p.tangent_rad, sizes_m[r])
                for r, p in ((r, table.paths[r]) for r in rows.tolist())
            ]
            or [np.zeros(0)]
        )
        self._height = sizes_m[rows, 2]
        self._size = ego_size_m
        self._reach_m = (
            float(np.hypot(*ego_size_m[:2])) / 2 + float(self._half_w.max(initial=0.0)) + 2.0
        )
        self._near = np.arange(len(at))

    def focus(
        self, ego_xy: Array, radius_m: float, row_m: Array | None = None, row_v: Array | None = None
    ) -> None:
        """Look only at stations within a radius of ego from now on.

        Args:
            row_m: ``(R,)`` places of the owners, `row_v` their speeds: of their corridors only
                what they may come to soon is looked at.
        """
        d = self._station[:, :2] - ego_xy
        near = d[:, 0] * d[:, 0] + d[:, 1] * d[:, 1] < radius_m * radius_m
        if row_m is not None and row_v is not None:
            near &= self._s_m > (row_m - _BEHIND_M)[self._row]
            near &= self._s_m < (row_m + _AHEAD_M + _AHEAD_S * row_v)[self._row]
        self._near = np.flatnonzero(near)

    def seen(
        self, local_to_aabb: Array, heading_rad: Array, rows: Mask | None = None
    ) -> tuple[Index, Index, Array, Array, Array]:
        """Where B boxes of ego ``(B, 7)`` stand in corridors.

        Args:
            heading_rad: ``(B,)`` where they travel to.
            rows: ``(R,)`` which corridors are looked at; None for all.

        Returns:
            Entries of equal length: index of the box, index of the row, place of the box's
            centre along the corridor, its half length and the share of its speed along it.
        """
        near = self._near
        if rows is not None:
            near = near[rows[self._row[near]]]
        if len(local_to_aabb) > 1 and len(near):
            low = local_to_aabb[:, :2].min(axis=0) - self._reach_m
            high = local_to_aabb[:, :2].max(axis=0) + self._reach_m
            x, y = self._station[near, 0], self._station[near, 1]
            near = near[(x > low[0]) & (x < high[0]) & (y > low[1]) & (y < high[1])]
        dx = self._station[near, 0] - local_to_aabb[:, 0, None]
        dy = self._station[near, 1] - local_to_aabb[:, 1, None]
        away2 = dx * dx + dy * dy
        box, at = np.nonzero(away2 < self._reach_m**2)
        # Of each corridor only the station nearest to a box.
        order = np.lexsort((away2[box, at], self._row[near[at]], box))
        box, at = box[order], at[order]
        group = box * (self._row[-1] + 1 if len(self._row) else 1) + self._row[near[at]]
        nearest = np.append(True, group[1:] != group[:-1])[: len(group)]
        box, at = box[nearest], at[nearest]
        station = near[at]
        boxes, row = local_to_aabb[box], self._row[station]
        size = np.broadcast_to(self._size, (len(box), 3))
        inside, place, half, along = seen_along(
            self._station[station], self._tangent[station], self._s_m[station], boxes,
            heading_rad[box], size, self._half_w[station], self._height[row],
        )  # fmt: skip
        return box[inside], row[inside], place[inside], half[inside], along[inside]

    def lead(
        self, local_to_aabb: Array, heading_rad: float, speed_mps: float, row_m: Array,
        row_half_m: Array,
    ) -> tuple[Array, Array]:  # fmt: skip
        """Gap and speed along the corridor ``(R,)`` of ego's box ``(7,)`` as a lead; inf, 0."""
        gap, speed = np.full(len(row_m), np.inf), np.zeros(len(row_m))
        _, row, place, half, along = self.seen(local_to_aabb[None], np.array([heading_rad]))
        ahead = place > row_m[row]
        row, found = row[ahead], (place - half - row_m[row] - row_half_m[row])[ahead]
        np.minimum.at(gap, row, found)
        speed[row] = speed_mps * along[ahead]
        return gap, speed
