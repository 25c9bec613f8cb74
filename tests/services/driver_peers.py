"""Peers of the egodriver protocol: a bare client, a scripted driver, policies that watch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from grpc import aio

from omniloop.core import geometry
from omniloop.core.cameras import Camera
from omniloop.core.contracts import (
    ImageHistory,
    Observation,
    Plan,
    PolicySpec,
    SceneSource,
    SessionInfo,
)
from omniloop.core.local import as_service
from omniloop.core.motion import Trajectory
from omniloop.core.scene import Scene
from omniloop.services.camera_codec import CameraAxes, available_camera
from omniloop.services.codec import trajectory_to_wire
from omniloop.services.driver_client import RemotePolicy
from omniloop.services.driver_server import EgodriverServicer
from omniloop.services.driver_spec import CONTRACT_KEY
from omniloop.services.protos import egodriver_pb2 as pb
from omniloop.services.protos.common_pb2 import DynamicState, Empty, Pose, Quat, Vec3
from omniloop.services.rpc import Caller, methods_of
from omniloop.services.serving import Listening, Servicer, start_server
from omniloop.services.shelf import SceneShelf

SERVICE = pb.DESCRIPTOR.services_by_name["EgodriverService"]


def straight(observation: Observation, speed_mps: float = 8.0, horizon_s: float = 4.0) -> Plan:
    """Straight ahead in local x, in numbers that float32 holds exactly."""
    times = observation.time_us + np.arange(0, int(horizon_s * 1e6) + 1, 125_000, dtype=np.int64)
    poses = np.tile(
        np.float32(observation.ego.local_to_rig[-1]).astype(np.float64), (len(times), 1)
    )
    poses[:, 0] += speed_mps * np.arange(len(times)) / 8
    return Plan(Trajectory(times, np.float32(poses).astype(np.float64)))


class Watching:
    """Keeps all that it is told, then answers with `answer`."""

    def __init__(
        self, spec: PolicySpec | None = None, answer: Callable[[Observation], Any] = straight
    ) -> None:
        self.spec = spec or PolicySpec(horizon_s=4.0)
        self.answer = answer
        self.seen: list[Observation] = []
        self.opened: list[tuple[SessionInfo, tuple[Camera, ...]]] = []
        self.closed = 0

    def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> Watching:
        self.opened.append((session, cameras))
        return self

    def plan(self, observation: Observation) -> Any:
        self.seen.append(observation)
        return self.answer(observation)

    def close(self) -> None:
        self.closed += 1


def everything_declared(cameras: tuple[str, ...] | None = None) -> PolicySpec:
    """A policy that uses all that a policy can declare."""
    return PolicySpec(
        cameras=cameras, images=ImageHistory(3, 10.0), ego_history_s=0.5, ego_history_hz=10.0,
        horizon_s=4.0, privileged=frozenset({"actors", "map", "recording"}),
    )  # fmt: skip


class Shelf:
    """A source of given scenes."""

    def __init__(self, *scenes: Scene) -> None:
        self._scenes = {scene.id: scene for scene in scenes}

    def ids(self) -> list[str]:
        return sorted(self._scenes)

    def load(self, scene_id: str) -> Scene:
        return self._scenes[scene_id]


def served_policy(
    policy: Any, source: SceneSource | None = None, **limits: Any
) -> EgodriverServicer:
    """A policy's server."""
    shelf = None if source is None else SceneShelf(source)
    return EgodriverServicer(as_service("policy", policy), shelf, **limits)


# ------------------------------------------------------------------------- a bare client


class Client:
    """Sends messages as AlpaSim or carla-driver-interface would, with no metadata of ours."""

    def __init__(self, channel: aio.Channel, uuid: str = "s") -> None:
        self.channel = channel
        self.uuid = uuid

    def call(self, method: str, request: Any, metadata: tuple[tuple[str, str], ...] = ()) -> Any:
        found = methods_of(SERVICE)[method]
        stub = self.channel.unary_unary(
            found.path, found.request.SerializeToString, found.reply.FromString
        )
        return stub(request, timeout=60.0, metadata=metadata)

    async def start(
        self, cameras: tuple[Camera, ...] = (), revision: str | None = None, scene: str | None = ""
    ) -> None:
        request = pb.DriveSessionRequest(session_uuid=self.uuid, random_seed=7)
        if scene is not None:
            request.debug_info.scene_id = scene
        axes = CameraAxes(revision) if revision in ("1", "2") else CameraAxes.OPTICAL
        request.rollout_spec.vehicle.available_cameras.extend(
            available_camera(c, axes) for c in cameras
        )
        metadata = () if revision is None else ((CONTRACT_KEY, revision),)
        await self.call("start_session", request, metadata)

    async def ego(
        self,
        times_us: list[int],
        speeds_mps: list[float] | None,
        x_m: Any = None,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Ego on the x axis; no dynamic states without speeds."""
        poses = np.tile(geometry.IDENTITY, (len(times_us), 1))
        poses[:, 0] = np.array(times_us) / 1e5 if x_m is None else x_m
        message = pb.RolloutEgoTrajectory(
            session_uuid=self.uuid, trajectory=trajectory_to_wire(np.array(times_us), poses)
        )
        for speed in speeds_mps or ():
            message.dynamic_states.append(DynamicState(linear_velocity=Vec3(x=speed)))
        await self.call("submit_egomotion_observation", message, metadata)

    async def route(self, waypoints: list[tuple[float, float, float]], time_us: int = 0) -> None:
        points = [Vec3(x=x, y=y, z=z) for x, y, z in waypoints]
        route = pb.Route(timestamp_us=time_us, waypoints=points)
        await self.call("submit_route", pb.RouteRequest(session_uuid=self.uuid, route=route))

    async def image(self, camera_id: str, end_us: int, data: bytes = b"\xff\xd8jpeg") -> None:
        image = pb.RolloutCameraImage.CameraImage(
            frame_start_us=end_us, frame_end_us=end_us, image_bytes=data, logical_id=camera_id
        )
        message = pb.RolloutCameraImage(session_uuid=self.uuid, camera_image=image)
        await self.call("submit_image_observation", message)

    async def drive(self, now_us: int, query_us: int | None = None) -> Any:
        query_us = now_us + 100_000 if query_us is None else query_us
        request = pb.DriveRequest(
            session_uuid=self.uuid, time_now_us=now_us, time_query_us=query_us
        )
        return await self.call("drive", request)

    async def close(self) -> None:
        await self.call("close_session", pb.DriveSessionCloseRequest(session_uuid=self.uuid))


@asynccontextmanager
async def client_of(servicer: Servicer) -> AsyncIterator[Client]:
    """A client of a server on a free port."""
    async with listening(servicer) as (address,), aio.insecure_channel(address) as channel:
        yield Client(channel)


# ------------------------------------------------------------------------ a scripted driver


def reply_of(times_us: list[int], x_m: list[float]) -> Any:
    """A plan along the x axis."""
    poses = np.tile(geometry.IDENTITY, (len(times_us), 1))
    poses[:, 0] = x_m
    return pb.DriveResponse(trajectory=trajectory_to_wire(np.array(times_us), poses))


class ScriptedDriver(Servicer):
    """A foreign driver that keeps what it is sent and answers with `answer`.

    Args:
        metadata: Its initial metadata with get_version; without ours, it is a foreign driver.
    """

    service = SERVICE

    def __init__(
        self, answer: Callable[[Any], Any] | None = None, metadata: dict[str, str] | None = None
    ) -> None:
        self.reply = answer or (lambda request: reply_from(request.time_now_us))
        self.metadata = metadata or {}
        self.got: list[tuple[str, Any]] = []
        self.callers: dict[str, Caller] = {}

    async def answer(self, method: str, request: Any, caller: Caller) -> Any:
        self.got.append((method, request))
        self.callers[method] = caller
        if method == "get_version":
            caller.reply_metadata.update(self.metadata)
            return await self.get_version(request, caller)
        if method == "start_session":
            return methods_of(SERVICE)[method].reply()
        return self.reply(request) if method == "drive" else Empty()

    def of(self, method: str) -> list[Any]:
        return [request for name, request in self.got if name == method]


def reply_from(now_us: int) -> Any:
    """A plan at 10 m/s through x = 0 at time 0."""
    return reply_of([now_us, now_us + 1_000_000], [now_us / 1e5, now_us / 1e5 + 10.0])


class BehindTheWire:
    """A policy whose every session goes through a server of its own, on a free port."""

    def __init__(self, policy: Any, source: SceneSource | None = None) -> None:
        self._servicer = served_policy(policy, source)
        self.spec = replace(policy.spec, everything=True)

    async def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> BehindTheWire:
        self._server, port = await start_server([self._servicer], Listening())
        self._client = RemotePolicy(f"127.0.0.1:{port}")
        await self._client.connect()
        assert self._client.spec == self.spec
        self._session = await self._client.open(session, cameras)
        return self

    async def plan(self, observation: Observation) -> Plan:
        return await self._session.plan(observation)

    async def close(self) -> None:
        await self._session.close()
        await self._client.disconnect()
        await self._server.stop(None)


@asynccontextmanager
async def listening(*servicers: Servicer) -> AsyncIterator[list[str]]:
    """Servers on free ports; yields their addresses."""
    started = [await start_server([servicer], Listening()) for servicer in servicers]
    try:
        yield [f"127.0.0.1:{port}" for _, port in started]
    finally:
        for server, _ in started:
            await server.stop(None)
        for servicer in servicers:
            await servicer.aclose()


UNIT = Pose(quat=Quat(w=1.0))
