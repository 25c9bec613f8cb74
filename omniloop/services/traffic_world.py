"""What a served session knows of ego and actors: it reads requests and writes replies.

The wire says from ego alone where it is at the queried time. An Omniloop client adds from when
on it asks, and the committed state of every actor that differs from what it was answered. For
any other caller these follow from the rules of AlpaSim (alpasim.md 1.6):

* A query asks from the one before on; the first from 100 ms before it (AlpaSim's step), but
  from the recording's start at the earliest. What lies in that time is in the recording anyway.
* Until handover the recording moves everybody: it is the state at a query and the reply to it,
  whatever the plugin answers. After it the state at a query is the last answer.
* What it says of other objects than ego is left out; AlpaSim says nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from grpc import StatusCode

from omniloop.core import geometry
from omniloop.core.contracts import SessionInfo, TrafficRequest
from omniloop.core.errors import ServiceError
from omniloop.core.motion import ActorMotion, Trajectory
from omniloop.core.replay import RecordedActors
from omniloop.core.time import MAX_STATE_STEP_US
from omniloop.services.codec import LATEST_US, trajectory_from_wire
from omniloop.services.protos import traffic_pb2 as pb
from omniloop.services.rpc import Refusal
from omniloop.services.traffic_codec import (
    EGO_ID,
    TIMES_ID,
    motion_to_wire,
    read_updates,
    rows_of,
    times_to_wire,
)


class TrafficWorld:
    """One session's ego and actors.

    Args:
        info: The rollout.
        knows_us: The caller is Omniloop's own client.
    """

    def __init__(self, info: SessionInfo, knows_us: bool) -> None:
        self._info = info
        self._knows_us = knows_us
        self._ids = [actor.id for actor in info.scene.actors]
        self._rows = {name: row for row, name in enumerate(self._ids)}
        self._recorded = None if knows_us else RecordedActors(info.scene)
        self._queried_us: int | None = None
        self._poses = np.tile(geometry.IDENTITY, (len(self._ids), 1))
        self._valid = np.zeros(len(self._ids), dtype=bool)

    def read(self, message: Any) -> TrafficRequest:
        """A query as a traffic plugin is asked.

        Raises:
            Refusal: it cannot be answered (INVALID_ARGUMENT).
        """
        target_us, is_first = message.time_query_us, self._queried_us is None
        since_us = self._info.start_us if self._queried_us is None else self._queried_us
        if not since_us < target_us <= LATEST_US:
            raise _refused(f"time_query_us is {target_us}, not after {since_us} us")
        updates = {u.object_id: u for u in message.object_trajectory_updates}
        if len(updates) < len(message.object_trajectory_updates):
            raise _refused("an object is updated twice")
        ego = updates.pop(EGO_ID, None)
        if ego is None:
            raise _refused(f"there is no update of '{EGO_ID}'")
        if self._knows_us:
            times = updates.pop(TIMES_ID, pb.ObjectTrajectoryUpdate()).trajectory.poses
            if len(times) != 1 or not times[0].timestamp_us < target_us:
                raise _refused(f"it is not told from when on {target_us} us is asked")
            time_us = times[0].timestamp_us
            self._adopt(list(updates.values()))
            current = self._current(time_us)
        else:
            time_us = max(since_us, target_us - MAX_STATE_STEP_US) if is_first else since_us
            current = self._current(time_us)
            if self._recorded is not None and time_us <= self._info.handover_us:
                current = self._recorded.at(current.times_us)
        return TrafficRequest(time_us, target_us, self._ego(ego, time_us, target_us), current)

    def _ego(self, update: Any, time_us: int, target_us: int) -> Trajectory:
        try:
            ego = trajectory_from_wire(update.trajectory).between(time_us, target_us)
        except ValueError as error:
            raise _refused(f"'{EGO_ID}': {error}") from error
        if not len(ego):
            raise _refused(f"'{EGO_ID}' has no pose after {time_us} up to {target_us} us")
        return ego

    def _adopt(self, messages: list[Any]) -> None:
        """Take committed states; an object without a pose is absent."""
        try:
            told = read_updates(messages)
            rows = rows_of(told.ids, self._rows)
        except ValueError as error:
            raise _refused(str(error)) from error
        if any(len(times) > 1 for times in told.times_us):
            raise _refused("an object has more than its pose at the time from which is asked")
        there = [row for row, times in zip(rows, told.times_us, strict=True) if times]
        self._valid[rows] = False
        self._valid[there] = True
        self._poses[rows] = geometry.IDENTITY
        self._poses[there] = told.poses

    def _current(self, time_us: int) -> ActorMotion:
        times = np.array([time_us], dtype=np.int64)
        return ActorMotion(times, self._poses[:, None].copy(), self._valid[:, None].copy())

    def reply(self, request: TrafficRequest, answer: ActorMotion) -> Any:
        """The plugin's answer to a query as a message.

        Raises:
            ServiceError: it is not for all actors, or does not end at the queried time.
        """
        target_us = request.target_us
        wanted = (len(self._ids), len(answer.times_us), 7)
        if answer.local_to_aabb.shape != wanted or answer.valid.shape != wanted[:2]:
            raise ServiceError(
                f"traffic answered with poses {answer.local_to_aabb.shape},"
                f" valid {answer.valid.shape}; wanted {wanted}",
                remedy="answer for every actor of the scene, in its order",
            )
        if not wanted[1] or answer.times_us[-1] != target_us:
            raise ServiceError(
                f"traffic answered at {answer.times_us.tolist()} us, not up to {target_us} us"
            )
        self._queried_us = target_us
        self._valid = answer.valid[:, -1].copy()
        # The caller commits what it reads: float32 with quaternions made unit again.
        last = np.where(self._valid[:, None], answer.local_to_aabb[:, -1], geometry.IDENTITY)
        self._poses = geometry.normalise(last.astype(np.float32))
        if self._recorded is not None and target_us <= self._info.handover_us:
            answer = self._recorded.between(request.time_us, target_us)
        updates = motion_to_wire(self._ids, answer, absent_too=self._knows_us)
        if self._knows_us:
            updates.append(times_to_wire(answer.times_us.tolist()))
        return pb.TrafficReturn(object_trajectory_updates=updates)


def _refused(what: str) -> Refusal:
    return Refusal(StatusCode.INVALID_ARGUMENT, what)
