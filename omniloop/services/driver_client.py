"""A policy behind AlpaSim's egodriver protocol: it is pushed what it sees, then asked to drive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar

from omniloop.core.cameras import Camera
from omniloop.core.contracts import PolicySpec, SessionInfo
from omniloop.core.errors import ConfigError, OmniloopError
from omniloop.services.camera_codec import CameraAxes, available_camera
from omniloop.services.connection import Connection, Metadata
from omniloop.services.driver_push import RemotePolicySession
from omniloop.services.driver_spec import CONTRACT_KEY, SPEC_KEY, axes_of_revision, spec_from_json
from omniloop.services.protos import egodriver_pb2 as pb
from omniloop.services.remote import RemoteService, new_session_uuid
from omniloop.services.rpc import session_metadata
from omniloop.services.session_times import TIMES_KEY, times_to_text

_AXES = {"optical": CameraAxes.OPTICAL, "flu": CameraAxes.FLU}

_FOREIGN = PolicySpec(cameras=None)
"""What a driver is taken to need that says nothing: every frame, a route, plans of 5 s."""


class RemotePolicy(RemoteService):
    """Any AlpaSim-compatible driver.

    An Omniloop server tells what its policy declares. What is given here takes its place,
    and is all that is known of any other driver.

    Args:
        address: ``HOST:PORT``, several with commas between.
        cameras: Camera ids whose frames it gets; None for all that are rendered.
        images_count: How many frames of each camera it needs before handover ...
        images_rate_hz: ... at this rate; every frame is sent as it comes.
        ego_history_s: How much ego motion it needs before handover; all of it is sent.
        rate_hz: The rate at which it wants to plan; None for any.
        horizon_s: How far its plans reach; 5 s if nobody says.
        route: Whether it is sent the route.
        send_recording: Send the recorded ego motion with every decision.
        camera_axes: Axes of the camera poses it is sent: "optical", "flu" (forward, left, up), or
            "auto" for what its contract revision says, optical without any.
        settings: See `RemoteService`.

    Raises:
        ConfigError: a setting is wrong.
    """

    kind = "policy"
    service = pb.DESCRIPTOR.services_by_name["EgodriverService"]
    timeouts_s: ClassVar[Mapping[str, float]] = {"drive": 120.0}

    def __init__(
        self,
        address: str,
        cameras: Sequence[str] | None = None,
        images_count: int | None = None,
        images_rate_hz: float | None = None,
        ego_history_s: float | None = None,
        rate_hz: float | None = None,
        horizon_s: float | None = None,
        route: bool | None = None,
        send_recording: bool = False,
        camera_axes: str = "auto",
        **settings: Any,
    ) -> None:
        super().__init__(address, **settings)
        if camera_axes != "auto" and camera_axes not in _AXES:
            raise ConfigError(
                f"camera_axes is {camera_axes!r}", where="policy.camera_axes",
                remedy="choose auto, optical or flu",
            )  # fmt: skip
        numbers = {
            "images_count": images_count, "images_rate_hz": images_rate_hz,
            "ego_history_s": ego_history_s, "rate_hz": rate_hz, "horizon_s": horizon_s,
        }  # fmt: skip
        for name, value in numbers.items():
            _check_number(name, value)
        if isinstance(cameras, str):
            cameras = [c.strip() for c in cameras.split(",") if c.strip()]
        given = {
            "cameras": None if cameras is None else tuple(cameras), "route": route,
            "ego_history_s": ego_history_s, "rate_hz": rate_hz, "horizon_s": horizon_s,
        }  # fmt: skip
        self._given: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        images = {"count": images_count, "rate_hz": images_rate_hz}
        self._images: dict[str, Any] = {k: v for k, v in images.items() if v is not None}
        self._axes = _AXES.get(camera_axes)
        self._send_recording = send_recording
        self.spec = self._spec(_FOREIGN)

    def _spec(self, declared: PolicySpec) -> PolicySpec:
        images = replace(declared.images, **self._images)
        return replace(declared, **{**self._given, "images": images, "everything": True})

    async def connect(self) -> None:
        """First contact; an Omniloop server's declaration becomes this policy's.

        Raises:
            ConfigError: an address cannot be used, or two serve different policies.
        """
        await super().connect()
        declared = {c.address: self._declared(c) for c in self._pool.connections}
        first, spec = next(iter(declared.items()))
        for address, other in declared.items():
            if other != spec:
                raise ConfigError(
                    f"{first} and {address} serve different policies: {_difference(spec, other)}",
                    where="policy.address", remedy="serve the same policy at every address",
                )  # fmt: skip
        self.spec = self._spec(spec)

    def _declared(self, connection: Connection) -> PolicySpec:
        peer = self.peer(connection)
        try:
            self._axes_for(connection)
            if peer.is_omniloop and SPEC_KEY in peer.metadata:
                return spec_from_json(peer.metadata[SPEC_KEY])
        except ValueError as error:
            raise ConfigError(
                f"the driver at {connection.address} cannot be used: {error}",
                where="policy.address",
                remedy="use a driver of a known version; policy.camera_axes overrides its revision",
            ) from error
        return _FOREIGN

    def _axes_for(self, connection: Connection) -> CameraAxes:
        return self._axes or axes_of_revision(self.peer(connection).metadata)

    async def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> RemotePolicySession:
        """Start a session at a free address."""
        lease = await self.lease(session.address)
        try:
            connection = lease.connection
            knows_us = self.peer(connection).is_omniloop
            axes = self._axes_for(connection)
            seen = [c for c in cameras if self.spec.cameras is None or c.id in self.spec.cameras]
            uuid = session.wire_uuid or new_session_uuid()
            ended = pb.DriveSessionCloseRequest(session_uuid=uuid)
            request = pb.DriveSessionRequest(
                session_uuid=uuid,
                random_seed=session.seed,
                debug_info=pb.DriveSessionRequest.DebugInfo(scene_id=session.scene.id),
            )
            vehicle = request.rollout_spec.vehicle
            vehicle.available_cameras.extend(available_camera(c, axes) for c in seen)
            metadata: Metadata = ((CONTRACT_KEY, axes.value),)
            if knows_us:
                times = (TIMES_KEY, times_to_text(session))
                metadata = (*metadata, *session_metadata(session.session_id), times)
            if session.wire_uuid and session.is_retry:  # a worker that died closed nothing
                with contextlib.suppress(OmniloopError):
                    await connection.call("close_session", ended, session.call)
            try:
                await connection.call("start_session", request, session.call, metadata=metadata)
            except asyncio.CancelledError:  # the driver may have begun it all the same
                with contextlib.suppress(OmniloopError):
                    await connection.call("close_session", ended, session.call)
                raise
        except BaseException:
            lease.release()
            raise
        return RemotePolicySession(session, lease, uuid, knows_us, self._send_recording)


def _difference(one: PolicySpec, other: PolicySpec) -> str:
    """What two declarations say differently."""
    differing = [f.name for f in fields(one) if getattr(one, f.name) != getattr(other, f.name)]
    return "; ".join(f"{n} {getattr(one, n)} and {getattr(other, n)}" for n in differing)


def _check_number(name: str, value: float | None) -> None:
    if value is None:
        return
    least = {"images_count": 1, "ego_history_s": 0}.get(name)
    wanted = int if name == "images_count" else int | float
    if (
        isinstance(value, bool)
        or not isinstance(value, wanted)
        or not (value > 0 if least is None else value >= least)
    ):
        raise ConfigError(
            f"{name} is {value!r}", where=f"policy.{name}",
            remedy=f"give {'more than 0' if least is None else f'{least} or more'}",
        )  # fmt: skip
