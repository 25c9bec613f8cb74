"""What is worked out once per session: the cast, its paths, corridors and habits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import SessionInfo
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask, Trajectory
from omniloop.traffic import controls, corridors
from omniloop.traffic.cast import Cast, cast_of
from omniloop.traffic.conflicts import Times, recorded_times
from omniloop.traffic.controls import Controls
from omniloop.traffic.corridors import Corridors, Stretches, chosen, joined, stretches_of
from omniloop.traffic.ego_view import EgoView, lead_in
from omniloop.traffic.lane_index import LaneIndex
from omniloop.traffic.laws import idm_accel
from omniloop.traffic.leads import leads_among, meeting
from omniloop.traffic.parameters import ParameterSet
from omniloop.traffic.paths import Index, Path, PathTable

_CLOSENESS = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25])
_CLOSE_SHARE = 0.1
"""How close an actor drives is what it kept to all but a tenth of the recorded time."""

_DOUBT_MPS2 = 0.3
_EVERY = 2


@dataclass(frozen=True, eq=False)
class Stage:
    """All that stays the same while nobody changes lanes; sessions share it.

    Attributes:
        rows: ``(R,)`` who looks ahead: driven actors and those that keep their path.
        drives: ``(R,)`` which of them are driven.
        row_half_m: ``(R,)`` half their lengths.
        corridors, stretches, times: Without the pairs that `brushed` names.
        passes: ``(P,)`` pairs of the corridors of whom neither is a vehicle.
        limit_mps: ``(S,)`` speed limit at each station of `table`; NaN where unknown.
        lane: ``(S,)`` lane under each station of a driven actor, -1 for none.
        closeness: ``(R,)`` share of the law's gap that each kept in the recording.
        brushed: ``(A, R)`` pairs recorded side by side so closely that corridors overlap.
    """

    cast: Cast
    lanes: LaneIndex
    table: PathTable
    rows: Index
    drives: Mask
    row_half_m: Array
    corridors: Corridors
    stretches: Stretches
    times: Times
    passes: Mask
    controls: Controls
    limit_mps: Array
    lane: Index
    closeness: Array
    brushed: Mask


def stage_of(session: SessionInfo, params: ParameterSet, guided: bool) -> Stage:
    """Set up for a session.

    Args:
        guided: Whether actors are led by the recording's pace and closeness.
    """
    scene = session.scene
    lanes = LaneIndex(scene.map)
    free_mps = None if guided else params.idm.desired_speed_mps
    cast = cast_of(scene, lanes, session.handover_us, session.end_us, free_mps)
    rows = np.flatnonzero(cast.driven | cast.kept)
    table = PathTable(cast.paths, cast.sizes_m)
    every = corridors.corridors_of(table, rows, cast.sizes_m, buffer_m(params))
    lane = np.full(len(table.s_m), -1)
    at = np.flatnonzero(cast.driven[table.owner])
    lane[at] = lanes.nearest(table.local_to_aabb[at, :2], table.tangent_rad[at])
    half_m = cast.sizes_m[rows, 0] / 2
    ego = scene.ego.shift_body(session.vehicle.rig_to_aabb)
    view = EgoView(session.vehicle.size_m, buffer_m(params))
    closeness, brushed = _habits(cast, table, rows, every, ego, view, params)
    stretches = stretches_of(table, every)
    stretches = chosen(stretches, ~brushed[stretches.other, stretches.row])
    met = corridors.without(every, brushed[every.other, every.row])
    return Stage(
        cast=cast, lanes=lanes, table=table, rows=rows, drives=cast.driven[rows],
        row_half_m=half_m, corridors=met, stretches=stretches,
        times=recorded_times(table, stretches, cast.sizes_m), passes=_passes(cast, met),
        controls=controls.controls_of(
            scene.map, lanes, table, rows, cast.driven[rows], cast.walks, lane, half_m,
            session.handover_us,
        ),
        limit_mps=_limits_mps(lanes, lane), lane=lane,
        closeness=closeness if guided else np.ones(len(rows)), brushed=brushed,
    )  # fmt: skip


def with_path(
    session: SessionInfo, params: ParameterSet, stage: Stage, who: int, path: Path, s_m: float,
    active: Mask,
) -> Stage:  # fmt: skip
    """The stage after one actor has taken another path; only what that changes is worked out.

    Args:
        s_m: Where the actor is on it.
        active: ``(A,)`` those that may still be met.
    """
    cast, was = stage.cast, stage.table
    table = was.with_path(who, path)
    every, fresh = corridors.with_new_path(
        stage.corridors, table, who, s_m, active, cast.sizes_m, buffer_m(params)
    )
    met = corridors.without(every, stage.brushed[every.other, every.row])
    keep = (stage.stretches.owner != who) & (stage.stretches.other != who)
    new = stretches_of(table, fresh)
    new = chosen(new, ~stage.brushed[new.other, new.row])
    mine = slice(int(table.start[who]), int(table.start[who + 1]))
    under = stage.lanes.nearest(table.local_to_aabb[mine, :2], table.tangent_rad[mine])
    lane = np.concatenate([stage.lane[: was.start[who]], under, stage.lane[was.start[who + 1] :]])
    row = int(np.searchsorted(stage.rows, who))
    return replace(
        stage, table=table, corridors=met,
        stretches=joined(chosen(stage.stretches, keep), new),
        times=joined(chosen(stage.times, keep), recorded_times(table, new, cast.sizes_m)),
        passes=_passes(cast, met),
        controls=controls.with_new_path(
            stage.controls, session.scene.map, stage.lanes, table, stage.rows, row, lane,
            stage.row_half_m, session.handover_us,
        ),
        limit_mps=_limits_mps(stage.lanes, lane), lane=lane,
    )  # fmt: skip


def _passes(cast: Cast, met: Corridors) -> Mask:
    """Pairs of corridors ``(P,)`` of whom neither is a vehicle."""
    return np.asarray(~(cast.vehicle[met.other] | cast.vehicle[met.rows[met.row]]))


def _limits_mps(lanes: LaneIndex, lane: Index) -> Array:
    limits = [np.nan if x.speed_limit_mps is None else x.speed_limit_mps for x in lanes.lanes]
    return np.array([*limits, np.nan])[lane]


def buffer_m(params: ParameterSet) -> float:
    """Room beside a corridor; a set that looks into lanes is given corridors without any."""
    return params.lead.buffer_m if params.lead.corridor == "widths" else 0.0


def closer(gap_m: Array, closeness: Array | float, params: ParameterSet) -> Array:
    """Gaps as those see them who keep a share of the law's; a standing gap stays what it is."""
    s0 = params.idm.min_gap_m
    return np.where(gap_m > s0, (gap_m - s0) / closeness + s0, gap_m)


def _habits(
    cast: Cast, table: PathTable, rows: Index, every: Corridors, ego: Trajectory,
    view: EgoView, params: ParameterSet,
) -> tuple[Array, Mask]:  # fmt: skip
    """How close each actor was recorded to drive, and who brushed whom.

    The law asks for a gap; whoever was recorded with a shorter one, and did not brake, is given
    a share of it: the greatest at which the law would not have braked harder than was recorded.
    """
    timetable, p, start = cast.timetable, params.idm, table.start[:-1]
    half_m, passes = cast.sizes_m[rows, 0] / 2, _passes(cast, every)
    brushed = np.zeros(len(every.row), dtype=bool)
    asked: list[Array] = []
    known: list[Mask] = []
    for column in range(0, len(timetable.times_us), _EVERY):
        done, speed = timetable.done_m[:, column], timetable.speed_mps[:, column]
        there = timetable.valid[:, column]
        station = table.station(done)
        beyond = done - table.s_m[station]
        both = there[every.other] & there[rows[every.row]]
        row_m, row_v = done[rows], speed[rows]
        pairs, entry = meeting(every, start, station, both & ~brushed)
        other, row = every.other[pairs], every.row[pairs]
        mid, half, along = every.boxes.at(entry)
        mid += along * beyond[other]
        gap = mid - half - row_m[row] - half_m[row]
        brushed[pairs[(mid > row_m[row]) & (gap < 0)]] = True
        leads = leads_among(
            every, start, station, beyond, speed, row_m, half_m, both & ~brushed, passes
        )
        lead_gap, lead_v = leads.gap_m, leads.speed_mps
        time_us = int(timetable.times_us[column])
        if ego.start_us <= time_us <= ego.end_us:
            box, heading, ego_v = ego_box(ego, time_us)
            view.focus(table, rows, cast.sizes_m, box[:2], np.inf)
            sight = view.seen(box[None], np.array([heading]))
            ego_gap, ego_along = lead_in(sight, ego_v, row_m, half_m)
            nearer = ego_gap < lead_gap
            lead_gap, lead_v = (
                np.where(nearer, ego_gap, lead_gap),
                np.where(nearer, ego_along, lead_v),
            )
        after = timetable.speed_mps[rows, min(column + 1, len(timetable.times_us) - 1)]
        recorded = (after - row_v) / 0.1 - _DOUBT_MPS2
        wish = np.maximum(table.pace_mps[station[rows]], np.maximum(row_v, 1.0)) * 1.1
        shares = idm_accel(row_v, wish, closer(lead_gap, _CLOSENESS[:, None], params), lead_v, p)
        fits = shares >= np.minimum(recorded, 0.0)
        asked.append(np.where(fits.any(axis=0), _CLOSENESS[fits.argmax(axis=0)], _CLOSENESS[-1]))
        known.append(there[rows] & np.isfinite(lead_gap) & (row_v > 0.5))
    side_by_side = np.zeros((len(cast.paths), len(rows)), dtype=bool)
    side_by_side[every.other[brushed], every.row[brushed]] = True
    out = np.ones(len(rows))
    if not len(rows):
        return out, side_by_side
    values = np.where(np.array(known), np.array(asked), np.nan)
    for r in range(len(rows)):
        told = values[~np.isnan(values[:, r]), r]
        if len(told):
            out[r] = np.quantile(told, _CLOSE_SHARE, method="lower")
    return out, side_by_side


def ego_box(ego: Trajectory, time_us: int) -> tuple[Array, float, float]:
    """Ego's pose, heading and speed at a time inside its trajectory (of whatever point)."""
    lo, hi = max(time_us - 100_000, ego.start_us), min(time_us + 100_000, ego.end_us)
    poses = ego.sample([lo, time_us, hi])
    step = poses[2, :2] - poses[0, :2]
    heading = float(geometry.yaw_rad(poses[1]))
    speed = float(np.cos(heading) * step[0] + np.sin(heading) * step[1]) / max(
        (hi - lo) / 1e6, 1e-6
    )
    return poses[1], heading, speed
