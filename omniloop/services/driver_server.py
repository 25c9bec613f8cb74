"""Serving a policy under AlpaSim's egodriver protocol.

Status codes are those of carla-driver-interface (contracts.md 1.3), but for poses that are
not finite or whose quaternion is no unit: it drives on with them, here they are refused.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from grpc import StatusCode

from omniloop.core.contracts import Plan, Policy
from omniloop.core.messages import CameraFrame
from omniloop.services.camera_codec import CameraAxes
from omniloop.services.codec import (
    dynamics_from_wire,
    poses_from_wire,
    times_from_wire,
)
from omniloop.services.driver_admission import admit, not_served, valid_time
from omniloop.services.driver_inbox import DriverInbox
from omniloop.services.driver_reply import reasoning_bytes
from omniloop.services.driver_spec import (
    AVAILABLE_KEY,
    CONTRACT_KEY,
    SPEC_KEY,
    axes_of_revision,
    spec_to_json,
)
from omniloop.services.protos import egodriver_pb2 as pb
from omniloop.services.protos.common_pb2 import Empty, SessionRequestStatus
from omniloop.services.rpc import Caller, Refusal
from omniloop.services.session_servicer import ServedSession, SessionServicer
from omniloop.services.shelf import SceneShelf
from omniloop.services.step_codec import plan_to_wire

log = logging.getLogger("omniloop.serve")


@dataclass
class _Session(ServedSession):
    inbox: DriverInbox
    cameras: frozenset[str]


class EgodriverServicer(SessionServicer[_Session]):
    """Any policy as a driver: each session gets what its client pushes, as it declared it.

    Args:
        policy: What plans.
        scenes: Where map and recording come from, and the vehicle; None for nowhere. A scene
            that is not among them is fine for a policy that declares neither.
        limit: Sessions at once; None for any number.
        idle_timeout_s: A session that nobody called for so long is ended.
    """

    service = pb.DESCRIPTOR.services_by_name["EgodriverService"]

    def __init__(
        self,
        policy: Policy,
        scenes: SceneShelf | None = None,
        limit: int | None = None,
        idle_timeout_s: float = 3600.0,
    ) -> None:
        self._policy = policy
        self._scenes = scenes
        super().__init__(limit, idle_timeout_s)

    async def get_version(self, request: Any, caller: Caller) -> Any:
        """Which program answers, in which contract revision, and what the policy declares."""
        caller.reply_metadata[CONTRACT_KEY] = CameraAxes.OPTICAL.value
        caller.reply_metadata[SPEC_KEY] = spec_to_json(self._policy.spec)
        return await super().get_version(request, caller)

    # ---------------------------------------------------------------------- sessions

    async def start_session(self, request: Any, caller: Caller) -> Any:
        """Open a session of the policy."""
        try:
            axes = axes_of_revision(caller.metadata)
        except ValueError as error:
            raise Refusal(StatusCode.FAILED_PRECONDITION, str(error)) from error

        async def opened() -> _Session:
            return await self._open(request, caller, axes)

        await self._sessions.start(request.session_uuid, opened)
        return SessionRequestStatus()

    async def _open(self, request: Any, caller: Caller, axes: CameraAxes) -> _Session:
        spec = self._policy.spec
        admitted = admit(request, caller, axes, spec, self._scenes)
        info = admitted.info
        try:
            check = getattr(self._policy, "check_scene", None)
            if check is not None and admitted.knows_scene:
                check(info.scene)
            session = await self._policy.open(info, admitted.cameras)
        except Refusal:
            raise
        except (Exception, SystemExit) as error:  # a served policy may be anybody's code
            log.exception("session %s cannot be opened", info.session_id)
            hint = "" if admitted.knows_scene else f"; {not_served(info.scene.id)}"
            raise Refusal(
                StatusCode.FAILED_PRECONDITION,
                f"the policy cannot drive this session: {type(error).__name__}: {error}{hint}",
            ) from error
        inbox = DriverInbox(info, spec, tuple(c.id for c in admitted.cameras))
        return _Session(session, inbox, admitted.declared)

    # ------------------------------------------------------------------ observations

    async def submit_image_observation(self, request: Any, caller: Caller) -> Any:
        """Take a frame; empty bytes are what AlpaSim sends without a renderer."""
        session, _ = self._sessions.entry(request.session_uuid)
        image = request.camera_image
        camera_id = image.logical_id
        if camera_id not in session.cameras:
            raise Refusal(
                StatusCode.INVALID_ARGUMENT,
                f"Camera '{camera_id}' was not declared in start_session; known cameras:"
                f" {sorted(session.cameras)}",
            )
        if image.image_bytes:
            capture_us = valid_time(image.frame_end_us, "frame_end_us")
            available_us = capture_us
            if caller.is_omniloop and AVAILABLE_KEY in caller.metadata:
                available_us = int(caller.metadata[AVAILABLE_KEY])
            start_us = valid_time(image.frame_start_us, "frame_start_us")
            session.inbox.add_frame(
                CameraFrame(camera_id, image.image_bytes, start_us, capture_us, available_us)
            )
        return Empty()

    async def submit_egomotion_observation(self, request: Any, caller: Caller) -> Any:
        """Take ego's estimated states."""
        session, _ = self._sessions.entry(request.session_uuid)
        poses, states = request.trajectory.poses, request.dynamic_states
        if states and len(states) != len(poses):
            raise Refusal(
                StatusCode.INVALID_ARGUMENT,
                f"{len(states)} dynamic_states for {len(poses)} poses: send one each, or none",
            )
        try:
            times = times_from_wire(p.timestamp_us for p in poses)
            local_to_rig = poses_from_wire(p.pose for p in poses)
            dynamics = dynamics_from_wire(states) if states else np.zeros((len(poses), 12))
        except ValueError as error:
            raise Refusal(StatusCode.INVALID_ARGUMENT, f"ego motion: {error}") from error
        told = np.full(len(poses), bool(states))
        if not caller.is_omniloop:
            # AlpaSim sends zeros while the recording drives (alpasim.md 1.3).
            told &= dynamics.any(axis=1)
        session.inbox.ego.add(times, local_to_rig, dynamics, told)
        return Empty()

    async def submit_route(self, request: Any, caller: Caller) -> Any:
        """Take a route; AlpaSim pads it with NaN."""
        session, _ = self._sessions.entry(request.session_uuid)
        points = [(w.x, w.y, w.z) for w in request.route.waypoints]
        waypoints = np.array(points, dtype=np.float64).reshape(-1, 3)
        session.inbox.set_route(valid_time(request.route.timestamp_us, "timestamp_us"), waypoints)
        return Empty()

    async def submit_recording_ground_truth(self, request: Any, caller: Caller) -> Any:
        """Nothing is done with it: a policy that declares the recording gets the scene's own."""
        self._sessions.entry(request.session_uuid)
        return Empty()

    # ---------------------------------------------------------------------- decision

    async def drive(self, request: Any, caller: Caller) -> Any:
        """Let the policy plan on all that was pushed; empty before the first ego state."""
        now_us = valid_time(request.time_now_us, "time_now_us")
        query_us = valid_time(request.time_query_us, "time_query_us")
        async with self._turn(request.session_uuid) as session:
            if caller.is_omniloop:
                try:
                    session.inbox.privileged.add(request.renderer_data)
                except ValueError as error:
                    raise Refusal(StatusCode.INVALID_ARGUMENT, str(error)) from error
            observation = session.inbox.observation(now_us, query_us)
            if observation is None:
                return pb.DriveResponse()
            try:
                plan = await session.plugin.plan(observation)
                if not isinstance(plan, Plan):
                    raise TypeError(f"the policy returned a {type(plan).__name__}, not a Plan")
            except Refusal:
                raise
            except (Exception, SystemExit) as error:  # a served policy may be anybody's code
                log.exception("session %s: no plan at %d us", observation.session_id, now_us)
                raise Refusal(
                    StatusCode.UNKNOWN,
                    f"Exception calling application: {type(error).__name__}: {error}",
                ) from error
        # Only an Omniloop client is told the reasoning: AlpaSim would unpickle it.
        return plan_to_wire(plan, reasoning_bytes(plan.reasoning) if caller.is_omniloop else b"")
