"""A scene, requests and servers for the tests of the sensorsim protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import simplejpeg
from grpc import StatusCode

from omniloop.core import geometry
from omniloop.core.calls import CallFunnel
from omniloop.core.cameras import Camera, PinholeCamera, optical_from_flu
from omniloop.core.contracts import RenderRequest, RenderResult, SessionInfo
from omniloop.core.local import as_service
from omniloop.core.motion import ActorMotion, Trajectory
from omniloop.core.scene import Actor, ActorClass, Polyline, Scene, Track, VectorMap
from omniloop.renderer_client.rasterizer import Rasterizer
from omniloop.services.protos import sensorsim_pb2 as pb
from omniloop.services.protos.common_pb2 import AvailableScenesReturn
from omniloop.services.rpc import Caller, Refusal
from omniloop.services.sensorsim_client import NuRec
from omniloop.services.sensorsim_server import SensorsimServicer
from omniloop.services.serving import Listening, Servicer, start_server
from omniloop.services.shelf import SceneShelf

STEP_US = 100_000
END_US = 2_000_000
JPEG = bytes(simplejpeg.encode_jpeg(np.zeros((16, 16, 3), dtype=np.uint8)))


def camera(name: str = "front", *, yaw_rad: float = 0.0, shutter_us: int = 0) -> Camera:
    """A pinhole of 90 degrees, 1.6 m ahead of the rear axle and 1.5 m up, looking at `yaw_rad`."""
    mount = geometry.pose(1.6, 0.0, 1.5, yaw_rad)
    model = PinholeCamera(160, 96, 80.0, 80.0, 79.5, 47.5)
    return Camera(name, model, optical_from_flu(mount), shutter_us=shutter_us)


LEFT = camera("left", yaw_rad=np.pi / 2)


def scene(cameras: tuple[Camera, ...] = (camera(), LEFT)) -> Scene:
    """Ego at 10 m/s along x; a car ahead, a parked one, and one seen from 1 s on, on a ramp."""
    times = np.arange(0, END_US + 1, STEP_US, dtype=np.int64)
    s = times / 1e6
    ego = Trajectory(times, geometry.poses_from_xyz_yaw(np.stack([10 * s, 0 * s, 0 * s], 1), 0 * s))

    def track(name: str, x: np.ndarray, y: float, seen: np.ndarray, static: bool = False) -> Track:
        xyz = np.stack([x, np.full_like(s, y), np.full_like(s, 0.75)], axis=1)
        actor = Actor(name, ActorClass.CAR, "car", np.array([4.0, 2.0, 1.5]), static)
        return Track(actor, times, geometry.poses_from_xyz_yaw(xyz, 0 * s), seen)

    always = np.ones(len(times), dtype=bool)
    late = track("late", 30 + 0 * s, -3.0, s >= 1.0)
    ramp = np.array([0.0, np.sin(0.1), 0.0, np.cos(0.1)])  # nose down by 0.2 rad about y
    tilted = late.local_to_aabb.copy()
    tilted[:, 3:] = ramp
    lines = tuple(
        Polyline(f"edge{k}", np.array([[-10.0, y, 0.0], [80.0, y, 0.0]]))
        for k, y in enumerate((-5, 5))
    )
    return Scene(
        "line", "test", ego, cameras=cameras, map=VectorMap(road_boundaries=lines),
        tracks=(
            track("ahead", 20 + 5 * s, 0.0, always),
            track("parked", 15 + 0 * s, 4.0, always, static=True),
            replace(late, local_to_aabb=tilted),
        ),
    )  # fmt: skip


class OneScene:
    """A source of scenes that are at hand."""

    def __init__(self, *scenes: Scene) -> None:
        self._scenes = {s.id: s for s in scenes}

    def ids(self) -> list[str]:
        return sorted(self._scenes)

    def load(self, scene_id: str) -> Scene:
        return self._scenes[scene_id]


def session_of(one: Scene) -> SessionInfo:
    return SessionInfo(
        f"{one.id}/0", one, 0, one.vehicle, one.start_us, one.start_us, one.end_us, CallFunnel(f"{one.id}/0")
    )  # fmt: skip


def frames(
    one: Scene,
    shots: Sequence[tuple[int, int, int]],
    *,
    gone: Sequence[str] = (),
    moved_m: float = 0.0,
) -> RenderRequest:
    """A request for shots of (camera, start, end); the world is the recording, `gone` left out.

    Args:
        moved_m: How far along x the moving actors are from where they were recorded.
    """
    camera_index, start_us, end_us = (np.array(c, dtype=np.int64) for c in zip(*shots, strict=True))
    times = np.unique(np.concatenate([start_us, end_us]))
    recorded = one.recorded_actors(times)
    poses, valid = recorded.local_to_aabb.copy(), recorded.valid.copy()
    for row, actor in enumerate(one.actors):
        valid[row] &= actor.id not in gone
        poses[row, :, 0] += 0.0 if actor.is_static else moved_m
    return RenderRequest(
        times, one.ego.sample(times), one.actors, ActorMotion(times, poses, valid), camera_index,
        np.searchsorted(times, start_us), np.searchsorted(times, end_us),
    )  # fmt: skip


class Scripted(Servicer):
    """A sensorsim server that a test writes: it answers a fixed image and counts its calls.

    Attributes:
        calls: How often each method was called.
        together: How many images were asked for at once, at most.
        failures: What the next calls of a method raise, one after another.
    """

    service = pb.DESCRIPTOR.services_by_name["SensorsimService"]

    def __init__(self, *, render_s: float = 0.0, cameras: Sequence[str] = ()) -> None:
        self.calls: dict[str, int] = {}
        self.seen: list[Any] = []
        self.failures: dict[str, list[Refusal]] = {}
        self.together = self._now = 0
        self._render_s = render_s
        self._cameras = cameras

    async def answer(self, method: str, request: Any, caller: Caller) -> Any:
        self.calls[method] = self.calls.get(method, 0) + 1
        if self.failures.get(method):
            raise self.failures[method].pop(0)
        return await super().answer(method, request, caller)

    async def get_available_scenes(self, request: Any, caller: Caller) -> Any:
        return AvailableScenesReturn(scene_ids=["*"])

    async def get_available_cameras(self, request: Any, caller: Caller) -> Any:
        reply = pb.AvailableCamerasReturn()
        for name in self._cameras:
            reply.available_cameras.add(logical_id=name)
        return reply

    async def get_available_ego_masks(self, request: Any, caller: Caller) -> Any:
        reply = pb.AvailableEgoMasksReturn()
        reply.ego_mask_metadata.add(
            ego_mask_id=pb.EgoMaskId(camera_logical_id="front", rig_config_id="sedan")
        )
        return reply

    async def render_rgb(self, request: Any, caller: Caller) -> Any:
        self.seen.append(request)
        self._now += 1
        self.together = max(self.together, self._now)
        await asyncio.sleep(self._render_s)
        self._now -= 1
        return pb.RGBRenderReturn(image_bytes=self.image(request))

    async def batch_render_rgb(self, request: Any, caller: Caller) -> Any:
        reply = pb.BatchRGBRenderReturn()
        for item in reversed(request.items):  # the order of a batch's items is the server's own
            result = await self.render_rgb(item.request, caller)
            reply.items.add(camera_name=item.camera_name, result=result, success=True)
        return reply

    async def render_aggregated(self, request: Any, caller: Caller) -> Any:
        returns = [await self.render_rgb(r, caller) for r in request.rgb_requests]
        return pb.AggregatedRenderReturn(rgb_returns=returns, driver_data=b"whatever")

    def image(self, request: Any) -> bytes:
        """The image of a frame: all are of one size, whatever was asked for."""
        return JPEG


def unimplemented(method: str) -> Refusal:
    return Refusal(StatusCode.UNIMPLEMENTED, f"Method {method} is not implemented!")


def served(one: Scene, **settings: Any) -> SensorsimServicer:
    """The rasteriser behind the protocol."""
    renderer = as_service("renderer", Rasterizer(chunk=0, width=160, height=96, **settings))
    return SensorsimServicer(renderer, SceneShelf(OneScene(one)))


@asynccontextmanager
async def connected(servicer: Servicer, **settings: Any) -> AsyncIterator[NuRec]:
    """A client of a real server on a loopback port."""
    server, port = await start_server([servicer], Listening())
    settings = {"width": 160, "height": 96, "retry_delays_s": (0.0, 0.0), **settings}
    client = NuRec(f"127.0.0.1:{port}", **settings)
    try:
        await client.connect()
        yield client
    finally:
        await client.disconnect()
        await server.stop(None)
        await servicer.aclose()


def rendered(
    servicer: Servicer,
    one: Scene,
    cameras: tuple[Camera, ...],
    *requests: RenderRequest,
    **settings: Any,
) -> list[RenderResult]:
    """The answers to requests, one after another in one session."""

    async def run() -> list[RenderResult]:
        async with connected(servicer, **settings) as client:
            session = await client.open(session_of(one), cameras)
            try:
                return [await session.render(r) for r in requests]
            finally:
                await session.close()

    return asyncio.run(run())  # fmt: skip
