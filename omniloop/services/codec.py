"""Messages of poses and motion to arrays and back.

On the wire poses are float32 and quaternions w, x, y, z; here they are float64 ``(7,)``
x, y, z, qx, qy, qz, qw. What is read is checked and its quaternions are normalised.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.motion import Times, Trajectory
from omniloop.services.pose_bytes import read_trajectory, trajectory_bytes
from omniloop.services.protos.common_pb2 import (
    AABB,
    DynamicState,
    Pose,
    PoseAtTime,
    Quat,
    Vec3,
)
from omniloop.services.protos.common_pb2 import Trajectory as WireTrajectory

_UNIT_TOLERANCE = 1e-2
"""How far a quaternion's norm may be from 1 (AlpaSim normalises within a tolerance)."""

_MANY = 4
"""From so many poses on it is quicker to write their bytes than to build their messages."""

LATEST_US = 2**63 - 1


def pose_to_wire(pose: Array) -> Pose:
    """A pose ``(7,)`` as a message."""
    x, y, z, qx, qy, qz, qw = pose.tolist()
    return Pose(vec=Vec3(x=x, y=y, z=z), quat=Quat(w=qw, x=qx, y=qy, z=qz))


def poses_to_wire(poses: Array) -> list[Pose]:
    """Poses ``(N, 7)`` as messages."""
    return [
        Pose(vec=Vec3(x=x, y=y, z=z), quat=Quat(w=qw, x=qx, y=qy, z=qz))
        for x, y, z, qx, qy, qz, qw in poses.tolist()
    ]


def trajectory_to_wire(times_us: Times, poses: Array) -> WireTrajectory:
    """Poses ``(N, 7)`` at times ``(N,)``, none of them negative, as a message."""
    if len(times_us) >= _MANY:
        return WireTrajectory.FromString(trajectory_bytes(times_us, poses))
    return WireTrajectory(
        poses=[
            PoseAtTime(
                timestamp_us=t, pose=Pose(vec=Vec3(x=x, y=y, z=z), quat=Quat(w=qw, x=qx, y=qy, z=qz))
            )
            for t, (x, y, z, qx, qy, qz, qw) in zip(times_us.tolist(), poses.tolist(), strict=True)
        ]
    )  # fmt: skip


def poses_from_wire(poses: Iterable[Any]) -> Array:
    """Messages as ``(N, 7)`` with unit quaternions.

    Raises:
        ValueError: a number is not finite, or a quaternion is far from a unit.
    """
    rows = []
    for pose in poses:
        v, q = pose.vec, pose.quat
        rows.append((v.x, v.y, v.z, q.x, q.y, q.z, q.w))
    return _checked(np.array(rows, dtype=np.float64).reshape(-1, 7))


def _checked(out: Array) -> Array:
    """Normalise quaternions in place, or raise a ValueError that names a pose."""
    if not np.isfinite(out).all():
        at = int(np.argmin(np.isfinite(out).all(axis=1)))
        raise ValueError(f"pose {out[at].tolist()} at index {at} is not finite")
    norm = np.sqrt(np.einsum("ij,ij->i", out[:, 3:], out[:, 3:]))
    off = np.abs(norm - 1.0) > _UNIT_TOLERANCE
    if off.any():
        at = int(np.argmax(off))
        raise ValueError(
            f"quaternion {out[at, 3:].tolist()} (x, y, z, w) at index {at} is not a unit"
        )
    out[:, 3:] /= norm[:, None]
    return out


def pose_from_wire(pose: Any) -> Array:
    """A message as ``(7,)``; raises like `poses_from_wire`."""
    return np.asarray(poses_from_wire([pose])[0])


def trajectory_from_wire(message: Any) -> Trajectory:
    """A message as a trajectory, which may be empty.

    Raises:
        ValueError: its times are not strictly increasing, a number is not finite, or a
            quaternion is far from a unit.
    """
    quick = read_trajectory(message)
    if quick is not None and quick[0].min() >= 0:  # a time beyond int64 reads as negative
        times, poses = quick[0], _checked(quick[1])
        if (times[1:] <= times[:-1]).any():
            return Trajectory(times, poses)  # which names the time that does not grow
        poses.setflags(write=False)
        return Trajectory.unchecked(times, poses)
    times = times_from_wire(p.timestamp_us for p in message.poses)
    return Trajectory(times, poses_from_wire(p.pose for p in message.poses))


def times_from_wire(times_us: Iterable[int]) -> Times:
    """Unsigned 64-bit times as int64.

    Raises:
        ValueError: one is too large to be a time.
    """
    given = list(times_us)
    if given and max(given) > LATEST_US:
        raise ValueError(f"time {max(given)} us is beyond {LATEST_US} us")
    return np.array(given, dtype=np.int64)


def size_to_wire(size_m: Array) -> AABB:
    """Length, width, height ``(3,)`` as a message."""
    x, y, z = size_m.tolist()
    return AABB(size_x=x, size_y=y, size_z=z)


def size_from_wire(message: Any) -> Array:
    """Length, width, height ``(3,)``."""
    return np.array([message.size_x, message.size_y, message.size_z], dtype=np.float64)


def dynamics_to_wire(dynamics: Array) -> DynamicState:
    """Motion ``(12,)``, see `EgoMotion`, as a message in the rig frame."""
    v = dynamics.tolist()
    return DynamicState(
        linear_velocity=Vec3(x=v[0], y=v[1], z=v[2]), angular_velocity=Vec3(x=v[3], y=v[4], z=v[5]),
        linear_acceleration=Vec3(x=v[6], y=v[7], z=v[8]),
        angular_acceleration=Vec3(x=v[9], y=v[10], z=v[11]),
    )  # fmt: skip


def dynamics_from_wire(states: Iterable[Any]) -> Array:
    """Messages as ``(N, 12)``, see `EgoMotion`.

    Raises:
        ValueError: a number is not finite.
    """
    rows = []
    for s in states:
        a, b, c, d = (
            s.linear_velocity,
            s.angular_velocity,
            s.linear_acceleration,
            s.angular_acceleration,
        )
        rows.append((a.x, a.y, a.z, b.x, b.y, b.z, c.x, c.y, c.z, d.x, d.y, d.z))
    out = np.array(rows, dtype=np.float64).reshape(-1, 12)
    if not np.isfinite(out).all():
        raise ValueError("a dynamic state is not finite")
    return out
