"""Argoverse 2: the recorded logs in ../shared/data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely

from omniloop.core import geometry
from omniloop.core.contracts import SceneSource
from omniloop.core.scene import ActorClass, HeightRaster, Scene
from omniloop.scenes.av2 import Av2Scenes
from omniloop.scenes.av2_sensor import REAR_AXLE_HEIGHT_M
from tests.kinematics import finite_difference_motion

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "av2"
MIAMI = "3b3570b4-7b0b-3268-a571-b0889dbf40b6"
PITTSBURGH = "7fab2350-7eaf-3b7e-a39d-6937a4c1bede"
FORECAST = "0a1e6f0a-1817-4a98-b02e-db8c9327d151"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data/av2")


@pytest.fixture(scope="module")
def scenes() -> dict[str, Scene]:
    source = Av2Scenes(str(DATA))
    return {name: source.load(name) for name in source.ids()}


def ground_at(raster: HeightRaster | None, points: np.ndarray) -> np.ndarray:
    assert raster is not None
    affine, (rows, columns) = raster.local_xy_to_cell, raster.heights_m.shape
    cell = np.rint(points[:, :2] @ affine[:, :2].T + affine[:, 2]).astype(int)
    inside = ((cell >= 0) & (cell < [columns, rows])).all(axis=1)
    out = np.full(len(points), np.nan)
    out[inside] = raster.heights_m[cell[inside, 1], cell[inside, 0]]
    return out


def drivable(scene: Scene) -> shapely.Geometry:
    areas = [shapely.Polygon(a.outline[:, :2]) for a in scene.map.drivable_areas]
    return shapely.union_all(shapely.buffer(areas, 0.05))


@needs_data
def test_sensor_logs_and_scenarios_are_found_together_and_alone():
    assert Av2Scenes(str(DATA)).ids() == sorted([MIAMI, PITTSBURGH, FORECAST])
    assert Av2Scenes(str(DATA / "sensor")).ids() == sorted([MIAMI, PITTSBURGH])
    assert Av2Scenes(str(DATA / "sensor" / MIAMI)).ids() == [MIAMI]
    assert isinstance(Av2Scenes(str(DATA)), SceneSource)


@needs_data
@pytest.mark.parametrize("name", [MIAMI, PITTSBURGH, FORECAST])
def test_ego_drives_on_the_ground_along_its_lanes(scenes, name):
    scene = scenes[name]
    rig = scene.ego.poses
    assert np.abs(rig[0, :3]).max() <= 0.5
    assert np.nanmedian(np.abs(rig[:, 2] - ground_at(scene.ground, rig))) < 0.04
    box = geometry.compose(rig, scene.vehicle.rig_to_aabb)
    corners = geometry.box_corners_xy(box, scene.vehicle.size_m).reshape(-1, 2)
    assert shapely.contains_xy(drivable(scene), corners).all()
    lanes = [shapely.Polygon(lane.polygon[:, :2]) for lane in scene.map.lanes]
    assert shapely.contains_xy(shapely.union_all(shapely.buffer(lanes, 0.05)), rig[:, :2]).all()
    moving = finite_difference_motion(scene.ego.times_us, rig)[:, 0] > 2
    assert moving.any()
    headings = []
    for pose in rig[moving][::50]:
        gaps = []
        for lane in scene.map.lanes:
            s, d = geometry.project_on_polyline(pose[None, :2], lane.centerline[:, :2])
            a, b = geometry.resample_polyline(lane.centerline, [s[0] - 0.5, s[0] + 0.5])
            turn = geometry.wrap_rad(np.arctan2(b[1] - a[1], b[0] - a[0]) - geometry.yaw_rad(pose))
            gaps.append(abs(turn) if d[0] < 2 else np.pi)
        headings.append(min(gaps))
    assert max(headings) < 0.4


@needs_data
@pytest.mark.parametrize("name", [MIAMI, PITTSBURGH, FORECAST])
def test_boxes_stand_on_the_ground_raster(scenes, name):
    scene = scenes[name]
    gaps = []
    for track in scene.tracks:
        boxes = track.local_to_aabb[track.valid]
        gaps.append(boxes[:, 2] - track.actor.size_m[2] / 2 - ground_at(scene.ground, boxes))
    off = np.abs(np.concatenate(gaps))
    assert np.nanmedian(off) < 0.02
    assert np.nanpercentile(off, 95) < 0.05


@needs_data
@pytest.mark.parametrize("name", [MIAMI, PITTSBURGH, FORECAST])
def test_lanes_lie_on_the_ground_raster(scenes, name):
    scene = scenes[name]
    points = np.concatenate([lane.centerline for lane in scene.map.lanes])
    off = np.abs(points[:, 2] - ground_at(scene.ground, points))
    assert np.isfinite(off).mean() > 0.9
    assert np.nanmedian(off) < 0.04  # heights are float16: steps of 6 cm at 70 m


@needs_data
@pytest.mark.parametrize("name", [MIAMI, PITTSBURGH, FORECAST])
def test_the_recorded_ego_touches_nobody(scenes, name):
    scene = scenes[name]
    times = np.arange(scene.start_us, scene.end_us, 100_000)
    box = geometry.compose(scene.ego.sample(times), scene.vehicle.rig_to_aabb)
    ego = shapely.polygons(geometry.box_corners_xy(box, scene.vehicle.size_m))
    actors = scene.recorded_actors(times)
    others = geometry.box_corners_xy(actors.local_to_aabb, scene.actor_sizes_m[:, None])
    assert actors.valid.sum() > 1000
    assert not (shapely.intersects(shapely.polygons(others), ego) & actors.valid).any()


@needs_data
def test_a_log_keeps_its_times_to_the_microsecond(scenes):
    scene = scenes[MIAMI]
    assert scene.start_us == 315971916927482
    assert scene.end_us - scene.start_us == 15_950_000
    assert len(scene.ego) == 2393
    times = np.unique(np.concatenate([track.times_us for track in scene.tracks]))
    assert len(times) == 157
    assert times[0] == 315971916960141
    assert len(scene.tracks) == 119


@needs_data
def test_local_leads_back_to_the_city_frame_exactly(scenes):
    scene = scenes[MIAMI]
    city_to_rig = scene.dataset_to_local @ geometry.matrix_from_pose(scene.ego.poses[0])
    city_to_ego = city_to_rig @ geometry.matrix_from_pose(geometry.pose(z=REAR_AXLE_HEIGHT_M))
    recorded = [743.9822857354478, 2231.401325053003, -22.92714860920965]
    np.testing.assert_allclose(city_to_ego[:3, 3], recorded, rtol=0, atol=1e-9)


@needs_data
def test_boxes_are_moved_with_the_ego_of_their_own_time(scenes):
    for name in (MIAMI, PITTSBURGH):
        parked = [t for t in scenes[name].tracks if t.actor.is_static and t.valid.sum() > 140]
        assert len(parked) >= 10
        for track in parked:
            xy = track.local_to_aabb[track.valid, :2]
            assert np.linalg.norm(np.diff(xy, axis=0), axis=1).max() < 0.25


@needs_data
def test_the_ego_box_sizes_the_vehicle_and_is_no_actor(scenes):
    assert scenes[MIAMI].vehicle.size_m.tolist() == pytest.approx([4.877, 2.0, 1.473], abs=1e-3)
    assert "EGO_VEHICLE" not in {a.label for a in scenes[MIAMI].actors}


@needs_data
def test_cameras_look_where_their_names_say(scenes):
    cameras = {c.id: c for c in scenes[PITTSBURGH].cameras}
    assert len(cameras) == 9
    assert scenes[MIAMI].cameras == ()
    axes = {n: geometry.rotate(c.rig_to_camera[3:], [0.0, 0.0, 1.0]) for n, c in cameras.items()}
    assert axes["ring_front_center"][0] > 0.99
    assert axes["ring_rear_left"][0] < -0.8
    assert axes["ring_rear_left"][1] > 0.3
    assert axes["ring_side_right"][1] < -0.9
    down = geometry.rotate(cameras["ring_front_center"].rig_to_camera[3:], [0.0, 1.0, 0.0])
    assert down[2] < -0.99
    front = cameras["ring_front_center"]
    assert front.rig_to_camera[2] == pytest.approx(1.3979667966613305 + REAR_AXLE_HEIGHT_M)
    assert (front.model.width, front.model.height) == (1550, 2048)
    ahead = geometry.transform_points(geometry.inverse(front.rig_to_camera), [[30.0, 0.0, 1.7]])
    pixel, seen = front.model.project(ahead)
    assert seen.all()
    assert np.abs(pixel[0] - [front.model.cx, front.model.cy]).max() < 30


@needs_data
def test_each_painted_line_comes_once(scenes):
    for scene in scenes.values():
        keys = {
            np.sort(np.round(line.points, 2), axis=0).tobytes() for line in scene.map.lane_lines
        }
        assert len(keys) == len(scene.map.lane_lines) > 30
        known = {line.id for line in scene.map.lane_lines}
        used = {n for lane in scene.map.lanes for n in (lane.left_line, lane.right_line) if n}
        assert used == known


@needs_data
def test_lanes_are_linked_both_ways_and_neighbours_go_the_same_way(scenes):
    for scene in scenes.values():
        lanes, neighbours = scene.map.lane_by_id, 0
        for lane in scene.map.lanes:
            assert all(lane.id in lanes[n].predecessors for n in lane.successors)
            assert all(lane.id in lanes[n].successors for n in lane.predecessors)
            for other in (lane.left_lane, lane.right_lane):
                if other is not None:
                    a, b = lane.centerline, lanes[other].centerline
                    assert (a[-1] - a[0])[:2] @ (b[-1] - b[0])[:2] > 0
                    neighbours += 1
        assert neighbours > 10


@needs_data
def test_road_edges_follow_the_drivable_area_and_cross_no_lane(scenes):
    for scene in scenes.values():
        outline = shapely.boundary(drivable(scene))
        middles = shapely.union_all([
            shapely.LineString(lane.centerline[1:-1, :2]) for lane in scene.map.lanes if len(lane.centerline) > 3
        ])  # fmt: skip
        assert len(scene.map.road_boundaries) >= 5
        for edge in scene.map.road_boundaries:
            line = shapely.LineString(edge.points[:, :2])
            assert shapely.hausdorff_distance(shapely.union(outline, line), outline) < 0.2
            assert not shapely.crosses(line, middles)
            assert np.isfinite(edge.points).all()


@needs_data
def test_a_scenario_has_its_tracks_and_default_sizes(scenes):
    scene = scenes[FORECAST]
    assert len(scene.ego) == 110
    assert (np.diff(scene.ego.times_us) == 100_000).all()
    assert len(scene.tracks) == 57
    by_label = {a.label: a for a in scene.actors}
    assert by_label["vehicle"].size_m.tolist() == [4.0, 2.0, 1.6]
    assert by_label["riderless_bicycle"].actor_class is ActorClass.OTHER
    assert by_label["background"].is_static
    assert scene.ground is not None
    assert scene.ego.poses[-1, 2] - scene.ego.poses[0, 2] == pytest.approx(0.75, abs=0.3)
