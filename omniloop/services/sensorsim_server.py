"""Serving a per-frame renderer under AlpaSim's sensorsim protocol (alpasim.md 1.7)."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from grpc import StatusCode

from omniloop.core.cameras import Camera, FThetaCamera, PinholeCamera, default_camera
from omniloop.core.contracts import Renderer, RenderSession, SessionInfo
from omniloop.core.errors import OmniloopError, ServiceError
from omniloop.core.geometry import IDENTITY, Array
from omniloop.core.messages import RenderResult
from omniloop.core.scene import Scene
from omniloop.scenes.height_raster import sample_heights
from omniloop.services import lidar
from omniloop.services.camera_codec import CameraAxes, available_camera, model_from_wire
from omniloop.services.codec import trajectory_to_wire
from omniloop.services.protos import sensorsim_pb2 as pb
from omniloop.services.protos.common_pb2 import AvailableScenesReturn
from omniloop.services.rpc import Caller, Refusal
from omniloop.services.sensorsim_images import encoded_as, format_of
from omniloop.services.sensorsim_sessions import IdleSessions
from omniloop.services.sensorsim_world import render_request
from omniloop.services.serving import Servicer
from omniloop.services.shelf import SceneShelf

log = logging.getLogger("omniloop.serve")

MAX_SIDE_PX = 8192
"""A larger image is refused: a client could have gigabytes allocated by one call."""

_MODEL_NAMES = {FThetaCamera: "ftheta", PinholeCamera: "pinhole"}
_FORMATS = {pb.UNDEFINED: pb.JPEG, pb.JPEG: pb.JPEG, pb.PNG: pb.PNG}
_LIDARS = {pb.PANDAR128: lidar.PANDAR128, pb.AT128: lidar.AT128}


class SensorsimServicer(Servicer):
    """The protocol has no sessions: each call names its scene, camera and sensor poses.

    Static actors of the scene are drawn as recorded, as a reconstruction holds them; the
    others where the call puts them. Images have the size asked for. A JPEG has the
    plugin's own quality where it gives JPEGs.

    Args:
        renderer: Draws any frame by itself; one that carries state between its calls has
            no place in this protocol, and its calls are refused.
        scenes: The scenes that it knows.
        sessions_held: Sessions of the plugin kept open between calls.
    """

    service = pb.DESCRIPTOR.services_by_name["SensorsimService"]

    def __init__(self, renderer: Renderer, scenes: SceneShelf, sessions_held: int = 64) -> None:
        self._renderer = renderer
        self._scenes = scenes
        self._sessions = IdleSessions(sessions_held)

    # ------------------------------------------------------------------------ catalogue

    async def get_available_scenes(self, request: Any, caller: Caller) -> Any:
        """Ids of the scenes."""
        return AvailableScenesReturn(scene_ids=self._scenes.ids)

    async def get_loaded_scenes(self, request: Any, caller: Caller) -> Any:
        """Scenes in memory; one copy serves any number of calls."""
        reply = pb.LoadedScenesReturn(loaded_instance_capacity=self._scenes.capacity)
        for scene_id in self._scenes.loaded:
            reply.scenes.add(scene_id=scene_id, loaded_instance_count=1, reusable_instance_count=1)
        return reply

    async def get_available_cameras(self, request: Any, caller: Caller) -> Any:
        """The scene's cameras at native size, or the default one, with optical axes."""
        cameras = self._scenes.get(request.scene_id).cameras or (default_camera(),)
        return pb.AvailableCamerasReturn(
            available_cameras=[available_camera(c, CameraAxes.OPTICAL) for c in cameras]
        )

    async def get_available_trajectories(self, request: Any, caller: Caller) -> Any:
        """The recorded motion of the rig."""
        ego = self._scenes.get(request.scene_id).ego
        reply = pb.AvailableTrajectoriesReturn()
        reply.available_trajectories.add(trajectory=trajectory_to_wire(ego.times_us, ego.poses))
        return reply

    async def get_available_ego_masks(self, request: Any, caller: Caller) -> Any:
        """None: the ego vehicle is not drawn."""
        return pb.AvailableEgoMasksReturn()

    # --------------------------------------------------------------------------- images

    async def render_rgb(self, request: Any, caller: Caller) -> Any:
        """One image."""
        return pb.RGBRenderReturn(image_bytes=await self._image(request))

    async def batch_render_rgb(self, request: Any, caller: Caller) -> Any:
        """Images of different cameras; one that fails does not fail the others."""
        names = [item.camera_name for item in request.items]
        for name in names:
            if names.count(name) > 1:
                raise _refusal(f"camera '{name}' comes twice in a batch")
        items = await asyncio.gather(*(self._item(item) for item in request.items))
        return pb.BatchRGBRenderReturn(items=items)

    async def _item(self, item: Any) -> Any:
        reply = pb.BatchRGBRenderReturnItem(camera_name=item.camera_name)
        try:
            reply.result.image_bytes = await self._image(item.request)
            reply.success = True
        except Refusal as refusal:
            reply.error_message = refusal.details
        except OmniloopError as error:
            reply.error_message = str(error)
        except Exception as error:  # a served plugin may be anybody's code
            log.exception("batch_render_rgb failed for camera %r", item.camera_name)
            reply.error_message = f"{type(error).__name__}: {error}"
        return reply

    async def render_aggregated(self, request: Any, caller: Caller) -> Any:
        """Images and lidar scans, each in the order asked; driver_data stays empty."""
        returns = await asyncio.gather(
            *(self.render_rgb(r, caller) for r in request.rgb_requests),
            *(self.render_lidar(r, caller) for r in request.lidar_requests),
        )
        images = len(request.rgb_requests)
        return pb.AggregatedRenderReturn(
            rgb_returns=returns[:images], lidar_returns=returns[images:]
        )

    async def _image(self, request: Any) -> bytes:
        wanted = _FORMATS.get(request.image_format)
        if wanted is None:
            raise _refusal(f"image_format {request.image_format} is neither JPEG nor PNG")
        if self._renderer.spec.stateful:
            raise Refusal(
                StatusCode.FAILED_PRECONDITION,
                "this renderer carries state from frame to frame, so it cannot draw single"
                " ones; use WorldModelService",
            )
        scene = self._scenes.get(request.scene_id)
        asked = render_request(scene, request)
        intrinsics = request.camera_intrinsics.SerializeToString(deterministic=True)
        size = (request.resolution_w, request.resolution_h)
        make = self._opener(scene, intrinsics, size)
        result = await self._sessions.render((scene.id, intrinsics, size), make, asked)
        if not isinstance(result, RenderResult) or len(result.images) != 1:
            raise ServiceError(f"the renderer answered {result!r:.60} for one frame")
        image = result.images[0]
        if format_of(image) == wanted:
            return image
        try:
            return await asyncio.to_thread(encoded_as, image, wanted, request.image_quality or 95.0)
        except ValueError as error:
            raise ServiceError(f"the renderer's image cannot be used: {error}") from error

    def _opener(
        self, scene: Scene, intrinsics: bytes, size: tuple[int, int]
    ) -> Callable[[], Awaitable[RenderSession]]:
        async def opened() -> RenderSession:
            camera = _sensor(intrinsics, size)
            known = self._renderer.spec.camera_models
            if _MODEL_NAMES[type(camera.model)] not in known:
                raise _refusal(f"camera '{camera.id}' is none of {', '.join(known)}")
            check = getattr(self._renderer, "check_scene", None)
            if check is not None:
                check(scene)
            info = SessionInfo(
                scene.id, scene, 0, scene.vehicle, scene.start_us, scene.start_us, scene.end_us
            )
            return await self._renderer.open(info, (camera,))

        return opened

    # ---------------------------------------------------------------------------- lidar

    async def render_lidar(self, request: Any, caller: Caller) -> Any:
        """A scan at the end pose, see `omniloop.services.lidar`.

        The points come in the buffers, little-endian float32, and not in the repeated
        fields as well, which would double the message.
        """
        model = _LIDARS.get(request.lidar_config.lidar_type)
        if model is None:
            raise _refusal(f"lidar_type {request.lidar_config.lidar_type} is unknown")
        scene = self._scenes.get(request.scene_id)
        asked = render_request(scene, request)
        there = asked.actor_motion.valid[:, -1]
        points, intensities = await asyncio.to_thread(
            lidar.scan, model, asked.local_to_rig[-1], _heights(scene),
            asked.actor_motion.local_to_aabb[there, -1], scene.actor_sizes_m[there],
        )  # fmt: skip
        return pb.LidarRenderReturn(
            num_points=len(points), point_xyzs_buffer=points.astype("<f4").tobytes(),
            point_intensities_buffer=intensities.astype("<f4").tobytes(),
        )  # fmt: skip

    async def aclose(self) -> None:
        """End the plugin's sessions."""
        await self._sessions.aclose()


@functools.lru_cache(maxsize=256)
def _sensor(intrinsics: bytes, size: tuple[int, int]) -> Camera:
    """A camera of the size asked for, at the origin of its rig; the same object each time.

    Raises:
        Refusal: the intrinsics or the size cannot be used.
    """
    spec = pb.CameraSpec.FromString(intrinsics)
    if not (1 <= size[0] <= MAX_SIDE_PX and 1 <= size[1] <= MAX_SIDE_PX):
        raise _refusal(f"an image of {size[0]}x{size[1]} is not within 1 to {MAX_SIDE_PX} pixels")
    try:
        model = model_from_wire(spec).resized(*size)
    except ValueError as error:
        raise _refusal(str(error)) from error
    return Camera(spec.logical_id or spec.temporary_camera_spec, model, IDENTITY)


def _heights(scene: Scene) -> lidar.Heights:
    """The scene's raster of heights, or the plane of its first recorded ego pose."""
    raster, plane_m = scene.ground, float(scene.ego.poses[0, 2])
    if raster is not None:
        return functools.partial(sample_heights, raster)

    def plane(x: Array, y: Array) -> Array:
        return np.full(np.shape(x), plane_m)

    return plane


def _refusal(what: str) -> Refusal:
    return Refusal(StatusCode.INVALID_ARGUMENT, what)
