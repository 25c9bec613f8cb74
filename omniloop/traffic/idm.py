"""Reactive traffic: vehicles follow their lanes by the Intelligent Driver Model."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import SessionInfo, TrafficRequest
from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion, Trajectory
from omniloop.core.replay import RecordedActors
from omniloop.core.time import MAX_STATE_STEP_US
from omniloop.traffic.drive import Ego, State, look_ahead, step
from omniloop.traffic.entries import first_taken
from omniloop.traffic.parameters import parameter_set
from omniloop.traffic.stage import ego_box, stage_of

_ON_TIME_M = 0.5
"""Ego is taken to do what was recorded when it is this close to its recorded place."""

_ADOPT_M = 0.01
"""A committed position that is further than this from what was answered is adopted."""

_FADE_M = 8.0
"""An offset from the path fades out over about this distance."""


class IdmTraffic:
    """Vehicles follow their recorded ways along lanes and react to ego and to each other.

    Args:
        params: Parameter set: "omniloop", "nuplan", "waymax" or "highway_env".

    Raises:
        ConfigError: there is no such set.
    """

    def __init__(self, params: str = "omniloop") -> None:
        self._params = parameter_set(params)

    def open(self, session: SessionInfo) -> IdmSession:
        """Begin a rollout."""
        return IdmSession(session, self._params)


class IdmSession:
    """One rollout's traffic."""

    def __init__(self, session, params) -> None:
        self._info = session
        self._params = params
        self._guided = params.name == "omniloop"
        scene = session.scene
        self._recorded = RecordedActors(scene)
        self._stage = stage_of(session, params, self._guided)
        n = len(scene.tracks)
        self._ego_recorded = scene.ego.shift_body(session.vehicle.rig_to_aabb)
        self._state: State | None = None
        self._out = np.tile(geometry.IDENTITY, (n, 1))
        self._offset = np.zeros((n, 4))
        self._ego_last: tuple[int, Array] | None = None
        self._speed_last = None
        self._late = np.zeros(n, dtype=bool)
        self._grid_poses = scene.recorded_actors(self._stage.cast.timetable.times_us).local_to_aabb

    def facts(self) -> dict[str, object]:
        cast = self._stage.cast
        ids = [a.id for a in self._info.scene.actors]
        refused = cast.entry >= 0
        state = self._state
        never = [] if state is None else [ids[i] for i in np.flatnonzero(self._late & ~state.there & ~state.left)]
        return {
            "idm": int(cast.driven.sum()),
            "kept_path": int(cast.kept.sum()),
            "log_replay": int(len(ids) - cast.driven.sum() - cast.kept.sum()),
            "no_lane": [ids[i] for i in np.flatnonzero(cast.no_lane)],
            "late_entries": int(self._late.sum()) - len(never),
            "refused_entries": len(never),
        }

    def step(self, request: TrafficRequest) -> ActorMotion:
        """Return everybody's motion through ``(time_us, target_us]``."""
        handover = self._info.handover_us
        if request.time_us < handover:
            return self._recorded.between(request.time_us, request.target_us)
        if self._state is None:
            self._begin(request)
        else:
            self._adopt(request)
        times = self._times(request.time_us, request.target_us)
        rec = self._recorded.at(times)
        poses, valid = rec.local_to_aabb.copy(), rec.valid.copy()
        ego = self._ego_track(request)
        self._stage.ego.focus(request.ego_local_to_aabb.poses[-1, :2], 120.0)
        since = request.time_us
        for j, until in enumerate(times.tolist()):
            self._inner(since, until, ego, poses[:, j], valid[:, j])
            since = until
        poses[~valid] = geometry.IDENTITY
        return ActorMotion(times, poses, valid)

    def _times(self, time_us: int, target_us: int):
        """The grid anchored at handover inside the interval, and its end."""
        first = (time_us - self._info.handover_us) // MAX_STATE_STEP_US + 1
        inner = np.arange(
            self._info.handover_us + first * MAX_STATE_STEP_US, target_us, MAX_STATE_STEP_US
        )
        return np.append(inner, target_us).astype(np.int64)

    def _begin(self, request: TrafficRequest) -> None:
        cast, time_us = self._stage.cast, request.time_us
        n = len(cast.paths)
        done, pace = cast.timetable.at(time_us)
        there = request.current.valid[:, 0].copy()
        rec = self._recorded.at(np.array([time_us]))
        on_time = np.ones(n, dtype=bool)
        if not self._guided:
            on_time[cast.driven] = False
        zero = np.zeros(n)
        self._state = State(
            there, np.zeros(n, dtype=bool), on_time, done.copy(), pace.copy(), zero,
            np.full(n, float(time_us)), np.ones(n), zero.copy(),
        )  # fmt: skip
        self._out = rec.local_to_aabb[:, 0].copy()
        off = np.flatnonzero(~on_time & there)
        self._offset[off] = _difference(self._out[off], self._own_poses(self._state, off))
        self._adopt(request)

    def _adopt(self, request: TrafficRequest) -> None:
        """Take committed places where they are not those that were answered."""
        state, current = self._state, request.current
        state.there = current.valid[:, 0] & ~state.left
        gap = np.abs(current.local_to_aabb[:, 0, :2] - self._out[:, :2]).max(axis=1)
        moved = np.flatnonzero(state.there & (gap > _ADOPT_M) & (self._stage.cast.driven))
        for who in moved.tolist():
            path = self._stage.table.paths[who]
            now = current.local_to_aabb[who, 0]
            state.s_m[who] = geometry.project_on_polyline(now[None, :2], path.local_to_aabb[:, :2])[0][0]
            state.on_time[who] = False
            self._out[who] = now
        if len(moved):
            self._offset[moved] = _difference(self._out[moved], self._own_poses(state, moved))

    def _ego_track(self, request: TrafficRequest) -> Trajectory:
        given = request.ego_local_to_aabb
        time_us = request.time_us
        if self._ego_last is None or self._ego_last[0] > time_us:
            start = self._ego_recorded.sample_clamped([time_us - 100_000, time_us])
            times = [time_us - 100_000, time_us]
        else:
            t0, p0, p1 = self._ego_last[0], self._ego_last[1], self._ego_last[2]
            times, start = [t0, time_us], np.stack([p0, p1])
        whole = Trajectory.unchecked(
            np.append(times, given.times_us).astype(np.int64), np.vstack([start, given.poses])
        )
        before = whole.sample_clamped([request.target_us - 100_000])[0]
        self._ego_last = (request.target_us - 100_000, before, given.poses[-1])
        return whole

    def _ego_at(self, ego: Trajectory, time_us: int) -> Ego:
        lo = max(time_us - 100_000, ego.start_us)
        poses = ego.sample([lo, time_us])
        dt = (time_us - lo) / 1e6
        yaw = geometry.yaw_rad(poses)
        d = poses[1, :2] - poses[0, :2]
        speed = float(np.cos(yaw[1]) * d[0] + np.sin(yaw[1]) * d[1]) / dt
        turn = float(geometry.wrap_rad(yaw[1] - yaw[0])) / dt
        on = False
        if time_us <= self._ego_recorded.end_us:
            r = self._ego_recorded.sample([time_us])[0]
            on = bool(np.hypot(*(r[:2] - poses[1, :2])) < _ON_TIME_M)
        accel = 0.0 if self._speed_last is None else (speed - self._speed_last) / dt
        self._speed_last = speed
        return Ego(poses[1], float(yaw[1]), speed, accel, turn, on)

    def _inner(self, since: int, until: int, ego_track: Trajectory, poses: Array, valid) -> None:
        stage, state = self._stage, self._state
        ego = self._ego_at(ego_track, until)
        ahead = look_ahead(
            stage, self._params, state, ego, since, (since - self._info.handover_us) / 1e6, self._guided
        )
        new = step(stage, self._params, state, ahead, since, until, self._guided)
        there = state.there
        # poses
        was, now = state.on_time, new.on_time
        left_now = np.flatnonzero(was & ~now & there)
        if len(left_now):
            self._offset[left_now] = _difference(self._out[left_now], self._own_poses(state, left_now))
        fade = np.exp(-np.abs(new.s_m - state.s_m) / _FADE_M)
        self._offset *= fade[:, None]
        off = np.flatnonzero(~was & there | ~now & there)
        recorded = poses.copy()
        if len(off):
            poses[off] = _shifted(self._own_poses(new, off), self._offset[off])
        back = np.flatnonzero(~was & now & there)
        if len(back):
            self._offset[back] = _difference(poses[back], recorded[back])
        keep = np.flatnonzero(was & now & there & (np.abs(self._offset).max(axis=1) > 1e-4))
        if len(keep):
            poses[keep] = _shifted(recorded[keep], self._offset[keep])
        self._come_and_go(new, ego, until, poses, valid)
        self._out = poses.copy()
        self._state = new

    def _come_and_go(self, state: State, ego: Ego, until: int, poses: Array, valid) -> None:
        """Entries and departures at `until`; sets `valid` and the poses of who enters late."""
        stage = self._stage
        cast, timetable = stage.cast, stage.cast.timetable
        there, left = state.there.copy(), state.left.copy()
        recorded = valid.copy()
        ended = until > timetable.times_us[-1]
        over = until >= timetable.times_us[np.maximum(cast.last, 0)]
        # Leave: on time as recorded; late ones where the recording left them.
        goes = there & state.on_time & ~recorded
        off = there & ~state.on_time
        at_end = state.s_m >= stage.table.end_m - 0.05
        fast = stage.table.pace_mps[stage.table.start[1:] - 1] > 1.0
        goes |= off & cast.driven & at_end & (over | fast)
        goes |= off & cast.kept & ~cast.goes_on & (state.own_us >= timetable.times_us[np.maximum(cast.last, 0)])
        there &= ~goes
        left |= goes & over
        # Appear.
        first = (cast.entry >= 0) & ~there & ~left & ~ended
        waits = first & self._late
        fresh = first & ~self._late & recorded
        who = np.flatnonzero(waits | fresh)
        if len(who):
            boxes = poses[who].copy()
            entry = self._grid_poses[who, cast.entry[who]]
            own = waits[who] & (cast.driven | cast.kept)[who]
            boxes[own] = entry[own]
            gone = waits[who] & ~own & ~recorded[who]
            counts = there & ~state.on_time
            taken = first_taken(who, boxes, counts, poses, cast.sizes_m,
                                None if ego.on_time else ego.local_to_aabb, self._info.vehicle.size_m)  # fmt: skip
            again = waits[who] & own
            if again.any():
                taken[again] |= first_taken(who[again], boxes[again], there, poses, cast.sizes_m,
                                            ego.local_to_aabb, self._info.vehicle.size_m)
            self._late[who[taken]] = True
            come = ~taken & ~gone
            there[who[come]] = True
            late = who[come & own]
            poses[late] = boxes[come & own]
            state.on_time[late] = False
            state.s_m[late] = 0.0
            state.own_us[late] = timetable.times_us[cast.entry[late]]
            state.v_mps[late] = timetable.speed_mps[late, cast.entry[late]]
            self._offset[who[come]] = 0.0
            state.on_time[who[come & ~own]] = True
            if not self._guided:
                fresh_driven = who[come & ~own & cast.driven[who]]
                state.on_time[fresh_driven] = False
                self._offset[fresh_driven] = _difference(poses[fresh_driven], self._own_poses(state, fresh_driven))
        valid[:] = there
        state.there, state.left = there, left

    def _own_poses(self, state: State, who) -> Array:
        """Poses on their own paths ``(N, 7)`` of actors `who`."""
        stage = self._stage
        out = stage.table.poses(state.s_m, stage.table.station(state.s_m))[who]
        kept = ~stage.cast.driven[who]
        if kept.any():
            rows = who[kept]
            low, high, f = stage.cast.timetable.columns(state.own_us[rows])
            entry, last = stage.cast.entry[rows], stage.cast.last[rows]
            low, high = np.clip(low, entry, last), np.clip(high, entry, last)
            out[kept] = geometry.interpolate_poses(self._grid_poses[rows, low], self._grid_poses[rows, high], f)
        return out


def _difference(poses: Array, base: Array) -> Array:
    """Offsets ``(N, 4)``: x, y, z and yaw of poses from base poses."""
    yaw = geometry.wrap_rad(geometry.yaw_rad(poses) - geometry.yaw_rad(base))
    return np.column_stack([poses[:, :3] - base[:, :3], yaw])


def _shifted(base: Array, offset: Array) -> Array:
    """Base poses moved and turned by offsets ``(N, 4)``."""
    out = base.copy()
    out[:, :3] += offset[:, :3]
    half = offset[:, 3] / 2
    turn = np.zeros((len(base), 4))
    turn[:, 2], turn[:, 3] = np.sin(half), np.cos(half)
    out[:, 3:] = geometry.quat_multiply(turn, base[:, 3:])
    return out
