"""Motion to protobuf and back, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import Route
from omniloop.core.motion import ActorMotion, EgoMotion, Mask, Trajectory
from omniloop.runlog.proto import log_pb2 as pb
from omniloop.runlog.wire import doubles, float64s, int64s, sfixed64s

_IDENTITY_BITS = geometry.IDENTITY.view(np.int64)


def to_bytes(message: Any) -> bytes:
    """Serialise a message; equal messages give equal bytes."""
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays have the same shape, type and bytes."""
    return a is b or (a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes())


def encode_trajectory(trajectory: Trajectory) -> bytes:
    """Encode `Trajectory`."""
    return sfixed64s(1, trajectory.times_us) + doubles(2, trajectory.poses)


def decode_trajectory(message: Any) -> Trajectory:
    """Decode `Trajectory`; ValueError if its arrays do not fit each other."""
    return Trajectory(int64s(message.times_us), float64s(message.poses, -1, 7))


def encode_ego(ego: EgoMotion) -> bytes:
    """Encode `EgoStates`."""
    return sfixed64s(1, ego.times_us) + doubles(2, ego.local_to_rig) + doubles(3, ego.dynamics)


def decode_ego(message: Any) -> EgoMotion:
    """Decode `EgoStates`; ValueError if its arrays do not fit each other."""
    times = int64s(message.times_us)
    n = len(times)
    return EgoMotion(times, float64s(message.local_to_rig, n, 7), float64s(message.dynamics, n, 12))


def encode_actors(actors: ActorMotion) -> bytes:
    """Encode `ActorStates`: valid poses only, where the others are the identity."""
    poses = np.ascontiguousarray(actors.local_to_aabb, dtype=np.float64)
    valid = np.asarray(actors.valid, dtype=np.bool_)
    kept, all_poses = poses, False
    if not valid.all():
        # Elsewhere a pose means nothing, but what is read must be what was simulated.
        all_poses = bool((poses[~valid].view(np.int64) != _IDENTITY_BITS).any())
        kept = poses if all_poses else poses[valid]
    head = pb.ActorStates(
        actor_count=len(valid),
        valid=np.packbits(valid, bitorder="little").tobytes(),
        all_poses=all_poses,
    )
    return to_bytes(head) + sfixed64s(1, actors.times_us) + doubles(4, kept)


def decode_actors(message: Any) -> ActorMotion:
    """Decode `ActorStates`; ValueError if its arrays do not fit each other."""
    times = int64s(message.times_us)
    shape = (message.actor_count, len(times))
    bits = np.frombuffer(message.valid, dtype=np.uint8)
    unpacked = np.unpackbits(bits, count=shape[0] * shape[1], bitorder="little")
    valid: Mask = unpacked.astype(np.bool_).reshape(shape)
    if message.all_poses or valid.all():
        return ActorMotion(times, float64s(message.local_to_aabb, *shape, 7), valid)
    poses = np.empty((*shape, 7))
    poses[:] = geometry.IDENTITY
    poses[valid] = float64s(message.local_to_aabb, int(valid.sum()), 7)
    return ActorMotion(times, poses, valid)


def encode_route(route: Route) -> bytes:
    """Encode `Route`."""
    return to_bytes(pb.Route(time_us=route.time_us)) + doubles(2, route.waypoints_rig)


def decode_route(message: Any) -> Route:
    """Decode `Route`; ValueError if its arrays do not fit each other."""
    return Route(message.time_us, float64s(message.waypoints_rig, -1, 3))
