"""nuScenes scenes as ScenarioNet dictionaries written as JSON.

ScenarioNet resamples nuScenes' 2 Hz keyframes to 10 Hz. What its numbers mean was checked
against the official ego pose, boxes and calibration of scene-0061's first keyframe:

* The ego's position is the rig's: the centre of the rear axle on the ground (nuscenes-devkit
  issue 161). At t = 0 it lies 0.16 m ahead of the official pose, straight ahead, which at
  9.2 m/s is 17 ms. In its turn it moves sideways by 0.02 m/s per rad/s of yaw rate, while a
  box centre would move by 1.4.
* The ego's length and width are swapped (1.73 and 4.08 m), so the vehicle is a constant here.
* A box's position is its centre, to 1 mm.
* nuScenes has no heights: its localisation is planar, the ego's z is 0 throughout, and the
  boxes' z follows the vehicle's own vertical motion (nuscenes-devkit issues 961, 963): their
  bottoms lie mostly -0.3 to 0.4 m off within 10 m of the ego, up to 3 m farther away, and parked
  cars rise and sink. So the world is the plane z = 0, and every box stands on it.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask, Times
from omniloop.core.scene import ActorClass, FirstFrame, Scene, Track, Vehicle
from omniloop.core.time import US_PER_S
from omniloop.scenes import bounds, build
from omniloop.scenes.nuscenes_ego import mend_bus_clock
from omniloop.scenes.nuscenes_first_frame import read_first_frame
from omniloop.scenes.nuscenes_map import vector_map

VEHICLE = Vehicle(
    length_m=4.084, width_m=1.730, height_m=1.562, rear_axle_to_center_m=1.385, wheelbase_m=2.588
)
"""Renault Zoe, by its maker: 4084 x 1730 x 1562 mm, wheelbase 2588 mm, rear overhang 657 mm."""

_EXPECTED = (
    "give a folder of ScenarioNet scenes written as JSON, sd_nuscenes_*_scene-0061.json or .json.gz,"
    " or one such file"
)
_CONVERT = "convert the scene again with ScenarioNet"

_CLASSES = (
    ("human.", ActorClass.PEDESTRIAN),
    ("vehicle.car", ActorClass.CAR),
    ("vehicle.emergency.police", ActorClass.CAR),
    ("vehicle.bicycle", ActorClass.CYCLIST),
    ("vehicle.motorcycle", ActorClass.CYCLIST),
    ("vehicle.", ActorClass.TRUCK),
    ("", ActorClass.OTHER),
)
"""Prefixes of nuScenes' categories, the first that fits; trucks, buses, trailers and
construction vehicles are the rest of the vehicles."""


class NuScenesScenes:
    """nuScenes scenes; their ids are nuScenes' names, ``scene-0061``, read from file names.

    Beside ``scene-0061``'s file a folder ``scene-0061_first_frame`` may hold its cameras and
    first images (`info.json` of mmdetection3d and six JPEGs).

    Args:
        path: A folder of ``.json`` or ``.json.gz`` files, or one of them.

    Raises:
        SceneError: it does not exist.
    """

    def __init__(self, path: str) -> None:
        self._path = build.existing(path, _EXPECTED)

    def ids(self) -> list[str]:
        """Scene names, sorted.

        Raises:
            SceneError: there is no scene, or there are two files of one.
        """
        return sorted(self._files)

    def load(self, scene_id: str) -> Scene:
        """Load one scene.

        Raises:
            SceneError: it is unknown (the nearest is suggested) or damaged; it names the
                file and the key, track or time.
        """
        file = self._files.get(scene_id)
        if file is None:
            raise build.unknown_scene(scene_id, self._files, self._path, _EXPECTED)
        cameras, first_frames = read_first_frame(file.parent / f"{scene_id}_first_frame")
        return _scene(build.read_json(file), scene_id, str(file), cameras, first_frames)

    @functools.cached_property
    def _files(self) -> dict[str, Path]:
        try:
            files = sorted(self._path.iterdir()) if self._path.is_dir() else [self._path]
        except OSError as error:
            raise build.damaged(f"cannot be read: {error}", str(self._path)) from error
        found: dict[str, Path] = {}
        for file in files:
            name = _scene_name(file)
            if name is None or not file.is_file():
                continue
            build.safe_id(name, str(file))
            if name in found:
                raise SceneError(
                    f"two files hold '{name}'",
                    where=f"{found[name]} and {file}",
                    remedy="keep one of them",
                )
            found[name] = file
        if not found:
            raise SceneError(
                "there is no nuScenes scene here", where=str(self._path), remedy=_EXPECTED
            )
        return found


def _scene_name(file: Path) -> str | None:
    stem = re.fullmatch(r"(.+)\.json(\.gz)?", file.name)
    if stem is None:
        return None
    name = re.search(r"scene-\d+", stem[1])
    if name is not None:
        return name[0]
    return stem[1] if stem[1].startswith("sd_") else None


def _scene(
    raw: Any,
    scene_id: str,
    where: str,
    cameras: tuple[Camera, ...],
    first_frames: tuple[FirstFrame, ...],
) -> Scene:
    metadata = build.member(raw, "metadata", where)
    here = f"{where}, metadata"
    dataset = bounds.name_of(build.member(metadata, "dataset", here), "dataset", here)
    if dataset != "nuscenes":
        raise SceneError(
            f"holds a scene of '{dataset}'", where=f"{where}, metadata.dataset",
            remedy="this reader knows ScenarioNet's nuScenes scenes only: other datasets define poses otherwise",
        )  # fmt: skip
    times_us = _times_us(build.member(metadata, "ts", here), where)
    tracks = build.member(raw, "tracks", where)
    sdc = bounds.name_of(build.member(metadata, "sdc_id", here), "sdc_id", here)
    ego_where = f"{where}, track {sdc}"
    state = build.member(build.member(tracks, sdc, f"{where}, tracks"), "state", ego_where)
    bounds.check_names(tracks, f"{where}, tracks")
    bounds.check_count(len(tracks), bounds.MAX_TRACKS, "tracks", where)
    seen = _valid(state, times_us, ego_where)
    xy_yaw = np.column_stack([
        _column(state, "position", times_us, ego_where, 2, seen),
        _column(state, "heading", times_us, ego_where, 1, seen),
    ])  # fmt: skip
    ego_us = times_us[seen]
    xy_yaw = mend_bus_clock(ego_us, xy_yaw, ego_where)
    xyz = np.column_stack([xy_yaw[:, :2], np.zeros(len(xy_yaw))])
    origin = build.local_origin(xyz[0] if len(xyz) else np.zeros(3))
    rig = geometry.poses_from_xyz_yaw(build.to_local(xyz, origin), xy_yaw[:, 2])
    ego = build.recorded_ego(ego_us, rig, ego_where)
    others = [
        found
        for name, track in tracks.items()
        if name != sdc and (found := _track(name, track, times_us, origin, where)) is not None
    ]
    spans = [(int(track.times_us[0]), int(track.times_us[-1])) for track in others]
    poses = sum(len(track.times_us) for track in others)
    bounds.check_extent((ego.start_us, ego.end_us), spans, poses, where)
    place = metadata.get("map")
    tags = [] if place is None else [bounds.name_of(place, "map", here)]
    return Scene(
        id=scene_id,
        source="nuscenes",
        ego=ego,
        vehicle=VEHICLE,
        tracks=tuple(others),
        map=vector_map(build.member(raw, "map_features", where), origin, where),
        cameras=cameras,
        first_frames=first_frames,
        dataset_to_local=build.dataset_to_local(origin),
        tags=("nuscenes", *(tag for tag in tags if tag)),
    )


def _times_us(seconds: Any, where: str) -> Times:
    here = f"{where}, metadata.ts"
    times_s = build.finite_array(seconds, (None,), "ts", here)
    if (np.abs(times_s) > bounds.LATEST_S).any():
        raise SceneError(
            f"a time of {times_s[np.argmax(np.abs(times_s))]:g} s", where=here, remedy=_CONVERT
        )
    out = np.rint(times_s * US_PER_S).astype(np.int64)
    if (np.diff(out) <= 0).any():
        at = int(np.argmax(np.diff(out) <= 0)) + 1
        raise SceneError(
            f"time {out[at]} us is not after {out[at - 1]} us", where=here, remedy=_CONVERT
        )
    return out


def _column(
    state: Any, key: str, times_us: Times, where: str, width: int, seen: Mask | None = None
) -> Array:
    """One of a state's arrays as ``(N, width)``; those numbers that it has more are dropped.

    Args:
        seen: ``(N,)``: only these samples are returned, and they must be finite and not beyond
            `bounds.LARGEST`. None returns all, whatever they are.
    """
    values, count = build.member(state, key, where), len(times_us)
    try:
        out = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise SceneError(
            f"{key} is not an array of numbers: {str(error)[:200]}", where=where, remedy=_CONVERT
        ) from error
    if out.ndim not in (1, 2) or len(out) != count:
        raise SceneError(
            f"{key} has shape {out.shape}, but there are {count} times",
            where=where,
            remedy=_CONVERT,
        )
    out = out.reshape(count, out.shape[1] if out.ndim == 2 else 1)
    if out.shape[1] < width:
        raise SceneError(
            f"{key} has {out.shape[1]} numbers per time, not {width}", where=where, remedy=_CONVERT
        )
    out = out[:, :width]
    if seen is None:
        return out
    wrong = ~(np.abs(out) <= bounds.LARGEST).all(axis=1) & seen
    if wrong.any():
        at = int(np.argmax(wrong))
        raise SceneError(
            f"{key} at {times_us[at]} us is {out[at].tolist()}, which is not finite or beyond {bounds.LARGEST:g}",
            where=where, remedy=f"mark the sample as not valid, or {_CONVERT}",
        )  # fmt: skip
    return np.asarray(out[seen])


def _valid(state: Any, times_us: Times, where: str) -> Mask:
    return np.asarray(_column(state, "valid", times_us, where, 1)[:, 0] > 0.5)


def _track(name: str, track: Any, times_us: Times, origin_m: Array, where: str) -> Track | None:
    """An actor standing on the ground; None if it is never valid."""
    here = f"{where}, track {name}"
    state = build.member(track, "state", here)
    seen = _valid(state, times_us, here)
    if not seen.any():
        return None
    values = {
        key: _column(state, key, times_us, here, width, seen)
        for key, width in (
            ("position", 3),
            ("heading", 1),
            ("length", 1),
            ("width", 1),
            ("height", 1),
        )
    }
    sizes = np.column_stack([values[key][:, 0] for key in ("length", "width", "height")])
    kind = build.member(build.member(track, "metadata", here), "type", here)
    label = bounds.name_of(kind, "type", here)
    centers = build.to_local(values["position"], origin_m)
    centers[:, 2] = np.median(sizes[:, 2]) / 2
    return build.make_track(
        name,
        next(kind for prefix, kind in _CLASSES if label.startswith(prefix)),
        label=label,
        size_m=sizes,
        times_us=times_us[seen],
        local_to_aabb=geometry.poses_from_xyz_yaw(centers, values["heading"][:, 0]),
        grid_us=times_us,
        where=where,
    )
