"""Serving a controller and vehicle under AlpaSim's protocol (alpasim.md 1.4)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from grpc import StatusCode

from omniloop.core.calls import CallFunnel
from omniloop.core.contracts import SessionInfo, VehicleController, VehicleRequest
from omniloop.core.errors import ServiceError
from omniloop.core.motion import EMPTY_TRAJECTORY, EgoMotion, Times, Trajectory, grid_times_us
from omniloop.core.scene import Scene, Vehicle
from omniloop.physics.tracking import PoseHistory
from omniloop.services.codec import (
    LATEST_US,
    dynamics_from_wire,
    pose_from_wire,
    trajectory_from_wire,
)
from omniloop.services.controller_facts import FACTS_KEY, facts_from_text
from omniloop.services.controller_motion import sampled, since
from omniloop.services.protos import controller_pb2 as pb
from omniloop.services.protos.common_pb2 import SessionRequestStatus
from omniloop.services.rpc import Caller, Refusal
from omniloop.services.session_servicer import ServedSession, SessionServicer
from omniloop.services.session_times import TIMES_KEY, times_from_text
from omniloop.services.shelf import SceneShelf
from omniloop.services.step_codec import states_to_wire

log = logging.getLogger("omniloop.serve")


@dataclass
class _Session(ServedSession):
    knows_us: bool
    history: PoseHistory = field(default_factory=PoseHistory)


class ControllerServicer(SessionServicer[_Session]):
    """Lets sessions of a controller plugin drive.

    The protocol names no scene, vehicle or seed. An Omniloop client tells them; the plugin gets
    the scene if it is served here, else an empty one of that name. Any other caller's vehicle
    is the default one.

    Args:
        controller: What follows plans.
        scenes: The scenes that it may look into; None for none.
        limit: Sessions at once; None for any number.
        idle_timeout_s: A session that nobody called for so long is ended.
    """

    service = pb.DESCRIPTOR.services_by_name["VDCService"]

    def __init__(
        self,
        controller: VehicleController,
        scenes: SceneShelf | None = None,
        limit: int | None = None,
        idle_timeout_s: float = 3600.0,
    ) -> None:
        self._controller = controller
        self._scenes = scenes
        super().__init__(limit, idle_timeout_s)

    async def start_session(self, request: Any, caller: Caller) -> Any:
        """Open a session of the plugin."""

        async def opened() -> _Session:
            info = self._info(request, caller)
            check = getattr(self._controller, "check_scene", None)
            if check is not None and len(info.scene.ego):
                check(info.scene)
            return _Session(await self._controller.open(info), FACTS_KEY in caller.metadata)

        await self._sessions.start(request.session_uuid, opened)
        return SessionRequestStatus()

    def _info(self, request: Any, caller: Caller) -> SessionInfo:
        name = caller.session_name or request.session_uuid
        seed, vehicle, times = 0, Vehicle(), (0, 0, 0)
        if FACTS_KEY in caller.metadata:
            try:
                seed, vehicle = facts_from_text(caller.metadata[FACTS_KEY])
                times = times_from_text(caller.metadata.get(TIMES_KEY, ""))
            except ValueError as error:
                raise _refused(f"metadata of the session: {error}") from error
        scene_id = name.rpartition("/")[0] or name
        if self._scenes is not None and scene_id in self._scenes.ids:
            scene = self._scenes.get(scene_id)
        else:
            scene = Scene(scene_id, "wire", EMPTY_TRAJECTORY, vehicle)
        return SessionInfo(name, scene, seed, vehicle, *times, call=CallFunnel(name))

    async def run_controller_and_vehicle(self, request: Any, caller: Caller) -> Any:
        """Ask the plugin for ego's motion."""
        async with self._turn(request.session_uuid) as session:
            asked = _asked(request, session.history)
            answer = await session.plugin.step(asked)
            _check(asked, answer)
            session.history.extend(answer)
            if session.knows_us:
                return states_to_wire(answer)
            return states_to_wire(_reported(asked, answer, request.pose_reporting_interval_us))


def _asked(request: Any, history: PoseHistory) -> VehicleRequest:
    """A request as a controller plugin is asked; its pose enters the history.

    Raises:
        Refusal: it cannot be answered (INVALID_ARGUMENT).
    """
    now_us, future_us = request.state.timestamp_us, request.future_time_us
    if not now_us < future_us <= LATEST_US:
        raise _refused(f"future_time_us is {future_us}, not after the state at {now_us} us")
    if request.pose_reporting_interval_us < 0:
        raise _refused(f"pose_reporting_interval_us is {request.pose_reporting_interval_us}")
    try:
        local_to_rig = pose_from_wire(request.state.pose)
        dynamics = dynamics_from_wire([request.state.state])[0]
    except ValueError as error:
        raise _refused(f"state: {error}") from error
    try:
        plan_in_rig = trajectory_from_wire(request.planned_trajectory_in_rig)
    except ValueError as error:
        raise _refused(f"planned_trajectory_in_rig: {error}") from error
    history.adopt(now_us, local_to_rig)
    return VehicleRequest(
        now_us, future_us, local_to_rig, dynamics, _anchored(plan_in_rig, history, now_us),
        request.coerce_dynamic_state,
    )  # fmt: skip


def _anchored(plan_in_rig: Trajectory, history: PoseHistory, now_us: int) -> Trajectory:
    """The plan at ego's own pose at its first timestamp, as AlpaSim anchors it."""
    if not len(plan_in_rig):
        raise _refused("planned_trajectory_in_rig is empty")
    start_us = plan_in_rig.start_us
    if not history.start_us <= start_us <= now_us:
        raise _refused(
            f"planned_trajectory_in_rig starts at {start_us} us, outside the poses held, which go"
            f" from {history.start_us} to {now_us} us"
        )
    return plan_in_rig.transform(history.at(start_us))


def _check(asked: VehicleRequest, answer: object) -> None:
    """Raise an error where the plugin's answer is no motion up to the target."""
    if not isinstance(answer, EgoMotion):
        raise TypeError(f"the controller returned a {type(answer).__name__}, not an EgoMotion")
    steps = np.diff(answer.times_us, prepend=asked.time_us)
    if not len(answer) or answer.times_us[-1] != asked.target_us or (steps <= 0).any():
        raise ServiceError(
            f"the controller answered at {answer.times_us.tolist()} us, not from {asked.time_us}"
            f" up to {asked.target_us} us"
        )


def _reported(asked: VehicleRequest, answer: EgoMotion, interval_us: int) -> EgoMotion:
    """The states every `interval_us`, and the last; that one alone if it is 0."""
    until_us = asked.target_us
    times: Times = grid_times_us(asked.time_us, until_us, interval_us or until_us - asked.time_us)
    return sampled(since(asked.time_us, asked.local_to_rig, asked.dynamics, answer), times)


def _refused(what: str) -> Refusal:
    return Refusal(StatusCode.INVALID_ARGUMENT, what)
