"""Surfaces of real maps: the recorded ego of every real scene stays on them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.scene import Area, Lane, VectorMap, Vehicle
from omniloop.metrics.excursions import TOLERANCE_M, depth_m
from omniloop.scenes.surface import DrivableSurface, drivable_surface

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
NUSCENES = sorted((DATA / "nuscenes_mini").glob("*.json.gz"))
AV2 = sorted((DATA / "av2" / "sensor").glob("*/map/log_map_archive_*.json"))

RENAULT = Vehicle(4.084, 1.73, 1.562, rear_axle_to_center_m=1.1)
FUSION = Vehicle(4.877, 2.0, 1.473, rear_axle_to_center_m=1.42)


def deepest_m(surface: DrivableSurface | None, local_to_rig: Array, vehicle: Vehicle) -> float:
    assert surface is not None
    boxes = geometry.compose(local_to_rig, vehicle.rig_to_aabb)
    corners = geometry.box_corners_xy(boxes, np.broadcast_to(vehicle.size_m, (len(boxes), 3)))
    return float(depth_m(corners, surface).max())


def planar(points: object, origin: Array) -> Array:
    xy = np.asarray(points, dtype=np.float64)[:, :2] - origin[:2]
    return np.column_stack([xy, np.zeros(len(xy))])


@pytest.mark.skipif(not NUSCENES, reason="no nuScenes scenes in ../shared/data")
def test_recorded_egos_of_nuscenes_stay_on_the_lane_union() -> None:
    gaps = 0
    for path in NUSCENES:
        scene = json.loads(gzip.decompress(path.read_bytes()))
        state = scene["tracks"][scene["metadata"]["sdc_id"]]["state"]
        origin = np.asarray(state["position"][0], dtype=np.float64)
        ego = geometry.poses_from_xyz_yaw(
            planar(state["position"], origin), np.ravel(state["heading"])
        )
        lanes = []
        for key, lane in scene["map_features"].items():
            if not lane["type"].startswith("LANE"):
                continue
            outline = lane.get("polygon") or []
            polygon = planar(outline, origin) if len(outline) > 2 else None
            lanes.append(Lane(key, planar(lane["polyline"], origin), polygon=polygon))
        surface = drivable_surface(VectorMap(lanes=tuple(lanes)))
        assert deepest_m(surface, ego, RENAULT) <= TOLERANCE_M, path.name
        # Lanes through junctions have centre lines only: without them these drives leave the road.
        outlined = VectorMap(lanes=tuple(lane for lane in lanes if lane.polygon is not None))
        gaps += deepest_m(drivable_surface(outlined), ego, RENAULT) > TOLERANCE_M
    assert gaps > 0


@pytest.mark.skipif(not AV2, reason="no Argoverse 2 logs in ../shared/data")
def test_recorded_egos_of_argoverse_stay_on_drivable_areas_and_on_lanes() -> None:
    feather = pytest.importorskip("pyarrow.feather")
    for path in AV2:
        table = feather.read_table(path.parents[1] / "city_SE3_egovehicle.feather")
        names = ["tx_m", "ty_m", "tz_m", "qx", "qy", "qz", "qw"]
        ego = np.column_stack([table.column(name).to_numpy() for name in names])
        origin = ego[0].copy()
        ego[:, :2] -= origin[:2]
        archive = json.loads(path.read_text())

        def points(line: list[dict[str, float]], origin: Array = origin) -> Array:
            return planar([[p["x"], p["y"]] for p in line], origin)

        areas = [
            Area(key, points(area["area_boundary"]))
            for key, area in archive["drivable_areas"].items()
        ]
        lanes = []
        for key, lane in archive["lane_segments"].items():
            left, right = points(lane["left_lane_boundary"]), points(lane["right_lane_boundary"])
            lanes.append(Lane(key, left, left=left, right=right, kind=lane["lane_type"].lower()))
        for vector_map, kind in (
            (VectorMap(tuple(lanes), drivable_areas=tuple(areas)), "drivable areas"),
            (VectorMap(tuple(lanes)), "lane union"),
        ):
            surface = drivable_surface(vector_map)
            assert surface is not None
            assert surface.kind == kind
            assert deepest_m(surface, ego, FUSION) <= TOLERANCE_M, path.name
