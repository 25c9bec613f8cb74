"""Embedded scenes: sound, smooth, without contacts, and what each is about."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.cameras import default_camera
from omniloop.core.errors import SceneError
from omniloop.core.scene import ActorClass, MarkColor, MarkStyle, Scene
from omniloop.scenes.embedded import EmbeddedScenes, synthetic_scene
from omniloop.scenes.embedded_paths import (
    Drive,
    ReferenceLine,
    offset_profile,
    quarter_turn_knots,
    speed_profile,
    straight,
)
from omniloop.scenes.native import scene_hash
from omniloop.scenes.validate import validate_scene
from omniloop.scenes.validate_motion import overlap_m
from tests.kinematics import finite_difference_motion

IDS = ["crossing_pedestrian", "curve", "cut_in", "junction", "stopped_lead", "straight_road"]


@functools.cache
def load(scene_id: str) -> Scene:
    return EmbeddedScenes().load(scene_id)


def ego_motion(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    return scene.ego.times_us, finite_difference_motion(scene.ego.times_us, scene.ego.poses)


def track_poses(scene: Scene, actor_id: str, times_us: np.ndarray) -> np.ndarray:
    (track,) = [t for t in scene.tracks if t.actor.id == actor_id]
    poses, valid = track.at(times_us)
    assert valid.all()
    return poses


# ----------------------------------------------------------------------- every scene


def test_the_source_has_the_six_scenes() -> None:
    assert EmbeddedScenes().ids() == IDS


@pytest.mark.parametrize("scene_id", IDS)
def test_a_scene_is_the_same_each_time(scene_id: str) -> None:
    assert scene_hash(EmbeddedScenes().load(scene_id)) == scene_hash(load(scene_id))


@pytest.mark.parametrize("scene_id", IDS)
def test_validation_finds_nothing(scene_id: str) -> None:
    assert validate_scene(load(scene_id)) == []


@pytest.mark.parametrize("scene_id", IDS)
def test_time_place_and_rig(scene_id: str) -> None:
    scene = load(scene_id)
    assert (scene.id, scene.source, scene.start_us) == (scene_id, "embedded", 0)
    assert 12e6 <= scene.end_us <= 20e6
    assert set(np.diff(scene.ego.times_us)) == {20_000}
    for track in scene.tracks:
        assert set(np.diff(track.times_us)) == {100_000}
    assert np.abs(scene.ego.poses[0, :2]).max() <= 0.5  # local's origin is this, rounded
    assert (scene.ego.poses[:, 2] == 0).all()
    assert not scene.may_run_on
    assert [camera.id for camera in scene.cameras] == [default_camera().id]
    assert scene.prompt
    assert scene.tags


@pytest.mark.parametrize("scene_id", IDS)
def test_recorded_ego_moves_as_a_car_can(scene_id: str) -> None:
    _, motion = ego_motion(load(scene_id))
    inner = motion[2:-2]
    assert inner[:, 0].min() >= -1e-6
    assert np.abs(inner[:, 6]).max() <= 3.0  # along
    assert np.abs(inner[:, 0] * inner[:, 5]).max() <= 3.0  # across
    assert np.abs(inner[:, 1]).max() <= 0.05  # the rear axle does not slip


@pytest.mark.parametrize("scene_id", IDS)
def test_nobody_touches_anybody_at_any_time(scene_id: str) -> None:
    scene = load(scene_id)
    times = np.arange(0, scene.end_us + 1, 50_000)
    actors = scene.recorded_actors(times)
    ego = geometry.compose(scene.ego.sample(times), scene.vehicle.rig_to_aabb)
    poses = np.concatenate([ego[None], actors.local_to_aabb])
    sizes = np.concatenate([scene.vehicle.size_m[None], scene.actor_sizes_m])
    valid = np.concatenate([np.ones((1, len(times)), dtype=bool), actors.valid])
    a, b = np.triu_indices(len(poses), 1)
    depth = overlap_m(poses[a], sizes[a][:, None], poses[b], sizes[b][:, None])
    assert depth[valid[a] & valid[b]].max() < 0


@pytest.mark.parametrize("scene_id", IDS)
def test_vehicles_stay_on_the_drivable_surface(scene_id: str) -> None:
    scene = load(scene_id)
    areas = [shapely.Polygon(a.outline[:, :2]) for a in scene.map.drivable_areas]
    surface = shapely.union_all([a.buffer(0.01) for a in areas])
    for track in scene.tracks:
        if track.actor.actor_class is ActorClass.PEDESTRIAN:
            continue
        corners = geometry.box_corners_xy(track.local_to_aabb, track.actor.size_m)
        near = np.linalg.norm(track.local_to_aabb[:, :2], axis=1) < 150
        off = shapely.distance(shapely.points(corners[near]), surface)
        assert off.max(initial=0.0) < 0.05, track.actor.id


@pytest.mark.parametrize("scene_id", IDS)
def test_actors_stand_on_the_ground_and_static_ones_stand_still(scene_id: str) -> None:
    for track in load(scene_id).tracks:
        assert np.allclose(track.local_to_aabb[:, 2], track.actor.size_m[2] / 2)
        moved = np.ptp(track.local_to_aabb[:, :2], axis=0).max()
        assert (moved == 0) == track.actor.is_static, track.actor.id


@pytest.mark.parametrize("scene_id", IDS)
def test_lanes_follow_each_other_without_gaps(scene_id: str) -> None:
    lanes = load(scene_id).map.lane_by_id
    linked = 0
    for lane in lanes.values():
        for after in lane.successors:
            nxt = lanes[after]
            assert lane.id in nxt.predecessors
            for side in ("centerline", "left", "right"):
                gap = getattr(nxt, side)[0] - getattr(lane, side)[-1]
                assert np.linalg.norm(gap) < 0.001, (lane.id, after, side)
            linked += 1
    assert linked > 0


@pytest.mark.parametrize("scene_id", IDS)
def test_boundaries_are_on_their_sides_and_neighbours_agree(scene_id: str) -> None:
    lanes = load(scene_id).map.lane_by_id
    lines = {line.id for line in load(scene_id).map.lane_lines}
    for lane in lanes.values():
        ahead = lane.centerline[1] - lane.centerline[0]
        for side, sign in ((lane.left, 1), (lane.right, -1)):
            to_side = side[0] - lane.centerline[0]
            assert sign * (ahead[0] * to_side[1] - ahead[1] * to_side[0]) > 0
            assert np.linalg.norm(to_side) == pytest.approx(1.75, abs=1e-6)
        if lane.left_lane is not None:
            beside = lanes[lane.left_lane]
            assert beside.right_lane == lane.id
            assert np.allclose(beside.right, lane.left)
        assert {lane.left_line, lane.right_line} - {None} <= lines
        inside = shapely.Polygon(lane.polygon[:, :2]).buffer(1e-6)
        assert inside.is_valid
        assert inside.covers(shapely.LineString(lane.centerline[:, :2]))


# ---------------------------------------------------------------------- single scenes


def test_two_way_roads_have_a_double_yellow_line_between_directions() -> None:
    lines = {(line.style, line.color) for line in load("straight_road").map.lane_lines}
    assert lines == {
        (MarkStyle.SOLID_GROUP, MarkColor.YELLOW),
        (MarkStyle.DASHED_SINGLE, MarkColor.WHITE),
        (MarkStyle.SOLID_SINGLE, MarkColor.WHITE),
    }


def test_curve_turns_left_and_then_right() -> None:
    yaw = np.unwrap(geometry.yaw_rad(load("curve").ego.poses))
    assert yaw.max() > np.deg2rad(60)
    assert yaw[-1] < yaw.max() - np.deg2rad(15)
    assert yaw.min() > -0.01


def test_stopped_lead_is_met_at_a_safe_gap_and_moves_off_in_the_end() -> None:
    scene = load("stopped_lead")
    times, motion = ego_motion(scene)
    lead = track_poses(scene, "lead", times)
    gap = lead[:, 0] - 4.6 / 2 - (scene.ego.poses[:, 0] + 1.3965 + 5.393 / 2)
    assert gap.min() == pytest.approx(5.0, abs=0.3)
    still = times[np.abs(motion[:, 0]) < 1e-3]
    assert still[-1] - still[0] > 4e6
    assert motion[-1, 0] > 2.0
    (track,) = [t for t in scene.tracks if t.actor.id == "lead"]
    assert not track.actor.is_static  # else a chunked video renderer would leave it out


def test_light_of_the_stopped_lead_is_red_until_the_queue_moves() -> None:
    light = load("stopped_lead").map.lights[0]
    assert light.states == ("red", "red_yellow", "green")
    assert light.times_us.tolist() == [0, 13_000_000, 14_000_000]
    facing = geometry.rotate(light.local_to_light[3:], [1.0, 0.0, 0.0])
    assert np.allclose(facing, [-1, 0, 0])  # towards those who come along the x axis


def test_ego_waits_while_the_pedestrian_is_in_its_lane() -> None:
    scene = load("crossing_pedestrian")
    times, motion = ego_motion(scene)
    walker = track_poses(scene, "crossing", times)
    in_lane = (walker[:, 1] > -1.5) & (walker[:, 1] < 2.0)
    front = scene.ego.poses[:, 0] + 1.3965 + 5.393 / 2
    assert in_lane.any()
    assert front[in_lane].max() < 73.5  # the stop line
    assert (np.abs(motion[in_lane, 0]) < 0.5).mean() > 0.9
    assert front[-1] > walker[-1, 0] + 10


def test_cutting_car_comes_from_the_left_and_ego_slows() -> None:
    scene = load("cut_in")
    times, motion = ego_motion(scene)
    other = track_poses(scene, "cutting_in", times)
    aside = other[:, 1] - scene.ego.poses[:, 1]
    gap = other[:, 0] - 4.6 / 2 - (scene.ego.poses[:, 0] + 1.3965 + 5.393 / 2)
    assert aside[0] == pytest.approx(3.5, abs=0.05)
    assert abs(aside[-1]) < 0.05
    entering = np.argmax(aside < 2.0)
    assert 4.0 < gap[entering] < 8.0
    assert gap[entering:].min() > 4.0
    assert motion[entering, 0] - motion[entering:, 0].min() > 3.0


def test_one_actor_of_cut_in_is_seen_for_a_part_of_the_time_only() -> None:
    scene = load("cut_in")
    index = [a.id for a in scene.actors].index("oncoming_late")
    valid = scene.recorded_actors([0, 4_999_999, 5_000_000, scene.end_us]).valid[index]
    assert valid.tolist() == [False, False, True, True]


def test_ego_turns_left_through_a_junction_of_twelve_lanes() -> None:
    scene = load("junction")
    yaw = np.unwrap(geometry.yaw_rad(scene.ego.poses))
    assert yaw[0] == pytest.approx(np.pi / 2)
    assert yaw[-1] - yaw[0] == pytest.approx(np.pi / 2, abs=1e-3)
    crossing = [lane for lane in scene.map.lanes if lane.in_intersection]
    assert len(crossing) == 12
    turn = scene.map.lane_by_id["south_to_west"]
    _, away = geometry.project_on_polyline(scene.ego.poses[:, :2], turn.centerline[:, :2])
    assert (away < 0.05).any()
    assert turn.predecessors == ("south_1_0",)
    assert turn.successors == ("west_0_0",)
    assert len(scene.map.crosswalks) == len(scene.map.stop_lines) == len(scene.map.lights) == 4


# -------------------------------------------------------------------------- synthetic


@pytest.mark.parametrize(("n", "duration_s"), [(0, 5.0), (1, 1.0), (50, 20.0), (123, 8.0)])
def test_synthetic_scene_has_moving_actors_that_meet_nobody(n: int, duration_s: float) -> None:
    scene = synthetic_scene(n, duration_s)
    assert len(scene.tracks) == n
    assert scene.end_us == duration_s * 1e6
    assert validate_scene(scene) == [] or duration_s < 3
    end = scene.recorded_actors([scene.end_us])
    assert end.valid.all()
    a, b = np.triu_indices(n, 1)
    poses, sizes = end.local_to_aabb[:, 0], scene.actor_sizes_m
    assert overlap_m(poses[a], sizes[a], poses[b], sizes[b]).max(initial=-1.0) < 0
    assert not any(actor.is_static for actor in scene.actors)


@pytest.mark.parametrize(("n", "duration_s"), [(-1, 5.0), (5, 0.0), (5, float("nan"))])
def test_impossible_synthetic_scenes_are_refused(n: int, duration_s: float) -> None:
    with pytest.raises(SceneError, match="synthetic_scene"):
        synthetic_scene(n, duration_s)


# ------------------------------------------------------------------------- wrong input


def test_a_path_is_refused() -> None:
    with pytest.raises(SceneError, match="no path") as caught:
        EmbeddedScenes("somewhere")
    assert caught.value.where == "scenes.path=somewhere"


def test_an_unknown_scene_suggests_the_nearest() -> None:
    with pytest.raises(SceneError, match="Did you mean 'junction'"):
        EmbeddedScenes().load("juntion")


# ------------------------------------------------------------------------------ paths

speeds = st.lists(st.floats(0, 30), min_size=1, max_size=5).map(
    lambda values: tuple((2.5 * k, v) for k, v in enumerate(values))
)


@given(knots=speeds)
def test_distance_is_the_integral_of_speed(knots: tuple[tuple[float, float], ...]) -> None:
    times = np.linspace(-1.0, 12.0, 2001)
    distance, speed = speed_profile(knots, times)
    summed = np.concatenate([[0], np.cumsum((speed[1:] + speed[:-1]) / 2 * np.diff(times))])
    assert np.abs(distance - distance[0] - summed).max() < 1e-3
    assert (speed >= -1e-9).all()


def test_speed_holds_its_knots_and_is_constant_beyond_them() -> None:
    _, speed = speed_profile(((1.0, 10.0), (3.0, 4.0)), np.array([-5.0, 1.0, 2.0, 3.0, 9.0]))
    assert speed.tolist() == [10.0, 10.0, 7.0, 4.0, 4.0]


def test_offset_slope_is_its_derivative() -> None:
    s = np.linspace(-5, 35, 4001)
    d, slope = offset_profile(((0.0, 0.0), (20.0, 3.5), (30.0, 1.0)), s)
    assert np.abs(np.gradient(d, s) - slope)[1:-1].max() < 1e-3
    assert offset_profile(((0.0, 0.0), (20.0, 3.5)), np.array([-1.0, 10.0, 99.0]))[0].tolist() == [
        0,
        1.75,
        3.5,
    ]


@pytest.mark.parametrize("direction", [1, -1])
def test_quarter_turn_ends_as_far_ahead_as_aside(direction: int) -> None:
    line = ReferenceLine.from_curvature(1.0, 2.0, 0.0, quarter_turn_knots(11.75, direction))
    assert np.allclose(line.xy_m[-1], [12.75, 2.0 + direction * 11.75], atol=1e-3)
    assert line.heading_rad[-1] == pytest.approx(direction * np.pi / 2)


@given(s=st.floats(-20, 120))
def test_a_reversed_line_is_the_same_curve(s: float) -> None:
    line = ReferenceLine.from_curvature(
        3.0, -1.0, 0.4, ((0.0, 0.0), (20.0, 0.02), (50.0, -0.03), (100.0, 0.0))
    )
    xy, heading, curvature = line.at(np.array([s]))
    xy_back, heading_back, curvature_back = line.reversed().at(np.array([line.length_m - s]))
    assert np.abs(xy - xy_back).max() < 1e-5
    assert abs(geometry.wrap_rad(heading - heading_back - np.pi)[0]) % (2 * np.pi) < 1e-9
    assert curvature == pytest.approx(-curvature_back)


def test_an_arc_has_its_radius() -> None:
    line = ReferenceLine.from_curvature(0.0, 0.0, 0.0, ((0.0, 0.02), (100.0, 0.02)))
    xy, _, _ = line.at(np.linspace(0, 100, 777))
    assert np.abs(np.linalg.norm(xy - [0.0, 50.0], axis=1) - 50).max() < 1e-3


def test_a_changing_lane_is_driven_with_the_nose_ahead() -> None:
    drive = Drive(straight(0.0, 0.0, 0.0, 200.0), 0.0, ((0.0, 20.0),), ((20.0, 0.0), (80.0, 3.5)))
    times = np.arange(0, 6_000_001, 10_000)
    motion = finite_difference_motion(times, drive.local_to_rig(times))
    assert np.abs(motion[1:-1, 1]).max() < 1e-3
    assert drive.local_to_rig(times)[-1, 1] == pytest.approx(3.5)
