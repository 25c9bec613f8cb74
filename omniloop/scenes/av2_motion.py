"""One scenario of Argoverse 2's motion-forecasting dataset as a scene.

A scenario holds positions of tracks in the plane, 11 s at 10 Hz, and a map. Heights come
from the map and sizes from the table below: the dataset has neither. Format:
https://argoverse.github.io/user-guide/datasets/motion_forecasting.html
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from omniloop.core import geometry
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Times, Trajectory
from omniloop.core.scene import ActorClass, HeightRaster, Scene, Track, VectorMap
from omniloop.scenes import build
from omniloop.scenes.av2_map import Height, find_map, ground_height, read_city_map, vector_map
from omniloop.scenes.av2_sensor import VEHICLE
from omniloop.scenes.av2_tables import Columns, read_columns, rows_of_tracks

EGO_TRACK = "AV"
STEP_US = 100_000

_KINDS: dict[str, tuple[ActorClass, tuple[float, float, float], bool]] = {
    "vehicle": (ActorClass.CAR, (4.0, 2.0, 1.6), False),
    "bus": (ActorClass.TRUCK, (12.0, 2.9, 3.2), False),
    "pedestrian": (ActorClass.PEDESTRIAN, (0.7, 0.7, 1.7), False),
    "motorcyclist": (ActorClass.CYCLIST, (2.0, 0.7, 1.7), False),
    "cyclist": (ActorClass.CYCLIST, (2.0, 0.7, 1.7), False),
    "unknown": (ActorClass.OTHER, (1.0, 1.0, 1.5), False),
    "riderless_bicycle": (ActorClass.OTHER, (1.7, 0.6, 1.2), True),
    "static": (ActorClass.OTHER, (0.5, 0.5, 1.0), True),
    "background": (ActorClass.OTHER, (0.5, 0.5, 1.0), True),
    "construction": (ActorClass.OTHER, (0.5, 0.5, 1.0), True),
}
"""Object type to class, box size and whether it is one of the dataset's static types.

Planar sizes of vehicles and riders are av2-api's estimates (motion_forecasting/viz/
scenario_visualization.py); the others and the heights are round medians of the sensor
dataset's boxes.
"""

_COLUMNS = (
    "track_id", "object_type", "timestep", "position_x", "position_y", "heading",
    "start_timestamp", "city",
)  # fmt: skip
_RASTER_CELL_M = 1.0
_MAX_CELLS = 2_000_000
"""Of the ground's raster: 2 km by 1 km. Maps of scenarios are some 300 m wide."""


def find_scenario(folder: Path) -> Path | None:
    """The scenario file of a folder, None if it holds none."""
    return next(iter(sorted(folder.glob("scenario_*.parquet"))), None)


def load_scenario(folder: Path, scene_id: str) -> Scene:
    """Load a scenario folder.

    Positions are those of box centres, except the ego's: the track ``AV`` follows the
    rear axle. (In the shipped scenario its sideways velocity over its yaw rate puts it
    0.3 m behind the axle; a box centre would lie 1.4 m ahead. The sensor dataset draws its
    EGO_VEHICLE boxes round the rear axle too.) Boxes and rig stand on the map's ground,
    without pitch and roll. Times are the dataset's, in whole microseconds.

    Raises:
        SceneError: a file is missing or damaged, or there is no ego track; it names the
            file and the track, row or key.
    """
    file = find_scenario(folder)
    if file is None:
        raise build.damaged("holds no scenario_*.parquet", str(folder))
    where = str(file)
    columns = read_columns(file, _COLUMNS)
    planar = np.stack(
        [columns[n].astype(np.float64) for n in ("position_x", "position_y", "heading")], axis=1
    )
    city = read_city_map(find_map(folder))
    height = ground_height(city)
    ground_xyz = np.column_stack([planar[:, :2], height(planar[:, :2])])
    times_us = _times_us(columns)

    ego_rows = np.flatnonzero(columns["track_id"] == EGO_TRACK)
    if len(ego_rows) == 0:
        raise SceneError(
            f"has no track '{EGO_TRACK}'",
            where=where,
            remedy="the ego must be recorded; leave it out",
        )
    origin = build.local_origin(ground_xyz[ego_rows[0]])
    local_xyz = build.to_local(ground_xyz, origin)
    ego_poses = geometry.poses_from_xyz_yaw(local_xyz[ego_rows], planar[ego_rows, 2])
    ego = build.recorded_ego(times_us[ego_rows], ego_poses, f"{where}, track {EGO_TRACK}")
    local_map = vector_map(city, origin)
    return Scene(
        id=scene_id,
        source="av2",
        ego=ego,
        vehicle=VEHICLE,
        tracks=_tracks(columns, times_us, local_xyz, planar[:, 2], ego, where),
        map=local_map,
        ground=_ground(local_map, height, origin, city.where),
        dataset_to_local=build.dataset_to_local(origin),
        tags=("argoverse2", "motion_forecasting", str(columns["city"][0])),
    )


def _times_us(columns: Columns) -> Times:
    start_ns, steps = (columns[n].astype(np.float64) for n in ("start_timestamp", "timestep"))
    return np.asarray(start_ns.astype(np.int64) // 1000 + steps.astype(np.int64) * STEP_US)


def _tracks(
    columns: Columns,
    times_us: Times,
    ground_xyz: Array,
    heading: Array,
    ego: Trajectory,
    where: str,
) -> tuple[Track, ...]:
    grid, others = np.unique(times_us), np.flatnonzero(columns["track_id"] != EGO_TRACK)
    found = rows_of_tracks(columns["track_id"][others], times_us[others], grid, ego, where)
    tracks = []
    for name, at in found:
        rows = others[at]
        label = str(columns["object_type"][rows[0]])
        actor_class, size_m, fixed = _KINDS.get(label, _KINDS["unknown"])
        centers = ground_xyz[rows] + [0.0, 0.0, size_m[2] / 2]
        tracks.append(
            build.make_track(
                name,
                actor_class,
                label=label,
                size_m=size_m,
                times_us=times_us[rows],
                local_to_aabb=geometry.poses_from_xyz_yaw(centers, heading[rows]),
                grid_us=grid,
                where=where,
                is_static=True if fixed else None,
            )
        )
    return tuple(tracks)


def _ground(local: VectorMap, height: Height, origin_m: Array, where: str) -> HeightRaster:
    """The map's ground on a grid over its lanes and drivable areas, in `local`.

    Raises:
        SceneError: the map is too wide for that.
    """
    lines = [lane.centerline for lane in local.lanes] + [a.outline for a in local.drivable_areas]
    points = np.concatenate(lines)[:, :2]
    low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    wide_m = high - low
    if (wide_m / _RASTER_CELL_M + 1).prod() > _MAX_CELLS:
        raise SceneError(
            f"the map is {wide_m[0]:.0f} m by {wide_m[1]:.0f} m, and may have {_MAX_CELLS * _RASTER_CELL_M**2:.0f} m^2",
            where=where, remedy="mend the points that lie far off, or cut the map",
        )  # fmt: skip
    x, y = (np.arange(a, b + 1, _RASTER_CELL_M) for a, b in zip(low, high, strict=True))
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    heights = height(grid.reshape(-1, 2) + origin_m[:2]).reshape(grid.shape[:2]) - origin_m[2]
    return HeightRaster(heights, np.column_stack([np.eye(2), -low]) / _RASTER_CELL_M)
