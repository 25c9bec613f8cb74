"""Reactive traffic: vehicles on their lanes by the Intelligent Driver Model."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import SessionInfo, TrafficRequest
from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion, Times
from omniloop.core.replay import RecordedActors
from omniloop.core.time import MAX_STATE_STEP_US, US_PER_S
from omniloop.traffic.changes import next_change
from omniloop.traffic.drive import State, look_ahead, step
from omniloop.traffic.ego_track import EgoTrack
from omniloop.traffic.entries import Doors
from omniloop.traffic.parameters import ParameterSet, parameter_set
from omniloop.traffic.placing import Placing
from omniloop.traffic.stage import stage_of, with_path

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

    def open(self, session: SessionInfo) -> IdmSession:
        """Begin a rollout."""
        return IdmSession(session, self._params)


class IdmSession:
    """One rollout's traffic."""

    def __init__(self, session: SessionInfo, params: ParameterSet) -> None:
        self._info, self._params = session, params
        self._guided = params.name == _GUIDED
        self._recorded = RecordedActors(session.scene)
        self._stage = stage_of(session, params, self._guided)
        grid = session.scene.recorded_actors(self._stage.cast.timetable.times_us)
        self._placing = Placing(grid.local_to_aabb)
        self._doors = Doors(len(session.scene.tracks), session.vehicle.size_m, self._guided)
        self._ego = EgoTrack(session)
        self._state: State | None = None
        self._poses = np.tile(geometry.IDENTITY, (len(session.scene.tracks), 1))
        self._lane_changes = 0

    def facts(self) -> dict[str, object]:
        """How many actors are driven how, and what happened to them."""
        cast, state = self._stage.cast, self._state
        ids = [actor.id for actor in self._info.scene.actors]
        driven, kept = int(cast.driven.sum()), int(cast.kept.sum())
        came = np.zeros(len(ids), dtype=bool) if state is None else state.there | state.left
        delayed = self._doors.delayed
        return {
            "params": self._params.name,
            "idm": driven,
            "kept_path": kept,
            "log_replay": len(ids) - driven - kept,
            "no_lane": [ids[i] for i in np.flatnonzero(cast.no_lane)],
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
        self._focus(request.ego_local_to_aabb.poses[-1, :2])
        times = self._times(request.time_us, request.target_us)
        answer = self._recorded.at(times)
        poses, valid = answer.local_to_aabb.copy(), answer.valid.copy()
        since = request.time_us
        for column, until in enumerate(times.tolist()):
            poses[:, column] = self._inner(since, until, poses[:, column], valid[:, column])
            valid[:, column] = self._state.there
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
        """Everybody at handover: where it was recorded, as fast as it was recorded."""
        cast, time_us = self._stage.cast, request.time_us
        n = len(cast.paths)
        done, speed = cast.timetable.at(time_us)
        recorded = self._recorded.at(np.array([time_us], dtype=np.int64))
        self._poses = recorded.local_to_aabb[:, 0].copy()
        on_time = np.ones(n, dtype=bool) if self._guided else ~cast.driven
        state = State(
            there=request.current.valid[:, 0].copy(), left=np.zeros(n, dtype=bool), on_time=on_time,
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

    def _focus(self, ego_xy: Array) -> None:
        assert self._state is not None
        rows = self._stage.rows
        self._stage.ego.focus(ego_xy, _SIGHT_M, self._state.s_m[rows], self._state.v_mps[rows])

    def _inner(self, since_us: int, until_us: int, recorded: Array, seen: np.ndarray) -> Array:
        """Move everybody by at most 100 ms; returns the poses ``(A, 7)``."""
        was, params = self._state, self._params
        assert was is not None
        ego = self._ego.at(until_us)
        since_s = (since_us - self._info.handover_us) / US_PER_S
        ahead = look_ahead(self._stage, params, was, ego, since_us, since_s, self._guided)
        if (
            params.mobil is not None
            and (since_us - self._info.handover_us) % MAX_STATE_STEP_US == 0
        ):
            turn = (since_us - self._info.handover_us) // MAX_STATE_STEP_US
            change = next_change(
                self._stage, params, was, ahead, ego, self._info.vehicle.size_m, self._poses,
                since_us, turn, self._guided,
            )  # fmt: skip
            if change is not None:
                who, path = change
                self._stage = with_path(self._info, params, self._stage, who, path)
                self._placing.forget(who)
                self._focus(ego.local_to_aabb[:2])
                was.changed_us[who] = since_us
                self._lane_changes += 1
                ahead = look_ahead(self._stage, params, was, ego, since_us, since_s, self._guided)
        now = step(self._stage, params, was, ahead, since_us, until_us, self._guided)
        poses = self._placing.move(self._stage, was, now, self._poses, recorded, was.there)
        self._doors.pass_through(self._stage, now, self._placing, ego, until_us, poses, seen)
        self._state, self._poses = now, poses
        return poses
