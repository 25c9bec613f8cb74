"""Scenes, chunks and servers for the tests of the video model's protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import cv2
import numpy as np

from omniloop.core.cameras import Camera
from omniloop.core.contracts import RenderRequest, RenderResult, SessionInfo
from omniloop.core.local import as_service
from omniloop.core.messages import RendererSpec
from omniloop.core.scene import FirstFrame, Scene
from omniloop.renderer_client.rasterizer import Rasterizer
from omniloop.services.protos import video_model_pb2 as pb
from omniloop.services.rpc import Caller
from omniloop.services.serving import Listening, Servicer, start_server
from omniloop.services.video_client import OmniDreams
from omniloop.services.video_server import WorldModelServicer
from tests.services import sensorsim_stage

T = TypeVar("T")

WIDTH, HEIGHT = 160, 96
FRAME_US = 33_333
FRONT = sensorsim_stage.camera()
LEFT = sensorsim_stage.camera("left", yaw_rad=np.pi / 2)


def picture(grey: int, kind: str = ".jpg", size: tuple[int, int] = (WIDTH, HEIGHT)) -> bytes:
    """An image of one grey."""
    pixels = np.full((size[1], size[0], 3), grey, dtype=np.uint8)
    return bytes(cv2.imencode(kind, pixels)[1])


def decoded(image: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR).astype(int)


def scene(*cameras: Camera, **more: Any) -> Scene:
    """`sensorsim_stage.scene` with a recorded image of each camera at 0."""
    cameras = cameras or (FRONT,)
    frames = tuple(FirstFrame(c.id, 0, picture(10)) for c in cameras)
    return replace(sensorsim_stage.scene(cameras), **{"first_frames": frames, **more})


def session_of(one: Scene, seed: int = 5) -> SessionInfo:
    return replace(sensorsim_stage.session_of(one), seed=seed)


def chunk(one: Scene, number: int, frames: int = 8, cameras: int = 1) -> RenderRequest:
    """The request for a chunk of the recording: number 0 is the first one, after 0 us."""
    first = frames - 3
    count = first if number == 0 else frames
    before = 0 if number == 0 else first + (number - 1) * frames
    times = FRAME_US * np.arange(before + 1, before + count + 1, dtype=np.int64)
    index = np.repeat(np.arange(count), cameras)
    return RenderRequest(
        times, one.ego.sample(times), one.actors, one.recorded_actors(times),
        np.tile(np.arange(cameras), count), index, index,
    )  # fmt: skip


def rasterizer(chunk: int = 8, **settings: Any) -> Any:
    plugin = Rasterizer(chunk=chunk, width=WIDTH, height=HEIGHT, **settings)
    return as_service("renderer", plugin)


class Recording(WorldModelServicer):
    """A served rasteriser that keeps what it is asked, and whose replies a test may spoil."""

    def __init__(self, renderer: Any = None, **settings: Any) -> None:
        super().__init__(renderer or rasterizer(), **settings)
        self.asked: dict[str, list[Any]] = {}
        self.spoil: Callable[[str, Any], None] = lambda method, reply: None

    async def answer(self, method: str, request: Any, caller: Caller) -> Any:
        self.asked.setdefault(method, []).append(request)
        reply = await super().answer(method, request, caller)
        self.spoil(method, reply)
        return reply

    @property
    def start(self) -> Any:
        """The last session's request."""
        return self.asked["start_session"][-1]

    @property
    def chunks(self) -> list[Any]:
        """The chunks' requests."""
        return self.asked["render_video_chunk"]


class Painter:
    """A renderer plugin that paints each frame in the grey of its number.

    Attributes:
        sessions: What it was opened with.
        requests: What it was asked.
    """

    def __init__(self, spec: RendererSpec, conditions: bool = False) -> None:
        self.spec = spec
        self.sessions: list[SessionInfo] = []
        self.requests: list[RenderRequest] = []
        self._conditions = conditions

    def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> Painter:
        self.sessions.append(session)
        return self

    def render(self, request: RenderRequest) -> RenderResult:
        self.requests.append(request)
        images = tuple(picture(10 * i) for i in range(len(request)))
        return RenderResult(images, images[::-1] if self._conditions else ())


@asynccontextmanager
async def serving(servicer: Servicer) -> AsyncIterator[str]:
    """The address of a real server on a loopback port."""
    server, port = await start_server([servicer], Listening())
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
        await servicer.aclose()


def client_of(address: str, **settings: Any) -> OmniDreams:
    return OmniDreams(address, **{"width": WIDTH, "height": HEIGHT, **settings})


def with_client(
    servicer: Servicer, act: Callable[[OmniDreams], Awaitable[T]], **settings: Any
) -> T:
    """What `act` gives with a client that knows a real server."""

    async def run() -> T:
        async with serving(servicer) as address:
            client = client_of(address, **settings)
            try:
                await client.connect()
                return await act(client)
            finally:
                await client.disconnect()

    return asyncio.run(run())


def rendered(
    servicer: Servicer,
    one: Scene,
    cameras: tuple[Camera, ...] = (FRONT,),
    chunks: int = 1,
    frames: int = 8,
    **settings: Any,
) -> list[RenderResult]:
    """The first chunks of one session."""

    async def act(client: OmniDreams) -> list[RenderResult]:
        session = await client.open(session_of(one), cameras)
        try:
            return [
                await session.render(chunk(one, k, frames, len(cameras))) for k in range(chunks)
            ]
        finally:
            await session.close()

    return with_client(servicer, act, chunk=frames, **settings)


def wire_request(one: Scene, number: int, session_id: str) -> Any:
    """A chunk's request as this project's client writes it."""
    from omniloop.services.video_requests import ChunkWriter

    return ChunkWriter(session_id, static_actors=True).write(chunk(one, number))


def image(reply: Any, number: int = -1) -> pb.Image:
    return reply.camera_outputs[0].rgb_frames[number]
