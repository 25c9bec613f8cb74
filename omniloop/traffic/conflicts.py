"""Who lets whom pass where paths cross or merge.

Each stretch over which another's box will be inside a corridor has two times for either side:
of coming to it and of having left it. Where both would be there at about the same time, the one
that was recorded to come first keeps its priority; without a recording of both, the one that
comes first now. Recorded orders belong to one recorded history, so they hold no circle of actors
that wait for each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.traffic.corridors import Stretches
from omniloop.traffic.ego_view import AHEAD_S, Sight
from omniloop.traffic.paths import Index, PathTable

MARGIN_S = 0.7
"""Two do not come closer in time than this at a place that both need."""

_HORIZON_S = 8.0
_ROOM_M = 1.0
_START_MPS2 = 1.0
_STOP_MPS2 = 5.0
"""Who would have to brake harder than this goes on, and the others see it go on."""

_STUCK_S = 2.0
_LEAST_MPS = 2.0
_LEAD_COS = 0.7


@dataclass(frozen=True, eq=False)
class Times:
    """When each stretch is come to and left, in seconds after handover as recorded.

    Attributes:
        own_in_s, own_out_s: ``(P,)`` of the corridor's owner; inf where it was not recorded to.
        other_in_s, other_out_s: ``(P,)`` of the other.
    """

    own_in_s: Array
    own_out_s: Array
    other_in_s: Array
    other_out_s: Array


def recorded_times(table: PathTable, stretches: Stretches, sizes_m: Array) -> Times:
    """Recorded times at the ends of all stretches."""
    half = sizes_m[stretches.owner, 0] / 2
    return Times(
        _when(table, stretches.owner, stretches.near_m - half),
        _when(table, stretches.owner, stretches.far_m + half),
        _when(table, stretches.other, stretches.other_in_m),
        _when(table, stretches.other, stretches.other_out_m),
    )


def _when(table: PathTable, who: Index, s_m: Array) -> Array:
    """Recorded arrival ``(P,)`` of actors at places; -inf before their start, inf beyond."""
    after = table.station_of(who, s_m) + 1
    last = table.start[who + 1] - 1
    a, b = np.minimum(after - 1, last), np.minimum(after, last)
    step = table.s_m[b] - table.s_m[a]
    f = np.clip((s_m - table.s_m[a]) / np.where(step > 0, step, 1.0), 0.0, 1.0)
    early, late = table.when_s[a], table.when_s[b]
    with np.errstate(invalid="ignore"):
        out = np.where(np.isfinite(late), early + f * (late - early), np.inf)
    out = np.where((f == 0) & np.isfinite(early), early, out)
    out = np.where(s_m > table.s_m[last], np.inf, out)
    return np.asarray(np.where(s_m < 0, -np.inf, out))


def arrival_s(distance_m: Array, speed_mps: Array, wish_mps: Array) -> Array:
    """Time to a place for one that speeds up to its wish; 0 for a place behind."""
    d, v = np.maximum(distance_m, 0.0), np.maximum(speed_mps, 0.0)
    w = np.maximum(np.maximum(wish_mps, v), 0.3)
    speeding_s = (w - v) / _START_MPS2
    speeding_m = (v + w) / 2 * speeding_s
    early = (np.sqrt(v * v + 2 * _START_MPS2 * d) - v) / _START_MPS2
    return np.asarray(np.where(d <= speeding_m, early, speeding_s + (d - speeding_m) / w))


def brake_to_yield(room_m: Array, speed_mps: Array, clear_s: Array) -> Array:
    """Acceleration, at most 0, to come to a place only once it is clear, or to stop before it.

    Whichever needs less (see `policies.leads`).
    """
    room = np.maximum(np.maximum(room_m - _ROOM_M, room_m / 2), 0.1)
    wait = np.clip(clear_s, 0.1, 1e3)
    later = 2 * (speed_mps * wait - room) / wait**2
    stop = speed_mps**2 / (2 * room)
    return -np.maximum(np.where(later * wait <= speed_mps, later, stop), 0.0)


def yields(
    stretches: Stretches, times: Times, now_s: float, there: Mask, on_time: Mask, s_m: Array,
    v_mps: Array, wish_mps: Array, stood_s: Array, half_m: Array, walks: Mask, n_rows: int,
    guided: bool,
) -> tuple[Array, Array]:  # fmt: skip
    """What each row of corridors must do for those that cross or merge.

    Args:
        wish_mps: ``(A,)`` desired speeds.
        half_m: ``(A,)`` half lengths.

    Returns:
        ``(R,)`` braking (at most 0, inf where free) and ``(R,)`` the distance from the owner's
        front to the nearest place where it must wait, inf where free.
    """
    brake, room = np.full(n_rows, np.inf), np.full(n_rows, np.inf)
    late = there & ~on_time
    known = there.astype(np.int8) + late
    p = np.flatnonzero(known[stretches.owner] * known[stretches.other] >= 2)
    a, b = stretches.owner[p], stretches.other[p]
    to_a = stretches.near_m[p] - s_m[a] - half_m[a]
    to_b = stretches.other_in_m[p] - s_m[b]
    use = (to_a > -0.3) & (s_m[b] < stretches.other_out_m[p])
    use &= ~(stretches.merges[p] & (to_b <= 0))
    if not use.any():
        return brake, room
    p, a, b, to_a, to_b = p[use], a[use], b[use], to_a[use], to_b[use]
    merges = stretches.merges[p]
    v_a, v_b = v_mps[a], v_mps[b]
    recorded_a, recorded_b = times.own_in_s[p], times.other_in_s[p]
    a_in = arrival_s(to_a, v_a, wish_mps[a])
    a_out = a_in + (stretches.far_m[p] - stretches.near_m[p] + 2 * half_m[a]) / np.maximum(
        np.minimum(wish_mps[a], v_a + 2.0), _LEAST_MPS
    )
    b_in = arrival_s(to_b, v_b, wish_mps[b])
    b_out = arrival_s(stretches.other_out_m[p] - s_m[b], v_b, np.maximum(v_b, 0.5 * wish_mps[b]))
    on_a, on_b = on_time[a], on_time[b]
    if guided:  # nobody is ahead of the recording
        a_in = np.maximum(a_in, np.where(np.isfinite(recorded_a), recorded_a - now_s, 0.0))
        b_in = np.maximum(b_in, np.where(np.isfinite(recorded_b), recorded_b - now_s, 0.0))
        a_out = np.maximum(a_out, a_in)
        b_out = np.maximum(b_out, b_in)
    a_in = np.where(on_a, recorded_a - now_s, a_in)
    a_out = np.where(on_a, times.own_out_s[p] - now_s, a_out)
    b_in = np.where(on_b, recorded_b - now_s, b_in)
    b_out = np.where(on_b, times.other_out_s[p] - now_s, b_out)
    stuck = (stood_s[b] > _STUCK_S) & ~on_b
    b_in = np.where(stuck & (to_b > 0), np.inf, b_in)
    b_out = np.where(merges, b_in + 0.3, b_out)
    a_out = np.where(merges, np.minimum(a_out, a_in + 1.0), a_out)
    meets = (a_in < b_out + MARGIN_S) & (b_in < a_out + MARGIN_S)
    meets &= (a_in < _HORIZON_S) & (b_in < _HORIZON_S)
    both = np.isfinite(recorded_a) & np.isfinite(recorded_b)
    first = np.where(both, recorded_a < recorded_b, (a_in < b_in) | ((a_in == b_in) & (a < b)))
    first &= both | ~walks[b] | walks[a]
    inside = to_b <= 0
    committed = inside | ((to_b < v_b * v_b / (2 * _STOP_MPS2)) & (b_in < a_in))
    stops = to_a > v_a * v_a / (2 * _STOP_MPS2)
    gives = meets & ((~first & stops) | (committed & (stops | inside)))
    g = np.flatnonzero(gives)
    if len(g):
        row = stretches.row[p[g]]
        np.minimum.at(brake, row, brake_to_yield(to_a[g], v_a[g], b_out[g] + MARGIN_S / 2))
        np.minimum.at(room, row, to_a[g])
    return brake, room


def yields_to_ego(
    sight: Sight, row_m: Array, row_half_m: Array, row_v: Array, row_wish: Array, led: Mask
) -> tuple[Array, Array]:
    """What each row must do for ego, which is taken to go on as it does for 3 s.

    Rows that come to ego's way before it does go on; those that ego leads already are left out.

    Args:
        sight: Of ego's boxes at `AHEAD_S`.
        led: ``(R,)`` whom ego leads.

    Returns:
        As `yields`.
    """
    brake, room = np.full(len(row_m), np.inf), np.full(len(row_m), np.inf)
    row = sight.row
    ahead = sight.place_m - sight.half_m > row_m[row] + row_half_m[row] - 0.3
    ahead &= ~led[row]
    if not ahead.any():
        return brake, room
    sight = sight.of(ahead)
    row, when = sight.row, AHEAD_S[sight.box]
    to_zone, enters = np.full(len(row_m), np.inf), np.full(len(row_m), np.inf)
    leaves, follows = np.zeros(len(row_m)), np.zeros(len(row_m), dtype=bool)
    np.minimum.at(enters, row, when)
    np.maximum.at(leaves, row, when)
    np.minimum.at(to_zone, row, sight.place_m - sight.half_m - row_m[row] - row_half_m[row])
    follows[row[sight.along > _LEAD_COS]] = True
    rows = np.flatnonzero(np.isfinite(enters))
    to_a, v_a = to_zone[rows], row_v[rows]
    a_in = arrival_s(to_a, v_a, row_wish[rows])
    leaves = np.where(follows, enters + 0.3, leaves + 0.5)[rows]
    meets = (a_in >= enters[rows]) & (a_in < leaves + MARGIN_S)
    meets &= to_a > v_a * v_a / (2 * _STOP_MPS2)
    rows, to_a, v_a, leaves = rows[meets], to_a[meets], v_a[meets], leaves[meets]
    brake[rows] = brake_to_yield(to_a, v_a, leaves + MARGIN_S / 2)
    room[rows] = to_a
    return brake, room
