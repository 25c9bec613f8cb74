"""One log of Argoverse 2's sensor dataset as a scene.

Argoverse 2's `egovehicle` frame has its origin at the centre of the rear axle, x forward,
y left, z up; `rig` lies on the ground below it. Boxes are stored in the egovehicle frame
of their own timestamp. Formats: https://argoverse.github.io/user-guide/datasets/sensor.html
"""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera, PinholeCamera
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Trajectory
from omniloop.core.scene import ActorClass, HeightRaster, Scene, Track, Vehicle
from omniloop.scenes import bounds, build
from omniloop.scenes.av2_map import find_map, read_city_map, vector_map
from omniloop.scenes.av2_tables import POSE_COLUMNS, poses, read_columns, rows_of_tracks

POSES_FILE = "city_SE3_egovehicle.feather"

REAR_AXLE_HEIGHT_M = 0.30
"""Height of the egovehicle origin above the ground.

av2-api, tests/unit/map/test_map_api.py: the ground is within 7 cm of 30 cm below it.
"""

VEHICLE = Vehicle(
    length_m=4.877, width_m=2.0, height_m=1.473, rear_axle_to_center_m=1.395, wheelbase_m=2.85
)
"""Ford Fusion Hybrid: the size is that of the dataset's own EGO_VEHICLE boxes (which are
drawn round the rear axle, so that they tell nothing about the centre), the wheelbase the
maker's. The centre takes the rear overhang as 1.043 m, that of the Lincoln MKZ on the same
platform (Apollo, vehicle_param.pb.txt, back_edge_to_center)."""

FRAME_INTERVAL_US = 50_000
"""All nine cameras run at 20 Hz (user guide, Sensor Suite)."""

EGO_LABEL = "EGO_VEHICLE"

_MAX_CAMERAS = 32
_MAX_SIZE_PX = 1 << 14
_MAX_CELLS = 1 << 25
"""Of a ground height raster; those of logs have a million or two."""

_MAX_OFF_ROTATION = 1e-3
_CELLS_PER_M = (1e-3, 1e3)
"""Argoverse 2 has 10/3."""

_TRUCKS = (
    "LARGE_VEHICLE", "BUS", "BOX_TRUCK", "TRUCK", "VEHICULAR_TRAILER", "TRUCK_CAB", "SCHOOL_BUS",
    "ARTICULATED_BUS", "MESSAGE_BOARD_TRAILER", "RAILED_VEHICLE", "TRAFFIC_LIGHT_TRAILER",
)  # fmt: skip
_RIDERLESS = ("BICYCLE", "MOTORCYCLE", "WHEELED_DEVICE")
_CLASSES = {
    "REGULAR_VEHICLE": ActorClass.CAR,
    **dict.fromkeys(_TRUCKS, ActorClass.TRUCK),
    **dict.fromkeys(
        ("PEDESTRIAN", "OFFICIAL_SIGNALER", "STROLLER", "WHEELCHAIR"), ActorClass.PEDESTRIAN
    ),
    **dict.fromkeys(
        ("BICYCLIST", "MOTORCYCLIST", "WHEELED_RIDER", *_RIDERLESS), ActorClass.CYCLIST
    ),
}
"""Taxonomy of the sensor dataset; all other labels are OTHER."""


def load_sensor_log(folder: Path, scene_id: str) -> Scene:
    """Load a log folder.

    Times are the dataset's, from nanoseconds down to whole microseconds. Poses that fall
    on the same microsecond (every ninth comes twice, 1 ns apart) are kept once. A log of
    the test split has no annotations, and its scene no actors.

    Raises:
        SceneError: a file is missing or damaged; it names the file and the row or key.
    """
    columns = read_columns(folder / POSES_FILE, ("timestamp_ns", *POSE_COLUMNS))
    where = str(folder / POSES_FILE)
    times_us = np.asarray(columns["timestamp_ns"], dtype=np.int64) // 1000
    city_to_ego = poses(columns, where)
    once = np.concatenate([[True], np.diff(times_us) != 0])[: len(times_us)]
    ego_to_rig = geometry.pose(z=-REAR_AXLE_HEIGHT_M)
    city_to_rig = geometry.compose(city_to_ego[once], ego_to_rig)
    origin = build.local_origin(city_to_rig[0, :3] if len(city_to_rig) else np.zeros(3))
    ego = build.recorded_ego(times_us[once], build.to_local(city_to_rig, origin), where)
    bounds.check_extent((ego.start_us, ego.end_us), (), 0, where)

    tracks, vehicle = _annotations(folder, ego.shift_body(geometry.inverse(ego_to_rig)))
    map_file = find_map(folder / "map")
    city = re.search(r"____([A-Z]+)_", map_file.name)
    return Scene(
        id=scene_id,
        source="av2",
        ego=ego,
        vehicle=vehicle,
        tracks=tracks,
        map=vector_map(read_city_map(map_file), origin),
        cameras=_cameras(folder / "calibration", geometry.inverse(ego_to_rig)),
        ground=_ground(folder / "map", origin),
        dataset_to_local=build.dataset_to_local(origin),
        tags=("argoverse2", "sensor", *([city[1]] if city else [])),
    )


def _annotations(folder: Path, local_to_ego: Trajectory) -> tuple[tuple[Track, ...], Vehicle]:
    files = [folder / f"annotations{suffix}.feather" for suffix in ("", "_with_ego")]
    file = next((f for f in files if os.path.lexists(f)), None)
    if file is None:
        return (), VEHICLE
    where = str(file)
    names = (
        "timestamp_ns",
        "track_uuid",
        "category",
        "length_m",
        "width_m",
        "height_m",
        *POSE_COLUMNS,
    )
    columns = read_columns(file, names)
    times_us = np.asarray(columns["timestamp_ns"], dtype=np.int64) // 1000
    if len(times_us) and not (
        local_to_ego.start_us <= times_us.min() and times_us.max() <= local_to_ego.end_us
    ):
        raise SceneError(
            f"boxes from {times_us.min()} to {times_us.max()} us go beyond the ego's poses from"
            f" {local_to_ego.start_us} to {local_to_ego.end_us} us",
            where=where, remedy=f"copy {POSES_FILE} of the same log",
        )  # fmt: skip
    local_to_aabb = geometry.compose(local_to_ego.sample(times_us), poses(columns, where))
    sizes = np.stack(
        [columns[n].astype(np.float64) for n in ("length_m", "width_m", "height_m")], axis=1
    )
    own = columns["category"] == EGO_LABEL
    vehicle = VEHICLE
    if own.any():
        size = np.median(sizes[own], axis=0)
        if (size <= 0).any():
            raise SceneError(
                f"the {EGO_LABEL} boxes' size {size.tolist()} m is not positive", where=where,
                remedy=f"mend the sizes, or drop the rows of {EGO_LABEL}",
            )  # fmt: skip
        length, width, height = (float(v) for v in size)
        vehicle = replace(VEHICLE, length_m=length, width_m=width, height_m=height)
    grid, others = np.unique(times_us), np.flatnonzero(~own)
    rows = rows_of_tracks(
        columns["track_uuid"][others], times_us[others], grid, local_to_ego, where
    )
    tracks = []
    for name, found in rows:
        at = others[found]
        label = str(columns["category"][at[0]])
        tracks.append(
            build.make_track(
                name,
                _CLASSES.get(label, ActorClass.OTHER),
                label=label,
                size_m=sizes[at],
                times_us=times_us[at],
                local_to_aabb=local_to_aabb[at],
                grid_us=grid,
                where=where,
                # A bicycle being ridden moves; one that does not is parked.
                is_static=build.never_moves(local_to_aabb[at]) if label in _RIDERLESS else None,
            )
        )
    return tuple(tracks), vehicle


def _cameras(folder: Path, rig_to_ego: Array) -> tuple[Camera, ...]:
    """The cameras, in the file's order; none if the log comes without calibration.

    Argoverse 2 ships its images undistorted, so the model is a pinhole without distortion:
    k1, k2, k3 in the file are those of the lens before (user guide, Sensor Suite; av2-api
    issues 219 and 226). Its camera frames are optical.
    """
    if not os.path.lexists(folder):
        return ()
    numbers = ("fx_px", "fy_px", "cx_px", "cy_px")
    inner = read_columns(
        folder / "intrinsics.feather", ("sensor_name", "width_px", "height_px", *numbers)
    )
    outer = read_columns(folder / "egovehicle_SE3_sensor.feather", ("sensor_name", *POSE_COLUMNS))
    where = str(folder / "egovehicle_SE3_sensor.feather")
    ego_to_sensor = dict(zip(outer["sensor_name"].tolist(), poses(outer, where), strict=True))
    here = str(folder / "intrinsics.feather")
    bounds.check_count(len(inner["sensor_name"]), _MAX_CAMERAS, "cameras", here)
    cameras: list[Camera] = []
    for row, name in enumerate(inner["sensor_name"].tolist()):
        fx, fy, cx, cy = (float(inner[n][row]) for n in numbers)
        size = int(inner["width_px"][row]), int(inner["height_px"][row])
        if min(size) <= 0 or max(size) > _MAX_SIZE_PX or min(fx, fy) <= 0:
            raise SceneError(
                f"camera {name} has {size[0]} x {size[1]} px and focal lengths of {fx:g} and {fy:g} px",
                where=here, remedy=f"give 1 to {_MAX_SIZE_PX} px, and positive focal lengths",
            )  # fmt: skip
        if any(name == camera.id for camera in cameras):
            raise SceneError(
                f"camera {name} is there twice", where=here, remedy="keep one of its rows"
            )
        model = PinholeCamera(*size, fx, fy, cx, cy)
        rig_to_camera = geometry.compose(rig_to_ego, build.member(ego_to_sensor, name, where))
        cameras.append(Camera(str(name), model, rig_to_camera, frame_interval_us=FRAME_INTERVAL_US))
    return tuple(cameras)


def _ground(folder: Path, origin_m: Array) -> HeightRaster | None:
    """The ground height raster; None if the log comes without.

    A city position p lies at ``s (R p + t)`` in the raster and in the cell of its whole
    part (av2-api, geometry/sim2.py and map/map_api.py), so a cell's centre is at + 0.5.
    """
    rasters = sorted(folder.glob("*_ground_height_surface____*.npy"))
    places = sorted(folder.glob("*___img_Sim2_city.json"))
    if not rasters and not places:
        return None
    if len(rasters) != 1 or len(places) != 1:
        raise SceneError(
            f"holds {len(rasters)} ground height rasters and {len(places)} files *___img_Sim2_city.json, not one each",
            where=str(folder), remedy="copy the log's map again from the dataset",
        )  # fmt: skip
    rotation, shift, scale = _sim2(places[0])
    affine = np.column_stack([scale * rotation, scale * (rotation @ origin_m[:2] + shift) - 0.5])
    heights = _heights(rasters[0])
    with np.errstate(invalid="ignore"):  # a damaged cell may hold a signalling NaN
        heights -= origin_m[2]
    return HeightRaster(heights, affine)


def _sim2(file: Path) -> tuple[Array, Array, float]:
    """Rotation ``(2, 2)``, shift ``(2,)`` [m] and scale [cells/m] from city to raster."""
    sim2, where = build.read_json(file), str(file)
    rotation = build.finite_array(build.member(sim2, "R", where), (4,), "R", where).reshape(2, 2)
    shift = build.finite_array(build.member(sim2, "t", where), (2,), "t", where)
    scale = float(build.finite_array(build.member(sim2, "s", where), (), "s", where))
    bounds.check_numbers(shift, "t", where)
    off = bounds.check_numbers(rotation, "R", where) @ rotation.T - np.eye(2)
    if np.abs(off).max() > _MAX_OFF_ROTATION:
        raise build.damaged(f"R is {rotation.ravel().tolist()}, which is no rotation", where)
    low, high = _CELLS_PER_M
    if not low <= scale <= high:
        raise build.damaged(f"s is {scale:g} cells per metre, not {low:g} to {high:g}", where)
    return rotation, shift, scale


def _heights(file: Path) -> Array:
    """The raster's heights ``(H, W)`` [m] in the city frame, NaN where unknown."""
    where = str(file)
    if not os.path.isfile(file):
        raise build.damaged("is no regular file", where)
    try:  # mapped: a head that claims more than the file has would be given the memory for it
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how old or odd a head is
            found = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged head raises of every kind
        what = str(error).splitlines() or [type(error).__name__]
        raise build.damaged(f"cannot be read: {what[0][:200]}", where) from error
    if not isinstance(found, np.ndarray):
        found.close()
        raise build.damaged("holds a zip, not heights (H, W)", where)
    if found.size > _MAX_CELLS:
        raise build.damaged(f"holds {found.size} values, not heights of {_MAX_CELLS} cells at most", where)  # fmt: skip
    if found.ndim != 2 or found.dtype.kind != "f" or found.size == 0:
        kind = str(found.dtype)[:60]
        raise build.damaged(f"holds {kind} of shape {found.shape}, not heights (H, W)", where)
    with np.errstate(over="ignore", invalid="ignore"):
        out = found.astype(np.float64)
    for row in out:  # by rows: a mask of them all takes as much again
        wrong = np.abs(row) > bounds.LARGEST
        if wrong.any():
            raise build.damaged(f"a height of {row[np.argmax(wrong)]:g} m", where)
    return out
