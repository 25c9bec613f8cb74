"""Validation: every check finds its fault, and only that."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.motion import EMPTY_TRAJECTORY, Trajectory
from omniloop.core.scene import (
    Actor,
    ActorClass,
    Area,
    FirstFrame,
    HeightRaster,
    Lane,
    Polyline,
    Scene,
    Track,
    TrafficLight,
    VectorMap,
    Vehicle,
)
from omniloop.scenes.commonroad import CommonRoadScenes
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.scenes.findings import SEVERITIES, Finding
from omniloop.scenes.validate import validate_scene
from omniloop.scenes.validate_motion import overlap_m

NGSIM = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "commonroad_ngsim"


@functools.cache
def sound() -> Scene:
    return EmbeddedScenes().load("straight_road")


def only(scene: Scene) -> Finding:
    findings = validate_scene(scene)
    assert len(findings) == 1, findings
    assert findings[0].remedy
    return findings[0]


def with_ego(poses: np.ndarray, times: np.ndarray | None = None) -> Scene:
    times = sound().ego.times_us if times is None else times
    return dataclasses.replace(sound(), ego=Trajectory(times, poses), tracks=())


def with_track(
    poses: np.ndarray, size: tuple[float, ...] = (4.0, 2.0, 1.5), name: str = "x"
) -> Track:
    times = np.arange(len(poses)) * 100_000
    actor = Actor(name, ActorClass.CAR, "car", np.array(size))
    return Track(actor, times, poses, np.ones(len(poses), dtype=bool))


def with_map(**changes: object) -> Scene:
    return dataclasses.replace(sound(), map=dataclasses.replace(sound().map, **changes))


def test_a_sound_scene_has_no_findings() -> None:
    assert validate_scene(sound()) == []


# --------------------------------------------------------------------------- numbers


def test_a_scene_without_ego_poses() -> None:
    found = only(dataclasses.replace(sound(), ego=EMPTY_TRAJECTORY))
    assert (found.severity, found.where) == ("error", "ego")


@pytest.mark.parametrize(
    "size", [(0.0, 2.0, 1.5), (4.0, -1.0, 1.5), (4.0, 2.0, np.nan), (4.0, 2.0)]
)
def test_boxes_without_a_size(size: tuple[float, ...]) -> None:
    track = with_track(np.tile(geometry.pose(500.0, 50.0, 0.75), (5, 1)), size)
    found = only(dataclasses.replace(sound(), tracks=(track,)))
    assert (found.severity, found.where) == ("error", "track x")


def test_a_vehicle_without_a_size() -> None:
    found = only(dataclasses.replace(sound(), vehicle=Vehicle(width_m=0.0)))
    assert (found.severity, found.where) == ("error", "vehicle")


def test_quaternions_that_are_not_quite_units() -> None:
    poses = sound().ego.poses.copy()
    poses[7, 3:] *= 1.0005
    found = only(with_ego(poses))
    assert found.severity == "warning"
    assert "5.0e-04" in found.what


def test_a_camera_pose_that_is_not_finite() -> None:
    camera = dataclasses.replace(sound().cameras[0], rig_to_camera=np.full(7, np.nan))
    found = only(dataclasses.replace(sound(), cameras=(camera,)))
    assert (found.severity, found.where) == ("error", "camera camera_front_wide_120fov")


@pytest.mark.parametrize("matrix", [np.full((4, 4), np.nan), np.diag([2.0, 1, 1, 1]), np.eye(3)])
def test_a_transform_that_is_not_rigid(matrix: np.ndarray) -> None:
    found = only(dataclasses.replace(sound(), dataset_to_local=matrix))
    assert (found.severity, found.where) == ("error", "dataset_to_local")


def test_actors_and_cameras_of_one_id() -> None:
    tracks = [with_track(np.tile(geometry.pose(x, 50.0, 0.75), (5, 1))) for x in (500.0, 550.0)]
    found = validate_scene(
        dataclasses.replace(sound(), tracks=tuple(tracks), cameras=sound().cameras * 2)
    )
    assert [(f.severity, f.where) for f in found] == [("error", "tracks"), ("error", "cameras")]
    assert "x" in found[0].what


# ---------------------------------------------------------------------------- motion


def test_ego_at_an_impossible_speed() -> None:
    poses = sound().ego.poses.copy()
    poses[:, 0] *= 7.0
    found = [
        f
        for f in validate_scene(dataclasses.replace(with_ego(poses), map=VectorMap()))
        if f.where == "ego"
    ]
    assert [f.severity for f in found] == ["error"]
    assert " m/s at " in found[0].what


def test_ego_that_jumps() -> None:
    poses = sound().ego.poses.copy()
    poses[300:, 0] += 1.0  # at 6 s: 10 m/s more for a tenth of a second
    found = only(with_ego(poses))
    assert found.severity == "warning"
    assert "jumps 2 times, first at 6.0 s" in found.what or "first at 5.9 s" in found.what


def test_ego_that_moves_aside_of_its_heading() -> None:
    poses = sound().ego.poses.copy()
    poses[400:, 3:] = geometry.pose(yaw_rad=0.5)[3:]
    found = [
        f
        for f in validate_scene(dataclasses.replace(with_ego(poses), map=VectorMap()))
        if "heading" in f.what
    ]
    assert len(found) == 1
    assert "29 degrees" in found[0].what


def test_ego_that_stands_still_may_turn_its_head() -> None:
    poses = np.tile(geometry.pose(0.0, -0.25), (len(sound().ego), 1))
    poses[100:, 3:] = geometry.pose(yaw_rad=0.1)[3:]
    found = only(with_ego(poses))
    assert (found.severity, "stands still" in found.what) == ("info", True)


# -------------------------------------------------------------------------- contacts


def test_an_actor_in_recorded_ego_is_reported_with_its_times() -> None:
    poses = np.tile(geometry.pose(100.0, -0.25, 0.75), (161, 1))  # ego comes by at 8 s
    found = only(dataclasses.replace(sound(), tracks=(with_track(poses, name="wall"),)))
    assert (found.severity, found.where) == ("warning", "track wall")
    times = sound().ego.times_us
    front, rear = 1.3965 + 5.393 / 2, 1.3965 - 5.393 / 2
    x = sound().ego.poses[:, 0]
    inside = times[(x + front > 98.0) & (x + rear < 102.0)] / 1e6
    assert (
        f"from {np.ceil(inside[0] * 10) / 10:.1f} s to {np.floor(inside[-1] * 10) / 10:.1f} s"
        in found.what
    )
    assert "2.00 m" in found.what  # its whole width


def test_an_actor_is_no_contact_while_it_is_absent() -> None:
    track = with_track(np.tile(geometry.pose(100.0, -0.25, 0.75), (161, 1)))
    absent = dataclasses.replace(track, valid=np.zeros(161, dtype=bool))
    assert validate_scene(dataclasses.replace(sound(), tracks=(absent,))) == []


def test_a_bridge_above_ego_is_no_contact() -> None:
    track = with_track(np.tile(geometry.pose(100.0, -0.25, 6.0), (161, 1)))
    assert validate_scene(dataclasses.replace(sound(), tracks=(track,))) == []


def test_actors_that_overlap_at_the_start() -> None:
    tracks = tuple(
        with_track(np.tile(geometry.pose(x, 50.0, 0.75), (5, 1)), name=name)
        for name, x in (("a", 200.0), ("b", 203.5), ("c", 206.0), ("d", 300.0))
    )
    found = only(dataclasses.replace(sound(), tracks=tracks))
    assert found.severity == "warning"
    assert "2 pair(s)" in found.what
    assert "b and c by 1.50 m, a and b by 0.50 m" in found.what


near = st.floats(-3, 3)
sizes = st.tuples(st.floats(0.5, 6), st.floats(0.5, 3), st.just(1.5)).map(np.array)


@given(ax=near, ay=near, turn=st.floats(-4, 4), yaw=st.floats(-4, 4), a=sizes, b=sizes)
def test_boxes_overlap_where_their_polygons_do(
    ax: float, ay: float, turn: float, yaw: float, a: np.ndarray, b: np.ndarray
) -> None:
    pose_a, pose_b = geometry.pose(ax, ay, 0.0, turn), geometry.pose(0.0, 0.0, 0.0, yaw)
    depth = overlap_m(pose_a, a, pose_b, b)
    assert overlap_m(pose_b, b, pose_a, a) == pytest.approx(depth)
    boxes = [shapely.Polygon(geometry.box_corners_xy(p, s)) for p, s in ((pose_a, a), (pose_b, b))]
    if abs(depth) > 1e-9:
        assert (depth > 0) == (boxes[0].intersection(boxes[1]).area > 0)


def test_overlap_of_two_cars_in_a_row_is_measured_along_it() -> None:
    size = np.array([4.0, 2.0, 1.5])
    assert overlap_m(geometry.pose(), size, geometry.pose(3.9), size) == pytest.approx(0.1)
    assert overlap_m(geometry.pose(), size, geometry.pose(4.5), size) == pytest.approx(-0.5)


# ------------------------------------------------------------------------------- map


def test_an_empty_map() -> None:
    found = only(dataclasses.replace(sound(), map=VectorMap()))
    assert (found.severity, found.where, found.what) == ("warning", "map", "is empty")


def test_a_map_somewhere_else() -> None:
    shift = np.array([5000.0, 0.0, 0.0])
    areas = tuple(Area(a.id, a.outline + shift) for a in sound().map.drivable_areas)
    found = only(dataclasses.replace(sound(), map=VectorMap(drivable_areas=areas)))
    assert "within 30 m" in found.what


def test_a_map_of_lines_only_has_no_surface() -> None:
    lines = VectorMap(road_boundaries=sound().map.road_boundaries)
    found = only(dataclasses.replace(sound(), map=lines))
    assert "neither drivable areas nor lanes" in found.what


def test_ego_that_leaves_the_surface_is_timed_and_measured() -> None:
    poses = sound().ego.poses.copy()
    poses[:, 1] -= 3.0 + np.clip(
        (sound().ego.times_us - 8_000_000) / 1e6, 0, 1
    )  # a metre, in the 9th second
    found = [f for f in validate_scene(with_ego(poses)) if "leaves" in f.what]
    # The right side is at -0.25 - 3 - 1.0545 m, the edge at -4.5 m: 0.3 m past it at 8.5 s.
    assert len(found) == 1
    assert "at 8.5 s by 0.3" in found[0].what
    assert "up to 0.80 m" in found[0].what


def test_lanes_are_the_surface_where_there_are_no_areas() -> None:
    assert validate_scene(with_map(drivable_areas=())) == []
    lanes = tuple(dataclasses.replace(lane, polygon=None) for lane in sound().map.lanes)
    assert validate_scene(with_map(drivable_areas=(), lanes=lanes)) == []
    lanes = tuple(dataclasses.replace(lane, kind="sidewalk") for lane in sound().map.lanes)
    assert "neither" in only(with_map(drivable_areas=(), lanes=lanes)).what


def test_a_hole_in_the_surface_is_not_surface() -> None:
    (area,) = sound().map.drivable_areas
    hole = np.array([[50.0, -4, 0], [60, -4, 0], [60, 4, 0], [50, 4, 0]])
    found = only(with_map(drivable_areas=(Area(area.id, area.outline, (hole,)),)))
    assert "leaves the drivable surface" in found.what


def test_topology_that_leads_nowhere() -> None:
    lanes = [dataclasses.replace(sound().map.lanes[0], successors=("gone",), left_line="none")]
    found = validate_scene(with_map(lanes=(*lanes, *sound().map.lanes[1:])))
    assert [f.severity for f in found] == ["info", "info"]
    assert "1 successors are not in the map: road_0_0 -> gone" in found[0].what
    assert "1 lane lines are not in the map: road_0_0 -> none" in found[1].what


def test_a_stop_line_of_an_unknown_lane() -> None:
    line = Polyline("s", np.array([[0.0, 0, 0], [0, 3, 0]]), ("gone",))
    assert "lanes of stop_lines" in only(with_map(stop_lines=(line,))).what


def test_lanes_of_one_id() -> None:
    found = only(with_map(lanes=(*sound().map.lanes, sound().map.lanes[0])))
    assert (found.severity, "road_0_0" in found.what) == ("error", True)


@pytest.mark.parametrize(
    "changes",
    [
        {"lanes": (Lane("bad", np.array([[0.0, 0, 0], [np.nan, 0, 0]])),)},
        {"lanes": (Lane("bad", np.array([[0.0, 0, 0]])),)},
        {"crosswalks": (Area("bad", np.zeros((2, 3))),)},
        {"lights": (TrafficLight("bad", geometry.pose(), np.ones(3), (), np.array([0, 5]), ("red",)),)},
        {"lights": (TrafficLight("bad", geometry.pose(), np.ones(3), (), np.array([5, 5]), ("red", "off")),)},
    ],
)  # fmt: skip
def test_elements_that_cannot_be_used(changes: dict[str, object]) -> None:
    found = validate_scene(with_map(**changes))[0]
    assert found.severity == "error"
    assert found.where.endswith(" bad")


# --------------------------------------------------------- ground, length and pictures


def raster(height_m: float, half_m: float = 300.0) -> HeightRaster:
    n = int(half_m)
    return HeightRaster(np.full((2 * n, 2 * n), height_m), np.array([[1.0, 0, n], [0, 1.0, n]]))


def test_ground_under_the_path_is_sound() -> None:
    assert validate_scene(dataclasses.replace(sound(), ground=raster(0.2))) == []


def test_ground_in_another_frame() -> None:
    found = only(dataclasses.replace(sound(), ground=raster(-3.0)))
    assert "3.00 m off" in found.what


def test_ground_that_ends_under_the_path() -> None:
    found = only(dataclasses.replace(sound(), ground=raster(0.0, half_m=100.0)))
    assert "no height is known" in found.what


def test_a_scene_of_two_seconds() -> None:
    ego = sound().ego.clip(0, 2_000_000)
    found = only(dataclasses.replace(sound(), ego=ego))
    assert "2.0 s, less than 3 s" in found.what


def test_a_scene_of_one_instant() -> None:
    ego = sound().ego.clip(0, 0)
    assert "0.0 s" in only(dataclasses.replace(sound(), ego=ego)).what


def test_a_scene_without_cameras() -> None:
    found = only(dataclasses.replace(sound(), cameras=()))
    assert (found.severity, "default" in found.what) == ("info", True)


def test_first_frames_of_no_camera_or_another_time() -> None:
    frames = (
        FirstFrame("camera_front_wide_120fov", -40_000, b""),
        FirstFrame("camera_rear", 0, b""),
        FirstFrame("camera_front_wide_120fov", -5_000_000, b""),
    )
    found = validate_scene(dataclasses.replace(sound(), first_frames=frames))
    assert [f.what for f in found] == [
        "the scene has no such camera",
        "was taken at -5.00 s, outside the recording",
    ]


# ------------------------------------------------------------------------- in general


def test_the_worst_comes_first() -> None:
    track = with_track(np.tile(geometry.pose(500.0, 50.0), (5, 1)), (0.0, 1.0, 1.0))
    lane = dataclasses.replace(sound().map.lanes[0], successors=("gone",))
    poses = sound().ego.poses.copy()
    poses[0, 3:] *= 1.0005
    scene = dataclasses.replace(
        with_map(lanes=(lane,)), tracks=(track,), ego=Trajectory(sound().ego.times_us, poses)
    )
    severities = [f.severity for f in validate_scene(scene)]
    assert severities == sorted(severities, key=SEVERITIES.index)
    assert set(severities) == set(SEVERITIES)


@pytest.mark.skipif(not NGSIM.exists(), reason="recorded scenes are not in ../shared/data")
def test_recorded_scenes_have_no_errors() -> None:
    source = CommonRoadScenes(str(NGSIM))
    for scene_id in source.ids()[::27]:
        assert "error" not in {f.severity for f in validate_scene(source.load(scene_id))}
