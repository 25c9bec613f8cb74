"""What the rasteriser costs beyond OpenCV and JPEG.

The same frames are timed three ways in turn: rendered from requests, painted from
finished drawing commands (nothing but OpenCV calls) and encoded, and encoded alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera, select_cameras
from omniloop.core.contracts import RenderRequest, SessionInfo
from omniloop.core.errors import ConfigError
from omniloop.core.motion import Times
from omniloop.core.scene import Scene
from omniloop.renderer_client.draw_world import ActorLooks, world_commands
from omniloop.renderer_client.paint import Command, Fill, Image, Lines, encode_jpeg, paint
from omniloop.renderer_client.rasterizer import Rasterizer
from omniloop.renderer_client.world_geometry import build_geometry

CHUNK = 8
WIDTH, HEIGHT = 1280, 704
JPEG_QUALITY = 90


def run(
    scene: Scene, frames: int = 64, repeat: int = 7, camera: str | None = None
) -> dict[str, float | int | str]:
    """Measure one camera at 1280 x 704 over a whole scene, in chunks of 8 frames.

    Args:
        frames: Rounded up to whole chunks, which are spread evenly over the recording.
        repeat: How often each chunk is timed; the fastest counts, as others on the
            machine can only slow it down.
        camera: Camera id; None for the most forward one.

    Returns:
        Per frame: `frame_ms` rendered from a request; `bare_ms` the same OpenCV calls and
        the JPEG; `ratio` of the two; `single_frame_ms` and `single_frame_ratio` for requests
        of one frame; `jpeg_ms`; `segments` and `polygons` drawn. `ratio_median` uses medians
        over the repeats instead.

    Raises:
        ConfigError: `frames` or `repeat` is below 1, or the scene lacks the camera.
    """
    if frames < 1 or repeat < 1:
        raise ConfigError(
            f"frames is {frames} and repeat {repeat}", remedy="give at least 1 of each"
        )
    wanted = None if camera is None else (camera,)
    chosen = select_cameras(scene.cameras, wanted, scene.id)[0]
    mounted = Camera(chosen.id, chosen.model.resized(WIDTH, HEIGHT), chosen.rig_to_camera)
    renderer = Rasterizer(chunk=CHUNK, width=WIDTH, height=HEIGHT, jpeg_quality=JPEG_QUALITY)
    info = SessionInfo(
        f"{scene.id}/0", scene, 0, scene.vehicle, scene.start_us, scene.start_us, scene.end_us
    )
    session = renderer.open(info, (mounted,))
    world, looks = build_geometry(scene.map), ActorLooks.of(scene.actors)
    image = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)

    def finished(request: RenderRequest) -> list[list[Command]]:
        cuboids, frame = looks.cuboids(
            request.actor_motion.local_to_aabb, request.actor_motion.valid
        )
        poses = geometry.compose(request.local_to_rig, mounted.rig_to_camera)
        return world_commands(world, mounted.model, poses, cuboids, frame)

    def bare(lists: list[list[Command]]) -> Callable[[], None]:
        def draw() -> None:
            for commands in lists:
                image.fill(0)
                paint(image, commands)
                encode_jpeg(image, JPEG_QUALITY)

        return draw

    chunks = [_request(scene, times) for times in _chunks(scene, frames)]
    singles = [_request(scene, request.times_us[:1]) for request in chunks]
    lists = [finished(request) for request in chunks]
    pictures = [_painted(image, commands[0]) for commands in lists]
    ours = [lambda r=r: session.render(r) for r in chunks]
    ours_single = [lambda r=r: session.render(r) for r in singles]
    bare_all = [bare(commands) for commands in lists]
    bare_single = [bare(commands[:1]) for commands in lists]
    jpeg = [lambda p=p: encode_jpeg(p, JPEG_QUALITY) for p in pictures]
    kinds = (ours, bare_all, ours_single, bare_single, jpeg)
    times = np.array([
        [[_time_ms(kind[i]) for kind in kinds] for i in range(len(chunks))] for _ in range(repeat)
    ])  # fmt: skip
    best, middle = times.min(axis=0).mean(axis=0), np.median(times, axis=0).mean(axis=0)
    count = len(chunks) * CHUNK
    flat = [command for chunk in lists for commands in chunk for command in commands]
    lines = [p for command in flat if isinstance(command, Lines) for p in command.polylines]
    polygons = sum(
        1 if isinstance(c, Fill) else len(c.polygons) for c in flat if not isinstance(c, Lines)
    )
    return {
        "scene": scene.id,
        "camera": mounted.id,
        "frames": count,
        "repeat": repeat,
        "frame_ms": round(float(best[0]) / CHUNK, 3),
        "bare_ms": round(float(best[1]) / CHUNK, 3),
        "ratio": round(float(best[0] / best[1]), 3),
        "ratio_median": round(float(middle[0] / middle[1]), 3),
        "single_frame_ms": round(float(best[2]), 3),
        "single_frame_ratio": round(float(best[2] / best[3]), 3),
        "jpeg_ms": round(float(best[4]), 3),
        "segments": round(sum(len(p) - 1 for p in lines) / count, 1),
        "polygons": round(polygons / count, 1),
    }


def _chunks(scene: Scene, frames: int) -> list[Times]:
    """Times of whole chunks at 30 fps, spread over the recording."""
    step = 1_000_000 // 30
    n = -(-frames // CHUNK)
    last = max(scene.end_us - (CHUNK - 1) * step, scene.start_us)
    starts = np.linspace(scene.start_us, last, n).astype(np.int64)
    return [np.minimum(start + step * np.arange(CHUNK), scene.end_us) for start in starts]


def _request(scene: Scene, times: Times) -> RenderRequest:
    index = np.arange(len(times))
    return RenderRequest(
        times,
        scene.ego.sample(times),
        scene.actors,
        scene.recorded_actors(times),
        np.zeros_like(index),
        index,
        index,
    )


def _painted(image: Image, commands: list[Command]) -> Image:
    image.fill(0)
    paint(image, commands)
    return image.copy()


def _time_ms(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1e3
