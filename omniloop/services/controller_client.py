"""A controller and vehicle behind AlpaSim's protocol (alpasim.md 1.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import SessionInfo, VehicleRequest
from omniloop.core.errors import ConfigError, PolicyError, ServiceError
from omniloop.core.kinematics import motion_at
from omniloop.core.motion import EgoMotion, Trajectory
from omniloop.core.time import MAX_STATE_STEP_US
from omniloop.physics.tracking import PoseHistory
from omniloop.services.codec import (
    dynamics_from_wire,
    poses_from_wire,
    times_from_wire,
)
from omniloop.services.connection import Metadata
from omniloop.services.controller_facts import FACTS_KEY, facts_to_text
from omniloop.services.controller_motion import filled, since
from omniloop.services.pool import Lease
from omniloop.services.protos import controller_pb2 as pb
from omniloop.services.remote import RemoteService, new_session_uuid
from omniloop.services.rpc import session_metadata
from omniloop.services.session_facts import closed
from omniloop.services.session_times import TIMES_KEY, times_to_text
from omniloop.services.step_codec import vehicle_to_wire


class RemoteController(RemoteService):
    """Any AlpaSim-compatible controller service.

    Args:
        address: ``HOST:PORT``, several with commas between.
        pose_reporting_interval_us: How far apart the states are that it is asked for; an
            Omniloop server answers with all states of its plugin.
        settings: See `RemoteService`.

    Raises:
        ConfigError: a setting is wrong.
    """

    kind = "controller"
    service = pb.DESCRIPTOR.services_by_name["VDCService"]

    def __init__(
        self, address: str, pose_reporting_interval_us: int = MAX_STATE_STEP_US, **settings: Any
    ) -> None:
        super().__init__(address, **settings)
        if not (
            type(pose_reporting_interval_us) is int
            and 0 < pose_reporting_interval_us <= MAX_STATE_STEP_US
        ):
            raise ConfigError(
                f"pose_reporting_interval_us is {pose_reporting_interval_us!r}",
                where="controller.pose_reporting_interval_us",
                remedy=f"give a whole number of microseconds from 1 to {MAX_STATE_STEP_US}",
            )
        self._interval_us = pose_reporting_interval_us

    async def open(self, session: SessionInfo) -> RemoteControllerSession:
        """Start a session at a free address."""
        lease = await self.lease(session.address)
        try:
            uuid = new_session_uuid()
            metadata: Metadata = ()
            if self.peer(lease.connection).is_omniloop:
                metadata = (
                    *session_metadata(session.session_id),
                    (TIMES_KEY, times_to_text(session)),
                    (FACTS_KEY, facts_to_text(session)),
                )
            request = pb.VDCSessionRequest(session_uuid=uuid)
            await lease.connection.call("start_session", request, session.call, metadata=metadata)
        except BaseException:
            lease.release()
            raise
        return RemoteControllerSession(session, lease, uuid, self._interval_us)


class RemoteControllerSession:
    """One rollout's controller and vehicle.

    What the service estimates of ego, beside what is true, is left out: estimates are the
    orchestrator's.

    Args:
        uuid: The session's name on the wire.
        interval_us: How far apart the states are that are asked for.
    """

    def __init__(self, session: SessionInfo, lease: Lease, uuid: str, interval_us: int) -> None:
        self._session = session
        self._lease = lease
        self._facts: Mapping[str, object] = {}
        self._uuid = uuid
        self._interval_us = interval_us
        self._history = PoseHistory()

    async def step(self, request: VehicleRequest) -> EgoMotion:
        """Return ego's motion through ``(time_us, target_us]``.

        Raises:
            PolicyError: the plan does not cover the time from now to the target.
            ServiceError: the service fails, or answers with what is no motion up to `target_us`.
        """
        self._history.adopt(request.time_us, request.local_to_rig)
        plan = self._plan_in_rig(request)
        message = vehicle_to_wire(self._uuid, request, plan, self._interval_us)
        reply = await self._lease.connection.call(
            "run_controller_and_vehicle", message, self._session.call, request.time_us
        )
        try:
            motion = _motion(request, reply)
        except ValueError as error:
            raise ServiceError(
                f"the controller's answer cannot be used: {error}",
                where=self._place(request),
                remedy="a controller service answers ego's states at growing times up to future_time_us",
            ) from error
        self._history.extend(motion)
        return motion

    def _plan_in_rig(self, request: VehicleRequest) -> Trajectory:
        """The plan in the frame of ego's own pose at its first timestamp.

        A plan older than the session is cut where the session begins, since the service
        anchors it at a pose of its own history.
        """
        plan, now_us, target_us = request.plan_local_to_rig, request.time_us, request.target_us
        if not len(plan) or plan.start_us > now_us or plan.end_us < target_us:
            covers = f"covers {plan.start_us} to {plan.end_us} us" if len(plan) else "is empty"
            raise PolicyError(
                f"the plan in force {covers}; ego moves from {now_us} to {target_us} us",
                where=self._place(request),
                remedy="start plans at observation.time_us and let them reach at least"
                " observation.next_decision_us",
            )
        if plan.start_us < self._history.start_us:
            plan = plan.clip(self._history.start_us, plan.end_us)
        return plan.transform(geometry.inverse(self._history.at(plan.start_us)))

    def _place(self, request: VehicleRequest) -> str:
        connection, method = self._lease.connection, "run_controller_and_vehicle"
        return connection.place(self._session.call, method, request.time_us)

    async def close(self) -> None:
        """End the session and give the address back, whatever happens."""
        try:
            request = pb.VDCSessionCloseRequest(session_uuid=self._uuid)
            self._facts = await closed(
                self._lease.connection.call("close_session", request, self._session.call)
            )
        finally:
            self._lease.release()

    def facts(self) -> Mapping[str, object]:
        """What the session told of itself, once it is closed."""
        return self._facts


def _motion(request: VehicleRequest, reply: Any) -> EgoMotion:
    """Ego's states at most 100 ms apart; what lies between those answered is interpolated.

    Raises:
        ValueError: the reply holds no states up to the target.
    """
    if reply.states:
        times = times_from_wire(s.timestamp_us for s in reply.states)
        messages = [s.pose_local_to_rig for s in reply.states]
        moving = [s.dynamic_state for s in reply.states]
        told = all(s.HasField("dynamic_state") for s in reply.states)
    elif reply.HasField("pose_local_to_rig"):  # what services filled before there were states
        times = times_from_wire([reply.pose_local_to_rig.timestamp_us])
        messages, moving = [reply.pose_local_to_rig.pose], [reply.dynamic_state]
        told = reply.HasField("dynamic_state")
    else:
        raise ValueError("it holds no state")
    now_us, target_us = request.time_us, request.target_us
    if times[-1] != target_us or (np.diff(times, prepend=now_us) <= 0).any():
        raise ValueError(
            f"states at {times.tolist()} us do not grow from {now_us} to {target_us} us"
        )
    states = EgoMotion(times, poses_from_wire(messages), dynamics_from_wire(moving))
    motion = since(now_us, request.local_to_rig, request.dynamics, states)
    if not told:
        moved = motion_at(motion.trajectory, times, MAX_STATE_STEP_US)
        motion = since(now_us, request.local_to_rig, request.dynamics, moved)
    return filled(motion)
