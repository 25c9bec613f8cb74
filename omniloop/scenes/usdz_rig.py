"""``rig_trajectories.json`` of a USDZ archive: ego, its box, cameras and their frame times.

Despite its name each ``T_rig_worlds`` is the pose of the rig in `local` (alpasim.md 6.1), and
each ``T_sensor_rig`` that of a camera's optical frame in the rig. Cameras have a unique id
such as ``<logical>@<sequence>``; here and in configs only the logical name is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera
from omniloop.core.errors import ConfigError, SceneError, nearest
from omniloop.core.motion import Times, Trajectory
from omniloop.core.scene import Scene, Vehicle
from omniloop.scenes.build import damaged, member, recorded_ego
from omniloop.scenes.usdz_cameras import model_document, read_model
from omniloop.scenes.usdz_documents import increasing, items, mapping, numbers, rigid, times

FARTHEST_M = 10_000.0
"""Ego must stay this close to the origin: beyond, the float32 of the map's tables and of the
wire is coarser than 1 mm. `local` is the archive's own frame, so that services that loaded
the same archive agree with it."""

_SIDEWAYS_M = 0.2
"""A box may lie so far off the middle of its axle, or off the ground: `Vehicle` knows neither."""

_TURNED_RAD = 0.02
_DEFAULT = Vehicle()
_VEHICLE = "give its size, such as scenes.vehicle={length_m: 4.9, width_m: 1.9, height_m: 1.6, rear_axle_to_center_m: 1.4}"


@dataclass(frozen=True, eq=False)
class Rig:
    """What the document says.

    Attributes:
        sequence_id: Of the one trajectory.
        ego: ``local_to_rig``.
        vehicle: None where it has no box.
        frames_us: By logical camera, starts and ends of its frames ``(N, 2)``.
        cameras: Those whose model and pose the document has.
    """

    sequence_id: str
    ego: Trajectory
    vehicle: Vehicle | None
    frames_us: Mapping[str, Times]
    cameras: Mapping[str, Camera]


# --------------------------------------------------------------------------- reading


def read_rig(document: Mapping[str, Any], where: str) -> Rig:
    """Read the document.

    Raises:
        SceneError: a key is missing or wrong, there is more than one trajectory, ego's
            times go back or its poses are none, a camera is unknown or named twice, or
            ego gets too far from the origin.
    """
    trajectories = items(
        member(document, "rig_trajectories", where), None, "'rig_trajectories'", where
    )
    if len(trajectories) != 1:
        raise SceneError(
            f"'rig_trajectories' has {len(trajectories)} entries", where=where,
            remedy="give archives of one recorded drive each",
        )  # fmt: skip
    where = f"{where}, rig_trajectories[0]"
    drive = trajectories[0]
    stamps = times(
        member(drive, "T_rig_world_timestamps_us", where), "T_rig_world_timestamps_us", where
    )
    poses = rigid(member(drive, "T_rig_worlds", where), (None,), "T_rig_worlds", where)
    if stamps.shape != (len(poses),):
        raise damaged(
            f"T_rig_world_timestamps_us has the shape {stamps.shape}, T_rig_worlds {len(poses)} poses",
            where,
        )
    increasing(stamps, "T_rig_world_timestamps_us", where)
    ego = recorded_ego(stamps, poses, where)
    away_m = float(np.abs(poses[:, :3]).max())
    if away_m > FARTHEST_M:
        raise SceneError(
            f"ego is up to {away_m:.0f} m from the origin, and {FARTHEST_M:.0f} m is the most", where=where,
            remedy="export the archive in a frame with its origin near the drive",
        )  # fmt: skip
    calibrations = _logical(mapping(document, "camera_calibrations", where), where)
    frames = mapping(drive, "cameras_frame_timestamps_us", where)
    unknown = [name for name in frames if name not in calibrations]
    if unknown:
        raise damaged(f"camera '{unknown[0]}' has frames and is not in 'camera_calibrations'.{nearest(unknown[0], calibrations)}", where)  # fmt: skip
    return Rig(
        sequence_id=str(drive.get("sequence_id", "")),
        ego=ego,
        vehicle=_vehicle(drive.get("rig_bbox"), f"{where}, rig_bbox"),
        frames_us={
            calibrations[name]: _frames(ranges, f"{where}, cameras_frame_timestamps_us, {name}")
            for name, ranges in frames.items()
        },
        cameras=dict(
            _cameras(mapping(document, "camera_calibrations", where), calibrations, where)
        ),
    )


def _logical(calibrations: Mapping[str, Any], where: str) -> dict[str, str]:
    """Logical names by unique ids."""
    names: dict[str, str] = {}
    for unique, entry in calibrations.items():
        place = f"{where}, camera_calibrations, {unique}"
        name = member(entry, "logical_sensor_name", place)
        if not isinstance(name, str) or not name:
            raise damaged(f"'logical_sensor_name' is {name!r}", place)
        if name in names.values():
            raise SceneError(
                f"two cameras have the logical name '{name}'", where=place,
                remedy="give archives of one recorded drive each",
            )  # fmt: skip
        names[unique] = name
    return names


def _frames(ranges: Any, where: str) -> Times:
    found = times(ranges, "frame times", where)
    if not len(found):
        return np.zeros((0, 2), dtype=np.int64)
    if found.ndim != 2 or found.shape[1] != 2:
        raise damaged(f"frame times have the shape {found.shape}, not (N, 2)", where)
    late = found[:, 0] >= found[:, 1]
    if late.any():
        at = int(np.argmax(late))
        raise damaged(f"frame {at} ends at {found[at, 1]} us and starts at {found[at, 0]} us", where)  # fmt: skip
    increasing(found[:, 1], "ends of frames", where)
    return found


def _vehicle(box: Any, where: str) -> Vehicle | None:
    if box is None:
        return None
    centre = numbers(member(box, "centroid", where), (3,), "centroid", where)
    size = numbers(member(box, "dim", where), (3,), "dim", where)
    turn = numbers(box.get("rot", [0, 0, 0]), (3,), "rot", where)
    problem = ""
    if (size <= 0).any():
        problem = f"dim is {size.tolist()} m"
    elif np.abs(turn).max() > _TURNED_RAD:
        problem = f"rot is {turn.tolist()}: boxes that are turned in the rig are not supported"
    elif abs(centre[1]) > _SIDEWAYS_M or abs(centre[2] - size[2] / 2) > _SIDEWAYS_M:
        problem = f"centroid is {centre.tolist()} m: a box more than {_SIDEWAYS_M} m off the middle of the rig, or off the ground, is not supported"
    if problem:
        raise SceneError(problem, where=where, remedy=_VEHICLE)
    length, width, height = size.tolist()
    wheelbase = _DEFAULT.wheelbase_m * length / _DEFAULT.length_m
    return Vehicle(length, width, height, float(centre[0]), wheelbase)


def vehicle_of(settings: Any) -> Vehicle | None:
    """The vehicle of the setting ``scenes.vehicle``; what it leaves out is the default's.

    Raises:
        ConfigError: a key is unknown, or a value no positive number.
    """
    known = [field.name for field in fields(Vehicle)]
    if settings is None:
        return None
    where = "scenes.vehicle"
    if not isinstance(settings, Mapping):
        raise ConfigError(f"vehicle is {settings!r}", where=where, remedy=_VEHICLE)
    for key, value in settings.items():
        if key not in known:
            raise ConfigError(
                f"unknown key '{key}'.{nearest(str(key), known)}", where=where,
                remedy=f"known here: {', '.join(known)}",
            )  # fmt: skip
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and 0 < value < 100):
            raise ConfigError(f"{key} is {value!r}", where=where, remedy="give metres, 0 to 100")
    return replace(_DEFAULT, **{key: float(value) for key, value in settings.items()})


def no_vehicle(where: str) -> SceneError:
    """The error for a scene whose ego has no box."""
    return SceneError(
        "'rig_bbox' is null or missing: ego's size is not known", where=where, remedy=_VEHICLE
    )


def _cameras(calibrations: Mapping[str, Any], logical: Mapping[str, str], where: str) -> Any:
    for unique, entry in calibrations.items():
        if entry.get("camera_model") is None or entry.get("T_sensor_rig") is None:
            continue
        place = f"{where}, camera_calibrations, {unique}"
        model = read_model(entry["camera_model"], place)
        if model is not None:
            pose = rigid(entry["T_sensor_rig"], (), "T_sensor_rig", place)
            yield logical[unique], Camera(logical[unique], model, pose)


def with_frame_times(camera: Camera, frames_us: Times | None) -> Camera:
    """The camera with the first end, the usual interval and the usual shutter of its frames."""
    if frames_us is None or not len(frames_us):
        return camera
    starts, ends = frames_us[:, 0], frames_us[:, 1]
    known = starts >= 0  # -1 where a recording does not know the start
    return replace(
        camera,
        first_frame_end_us=int(ends[0]),
        frame_interval_us=int(np.median(np.diff(ends))) if len(ends) > 1 else None,
        shutter_us=int(np.median((ends - starts)[known])) if known.any() else 0,
    )


# --------------------------------------------------------------------------- writing


def rig_document(scene: Scene, cameras: tuple[Camera, ...]) -> dict[str, Any]:
    """Write the document.

    Args:
        cameras: Of the scene, or what stands in for them.

    Raises:
        SceneError: a camera cannot be written so.
    """
    unit = np.eye(4).tolist()
    unique = {camera.id: f"{camera.id}@{scene.id}" for camera in cameras}
    size, vehicle = scene.vehicle.size_m.tolist(), scene.vehicle
    return {
        "world_to_nre": {"matrix": unit},
        "T_world_base": unit,
        "camera_calibrations": {
            unique[camera.id]: _calibration(camera, scene.id, index)
            for index, camera in enumerate(cameras)
        },
        "lidar_calibrations": {},
        "rig_trajectories": [
            {
                "sequence_id": scene.id,
                "T_rig_world_timestamps_us": scene.ego.times_us.tolist(),
                "T_rig_worlds": geometry.matrix_from_pose(scene.ego.poses).tolist(),
                "cameras_frame_timestamps_us": {
                    unique[camera.id]: frame_ranges_us(camera, scene.ego.times_us).tolist()
                    for camera in cameras
                },
                "lidars_frame_timestamps_us": {},
                "rig_bbox": {
                    "centroid": [vehicle.rear_axle_to_center_m, 0.0, vehicle.height_m / 2],
                    "dim": size,
                    "rot": [0.0, 0.0, 0.0],
                },
            }
        ],
    }


def frame_ranges_us(camera: Camera, ego_us: Times) -> Times:
    """Starts and ends ``(N, 2)`` of a camera's frames.

    They are those of its recording until ego's ends, a global shutter counted as 1 us, since
    ends must be after starts; else one frame at each of ego's poses, as long as ego's
    usual step (the rule of NVIDIA's converter, contracts.md 2.6).
    """
    if camera.first_frame_end_us is not None and camera.frame_interval_us:
        last = max(int(ego_us[-1]), camera.first_frame_end_us)
        ends = np.arange(
            camera.first_frame_end_us, last + 1, camera.frame_interval_us, dtype=np.int64
        )
        return np.stack([ends - max(camera.shutter_us, 1), ends], axis=1)
    step = max(int(np.median(np.diff(ego_us))), 1) if len(ego_us) > 1 else 1
    return np.stack([ego_us - step, ego_us], axis=1)


def _calibration(camera: Camera, sequence_id: str, index: int) -> dict[str, Any]:
    return {
        "sequence_id": sequence_id,
        "logical_sensor_name": camera.id,
        "unique_sensor_idx": index,
        "T_sensor_rig": geometry.matrix_from_pose(np.asarray(camera.rig_to_camera)).tolist(),
        "camera_model": model_document(camera),
    }
