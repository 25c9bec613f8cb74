"""What serving the rasteriser gives, and how far float32 moves a rollout."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from grpc import aio

from omniloop.core import geometry
from omniloop.core.cameras import select_cameras
from omniloop.core.contracts import RenderRequest, SessionInfo
from omniloop.core.errors import ServiceError
from omniloop.renderer_client.rasterizer import Rasterizer
from omniloop.runlog.folder import open_existing
from omniloop.runlog.reader import LogReader
from omniloop.runlog.record import read_record
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.services.camera_codec import spec_to_wire
from omniloop.services.codec import poses_to_wire
from omniloop.services.protos import sensorsim_pb2 as pb
from omniloop.services.rpc import MIB, methods_of

FRAMES = 120
AT_ONCE = 4
_SCENE = "junction"
_SIZE = (1280, 704)


def frames_per_second(
    bare_server: Callable[[int], AbstractContextManager[list[int]]],
) -> dict[str, Any]:
    """Frames and megabytes a second: the rasteriser here, served, and its payload alone.

    Args:
        bare_server: Starts a server that answers every frame with so many bytes.
    """
    scene = EmbeddedScenes().load(_SCENE)
    camera = select_cameras(scene.cameras, None, scene.id)[0]
    camera = replace(camera, model=camera.model.resized(*_SIZE))
    times = np.linspace(scene.start_us, scene.end_us - 100, FRAMES).astype(np.int64)
    ego, actors = scene.ego.sample(times), scene.recorded_actors(times)
    index = np.arange(FRAMES)
    info = SessionInfo(
        "bench/0", scene, 0, scene.vehicle, scene.start_us, scene.start_us, scene.end_us
    )
    session = Rasterizer(chunk=0, width=_SIZE[0], height=_SIZE[1], jpeg_quality=95).open(
        info, (camera,)
    )
    request = RenderRequest(times, ego, scene.actors, actors, 0 * index, index, index)
    began = time.perf_counter()
    drawn = session.render(request).images
    here_s = time.perf_counter() - began
    spec = spec_to_wire(camera)
    asked = []
    for k, pose in enumerate(poses_to_wire(geometry.compose(ego, camera.rig_to_camera))):
        boxes = poses_to_wire(actors.local_to_aabb[:, k])
        moving = [
            pb.DynamicObject(track_id=a.id, pose_pair=pb.PosePair(start_pose=b, end_pose=b))
            for a, b, seen in zip(scene.actors, boxes, actors.valid[:, k], strict=True)
            if seen and not a.is_static
        ]
        asked.append(
            pb.RGBRenderRequest(
                scene_id=scene.id, resolution_h=_SIZE[1], resolution_w=_SIZE[0],
                camera_intrinsics=spec, frame_start_us=int(times[k]), frame_end_us=int(times[k]) + 1,
                sensor_pose=pb.PosePair(start_pose=pose, end_pose=pose), dynamic_objects=moving,
                image_format=pb.JPEG, image_quality=95,
            )
        )  # fmt: skip
    payload = sum(map(len, drawn)) // FRAMES
    process = subprocess.Popen(
        [sys.executable, "-m", "omniloop.cli.main", "serve", "renderer", "renderer.chunk=0",
         "renderer.jpeg_quality=95", "--port", "0"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        served = asyncio.run(_fetch(_port_of(process), asked))
    finally:
        process.terminate()
        process.wait(timeout=30)
    with bare_server(payload) as ports:
        bare = asyncio.run(_fetch(ports[0], asked))
    return {
        "size": list(_SIZE),
        "calls_at_once": AT_ONCE,
        "payload_bytes": payload,
        "here": {"frames_per_s": round(FRAMES / here_s, 1)},
        "served": served,
        "payload_alone": bare,
    }


def _port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith("serving"):
        raise ServiceError("omniloop serve renderer did not start", where="omniloop bench wire")
    return int(line.split(" at ")[1].split(" ")[0].rpartition(":")[2])


async def _fetch(port: int, asked: list[Any]) -> dict[str, float]:
    method = methods_of(pb.DESCRIPTOR.services_by_name["SensorsimService"])["render_rgb"]
    options = [("grpc.max_receive_message_length", 64 * MIB)]
    async with aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        call = channel.unary_unary(
            method.path, method.request.SerializeToString, method.reply.FromString
        )
        await call(asked[0], timeout=60)
        queue = iter(asked)
        size = 0

        async def worker() -> None:
            nonlocal size
            for request in queue:
                reply = await call(request, timeout=60)
                size += len(reply.image_bytes)

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        took_s = time.perf_counter() - began
    return {
        "frames_per_s": round(len(asked) / took_s, 1),
        "megabytes_per_s": round(size / took_s / 1e6, 2),
    }


def divergence(exact: Path, rounded: Path) -> dict[str, Any]:
    """Where two runs of the same rollouts differ: ego's place, and scores.

    Returns:
        By scene: the largest distance between the two egos at the same instant, and every
        score with its two values if they differ by more than 1e-3.
    """
    out: dict[str, Any] = {}
    folders = [open_existing(exact), open_existing(rounded)]
    for path in sorted(folders[0].glob("rollouts/*/*/log.mcap")):
        other = folders[1] / path.relative_to(folders[0])
        here, there = read_record(path), read_record(other)
        times = here.ego.times_us[np.isin(here.ego.times_us, there.ego.times_us)]
        apart = here.ego.trajectory.sample(times)[:, :3] - there.ego.trajectory.sample(times)[:, :3]
        out[LogReader(path).header().session_id] = {
            "largest_distance_m": float(f"{np.linalg.norm(apart, axis=1).max():.3g}"),
            "scores_that_differ": _differing(path.parent, other.parent),
        }
    return out


def _differing(here: Path, there: Path) -> dict[str, list[float | None]]:
    from omniloop.runlog.results import read_result

    a, b = read_result(here / "result.json").metrics, read_result(there / "result.json").metrics
    out: dict[str, list[float | None]] = {}
    for name, value in a.items():
        pair = [value.value, b[name].value]
        if pair[0] != pair[1] and not (None not in pair and abs(pair[0] - pair[1]) <= 1e-3):  # type: ignore[operator]
            out[name] = pair
    return out
