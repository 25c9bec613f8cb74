import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.contracts import Observation, VehicleRequest
from omniloop.core.errors import PluginError, PolicyError
from omniloop.core.motion import EgoMotion, Trajectory
from omniloop.core.registry import create
from omniloop.core.scene import Scene, Vehicle
from omniloop.physics.bicycle import BicycleController
from omniloop.physics.perfect import PerfectSession
from omniloop.policies.log_replay import LogReplayPolicy
from tests.policies.hand_loop import bend, drive


def wild_recording(seed: int, rate_hz: float, duration_s: float = 12.0) -> Trajectory:
    """Irregular times, a curvy path, slopes and tilt."""
    rng = np.random.default_rng(seed)
    step = rng.uniform(0.5, 1.5, int(duration_s * rate_hz)) * 1e6 / rate_hz
    times = 1_700_000_000_000_000 + np.cumsum(np.round(step)).astype(np.int64)
    t = (times - times[0]) / 1e6
    yaw = 0.5 * np.sin(t / 2)
    xyz = np.stack([9 * t, 4 * np.sin(t / 3), 0.3 * np.sin(t)], axis=1)
    poses = geometry.poses_from_xyz_yaw(xyz, yaw)
    tilt = geometry.poses_from_xyz_yaw(np.zeros_like(xyz), 0 * t)
    tilt[:, 3], tilt[:, 6] = np.sin(0.02 * np.sin(t)), np.cos(0.02 * np.sin(t))
    return Trajectory(times, geometry.compose(poses, tilt))


def observe(recording, time_us, period_us=100_000, pose=None) -> Observation:
    pose = recording.sample(time_us)[0] if pose is None else pose
    ego = EgoMotion(np.array([time_us]), pose[None], np.zeros((1, 12)))
    return Observation(
        "s/0", "s", 0, time_us, time_us + period_us, ego, {}, None, Vehicle(), recording=recording
    )


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 99), st.sampled_from([10.0, 25.0, 170.0]),
    st.sampled_from([100_000, 266_664, 533_328, 70_001]), st.integers(0, 3),
)  # fmt: skip
def test_perfect_tracking_reproduces_the_recording_even_when_plans_are_late(
    seed, rate, period, late
):
    recording = wild_recording(seed, rate)
    policy, vehicle = LogReplayPolicy(), PerfectSession()
    now = recording.start_us + 123_457
    pose, plans = recording.sample(now)[0], []
    for _ in range(8):
        plans.append(policy.plan(observe(recording, now, period, pose)).local_to_rig)
        in_force = plans[max(len(plans) - 1 - late, 0)]
        states = vehicle.step(VehicleRequest(now, now + period, pose, np.zeros(12), in_force))
        expected = recording.sample(states.times_us)
        np.testing.assert_allclose(states.local_to_rig, expected, atol=1e-9, rtol=0)
        now, pose = now + period, states.local_to_rig[-1]


def test_the_plan_starts_at_ego_itself_and_returns_to_the_recording():
    recording = wild_recording(1, 10.0)
    aside = geometry.pose(-3.0, 8.0, 1.0, 2.0)
    plan = LogReplayPolicy().plan(observe(recording, recording.start_us + 50_000, pose=aside))
    poses = plan.local_to_rig
    np.testing.assert_array_equal(poses.poses[0], aside)
    np.testing.assert_array_equal(poses.poses[1:], recording.sample(poses.times_us[1:]))
    assert poses.end_us - poses.start_us == 5_000_000


def test_beyond_the_recording_it_goes_on_at_the_last_velocity():
    recording = Trajectory(
        100_000 * np.arange(31),
        geometry.poses_from_xyz_yaw(np.arange(31)[:, None] * [[0.5, 0.2, 0.1]], 0.4),
    )
    plan = LogReplayPolicy(horizon_s=2.0).plan(observe(recording, 2_500_000)).local_to_rig
    t = plan.times_us / 1e5
    np.testing.assert_allclose(plan.poses[:, :3], t[:, None] * [[0.5, 0.2, 0.1]], atol=1e-9)
    np.testing.assert_allclose(geometry.yaw_rad(plan.poses), 0.4)
    one = Trajectory(np.array([0]), geometry.pose(1.0)[None])
    held = LogReplayPolicy(horizon_s=1.0).plan(observe(one, 0)).local_to_rig
    np.testing.assert_array_equal(held.poses, np.tile(geometry.pose(1.0), (len(held), 1)))


@pytest.mark.parametrize("recording", [None, Trajectory(np.array([500]), geometry.pose()[None])])
def test_without_a_recording_at_the_decision_it_says_so(recording):
    ego = EgoMotion(np.array([0]), geometry.pose()[None], np.zeros((1, 12)))
    observation = Observation("s/0", "s", 0, 0, 1, ego, {}, None, Vehicle(), recording=recording)
    with pytest.raises(PolicyError, match="no recording at 0 us"):
        LogReplayPolicy().plan(observation)


def test_it_is_marked_as_privileged_and_checks_its_horizon():
    assert create("policy", "log_replay", {}).spec.privileged == {"recording"}
    with pytest.raises(PluginError, match="horizon_s"):
        create("policy", "log_replay", {"horizon_s": 0.0})


def test_with_the_bicycle_it_stays_within_decimetres():
    scene = Scene("s", "test", bend(8.0, 12.0, 25.0))
    driven = drive(scene, LogReplayPolicy(), BicycleController())
    gap = driven.ego.local_to_rig[:, :2] - scene.ego.sample(driven.ego.times_us)[:, :2]
    assert np.linalg.norm(gap, axis=1).max() < 0.3
