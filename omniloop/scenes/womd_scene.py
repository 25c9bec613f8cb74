"""A recorded scenario of the Waymo Open Motion Dataset as a scene."""

from __future__ import annotations

from collections import Counter

import numpy as np

from omniloop.core import geometry
from omniloop.core.errors import SceneError, nearest
from omniloop.core.geometry import Array
from omniloop.core.scene import ActorClass, Scene, Track, Vehicle
from omniloop.core.time import US_PER_S
from omniloop.scenes import build
from omniloop.scenes.commonroad import REAR_AXLE_TO_CENTER, WHEELBASE
from omniloop.scenes.womd_map import vector_map
from omniloop.scenes.womd_recording import RecordedObject, Recording

_KINDS: dict[str, tuple[ActorClass, float]] = {
    "vehicle": (ActorClass.CAR, 1.6),
    "pedestrian": (ActorClass.PEDESTRIAN, 1.7),
    "cyclist": (ActorClass.CYCLIST, 1.7),
}
"""Class, and height [m] of boxes without one: those of the Argoverse 2 reader."""

_OTHER = (ActorClass.OTHER, 1.5)


def scene_of(recording: Recording, scene_id: str, ego_id: str | None) -> Scene:
    """Build the scene.

    The ego is the object that recorded, or the one that `ego_id` names; the scene lasts from
    its first to its last valid step. Boxes stand level: the dataset has no pitch and roll. In a
    recording without heights they stand on z = 0.

    Raises:
        SceneError: nobody recorded and none is named; the named one is unknown; ego is not
            valid at the first step (unless it was named), or in between; a valid sample is
            not finite, or a box has no size.
    """
    objects = recording.objects
    twice = [name for name, count in Counter(o.id for o in objects).items() if count > 1]
    if twice:
        raise build.damaged(f"two tracks have the id {twice[0]}", recording.where)
    ego = _ego(recording, ego_id)
    poses, size = _boxes(ego, recording)
    length_m, width_m, height_m = (float(v) for v in size)
    vehicle = Vehicle(
        length_m, width_m, height_m,
        rear_axle_to_center_m=REAR_AXLE_TO_CENTER * length_m, wheelbase_m=WHEELBASE * length_m,
    )  # fmt: skip
    rig = geometry.compose(poses, geometry.inverse(vehicle.rig_to_aabb))
    origin = build.local_origin(rig[0])
    where = f"{recording.where}, track {ego.id}"
    times = recording.times_us[ego.valid]
    return Scene(
        id=scene_id,
        source="womd",
        ego=build.recorded_ego(times, build.to_local(rig, origin), where),
        vehicle=vehicle,
        tracks=tuple(
            _track(o, recording, origin) for o in objects if o is not ego and o.valid.any()
        ),
        map=vector_map(recording, origin),
        dataset_to_local=build.dataset_to_local(origin),
        tags=("womd", *recording.notes),
    )


def _ego(recording: Recording, ego_id: str | None) -> RecordedObject:
    if ego_id is not None:
        by_id = {o.id: o for o in recording.objects}
        if ego_id not in by_id:
            raise SceneError(
                f"no object {ego_id} to be ego.{nearest(ego_id, by_id)}", where=recording.where,
                remedy=f"choose scenes.ego from: {', '.join(by_id) or 'none'}, or leave it out",
            )  # fmt: skip
        ego = by_id[ego_id]
    elif recording.ego is None:
        raise SceneError(
            "does not say which object recorded it (sdc_track_index)", where=recording.where,
            remedy="name one of its objects with scenes.ego=ID, or leave the scenario out",
        )  # fmt: skip
    else:
        ego = recording.objects[recording.ego]
    where = f"{recording.where}, track {ego.id}"
    steps = np.flatnonzero(ego.valid)
    remedy = "leave the scenario out, or name another object with scenes.ego=ID"
    if len(steps) == 0 or (ego_id is None and steps[0] > 0):
        since = f"before step {steps[0]}" if len(steps) else "at any step"
        raise SceneError(f"the ego is not valid {since}", where=where, remedy=remedy)
    gaps = np.flatnonzero(np.diff(steps) > 1)
    if len(gaps):
        lost = int(steps[gaps[0]]) + 1
        at_s = (recording.times_us[lost] - recording.times_us[0]) / US_PER_S
        raise SceneError(
            f"the ego is not valid at step {lost} ({at_s:.1f} s)", where=where, remedy=remedy
        )
    return ego


def _boxes(found: RecordedObject, recording: Recording) -> tuple[Array, Array]:
    """Poses ``(V, 7)`` of the valid boxes in the dataset's frame, and the size ``(3,)``."""
    where = f"{recording.where}, track {found.id}"
    seen = found.valid
    numbers = np.column_stack([found.centers, found.heading_rad, found.size_m])[seen]
    bad = ~(np.abs(numbers) <= build.LARGEST).all(axis=1)
    if bad.any():
        step = int(np.flatnonzero(seen)[np.argmax(bad)])
        row = [round(float(v), 6) for v in numbers[int(np.argmax(bad))]]
        raise build.damaged(
            f"step {step} is marked valid, but its position, heading or size is not finite"
            f" or beyond {build.LARGEST:g}: {row}", where
        )  # fmt: skip
    size = np.median(numbers[:, 4:], axis=0)
    if size[2] == 0.0:
        size[2] = _KINDS.get(found.kind, _OTHER)[1]
    if (size <= 0).any():
        raise SceneError(
            f"box size {size.tolist()} m is not positive", where=where,
            remedy="mend the sizes, or leave the scenario out",
        )  # fmt: skip
    centers = numbers[:, :3]
    if recording.planar:
        centers[:, 2] = size[2] / 2
    return geometry.poses_from_xyz_yaw(centers, numbers[:, 3]), size


def _track(found: RecordedObject, recording: Recording, origin_m: Array) -> Track:
    poses, size = _boxes(found, recording)
    return build.make_track(
        found.id,
        _KINDS.get(found.kind, _OTHER)[0],
        label=found.kind,
        size_m=size,
        times_us=recording.times_us[found.valid],
        local_to_aabb=build.to_local(poses, origin_m),
        grid_us=recording.times_us,
        where=recording.where,
    )
