"""One rollout's frames on the sensorsim protocol: how they are bundled, checked, asked again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from grpc import StatusCode, aio

from omniloop.core.calls import RetryRule
from omniloop.core.errors import OmniloopError, ServiceError
from omniloop.core.messages import RenderRequest, RenderResult, SessionInfo
from omniloop.services.connection import Started, together
from omniloop.services.pool import Lease
from omniloop.services.protos import sensorsim_pb2 as pb
from omniloop.services.rpc import Refusal
from omniloop.services.sensorsim_images import image_size
from omniloop.services.sensorsim_requests import RequestWriter

BUNDLES = ("batch", "single", "aggregated")
BATCH = "batch_render_rgb"

_PASSING = ("A load persistent id instruction was encountered", "Stopped waiting for backend")
"""What NRE says while it loads or compiles (contracts.md 3.4)."""


def is_passing(error: OmniloopError) -> bool:
    """Whether a failed call is worth another attempt, by AlpaSim's rule (contracts.md 3.4).

    It is when the server cannot be reached, or says that it is still loading.
    """
    code, details = _status(error)
    if code is StatusCode.UNAVAILABLE:
        return True
    loading = code in (StatusCode.UNKNOWN, StatusCode.DEADLINE_EXCEEDED)
    return loading and any(text in details for text in _PASSING)


def _status(error: OmniloopError) -> tuple[StatusCode | None, str]:
    """The status that an error was made of."""
    cause = error.__cause__
    if isinstance(cause, Refusal):
        return cause.code, cause.details
    if isinstance(cause, aio.AioRpcError):
        return cause.code(), cause.details() or ""
    return None, ""


@dataclass(frozen=True)
class Manners:
    """How frames are asked for, shared by the rollouts of a run.

    Attributes:
        bundle: One of `BUNDLES`.
        retry: When a call is made again.
        without_batch: Addresses that turned out to have no batch_render_rgb.
    """

    bundle: str
    retry: RetryRule
    without_batch: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Shot:
    """One frame that is asked for."""

    camera: str
    capture_us: int
    message: bytes


class NuRecSession:
    """One rollout's frames."""

    def __init__(
        self,
        session: SessionInfo,
        lease: Lease,
        camera_ids: tuple[str, ...],
        writer: RequestWriter,
        manners: Manners,
    ) -> None:
        self._manners = manners
        self._session = session
        self._lease = lease
        self._camera_ids = camera_ids
        self._writer = writer

    async def render(self, request: RenderRequest) -> RenderResult:
        """Ask for all frames at once.

        Raises:
            ServiceError: the server leaves an image out, has one too many, or what it
                answers is no image.
        """
        messages = self._writer.write(request)
        captures = request.times_us[request.end_index].tolist()
        cameras = [self._camera_ids[i] for i in request.camera_index.tolist()]
        shots = [_Shot(*shot) for shot in zip(cameras, captures, messages, strict=True)]
        images: list[bytes] = []
        for bundle, reply in await self._replies(shots):
            answered = self._images(bundle, reply)
            for shot, image in zip(bundle, answered, strict=True):
                self._check(image, shot, self._method(bundle))
            images += answered
        return RenderResult(tuple(images))

    async def _replies(self, shots: list[_Shot]) -> list[tuple[list[_Shot], Any]]:
        """Replies by bundle, in the order of the shots; singly where there are no batches."""
        bundles, connection = self._bundles(shots), self._lease.connection
        try:
            replies = await together([self._start(bundle) for bundle in bundles])
        except ServiceError as error:
            batched = any(self._method(bundle) == BATCH for bundle in bundles)
            if not batched or _status(error)[0] is not StatusCode.UNIMPLEMENTED:
                raise
            self._manners.without_batch.add(connection.address)
            return await self._replies(shots)
        return list(zip(bundles, replies, strict=True))

    def _bundles(self, shots: list[_Shot]) -> list[list[_Shot]]:
        """What goes in one call: shots of one capture time, and of different cameras."""
        manners = self._manners
        if manners.bundle == "single" or self._lease.connection.address in manners.without_batch:
            return [[shot] for shot in shots]
        bundles: list[list[_Shot]] = []
        held: set[str] = set()
        for shot in shots:
            if bundles and bundles[-1][0].capture_us == shot.capture_us and shot.camera not in held:
                bundles[-1].append(shot)
            else:
                bundles.append([shot])
                held = set()
            held.add(shot.camera)
        return bundles

    def _method(self, bundle: list[_Shot]) -> str:
        if self._manners.bundle == "aggregated":
            return "render_aggregated"
        return BATCH if len(bundle) > 1 else "render_rgb"

    def _start(self, bundle: list[_Shot]) -> Started:
        method = self._method(bundle)
        message: Any = bundle[0].message
        if method == BATCH:
            items = [
                pb.BatchRGBRenderRequestItem(
                    camera_name=s.camera, request=pb.RGBRenderRequest.FromString(s.message)
                )
                for s in bundle
            ]
            message = pb.BatchRGBRenderRequest(items=items)
        elif method == "render_aggregated":
            message = pb.AggregatedRenderRequest(
                rgb_requests=[pb.RGBRenderRequest.FromString(s.message) for s in bundle]
            )
        return self._lease.connection.call(
            method, message, self._session.call, bundle[0].capture_us, retry=self._manners.retry
        )

    def _images(self, bundle: list[_Shot], reply: Any) -> list[bytes]:
        """The images of a bundle in its own order."""
        method = self._method(bundle)
        if method == "render_rgb":
            return [reply.image_bytes]
        if method == "render_aggregated":
            images = [r.image_bytes for r in reply.rgb_returns]
            if len(images) != len(bundle):
                what = f"answered {len(images)} images for {len(bundle)} cameras"
                raise self._broken(what, method, bundle[0])
            return images
        asked, found = [shot.camera for shot in bundle], {}
        for item in reply.items:
            name = item.camera_name
            if name not in asked:
                what = f"answered for camera '{name}', which was not asked for"
                raise self._broken(what, method, bundle[0])
            if name in found:
                raise self._broken(f"answered twice for camera '{name}'", method, bundle[0])
            if not item.success:
                said = item.error_message or "no reason given"
                raise self._broken(f"could not render camera '{name}': {said}", method, bundle[0])
            found[name] = item.result.image_bytes
        for name in asked:
            if name not in found:
                raise self._broken(f"left out camera '{name}'", method, bundle[0])
        return [found[name] for name in asked]

    def _check(self, image: bytes, shot: _Shot, method: str) -> None:
        try:
            image_size(image)
        except ValueError as error:
            what = f"answered no image for camera '{shot.camera}' at {shot.capture_us} us: {error}"
            raise self._broken(what, method, shot) from error

    def _broken(self, what: str, method: str, shot: _Shot) -> ServiceError:
        return ServiceError(
            f"renderer {what}",
            where=self._lease.connection.place(self._session.call, method, shot.capture_us),
            remedy="see the server's log: it answers with one JPEG or PNG for every camera asked for",
        )

    async def close(self) -> None:
        """Give the address back."""
        self._lease.release()
