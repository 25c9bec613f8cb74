import numpy as np
import pytest

from omniloop.bench.tracking_paths import circle, drive, open_session
from omniloop.core import geometry
from omniloop.core.errors import OmniloopError
from omniloop.core.motion import Trajectory
from omniloop.core.registry import create
from omniloop.core.scene import Vehicle
from omniloop.physics.lqr import LqrController, _Path, _Regulators
from omniloop.physics.preview import Preview
from omniloop.physics.profiles import curvature_profile, speed_profile
from omniloop.physics.vehicle import PlanarState, VehicleChoice

STEP_S = 0.1


def wavy(count=21, noise=0.0):
    t = STEP_S * np.arange(count)
    yaw = 0.3 * np.sin(0.8 * t)
    speed = 8.0 + 1.5 * np.sin(t)
    rng = np.random.default_rng(1)
    x = np.cumsum(speed * np.cos(yaw)) * STEP_S + noise * rng.normal(size=count)
    y = np.cumsum(speed * np.sin(yaw)) * STEP_S + noise * rng.normal(size=count)
    return x, y, yaw, speed


def test_the_speed_profile_is_nuplans_least_squares_in_x_and_y():
    x, y, yaw, _ = wavy(noise=0.05)
    n = len(x) - 1
    a = np.zeros((2 * n, n))  # first speed, accelerations
    for k in range(n):
        direction = np.array([np.cos(yaw[k]), np.sin(yaw[k])])
        a[2 * k : 2 * k + 2, 0] = direction * STEP_S
        a[2 * k : 2 * k + 2, 1 : 1 + k] = direction[:, None] * STEP_S**2
    jerk = np.zeros((n - 2, n))
    jerk[np.arange(n - 2), np.arange(1, n - 1)] = -1.0
    jerk[np.arange(n - 2), np.arange(2, n)] = 1.0
    steps = np.column_stack([np.diff(x), np.diff(y)]).reshape(-1)
    found = np.linalg.solve(a.T @ a + 1e-4 * jerk.T @ jerk, a.T @ steps)
    expected = found[0] + STEP_S * np.concatenate([[0.0], np.cumsum(found[1:])])
    np.testing.assert_allclose(speed_profile(x, y, yaw, STEP_S), expected, rtol=1e-7)


def test_the_curvature_profile_is_nuplans_least_squares_of_headings():
    x, y, yaw, _ = wavy()
    speed = speed_profile(x, y, yaw, STEP_S)
    n = len(speed)
    a = np.zeros((n, n))  # first curvature, its rates
    for k in range(n):
        a[k, 0] = speed[k] * STEP_S
        a[k, 1 : 1 + k] = speed[k] * STEP_S**2
    penalty = np.full(n, 1e-2)
    penalty[0] = 1e-10
    found = np.linalg.solve(a.T @ a + np.diag(penalty), a.T @ np.diff(yaw))
    expected = found[0] + STEP_S * np.concatenate([[0.0], np.cumsum(found[1:])])
    np.testing.assert_allclose(curvature_profile(yaw, speed, STEP_S), expected, rtol=1e-6)


def test_a_standing_path_has_neither_speed_nor_curvature():
    x = y = np.full(21, 3.0)
    yaw = np.full(21, 0.4)
    speed = speed_profile(x, y, yaw, STEP_S)
    np.testing.assert_allclose(speed, 0.0, atol=1e-12)
    np.testing.assert_allclose(curvature_profile(yaw, speed, STEP_S), 0.0, atol=1e-9)


def path_along(at_s, time_us=0, first_us=0):
    times = first_us + 100_000 * np.arange(60)
    plan = Trajectory(times, at_s(times / 1e6))
    return _Path(Preview(plan, time_us, 100_000, 31, 8.0), 0)


def arc(t, speed=8.0, radius=30.0):
    turned = speed * np.asarray(t) / radius
    xyz = np.stack([radius * np.sin(turned), radius * (1 - np.cos(turned)), 0 * turned], axis=1)
    return geometry.poses_from_xyz_yaw(xyz, turned)


@pytest.mark.parametrize("feedforward", [False, True])
def test_the_rate_of_steering_is_the_one_step_regulator_in_matrices(feedforward):
    made = VehicleChoice.of("kinematic", None).build(Vehicle())
    law = _Regulators(made, feedforward)
    path = path_along(arc)
    state = PlanarState(speed_mps=8.0, steer_rad=0.05)
    place, heading = 0.3, -0.04
    planned, planned_rate = path.steering(2.85, made.limits)
    x = np.array([place, heading, 0.05 - (planned if feedforward else 0.0)])
    whole_a, whole_b, whole_g = np.eye(3), np.zeros(3), np.zeros(3)
    for k in range(10):
        a = np.eye(3)
        a[0, 1], a[1, 2] = 8.0 * STEP_S, 8.0 * STEP_S / 2.85
        g = np.array([0.0, 0.0 if feedforward else -8.0 * STEP_S * path.curvature[k], 0.0])
        whole_a, whole_b = a @ whole_a, a @ whole_b + np.array([0.0, 0.0, STEP_S])
        whole_g = a @ whole_g + g
    q = np.diag([1.0, 10.0, 0.0])
    expected = -(whole_b @ q @ (whole_a @ x + whole_g)) / (whole_b @ q @ whole_b + 1.0)
    if feedforward:
        expected += planned_rate
    assert law._steer_rate(path, state, place, heading) == pytest.approx(expected, rel=1e-9)


def test_ego_on_its_path_has_no_error_and_beside_it_has_though_the_plan_starts_at_ego():
    on = path_along(arc)
    assert on.error(PlanarState()) == pytest.approx((0.0, 0.0, 0.0), abs=0.02)

    def from_beside(t):
        poses = arc(t)
        poses[0, 1] += 0.5
        return poses

    behind, beside, turned = path_along(from_beside).error(PlanarState(y_m=0.5))
    assert beside == pytest.approx(0.5, abs=0.02)
    assert (behind, turned) == pytest.approx((0.0, 0.0), abs=0.03)


def test_errors_are_taken_beside_the_path_where_ego_is_behind_on_it():
    path = path_along(arc, time_us=2_000_000)
    behind_m = 3.0
    x, y = arc(np.array([2.0 - behind_m / 8.0]))[0, :2]
    yaw = (16.0 - behind_m) / 30.0 - 2 * np.pi  # a whole turn changes nothing
    behind, beside, turned = path.error(PlanarState(x_m=x, y_m=y, yaw_rad=yaw))
    assert behind == pytest.approx(behind_m, abs=0.02)
    assert (beside, turned) == pytest.approx((0.0, 0.0), abs=0.01)


def test_without_feedforward_it_cuts_curves_as_nuplans_does_and_stops_late():
    """What the feedforward is for; also that both forms drive."""
    path = circle(3.0)
    errors = [
        np.abs(path.cross_track_m(motion.local_to_rig[:, :2])[1]).max()
        for motion in (
            drive(open_session(LqrController(feedforward=on)), path, 100_000)
            for on in (True, False)
        )
    ]
    assert errors[0] < 0.16 < errors[1] < 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vehicle_model": "bycicle"}, "vehicle_model is 'bycicle'"),
        ({"vehicle": {"mass_kg": 2.0}}, "unknown vehicle parameter"),
        ({"feedforward": "yes"}, "feedforward is 'yes'"),
        ({"horizon": 10}, "no setting 'horizon'"),
    ],
)
def test_wrong_settings_are_named_with_a_remedy(arguments, message):
    with pytest.raises(OmniloopError, match=message) as error:
        create("controller", "lqr", arguments)
    assert error.value.remedy


def test_it_has_no_facts_to_tell():
    assert open_session(LqrController()).facts() == {}
