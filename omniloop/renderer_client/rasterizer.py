"""Omniloop's own sensor renderer: the world-scenario map, drawn on the CPU."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera
from omniloop.core.contracts import (
    ChunkRule,
    RendererSpec,
    RenderRequest,
    RenderResult,
    SessionInfo,
)
from omniloop.core.errors import ConfigError
from omniloop.core.scene import Actor, VectorMap
from omniloop.core.time import frame_interval_us
from omniloop.renderer_client import palette
from omniloop.renderer_client.draw_world import ActorLooks, world_commands
from omniloop.renderer_client.paint import Image, encode_jpeg, paint
from omniloop.renderer_client.world_geometry import WorldGeometry, build_geometry

CHUNKS = (0, 8, 12, 16)

Alter = Callable[[Image, RenderRequest, int], Image]
"""Changes the picture of a request's frame, by its number, before it is encoded."""

# The largest side that a JPEG can have.
_MAX_SIDE = 65535


class Rasterizer:
    """Draws map and actors into any camera, on any machine, the same bytes every time.

    A frame shows the world at its capture time; a rolling shutter is not simulated. The
    ego vehicle is not drawn. Sessions on the same map share its prepared geometry.

    Args:
        chunk: Frames of a chunk, 8, 12 or 16 as of a chunked video model; 0 renders frame
            by frame.
        fps: Frame rate of a chunk, or of cameras that declare none.
        width, height: Size of the images.
        cameras: Camera ids; None for the scene's most forward one.
        shutter_us: Shutter of cameras that declare none.
        jpeg_quality: 1 to 100.
        depth_max_m: Nothing farther is drawn; lines thin out towards it.

    Raises:
        ConfigError: a setting is out of range.
    """

    def __init__(
        self,
        chunk: int = 8,
        fps: int = 30,
        width: int = 1280,
        height: int = 704,
        cameras: Sequence[str] | None = None,
        shutter_us: int = 0,
        jpeg_quality: int = 90,
        depth_max_m: float = palette.DEPTH_MAX_M,
    ) -> None:
        if chunk not in CHUNKS:
            raise ConfigError(
                f"chunk is {chunk!r}", where="renderer.chunk",
                remedy="choose 8, 12 or 16 frames, or 0 to render frame by frame",
            )  # fmt: skip
        frame_interval_us(fps)
        for name, side in (("width", width), ("height", height)):
            if side % 2 or not 2 <= side <= _MAX_SIDE:
                raise ConfigError(
                    f"{name} is {side!r}", where=f"renderer.{name}",
                    remedy=f"give an even number of pixels from 2 to {_MAX_SIDE - 1}",
                )  # fmt: skip
        if not 1 <= jpeg_quality <= 100:
            raise ConfigError(
                f"jpeg_quality is {jpeg_quality!r}",
                where="renderer.jpeg_quality",
                remedy="give 1 to 100",
            )
        if shutter_us < 0:
            raise ConfigError(
                f"shutter_us is {shutter_us!r}",
                where="renderer.shutter_us",
                remedy="give 0 or more",
            )
        if not depth_max_m > 0:
            raise ConfigError(
                f"depth_max_m is {depth_max_m!r}", where="renderer.depth_max_m",
                remedy="give a positive number of metres",
            )  # fmt: skip
        ids = (cameras,) if isinstance(cameras, str) else cameras
        self.spec = RendererSpec(
            chunk=ChunkRule(frames=int(chunk), fps=int(fps)) if chunk else None,
            fps=int(fps),
            size=(int(width), int(height)),
            cameras=None if ids is None else tuple(ids),
            shutter_us=int(shutter_us),
        )
        self._quality = int(jpeg_quality)
        self._depth_max_m = float(depth_max_m)
        self._worlds: weakref.WeakKeyDictionary[VectorMap, WorldGeometry] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.Lock()
        # Rollouts run side by side; OpenCV's own threads would only fight for the cores.
        cv2.setNumThreads(1)

    def open(
        self, session: SessionInfo, cameras: tuple[Camera, ...], alter: Alter | None = None
    ) -> RasterSession:
        """Begin a rollout with cameras at the size of their images."""
        with self._lock:
            world = self._worlds.get(session.scene.map)
            if world is None:
                world = build_geometry(session.scene.map)
                self._worlds[session.scene.map] = world
        return RasterSession(world, cameras, self._quality, self._depth_max_m, alter)


class RasterSession:
    """One rollout's frames. Equal requests give equal bytes."""

    def __init__(
        self,
        world: WorldGeometry,
        cameras: tuple[Camera, ...],
        jpeg_quality: int,
        depth_max_m: float,
        alter: Alter | None = None,
    ) -> None:
        self._world = world
        self._actors: tuple[Actor, ...] = ()
        self._looks = ActorLooks.of(())
        self._cameras = cameras
        self._quality = jpeg_quality
        self._depth_max_m = depth_max_m
        self._alter = alter

    def render(self, request: RenderRequest) -> RenderResult:
        """Render each frame at its capture time."""
        if request.actors is not self._actors:
            self._actors, self._looks = request.actors, ActorLooks.of(request.actors)
        end_index = np.asarray(request.end_index)
        camera_index = np.asarray(request.camera_index)
        images = [b""] * len(request)
        for number in np.unique(camera_index).tolist():
            frames = np.flatnonzero(camera_index == number)
            at, camera = end_index[frames], self._cameras[number]
            poses = geometry.compose(request.local_to_rig[at], camera.rig_to_camera)
            cuboids, frame = self._looks.cuboids(
                request.actor_motion.local_to_aabb[:, at], request.actor_motion.valid[:, at]
            )
            lists = world_commands(
                self._world, camera.model, poses, cuboids, frame, self._depth_max_m
            )
            image = np.empty((camera.model.height, camera.model.width, 3), dtype=np.uint8)
            for i, commands in zip(frames.tolist(), lists, strict=True):
                image.fill(0)
                paint(image, commands)
                shown = image if self._alter is None else self._alter(image, request, i)
                images[i] = encode_jpeg(shown, self._quality)
        return RenderResult(tuple(images))
