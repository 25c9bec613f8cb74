import numpy as np
import pytest

from omniloop.core import geometry
from omniloop.core.contracts import SessionInfo, VehicleRequest
from omniloop.core.errors import ConfigError, OmniloopError, PolicyError
from omniloop.core.motion import Trajectory
from omniloop.core.registry import create
from omniloop.core.scene import Scene, Vehicle
from omniloop.physics.bicycle import BicycleController

EGO = Trajectory(np.array([0, 1]), np.tile(geometry.IDENTITY, (2, 1)))
SCENE = Scene("s", "test", EGO)


def open_session(**settings):
    return BicycleController(**settings).open(SessionInfo("s/0", SCENE, 0, Vehicle(), 0, 0, 1))


def circle(radius_m: float, speed_mps: float, straight_m: float = 20.0):
    def at(t):
        s = speed_mps * np.asarray(t)
        angle = np.maximum(s - straight_m, 0) / radius_m
        x = np.minimum(s, straight_m) + radius_m * np.sin(angle)
        xyz = np.stack([x, radius_m * (1 - np.cos(angle)), 0 * s], axis=1)
        return geometry.poses_from_xyz_yaw(xyz, angle)

    return at


def along_x(x_of_t, z_per_m: float = 0.0):
    def at(t):
        x = x_of_t(np.asarray(t, dtype=np.float64))
        return geometry.poses_from_xyz_yaw(np.stack([x, 0 * x, z_per_m * x], axis=1), 0 * x)

    return at


def stopping(speed_mps: float, brake_mps2: float):
    def x(t):
        t = np.minimum(t, speed_mps / brake_mps2)
        return speed_mps * t - brake_mps2 * t * t / 2

    return along_x(x)


def drive(at, duration_s, speed_mps, period_us=100_000, start=None, step_us=100_000, **settings):
    """Track plans that are cut from one reference, each starting at ego's own pose."""
    session = open_session(**settings)
    pose = at(np.array([0.0]))[0] if start is None else start
    dynamics = np.zeros(12)
    dynamics[0] = speed_mps
    times, poses, motion = [0.0], [pose], [dynamics]
    for now in range(0, round(duration_s * 1e6), period_us):
        plan_us = now + np.arange(0, 5_000_001, step_us)
        plan = at(plan_us / 1e6)
        plan[0] = poses[-1]
        request = VehicleRequest(
            now, now + period_us, poses[-1], motion[-1], Trajectory(plan_us, plan)
        )
        states = session.step(request)
        assert states.times_us[-1] == now + period_us
        assert (np.diff(states.times_us, prepend=now) <= 100_000).all()
        times += list(states.times_us / 1e6)
        poses += list(states.local_to_rig)
        motion += list(states.dynamics)
    return np.array(times), np.array(poses), np.array(motion)


@pytest.mark.parametrize("lateral_mps2", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("period_us", [100_000, 266_664, 533_328])
def test_it_tracks_a_circle_of_30_m(lateral_mps2, period_us):
    speed = np.sqrt(30.0 * lateral_mps2)
    at = circle(30.0, speed)
    times, poses, motion = drive(at, 12.0, speed, period_us)
    assert np.linalg.norm(poses[:, :2] - at(times)[:, :2], axis=1).max() < 0.3
    steady = times > 20.0 / speed + 2.0
    np.testing.assert_allclose(motion[steady, 5], speed / 30.0, rtol=0.03)
    np.testing.assert_allclose(motion[steady, 7], lateral_mps2, rtol=0.06)


def test_sparse_plans_are_tracked_too():
    at = circle(40.0, 8.0)
    times, poses, _ = drive(at, 10.0, 8.0, step_us=500_000)
    assert np.linalg.norm(poses[:, :2] - at(times)[:, :2], axis=1).max() < 0.5


@pytest.mark.parametrize(
    ("speed_mps", "brake_mps2"), [(3.0, 1.0), (10.0, 2.0), (10.0, 4.0), (15.0, 6.0)]
)
def test_it_stops_where_the_plan_stops_and_never_goes_back(speed_mps, brake_mps2):
    at = stopping(speed_mps, brake_mps2)
    _, poses, motion = drive(at, speed_mps / brake_mps2 + 5.0, speed_mps)
    assert abs(poses[-1, 0] - at(np.array([99.0]))[0, 0]) < 0.3
    np.testing.assert_array_equal(motion[-1], 0.0)
    np.testing.assert_array_equal(poses[-1], poses[-5])
    assert (np.diff(poses[:, 0]) >= 0).all()
    assert (motion[:, 0] >= 0).all()


def test_it_tracks_an_acceleration_from_standing():
    at = along_x(lambda t: t * t)
    times, poses, motion = drive(at, 6.0, 0.0)
    assert np.abs(poses[:, 0] - at(times)[:, 0]).max() < 0.2
    assert motion[-1, 0] == pytest.approx(12.0, rel=0.02)
    assert motion[-1, 6] == pytest.approx(2.0, rel=0.05)


def test_standing_is_exact_even_with_a_noisy_plan():
    rng = np.random.default_rng(0)
    pose = geometry.compose(
        geometry.pose(3, 4, 5, 0.7), np.array([0, 0, 0, 0.02, 0.03, 0, 0.99935])
    )

    def at(t):
        noise = np.zeros((len(t), 7))
        noise[:, :2] = rng.normal(0, 0.005, (len(t), 2))
        return pose + noise

    _, poses, motion = drive(at, 4.0, 0.0, start=pose)
    np.testing.assert_array_equal(poses, np.tile(pose, (len(poses), 1)))
    np.testing.assert_array_equal(motion[1:], 0.0)


def test_it_does_not_reverse_after_a_plan_that_does():
    _, poses, motion = drive(along_x(lambda t: -2.0 * t), 4.0, 0.0)
    np.testing.assert_array_equal(poses, np.tile(geometry.IDENTITY, (len(poses), 1)))
    _, poses, motion = drive(along_x(lambda t: -2.0 * t), 4.0, 5.0)
    assert motion[-1, 0] == 0.0
    assert 0 < poses[-1, 0] < 4.0


def test_it_comes_back_from_beside_the_plan():
    _, poses, _ = drive(
        along_x(lambda t: 10 * t), 8.0, 10.0, start=geometry.pose(0.0, 1.0, 0.0, 0.1)
    )
    assert abs(poses[-1, 1]) < 0.05
    assert poses[:, 1].min() > -0.3


def test_height_and_tilt_are_the_plans_at_egos_place():
    half = -np.arctan(0.1) / 2

    def at(t):
        poses = along_x(lambda t: 10 * t, 0.1)(t)
        poses[:, 3:] = [0, np.sin(half), 0, np.cos(half)]
        return poses

    _, poses, _ = drive(at, 5.0, 10.0)
    np.testing.assert_allclose(poses[:, 2], 0.1 * poses[:, 0], atol=0.02)
    np.testing.assert_allclose(poses[:, 3:], np.tile(at([0.0])[0, 3:], (len(poses), 1)), atol=1e-6)


def test_steering_and_acceleration_keep_their_limits_and_lags():
    vehicle = {
        "max_steer_rad": 0.2,
        "max_accel_mps2": 1.0,
        "max_decel_mps2": 2.0,
        "wheelbase_m": 3.0,
    }
    _, _, motion = drive(circle(5.0, 4.0, 5.0), 4.0, 4.0, vehicle=vehicle)
    assert (np.abs(motion[:, 5]) <= motion[:, 0] * np.tan(0.2) / 3.0 + 1e-9).all()
    _, _, motion = drive(along_x(lambda t: 3 * t * t), 4.0, 0.0, vehicle=vehicle)
    assert 0.95 < motion[:, 6].max() <= 1.0
    _, _, motion = drive(stopping(10.0, 8.0), 3.0, 10.0, vehicle=vehicle)
    assert -2.0 <= motion[:, 6].min() < -1.9


def test_during_warm_up_it_takes_the_given_motion_and_else_keeps_its_own():
    at = along_x(lambda t: 10 * t)
    times = np.arange(0, 2_000_001, 100_000)
    plan, session = Trajectory(times, at(times / 1e6)), open_session()
    given = np.zeros(12)
    given[[0, 5]] = 10.0, 0.2
    first = session.step(VehicleRequest(0, 10_000, plan.poses[0], given, plan, coerce=True))
    assert first.dynamics[-1, 0] == pytest.approx(10.0, abs=0.05)
    assert first.dynamics[-1, 5] == pytest.approx(0.2, abs=0.05)
    ignored = np.zeros(12)
    second = session.step(VehicleRequest(10_000, 20_000, first.local_to_rig[-1], ignored, plan))
    assert second.dynamics[-1, 0] == pytest.approx(10.0, abs=0.05)
    third = session.step(
        VehicleRequest(20_000, 30_000, second.local_to_rig[-1], ignored, plan, coerce=True)
    )
    assert third.dynamics[-1, 0] < 0.5


def test_a_delayed_plan_is_anchored_where_ego_was():
    at, elsewhere = circle(30.0, 8.0), geometry.pose(50.0, -9.0, 0.0, 1.0)
    session, pose = open_session(), geometry.IDENTITY
    dynamics = np.zeros(12)
    dynamics[0] = 8.0
    for k in range(40):
        now, made = 100_000 * k, 100_000 * max(k - 2, 0)
        times = made + np.arange(0, 3_000_001, 100_000)
        plan = Trajectory(times, at(times / 1e6)).transform(elsewhere)
        states = session.step(VehicleRequest(now, now + 100_000, pose, dynamics, plan))
        pose, dynamics = states.local_to_rig[-1], states.dynamics[-1]
    assert np.linalg.norm(pose[:2] - at(np.array([4.0]))[0, :2]) < 0.5


def test_ego_stays_at_the_height_that_the_ground_gave_it():
    at = along_x(lambda t: 8 * t, 0.05)
    times = np.arange(0, 2_000_001, 100_000)
    plan, session = Trajectory(times, at(times / 1e6)), open_session()
    dynamics = np.zeros(12)
    dynamics[0] = 8.0
    states = session.step(VehicleRequest(0, 100_000, plan.poses[0], dynamics, plan))
    lifted = states.local_to_rig[-1] + np.array([0, 0, 0.4, 0, 0, 0, 0])
    after = session.step(VehicleRequest(100_000, 200_000, lifted, dynamics, plan)).local_to_rig[-1]
    assert after[2] == pytest.approx(0.4 + 0.05 * after[0], abs=5e-3)


def test_the_wheels_turn_no_faster_than_their_rate():
    def sharp(t):
        return geometry.compose(geometry.pose(y=3.0), along_x(lambda t: 8 * t)(t))

    rate = []
    for limit in (0.2, 5.0):
        vehicle = {"max_steer_rate_radps": limit, "wheelbase_m": 2.85}
        _, _, motion = drive(sharp, 0.2, 8.0, start=geometry.IDENTITY, vehicle=vehicle)
        rate.append(np.arctan(motion[1, 5] * 2.85 / motion[1, 0]) / 0.1)
    assert rate[0] == pytest.approx(0.2, rel=1e-6)
    assert rate[1] > 1.0


def test_a_plan_that_ends_too_early_is_refused():
    plan = Trajectory(np.array([0, 50_000]), np.tile(geometry.IDENTITY, (2, 1)))
    with pytest.raises(PolicyError, match="100000 us"):
        open_session().step(VehicleRequest(0, 100_000, geometry.IDENTITY, np.zeros(12), plan))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vehicle": {"wheelbase": 3.0}}, "Did you mean 'wheelbase_m'"),
        ({"vehicle": {"wheelbase_m": -1}}, "wheelbase_m is -1"),
        ({"vehicle": {"max_steer_rad": "0.5"}}, "max_steer_rad is '0.5'"),
        ({"vehicle": {"accel_lag_s": True}}, "accel_lag_s is True"),
        ({"vehicle": {"steer_lag_s": float("nan")}}, "steer_lag_s is nan"),
        ({"vehicle": "sedan"}, "vehicle is 'sedan'"),
        ({"lookahead_s": 0.0}, "lookahead_s is 0"),
        ({"lookahead_s": "far"}, "lookahead_s is 'far'"),
        ({"preview_s": True}, "preview_s is True"),
        ({"preview": 0.5}, "no setting 'preview'"),
    ],
)
def test_wrong_settings_are_named_with_a_remedy(settings, message):
    with pytest.raises(OmniloopError, match=message) as error:
        create("controller", "bicycle", settings)
    assert error.value.remedy
    if "vehicle" in settings:
        assert isinstance(error.value, ConfigError)
        assert "controller.vehicle" in error.value.where
