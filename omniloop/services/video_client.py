"""An OmniDreams server, or any other of its protocol, as a renderer (contracts.md part 2)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from omniloop.core.camera_fit import as_ftheta
from omniloop.core.cameras import Camera
from omniloop.core.errors import ConfigError, SceneError, ServiceError, nearest
from omniloop.core.local import as_service
from omniloop.core.messages import ChunkRule, RendererSpec, RenderRequest, SessionInfo
from omniloop.core.scene import Scene
from omniloop.core.schedule import camera_clocks
from omniloop.core.time import frame_interval_us
from omniloop.renderer_client.rasterizer import Rasterizer
from omniloop.services.protos import video_model_pb2 as pb
from omniloop.services.remote import RemoteService
from omniloop.services.rpc import session_metadata
from omniloop.services.video_images import covering
from omniloop.services.video_requests import hd_map, start_request
from omniloop.services.video_session import VideoSession

CHUNKS = (8, 12, 16)
FIRST_FRAMES = ("scene", "raster")


class OmniDreams(RemoteService):
    """A chunked, stateful video model behind the OmniDreams protocol.

    The model starts from an image at render start, which is not delivered, and goes on from
    ego's and the actors' poses. Cameras are sent as f-theta ones. An OmniDreams server holds
    one session, and another client's start ends it: the rollout is then simulated again.

    Args:
        address: See `RemoteService`, as the settings that are not listed here.
        chunk: Frames of a chunk, 8, 12 or 16 as the server's pipeline makes them; the
            first chunk has 3 less.
        fps: Frame rate.
        width, height: Size of the server's images, multiples of 16.
        cameras: Camera ids, as many as the pipeline has views; None for the scene's most
            forward one.
        prompt: What to show, instead of the scene's own text.
        negative_prompt: What not to show.
        first_frame: "scene" starts from the scene's recorded images, "raster" from the
            rasteriser's drawing where a scene has none; results then say so.
        compat: Leave actors that never move out of the requests, as AlpaSim does.
        condition_frames: Have the HD-map images that the model is conditioned on returned.
        skip_video: Get these images only, and have no video made.
        sessions: Rollouts at once at each address.

    Raises:
        ConfigError: a setting is out of range.
    """

    kind = "renderer"
    service = pb.DESCRIPTOR.services_by_name["WorldModelService"]
    timeouts_s: ClassVar[Mapping[str, float]] = {
        "start_session": 180.0,
        "render_video_chunk": 600.0,
        "close_session": 60.0,
    }

    def __init__(
        self,
        address: str,
        chunk: int = 8,
        fps: int = 30,
        width: int = 1280,
        height: int = 704,
        cameras: Sequence[str] | None = None,
        prompt: str | None = None,
        negative_prompt: str = "",
        first_frame: str = "scene",
        compat: bool = False,
        condition_frames: bool = False,
        skip_video: bool = False,
        sessions: int | Sequence[int] | None = 1,
        max_message_mib: int = 100,
        **settings: Any,
    ) -> None:
        super().__init__(address, sessions=sessions, max_message_mib=max_message_mib, **settings)
        if chunk not in CHUNKS:
            raise ConfigError(
                f"chunk is {chunk!r}", where="renderer.chunk", remedy="choose 8, 12 or 16 frames"
            )
        if first_frame not in FIRST_FRAMES:
            raise ConfigError(
                f"first_frame is {first_frame!r}.{nearest(str(first_frame), FIRST_FRAMES)}",
                where="renderer.first_frame", remedy=f"choose {' or '.join(FIRST_FRAMES)}",
            )  # fmt: skip
        frame_interval_us(fps)
        ids = (cameras,) if isinstance(cameras, str) else cameras
        self._chunk = ChunkRule(frames=int(chunk), fps=int(fps))
        self.spec = RendererSpec(
            chunk=self._chunk, fps=int(fps), size=(int(width), int(height)),
            cameras=None if ids is None else tuple(ids), stateful=True, size_multiple=16,
            needs_first_frame=first_frame == "scene",
        )  # fmt: skip
        self._prompt = prompt
        self._negative_prompt = negative_prompt
        self._compat = compat
        self._options = pb.DebugOptions(
            return_hdmap_frames=condition_frames, skip_video_generation=skip_video
        )
        self._drawer: Any = None
        if first_frame == "raster":
            raster = Rasterizer(chunk=0, width=int(width), height=int(height), jpeg_quality=95)
            self._drawer = as_service("renderer", raster)

    @property
    def notes(self) -> tuple[str, ...]:
        """What every result must say."""
        if self._drawer is None:
            return ()
        return ("the video model started from a rasterised first frame",)

    def check_scene(self, scene: Scene) -> None:
        """Write the scene's HD map, so that one that cannot be written is found now.

        Raises:
            SceneError: it cannot.
        """
        super().check_scene(scene)
        hd_map(scene)

    def check_cameras(self, cameras: tuple[Camera, ...]) -> None:
        """Refuse cameras of a rollout that cannot be sent as f-theta ones.

        Raises:
            ConfigError: one cannot.
        """
        for camera in cameras:
            as_ftheta(camera)

    async def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> VideoSession:
        """Start a session at a free address.

        Raises:
            InputError: a camera cannot be sent, or lacks its first frame.
            ServiceError: the server refuses the session.
        """
        fitted = tuple(as_ftheta(camera) for camera in cameras)
        render_start_us = min(
            clock.first_end_us for clock in camera_clocks(cameras, self.spec, session.start_us)
        )
        if self._drawer is None:
            frames = await asyncio.to_thread(self._recorded, session.scene, fitted, render_start_us)
        else:
            frames = await self._drawn(session, fitted, render_start_us)
        prompt = session.scene.prompt if self._prompt is None else self._prompt
        await asyncio.to_thread(hd_map, session.scene)
        request = start_request(
            session.scene, fitted, frames, (prompt, self._negative_prompt), session.seed or 1, self._options
        )  # fmt: skip
        lease = await self.lease(session.address)
        try:
            reply = await lease.connection.call(
                "start_session", request, session.call, render_start_us,
                metadata=session_metadata(session.session_id),
            )  # fmt: skip
            if not reply.session_id:
                raise ServiceError(
                    "renderer answered without a session id",
                    where=lease.connection.place(session.call, "start_session", render_start_us),
                    remedy="check that the address serves the OmniDreams protocol",
                )
        except BaseException:
            lease.release()
            raise
        return VideoSession(
            session, lease, reply.session_id, tuple(c.id for c in cameras), self._chunk,
            self.spec.size, self._options, self._compat,
        )  # fmt: skip

    def _recorded(
        self, scene: Scene, cameras: Sequence[Camera], render_start_us: int
    ) -> tuple[bytes, ...]:
        """The recorded image of each camera that is nearest to render start, cut to size."""
        images = []
        for camera in cameras:
            taken = [f for f in scene.first_frames if f.camera_id == camera.id]
            if not taken:
                raise ConfigError(
                    f"the video model starts from an image of camera '{camera.id}', which the scene lacks",
                    where=f"scene {scene.id}",
                    remedy="set renderer.first_frame=raster, or give the scene first frames",
                )
            frame = min(taken, key=lambda f: abs(f.capture_us - render_start_us))
            try:
                images.append(covering(frame.image, *self.spec.size))
            except ValueError as error:
                raise SceneError(
                    f"the first frame of camera '{camera.id}' cannot be used: {error}",
                    where=f"scene {scene.id}",
                    remedy="give a JPEG or PNG image, or set renderer.first_frame=raster",
                ) from error
        return tuple(images)

    async def _drawn(
        self, session: SessionInfo, cameras: tuple[Camera, ...], render_start_us: int
    ) -> tuple[bytes, ...]:
        """The recorded world at render start, as the rasteriser draws it."""
        scene, now = session.scene, np.array([render_start_us], dtype=np.int64)
        first = np.zeros(len(cameras), dtype=np.int64)
        request = RenderRequest(
            now, scene.ego.sample(now), scene.actors, scene.recorded_actors(now),
            np.arange(len(cameras)), first, first,
        )  # fmt: skip
        drawing = await self._drawer.open(session, cameras)
        result = await drawing.render(request)
        images: tuple[bytes, ...] = result.images
        return images
