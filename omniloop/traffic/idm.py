"""Reactive traffic: vehicles on their lanes by the Intelligent Driver Model."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import SessionInfo, TrafficRequest
from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion, Mask, Times
from omniloop.core.time import MAX_STATE_STEP_US, US_PER_S
from omniloop.traffic.changes import next_change
from omniloop.traffic.drive import Ahead, State, look_ahead, step
from omniloop.traffic.ego_track import Ego, EgoTrack
from omniloop.traffic.ego_view import EgoView, Outlook
from omniloop.traffic.entries import Doors
from omniloop.traffic.parameters import ParameterSet, parameter_set
from omniloop.traffic.placing import Placing
from omniloop.traffic.shared import Setting, Settings
from omniloop.traffic.stage import buffer_m, with_path

_ADOPT_M = 0.01
"""A committed position further than this from what was answered is adopted; float32 is nearer."""

_SIGHT_M = 80.0
"""Ego is looked at by those whose paths come this close to it."""

_GUIDED = "omniloop"


class IdmTraffic:
    """Vehicles follow their recorded ways along lanes and react to ego and to each other.

    Args:
        params: Parameter set: "omniloop", "nuplan", "waymax" or "highway_env". With "omniloop"
            actors keep to the recorded pace until something departs from the recording; with
            the others vehicles follow that set's law from handover on.

    Raises:
        ConfigError: there is no such set.
    """

    def __init__(self, params: str = "omniloop") -> None:
        self._params = parameter_set(params)
        self._settings = Settings(self._params, self._params.name == _GUIDED)

    def open(self, session: SessionInfo) -> IdmSession:
        """Begin a rollout; sessions of one scene share what is worked out for the first."""
        return IdmSession(session, self._params, self._settings.of(session))


class IdmSession:
    """One rollout's traffic."""

    def __init__(self, session: SessionInfo, params: ParameterSet, setting: Setting) -> None:
        self._info, self._params = session, params
        self._guided = params.name == _GUIDED
        self._recorded, self._stage = setting.recorded, setting.stage
        self._placing = Placing(setting.grid_poses)
        self._doors = Doors(len(session.scene.tracks), session.vehicle.size_m, self._guided)
        self._ego = EgoTrack(session)
        self._view = EgoView(session.vehicle.size_m, buffer_m(params))
        self._state: State | None = None
        self._poses = np.tile(geometry.IDENTITY, (len(session.scene.tracks), 1))
        self._lane_changes = 0

    def facts(self) -> dict[str, object]:
        """How many actors are driven how, and what happened to them."""
        cast, state = self._stage.cast, self._state
        actors = self._info.scene.actors
        ids = [actor.id for actor in actors]
        came = np.zeros(len(ids), dtype=bool) if state is None else state.there | state.left
        delayed = self._doors.delayed
        no_lane = [ids[i] for i in np.flatnonzero(cast.no_lane)]
        return {
            "params": self._params.name,
            "idm": int(cast.driven.sum()),
            "kept_path": int(cast.kept.sum()),
            "static": int(cast.static.sum()),
            "scripted": int(cast.scripted.sum()),
            "log_replay": len(no_lane),
            "no_lane": no_lane,
            "lane_changes": self._lane_changes,
            "late_entries": int((delayed & came).sum()),
            "refused_entries": int((delayed & ~came).sum()),
            "lights_not_believed": list(self._stage.controls.disbelieved),
        }

    def step(self, request: TrafficRequest) -> ActorMotion:
        """Return everybody's motion through ``(time_us, target_us]``."""
        if request.time_us < self._info.handover_us:
            return self._recorded.between(request.time_us, request.target_us)
        if self._state is None:
            self._state = self._begin(request)
        self._adopt(self._state, request)
        self._ego.extend(request.time_us, request.ego_local_to_aabb)
        times = self._times(request.time_us, request.target_us)
        egos = [self._ego.at(until) for until in times.tolist()]
        outlook = self._look_out(request.ego_local_to_aabb.poses[-1, :2], egos)
        answer = self._recorded.at(times)
        poses, valid = answer.local_to_aabb.copy(), answer.valid.copy()
        since = request.time_us
        for k, until in enumerate(times.tolist()):
            ahead = self._ahead(since, egos[k], outlook, k)
            if self._change_lanes(since, egos[k], ahead):
                outlook = self._look_out(egos[k].local_to_aabb[:2], egos)
                ahead = self._ahead(since, egos[k], outlook, k)
            poses[:, k] = self._move(since, until, egos[k], ahead, poses[:, k], valid[:, k])
            valid[:, k] = self._state.there
            since = until
        poses[~valid] = geometry.IDENTITY
        return ActorMotion(times, poses, valid)

    def _times(self, time_us: int, target_us: int) -> Times:
        """The times of a 100 ms grid anchored at handover inside the interval, and its end."""
        handover_us, grid_us = self._info.handover_us, MAX_STATE_STEP_US
        first = (time_us - handover_us) // grid_us + 1
        inner = np.arange(handover_us + first * grid_us, target_us, grid_us, dtype=np.int64)
        return np.append(inner, np.int64(target_us))

    def _begin(self, request: TrafficRequest) -> State:
        """Everybody at handover: where it was recorded, as fast as it was recorded.

        Who was recorded there and is not in the world stays away, as later.
        """
        cast, time_us = self._stage.cast, request.time_us
        n = len(cast.paths)
        done, speed = cast.timetable.at(time_us)
        recorded = self._recorded.at(np.array([time_us], dtype=np.int64))
        self._poses = recorded.local_to_aabb[:, 0].copy()
        on_time = np.ones(n, dtype=bool) if self._guided else ~cast.driven
        there = request.current.valid[:, 0].copy()
        state = State(
            there=there, left=recorded.valid[:, 0] & ~there, on_time=on_time,
            s_m=done.copy(), v_mps=speed.copy(), accel_mps2=np.zeros(n),
            own_us=np.full(n, float(time_us)), rate=np.ones(n), stood_s=np.zeros(n),
            changed_us=np.full(n, -1.0),
        )  # fmt: skip
        late = np.flatnonzero(~on_time & state.there)
        self._placing.rebase(self._stage, state, late, self._poses[late])
        return state

    def _adopt(self, state: State, request: TrafficRequest) -> None:
        """Take committed places where they are not those that were answered."""
        committed, there = request.current.local_to_aabb[:, 0], request.current.valid[:, 0]
        state.left = state.left | (state.there & ~there)
        state.there = there & ~state.left
        away = np.abs(committed[:, :2] - self._poses[:, :2]).max(axis=1, initial=0.0)
        moved = np.flatnonzero(state.there & (away > _ADOPT_M) & self._stage.cast.driven)
        for who in moved.tolist():
            line = self._stage.table.paths[who].local_to_aabb[:, :2]
            state.s_m[who] = geometry.project_on_polyline(committed[who, :2], line)[0][0]
        state.on_time[moved] = False
        self._poses[moved] = committed[moved]
        self._placing.rebase(self._stage, state, moved, self._poses[moved])

    def _look_out(self, ego_xy: Array, egos: list[Ego]) -> Outlook:
        """What ego will be seen of at the instants of an interval, from near enough."""
        assert self._state is not None
        stage, state = self._stage, self._state
        self._view.focus(
            stage.table, stage.rows, stage.cast.sizes_m, ego_xy, _SIGHT_M, state.s_m[stage.rows],
            state.v_mps[stage.rows],
        )  # fmt: skip
        return Outlook(self._view, egos)

    def _ahead(self, time_us: int, ego: Ego, outlook: Outlook, k: int) -> Ahead:
        """What lies ahead of everybody at a time; ego is met where it will be at instant k."""
        assert self._state is not None
        now_s = (time_us - self._info.handover_us) / US_PER_S
        return look_ahead(
            self._stage, self._params, self._state, ego, outlook, k, time_us, now_s, self._guided
        )

    def _change_lanes(self, time_us: int, ego: Ego, ahead: Ahead) -> bool:
        """Let the next actor that wants to begin to change lanes; whether one does."""
        state, since_us = self._state, time_us - self._info.handover_us
        assert state is not None
        if self._params.mobil is None or since_us % MAX_STATE_STEP_US:
            return False
        change = next_change(
            self._stage, self._params, state, ahead, ego, self._info.vehicle.size_m, self._poses,
            time_us, since_us // MAX_STATE_STEP_US,
        )  # fmt: skip
        if change is None:
            return False
        who, path = change
        self._stage = with_path(
            self._info, self._params, self._stage, who, path, float(state.s_m[who]), ~state.left
        )
        self._placing.forget(who)
        state.changed_us[who] = time_us
        self._lane_changes += 1
        return True

    def _move(
        self, since_us: int, until_us: int, ego: Ego, ahead: Ahead, recorded: Array, seen: Mask
    ) -> Array:
        """Move everybody by at most 100 ms; returns the poses ``(A, 7)``."""
        was = self._state
        assert was is not None
        now = step(self._stage, self._params, was, ahead, since_us, until_us, self._guided)
        poses = self._placing.move(self._stage, was, now, self._poses, recorded, was.there)
        self._doors.pass_through(self._stage, now, self._placing, ego, until_us, poses, seen)
        self._state, self._poses = now, poses
        return poses
