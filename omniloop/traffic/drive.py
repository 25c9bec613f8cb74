"""The state of all actors, and one step of it of at most 100 ms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.traffic.conflicts import yields, yields_to_ego
from omniloop.traffic.controls import stops
from omniloop.traffic.ego_track import Ego
from omniloop.traffic.ego_view import NOTHING, Outlook, lead_in
from omniloop.traffic.laws import advance, idm_accel
from omniloop.traffic.leads import Leads, leads_among
from omniloop.traffic.parameters import ParameterSet
from omniloop.traffic.paths import Index
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
_MOVES_MPS = 0.3
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
    brakes, a brake for those that must let others pass (at most 0; inf if none), and how fast each
    would drive on a free road."""

    gap_m: Array
    speed_mps: Array
    accel_mps2: Array
    yield_mps2: Array
    wish_mps: Array


def look_ahead(
    stage: Stage,
    params: ParameterSet,
    state: State,
    ego: Ego,
    outlook: Outlook,
    k: int,
    time_us: int,
    now_s: float,
    guided: bool,
) -> Ahead:
    """Leads in all corridors, and those that cross or merge.

    Two that both do what was recorded are no concern of each other: the recording shows how
    it went.

    Args:
        outlook: What is seen of ego in the interval, and `k` the number of this step in it.
    """
    table, rows = stage.table, stage.rows
    c = stage.corridors
    station = table.station(state.s_m)
    beyond = state.s_m - table.s_m[station]
    row_m, row_v, row_on = state.s_m[rows], state.v_mps[rows], state.on_time[rows]
    counts = state.there[c.other] & ~(state.on_time[c.other] & row_on[c.row])
    leads: Leads = leads_among(
        c, table.start[:-1], station, beyond, state.v_mps, row_m, stage.row_half_m, counts, stage.passes,
        params.lead.projected_speed,
    )  # fmt: skip
    gap, speed = leads.gap_m, leads.speed_mps
    accel = np.where(leads.who >= 0, state.accel_mps2[leads.who], 0.0) if len(gap) else gap
    later, led = NOTHING, np.zeros(len(rows), dtype=bool)
    if not ego.on_time or not row_on.all():
        sight, later = outlook.at(k)
        ego_gap, ego_speed = lead_in(sight, ego.speed_mps, row_m, stage.row_half_m)
        led = ego_gap < np.inf
        if ego.on_time:
            ego_gap[row_on] = np.inf
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
    wish = _wish_mps(stage, params, station[rows], guided)
    everyone = state.v_mps.copy()
    everyone[rows] = wish
    walkers = rows[~stage.drives]
    if len(walkers):
        everyone[walkers] = np.maximum(_pace_of(stage, state, walkers), 0.5)
    half = stage.cast.sizes_m[:, 0] / 2
    brake, room = yields(
        stage.stretches, stage.times, now_s, state.there, state.on_time, state.s_m, state.v_mps,
        everyone, state.stood_s, half, stage.cast.walks, len(rows), guided,
    )  # fmt: skip
    if not ego.on_time and abs(ego.speed_mps) >= _MOVES_MPS:
        for_ego = yields_to_ego(later, row_m, stage.row_half_m, row_v, everyone[rows], led)
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
    return Ahead(gap, np.maximum(speed, 0.0), accel, brake, wish)


def _wish_mps(stage: Stage, params: ParameterSet, station: Index, guided: bool) -> Array:
    """Desired speeds ``(R,)`` at stations ``(R,)``."""
    if guided:
        pace = stage.table.pace_mps[station] * _HASTE
        return np.maximum(pace, _LEAST_WISH_MPS)
    p, limit = params.idm, stage.limit_mps[station]
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
    ended = until_us > timetable.times_us[-1]
    now = State(state.there, state.left, on_time, s, v, accel, own, rate, state.stood_s,
                state.changed_us)  # fmt: skip
    # Who is on time and free is where it was recorded.
    busy = ~on_time[rows] | (ahead.gap_m < np.inf) | (ahead.yield_mps2 < np.inf) | ended
    busy &= state.there[rows]
    cars, walkers = np.flatnonzero(busy & drives), np.flatnonzero(busy & ~drives)
    if len(cars):
        _drive(stage, params, state, ahead, now, cars, until_us, dt_s, guided, ended)
    if len(walkers):
        _walk(stage, state, ahead, now, walkers, until_us - time_us, ended)
    now.stood_s = np.where(v < 0.1, state.stood_s + dt_s, 0.0)
    return now


def _drive(
    stage: Stage, params: ParameterSet, state: State, ahead: Ahead, now: State, cars: Index,
    until_us: int, dt_s: float, guided: bool, ended: bool,
) -> None:  # fmt: skip
    """Move vehicles, some of the rows, by the law; `now` holds what was recorded."""
    who = stage.rows[cars]
    row_s, row_v, row_on = state.s_m[who], state.v_mps[who], state.on_time[who]
    gap, lead_v, yields_at = ahead.gap_m[cars], ahead.speed_mps[cars], ahead.yield_mps2[cars]
    wish = np.maximum(ahead.wish_mps[cars], np.where(row_on, row_v * 1.2, 0.1))
    law = idm_accel(row_v, wish, closer(gap, stage.closeness[cars], params), lead_v, params.idm)
    np.minimum(law, yields_at, out=law)
    if guided:
        np.minimum(law, _emergency_mps2(row_v, gap, lead_v, ahead.accel_mps2[cars]), out=law)
    off = np.ones(len(who), dtype=bool)
    if not ended:
        free = np.isinf(gap) & np.isinf(yields_at)
        off = ~(row_on & (free | (law >= now.accel_mps2[who] - _DOUBT_MPS2)))
        if not off.any():
            return
    who, law, row_s, row_v = who[off], law[off], row_s[off], row_v[off]
    done, pace = now.s_m[who], now.v_mps[who]
    held = state.changed_us[who] < 0
    if guided and not ended:
        lag = done - (row_s + row_v * dt_s)
        may = pace + np.copysign(np.sqrt(2 * _CATCH_UP_MPS2 * np.abs(lag)), lag)
        hold = np.maximum((may - row_v) / dt_s, -params.idm.comfortable_brake_mps2)
        law = np.where(held, np.minimum(law, hold), law)
    moved, after = advance(row_v, law, dt_s, params.idm)
    new_s = np.minimum(row_s + moved, stage.table.end_m[who])
    now.s_m[who], now.v_mps[who], now.accel_mps2[who] = new_s, after, law
    now.on_time[who] = False
    if guided and not ended:
        back = (np.abs(done - new_s) < _CAUGHT_M) & (np.abs(pace - after) < _CAUGHT_MPS)
        now.on_time[who[back & held]] = True


def _walk(
    stage: Stage, state: State, ahead: Ahead, now: State, walkers: Index, gone_us: int, ended: bool
) -> None:
    """Move those that keep their path, some of the rows: through their recording, slower."""
    who, timetable, dt_s = stage.rows[walkers], stage.cast.timetable, gone_us * _US
    own_pace = _pace_of(stage, state, who)
    may = np.maximum(ahead.gap_m[walkers] - _WALK_GAP_M, 0.0) / _WALK_GAP_S
    wanted = np.minimum(may / np.maximum(own_pace, 0.1), 1.0)
    wanted[own_pace < 0.05] = 1.0
    step_up, was = dt_s / np.maximum(own_pace, 0.3), state.rate[who]
    rate = np.clip(wanted, was - _WALK_BRAKE_MPS2 * step_up, was + _WALK_START_MPS2 * step_up)
    own = state.own_us[who] + rate * gone_us
    slow = ~(state.on_time[who] & (may >= own_pace)) | ended
    who, own, rate = who[slow], own[slow], rate[slow]
    now.own_us[who], now.rate[who], now.on_time[who] = own, rate, False
    low, high, f = timetable.columns(own)
    now.s_m[who] = timetable.done_m[who, low] * (1 - f) + timetable.done_m[who, high] * f
    speed = timetable.speed_mps[who, low] * (1 - f) + timetable.speed_mps[who, high] * f
    now.v_mps[who] = rate * speed


def _emergency_mps2(
    speed_mps: Array, gap_m: Array, lead_mps: Array, lead_accel_mps2: Array
) -> Array:
    """Braking ``(N,)`` to stand behind a lead that brakes on as it does, where that is urgent.

    Those that were recorded close behind others see the law's gap enlarged; this keeps them from
    braking too late. (Gipps, "A behavioural car-following model for computer simulation",
    Transportation Research B 15, 1981: both stopping distances.) Not urgent: inf.
    """
    brakes = np.maximum(-lead_accel_mps2, _LEAD_BRAKE_MPS2)
    room = gap_m - _LAST_M + lead_mps**2 / (2 * brakes)
    needed = speed_mps**2 / (2 * np.maximum(room, 0.05))
    return np.where(needed > _URGENT_MPS2, -np.minimum(needed, _HARDEST_MPS2), np.inf)


def _pace_of(stage: Stage, state: State, who: Index) -> Array:
    """The recorded speed ``(N,)`` of actors ``(N,)``, each at its own instant."""
    timetable = stage.cast.timetable
    low, high, f = timetable.columns(state.own_us[who])
    speed = timetable.speed_mps
    return np.asarray(speed[who, low] * (1 - f) + speed[who, high] * f)
