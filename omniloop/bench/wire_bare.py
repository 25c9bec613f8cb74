"""A bare loop over the same services: the messages and their order, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from grpc import aio

from omniloop.core import geometry
from omniloop.core.cameras import Camera
from omniloop.core.geometry import Array
from omniloop.core.motion import Times
from omniloop.core.route import RouteLine, route_at
from omniloop.core.scene import Scene
from omniloop.services.camera_codec import CameraAxes, available_camera, spec_to_wire
from omniloop.services.codec import (
    dynamics_to_wire,
    poses_to_wire,
    trajectory_to_wire,
)
from omniloop.services.protos import egodriver_pb2 as drive_pb
from omniloop.services.protos import sensorsim_pb2 as pb
from omniloop.services.protos import video_model_pb2 as video_pb
from omniloop.services.protos.common_pb2 import AABB, Vec3
from omniloop.services.rpc import methods_of

_TIMEOUT_S = 60.0
_SHUTTER_US = 100
_FRAME_US = 33_333


@dataclass(frozen=True)
class BareTimes:
    """What a bare loop took.

    Attributes:
        ms_per_step: Wall time over all steps of all rollouts.
        cpu_ms_per_step: This process's CPU time likewise.
    """

    ms_per_step: float
    cpu_ms_per_step: float


def bare_loop(
    scene: Scene,
    camera: Camera,
    route: RouteLine,
    addresses: tuple[str, str],
    steps: int,
    rollouts: int,
    chunk: int = 0,
) -> BareTimes:
    """Run `rollouts` at once of `steps` steps each: render; images, ego and route; drive.

    Args:
        addresses: Of the renderer and of the driver.
        chunk: Frames of a step from a video model at 30 fps; 0 for one frame at 10 Hz from a
            per-frame renderer.
    """
    return asyncio.run(_run(scene, camera, route, addresses, steps, rollouts, chunk))


async def _run(
    scene: Scene,
    camera: Camera,
    route: RouteLine,
    addresses: tuple[str, str],
    steps: int,
    rollouts: int,
    chunk: int,
) -> BareTimes:
    renderer, driver = (aio.insecure_channel(a) for a in addresses)
    drives = _stubs(driver, drive_pb.DESCRIPTOR.services_by_name["EgodriverService"])
    numbers = _steps(scene, camera, route, steps, chunk)

    async def one(count: int, name: str) -> None:
        renders = _frames(scene, camera, renderer) if not chunk else await _chunks(camera, renderer)
        await _rollout(camera, numbers[:count], renders, drives, name)

    async def all_at_once(count: int, name: str) -> None:
        await asyncio.gather(*(one(count, f"{name}/{k}") for k in range(rollouts)))

    try:
        await all_at_once(min(steps, 10 if not chunk else 2), "warm")
        began, cpu = time.perf_counter(), time.process_time()
        await all_at_once(steps, "bare")
        total = steps * rollouts
        return BareTimes(
            1e3 * (time.perf_counter() - began) / total, 1e3 * (time.process_time() - cpu) / total
        )
    finally:
        await renderer.close()
        await driver.close()


def _stubs(channel: aio.Channel, service: Any) -> dict[str, Any]:
    return {
        name: channel.unary_unary(m.path, m.request.SerializeToString, m.reply.FromString)
        for name, m in methods_of(service).items()
    }


@dataclass(frozen=True)
class _Step:
    """The numbers of a step, worked out beforehand: they are no part of the bare loop.

    Attributes:
        times_us: Start and end of the shutter, or the times of a chunk's frames.
    """

    times_us: Times
    ego: Array
    camera_poses: Array
    actor_poses: Array
    waypoints_rig: Array


def _steps(scene: Scene, camera: Camera, route: RouteLine, count: int, chunk: int) -> list[_Step]:
    out = []
    near_m: float | None = None
    for number in range(count):
        if chunk:
            first = scene.start_us + _FRAME_US * (1 + chunk * number)
            times = first + _FRAME_US * np.arange(chunk, dtype=np.int64)
        else:
            now = scene.start_us + 100_000 * (number + 1)
            times = np.array([now - _SHUTTER_US, now], dtype=np.int64)
        ego = scene.ego.sample(times)
        ahead, near_m = route_at(route, ego[-1], int(times[-1]), near_s_m=near_m)
        out.append(
            _Step(
                times, ego, geometry.compose(ego, camera.rig_to_camera),
                scene.recorded_actors(times).local_to_aabb, ahead.waypoints_rig,
            )
        )  # fmt: skip
    return out


_Renders = Callable[[_Step], Awaitable[list[tuple[int, int, bytes]]]]
"""Asks for the frames of a step: shutter start and end, and image."""


def _frames(scene: Scene, camera: Camera, channel: aio.Channel) -> _Renders:
    call = _stubs(channel, pb.DESCRIPTOR.services_by_name["SensorsimService"])["render_rgb"]
    spec = spec_to_wire(camera)

    async def render(step: _Step) -> list[tuple[int, int, bytes]]:
        opened, now = step.times_us.tolist()
        cameras = poses_to_wire(step.camera_poses)
        starts = poses_to_wire(step.actor_poses[:, 0])
        ends = poses_to_wire(step.actor_poses[:, 1])
        reply = await call(
            pb.RGBRenderRequest(
                scene_id=scene.id, resolution_h=spec.resolution_h, resolution_w=spec.resolution_w,
                camera_intrinsics=spec, frame_start_us=opened, frame_end_us=now,
                sensor_pose=pb.PosePair(start_pose=cameras[0], end_pose=cameras[1]),
                dynamic_objects=[
                    pb.DynamicObject(
                        track_id=a.id, pose_pair=pb.PosePair(start_pose=s, end_pose=e)
                    )
                    for a, s, e in zip(scene.actors, starts, ends, strict=True)
                ],
                image_format=pb.JPEG, image_quality=95,
            ),
            timeout=_TIMEOUT_S,
        )  # fmt: skip
        return [(opened, now, reply.image_bytes)]

    return render


async def _chunks(camera: Camera, channel: aio.Channel) -> _Renders:
    calls = _stubs(channel, video_pb.DESCRIPTOR.services_by_name["WorldModelService"])
    start = video_pb.SessionRequest(camera_specs=[spec_to_wire(camera)])
    session = await calls["start_session"](start, timeout=_TIMEOUT_S)
    size = AABB(size_x=4.5, size_y=1.9, size_z=1.5)

    async def render(step: _Step) -> list[tuple[int, int, bytes]]:
        actors = [
            video_pb.DynamicActor(
                class_id=video_pb.CAR, bbox_dims=size,
                trajectory=trajectory_to_wire(step.times_us, poses),
            )
            for poses in step.actor_poses
        ]  # fmt: skip
        reply = await calls["render_video_chunk"](
            video_pb.VideoChunkRequest(
                session_id=session, rig_trajectory=trajectory_to_wire(step.times_us, step.ego),
                dynamic_state=video_pb.DynamicWorldState(actors=actors),
            ),
            timeout=_TIMEOUT_S,
        )  # fmt: skip
        images = reply.camera_outputs[0].rgb_frames
        times = step.times_us.tolist()
        return [(t, t, image.data) for t, image in zip(times, images, strict=True)]

    return render


async def _rollout(
    camera: Camera, steps: list[_Step], renders: _Renders, drives: dict[str, Any], name: str
) -> None:
    vehicle = drive_pb.DriveSessionRequest.RolloutSpec.VehicleDefinition(
        available_cameras=[available_camera(camera, CameraAxes.OPTICAL)]
    )
    start = drive_pb.DriveSessionRequest(
        session_uuid=name, random_seed=1,
        rollout_spec=drive_pb.DriveSessionRequest.RolloutSpec(vehicle=vehicle),
    )  # fmt: skip
    await drives["start_session"](start, timeout=_TIMEOUT_S)
    dynamics = np.zeros(12)
    dynamics[0] = 15.0
    for step in steps:
        now = int(step.times_us[-1])
        frames = await renders(step)
        waypoints = [Vec3(x=x, y=y, z=z) for x, y, z in step.waypoints_rig.tolist()]
        await asyncio.gather(
            *(
                drives["submit_image_observation"](
                    drive_pb.RolloutCameraImage(
                        session_uuid=name,
                        camera_image=drive_pb.RolloutCameraImage.CameraImage(
                            frame_start_us=opened, frame_end_us=closed, image_bytes=image,
                            logical_id=camera.id,
                        ),
                    ),
                    timeout=_TIMEOUT_S,
                )
                for opened, closed, image in frames
            ),
            drives["submit_egomotion_observation"](
                drive_pb.RolloutEgoTrajectory(
                    session_uuid=name,
                    trajectory=trajectory_to_wire(step.times_us[-1:], step.ego[-1:]),
                    dynamic_states=[dynamics_to_wire(dynamics)],
                ),
                timeout=_TIMEOUT_S,
            ),
            drives["submit_route"](
                drive_pb.RouteRequest(
                    session_uuid=name, route=drive_pb.Route(timestamp_us=now, waypoints=waypoints)
                ),
                timeout=_TIMEOUT_S,
            ),
        )  # fmt: skip
        answer = await drives["drive"](
            drive_pb.DriveRequest(session_uuid=name, time_now_us=now, time_query_us=now + 100_000),
            timeout=_TIMEOUT_S,
        )
        for at in answer.trajectory.poses:  # parsed lazily: read what a plan holds
            v, q = at.pose.vec, at.pose.quat
            _ = (at.timestamp_us, v.x, v.y, v.z, q.w, q.x, q.y, q.z)
    close = drive_pb.DriveSessionCloseRequest(session_uuid=name)
    await drives["close_session"](close, timeout=_TIMEOUT_S)
