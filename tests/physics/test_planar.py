"""What all controllers that drive a vehicle have in common."""

import numpy as np
import pytest

from omniloop.bench.tracking_paths import open_session
from omniloop.core import geometry
from omniloop.core.contracts import VehicleRequest
from omniloop.core.errors import PolicyError
from omniloop.core.motion import Trajectory
from omniloop.core.registry import create
from omniloop.physics.preview import Preview, unwrapped

CASES = [(n, m) for n in ("bicycle", "lqr", "mpc") for m in ("kinematic", "dynamic")]
each = pytest.mark.parametrize(("name", "model"), CASES)


def opened(name, model, **settings):
    return open_session(create("controller", name, {"vehicle_model": model, **settings}))


def straight(now_us=0, speed=10.0, slope=0.0, tilt=None, seconds=4.0):
    times = now_us + 100_000 * np.arange(round(10 * seconds) + 1)
    x = speed * times / 1e6
    poses = geometry.poses_from_xyz_yaw(np.stack([x, 0 * x, slope * x], axis=1), 0 * x)
    if tilt is not None:
        poses[:, 3:] = tilt
    return Trajectory(times, poses)


def forward(speed):
    motion = np.zeros(12)
    motion[0] = speed
    return motion


@each
def test_height_and_tilt_are_the_plans_and_the_ground_may_lift_ego(name, model):
    half = -np.arctan(0.1) / 2
    tilt = np.array([0, np.sin(half), 0, np.cos(half)])
    plan = straight(slope=0.1, tilt=tilt)
    session = opened(name, model)
    first = session.step(VehicleRequest(0, 100_000, plan.poses[0], forward(10.0), plan))
    lifted = first.local_to_rig[-1] + np.array([0, 0, 0.4, 0, 0, 0, 0])
    states = session.step(VehicleRequest(100_000, 500_000, lifted, forward(10.0), plan))
    np.testing.assert_allclose(
        states.local_to_rig[:, 2], 0.4 + 0.1 * states.local_to_rig[:, 0], atol=0.01
    )
    np.testing.assert_allclose(states.local_to_rig[:, 3:], np.tile(tilt, (4, 1)), atol=1e-6)


@each
def test_a_delayed_plan_is_anchored_where_ego_was(name, model):
    elsewhere = geometry.pose(50.0, -9.0, 0.0, 1.0)
    session, pose, motion = opened(name, model), geometry.IDENTITY, forward(10.0)
    for k in range(30):
        now_us = 100_000 * k
        plan = straight(100_000 * max(k - 2, 0)).transform(elsewhere)
        states = session.step(VehicleRequest(now_us, now_us + 100_000, pose, motion, plan))
        pose, motion = states.local_to_rig[-1], states.dynamics[-1]
    np.testing.assert_allclose(pose[:3], [30.0, 0.0, 0.0], atol=0.3)


@each
def test_motion_is_egos_own_unless_it_is_coerced(name, model):
    plan, session = straight(), opened(name, model)
    first = session.step(VehicleRequest(0, 10_000, plan.poses[0], forward(10.0), plan))
    kept = session.step(VehicleRequest(10_000, 20_000, first.local_to_rig[-1], forward(3.0), plan))
    assert kept.dynamics[-1, 0] == pytest.approx(10.0, abs=0.1)
    turning = forward(3.0)
    turning[5] = 0.4
    coerced = session.step(
        VehicleRequest(20_000, 30_000, kept.local_to_rig[-1], turning, plan, coerce=True)
    )
    assert coerced.dynamics[-1, 0] == pytest.approx(3.0, abs=0.2)
    assert coerced.dynamics[-1, 5] == pytest.approx(0.4, abs=0.1)


@each
def test_a_pose_that_was_moved_from_outside_is_where_ego_goes_on(name, model):
    plan, session = straight(), opened(name, model)
    states = session.step(VehicleRequest(0, 100_000, plan.poses[0], forward(10.0), plan))
    moved = states.local_to_rig[-1] + np.array([0, 0.7, 0, 0, 0, 0, 0])
    after = session.step(VehicleRequest(100_000, 200_000, moved, forward(10.0), plan))
    assert after.local_to_rig[-1, 1] == pytest.approx(0.7, abs=0.1)


@each
def test_standing_is_exact_even_with_a_noisy_plan(name, model):
    rng = np.random.default_rng(0)
    pose = geometry.compose(
        geometry.pose(3, 4, 5, 0.7), np.array([0, 0, 0, 0.02, 0.03, 0, 0.99935])
    )
    session, motion = opened(name, model), np.zeros(12)
    for now_us in range(0, 2_000_000, 100_000):
        poses = np.tile(pose, (40, 1))
        poses[1:, :2] += rng.normal(0, 0.005, (39, 2))
        plan = Trajectory(now_us + 100_000 * np.arange(40), poses)
        states = session.step(VehicleRequest(now_us, now_us + 100_000, pose, motion, plan))
        np.testing.assert_array_equal(states.local_to_rig, pose[None])
        np.testing.assert_array_equal(states.dynamics, 0.0)


@each
def test_a_plan_that_goes_back_stops_ego_which_does_not_reverse(name, model):
    session, pose, motion, places = opened(name, model), geometry.IDENTITY, forward(5.0), []
    for now_us in range(0, 5_000_000, 100_000):
        back = straight(now_us, -2.0)
        poses = back.poses.copy()
        poses[0] = pose
        request = VehicleRequest(
            now_us, now_us + 100_000, pose, motion, Trajectory(back.times_us, poses)
        )
        states = session.step(request)
        pose, motion = states.local_to_rig[-1], states.dynamics[-1]
        places.append(pose[0])
    assert motion[0] == 0.0
    assert (np.diff(places) >= -1e-9).all()
    assert 0.0 < places[-1] < 8.0


@each
def test_a_plan_that_ends_too_early_is_refused(name, model):
    plan = Trajectory(np.array([0, 50_000]), np.tile(geometry.IDENTITY, (2, 1)))
    with pytest.raises(PolicyError, match="100000 us"):
        opened(name, model).step(VehicleRequest(0, 100_000, geometry.IDENTITY, np.zeros(12), plan))


def test_a_preview_goes_on_straight_at_the_plans_last_speed_and_turns_without_jumps():
    plan = straight(seconds=1.0)
    ahead = Preview(plan, 500_000, 200_000, 10, last_mps=10.0)
    np.testing.assert_allclose(ahead.x_m, 5.0 + np.arange(12))
    assert ahead.sure == 0
    assert Preview(plan, 0, 100_000, 5, 10.0).sure == 1
    np.testing.assert_allclose(Preview(plan, 0, 100_000, 20, -3.0).x_m[-5:], 10.0)
    around = np.linspace(3.0, 9.0, 30)
    wrapped = np.angle(np.exp(1j * around))
    np.testing.assert_allclose(unwrapped(wrapped) - wrapped[0], around - around[0], atol=1e-12)


def test_sparse_plans_say_nothing_of_the_path_before_their_second_pose():
    plan = Trajectory(np.array([0, 450_000, 900_000]), np.tile(geometry.IDENTITY, (3, 1)))
    assert Preview(plan, 0, 100_000, 5, 0.0).sure == 5
    assert Preview(plan, 100_000, 100_000, 5, 0.0).sure == 4
    assert Preview(plan, 450_000, 100_000, 5, 0.0).sure == 0
    two = Trajectory(np.array([0, 450_000]), np.tile(geometry.IDENTITY, (2, 1)))
    assert Preview(two, 0, 100_000, 5, 0.0).sure == 0
