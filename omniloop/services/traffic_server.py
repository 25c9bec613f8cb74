"""Serving traffic under AlpaSim's protocol (alpasim.md 1.6)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from grpc import StatusCode

from omniloop.core.calls import CallFunnel
from omniloop.core.contracts import SessionInfo, Traffic
from omniloop.core.motion import ActorMotion
from omniloop.services.codec import LATEST_US
from omniloop.services.protos import traffic_pb2 as pb
from omniloop.services.protos.common_pb2 import (
    AvailableScenesReturn,
    SessionRequestStatus,
)
from omniloop.services.remote import ANY_SCENE
from omniloop.services.rpc import Caller, Refusal, own_version
from omniloop.services.session_servicer import ServedSession, SessionServicer
from omniloop.services.session_times import TIMES_KEY, times_from_text
from omniloop.services.shelf import SceneShelf
from omniloop.services.traffic_codec import EGO_ID
from omniloop.services.traffic_scene import scene_of
from omniloop.services.traffic_world import TrafficWorld

log = logging.getLogger("omniloop.serve")


@dataclass
class _Session(ServedSession):
    world: TrafficWorld


class TrafficServicer(SessionServicer[_Session]):
    """Hands queries to sessions of a traffic plugin.

    Args:
        traffic: What moves the actors.
        scenes: The scenes that it knows; None for any, built of the logged trajectories.
        limit: Sessions at once; None for any number.
        idle_timeout_s: A session that nobody called for so long is ended.
    """

    service = pb.DESCRIPTOR.services_by_name["TrafficService"]

    def __init__(
        self,
        traffic: Traffic,
        scenes: SceneShelf | None = None,
        limit: int | None = None,
        idle_timeout_s: float = 3600.0,
    ) -> None:
        self._traffic = traffic
        self._scenes = scenes
        super().__init__(limit, idle_timeout_s)

    async def get_metadata(self, request: Any, caller: Caller) -> Any:
        """Which program answers; plugins need no history."""
        return pb.TrafficModuleMetadata(version_id=own_version(self.served))

    async def get_available_scenes(self, request: Any, caller: Caller) -> Any:
        """Ids of the scenes, or "*" for any."""
        ids = [ANY_SCENE] if self._scenes is None else self._scenes.ids
        return AvailableScenesReturn(scene_ids=ids)

    async def start_session(self, request: Any, caller: Caller) -> Any:
        """Open a session of the plugin."""

        async def opened() -> _Session:
            info, knows_us = self._info(request, caller)
            check = getattr(self._traffic, "check_scene", None)
            if check is not None:
                check(info.scene)
            return _Session(await self._traffic.open(info), TrafficWorld(info, knows_us))

        await self._sessions.start(request.session_uuid, opened)
        return SessionRequestStatus()

    def _info(self, request: Any, caller: Caller) -> tuple[SessionInfo, bool]:
        """The rollout, and whether the caller tells what AlpaSim does not."""
        if not 0 < request.handover_time_us <= LATEST_US:
            raise Refusal(
                StatusCode.INVALID_ARGUMENT,
                f"handover_time_us is {request.handover_time_us}; it must be more than 0",
            )
        scene = scene_of(request, self._scenes)
        name = caller.session_name or request.session_uuid
        knows_us = caller.is_omniloop and TIMES_KEY in caller.metadata
        if knows_us:
            try:
                times = times_from_text(caller.metadata[TIMES_KEY])
            except ValueError as error:
                raise Refusal(StatusCode.INVALID_ARGUMENT, f"{TIMES_KEY}: {error}") from error
        else:
            ego = next(o for o in request.logged_object_trajectories if o.object_id == EGO_ID)
            seen = ego.trajectory.poses
            times = (seen[0].timestamp_us, request.handover_time_us, seen[-1].timestamp_us)
        call = CallFunnel(name)
        info = SessionInfo(name, scene, request.random_seed, scene.vehicle, *times, call=call)
        return info, knows_us

    async def simulate(self, request: Any, caller: Caller) -> Any:
        """Ask the plugin for everybody's motion up to the queried time."""
        async with self._turn(request.session_uuid) as session:
            asked = session.world.read(request)
            answer = await session.plugin.step(asked)
            if not isinstance(answer, ActorMotion):
                raise TypeError(f"traffic returned a {type(answer).__name__}, not an ActorMotion")
            return session.world.reply(asked, answer)
