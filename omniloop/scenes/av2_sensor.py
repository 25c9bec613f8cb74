"""One log of Argoverse 2's sensor dataset as a scene.

Argoverse 2's `egovehicle` frame has its origin at the centre of the rear axle, x forward,
y left, z up; `rig` lies on the ground below it. Boxes are stored in the egovehicle frame
of their own timestamp. Formats: https://argoverse.github.io/user-guide/datasets/sensor.html
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera, PinholeCamera
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Times, Trajectory
from omniloop.core.scene import ActorClass, HeightRaster, Scene, Track, Vehicle
from omniloop.scenes import build
from omniloop.scenes.av2_map import find_map, read_city_map, vector_map
from omniloop.scenes.av2_tables import POSE_COLUMNS, Columns, poses, read_columns
from omniloop.scenes.parquet_size import MAX_VALUES

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
    file = next((f for f in files if f.is_file()), None)
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
    labels = columns["category"]
    vehicle = VEHICLE
    if (labels == EGO_LABEL).any():
        length, width, height = (float(v) for v in np.median(sizes[labels == EGO_LABEL], axis=0))
        vehicle = replace(VEHICLE, length_m=length, width_m=width, height_m=height)
    return _tracks(columns, times_us, local_to_aabb, sizes, where), vehicle


def _tracks(
    columns: Columns, times_us: Times, local_to_aabb: Array, sizes: Array, where: str
) -> tuple[Track, ...]:
    grid = np.unique(times_us)
    others = np.flatnonzero(columns["category"] != EGO_LABEL)
    names, index = np.unique(columns["track_uuid"][others].astype(str), return_inverse=True)
    order = others[np.lexsort((times_us[others], index))]
    ends = np.cumsum(np.bincount(index, minlength=len(names)))
    tracks = []
    for name, rows in zip(names, np.split(order, ends[:-1]), strict=True) if len(names) else ():
        label = str(columns["category"][rows[0]])
        tracks.append(
            build.make_track(
                str(name),
                _CLASSES.get(label, ActorClass.OTHER),
                label=label,
                size_m=sizes[rows],
                times_us=times_us[rows],
                local_to_aabb=local_to_aabb[rows],
                grid_us=grid,
                where=where,
                # A bicycle being ridden moves; one that does not is parked.
                is_static=build.never_moves(local_to_aabb[rows]) if label in _RIDERLESS else None,
            )
        )
    return tuple(tracks)


def _cameras(folder: Path, rig_to_ego: Array) -> tuple[Camera, ...]:
    """The cameras, in the file's order; none if the log comes without calibration.

    Argoverse 2 ships its images undistorted, so the model is a pinhole without distortion:
    k1, k2, k3 in the file are those of the lens before (user guide, Sensor Suite; av2-api
    issues 219 and 226). Its camera frames are optical.
    """
    if not folder.is_dir():
        return ()
    numbers = ("fx_px", "fy_px", "cx_px", "cy_px")
    inner = read_columns(
        folder / "intrinsics.feather", ("sensor_name", "width_px", "height_px", *numbers)
    )
    outer = read_columns(folder / "egovehicle_SE3_sensor.feather", ("sensor_name", *POSE_COLUMNS))
    where = str(folder / "egovehicle_SE3_sensor.feather")
    ego_to_sensor = dict(zip(outer["sensor_name"].tolist(), poses(outer, where), strict=True))
    cameras = []
    for row, name in enumerate(inner["sensor_name"].tolist()):
        fx, fy, cx, cy = (float(inner[n][row]) for n in numbers)
        model = PinholeCamera(
            int(inner["width_px"][row]), int(inner["height_px"][row]), fx, fy, cx, cy
        )
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
    if not rasters[0].is_file():
        raise build.damaged("is no regular file", str(rasters[0]))
    try:  # mapped: a head that claims more than the file has would be given the memory for it
        heights = np.load(rasters[0], mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise build.damaged(f"cannot be read: {error}", str(rasters[0])) from error
    if not isinstance(heights, np.ndarray) or heights.size > MAX_VALUES:
        what = f"{heights.size} values" if isinstance(heights, np.ndarray) else "a zip"
        raise build.damaged(f"holds {what}, not heights of {MAX_VALUES} cells at most", str(rasters[0]))  # fmt: skip
    if heights.ndim != 2 or heights.dtype.kind != "f":
        raise build.damaged(
            f"holds {heights.dtype} of shape {heights.shape}, not heights (H, W)", str(rasters[0])
        )
    sim2, where = build.read_json(places[0]), str(places[0])
    rotation = build.finite_array(build.member(sim2, "R", where), (4,), "R", where).reshape(2, 2)
    shift = build.finite_array(build.member(sim2, "t", where), (2,), "t", where)
    scale = float(build.finite_array(build.member(sim2, "s", where), (), "s", where))
    affine = np.column_stack([scale * rotation, scale * (rotation @ origin_m[:2] + shift) - 0.5])
    return HeightRaster(heights.astype(np.float64) - origin_m[2], affine)
