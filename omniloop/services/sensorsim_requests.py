"""What a rollout's frames become on the sensorsim protocol (alpasim.md 1.7)."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera
from omniloop.core.messages import RenderRequest
from omniloop.core.motion import ActorMotion
from omniloop.core.once import once_per_object
from omniloop.core.replay import RecordedActors
from omniloop.core.scene import Scene
from omniloop.runlog.wire import varint
from omniloop.services.camera_codec import spec_to_wire
from omniloop.services.pose_bytes import PAIR_BYTES, pose_pair_bytes
from omniloop.services.protos import sensorsim_pb2 as pb

HIDDEN_M = 100.0
"""How far down, along its own z, an actor is sent that is recorded but not in the world:
a reconstruction holds it, and would draw it where it was (alpasim.md 1.7)."""

_SHUTTER = struct.Struct("<BQBQ")
_SENSOR_POSE = bytes([0x3A, PAIR_BYTES])
"""Tag and length of a request's sensor_pose."""

_DOWN = np.array([0.0, 0.0, -HIDDEN_M])


@once_per_object
def _recorded_actors(scene: Scene) -> RecordedActors:
    return RecordedActors(scene)


class RequestWriter:
    """Writes the requests for the frames of one rollout.

    Args:
        cameras: The session's cameras, at the size of their images.
        shutter_us: Shutter of cameras that declare none.
        image_format: `pb.JPEG` or `pb.PNG`.
        masks: Ego mask of each camera, None where there is none.
    """

    def __init__(
        self,
        scene: Scene,
        cameras: tuple[Camera, ...],
        shutter_us: int,
        image_format: Any,
        image_quality: float,
        masks: tuple[Any, ...],
    ) -> None:
        self._scene = scene
        self._mounts = np.array([c.rig_to_camera for c in cameras]).reshape(-1, 7)
        self._object_heads = [_object_head(actor.id) for actor in scene.actors]
        self._moving = np.array([not a.is_static for a in scene.actors], dtype=bool)
        self._heads = [
            pb.RGBRenderRequest(
                scene_id=scene.id, resolution_w=camera.model.width, resolution_h=camera.model.height,
                camera_intrinsics=spec_to_wire(replace(camera, shutter_us=camera.shutter_us or shutter_us)),
                image_format=image_format, image_quality=image_quality,
                insert_ego_mask=mask is not None, ego_mask_id=mask,
            ).SerializeToString()
            for camera, mask in zip(cameras, masks, strict=True)
        ]  # fmt: skip

    def write(self, request: RenderRequest) -> list[bytes]:
        """One serialised RGBRenderRequest per frame, in the request's order."""
        cameras, start, end = request.camera_index, request.start_index, request.end_index
        mounts = self._mounts[cameras]
        ends = geometry.compose(request.local_to_rig[end], mounts)
        if np.array_equal(start, end):
            starts = ends
        else:
            starts = geometry.compose(request.local_to_rig[start], mounts)
        sensors = pose_pair_bytes(starts, ends)
        recorded = self._recorded_where_gone(request)
        times_us = request.times_us.tolist()
        objects: dict[tuple[int, int], bytes] = {}  # cameras of one shutter share theirs
        out = []
        for n, (camera, first, last) in enumerate(
            zip(cameras.tolist(), start.tolist(), end.tolist(), strict=True)
        ):
            opens_us, closes_us = self._shutter(times_us[first], times_us[last])
            shown = objects.get((first, last))
            if shown is None:
                shown = self._objects(request.actor_motion, recorded, first, last)
                objects[first, last] = shown
            shutter = _SHUTTER.pack(0x29, opens_us, 0x31, closes_us)  # frame_start_us, frame_end_us
            out.append(self._heads[camera] + shutter + _SENSOR_POSE + sensors[n] + shown)
        return out

    def _shutter(self, start_us: int, end_us: int) -> tuple[int, int]:
        """The shutter's times on the wire, where they must differ.

        A global shutter is sent as one microsecond, inside the recording as in CARLA's
        NuRec example (contracts.md 3.4); the poses stay those of its instant.
        """
        if start_us != end_us:
            return start_us, end_us
        if end_us >= self._scene.end_us > 0:
            return end_us - 1, end_us
        return start_us, start_us + 1

    def _recorded_where_gone(self, request: RenderRequest) -> ActorMotion | None:
        """The recording, if any moving actor is not in the world at some instant."""
        if request.actor_motion.valid[self._moving].all():
            return None
        return _recorded_actors(self._scene).at(request.times_us)

    def _objects(
        self, motion: ActorMotion, recorded: ActorMotion | None, start: int, end: int
    ) -> bytes:
        """Moving actors in the scene's order, as the field `dynamic_objects` of a request.

        They are those in the world, and the hidden ones. Static actors are in the
        reconstruction already, so they are left out.
        """
        shutter = [start, end]
        listed = self._moving & motion.valid[:, shutter].all(axis=1)
        poses = motion.local_to_aabb[:, shutter]
        if recorded is not None:
            gone = self._moving & ~listed & recorded.valid[:, shutter].all(axis=1)
            if gone.any():
                poses[gone] = geometry.shift_body(recorded.local_to_aabb[:, shutter][gone], _DOWN)
                listed |= gone
        rows = np.flatnonzero(listed)
        pairs = pose_pair_bytes(poses[rows, 0], poses[rows, 1])
        return b"".join(
            self._object_heads[row] + pair for row, pair in zip(rows.tolist(), pairs, strict=True)
        )


def _object_head(track_id: str) -> bytes:
    """All of a `dynamic_objects` entry up to its two poses: see sensorsim.proto."""
    empty = pb.DynamicObject(track_id=track_id).SerializeToString()
    return b"\x42" + varint(len(empty) + 2 + PAIR_BYTES) + empty + bytes([0x12, PAIR_BYTES])
