"""Who drives ahead of whom, read from corridors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.traffic.corridors import Corridors
from omniloop.traffic.paths import Index

NOBODY = -1
_ALONG_COS = 0.5


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


def meeting(
    corridors: Corridors, start: Index, station: Index, counts: Mask
) -> tuple[Index, Index]:
    """The pairs that count and of whom the other may be inside now, and their entries."""
    c = corridors
    number = (station - start)[c.other]
    use = number >= c.first
    use &= number <= c.last
    use &= counts
    pairs = np.flatnonzero(use)
    return pairs, number[pairs] + c.at[pairs]


def leads_among(
    corridors: Corridors,
    start: Index,
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
        start: ``(A,)`` first stations of the actors' paths.
        station: ``(A,)`` last station each actor has passed, and `beyond_m` how far since.
        speed_mps: ``(A,)`` speeds along their own paths.
        row_m: ``(R,)`` place of each corridor's owner.
        row_half_m: ``(R,)`` half its length.
        counts: ``(P,)`` which pairs are looked at.
        passes: ``(P,)`` pairs of people on foot or on bicycles: they queue behind each other,
            but pass those that they meet.
        projected: The lead's speed is its component along the corridor, else all of it.
        standing_mps: Slower ones are obstacles however they are turned; of the others those
            that travel across a corridor are not leads in it but cross it.
    """
    c, n_rows = corridors, len(row_m)
    nearest, speed = np.full(n_rows, np.inf), np.zeros(n_rows)
    who = np.full(n_rows, NOBODY)
    pairs, entry = meeting(c, start, station, counts)
    if len(pairs) == 0:
        return Leads(nearest, speed, who)
    row, other = c.row[pairs], c.other[pairs]
    mid, half, along = c.boxes.at(entry)
    mid += along * beyond_m[other]
    own = row_m[row]
    own_v = speed_mps[other]
    straight = along > _ALONG_COS
    usable = (straight | (along < -_ALONG_COS)) | (own_v <= standing_mps)
    usable &= straight | ~passes[pairs]
    usable &= mid > own
    found = np.flatnonzero(usable)
    row = row[found]
    gap = (mid - half)[found] - (own[found] + row_half_m[row])
    np.minimum.at(nearest, row, gap)
    # Of equally near ones the first: pairs are sorted, and the last that is written stays.
    best = np.flatnonzero((gap == nearest[row]) & (gap < np.inf))[::-1]
    row, found = row[best], found[best]
    who[row] = other[found]
    speed[row] = own_v[found] * along[found] if projected else own_v[found]
    return Leads(nearest, speed, who)
