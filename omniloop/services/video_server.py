"""Serving a renderer under the OmniDreams protocol, by the rules of FlashDreams' server."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grpc import StatusCode

from omniloop.core.cameras import Camera
from omniloop.core.contracts import Renderer, RenderSession, SessionInfo
from omniloop.core.errors import ConfigError, SceneError, ServiceError
from omniloop.core.local import LocalService, as_service
from omniloop.core.messages import ChunkRule, RenderRequest, RenderResult
from omniloop.core.scene import Scene
from omniloop.renderer_client.rasterizer import Rasterizer
from omniloop.scenes.clipgt import ClipGt, read_clipgt
from omniloop.services.protos import video_model_pb2 as pb
from omniloop.services.protos.common_pb2 import Empty
from omniloop.services.remote import new_session_uuid
from omniloop.services.rpc import Caller, Refusal
from omniloop.services.serving import Servicer
from omniloop.services.sessions import SessionTable
from omniloop.services.video_requests import images_to_wire
from omniloop.services.video_world import ChunkReader, cameras_of, first_frames_of, refusal

_MAPS_HELD = 8


@dataclass
class _Session:
    """An open session.

    Attributes:
        video: The plugin's session; None where only HD-map images were asked for.
        conditions: Draws these; None where nobody asked for them, or `video` does.
        wants_conditions: Whether they are answered.
        ended: Whether it was closed or evicted, perhaps while a call waited for it.
    """

    reader: ChunkReader
    camera_ids: tuple[str, ...]
    video: RenderSession | None
    conditions: RenderSession | None
    wants_conditions: bool
    ended: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class WorldModelServicer(Servicer):
    """Sessions of a renderer, whose map and cameras come with the start.

    Args:
        renderer: What draws the frames. One that renders frame by frame is given a chunk's
            frames at once.
        limit: Sessions at once; None for any number.
        idle_timeout_s: A session that nobody called for so long is ended.
        evict: Whether a start ends the sessions there are, without a word to their clients,
            as FlashDreams' server does; by default if there may be only one. Otherwise a
            start beyond the limit is refused.
        chunk: Frames of a chunk, for a renderer that has no rule of its own; 8 by default.

    Raises:
        ConfigError: `chunk` differs from the renderer's own.
    """

    service = pb.DESCRIPTOR.services_by_name["WorldModelService"]

    def __init__(
        self,
        renderer: Renderer,
        limit: int | None = 1,
        idle_timeout_s: float = 3600.0,
        evict: bool | None = None,
        chunk: int | None = None,
    ) -> None:
        spec = renderer.spec
        self._renderer = renderer
        self._chunk = spec.chunk or ChunkRule(chunk or 8, spec.fps)
        if chunk not in (None, self._chunk.frames):
            raise ConfigError(
                f"the renderer makes chunks of {self._chunk.frames} frames, not of {chunk}",
                where="renderer.chunk", remedy="leave the chunk to the renderer",
            )  # fmt: skip
        self._evict = limit == 1 if evict is None else evict
        self._sessions: SessionTable[_Session] = SessionTable(self._end, limit, idle_timeout_s)
        self._starting = asyncio.Lock()
        self._drawing: set[asyncio.Future[Any]] = set()
        self._maps: OrderedDict[bytes, ClipGt] = OrderedDict()
        plugin = renderer.plugin if isinstance(renderer, LocalService) else renderer
        self._is_drawer = isinstance(plugin, Rasterizer)
        self._drawer: Renderer | None = renderer if self._is_drawer else None

    # ------------------------------------------------------------------------ sessions

    async def start_session(self, request: Any, caller: Caller) -> Any:
        """Begin a session, at the expense of those there are if so set."""
        cameras = cameras_of(request)
        clip = await self._map(request.static_world_map.hdmap_parquets)
        frames = await asyncio.to_thread(first_frames_of, request, cameras, clip.ego.start_us)
        uuid = new_session_uuid()
        name = caller.session_name or uuid
        scene = Scene(
            name.rpartition("/")[0] or clip.clip_id, "clipgt", clip.ego, map=clip.map,
            cameras=cameras, first_frames=frames, prompt=request.text_prompt.positive,
        )  # fmt: skip
        info = SessionInfo(
            name, scene, request.random_seed, scene.vehicle, scene.start_us, scene.start_us, scene.end_us
        )  # fmt: skip
        async with self._starting:
            if self._evict:
                await self._sessions.close_all()
            await self._sessions.start(
                uuid, lambda: self._open(info, cameras, request.debug_options)
            )
        return pb.SessionId(session_id=uuid)

    async def _map(self, data: bytes) -> ClipGt:
        """Read an HD map; sessions on the same one share it, and so what is drawn of it."""
        if not data:
            raise refusal("Expected non-empty HD map parquets, got 0 bytes")
        key = hashlib.sha256(data).digest()
        if key not in self._maps:
            try:
                self._maps[key] = await asyncio.to_thread(read_clipgt, data)
            except SceneError as error:
                raise refusal(str(error)) from error
        self._maps.move_to_end(key)
        if len(self._maps) > _MAPS_HELD:
            self._maps.popitem(last=False)
        return self._maps[key]

    async def _open(self, info: SessionInfo, cameras: tuple[Camera, ...], options: Any) -> _Session:
        check = getattr(self._renderer, "check_scene", None)
        if check is not None:
            check(info.scene)
        skips, wants = options.skip_video_generation, options.return_hdmap_frames
        video = None if skips else await self._renderer.open(info, cameras)
        conditions = None
        if skips or (wants and not self._is_drawer):
            conditions = await self._condition_drawer().open(info, cameras)
        reader = ChunkReader(self._chunk, len(cameras))
        ids = tuple(camera.id for camera in cameras)
        return _Session(reader, ids, video, conditions, skips or wants)

    def _condition_drawer(self) -> Renderer:
        if self._drawer is None:
            width, height = self._renderer.spec.size
            raster = Rasterizer(chunk=0, width=width, height=height)
            self._drawer = as_service("renderer", raster)
        return self._drawer

    async def close_session(self, request: Any, caller: Caller) -> Any:
        """End a session; one that is unknown is ended already."""
        await self._sessions.close(request.session_id)
        return Empty()

    async def _end(self, session: _Session) -> None:
        async with session.lock:
            session.ended = True
            for part in (session.video, session.conditions):
                if part is not None:
                    await part.close()

    async def sweep(self) -> None:
        """End the sessions that were idle for too long."""
        await self._sessions.sweep()

    async def aclose(self) -> None:
        """End all sessions."""
        await self._sessions.close_all()

    # -------------------------------------------------------------------------- chunks

    async def render_video_chunk(self, request: Any, caller: Caller) -> Any:
        """The frames of a chunk, by camera.

        When the caller goes away the drawing goes on, for a thread cannot be stopped, and
        the session's next call waits for it.
        """
        name = request.session_id.session_id
        try:
            session, _ = self._sessions.entry(name)
        except Refusal as error:
            raise _not_found(name) from error
        drawing = asyncio.ensure_future(self._render(session, request, name))
        self._drawing.add(drawing)
        drawing.add_done_callback(self._drawing.discard)
        return await asyncio.shield(drawing)

    async def _render(self, session: _Session, request: Any, name: str) -> Any:
        async with session.lock:
            if session.ended:
                raise _not_found(name)
            asked = session.reader.read(request)
            made = None if session.video is None else await _rendered(session.video, asked)
            images: Sequence[bytes] = () if made is None else made.images
            conditions: Sequence[bytes] = ()
            if session.wants_conditions:
                conditions = await self._conditions(session, asked, made)
            session.reader.started = True
        reply = pb.VideoChunkReturn()
        cameras = len(session.camera_ids)
        for number, camera in enumerate(session.camera_ids):
            reply.camera_outputs.add(
                camera_logical_id=camera,
                rgb_frames=images_to_wire(images[number::cameras]),
                hdmap_condition_frames=images_to_wire(conditions[number::cameras]),
            )
        return reply

    async def _conditions(
        self, session: _Session, asked: RenderRequest, made: RenderResult | None
    ) -> Sequence[bytes]:
        """What the plugin was conditioned on, or else the HD map as the rasteriser draws it."""
        if made is not None and made.condition_images:
            return made.condition_images
        if session.conditions is not None:
            return (await _rendered(session.conditions, asked)).images
        return () if made is None else made.images


async def _rendered(session: RenderSession, request: RenderRequest) -> RenderResult:
    result = await session.render(request)
    if not isinstance(result, RenderResult) or len(result.images) != len(request):
        raise ServiceError(f"the renderer answered {result!r:.60} for {len(request)} frames")
    return result


def _not_found(name: str) -> Refusal:
    return Refusal(StatusCode.NOT_FOUND, f"Session not found: {name}")
