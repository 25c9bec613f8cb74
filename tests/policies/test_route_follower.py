import dataclasses

import numpy as np
import pytest

from omniloop.core import geometry
from omniloop.core.contracts import Observation, Route
from omniloop.core.errors import PluginError
from omniloop.core.motion import EgoMotion, Trajectory
from omniloop.core.registry import create
from omniloop.core.scene import ActorClass, Scene, Vehicle
from omniloop.physics.bicycle import BicycleController
from omniloop.policies.route_follower import RouteFollowerPolicy
from omniloop.scenes.embedded import EmbeddedScenes
from tests.policies.hand_loop import bend, car, drive, session_of, straight

TIMES = 1_000_000 + 100_000 * np.arange(251)
SECONDS = (TIMES - TIMES[0]) / 1e6
FRONT_M = Vehicle().rear_axle_to_center_m + Vehicle().length_m / 2


def scene(ego: Trajectory, *tracks) -> Scene:
    return Scene("s", "test", ego, tracks=tracks)


def gap_m(driven, lead_x: float) -> np.ndarray:
    return lead_x - 2.25 - driven.ego.local_to_rig[:, 0] - FRONT_M


# -------------------------------------------------------------------------------- paths


@pytest.mark.parametrize("radius_m", [12.0, 20.0, 30.0, 60.0])
@pytest.mark.parametrize("controller", [None, BicycleController()])
def test_it_stays_on_a_bend_and_keeps_lateral_acceleration(radius_m, controller):
    driven = drive(scene(bend(8.0, 15.0, radius_m)), RouteFollowerPolicy(), controller)
    assert driven.off_route_m().max() < 0.3
    speed = driven.speed_mps[-1]
    assert speed**2 / radius_m < 2.2
    assert speed == pytest.approx(min(8.0, np.sqrt(2.0 * radius_m)), rel=0.05)
    assert driven.ego.dynamics[:, 6].min() > -4.5


def test_it_keeps_the_speed_it_had_at_handover():
    driven = drive(scene(straight(13.0, 10.0)), RouteFollowerPolicy())
    np.testing.assert_allclose(driven.speed_mps, 13.0, atol=0.05)


def test_a_slow_or_standing_ego_cruises_at_8_mps_and_a_target_speed_overrides_it():
    driven = drive(scene(straight(0.0, 25.0)), RouteFollowerPolicy())
    assert driven.speed_mps[-1] == pytest.approx(8.0, abs=0.25)
    assert driven.speed_mps.max() <= 8.0 + 1e-6
    slower = drive(scene(straight(10.0, 25.0)), RouteFollowerPolicy(target_speed_mps=5.0))
    assert slower.speed_mps[-1] == pytest.approx(5.0, abs=0.3)


def test_it_comes_back_to_its_route_from_beside_it():
    line = scene(straight(10.0, 12.0))
    policy = RouteFollowerPolicy()
    session = policy.open(session_of(line, line.start_us, line.end_us), ())
    pose, aside = geometry.pose(0.0, 1.5, 0.0, 0.1), []
    for now in range(0, 6_000_000, 100_000):
        dynamics = np.zeros((1, 12))
        dynamics[0, 0] = 10.0
        way = np.stack([pose[0] + 80 / 19 * np.arange(20), np.zeros(20), np.zeros(20)], axis=1)
        route = Route(now, geometry.transform_points(geometry.inverse(pose), way))
        ego = EgoMotion(np.array([now]), pose[None], dynamics)
        plan = session.plan(
            Observation("s/0", "s", 0, now, now + 100_000, ego, {}, route, Vehicle())
        )
        pose = plan.local_to_rig.sample(now + 100_000)[0]
        aside.append(pose[1])
    assert abs(aside[-1]) < 0.02
    assert min(aside) > -0.3
    assert np.abs(np.diff(aside, 2)).max() / 0.01 < 3.0  # lateral acceleration, m/s^2


def test_on_a_slope_it_keeps_to_the_road_and_pitches_with_it():
    flat = straight(10.0, 10.0)
    poses = flat.poses.copy()
    poses[:, 2] = 0.08 * poses[:, 0]
    half = -np.arctan(0.08) / 2
    poses[:, 3:] = [0, np.sin(half), 0, np.cos(half)]
    driven = drive(scene(Trajectory(flat.times_us, poses)), RouteFollowerPolicy())
    path = driven.ego.local_to_rig
    np.testing.assert_allclose(path[:, 2], 0.08 * path[:, 0], atol=1e-3)
    np.testing.assert_allclose(path[:, 4], np.sin(half), atol=1e-4)


def test_the_first_pose_is_egos_own_and_roll_fades_out():
    half = 0.05
    roll = np.array([0, 0, 0, np.sin(half), 0, 0, np.cos(half)])
    pose = geometry.compose(geometry.pose(3, 4, 1, 0.7), roll)
    plan = plan_once(pose, 10.0, straight_way(pose))
    np.testing.assert_array_equal(plan.poses[0], pose)
    end = plan.poses[-1]
    np.testing.assert_allclose(end[3:], geometry.pose(yaw_rad=0.7)[3:], atol=1e-6)


def test_the_same_observation_gives_the_same_plan():
    world = EmbeddedScenes().load("junction")
    first, second = (
        drive(world, RouteFollowerPolicy(), until_us=world.start_us + 6_000_000) for _ in range(2)
    )
    np.testing.assert_array_equal(first.ego.local_to_rig, second.ego.local_to_rig)


# ------------------------------------------------------------------------- other actors


@pytest.mark.parametrize("controller", [None, BicycleController()])
def test_it_stops_behind_a_standing_car_without_contact(controller):
    world = scene(straight(12.0, 25.0), car("lead", TIMES, 120.0))
    driven = drive(world, RouteFollowerPolicy(), controller)
    assert driven.contacts(world) == []
    assert driven.speed_mps[-1] < 0.05
    assert 0.8 < gap_m(driven, 120.0)[-1] < 2.5
    assert driven.ego.dynamics[:, 6].min() > -4.0


def test_it_follows_a_car_that_stops_and_sets_off_again():
    x = 40.0 + np.interp(SECONDS, [0, 4, 8, 14, 25], [0, 40, 50, 50, 150])
    world = scene(straight(10.0, 25.0), car("lead", TIMES, x))
    driven = drive(world, RouteFollowerPolicy())
    assert driven.contacts(world) == []
    assert driven.speed_mps[130:145].min() < 0.3
    assert driven.speed_mps[-1] > 5.0


def test_a_car_in_the_next_lane_does_not_slow_it_even_in_a_bend():
    ego = bend(7.0, 15.0, 40.0)
    beside = ego.shift_body(geometry.pose(12.0, -3.3, 0.8))
    world = scene(
        ego,
        car(
            "beside",
            beside.times_us,
            beside.poses[:, 0],
            beside.poses[:, 1],
            geometry.yaw_rad(beside.poses),
        ),
    )
    alone = drive(scene(ego), RouteFollowerPolicy())
    driven = drive(world, RouteFollowerPolicy())
    np.testing.assert_allclose(driven.speed_mps, alone.speed_mps, atol=1e-9)


@pytest.mark.parametrize("speed_mps", [1.5, 2.0])
@pytest.mark.parametrize("starts_s", [0.0, 1.0, 2.0, 3.0])
def test_it_lets_a_pedestrian_cross(speed_mps, starts_s):
    y = -6.0 + speed_mps * np.maximum(SECONDS - starts_s, 0)
    walker = car(
        "walker", TIMES, 45.0, y, np.pi / 2, size=(0.6, 0.6, 1.7), actor_class=ActorClass.PEDESTRIAN
    )
    world = scene(straight(10.0, 20.0), walker)
    driven = drive(world, RouteFollowerPolicy())
    assert driven.contacts(world) == []
    assert driven.speed_mps[-1] > 7.0


@pytest.mark.parametrize("meets_s", [3.0, 4.0, 5.0, 6.0])
def test_it_does_not_drive_into_a_car_that_crosses(meets_s):
    crossing = car("crossing", TIMES, 60.0, 10.0 * (SECONDS - meets_s), np.pi / 2)
    world = scene(straight(10.0, 20.0), crossing)
    driven = drive(world, RouteFollowerPolicy())
    assert driven.contacts(world) == []


def test_it_ignores_who_is_behind_beside_or_above():
    world = scene(
        straight(10.0, 15.0),
        car("behind", TIMES, -15.0 + 10.0 * SECONDS),
        car("parked", TIMES, 60.0, 2.6),
    )
    above = car("above", TIMES, 80.0)
    above.local_to_aabb[:, 2] += 6.0
    world = dataclasses.replace(world, tracks=(*world.tracks, above))
    driven = drive(world, RouteFollowerPolicy())
    np.testing.assert_allclose(driven.speed_mps, 10.0, atol=0.05)


def test_a_car_seen_for_the_first_time_does_not_make_it_brake_hard():
    lead = car("lead", TIMES, 30.0 + 10.0 * SECONDS)
    lead.valid[:20] = False
    world = scene(straight(10.0, 15.0), lead)
    driven = drive(world, RouteFollowerPolicy())
    assert driven.ego.dynamics[:, 6].min() > -1.5
    standing = car("standing", TIMES, 70.0)
    standing.valid[:20] = False
    world = scene(straight(10.0, 20.0), standing)
    driven = drive(world, RouteFollowerPolicy())
    assert driven.contacts(world) == []


@pytest.mark.parametrize("name", EmbeddedScenes().ids())
def test_it_drives_every_embedded_scene_without_contact(name):
    world = EmbeddedScenes().load(name)
    driven = drive(world, RouteFollowerPolicy())
    assert driven.contacts(world) == []
    assert driven.off_route_m().max() < 0.3
    assert geometry.arc_length_m(driven.ego.local_to_rig[:, :2])[-1] > 40.0


# ------------------------------------------------------------------------- odd requests


def straight_way(pose, count=20, spacing=80 / 19) -> np.ndarray:
    return np.stack([spacing * np.arange(count), np.zeros(count), np.zeros(count)], axis=1)


def plan_once(pose, speed_mps, waypoints, policy=None):
    policy = policy or RouteFollowerPolicy()
    session = policy.open(session_of(scene(straight(speed_mps, 2.0)), 0, 9), ())
    dynamics = np.zeros((1, 12))
    dynamics[0, 0] = speed_mps
    ego = EgoMotion(np.array([0]), pose[None], dynamics)
    route = None if waypoints is None else Route(0, waypoints)
    plan = session.plan(Observation("s/0", "s", 0, 0, 100_000, ego, {}, route, Vehicle()))
    plan_once.reasoning = plan.reasoning
    assert plan.local_to_rig.start_us == 0
    assert plan.local_to_rig.end_us >= 5_000_000
    return plan.local_to_rig


@pytest.mark.parametrize(
    ("waypoints", "why"),
    [
        (None, "no route"),
        (np.zeros((20, 3)), "no route"),
        (np.full((20, 3), np.nan), "no route"),
        (np.zeros((1, 3)), "no route"),
        (straight_way(None) * [-1, 1, 1], "lies behind"),
    ],
)
def test_without_a_usable_route_it_brakes_straight_ahead(waypoints, why):
    plan = plan_once(geometry.pose(1, 2, 0, 0.3), 10.0, waypoints)
    assert why in plan_once.reasoning
    moved = plan.poses[:, :3] - plan.poses[0, :3]
    np.testing.assert_allclose(moved @ [-np.sin(0.3), np.cos(0.3), 0], 0, atol=1e-9)
    step = np.linalg.norm(np.diff(moved, axis=0), axis=1)
    assert step[-1] == 0.0
    assert 10.0 < np.linalg.norm(moved[-1]) < 20.0


def test_padding_with_nan_and_repeated_waypoints_do_not_matter():
    pose = geometry.pose(1, 2, 0, 0.3)
    clean = plan_once(pose, 8.0, straight_way(pose, 10))
    padded = np.vstack(
        [straight_way(pose, 10), straight_way(pose, 10)[-1:], np.full((9, 3), np.nan)]
    )
    np.testing.assert_allclose(plan_once(pose, 8.0, padded).poses, clean.poses, atol=1e-9)


def test_it_stops_at_the_end_of_a_short_route():
    pose = geometry.pose()
    plan = plan_once(pose, 6.0, straight_way(pose, 6))
    assert plan.poses[-1, 0] <= 4 * 80 / 19 + 0.5
    assert plan.poses[-1, 0] > 10.0


def test_a_fast_plan_does_not_end_with_its_route():
    plan = plan_once(geometry.pose(), 33.0, straight_way(None))
    np.testing.assert_allclose(plan.poses[:, 0], 33.0 * plan.times_us / 1e6, atol=0.1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("horizon_s", 0.0),
        ("target_speed_mps", -1.0),
        ("headway_s", float("nan")),
        ("min_gap_m", 0.0),
    ],
)
def test_impossible_settings_are_refused_by_name(key, value):
    with pytest.raises(PluginError, match=key):
        create("policy", "route_follower", {key: value})
