"""One rollout's session with a video model: exact counts asked for, exact counts taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from omniloop.core.errors import ServiceError, SessionLost
from omniloop.core.messages import ChunkRule, RenderRequest, RenderResult, SessionInfo
from omniloop.services.pool import Lease
from omniloop.services.protos import video_model_pb2 as pb
from omniloop.services.sensorsim_images import image_size
from omniloop.services.video_requests import ChunkWriter

_METHOD = "render_video_chunk"


class VideoSession:
    """Asks for one chunk after another.

    Args:
        session_id: The server's name for the session.
        camera_ids: The session's cameras, in order.
        size: Width and height that every image must have.
        options: What was asked for at the start.
        compat: Leave static actors out.
    """

    def __init__(
        self,
        session: SessionInfo,
        lease: Lease,
        session_id: str,
        camera_ids: tuple[str, ...],
        chunk: ChunkRule,
        size: tuple[int, int],
        options: pb.DebugOptions,
        compat: bool,
    ) -> None:
        self._session = session
        self._lease = lease
        self._session_id = session_id
        self._camera_ids = camera_ids
        self._chunk = chunk
        self._size = size
        self._skips_video = options.skip_video_generation
        self._wants_conditions = options.return_hdmap_frames
        self._writer = ChunkWriter(session_id, static_actors=not compat)
        self._started = False
        self._lost = False

    async def render(self, request: RenderRequest) -> RenderResult:
        """Ask for the frames of a chunk.

        Raises:
            SessionEvicted: the server gave the session's place to another client.
            ServiceError: the server answers with other frames than those asked for.
        """
        time_us = int(request.times_us[0]) if len(request.times_us) else 0
        self._check_request(request, time_us)
        try:
            reply = await self._lease.connection.call(
                _METHOD, self._writer.write(request), self._session.call, time_us
            )
        except SessionLost:
            self._lost = True
            raise
        outputs = self._outputs(reply, time_us)
        conditions: tuple[bytes, ...] = ()
        if self._wants_conditions or self._skips_video:
            conditions = self._frames(outputs, "hdmap_condition_frames", request)
        images = conditions if self._skips_video else self._frames(outputs, "rgb_frames", request)
        self._started = True
        return RenderResult(images, conditions if self._wants_conditions else ())

    def _check_request(self, request: RenderRequest, time_us: int) -> None:
        due = self._chunk.frames if self._started else self._chunk.first_frames
        count, cameras = len(request.times_us), len(self._camera_ids)
        every_camera = np.array_equal(
            request.camera_index, np.tile(np.arange(cameras), count)
        ) and np.array_equal(request.end_index, np.repeat(np.arange(count), cameras))
        if count != due or not every_camera:
            raise ServiceError(
                f"the video model makes {due} frames of {cameras} camera(s) now, and was asked"
                f" for {len(request)} at {count} times",
                where=self._session.call.place("renderer", _METHOD, time_us),
                remedy="run renderer.chunk with the schedule that it gives",
            )

    def _outputs(self, reply: Any, time_us: int) -> list[Any]:
        """One output for each camera, in the session's order."""
        named: dict[str, Any] = {}
        for output in reply.camera_outputs:
            name = output.camera_logical_id
            if name not in self._camera_ids or name in named:
                fault = "twice" if name in named else "unasked"
                raise self._broken(f"answered {fault} for camera '{name}'", time_us)
            named[name] = output
        for name in self._camera_ids:
            if name not in named:
                raise self._broken(f"left out camera '{name}'", time_us)
        return [named[name] for name in self._camera_ids]

    def _frames(
        self, outputs: Sequence[Any], field: str, request: RenderRequest
    ) -> tuple[bytes, ...]:
        """The images in the order of capture time, then camera."""
        times = request.times_us.tolist()
        columns = []
        for name, output in zip(self._camera_ids, outputs, strict=True):
            frames = [image.data for image in getattr(output, field)]
            if len(frames) != len(times):
                raise self._broken(
                    f"answered {len(frames)} {field} for camera '{name}', and not {len(times)} frames",
                    times[0],
                )
            for time_us, frame in zip(times, frames, strict=True):
                self._check_image(frame, name, time_us)
            columns.append(frames)
        return tuple(frame for row in zip(*columns, strict=True) for frame in row)

    def _check_image(self, image: bytes, camera: str, time_us: int) -> None:
        try:
            width, height = image_size(image)
        except ValueError as error:
            raise self._broken(
                f"answered no image for camera '{camera}': {error}", time_us
            ) from error
        if (width, height) != self._size:
            raise self._broken(
                f"answered an image of {width}x{height} for camera '{camera}', and not of"
                f" {self._size[0]}x{self._size[1]}",
                time_us,
                remedy="set renderer.width and renderer.height to the server's --resolution",
            )

    def _broken(self, what: str, time_us: int, remedy: str = "") -> ServiceError:
        return ServiceError(
            f"renderer {what}", where=self._lease.connection.place(self._session.call, _METHOD, time_us),
            remedy=remedy or "see the server's log: it owes one JPEG or PNG for every pose it is sent",
        )  # fmt: skip

    async def close(self) -> None:
        """End the session, unless it is lost already, and give the address back."""
        try:
            if not self._lost:
                await self._lease.connection.call(
                    "close_session", pb.SessionCloseRequest(session_id=self._session_id), self._session.call
                )  # fmt: skip
        finally:
            self._lease.release()
