"""What is worked out once per session: the cast, its paths, corridors and habits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import SessionInfo
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask, Trajectory
from omniloop.traffic.cast import Cast, cast_of
from omniloop.traffic.conflicts import Times, recorded_times
from omniloop.traffic.controls import Controls, controls_of
from omniloop.traffic.corridors import (
    Corridors,
    Stretches,
    chosen,
    corridors_of,
    joined,
    stretches_of,
    with_new_path,
)
from omniloop.traffic.lane_index import LaneIndex
from omniloop.traffic.laws import idm_accel
from omniloop.traffic.leads import EgoView, leads_among
from omniloop.traffic.parameters import ParameterSet
from omniloop.traffic.paths import Index, Path, PathTable

_CLOSENESS = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25])
_CLOSE_SHARE = 0.1
"""How close an actor drives is what it kept to all but a tenth of the recorded time."""

_DOUBT_MPS2 = 0.3
_EVERY = 2


@dataclass(frozen=True, eq=False)
class Stage:
    """All that stays the same while nobody changes lanes.

    Attributes:
        rows: ``(R,)`` who looks ahead: driven actors and those that keep their path.
        drives: ``(R,)`` which of them are driven.
        row_half_m: ``(R,)`` half their lengths.
        limit_mps: ``(S,)`` speed limit at each station of `table`; NaN where unknown.
        lane: ``(S,)`` lane under each station of a driven actor, -1 for none.
        closeness: ``(R,)`` share of the law's gap that each kept in the recording.
        brushed: ``(A, R)`` pairs recorded side by side so closely that corridors overlap.
        passes: ``(A, R)`` pairs of whom neither is a vehicle.
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
    controls: Controls
    ego: EgoView
    limit_mps: Array
    lane: Index
    closeness: Array
    brushed: Mask
    passes: Mask


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
    table = PathTable(cast.paths)
    corridors = corridors_of(table, rows, cast.sizes_m, _buffer_m(params))
    stage = _stage(
        session, params, cast, lanes, table, rows, corridors, stretches_of(table, corridors),
        _lanes_under(lanes, table, cast.driven[table.owner]), np.ones(len(rows)),
        np.zeros((len(cast.paths), len(rows)), dtype=bool),
    )  # fmt: skip
    closeness, brushed = _habits(stage, scene.ego.shift_body(session.vehicle.rig_to_aabb), params)
    return replace(stage, closeness=closeness if guided else np.ones(len(rows)), brushed=brushed)


def with_path(
    session: SessionInfo, params: ParameterSet, stage: Stage, who: int, path: Path
) -> Stage:
    """The stage after one actor has taken another path; only what that changes is worked out."""
    paths = list(stage.table.paths)
    paths[who] = path
    cast, was, table = stage.cast, stage.table, PathTable(paths)
    corridors = with_new_path(stage.corridors, was, table, who, cast.sizes_m, _buffer_m(params))
    row = int(np.searchsorted(stage.rows, who))
    others = stretches_of(table, corridors, who=who)
    stretches = joined(
        chosen(stage.stretches, (stage.stretches.owner != who) & (stage.stretches.other != who)),
        chosen(others, others.owner != who),
        stretches_of(table, corridors, slice(row, row + 1)),
    )
    mine = table.owner == who
    lane = np.empty(len(table.s_m), dtype=np.int64)
    lane[~mine] = stage.lane[was.owner != who]
    lane[mine] = _lanes_under(stage.lanes, table, mine)[mine]
    return _stage(
        session, params, cast, stage.lanes, table, stage.rows, corridors, stretches, lane,
        stage.closeness, stage.brushed,
    )  # fmt: skip


def _lanes_under(lanes: LaneIndex, table: PathTable, wanted: Mask) -> Index:
    """Lanes ``(S,)`` under the stations that are wanted, -1 elsewhere and for none."""
    lane = np.full(len(table.s_m), -1)
    at = np.flatnonzero(wanted)
    lane[at] = lanes.nearest(table.local_to_aabb[at, :2], table.tangent_rad[at])
    return lane


def _stage(
    session: SessionInfo, params: ParameterSet, cast: Cast, lanes: LaneIndex, table: PathTable,
    rows: Index, corridors: Corridors, stretches: Stretches, lane: Index, closeness: Array,
    brushed: Mask,
) -> Stage:  # fmt: skip
    limits = np.array(
        [np.nan if x.speed_limit_mps is None else x.speed_limit_mps for x in lanes.lanes] + [np.nan]
    )
    half_m = cast.sizes_m[rows, 0] / 2
    return Stage(
        cast=cast, lanes=lanes, table=table, rows=rows, drives=cast.driven[rows],
        row_half_m=half_m, corridors=corridors, stretches=stretches,
        times=recorded_times(table, stretches, cast.sizes_m),
        controls=controls_of(
            session.scene.map, lanes, table, rows, cast.driven[rows], cast.walks, lane, half_m,
            session.handover_us,
        ),
        ego=EgoView(table, rows, cast.sizes_m, session.vehicle.size_m, _buffer_m(params)),
        limit_mps=limits[lane], lane=lane, closeness=closeness, brushed=brushed,
        passes=~(cast.vehicle[:, None] | cast.vehicle[rows]),
    )  # fmt: skip


def _buffer_m(params: ParameterSet) -> float:
    """Room beside a corridor; a set that looks into lanes is given corridors without any."""
    return params.lead.buffer_m if params.lead.corridor == "widths" else 0.0


def closer(gap_m: Array, closeness: Array | float, params: ParameterSet) -> Array:
    """Gaps as those see them who keep a share of the law's; a standing gap stays what it is."""
    s0 = params.idm.min_gap_m
    return np.where(gap_m > s0, (gap_m - s0) / closeness + s0, gap_m)


def _habits(stage: Stage, ego: Trajectory, params: ParameterSet) -> tuple[Array, Mask]:
    """How close each actor was recorded to drive, and who brushed whom.

    The law asks for a gap; whoever was recorded with a shorter one, and did not brake, is given
    a share of it: the greatest at which the law would not have braked harder than was recorded.
    """
    cast, table, rows = stage.cast, stage.table, stage.rows
    timetable, p = cast.timetable, params.idm
    brushed = np.zeros((len(cast.paths), len(rows)), dtype=bool)
    asked: list[Array] = []
    known: list[Mask] = []
    for column in range(0, len(timetable.times_us), _EVERY):
        done, speed = timetable.done_m[:, column], timetable.speed_mps[:, column]
        there = timetable.valid[:, column]
        station = table.station(done)
        both = there[:, None] & there[rows]
        row_m, row_v = done[rows], speed[rows]
        beyond = done - table.s_m[station]
        mid = stage.corridors.mid_m[station] + stage.corridors.along[station] * beyond[:, None]
        gap = mid - stage.corridors.half_m[station] - row_m - stage.row_half_m
        brushed |= both & (mid > row_m) & (gap < 0) & np.isfinite(mid)
        leads = leads_among(
            stage.corridors, station, beyond, speed, row_m, stage.row_half_m, both & ~brushed,
            stage.passes,
        )  # fmt: skip
        lead_gap, lead_v = leads.gap_m, leads.speed_mps
        time_us = int(timetable.times_us[column])
        if ego.start_us <= time_us <= ego.end_us:
            box, heading, ego_v = ego_box(ego, time_us)
            stage.ego.focus(box[:2], np.inf)
            ego_gap, ego_along = stage.ego.lead(box, heading, ego_v, row_m, stage.row_half_m)
            nearer = ego_gap < lead_gap
            lead_gap, lead_v = (
                np.where(nearer, ego_gap, lead_gap),
                np.where(nearer, ego_along, lead_v),
            )
        after = timetable.speed_mps[rows, min(column + 1, len(timetable.times_us) - 1)]
        recorded = (after - row_v) / 0.1 - _DOUBT_MPS2
        wish = np.maximum(table.pace_mps[station[rows]], np.maximum(row_v, 1.0)) * 1.1
        shares = np.array([
            idm_accel(row_v, wish, closer(lead_gap, k, params), lead_v, p) for k in _CLOSENESS
        ])  # fmt: skip
        fits = shares >= np.minimum(recorded, 0.0)
        asked.append(np.where(fits.any(axis=0), _CLOSENESS[fits.argmax(axis=0)], _CLOSENESS[-1]))
        known.append(there[rows] & np.isfinite(lead_gap) & (row_v > 0.5))
    if not len(rows):
        return np.ones(0), brushed
    values = np.where(np.array(known), np.array(asked), np.nan)
    out = np.ones(len(rows))
    for r in range(len(rows)):
        told = values[~np.isnan(values[:, r]), r]
        if len(told):
            out[r] = np.quantile(told, _CLOSE_SHARE, method="lower")
    return out, brushed


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
