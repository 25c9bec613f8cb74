"""Services that answer at once, or after a set time, for `omniloop bench wire`.

Run as a process: ``python -m omniloop.bench.wire_servers JSON`` where JSON is a list of
`Role` fields; prints the ports as a JSON list and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np
from grpc import aio

from omniloop.services.protos import egodriver_pb2, sensorsim_pb2, video_model_pb2
from omniloop.services.protos.common_pb2 import (
    AvailableScenesReturn,
    Empty,
    Pose,
    PoseAtTime,
    Quat,
    SessionRequestStatus,
    Trajectory,
    Vec3,
)
from omniloop.services.rpc import Caller, methods_of
from omniloop.services.serving import Listening, Servicer, start_server

PLAN_POSES = 41
"""Poses of a plan, 100 ms apart: as carla-driver-interface's policies answer."""

_HELD_KEY = "bench-held-s"
_CALLS_KEY = "bench-calls"


@dataclass(frozen=True)
class Role:
    """One server.

    Attributes:
        protocol: "driver", "sensor" or "video".
        service_s: How long a plan, a frame or a chunk takes.
        at_once: Calls that are worked on together; others wait.
        size: Of the images.
        payload_bytes: Size of an image that is no picture; 0 for a picture.
    """

    protocol: str
    service_s: float = 0.0
    at_once: int = 1_000_000
    size: tuple[int, int] = (640, 352)
    payload_bytes: int = 0


class _Worker:
    """Holds one of few places for the time of a call, and counts."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._places = asyncio.Semaphore(role.at_once)
        self.held_s = 0.0
        self.calls = 0

    async def work(self) -> None:
        self.calls += 1
        if not self._role.service_s:
            return
        async with self._places:
            began = time.perf_counter()
            await asyncio.sleep(self._role.service_s)
            self.held_s += time.perf_counter() - began

    def tell(self, caller: Caller) -> None:
        caller.reply_metadata[_HELD_KEY] = repr(self.held_s)
        caller.reply_metadata[_CALLS_KEY] = str(self.calls)


@dataclass
class _Told:
    """The newest ego state that a driver was told."""

    pose: Any = field(default_factory=Pose)
    speed_mps: float = 0.0


class Driver(Servicer):
    """Drives straight on at the speed that it was told."""

    service = egodriver_pb2.DESCRIPTOR.services_by_name["EgodriverService"]

    def __init__(self, role: Role) -> None:
        self._worker = _Worker(role)
        self._told: dict[str, _Told] = {}

    async def get_version(self, request: Any, caller: Caller) -> Any:
        """The version, with how long calls took so far."""
        self._worker.tell(caller)
        caller.reply_metadata["carla-driver-interface-contract"] = "2"
        return await super().get_version(request, caller)

    async def answer(self, method: str, request: Any, caller: Caller) -> Any:
        """Answer as a foreign driver: without our own metadata."""
        return await getattr(self, method)(request, caller)

    async def start_session(self, request: Any, caller: Caller) -> Any:
        """Begin."""
        self._told[request.session_uuid] = _Told()
        return SessionRequestStatus()

    async def close_session(self, request: Any, caller: Caller) -> Any:
        """End."""
        self._told.pop(request.session_uuid, None)
        return Empty()

    async def submit_image_observation(self, request: Any, caller: Caller) -> Any:
        """Ignore an image."""
        return Empty()

    async def submit_egomotion_observation(self, request: Any, caller: Caller) -> Any:
        """Keep the newest state."""
        told = self._told[request.session_uuid]
        told.pose = request.trajectory.poses[-1].pose
        told.speed_mps = request.dynamic_states[-1].linear_velocity.x
        return Empty()

    async def submit_route(self, request: Any, caller: Caller) -> Any:
        """Ignore the route."""
        return Empty()

    async def submit_recording_ground_truth(self, request: Any, caller: Caller) -> Any:
        """Ignore the recording."""
        return Empty()

    async def drive(self, request: Any, caller: Caller) -> Any:
        """Plan straight on."""
        await self._worker.work()
        told = self._told[request.session_uuid]
        v, q = told.pose.vec, told.pose.quat
        forward_x = 1 - 2 * (q.y * q.y + q.z * q.z)
        forward_y = 2 * (q.x * q.y + q.w * q.z)
        step_m = told.speed_mps * 0.1
        poses = [
            PoseAtTime(
                timestamp_us=request.time_now_us + 100_000 * k,
                pose=Pose(
                    vec=Vec3(x=v.x + forward_x * step_m * k, y=v.y + forward_y * step_m * k, z=v.z),
                    quat=Quat(w=q.w, x=q.x, y=q.y, z=q.z),
                ),
            )
            for k in range(PLAN_POSES)
        ]
        return egodriver_pb2.DriveResponse(trajectory=Trajectory(poses=poses))


class Sensor(Servicer):
    """Renders the same picture for every frame."""

    service = sensorsim_pb2.DESCRIPTOR.services_by_name["SensorsimService"]

    def __init__(self, role: Role) -> None:
        self._worker = _Worker(role)
        image = bytes(role.payload_bytes) or picture(role.size)
        self._reply = sensorsim_pb2.RGBRenderReturn(image_bytes=image)

    async def answer(self, method: str, request: Any, caller: Caller) -> Any:
        """Answer as a foreign renderer: without our own metadata."""
        return await getattr(self, method)(request, caller)

    async def get_version(self, request: Any, caller: Caller) -> Any:
        """The version, with how long calls took so far."""
        self._worker.tell(caller)
        return await super().get_version(request, caller)

    async def get_available_scenes(self, request: Any, caller: Caller) -> Any:
        """Any scene."""
        return AvailableScenesReturn(scene_ids=["*"])

    async def get_available_cameras(self, request: Any, caller: Caller) -> Any:
        """No catalogue."""
        return sensorsim_pb2.AvailableCamerasReturn()

    async def get_available_ego_masks(self, request: Any, caller: Caller) -> Any:
        """No masks."""
        return sensorsim_pb2.AvailableEgoMasksReturn()

    async def render_rgb(self, request: Any, caller: Caller) -> Any:
        """One frame."""
        await self._worker.work()
        return self._reply


class Video(Servicer):
    """Makes chunks of the same picture, whoever asks."""

    service = video_model_pb2.DESCRIPTOR.services_by_name["WorldModelService"]

    def __init__(self, role: Role) -> None:
        self._worker = _Worker(role)
        self._image = video_model_pb2.Image(
            data=picture(role.size), format=video_model_pb2.ImageFormat.JPEG
        )
        self._cameras: dict[str, list[str]] = {}

    async def answer(self, method: str, request: Any, caller: Caller) -> Any:
        """Answer as a foreign renderer: without our own metadata."""
        return await getattr(self, method)(request, caller)

    async def get_version(self, request: Any, caller: Caller) -> Any:
        """The version, with how long calls took so far."""
        self._worker.tell(caller)
        return await super().get_version(request, caller)

    async def start_session(self, request: Any, caller: Caller) -> Any:
        """Begin."""
        name = str(uuid.uuid4())
        self._cameras[name] = [spec.logical_id for spec in request.camera_specs]
        return video_model_pb2.SessionId(session_id=name)

    async def close_session(self, request: Any, caller: Caller) -> Any:
        """End."""
        self._cameras.pop(request.session_id, None)
        return Empty()

    async def render_video_chunk(self, request: Any, caller: Caller) -> Any:
        """One chunk."""
        await self._worker.work()
        frames = [self._image] * len(request.rig_trajectory.poses)
        return video_model_pb2.VideoChunkReturn(
            camera_outputs=[
                video_model_pb2.CameraOutput(camera_logical_id=name, rgb_frames=frames)
                for name in self._cameras[request.session_id.session_id]
            ]
        )


_PROTOCOLS: dict[str, type[Driver | Sensor | Video]] = {
    "driver": Driver,
    "sensor": Sensor,
    "video": Video,
}


def picture(size: tuple[int, int]) -> bytes:
    """A JPEG with about as many bytes as a drawn street."""
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows % 97 + 60, columns % 61 + 90, (rows + columns) % 43 + 20], axis=-1)
    return bytes(cv2.imencode(".jpg", image.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


async def _main(roles: Sequence[Role]) -> None:
    started = [await start_server([_PROTOCOLS[r.protocol](r)], Listening()) for r in roles]
    print(json.dumps([port for _, port in started]), flush=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)
    for server, _ in started:
        await server.stop(None)


@dataclass(frozen=True)
class Work:
    """What a server did: calls, and the time for which they held a place."""

    calls: int
    held_s: float


def measured_work(roles: Sequence[Role], addresses: Sequence[str]) -> list[Work]:
    """Ask servers of this bench what they did."""

    async def ask(role: Role, address: str) -> Work:
        version = methods_of(_PROTOCOLS[role.protocol].service)["get_version"]
        async with aio.insecure_channel(address) as channel:
            call = channel.unary_unary(
                version.path, version.request.SerializeToString, version.reply.FromString
            )(Empty())
            told = {str(k): str(v) for k, v in await call.initial_metadata()}
        return Work(int(told[_CALLS_KEY]), float(told[_HELD_KEY]))

    async def ask_all() -> list[Work]:
        return [await ask(r, a) for r, a in zip(roles, addresses, strict=True)]

    return asyncio.run(ask_all())


def spec_of(roles: Sequence[Role]) -> str:
    """Roles as the process's argument."""
    return json.dumps([asdict(role) for role in roles])


if __name__ == "__main__":
    given = [Role(**{**r, "size": tuple(r["size"])}) for r in json.loads(sys.argv[1])]
    asyncio.run(_main(given))
