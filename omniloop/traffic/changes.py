"""Lane changes: which lanes lie beside, whether MOBIL wants one, and the way over."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.core.time import MAX_STATE_STEP_US, US_PER_S
from omniloop.traffic.drive import Ahead, State
from omniloop.traffic.ego_track import Ego
from omniloop.traffic.laws import idm_accel
from omniloop.traffic.mobil import mobil_decides
from omniloop.traffic.parameters import ParameterSet
from omniloop.traffic.paths import Index, Path, continued
from omniloop.traffic.stage import Stage

_SLOWER_MPS = 1.0
"""Who drives that much slower than it wants to looks for another lane."""

_REST_S = 3.0
"""After a change an actor stays in its lane at least this long."""

_LEAST_M = 20.0
"""A change takes at least this length of road."""

_BESIDE_M = 1.2
"""Who is within its own half width and this of a lane's centre line drives in it."""

_AHEAD_M = 200.0
_SIGHT_M = 80.0
_SPACING_M = 1.0
_NONE = 1e9


@dataclass(frozen=True, eq=False)
class Traffic:
    """Everybody at an instant, ego last.

    Attributes:
        xy: ``(A + 1, 2)`` box centres.
        v_mps, wish_mps, half_m: ``(A + 1,)`` speeds, desired speeds, half lengths.
        half_w_m: ``(A + 1,)`` half widths.
        there: ``(A + 1,)``.
    """

    xy: Array
    v_mps: Array
    wish_mps: Array
    half_m: Array
    half_w_m: Array
    there: Mask


def next_change(
    stage: Stage, params: ParameterSet, state: State, ahead: Ahead, ego: Ego, ego_size_m: Array,
    poses: Array, time_us: int, turn: int,
) -> tuple[int, Path] | None:  # fmt: skip
    """The next actor to change lanes at a time, and its new path; None if nobody wants to.

    Those look that are late and slower than they want to be behind somebody, every `cooldown_s`,
    each at its own of the steps in between. One a step goes; the others see it go.

    Args:
        poses: ``(A, 7)`` of all actors.
        turn: Number of the step.
    """
    mobil, rows, sizes = params.mobil, stage.rows, stage.cast.sizes_m
    assert mobil is not None
    every = max(round(mobil.cooldown_s * US_PER_S / MAX_STATE_STEP_US), 1)
    v = state.v_mps[rows]
    looks = stage.drives & state.there[rows] & ~state.on_time[rows] & np.isfinite(ahead.gap_m)
    looks &= ((np.arange(len(rows)) + turn) % every == 0) & (v >= mobil.least_speed_mps)
    rested_us = state.changed_us[rows] + (mobil.duration_s + _REST_S) * US_PER_S
    looks &= (state.changed_us[rows] < 0) | (rested_us <= time_us)
    if not looks.any():
        return None
    wish = ahead.wish_mps
    looks &= (wish - v > _SLOWER_MPS) & (wish - ahead.speed_mps > _SLOWER_MPS)
    law = idm_accel(v, wish, ahead.gap_m, ahead.speed_mps, params.compared)
    looks &= law < params.idm.max_accel_mps2 / 2
    if not looks.any():
        return None
    everyone = state.v_mps.copy()
    everyone[rows] = np.where(stage.drives, wish, v)
    size = np.append(sizes, ego_size_m[None], axis=0)
    traffic = Traffic(
        np.append(poses[:, :2], ego.local_to_aabb[None, :2], axis=0),
        np.append(state.v_mps, ego.speed_mps), np.append(everyone, ego.speed_mps),
        size[:, 0] / 2, size[:, 1] / 2, np.append(state.there, True),
    )  # fmt: skip
    for r in np.flatnonzero(looks).tolist():
        who = int(rows[r])
        path = _wanted(
            stage, params, traffic, who, float(state.s_m[who]), poses[who], float(law[r]),
            float(ahead.gap_m[r]), float(ahead.speed_mps[r]),
        )  # fmt: skip
        if path is not None:
            return who, path
    return None


def _wanted(
    stage: Stage, params: ParameterSet, traffic: Traffic, who: int, s_m: float,
    local_to_aabb: Array, accel_mps2: float, gap_m: float, lead_mps: float,
) -> Path | None:  # fmt: skip
    """The path into a neighbouring lane that is worth it, the best of both sides; or None.

    Args:
        who: The actor, `s_m` its place on its path and `local_to_aabb` ``(7,)`` its pose.
        accel_mps2: What the law gives it where it is.
        gap_m, lead_mps: Its lead now.
    """
    assert params.mobil is not None
    station = int(np.searchsorted(stage.table.paths[who].s_m, s_m, side="right")) - 1
    under = int(stage.lane[stage.table.start[who] + max(station, 0)])
    if under < 0 or stage.lanes.lanes[under].in_intersection:
        return None
    best: tuple[float, Path] | None = None
    lane = stage.lanes.lanes[under]
    for name in (lane.left_lane, lane.right_lane):
        beside = None if name is None else stage.lanes.by_id.get(name)
        if beside is None:
            continue
        found = _look(
            stage, params, traffic, who, s_m, local_to_aabb, beside, accel_mps2, gap_m, lead_mps
        )
        if found is not None and (best is None or found[0] > best[0]):
            best = found
    return None if best is None else best[1]


def _look(
    stage: Stage, params: ParameterSet, traffic: Traffic, who: int, s_m: float,
    local_to_aabb: Array, beside: int, accel_mps2: float, gap_m: float, lead_mps: float,
) -> tuple[float, Path] | None:  # fmt: skip
    """Acceleration in a lane beside and the path into it, if MOBIL wants it."""
    mobil, p = params.mobil, params.compared
    assert mobil is not None
    line = stage.lanes.line(beside, _AHEAD_M)
    v = float(traffic.v_mps[who])
    length = max(v * mobil.duration_s, _LEAST_M)
    at, away = line.project(local_to_aabb[None, :2])
    s0 = float(at[0])
    if not 1.0 < away[0] < 6.0 or line.s_m[-1] - s0 < length + 2 * v + 10.0:
        return None
    part = line.part(s0 - _SIGHT_M, s0 + _SIGHT_M)
    index = _inside_of(traffic, line.bounds(part), who)
    s, aside = line.project(traffic.xy[index], part)
    reach = traffic.half_m[index] + traffic.half_m[who]
    inside = aside < traffic.half_w_m[index] + _BESIDE_M
    inside &= np.abs(traffic.xy[index] - local_to_aabb[:2]).max(axis=1, initial=0.0) < _SIGHT_M
    front_m, lead = _least(np.where(inside & (s >= s0), s - s0 - reach, _NONE), index)
    rear_m, follower = _least(np.where(inside & (s < s0), s0 - s - reach, _NONE), index)
    if front_m < 1.0 or rear_m < 1.0:
        return None
    lead_v = float(traffic.v_mps[lead]) if front_m < _NONE else 0.0
    # Who drives behind which gap and which speed: itself there, its followers now and after.
    asked = [(who, front_m, lead_v)]
    if rear_m < _NONE:
        between = front_m + rear_m + 2 * float(traffic.half_m[who])
        asked.append((follower, between if front_m < _NONE else _NONE, lead_v))
        asked.append((follower, rear_m, v))
    old = _follower(traffic, stage.table.paths[who], who, s_m)
    if old is not None:
        opened = _NONE if np.isinf(gap_m) else old[1] + gap_m + 2 * float(traffic.half_m[who])
        asked += [(old[0], old[1], v), (old[0], opened, lead_mps)]
    whom = np.array([x[0] for x in asked])
    gap, ahead_mps = np.array([x[1:] for x in asked]).T
    gap[gap >= _NONE] = np.inf
    wish = np.maximum(traffic.wish_mps[whom], 0.5)
    law = idm_accel(traffic.v_mps[whom], wish, gap, ahead_mps, p)
    there, zero = law[:1], np.zeros(1)
    new_now, new_after = (law[1:2], law[2:3]) if rear_m < _NONE else (zero, zero)
    old_now, old_after = (law[-2:-1], law[-1:]) if old is not None else (zero, zero)
    decides = mobil_decides(
        np.array([accel_mps2]), there, new_now, new_after, old_now, old_after, mobil
    )
    if not decides[0]:
        return None
    return float(there[0]), _way_over(stage, who, s_m, local_to_aabb, line.points, s0, length)


def _inside_of(traffic: Traffic, bounds: tuple[Array, Array], who: int) -> Index:
    """The others in a rectangle, and near it."""
    low, high = bounds
    room = _BESIDE_M + float(traffic.half_w_m.max())
    near = traffic.there & (traffic.xy > low - room).all(axis=1)
    near &= (traffic.xy < high + room).all(axis=1)
    near[who] = False
    return np.flatnonzero(near)


def _least(values: Array, index: Index) -> tuple[float, int]:
    """The least of some values, the first if several are, and its index; `_NONE` of none."""
    if len(values) == 0:
        return _NONE, 0
    at = int(values.argmin())
    return float(values[at]), int(index[at])


def _follower(traffic: Traffic, path: Path, who: int, s_m: float) -> tuple[int, float] | None:
    """Who follows an actor in its present lane, and the gap; None if nobody within 50 m."""
    lo = int(np.searchsorted(path.s_m, s_m - 60.0))
    hi = int(np.searchsorted(path.s_m, s_m + 1.0, side="right"))
    if hi - lo < 2:
        return None
    line, part = path.line, slice(lo, hi - 1)
    index = _inside_of(traffic, line.bounds(part), who)
    if len(index) == 0:
        return None
    s, aside = line.project(traffic.xy[index], part)
    base = float(path.s_m[lo] - line.s_m[lo])
    inside = (aside < traffic.half_w_m[index] + _BESIDE_M) & (s + base < s_m - 0.5)
    if not inside.any():
        return None
    reach = traffic.half_m[index] + traffic.half_m[who]
    gap = np.where(inside, s_m - base - s - reach, np.inf)
    nearest = int(np.argmin(gap))
    return int(index[nearest]), max(float(gap[nearest]), 0.1)


def _way_over(
    stage: Stage, who: int, s_m: float, local_to_aabb: Array, line: Array, from_m: float,
    length_m: float,
) -> Path:  # fmt: skip
    """A smooth way from a pose to the centre line of a lane beside and along it.

    The distance to the new centre line fades by 6 t^5 - 15 t^4 + 10 t^3, which has neither speed
    nor acceleration sideways at its ends.
    """
    old = stage.table.paths[who]
    rest_m = float(geometry.arc_length_m(line[:, :2])[-1]) - from_m
    u = np.append(np.arange(_SPACING_M, rest_m - 0.1, _SPACING_M), rest_m)
    points = geometry.resample_polyline(line, from_m + u)
    foot = geometry.resample_polyline(line, [from_m])[0]
    t = np.minimum(u / length_m, 1.0)
    rest = 1.0 - t * t * t * (t * (6 * t - 15) + 10)
    points[:, :2] += rest[:, None] * (local_to_aabb[:2] - foot[:2])
    points[:, 2] += local_to_aabb[2] - foot[2]
    keep = old.s_m < s_m - 1e-6
    start = Path(
        np.append(old.s_m[keep], s_m),
        np.vstack([old.local_to_aabb[keep], local_to_aabb[None]]),
        np.append(old.tangent_rad[keep], geometry.yaw_rad(local_to_aabb)),
        np.append(old.pace_mps[keep], old.pace_mps[max(int(keep.sum()) - 1, 0)]),
        np.append(old.when_s[keep], np.inf),
        s_m, s_m, old.done_m,
    )  # fmt: skip
    new = continued(start, points, s_m, 10.0)
    if not stage.cast.goes_on[who]:  # it leaves after as many metres as it would have
        return replace(new, end_m=min(old.end_m, new.end_m))
    return new
