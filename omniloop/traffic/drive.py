"""The state of all actors, and one step of it of at most 100 ms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.traffic.conflicts import yields, yields_to_ego
from omniloop.traffic.controls import stops
from omniloop.traffic.ego_track import Ego
from omniloop.traffic.laws import advance, idm_accel
from omniloop.traffic.leads import Leads, leads_among
from omniloop.traffic.parameters import ParameterSet
from omniloop.traffic.stage import Stage, closer

_LEAST_WISH_MPS = 4.0
"""Who is late drives at least this fast where the recording stood or crept."""

_HASTE = 1.15
"""Who is late drives so much faster than was recorded at the place."""

_CATCH_UP_MPS2 = 1.0
_DOUBT_MPS2 = 0.3
_CAUGHT_M, _CAUGHT_MPS = 0.1, 0.3
_WALK_GAP_M, _WALK_GAP_S = 0.5, 1.0
_WALK_BRAKE_MPS2, _WALK_START_MPS2 = 3.0, 1.5
_US = 1e-6
_LEAD_BRAKE_MPS2, _URGENT_MPS2, _HARDEST_MPS2, _LAST_M = 3.0, 2.5, 9.0, 0.5


@dataclass(eq=False)
class State:
    """Where all A actors are.

    Attributes:
        there: ``(A,)`` present.
        left: ``(A,)`` not to come back.
        on_time: ``(A,)`` does exactly what was recorded at this time.
        s_m: ``(A,)`` place along its path.
        v_mps: ``(A,)`` speed along it.
        accel_mps2: ``(A,)`` of the last step.
        own_us: ``(A,)`` for those that keep their path: the recorded instant they are at.
        rate: ``(A,)`` how fast that instant moves on; 1 in time with the recording.
        stood_s: ``(A,)`` how long it has stood.
        changed_us: ``(A,)`` when it last began to change lanes; from then on it is no longer
            held to the recording's pace. Negative if never.
    """

    there: Mask
    left: Mask
    on_time: Mask
    s_m: Array
    v_mps: Array
    accel_mps2: Array
    own_us: Array
    rate: Array
    stood_s: Array
    changed_us: Array


@dataclass(frozen=True, eq=False)
class Ahead:
    """What lies ahead of each row, all ``(R,)``: nearest gap, its speed and how it speeds up or
    brakes, and a brake for those that must let others pass (at most 0; inf if none)."""

    gap_m: Array
    speed_mps: Array
    accel_mps2: Array
    yield_mps2: Array


def look_ahead(
    stage: Stage,
    params: ParameterSet,
    state: State,
    ego: Ego,
    time_us: int,
    now_s: float,
    guided: bool,
) -> Ahead:
    """Leads in all corridors, and those that cross or merge.

    Two that both do what was recorded are no concern of each other: the recording shows how
    it went.
    """
    table, rows = stage.table, stage.rows
    station = table.station(state.s_m)
    beyond = state.s_m - table.s_m[station]
    row_m = state.s_m[rows]
    trusted = state.on_time[:, None] & state.on_time[rows]
    counts = state.there[:, None] & ~trusted & ~stage.brushed
    leads: Leads = leads_among(
        stage.corridors, station, beyond, state.v_mps, row_m, stage.row_half_m, counts,
        stage.passes, params.lead.projected_speed,
    )  # fmt: skip
    gap, speed = leads.gap_m, leads.speed_mps
    accel = np.where(leads.who >= 0, state.accel_mps2[leads.who], 0.0) if len(gap) else gap
    if not ego.on_time or not state.on_time[rows].all():
        ego_gap, ego_speed = stage.ego.lead(
            ego.local_to_aabb, ego.heading_rad, ego.speed_mps, row_m, stage.row_half_m
        )
        if ego.on_time:
            ego_gap[state.on_time[rows]] = np.inf
        nearer = ego_gap < gap
        gap, speed = np.where(nearer, ego_gap, gap), np.where(nearer, ego_speed, speed)
        accel = np.where(nearer, ego.accel_mps2, accel)
    search = params.lead
    if search.gap_step_m > 0:
        gap = np.ceil(gap / search.gap_step_m) * search.gap_step_m
    if search.replayed_stand:
        speed = np.where((leads.who >= 0) & ~stage.cast.driven[leads.who], 0.0, speed)
    far = gap > search.look_ahead_m
    gap[far], speed[far] = np.inf, 0.0
    wish = wish_mps(stage, params, state, guided)
    everyone = state.v_mps.copy()
    everyone[rows] = np.where(stage.drives, wish, np.maximum(_pace_of(stage, state)[rows], 0.5))
    half = stage.cast.sizes_m[:, 0] / 2
    brake, room = yields(
        stage.stretches, stage.times, now_s, state.there, state.on_time, state.s_m, state.v_mps,
        everyone, state.stood_s, half, stage.cast.walks, stage.brushed, guided,
    )  # fmt: skip
    if not ego.on_time:
        for_ego = yields_to_ego(
            stage.ego, ego.local_to_aabb, ego.heading_rad, ego.speed_mps, ego.accel_mps2,
            ego.turn_radps, row_m, stage.row_half_m, state.v_mps[rows], everyone[rows],
            np.isfinite(ego_gap),
        )  # fmt: skip
        brake, room = np.minimum(brake, for_ego[0]), np.minimum(room, for_ego[1])
    held = stops(
        stage.controls, table, time_us, state.s_m, state.v_mps, state.there, row_m,
        stage.row_half_m, state.v_mps[rows], stage.drives & ~state.on_time[rows],
        search.stops_at_red,
    )  # fmt: skip
    nearer = held < gap
    gap, speed = np.where(nearer, held, gap), np.where(nearer, 0.0, speed)
    accel = np.where(nearer, 0.0, accel)
    # Who keeps its path does not brake by a law: it waits short of the place.
    gap = np.where(stage.drives, gap, np.minimum(gap, room))
    return Ahead(gap, np.maximum(speed, 0.0), accel, brake)


def wish_mps(stage: Stage, params: ParameterSet, state: State, guided: bool) -> Array:
    """Desired speeds ``(R,)``."""
    station = stage.table.station(state.s_m)[stage.rows]
    limit = stage.limit_mps[station]
    if guided:
        pace = stage.table.pace_mps[station] * _HASTE
        return np.maximum(pace, _LEAST_WISH_MPS)
    p = params.idm
    known = p.use_speed_limit & np.isfinite(limit)
    return np.maximum(np.where(known, limit, p.desired_speed_mps), 0.1)


def step(
    stage: Stage, params: ParameterSet, state: State, ahead: Ahead, time_us: int, until_us: int,
    guided: bool,
) -> State:  # fmt: skip
    """Move everybody from `time_us` to `until_us`."""
    rows, drives, timetable = stage.rows, stage.drives, stage.cast.timetable
    dt_s = (until_us - time_us) * _US
    done, pace = timetable.at(until_us)
    s, v = done.copy(), pace.copy()
    accel = (v - state.v_mps) / dt_s
    on_time, own, rate = state.on_time.copy(), np.full(len(s), float(until_us)), np.ones(len(s))
    row_s, row_v = state.s_m[rows], state.v_mps[rows]
    row_on = on_time[rows]
    wish = wish_mps(stage, params, state, guided)
    # Vehicles by the law.
    law = idm_accel(
        row_v, np.maximum(wish, np.where(row_on, row_v * 1.2, 0.1)),
        closer(ahead.gap_m, stage.closeness, params), ahead.speed_mps, params.idm,
    )  # fmt: skip
    law = np.minimum(law, ahead.yield_mps2)
    if guided:
        law = np.minimum(law, _emergency_mps2(row_v, ahead))
    free = np.isinf(ahead.gap_m) & np.isinf(ahead.yield_mps2)
    keeps = row_on & (free | (law >= accel[rows] - _DOUBT_MPS2))
    ended = until_us > timetable.times_us[-1]
    if ended:
        keeps[:] = False
    if guided:
        lag = done[rows] - (row_s + row_v * dt_s)
        may = pace[rows] + np.copysign(np.sqrt(2 * _CATCH_UP_MPS2 * np.abs(lag)), lag)
        hold = np.maximum((may - row_v) / dt_s, -params.idm.comfortable_brake_mps2)
        held = (state.changed_us[rows] < 0) & (not ended)
        law = np.where(held, np.minimum(law, hold), law)
    moved, after = advance(row_v, law, dt_s, params.idm)
    new_s = np.minimum(row_s + moved, stage.table.end_m[rows])
    # Those that keep their path go through their recording at a slower rate.
    walk = ~drives
    own_pace = _pace_of(stage, state)[rows]
    may_walk = np.maximum(ahead.gap_m - _WALK_GAP_M, 0.0) / _WALK_GAP_S
    keeps |= walk & row_on & (may_walk >= own_pace) & (not ended)
    wanted = np.clip(may_walk / np.maximum(own_pace, 0.1), 0.0, 1.0)
    wanted[own_pace < 0.05] = 1.0
    step_up = dt_s / np.maximum(own_pace, 0.3)
    row_rate = np.clip(
        wanted, state.rate[rows] - _WALK_BRAKE_MPS2 * step_up,
        state.rate[rows] + _WALK_START_MPS2 * step_up,
    )  # fmt: skip
    row_own = state.own_us[rows] + row_rate * (until_us - time_us)
    off = rows[~keeps & drives]
    s[off], v[off], accel[off] = (x[~keeps & drives] for x in (new_s, after, law))
    on_time[off] = False
    if guided:
        back = (np.abs(done[off] - s[off]) < _CAUGHT_M) & (np.abs(pace[off] - v[off]) < _CAUGHT_MPS)
        back &= (state.changed_us[off] < 0) & (not ended)
        on_time[off[back]] = True
    slow = rows[~keeps & walk]
    own[slow], rate[slow] = (x[~keeps & walk] for x in (row_own, row_rate))
    on_time[slow] = False
    if len(slow):
        low, high, f = timetable.columns(own[slow])
        s[slow] = timetable.done_m[slow, low] * (1 - f) + timetable.done_m[slow, high] * f
        v[slow] = rate[slow] * (
            timetable.speed_mps[slow, low] * (1 - f) + timetable.speed_mps[slow, high] * f
        )
    stood = np.where(v < 0.1, state.stood_s + dt_s, 0.0)
    return State(state.there, state.left, on_time, s, v, accel, own, rate, stood, state.changed_us)


def _emergency_mps2(speed_mps: Array, ahead: Ahead) -> Array:
    """Braking ``(R,)`` to stand behind a lead that brakes on as it does, where that is urgent.

    Those that were recorded close behind others see the law's gap enlarged; this keeps them from
    braking too late. (Gipps, "A behavioural car-following model for computer simulation",
    Transportation Research B 15, 1981: both stopping distances.) Not urgent: inf.
    """
    brakes = np.maximum(-ahead.accel_mps2, _LEAD_BRAKE_MPS2)
    room = ahead.gap_m - _LAST_M + ahead.speed_mps**2 / (2 * brakes)
    needed = speed_mps**2 / (2 * np.maximum(room, 0.05))
    return np.where(needed > _URGENT_MPS2, -np.minimum(needed, _HARDEST_MPS2), np.inf)


def _pace_of(stage: Stage, state: State) -> Array:
    """The recorded speed ``(A,)`` at everybody's own instant."""
    timetable = stage.cast.timetable
    low, high, f = timetable.columns(state.own_us)
    rows = np.arange(len(state.own_us))
    return np.asarray(
        timetable.speed_mps[rows, low] * (1 - f) + timetable.speed_mps[rows, high] * f
    )
