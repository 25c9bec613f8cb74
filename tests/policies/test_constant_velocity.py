import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.contracts import Observation
from omniloop.core.errors import PluginError
from omniloop.core.motion import EgoMotion
from omniloop.core.registry import create
from omniloop.core.scene import Scene, Vehicle
from omniloop.policies.constant_velocity import ConstantVelocityPolicy
from tests.policies.hand_loop import bend, drive, straight


def observe(pose, speed_mps, yaw_rate=0.0, time_us=7) -> Observation:
    dynamics = np.zeros((1, 12))
    dynamics[0, [0, 5]] = speed_mps, yaw_rate
    ego = EgoMotion(np.array([time_us]), pose[None], dynamics)
    return Observation("s/0", "s", 0, time_us, time_us + 100_000, ego, {}, None, Vehicle())


@given(st.floats(-3, 3), st.floats(0, 40), st.floats(-1, 1), st.floats(-0.3, 0.3))
def test_it_keeps_speed_and_heading_whatever_the_yaw_rate(yaw, speed, yaw_rate, pitch):
    tilt = np.array([0, 0, 0, 0, np.sin(pitch / 2), 0, np.cos(pitch / 2)])
    pose = geometry.compose(geometry.pose(5.0, -2.0, 1.0, yaw), tilt)
    plan = ConstantVelocityPolicy().plan(observe(pose, speed, yaw_rate)).local_to_rig
    assert plan.start_us == 7
    assert plan.end_us == 7 + 5_000_000
    np.testing.assert_array_equal(plan.poses[0], pose)
    np.testing.assert_array_equal(plan.poses[:, 3:], np.tile(pose[3:], (len(plan), 1)))
    in_rig = geometry.transform_points(geometry.inverse(pose), plan.poses[:, :3])
    np.testing.assert_allclose(in_rig[:, 0], speed * (plan.times_us - 7) / 1e6, atol=1e-9)
    np.testing.assert_allclose(in_rig[:, 1:], 0, atol=1e-9)


def test_it_declares_neither_privileges_nor_needs():
    spec = ConstantVelocityPolicy(horizon_s=2.05).spec
    assert spec.privileged == frozenset()
    assert spec.route is False
    assert spec.cameras == ()
    assert spec.horizon_s == 2.05


def test_a_horizon_that_is_no_multiple_of_the_step_is_reached_exactly():
    plan = ConstantVelocityPolicy(horizon_s=2.05).plan(observe(geometry.pose(), 1.0)).local_to_rig
    assert plan.times_us[-2:].tolist() == [7 + 2_000_000, 7 + 2_050_000]


def test_in_a_bend_it_leaves_along_the_tangent():
    scene = Scene("s", "test", bend(10.0, 6.0, 30.0, straight_m=10.0))
    driven = drive(scene, ConstantVelocityPolicy(), handover_us=scene.start_us + 2_000_000)
    after = driven.ego.times_us >= scene.start_us + 2_000_000
    np.testing.assert_allclose(driven.speed_mps[after][1:], 10.0, rtol=5e-3)
    assert driven.off_route_m()[-1] > 10.0
    still = drive(Scene("s", "test", straight(0.0, 4.0)), ConstantVelocityPolicy())
    np.testing.assert_array_equal(still.ego.local_to_rig, np.tile(geometry.IDENTITY, (41, 1)))


@pytest.mark.parametrize("horizon_s", [0.0, -1.0, 1e9, float("nan")])
def test_an_impossible_horizon_is_refused(horizon_s):
    with pytest.raises(PluginError, match="horizon_s"):
        create("policy", "constant_velocity", {"horizon_s": horizon_s})
