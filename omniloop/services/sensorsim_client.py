"""A NuRec server, or any other of AlpaSim's sensorsim protocol, as a renderer (alpasim.md 1.7)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from omniloop.core.calls import CallFunnel, RetryRule
from omniloop.core.cameras import Camera
from omniloop.core.errors import ConfigError, ServiceError, nearest
from omniloop.core.geometry import Array
from omniloop.core.messages import RendererSpec, SessionInfo
from omniloop.core.motion import Trajectory
from omniloop.core.time import frame_interval_us
from omniloop.services.codec import poses_to_wire, trajectory_from_wire
from omniloop.services.connection import Connection
from omniloop.services.protos import sensorsim_pb2 as pb
from omniloop.services.protos.common_pb2 import Empty
from omniloop.services.remote import RemoteService
from omniloop.services.sensorsim_frames import BUNDLES, Manners, NuRecSession, is_passing
from omniloop.services.sensorsim_images import FORMATS
from omniloop.services.sensorsim_requests import RequestWriter


@dataclass(frozen=True)
class _Catalogue:
    """What an address has for a scene: camera ids, and ego masks by camera and rig config."""

    cameras: tuple[str, ...]
    masks: frozenset[tuple[str, str]]


class NuRec(RemoteService):
    """A per-frame renderer behind the sensorsim protocol.

    The scene's cameras are sent, scaled to the size asked for. The frames of a request are
    asked for at once, so that a camera faster than the decisions costs one render a step.
    The size of the images that come back is the server's business: NRE may keep the
    camera's own aspect.

    Args:
        address: See `RemoteService`, as the other settings.
        width, height: Size of the images asked for.
        fps: Frame rate of cameras that declare none.
        cameras: Camera ids; None for the scene's most forward one.
        shutter_us: Shutter of cameras that declare none.
        image_format: "jpeg" or "png".
        image_quality: Of JPEGs, 1 to 100.
        bundle: "batch" sends the cameras of one instant in one call, and single ones to a
            server without batches; "single" sends each alone; "aggregated" uses
            render_aggregated.
        ego_mask_rig_config: The rig whose ego masks are drawn over the images of the
            cameras that the server has one for; None for no masks.
        retry_delays_s: Waits before further attempts after a failure that passes.

    Raises:
        ConfigError: a setting is out of range.
    """

    kind = "renderer"
    service = pb.DESCRIPTOR.services_by_name["SensorsimService"]
    # The first render of a scene compiles for a minute.
    timeouts_s = {"render_rgb": 300.0, "batch_render_rgb": 300.0, "render_aggregated": 300.0}  # noqa: RUF012
    asks_for_scenes = True

    def __init__(
        self,
        address: str,
        width: int = 1280,
        height: int = 704,
        fps: int = 30,
        cameras: Sequence[str] | None = None,
        shutter_us: int = 0,
        image_format: str = "jpeg",
        image_quality: float = 95.0,
        bundle: str = "batch",
        ego_mask_rig_config: str | None = None,
        retry_delays_s: Sequence[float] = (0.5, 2.0),
        **settings: Any,
    ) -> None:
        super().__init__(address, **settings)
        frame_interval_us(fps)
        for name, value, right, wanted in (
            ("width", width, width >= 1, "1 or more"), ("height", height, height >= 1, "1 or more"),
            ("shutter_us", shutter_us, shutter_us >= 0, "0 or more"),
            ("image_quality", image_quality, 1 <= image_quality <= 100, "1 to 100"),
            ("image_format", image_format, image_format in FORMATS, " or ".join(FORMATS)),
            ("bundle", bundle, bundle in BUNDLES, ", ".join(BUNDLES)),
            ("retry_delays_s", retry_delays_s, all(s >= 0 for s in retry_delays_s), "seconds of 0 or more"),
        ):  # fmt: skip
            if not right:
                raise ConfigError(
                    f"{name} is {value!r}", where=f"renderer.{name}", remedy=f"give {wanted}"
                )
        ids = (cameras,) if isinstance(cameras, str) else cameras
        self.spec = RendererSpec(
            chunk=None, fps=int(fps), size=(int(width), int(height)), shutter_us=int(shutter_us),
            cameras=None if ids is None else tuple(ids), size_multiple=1,
        )  # fmt: skip
        self._manners = Manners(bundle, RetryRule(tuple(retry_delays_s), is_passing))
        self._image = (FORMATS[image_format], float(image_quality))
        self._rig_config = ego_mask_rig_config
        self._catalogues: dict[tuple[str, str], _Catalogue] = {}
        self._asking: dict[tuple[str, str], asyncio.Lock] = {}

    async def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> NuRecSession:
        """Begin a rollout; the protocol itself has no sessions.

        Raises:
            ConfigError: the server lists its cameras, and lacks one of these.
        """
        lease = await self.lease(session.address)
        try:
            listed = await self._catalogue(lease.connection, session)
            writer = self._writer(session, cameras, listed, lease.connection.address)
        except BaseException:
            lease.release()
            raise
        return NuRecSession(session, lease, tuple(c.id for c in cameras), writer, self._manners)

    def _writer(
        self, session: SessionInfo, cameras: tuple[Camera, ...], listed: _Catalogue, address: str
    ) -> RequestWriter:
        masks = []
        for camera in cameras:
            if listed.cameras and camera.id not in listed.cameras:
                raise ConfigError(
                    f"the renderer has no camera '{camera.id}'.{nearest(camera.id, listed.cameras)}",
                    where=f"renderer.cameras, scene {session.scene.id}, {address}",
                    remedy=f"its cameras: {', '.join(listed.cameras)}",
                )
            mask = (camera.id, self._rig_config or "")
            masks.append(
                pb.EgoMaskId(camera_logical_id=mask[0], rig_config_id=mask[1])
                if mask in listed.masks
                else None
            )
        return RequestWriter(
            session.scene, cameras, self.spec.shutter_us, *self._image, tuple(masks)
        )

    async def _catalogue(self, connection: Connection, session: SessionInfo) -> _Catalogue:
        """Ask an address about a scene, once."""
        key = (connection.address, session.scene.id)
        if key in self._catalogues:
            return self._catalogues[key]
        async with self._asking.setdefault(key, asyncio.Lock()):
            if key not in self._catalogues:  # else another rollout has asked meanwhile
                self._catalogues[key] = await self._ask(connection, session)
        return self._catalogues[key]

    async def _ask(self, connection: Connection, session: SessionInfo) -> _Catalogue:
        retry = self._manners.retry
        request = pb.AvailableCamerasRequest(scene_id=session.scene.id)
        cameras = await connection.call("get_available_cameras", request, session.call, retry=retry)
        masks = pb.AvailableEgoMasksReturn()
        if self._rig_config is not None:
            masks = await connection.call(
                "get_available_ego_masks", Empty(), session.call, retry=retry
            )
        ids = [m.ego_mask_id for m in masks.ego_mask_metadata]
        return _Catalogue(
            tuple(c.logical_id or c.intrinsics.logical_id for c in cameras.available_cameras),
            frozenset((i.camera_logical_id, i.rig_config_id) for i in ids),
        )

    async def disconnect(self) -> None:
        """Forget what the addresses told, and close the channels of the event loop."""
        self._catalogues.clear()
        self._asking.clear()
        await super().disconnect()

    # ------------------------------------------------------------------ for inspection

    async def loaded_scenes(self) -> dict[str, dict[str, int]]:
        """How often each scene is in memory, by address."""
        funnel = CallFunnel("inspection")
        replies = await asyncio.gather(
            *(c.call("get_loaded_scenes", Empty(), funnel) for c in self._pool.connections)
        )
        return {
            c.address: {s.scene_id: s.loaded_instance_count for s in reply.scenes}
            for c, reply in zip(self._pool.connections, replies, strict=True)
        }

    async def recorded_trajectories(self, scene_id: str) -> list[Trajectory]:
        """A scene's recorded ``local_to_rig`` trajectories, as the first address has them."""
        reply = await self._pool.connections[0].call(
            "get_available_trajectories", pb.AvailableTrajectoriesRequest(scene_id=scene_id),
            CallFunnel("inspection"),
        )  # fmt: skip
        return [trajectory_from_wire(t.trajectory) for t in reply.available_trajectories]

    async def lidar(
        self, scene_id: str, device: str, shutter_us: tuple[int, int], local_to_sensor: Array
    ) -> tuple[Array, Array]:
        """A lidar scan of the scene without moving actors, from the first address.

        Args:
            device: "PANDAR128" or "AT128".
            shutter_us: Start and end of the scan.
            local_to_sensor: ``(2, 7)`` poses at its start and end.

        Returns:
            Points ``(N, 3)`` in the sensor frame and intensities ``(N,)``.

        Raises:
            ServiceError: the reply does not hold as many points as it says.
        """
        first, last = poses_to_wire(local_to_sensor)
        request = pb.LidarRenderRequest(
            scene_id=scene_id, lidar_config=pb.LidarSpec(lidar_type=device),
            frame_start_us=shutter_us[0], frame_end_us=shutter_us[1],
            sensor_pose=pb.PosePair(start_pose=first, end_pose=last),
        )  # fmt: skip
        connection, funnel = self._pool.connections[0], CallFunnel("inspection")
        reply = await connection.call("render_lidar", request, funnel, shutter_us[1])
        points = _floats(reply.point_xyzs_buffer, reply.point_xyzs)
        intensities = _floats(reply.point_intensities_buffer, reply.point_intensities)
        if not len(points) == 3 * len(intensities) == 3 * reply.num_points:
            raise ServiceError(
                f"renderer answered {len(points)} coordinates and {len(intensities)} intensities"
                f" for {reply.num_points} points",
                where=connection.place(funnel, "render_lidar", shutter_us[1]),
            )
        return points.reshape(-1, 3), intensities


def _floats(buffer: bytes, values: Sequence[float]) -> Array:
    """Numbers that come as little-endian float32 or, from others, as a repeated field."""
    return np.frombuffer(buffer, "<f4").astype(np.float64) if buffer else np.array(values)
