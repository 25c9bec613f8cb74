import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.contracts import VehicleRequest
from omniloop.core.errors import PolicyError
from omniloop.core.kinematics import motion_at
from omniloop.core.motion import Trajectory
from omniloop.physics.perfect import PerfectController

STILL = np.zeros(12)


def session():
    return PerfectController().open(None)


def arc(times_us, speed_mps=8.0, radius_m=30.0, origin=geometry.IDENTITY) -> Trajectory:
    """A steady left-hand arc that leaves `origin` at time 0."""
    angle = speed_mps * np.asarray(times_us) / 1e6 / radius_m
    xyz = np.stack([radius_m * np.sin(angle), radius_m * (1 - np.cos(angle)), 0 * angle], axis=1)
    return Trajectory(
        np.asarray(times_us), geometry.compose(origin, geometry.poses_from_xyz_yaw(xyz, angle))
    )


def angle_between(a, b):
    return 2 * np.arccos(np.minimum(np.abs(np.sum(a[..., 3:] * b[..., 3:], axis=-1)), 1.0))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(20_000, 600_000), st.integers(10_000, 500_000), st.floats(0, 30), st.floats(-3, 3),
)  # fmt: skip
def test_ego_is_on_the_plan_at_every_state(period, knots, speed, yaw):
    origin = geometry.pose(100.0, -20.0, 3.0, yaw)
    plan = arc(np.arange(0, period + knots, knots), speed, 25.0, origin)
    states = session().step(VehicleRequest(0, period, origin, STILL, plan))
    assert states.times_us[-1] == period
    assert (np.diff(states.times_us, prepend=0) <= 100_000).all()
    expected = plan.sample(states.times_us)
    np.testing.assert_allclose(states.local_to_rig[:, :3], expected[:, :3], atol=1e-6)
    assert angle_between(states.local_to_rig, expected).max() < 1e-6


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.floats(-3, 3), st.floats(-50, 50))
def test_a_delayed_plan_is_relative_to_where_ego_was_when_it_was_made(delay, yaw, shift):
    """The plan is known in another frame: only its shape from its first pose on counts."""
    elsewhere = geometry.pose(shift, 2 * shift, 0.5, yaw)
    vehicle, pose = session(), geometry.pose(5.0, 1.0, 0.0, 0.3)
    truth = arc(np.arange(0, 3_000_001, 50_000), origin=pose)
    for k in range(10):
        now, made = 100_000 * k, 100_000 * max(k - delay, 0)
        seen = truth.clip(made, made + 1_500_000).transform(elsewhere)
        states = vehicle.step(VehicleRequest(now, now + 100_000, pose, STILL, seen))
        pose = states.local_to_rig[-1]
        np.testing.assert_allclose(pose[:3], truth.sample(now + 100_000)[0, :3], atol=1e-6)


def test_the_history_holds_what_was_committed_not_what_was_predicted():
    vehicle, start = session(), geometry.pose()
    plan = arc(np.arange(0, 1_000_001, 100_000))
    vehicle.step(VehicleRequest(0, 100_000, start, STILL, plan))
    lifted = plan.sample(100_000)[0] + np.array([0, 0, 2.0, 0, 0, 0, 0])  # by the ground, say
    newer = Trajectory(plan.times_us[1:], plan.poses[1:])
    states = vehicle.step(VehicleRequest(100_000, 200_000, lifted, STILL, newer))
    np.testing.assert_allclose(states.local_to_rig[-1, 2], 2.0, atol=1e-9)


def test_a_plan_older_than_the_history_is_anchored_where_the_history_begins():
    pose = geometry.pose(7.0, 7.0, 0.0, 1.0)
    plan = arc(np.arange(0, 2_000_001, 100_000))
    states = session().step(VehicleRequest(500_000, 600_000, pose, STILL, plan))
    at, target = plan.sample([500_000, 600_000])
    expected = geometry.compose(pose, geometry.compose(geometry.inverse(at), target))
    np.testing.assert_allclose(states.local_to_rig[-1], expected, atol=1e-9)


@pytest.mark.parametrize("period", [100_000, 33_333, 533_328])
def test_motion_is_that_of_the_driven_path_in_the_rig_frame(period):
    vehicle, pose = session(), geometry.pose(3.0, 2.0, 1.0, 2.0)
    truth = arc(np.arange(0, 8_000_001, 10_000), 9.0, 30.0, pose)
    for now in range(0, 10 * period, period):
        plan = truth.clip(now, min(now + 2_000_000, truth.end_us))
        states = vehicle.step(VehicleRequest(now, now + period, pose, STILL, plan))
        pose = states.local_to_rig[-1]
    assert states.dynamics[-1, 0] == pytest.approx(9.0, rel=1e-3)
    np.testing.assert_allclose(states.dynamics[-1, 1:5], 0, atol=2e-2)
    assert states.dynamics[-1, 5] == pytest.approx(0.3, rel=1e-3)
    assert states.dynamics[-1, 6] == pytest.approx(0.0, abs=1e-2)
    assert states.dynamics[-1, 7] == pytest.approx(2.7, rel=2e-2)
    np.testing.assert_allclose(states.dynamics[-1, 8:], 0, atol=5e-2)


def test_acceleration_of_a_plan_in_steps_of_100_ms_is_not_doubled():
    times = 100_000 * np.arange(30)
    x = (times / 1e6) ** 2  # 2 m/s^2
    driven = Trajectory(
        times, geometry.poses_from_xyz_yaw(np.stack([x, 0 * x, 0 * x], axis=1), 0 * x)
    )
    motion = motion_at(driven, times[5:20], 100_000).dynamics
    np.testing.assert_allclose(motion[:, 0], 2 * times[5:20] / 1e6, atol=1e-9)
    np.testing.assert_allclose(motion[:, 6], 2.0, atol=1e-9)


def test_at_the_ends_of_the_path_motion_is_one_sided_and_of_one_pose_it_is_zero():
    plan = arc([0, 100_000], 10.0)
    ends = motion_at(plan, plan.times_us, 100_000).dynamics
    np.testing.assert_allclose(ends[:, 0], 10.0, rtol=1e-3)
    np.testing.assert_array_equal(ends[:, 6:], 0.0)
    one = Trajectory(np.array([5]), geometry.pose(1.0)[None])
    np.testing.assert_array_equal(motion_at(one, np.array([5]), 100_000).dynamics, 0.0)


def test_motion_of_epoch_sized_times_is_as_good_as_of_small_ones():
    small = arc(np.arange(0, 1_000_001, 100_000))
    large = Trajectory(small.times_us + 1_700_000_000_000_000, small.poses)
    np.testing.assert_array_equal(
        motion_at(small, small.times_us, 100_000).dynamics,
        motion_at(large, large.times_us, 100_000).dynamics,
    )


def test_a_plan_that_does_not_reach_the_next_decision_names_both_times():
    plan = arc(np.arange(0, 80_001, 10_000))
    with pytest.raises(PolicyError, match=r"80000 us.*100000 us") as error:
        session().step(VehicleRequest(0, 100_000, geometry.pose(), STILL, plan))
    assert "next_decision_us" in error.value.remedy


@pytest.mark.parametrize("times", [[], [50_000, 200_000]])
def test_a_plan_that_is_empty_or_starts_too_late_is_refused(times):
    plan = Trajectory(np.array(times, dtype=np.int64), np.tile(geometry.IDENTITY, (len(times), 1)))
    with pytest.raises(PolicyError, match="plan"):
        session().step(VehicleRequest(0, 100_000, geometry.pose(), STILL, plan))


def test_standing_is_exact_but_for_rounding():
    pose = geometry.pose(3.3, 4.4, 5.5, 0.6)
    plan = Trajectory(100_000 * np.arange(5), np.tile(pose, (5, 1)))
    states = session().step(VehicleRequest(0, 250_000, pose, STILL, plan))
    np.testing.assert_allclose(states.local_to_rig, np.tile(pose, (3, 1)), atol=1e-15, rtol=0)
    np.testing.assert_allclose(states.dynamics, 0.0, atol=1e-14)
