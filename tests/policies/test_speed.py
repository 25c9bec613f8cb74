"""Speed profiles: by hand where a formula says what comes out."""

import numpy as np
import pytest

from omniloop.core import geometry
from omniloop.core.motion import ActorMotion
from omniloop.core.scene import Vehicle
from omniloop.policies.idm import SpeedSettings, allowed_speeds, progress
from omniloop.policies.leads import NO_OBSTACLES, Obstacles, actor_velocities, find_obstacles
from omniloop.policies.smooth_path import smooth_path

NONE = np.zeros(0)
SETTINGS = SpeedSettings()
WAY = np.stack([80 / 19 * np.arange(20), np.zeros(20), np.zeros(20)], axis=1)
STRAIGHT = smooth_path(WAY, np.zeros(3), np.array([1.0, 0, 0]), 8.0)
FRONT_M = Vehicle().rear_axle_to_center_m + Vehicle().length_m / 2


def run(speed, cruise, obstacles=NO_OBSTACLES, stop_m=np.inf, count=50, step_s=0.1):
    allowed = allowed_speeds(STRAIGHT, cruise, stop_m, SETTINGS)
    return progress(STRAIGHT, allowed, obstacles, speed, cruise, step_s, count, SETTINGS)


def ahead(rear_m, speed_mps=0.0, until_s=np.inf):
    return Obstacles(np.array([rear_m]), np.array([speed_mps]), np.array([until_s]), NONE, NONE)


def crossing(wait_m, wait_s):
    return Obstacles(NONE, NONE, NONE, np.array([wait_m]), np.array([wait_s]))


def motion_of(times, xyz_yaw, valid=None) -> ActorMotion:
    poses = np.stack(
        [geometry.poses_from_xyz_yaw(np.array(row)[:, :3], np.array(row)[:, 3]) for row in xyz_yaw]
    )
    valid = np.ones(poses.shape[:2], dtype=bool) if valid is None else np.array(valid)
    return ActorMotion(np.array(times), poses, valid)


def test_at_its_cruise_speed_it_stays_there():
    np.testing.assert_allclose(run(12.0, 12.0), 1.2 * np.arange(51), atol=1e-9)
    assert len(run(12.0, 12.0, count=7)) == 8


def test_it_speeds_up_as_idm_says():
    s = run(0.0, 10.0)
    # a (1 - (v / v0)^4) with a = 1 is 1 m/s^2 for long from standing.
    assert s[10] == pytest.approx(0.5, rel=0.01)
    assert np.diff(s).max() / 0.1 < 5.0


def test_the_gap_it_settles_at_is_that_of_idm():
    speed, cruise = 10.0, 20.0
    gap = (SETTINGS.min_gap_m + speed * SETTINGS.headway_s) / np.sqrt(1 - (speed / cruise) ** 4)
    s = run(speed, cruise, ahead(gap, speed))
    np.testing.assert_allclose(s, 1.0 * np.arange(51), atol=1e-6)
    assert run(speed, cruise, ahead(gap - 3, speed))[-1] < s[-1] - 0.5
    assert run(speed, cruise, ahead(gap + 3, speed))[-1] > s[-1] + 0.5


def test_it_brakes_with_8_mps2_at_most_and_less_behind_someone_faster():
    s = run(15.0, 15.0, ahead(4.0))
    speed = np.diff(s)[::2] / 0.1
    assert np.diff(speed[speed > 2.0]).min() == pytest.approx(-8.0 * 0.2, rel=1e-3)
    # One that cuts in 1 m ahead and is 3 m/s faster: IDM's gap of 11 m would ask for all.
    s = run(15.0, 15.0, ahead(1.0, 18.0))
    assert s[2] == pytest.approx(15.0 * 0.2 - 0.5 * SETTINGS.comfortable_brake_mps2 * 0.04)
    assert run(15.0, 15.0, ahead(1.0, 15.5))[2] == pytest.approx(15.0 * 0.2 - 0.5 * 8.0 * 0.04)


def test_who_leaves_is_forgotten_when_gone():
    assert (
        run(10.0, 10.0, ahead(40.0, 0.0, until_s=1.0))[-1] > run(10.0, 10.0, ahead(40.0))[-1] + 5.0
    )


def test_curves_ahead_limit_the_speed_from_afar():
    angle = np.maximum(80 / 19 * np.arange(20) - 40, 0) / 12.0
    way = np.stack(
        [np.minimum(WAY[:, 0], 40) + 12 * np.sin(angle), 12 * (1 - np.cos(angle)), 0 * angle],
        axis=1,
    )
    path = smooth_path(way, np.zeros(3), np.array([1.0, 0, 0]), 8.0)
    allowed = allowed_speeds(path, 25.0, np.inf, SETTINGS)
    at = np.interp([0.0, 60.0], path.s_m, allowed)
    assert at[1] == pytest.approx(np.sqrt(2.0 * 12.0), rel=0.05)
    brake = -np.diff(allowed[:-1] ** 2) / (2 * np.diff(path.s_m[:-1]))
    assert brake.max() < SETTINGS.comfortable_brake_mps2 + 1e-6
    assert at[0] == pytest.approx(np.sqrt(24.0 + 2 * 3.0 * 40.0), rel=0.1)


def test_it_stands_at_its_stop():
    s = run(8.0, 8.0, stop_m=20.0, count=80)
    assert s[-1] == pytest.approx(20.0, abs=0.7)
    assert s[-1] - s[-5] < 0.05


@pytest.mark.parametrize(
    ("speed", "wait_m", "wait_s", "brake"),
    [
        (10.0, 50.0, 3.0, 0.0),  # it comes there later anyway
        (10.0, 21.5, 3.0, 2 * (30.0 - 20.0) / 9.0),  # come later: v T - a T^2 / 2 = 20 m
        (10.0, 11.5, 30.0, 100.0 / 20.0),  # stop: v^2 / (2 a) = 10 m
    ],
)
def test_waiting_brakes_as_little_as_it_must(speed, wait_m, wait_s, brake):
    braking = crossing(wait_m, wait_s).braking(np.array([0.0, wait_s]), speed, 1.5)
    np.testing.assert_allclose(braking, [-brake, np.inf])


# ------------------------------------------------------------------------------ obstacles


def find(motion, speed=10.0, size=(4.5, 1.9, 1.6), mobile=True):
    n = len(motion.valid)
    return find_obstacles(
        STRAIGHT, speed, Vehicle(), motion, np.tile(size, (n, 1)), np.full(n, mobile)
    )


def test_velocities_are_differences_over_200_ms_or_the_last_step():
    rows = [
        [[k, 0, 0, 0] for k in range(4)],
        [[0, 2 * k, 0, 0] for k in range(4)],
        [[k, k, 0, 0] for k in range(4)],
    ]
    valid = [[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 1]]
    motion = motion_of([0, 100_000, 200_000, 300_000], rows, np.array(valid, dtype=bool))
    velocity, known = actor_velocities(motion)
    np.testing.assert_array_equal(known, [True, True, True])
    np.testing.assert_allclose(velocity, [[10, 0], [0, 20], [10, 10]])
    once = ActorMotion(motion.times_us[-1:], motion.local_to_aabb[:, -1:], motion.valid[:, -1:])
    assert not actor_velocities(once)[1].any()


def test_a_leads_gap_is_from_bumper_to_bumper():
    lead = motion_of([0, 200_000], [[[28, 0.3, 0.8, 0], [30, 0.3, 0.8, 0]]])
    found = find(lead)
    assert found.rear_m.min() == pytest.approx(30 - 2.25 - FRONT_M, abs=1e-6)
    np.testing.assert_allclose(found.speed_mps, 10.0)
    assert len(found.wait_m) == 0


@pytest.mark.parametrize(
    ("y", "there"), [(0.0, True), (2.2, True), (2.5, False), (-2.2, True), (-2.5, False)]
)
def test_who_stands_in_the_corridor_is_in_the_way(y, there):
    found = find(motion_of([0, 200_000], [[[30, y, 0.8, 0]] * 2]))
    assert (len(found.rear_m) > 0) == there
    assert len(found.wait_m) == 0


def test_who_crosses_now_is_waited_for_and_who_crosses_long_before_is_not():
    soon = find(
        motion_of([0, 200_000], [[[30, -11, 0.8, np.pi / 2], [30, -10, 0.8, np.pi / 2]]]),
        speed=10.0,
    )
    assert len(soon.wait_m) == 1
    assert 20.0 < soon.wait_m[0] < 30.0
    assert soon.wait_s[0] > 2.0
    gone = find(
        motion_of([0, 200_000], [[[75, -4, 0.8, np.pi / 2], [75, -3, 0.8, np.pi / 2]]]), speed=5.0
    )
    assert len(gone.wait_m) == 0
    assert len(gone.rear_m) == 0


def test_who_merges_ahead_is_followed_and_who_would_merge_behind_is_not():
    def merging(x, speed_mps):
        way = [[x - 0.2 * speed_mps, 3.2, 0.8, 0], [x, 3.0, 0.8, 0]]
        return find(motion_of([0, 200_000], [way]), speed=10.0)

    found = merging(25.0, 8.0)
    np.testing.assert_allclose(found.speed_mps, 8.0)
    assert found.rear_m.min() == pytest.approx(25.0 - 2.25 - FRONT_M, abs=1e-6)
    assert len(merging(3.0, 8.0).rear_m) == 0


def test_in_a_bend_egos_front_swings_out():
    radius = 12.0
    angle = 80 / 19 * np.arange(20) / radius
    way = np.stack([radius * np.sin(angle), radius * (1 - np.cos(angle)), 0 * angle], axis=1)
    path = smooth_path(way, np.zeros(3), np.array([1.0, 0, 0]), 8.0)
    half = Vehicle().width_m / 2 + 0.25
    for side, there in ((1, True), (-1, False)):
        away = radius + side * (half + 0.3 + 0.4)
        cone = [away * np.sin(1.0), radius - away * np.cos(1.0), 0.4, 1.0]
        motion = motion_of([0, 200_000], [[cone, cone]])
        found = find_obstacles(
            path, 4.0, Vehicle(), motion, np.array([[0.6, 0.6, 0.8]]), np.array([False])
        )
        assert (len(found.rear_m) > 0) == there


def test_a_new_actor_is_taken_to_move_along_if_it_is_a_vehicle():
    valid = np.array([[False, True]])
    motion = motion_of([0, 200_000], [[[0, 0, 0, 0], [30, 0, 0.8, 0]]], valid)
    np.testing.assert_allclose(find(motion, speed=9.0).speed_mps, 9.0)
    np.testing.assert_allclose(find(motion, speed=9.0, mobile=False).speed_mps, 0.0)


def test_a_long_bus_in_the_next_lane_of_a_bend_is_beside_and_not_ahead():
    radius = 25.0
    angle = 80 / 19 * np.arange(20) / radius
    way = np.stack([radius * np.sin(angle), radius * (1 - np.cos(angle)), 0 * angle], axis=1)
    path = smooth_path(way, np.zeros(3), np.array([1.0, 0, 0]), 8.0)
    outer = radius + 3.9
    bus = [outer * np.sin(0.8), radius - outer * np.cos(0.8), 1.5, 0.8]
    motion = motion_of([0, 200_000], [[bus, bus]])
    found = find_obstacles(
        path, 8.0, Vehicle(), motion, np.array([[12.0, 2.5, 3.0]]), np.array([True])
    )
    assert len(found.rear_m) == 0
    inside = motion_of(
        [0, 200_000], [[[radius * np.sin(0.8), radius * (1 - np.cos(0.8)), 1.5, 0.8]] * 2]
    )
    found = find_obstacles(
        path, 8.0, Vehicle(), inside, np.array([[12.0, 2.5, 3.0]]), np.array([True])
    )
    assert found.rear_m.min() == pytest.approx(radius * 0.8 - 6.0 - FRONT_M, abs=0.4)
