"""What a sensorsim request shows: the static actors of its scene, and those that it moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from grpc import StatusCode

from omniloop.core.geometry import IDENTITY, Array
from omniloop.core.messages import RenderRequest
from omniloop.core.motion import ActorMotion, Times
from omniloop.core.once import once_per_object
from omniloop.core.replay import RecordedActors
from omniloop.core.scene import Scene
from omniloop.services.codec import poses_from_wire, times_from_wire
from omniloop.services.rpc import Refusal

HIDDEN_BELOW_M = 50.0
"""An actor this far below everywhere that it was recorded is one that a client hides: AlpaSim
lowers actors that a reconstruction holds, but the world does not, by 100 m (alpasim.md 1.7)."""

_ONE_FRAME = np.zeros(1, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _Cast:
    """A scene's actors, ready for requests.

    Attributes:
        index: Their numbers by id.
        static: ``(S,)`` the numbers of the static ones.
        recorded: How the static ones were recorded.
        lowest_m: ``(A,)`` the lowest recorded height of each one's box centre.
    """

    index: dict[str, int]
    static: Times
    recorded: RecordedActors
    lowest_m: Array


@once_per_object
def _cast(scene: Scene) -> _Cast:
    tracks = scene.tracks
    static = [i for i, track in enumerate(tracks) if track.actor.is_static]
    return _Cast(
        index={track.actor.id: i for i, track in enumerate(tracks)},
        static=np.array(static, dtype=np.int64),
        recorded=RecordedActors(replace(scene, tracks=tuple(tracks[i] for i in static))),
        lowest_m=np.array(
            [t.local_to_aabb[t.valid, 2].min() if t.valid.any() else -np.inf for t in tracks]
        ),
    )


def render_request(scene: Scene, request: Any) -> RenderRequest:
    """A request for an image, or a lidar scan, as a renderer plugin gets it.

    The sensor stands for ego: a camera of the session must be mounted at the rig's origin,
    with the rig's axes. A shutter without duration is one instant, at the end pose: NRE
    needs two, for it blends between them, but what is drawn here needs one.

    Raises:
        Refusal: a time, pose or actor cannot be used.
    """
    try:
        start_us, end_us = times_from_wire([request.frame_start_us, request.frame_end_us]).tolist()
        sensor = poses_from_wire([request.sensor_pose.start_pose, request.sensor_pose.end_pose])
    except ValueError as error:
        raise _refusal(f"sensor_pose or its times: {error}") from error
    if end_us < start_us:
        raise _refusal(f"frame_end_us {end_us} is before frame_start_us {start_us}")
    instants = slice(None) if end_us > start_us else slice(1, None)
    times = np.array([start_us, end_us], dtype=np.int64)[instants]
    return RenderRequest(
        times_us=times, local_to_rig=sensor[instants], actors=scene.actors,
        actor_motion=_motion(scene, times, instants, request.dynamic_objects),
        camera_index=_ONE_FRAME, start_index=_ONE_FRAME, end_index=_ONE_FRAME + len(times) - 1,
    )  # fmt: skip


def _motion(scene: Scene, times_us: Times, instants: slice, objects: Sequence[Any]) -> ActorMotion:
    """All actors at the times of a shutter: static ones as recorded, the others as given."""
    cast = _cast(scene)
    poses = np.tile(IDENTITY, (len(cast.index), len(times_us), 1))
    valid = np.zeros(poses.shape[:2], dtype=bool)
    if len(cast.static):
        stays = cast.recorded.at(times_us)
        poses[cast.static], valid[cast.static] = stays.local_to_aabb, stays.valid
    if objects:
        rows = _rows(scene, cast, objects)
        pairs = [p for o in objects for p in (o.pose_pair.start_pose, o.pose_pair.end_pose)]
        try:
            given = poses_from_wire(pairs).reshape(-1, 2, 7)
        except ValueError as error:
            raise _refusal(f"dynamic_objects: {error}") from error
        highest_m = given[:, :, 2].max(axis=1)
        hidden = highest_m <= cast.lowest_m[rows] - HIDDEN_BELOW_M
        poses[rows], valid[rows] = given[:, instants], ~hidden[:, None]
        poses[rows[hidden]] = IDENTITY
    return ActorMotion(times_us, poses, valid)


def _rows(scene: Scene, cast: _Cast, objects: Sequence[Any]) -> Times:
    rows = []
    for dynamic in objects:
        row = cast.index.get(dynamic.track_id)
        if row is None:
            raise _refusal(f"scene '{scene.id}' has no track '{dynamic.track_id}'")
        rows.append(row)
    if len(set(rows)) < len(rows):
        twice = next(
            o.track_id for o, row in zip(objects, rows, strict=True) if rows.count(row) > 1
        )
        raise _refusal(f"track '{twice}' comes twice in dynamic_objects")
    return np.array(rows, dtype=np.int64)


def _refusal(what: str) -> Refusal:
    return Refusal(StatusCode.INVALID_ARGUMENT, what)
