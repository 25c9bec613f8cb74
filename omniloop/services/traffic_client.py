"""Traffic behind AlpaSim's protocol (alpasim.md 1.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import SessionInfo, TrafficRequest
from omniloop.core.errors import ConfigError, SceneError, ServiceError, nearest
from omniloop.core.motion import ActorMotion, grid_times_us
from omniloop.core.scene import Scene
from omniloop.core.time import MAX_STATE_STEP_US, us_to_seconds
from omniloop.services.codec import trajectory_to_wire
from omniloop.services.connection import Metadata
from omniloop.services.pool import Lease
from omniloop.services.protos import traffic_pb2 as pb
from omniloop.services.remote import RemoteService, new_session_uuid
from omniloop.services.rpc import session_metadata
from omniloop.services.session_facts import closed
from omniloop.services.session_times import TIMES_KEY, times_to_text
from omniloop.services.traffic_codec import (
    EGO_ID,
    TIMES_ID,
    interpolated_motion,
    motion_at_times,
    read_updates,
    rows_of,
    times_to_wire,
)
from omniloop.services.traffic_scene import logged_objects

_MISSING = ("fail", "vanish")


class RemoteTraffic(RemoteService):
    """Any AlpaSim-compatible traffic service; further keyword arguments are `RemoteService`'s.

    Args:
        missing_actors: "fail" a rollout whose actor a foreign service leaves out while the
            recording still has it, since a car that vanishes unnoticed would flatter every
            score; or let it "vanish", as AlpaSim does.
    """

    kind = "traffic"
    service = pb.DESCRIPTOR.services_by_name["TrafficService"]
    version_method = "get_metadata"
    asks_for_scenes = True

    def __init__(self, address: str, missing_actors: str = "fail", **settings: Any) -> None:
        super().__init__(address, **settings)
        if missing_actors not in _MISSING:
            raise ConfigError(
                f"missing_actors is {missing_actors!r}.{nearest(str(missing_actors), _MISSING)}",
                where="traffic.missing_actors", remedy=f"choose {' or '.join(_MISSING)}",
            )  # fmt: skip
        self._may_vanish = missing_actors == "vanish"

    def check_scene(self, scene: Scene) -> None:
        """Refuse a scene that some address does not serve, or the protocol cannot name.

        Raises:
            SceneError: an address lists its scenes, and not this one; an actor has ego's name.
        """
        super().check_scene(scene)
        for actor in scene.actors:
            if actor.id in (EGO_ID, TIMES_ID):
                raise SceneError(
                    f"an actor is called '{actor.id}', which is not an actor's name on the wire",
                    where=f"scene {scene.id}", remedy="rename it, or use traffic of this process",
                )  # fmt: skip

    async def open(self, session: SessionInfo) -> RemoteTrafficSession:
        """Start a session at a free address.

        Raises:
            ConfigError: the service needs more history than the warm-up has.
        """
        lease = await self.lease(session.address)
        try:
            peer = self.peer(lease.connection)
            if peer.reply is not None:
                _check_history(session, lease, peer.reply.minimum_history_length_us)
            knows_us = peer.is_omniloop
            request = pb.TrafficSessionRequest(
                session_uuid=new_session_uuid(), scene_id=session.scene.id, random_seed=session.seed,
                # It must be more than 0; no query is as early as 1, so that nothing is replayed.
                handover_time_us=max(session.handover_us, 1),
            )  # fmt: skip
            logged = logged_objects(
                session.scene, session.vehicle, session.start_us, session.end_us, knows_us
            )
            request.MergeFrom(logged)
            metadata: Metadata = ()
            if knows_us:
                times = (TIMES_KEY, times_to_text(session))
                metadata = (*session_metadata(session.session_id), times)
            await lease.connection.call("start_session", request, session.call, metadata=metadata)
        except BaseException:
            lease.release()
            raise
        return RemoteTrafficSession(
            session, lease, request.session_uuid, knows_us, self._may_vanish
        )


def _check_history(session: SessionInfo, lease: Lease, needed_us: int) -> None:
    held_us = session.handover_us - session.start_us
    if held_us < needed_us:
        raise ConfigError(
            f"traffic needs {us_to_seconds(needed_us):g} s before handover, the rollout has"
            f" {us_to_seconds(held_us):g} s",
            where=lease.connection.place(session.call, "start_session", None),
            remedy="raise sync.warmup_s",
        )


class RemoteTrafficSession:
    """One rollout's traffic.

    Args:
        uuid: The session's name on the wire.
        knows_us: The service is Omniloop's own server.
        may_vanish: A foreign service may leave out actors that are still recorded.
    """

    def __init__(
        self, session: SessionInfo, lease: Lease, uuid: str, knows_us: bool, may_vanish: bool
    ) -> None:
        self._may_vanish = may_vanish
        self._session = session
        self._lease = lease
        self._facts: Mapping[str, object] = {}
        self._uuid = uuid
        self._knows_us = knows_us
        self._ids = [actor.id for actor in session.scene.actors]
        self._rows = {name: row for row, name in enumerate(self._ids)}
        # Every actor's state at the last query, as the server knows it.
        self._poses = np.tile(geometry.IDENTITY, (len(self._ids), 1))
        self._valid = np.zeros(len(self._ids), dtype=bool)

    async def step(self, request: TrafficRequest) -> ActorMotion:
        """Return every actor's motion through ``(time_us, target_us]``.

        Raises:
            ServiceError: the service fails, or answers with what is no motion of the actors.
        """
        ego = request.ego_local_to_aabb
        newest = slice(None) if self._knows_us else slice(-1, None)
        sent = trajectory_to_wire(ego.times_us[newest], ego.poses[newest])
        updates = [pb.ObjectTrajectoryUpdate(object_id=EGO_ID, trajectory=sent)]
        if self._knows_us:
            updates.append(times_to_wire([request.time_us]))
            updates += self._committed(request.current)
        message = pb.TrafficRequest(
            session_uuid=self._uuid, time_query_us=request.target_us,
            object_trajectory_updates=updates,
        )  # fmt: skip
        reply = await self._lease.connection.call(
            "simulate", message, self._session.call, request.time_us
        )
        try:
            if self._knows_us:
                return self._exact(request, reply.object_trajectory_updates)
            return self._interpolated(request, reply.object_trajectory_updates)
        except ValueError as error:
            raise ServiceError(
                f"traffic's answer cannot be used: {error}",
                where=self._lease.connection.place(self._session.call, "simulate", request.time_us),
                remedy="a traffic service answers for actors of the scene, at growing times",
            ) from error

    def _committed(self, current: ActorMotion) -> list[Any]:
        """Updates of the actors whose committed state is not the one last answered."""
        poses, valid = current.local_to_aabb[:, 0], current.valid[:, 0]
        differs = (poses != self._poses).any(axis=1) & valid | (valid != self._valid)
        updates = []
        for row in differs.nonzero()[0].tolist():
            update = pb.ObjectTrajectoryUpdate(object_id=self._ids[row])
            if valid[row]:
                state = trajectory_to_wire(current.times_us, current.local_to_aabb[row])
                update.trajectory.CopyFrom(state)
            updates.append(update)
        return updates

    def _exact(self, request: TrafficRequest, messages: Any) -> ActorMotion:
        """The answer of an Omniloop server: for every actor, at times of its own."""
        times = [u for u in messages if u.object_id == TIMES_ID]
        if len(times) != 1:
            raise ValueError("the times of the answer are missing")
        updates = read_updates([u for u in messages if u.object_id != TIMES_ID])
        rows = rows_of(updates.ids, self._rows)
        if len(rows) < len(self._ids):
            missing = next(name for name in self._ids if name not in updates.ids)
            raise ValueError(f"object '{missing}' is missing")
        motion = motion_at_times(
            updates, rows, len(self._ids), [s.timestamp_us for s in times[0].trajectory.poses],
            request.time_us, request.target_us,
        )  # fmt: skip
        self._poses, self._valid = motion.local_to_aabb[:, -1], motion.valid[:, -1]
        return motion

    def _interpolated(self, request: TrafficRequest, messages: Any) -> ActorMotion:
        """The answer of any other server, which may leave out objects, and name ego."""
        updates = read_updates([u for u in messages if u.object_id != EGO_ID])
        times = grid_times_us(request.time_us, request.target_us, MAX_STATE_STEP_US)
        motion = interpolated_motion(
            updates, rows_of(updates.ids, self._rows), request.current, times
        )
        gone = request.current.valid[:, -1] & ~motion.valid[:, -1]
        if gone.any() and not self._may_vanish and request.target_us > self._session.handover_us:
            recorded = self._session.scene.recorded_actors(times[-1:]).valid[:, 0]
            for row in (gone & recorded).nonzero()[0].tolist():
                raise ValueError(
                    f"actor '{self._ids[row]}' is missing at {request.target_us} us, where the"
                    " recording still has it (traffic.missing_actors=vanish lets it go)"
                )
        return motion

    async def close(self) -> None:
        """End the session and give the address back, whatever happens."""
        try:
            request = pb.TrafficSessionCloseRequest(session_uuid=self._uuid)
            self._facts = await closed(
                self._lease.connection.call("close_session", request, self._session.call)
            )
        finally:
            self._lease.release()

    def facts(self) -> Mapping[str, object]:
        """What the session told of itself, once it is closed."""
        return self._facts
