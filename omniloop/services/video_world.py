"""What a video model's server is asked: cameras and images of a session, chunks of frames.

The rules and most of the texts are those of FlashDreams' server (contracts.md 2.4, 2.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from grpc import StatusCode

from omniloop.core.camera_fit import MAX_COEFFICIENTS
from omniloop.core.cameras import Camera
from omniloop.core.geometry import IDENTITY
from omniloop.core.messages import ChunkRule, RenderRequest
from omniloop.core.motion import ActorMotion, Times
from omniloop.core.scene import Actor, ActorClass, FirstFrame
from omniloop.services.camera_codec import CameraAxes, model_from_wire, rig_to_camera_from_wire
from omniloop.services.codec import size_from_wire, trajectory_from_wire
from omniloop.services.protos import video_model_pb2 as pb
from omniloop.services.rpc import Refusal
from omniloop.services.video_images import decoded, from_planar

MAX_SIDE_PX = 8192
"""A larger image is refused: a client could have gigabytes allocated by one call."""

_CLASSES = {kind.value: kind for kind in ActorClass}


def refusal(what: str) -> Refusal:
    """The refusal of a request that cannot be used."""
    return Refusal(StatusCode.INVALID_ARGUMENT, what)


# ------------------------------------------------------------------------- a session


def cameras_of(request: Any) -> tuple[Camera, ...]:
    """The cameras of a session request, with optical axes.

    Their size is the size of the images that the client expects.

    Raises:
        Refusal: there is none, one is no f-theta camera, two have the same name or different
            sizes, or there are not as many poses.
    """
    specs, mounts = request.camera_specs, request.rig_to_camera
    if not len(specs):
        raise refusal("SessionRequest.camera_specs must contain at least one CameraSpec")
    if len(mounts) != len(specs):
        raise refusal(
            f"Expected {len(specs)} rig_to_camera poses (one per camera_spec), got {len(mounts)}"
        )
    names = [s.logical_id or s.temporary_camera_spec or f"camera_{i}" for i, s in enumerate(specs)]
    cameras = []
    for name, spec, mount in zip(names, specs, mounts, strict=True):
        if names.count(name) > 1:
            raise refusal(f"camera '{name}' comes twice")
        if spec.WhichOneof("camera_param") != "ftheta_param":
            raise refusal(f"camera '{name}' has no ftheta_param: convert it to f-theta")
        polynomials = (
            spec.ftheta_param.angle_to_pixeldist_poly,
            spec.ftheta_param.pixeldist_to_angle_poly,
        )
        longest = max(len(p) for p in polynomials)
        if longest > MAX_COEFFICIENTS:
            raise refusal(
                f"camera '{name}' has a polynomial of {longest} coefficients, and not at most {MAX_COEFFICIENTS}"
            )
        if not 1 <= max(spec.resolution_w, spec.resolution_h) <= MAX_SIDE_PX:
            raise refusal(f"camera '{name}' has the resolution {_resolution(spec)}")
        if _resolution(spec) != _resolution(specs[0]):
            raise refusal(
                f"camera '{name}' has the resolution {_resolution(spec)}, and camera"
                f" '{names[0]}' {_resolution(specs[0])}: all must have the same"
            )
        try:
            pose = rig_to_camera_from_wire(mount, CameraAxes.FLU)
            cameras.append(Camera(name, model_from_wire(spec), pose))
        except ValueError as error:
            raise refusal(f"camera '{name}' cannot be used: {error}") from error
    return tuple(cameras)


def _resolution(spec: Any) -> str:
    return f"{spec.resolution_w}x{spec.resolution_h}"


def first_frames_of(
    request: Any, cameras: Sequence[Camera], time_us: int
) -> tuple[FirstFrame, ...]:
    """The image that each camera starts from, as JPEG or PNG.

    Raises:
        Refusal: there are not as many as cameras, or one cannot be decoded.
    """
    images = request.initial_frames
    if len(images) != len(cameras):
        raise refusal(
            f"Expected {len(cameras)} initial_frames (one per camera_spec), got {len(images)}"
        )
    frames = []
    for camera, image in zip(cameras, images, strict=True):
        try:
            if image.format == pb.RGB_UINT8_PLANAR:
                data = from_planar(image.data, camera.model.width, camera.model.height)
            elif image.format in (pb.JPEG, pb.PNG):
                data = image.data
                decoded(data)
            else:
                raise ValueError(
                    f"its format {image.format} is none of PNG, JPEG, RGB_UINT8_PLANAR"
                )
        except ValueError as error:
            raise refusal(f"initial_frame of camera '{camera.id}': {error}") from error
        frames.append(FirstFrame(camera.id, time_us, data))
    return tuple(frames)


# --------------------------------------------------------------------------- a chunk


@dataclass
class ChunkReader:
    """Reads the requests for the chunks of one session.

    Attributes:
        cameras: How many the session has.
        started: Whether the first chunk was made.
    """

    chunk: ChunkRule
    cameras: int
    started: bool = False
    _looks: list[tuple[int, bytes]] = field(default_factory=list)
    _actors: tuple[Actor, ...] = ()

    def read(self, request: Any) -> RenderRequest:
        """A chunk as a renderer plugin is asked for it.

        Only the request says who is there; nothing of the recording is shown.

        Raises:
            Refusal: its poses are not as many as the chunk has frames, or a pose or an actor
                cannot be used.
        """
        kind = "continuation" if self.started else "initial"
        due = self.chunk.frames if self.started else self.chunk.first_frames
        given = len(request.rig_trajectory.poses)
        if given < due:
            raise refusal(
                f"Client must provide rig poses. Expected {due} poses ({kind} chunk), got {given}."
            )
        if given > due:
            raise refusal(f"Expected exactly {due} poses ({kind} chunk), got {given}.")
        try:
            rig = trajectory_from_wire(request.rig_trajectory)
        except ValueError as error:
            raise refusal(f"rig_trajectory: {error}") from error
        messages = request.dynamic_state.actors
        motion = _motion(messages, rig.times_us)
        end_index = np.repeat(np.arange(due), self.cameras)
        return RenderRequest(
            rig.times_us, rig.poses, self._cast(messages), motion,
            np.tile(np.arange(self.cameras), due), end_index, end_index,
        )  # fmt: skip

    def _cast(self, messages: Sequence[Any]) -> tuple[Actor, ...]:
        """Who the actors of a chunk are; the same object while they look the same.

        The wire carries no names, so they are numbered.
        """
        looks = [(m.class_id, m.bbox_dims.SerializeToString(deterministic=True)) for m in messages]
        if looks != self._looks:
            self._looks = looks
            self._actors = tuple(_actor(i, message) for i, message in enumerate(messages))
        return self._actors


def _actor(number: int, message: Any) -> Actor:
    size_m = size_from_wire(message.bbox_dims)
    if not (size_m > 0).all() or not np.isfinite(size_m).all():
        raise refusal(f"DynamicActor[{number}] has nonpositive bbox dimensions: {size_m.tolist()}")
    kind = _CLASSES.get(message.class_id, ActorClass.OTHER)
    return Actor(str(number), kind, kind.name.lower(), size_m)


def _motion(messages: Sequence[Any], times_us: Times) -> ActorMotion:
    """Actors at the frames' times, each only within the range of its own poses."""
    poses = np.tile(IDENTITY, (len(messages), len(times_us), 1))
    valid = np.zeros(poses.shape[:2], dtype=bool)
    for row, message in enumerate(messages):
        if not len(message.trajectory.poses):
            raise refusal(f"DynamicActor[{row}] has no trajectory poses")
        try:
            path = trajectory_from_wire(message.trajectory)
        except ValueError as error:
            raise refusal(f"DynamicActor[{row}] has an invalid trajectory: {error}") from error
        there = (times_us >= path.start_us) & (times_us <= path.end_us)
        if there.any():
            poses[row, there], valid[row] = path.sample(times_us[there]), there
    return ActorMotion(times_us, poses, valid)
