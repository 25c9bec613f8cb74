"""What Foxglove shows: ego, actors, plans and images as its well-known messages.

Boxes and poses are many and alike. Each is serialised once, with marks where its
numbers belong, and every message is then a copy with the numbers written over the
marks: 50 boxes take 25 us instead of 400 us.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from omniloop.core.contracts import CameraFrame
from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion, EgoMotion, Trajectory
from omniloop.core.scene import Actor, ActorClass, Vehicle
from omniloop.core.time import US_PER_S
from omniloop.runlog.proto import foxglove_pb2 as fg
from omniloop.runlog.wire import embedded

Bytes = NDArray[np.uint8]

_POSE_MARKS = tuple(-1.25e300 * (1 + i) for i in range(7))
_TIME_MARK = Timestamp(seconds=2**34, nanos=2**29)
_TIME_BYTES = 12
"""A `Timestamp` whose two numbers take 5 bytes each: a varint may have leading zeros."""

_EGO_COLOR = (0.15, 0.45, 0.95)
_COLORS = {
    ActorClass.CAR: (0.95, 0.60, 0.10),
    ActorClass.TRUCK: (0.75, 0.40, 0.10),
    ActorClass.PEDESTRIAN: (0.85, 0.15, 0.25),
    ActorClass.CYCLIST: (0.60, 0.20, 0.70),
    ActorClass.OTHER: (0.50, 0.50, 0.50),
}


def timestamp(time_us: int) -> bytes:
    """A serialised ``google.protobuf.Timestamp``, always of 12 bytes."""
    seconds, micros = divmod(time_us, US_PER_S)
    return b"\x08" + _padded_varint(seconds) + b"\x10" + _padded_varint(micros * 1000)


def _padded_varint(value: int) -> bytes:
    """A number below 2^35 as a varint of 5 bytes, leading zeros and all."""
    return bytes(
        (
            value & 0x7F | 0x80,
            value >> 7 & 0x7F | 0x80,
            value >> 14 & 0x7F | 0x80,
            value >> 21 & 0x7F | 0x80,
            value >> 28,
        )
    )


def _positions(row: bytes, pattern: bytes) -> NDArray[np.int64]:
    """Indices of the bytes of a pattern that a row holds exactly once."""
    at = row.index(pattern)
    if pattern in row[at + 1 :]:
        raise ValueError(f"mark {pattern!r} is not unique")
    return np.arange(at, at + len(pattern))


class _Layout:
    """Where a pose's numbers and a time lie in serialised rows."""

    def __init__(self, rows: Sequence[bytes], timed: bool) -> None:
        starts = np.cumsum([0, *map(len, rows)])[:-1]
        self.data: Bytes = np.frombuffer(b"".join(rows), dtype=np.uint8)
        marks = [struct.pack("<d", mark) for mark in _POSE_MARKS]
        shape = (len(rows), 7, 8)
        self.poses = np.array(
            [
                [start + _positions(row, mark) for mark in marks]
                for start, row in zip(starts, rows, strict=True)
            ],
            dtype=np.int64,
        ).reshape(shape)
        self.times = np.zeros((len(rows), 0), dtype=np.int64)
        if timed:
            stamp = _TIME_MARK.SerializeToString()
            self.times = np.array(
                [start + _positions(row, stamp) for start, row in zip(starts, rows, strict=True)],
                dtype=np.int64,
            ).reshape(len(rows), _TIME_BYTES)


def _as_bytes(poses: Array) -> Bytes:
    """Bytes ``(N, 7, 8)`` of poses ``(N, 7)``."""
    return np.ascontiguousarray(poses, dtype="<f8").view(np.uint8).reshape(-1, 7, 8)


def _marked_pose() -> fg.Pose:
    x, y, z, qx, qy, qz, qw = _POSE_MARKS
    return fg.Pose(
        position=fg.Vector3(x=x, y=y, z=z), orientation=fg.Quaternion(x=qx, y=qy, z=qz, w=qw)
    )


def _pose(values: Array) -> fg.Pose:
    x, y, z, qx, qy, qz, qw = values.tolist()
    return fg.Pose(
        position=fg.Vector3(x=x, y=y, z=z), orientation=fg.Quaternion(x=qx, y=qy, z=qz, w=qw)
    )


def _box(
    entity_id: str, frame_id: str, pose: fg.Pose, size_m: Array, rgb: tuple[float, float, float]
) -> bytes:
    x, y, z = np.asarray(size_m, dtype=np.float64).tolist()
    r, g, b = rgb
    entity = fg.SceneEntity(
        timestamp=_TIME_MARK,
        frame_id=frame_id,
        id=entity_id,
        frame_locked=True,
        cubes=[
            fg.CubePrimitive(
                pose=pose, size=fg.Vector3(x=x, y=y, z=z), color=fg.Color(r=r, g=g, b=b, a=0.8)
            )
        ],
    )
    data: bytes = fg.SceneUpdate(entities=[entity]).SerializeToString()
    return data


class SceneView:
    """Boxes of ego and actors at an instant, as `SceneUpdate`.

    Each message first deletes all boxes, so that it shows its instant whatever came
    before; only present actors are in it.
    """

    def __init__(self, actors: Sequence[Actor], vehicle: Vehicle) -> None:
        deletion = fg.SceneEntityDeletion(timestamp=_TIME_MARK, type=fg.SceneEntityDeletion.ALL)
        clear = fg.SceneUpdate(deletions=[deletion]).SerializeToString()
        ego = _box("ego", "rig", _pose(vehicle.rig_to_aabb), vehicle.size_m, _EGO_COLOR)
        rows = [
            _box(f"{a.id} {a.label}", "local", _marked_pose(), a.size_m, _COLORS[a.actor_class])
            for a in actors
        ]
        stamp = _TIME_MARK.SerializeToString()
        self._head = np.frombuffer(clear + ego, dtype=np.uint8)
        self._head_times = np.stack([_positions(clear, stamp), len(clear) + _positions(ego, stamp)])
        self._rows = _Layout(rows, timed=True)
        self._row_of_byte = np.repeat(np.arange(len(rows)), [len(row) for row in rows])

    def encode(self, actors: ActorMotion) -> bytes:
        """Show the last instant of `actors`."""
        stamp = np.frombuffer(timestamp(int(actors.times_us[-1])), dtype=np.uint8)
        head = self._head.copy()
        head[self._head_times] = stamp
        data = self._rows.data.copy()
        data[self._rows.poses] = _as_bytes(actors.local_to_aabb[:, -1])
        data[self._rows.times] = stamp
        valid = actors.valid[:, -1]
        if not valid.all():
            data = data[valid[self._row_of_byte]]
        return head.tobytes() + data.tobytes()


def _transform_layout() -> _Layout:
    x, y, z, qx, qy, qz, qw = _POSE_MARKS
    transform = fg.FrameTransform(
        timestamp=_TIME_MARK,
        parent_frame_id="local",
        child_frame_id="rig",
        translation=fg.Vector3(x=x, y=y, z=z),
        rotation=fg.Quaternion(x=qx, y=qy, z=qz, w=qw),
    )
    return _Layout([fg.FrameTransforms(transforms=[transform]).SerializeToString()], timed=True)


_TRANSFORM = _transform_layout()
_PLAN_POSE = _Layout([fg.PosesInFrame(poses=[_marked_pose()]).SerializeToString()], timed=False)


def encode_transforms(ego: EgoMotion) -> bytes:
    """`FrameTransforms`: ``local_to_rig`` at each of ego's times."""
    rows = np.repeat(_TRANSFORM.data[None], len(ego), axis=0)
    rows[:, _TRANSFORM.poses[0]] = _as_bytes(ego.local_to_rig)
    stamps = b"".join(map(timestamp, ego.times_us.tolist()))
    rows[:, _TRANSFORM.times[0]] = np.frombuffer(stamps, dtype=np.uint8).reshape(-1, _TIME_BYTES)
    return rows.tobytes()


def encode_plan_view(time_us: int, plan: Trajectory) -> bytes:
    """`PosesInFrame`: a plan's poses in the local frame."""
    rows = np.repeat(_PLAN_POSE.data[None], len(plan), axis=0)
    rows[:, _PLAN_POSE.poses[0]] = _as_bytes(plan.poses)
    return embedded(1, timestamp(time_us)) + embedded(2, b"local") + rows.tobytes()


def image_format(image: bytes) -> str:
    """Name of an encoded image's format: "jpeg", "png", or "" if it is neither."""
    if image.startswith(b"\xff\xd8"):
        return "jpeg"
    return "png" if image.startswith(b"\x89PNG") else ""


def encode_image(frame: CameraFrame) -> bytes:
    """`CompressedImage`: a frame's pixels, stamped with its capture time."""
    message = fg.CompressedImage(format=image_format(frame.image), frame_id=frame.camera_id)
    message.timestamp.seconds, micros = divmod(frame.capture_us, US_PER_S)
    message.timestamp.nanos = micros * 1000
    head: bytes = message.SerializeToString(deterministic=True)
    return head + embedded(2, frame.image)


def decode_image(data: bytes) -> bytes:
    """The encoded picture in a `CompressedImage`."""
    image: bytes = fg.CompressedImage.FromString(data).data
    return image
