"""nuScenes: the recorded scenes in ../shared/data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
import simplejpeg

from omniloop.core import geometry
from omniloop.core.contracts import SceneSource
from omniloop.core.scene import Scene
from omniloop.scenes.nuscenes import NuScenesScenes
from tests.kinematics import finite_difference_motion

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "nuscenes_mini"
NAMES = ["scene-0061", "scene-0103", "scene-0553", "scene-0655", "scene-0757"]

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data/nuscenes_mini")


def drivable(scene: Scene) -> shapely.Geometry:
    areas = [
        shapely.Polygon(a.outline[:, :2], [hole[:, :2] for hole in a.holes])
        for a in scene.map.drivable_areas
    ]
    return shapely.union_all(shapely.buffer(areas, 0.05))


@needs_data
def test_scenes_are_named_as_in_nuscenes():
    assert NuScenesScenes(str(DATA)).ids() == NAMES
    one = DATA / "sd_nuscenes_v1.0-mini_scene-0757.json.gz"
    assert NuScenesScenes(str(one)).ids() == ["scene-0757"]
    assert isinstance(NuScenesScenes(str(DATA)), SceneSource)


@needs_data
@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_scene_is_whole_and_agrees_with_the_official_files(name):
    """A scene takes a second to load: all that is asked of it is asked at once."""
    scene = NuScenesScenes(str(DATA)).load(name)
    times_are_exact_tenths_of_a_second_from_zero(scene)
    ego_drives_smoothly_inside_the_drivable_area(scene)
    the_world_is_the_plane_that_boxes_and_lanes_stand_on(scene)
    the_recorded_ego_touches_nobody(scene)
    lanes_are_linked_through_their_connectors(scene)
    if name == "scene-0061":
        drivable_areas_have_their_holes(scene)
        boxes_are_where_the_official_first_keyframe_has_them(scene)
        ego_starts_straight_ahead_of_the_official_pose(scene)
        first_frames_come_with_their_cameras(scene)
    else:
        assert scene.cameras == scene.first_frames == ()


def times_are_exact_tenths_of_a_second_from_zero(scene):
    np.testing.assert_array_equal(scene.ego.times_us, np.arange(len(scene.ego)) * 100_000)
    assert len(scene.ego) >= 190
    for track in scene.tracks:
        assert (track.times_us % 100_000 == 0).all()


def ego_drives_smoothly_inside_the_drivable_area(scene):
    rig = scene.ego.poses
    assert np.abs(rig[0, :3]).max() <= 0.5
    motion = finite_difference_motion(scene.ego.times_us, rig)
    assert np.abs(motion[:, 6]).max() < 3.5, "as recorded it reaches 100 m/s^2"
    assert np.abs(motion[:, 1]).max() < 0.2, "a rear axle does not move sideways"
    box = geometry.compose(rig, scene.vehicle.rig_to_aabb)
    corners = geometry.box_corners_xy(box, scene.vehicle.size_m).reshape(-1, 2)
    assert shapely.contains_xy(drivable(scene), corners).all()
    near = [
        min(
            geometry.project_on_polyline(pose[None, :2], lane.centerline[:, :2])[1][0]
            for lane in scene.map.lanes
        )
        for pose in rig[::20]
    ]
    assert max(near) < 1.9


def the_world_is_the_plane_that_boxes_and_lanes_stand_on(scene):
    assert (scene.ego.poses[:, 2] == 0).all()
    for track in scene.tracks:
        bottoms = track.local_to_aabb[track.valid, 2] - track.actor.size_m[2] / 2
        assert np.abs(bottoms).max() < 1e-12
    elements = [lane.centerline for lane in scene.map.lanes]
    elements += [line.points for line in scene.map.lane_lines]
    elements += [edge.points for edge in scene.map.road_boundaries]
    assert (np.concatenate(elements)[:, 2] == 0).all()


def the_recorded_ego_touches_nobody(scene):
    times = scene.ego.times_us
    box = geometry.compose(scene.ego.poses, scene.vehicle.rig_to_aabb)
    ego = shapely.polygons(geometry.box_corners_xy(box, scene.vehicle.size_m))
    actors = scene.recorded_actors(times)
    others = geometry.box_corners_xy(actors.local_to_aabb, scene.actor_sizes_m[:, None])
    assert actors.valid.sum() > 1000
    assert not (shapely.intersects(shapely.polygons(others), ego) & actors.valid).any()


def lanes_are_linked_through_their_connectors(scene):
    lanes = scene.map.lane_by_id
    connectors = [lane for lane in lanes.values() if lane.polygon is None]
    assert len(connectors) > 50
    linked = [lane for lane in connectors if lane.successors and lane.predecessors]
    assert len(linked) > 0.85 * len(connectors)
    for lane in lanes.values():
        assert lane.in_intersection is (lane.polygon is None)
        assert lane.speed_limit_mps is None
        for name_after in lane.successors:
            after = lanes[name_after]
            assert lane.id in after.predecessors
            assert np.linalg.norm(lane.centerline[-1] - after.centerline[0]) < 0.1
        assert (np.diff(geometry.arc_length_m(lane.centerline)) > 0).all()


def drivable_areas_have_their_holes(scene):
    surface = drivable(scene)
    assert sum(len(a.holes) for a in scene.map.drivable_areas) > 5
    lanes = [lane for lane in scene.map.lanes if lane.polygon is not None]
    polygons = shapely.union_all([shapely.Polygon(x.polygon[:, :2]).buffer(0) for x in lanes])
    assert shapely.area(shapely.difference(polygons, surface)) < 0.05 * shapely.area(polygons)


def boxes_are_where_the_official_first_keyframe_has_them(scene):
    info = json.loads((DATA / "scene-0061_first_frame" / "info.json").read_text())
    keyframe = info["data_list"][0]
    lidar = np.array(keyframe["ego2global"]) @ np.array(keyframe["lidar_points"]["lidar2ego"])
    official = np.array([box["bbox_3d"] for box in keyframe["instances"]])
    centers = official[:, :3] @ lidar[:3, :3].T + lidar[:3, 3]
    first = scene.recorded_actors([0])
    ours = first.local_to_aabb[first.valid[:, 0], 0, :2] + scene.dataset_to_local[:2, 3]
    gaps = np.linalg.norm(centers[:, None, :2] - ours[None], axis=2)
    assert (len(ours), len(official)) == (68, 69)
    assert (gaps.min(axis=0) < 1e-3).all()
    sizes = scene.actor_sizes_m[first.valid[:, 0]][gaps.argmin(axis=1)]
    assert np.median(np.abs(sizes - official[:, 3:6])) < 1e-3


def ego_starts_straight_ahead_of_the_official_pose(scene):
    info = json.loads((DATA / "scene-0061_first_frame" / "info.json").read_text())
    official = np.array(info["data_list"][0]["ego2global"])
    ours = scene.ego.poses[0, :2] + scene.dataset_to_local[:2, 3]
    ahead = official[:2, :2].T @ (ours - official[:2, 3])
    assert ahead == pytest.approx([0.157, 0.0], abs=0.01)


def first_frames_come_with_their_cameras(scene):
    cameras = {c.id: c for c in scene.cameras}
    assert len(cameras) == 6
    axes = {n: geometry.rotate(c.rig_to_camera[3:], [0.0, 0.0, 1.0]) for n, c in cameras.items()}
    assert axes["CAM_FRONT"][0] > 0.99
    assert axes["CAM_BACK"][0] < -0.99
    assert axes["CAM_FRONT_LEFT"][1] > 0.7
    assert axes["CAM_BACK_RIGHT"][1] < -0.9
    np.testing.assert_allclose(
        cameras["CAM_FRONT"].rig_to_camera[:3], [1.701, 0.016, 1.511], atol=1e-3
    )
    assert [f.camera_id for f in scene.first_frames] == list(cameras)
    for frame in scene.first_frames:
        height, width, _ = simplejpeg.decode_jpeg(frame.image).shape
        model = cameras[frame.camera_id].model
        assert (width, height) == (model.width, model.height) == (1600, 900)
        assert -50_000 < frame.capture_us <= 0
    assert scene.first_frames[0].capture_us == -35_491
