"""The logged trajectories of a traffic session: written from a scene, and read as one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from grpc import StatusCode

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Times, Trajectory
from omniloop.core.once import once_per_object
from omniloop.core.scene import Actor, Scene, Track, Vehicle
from omniloop.scenes.labels import class_of
from omniloop.services.codec import (
    size_from_wire,
    size_to_wire,
    trajectory_from_wire,
    trajectory_to_wire,
)
from omniloop.services.protos import traffic_pb2 as pb
from omniloop.services.rpc import Refusal
from omniloop.services.shelf import SceneShelf
from omniloop.services.traffic_codec import EGO_ID

_REAR_OVERHANG_M = Vehicle().length_m / 2 - Vehicle().rear_axle_to_center_m
"""A logged ego has a box, but no axle: it is taken to lie as far from the rear as AlpaSim's."""


# --------------------------------------------------------------------------- written


@once_per_object
def logged_objects(
    scene: Scene, vehicle: Vehicle, start_us: int, end_us: int, unseen_too: bool
) -> Any:
    """A session's request that holds the logged trajectories alone: ego, then every actor.

    They are what was recorded in ``[start_us, end_us]``, with interpolated poses at both ends.
    The wire has no gaps: where an actor was not observed its samples are missing.

    Args:
        unseen_too: Name actors that were not observed in that time as well.
    """
    ego = scene.ego.clip(max(start_us, scene.start_us), min(end_us, scene.end_us))
    boxes = ego.shift_body(vehicle.rig_to_aabb)
    logged = [
        pb.ObjectTrajectory(
            aabb=size_to_wire(vehicle.size_m), object_id=EGO_ID,
            trajectory=trajectory_to_wire(boxes.times_us, boxes.poses),
        )
    ]  # fmt: skip
    for track in scene.tracks:
        times, poses = _observed(track, start_us, end_us)
        if len(times) or unseen_too:
            actor = track.actor
            logged.append(
                pb.ObjectTrajectory(
                    aabb=size_to_wire(actor.size_m), object_id=actor.id, is_static=actor.is_static,
                    trajectory=trajectory_to_wire(times, poses), label_class=actor.label,
                )
            )  # fmt: skip
    return pb.TrafficSessionRequest(logged_object_trajectories=logged)


def _observed(track: Track, start_us: int, end_us: int) -> tuple[Times, Array]:
    ends = np.array([start_us, end_us], dtype=np.int64)
    at_ends, there = track.at(ends)
    inside = (track.times_us > start_us) & (track.times_us < end_us) & track.valid
    times = [ends[:1][there[:1]], track.times_us[inside], ends[1:][there[1:]]]
    poses = [at_ends[:1][there[:1]], track.local_to_aabb[inside], at_ends[1:][there[1:]]]
    return np.concatenate(times), np.concatenate(poses)


# ------------------------------------------------------------------------------ read


def scene_of(request: Any, shelf: SceneShelf | None) -> Scene:
    """The scene of a session, with the actors that its caller names, in the caller's order.

    Without a shelf it is built of the logged trajectories: no map, and no gaps in tracks. With
    one, the scene's own tracks are used for the actors that it has.

    Raises:
        Refusal: the logged trajectories cannot be used (INVALID_ARGUMENT).
        SceneError: the shelf does not have the scene.
    """
    logged = {o.object_id: o for o in request.logged_object_trajectories}
    if len(logged) < len(request.logged_object_trajectories):
        raise _refused("an object comes twice")
    ego = logged.pop(EGO_ID, None)
    if ego is None or not len(ego.trajectory.poses):
        raise _refused(f"there is no trajectory of '{EGO_ID}'")
    scene = _scene_of_ego(request.scene_id, ego) if shelf is None else shelf.get(request.scene_id)
    if list(logged) == [actor.id for actor in scene.actors]:
        return scene
    own = {track.actor.id: track for track in scene.tracks}
    tracks = tuple(own[name] if name in own else _track(o) for name, o in logged.items())
    return replace(scene, tracks=tracks)


def _scene_of_ego(scene_id: str, ego: Any) -> Scene:
    length_m, width_m, height_m = _size_m(ego).tolist()
    vehicle = Vehicle(length_m, width_m, height_m, length_m / 2 - _REAR_OVERHANG_M)
    aabb_to_rig = geometry.inverse(vehicle.rig_to_aabb)
    return Scene(scene_id, "wire", _trajectory(ego).shift_body(aabb_to_rig), vehicle)


def _track(logged: Any) -> Track:
    label = logged.label_class
    actor = Actor(
        logged.object_id, class_of(label), label, _size_m(logged),
        logged.is_static,
    )  # fmt: skip
    path = _trajectory(logged)
    return Track(actor, path.times_us, path.poses, np.ones(len(path), dtype=bool))


def _trajectory(logged: Any) -> Trajectory:
    try:
        return trajectory_from_wire(logged.trajectory)
    except ValueError as error:
        raise _refused(f"object '{logged.object_id}': {error}") from error


def _size_m(logged: Any) -> Array:
    size_m = size_from_wire(logged.aabb)
    if not (np.isfinite(size_m) & (size_m > 0)).all():
        raise _refused(f"object '{logged.object_id}' has the size {size_m.tolist()} m")
    return size_m


def _refused(what: str) -> Refusal:
    return Refusal(StatusCode.INVALID_ARGUMENT, f"logged_object_trajectories: {what}")
