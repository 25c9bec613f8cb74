import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core.errors import ConfigError
from omniloop.core.registry import create
from omniloop.core.scene import Vehicle
from omniloop.physics.vehicle import GRAVITY_MPS2, PlanarState, VehicleChoice
from omniloop.scenes.embedded import EmbeddedScenes

NAMES = ("kinematic", "dynamic")


def model(name, **vehicle):
    return VehicleChoice.of(name, vehicle).build(Vehicle())


def moving(name, speed_mps, **vehicle):
    given_motion = np.zeros(12)
    given_motion[0] = speed_mps
    made = model(name, **vehicle)
    return made, made.adopted(given_motion)


def run(made, state, steer_rad, accel_mps2, seconds, dt_s=0.01):
    for _ in range(round(seconds / dt_s)):
        made.advance(state, steer_rad, accel_mps2, dt_s)
    return state


@pytest.mark.parametrize("steer_rad", [0.05, -0.1, 0.3])
def test_a_kinematic_bicycle_closes_the_circle_of_its_steering_angle(steer_rad):
    made, state = moving("kinematic", 6.0, wheelbase_m=2.85)
    state.steer_rad = steer_rad
    radius = 2.85 / math.tan(steer_rad)
    period = 2 * math.pi * abs(radius) / 6.0
    steps = round(period / 0.01)
    half_turn = None
    for k in range(steps):
        made.advance(state, steer_rad, 0.0, period / steps)
        if k == steps // 2 - 1:
            half_turn = state.x_m, state.y_m
    assert state.yaw_rate_radps == pytest.approx(6.0 / radius, rel=1e-9)
    assert state.side_mps2 == pytest.approx(36.0 / radius, rel=1e-9)
    assert (state.x_m, state.y_m) == pytest.approx((0.0, 0.0), abs=1e-6)
    assert abs(half_turn[1]) == pytest.approx(2 * abs(radius), rel=2e-3)


@pytest.mark.parametrize("speed_mps", [6.0, 10.0, 20.0, 30.0])
@pytest.mark.parametrize("stiffness", [(93_534.5, 176_162.1), (120_000.0, 130_000.0)])
def test_a_dynamic_bicycle_turns_by_the_yaw_rate_gain_of_its_understeer_gradient(
    speed_mps, stiffness
):
    front, rear = stiffness
    made, state = moving("dynamic", speed_mps, front_stiffness_npr=front, rear_stiffness_npr=rear)
    steer = 0.5 / speed_mps**2  # well within grip
    run(made, state, steer, 0.0, 8.0)
    length, to_rear, mass = 2.85, 1.59, 2014.4
    understeer = mass / length * (to_rear / (2 * front) - (length - to_rear) / (2 * rear))
    gain = speed_mps / (length + understeer * speed_mps**2)
    assert state.speed_mps == pytest.approx(speed_mps)
    assert state.yaw_rate_radps / steer == pytest.approx(gain, rel=1e-6)
    assert made.steer_for(state.yaw_rate_radps / speed_mps, speed_mps) == pytest.approx(steer)
    left = made.rig_motion(state)[1]
    ahead = made.heading_ahead_rad(state.yaw_rate_radps / speed_mps, speed_mps)
    assert -left / speed_mps == pytest.approx(ahead, rel=1e-6)


@pytest.mark.parametrize("speed_mps", [1.0, 4.9])
def test_a_slow_dynamic_bicycle_does_not_slip_at_its_rear_axle(speed_mps):
    made, state = moving("dynamic", speed_mps)
    run(made, state, 0.2, 0.0, 3.0)
    vx, vy, rate, ax, ay, _ = made.rig_motion(state)
    assert rate == pytest.approx(speed_mps * 0.2 / 2.85, rel=1e-6)
    assert vy == pytest.approx(0.0, abs=1e-9)
    assert (vx, ax) == pytest.approx((speed_mps, 0.0), abs=1e-6)
    assert ay == pytest.approx(speed_mps * rate, rel=1e-6)


COMMANDS = st.lists(st.tuples(st.floats(-2, 2), st.floats(-30, 30)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.floats(0, 35), st.floats(0.1, 1.2), COMMANDS)
def test_the_friction_limit_is_never_exceeded(name, speed_mps, friction, commands):
    made, state = moving(name, speed_mps, friction=friction, max_accel_mps2=30, max_decel_mps2=30)
    grip = friction * GRAVITY_MPS2
    from_cg_m = 1.59 if name == "dynamic" else 0.0
    for steer, accel in commands:
        for _ in range(20):
            before = _inertial_velocity(state)
            made.advance(state, steer, accel, 0.01)
            assert state.speed_mps >= 0.0
            assert math.hypot(state.forward_mps2, state.side_mps2) <= grip * (1 + 1e-9)
            if state.speed_mps > 0.0:  # a wheel that stands is held by more than friction
                change = np.hypot(*(_inertial_velocity(state) - before)) / 0.01
                assert change <= grip * 1.05 + 1e-6
        vx, vy, rate, ax, ay, turn = made.rig_motion(state)
        assert math.hypot(ax - rate**2 * from_cg_m, ay + turn * from_cg_m) <= grip * (1 + 1e-9)
        assert np.isfinite([vx, vy, state.x_m, state.y_m, state.yaw_rad]).all()


def _inertial_velocity(state):
    c, s = math.cos(state.yaw_rad), math.sin(state.yaw_rad)
    vx, vy = state.speed_mps, state.lateral_mps
    return np.array([c * vx - s * vy, s * vx + c * vy])


def test_a_dynamic_bicycle_beyond_its_grip_runs_wide_by_its_front_tyres():
    made, state = moving("dynamic", 20.0)
    run(made, state, 0.3, 0.0, 2.0)
    assert state.side_mps2 == pytest.approx(0.9 * GRAVITY_MPS2, rel=0.05)
    assert state.yaw_rate_radps < 0.55 * 20.0 * 0.3 / 2.85
    assert abs(state.lateral_mps) < 3.0


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0.3, 35), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(-5, 4),
)  # fmt: skip
def test_motion_given_at_the_rig_is_taken_up_whole_at_the_centre_of_gravity(vx, vy, rate, ax):
    given_motion = np.zeros(12)
    given_motion[[0, 1, 5, 6]] = vx, vy, rate, ax
    made = model("dynamic")
    state = made.adopted(given_motion)
    assert state.lateral_mps == pytest.approx(vy + 1.59 * rate)
    assert made.rig_motion(state)[:3] == pytest.approx((vx, vy, rate), abs=1e-12)
    limit = made.limits.max_steer_rad
    assert state.steer_rad == pytest.approx(min(max(math.atan(rate * 2.85 / vx), -limit), limit))
    assert state.accel_mps2 == pytest.approx(ax + vy * rate)


def test_a_steady_turn_that_is_taken_up_goes_on():
    made, state = moving("dynamic", 12.0)
    run(made, state, 0.03, 0.0, 6.0)
    vx, vy, rate, ax, ay, turn = made.rig_motion(state)
    again = made.adopted(np.array([vx, vy, 0, 0, 0, rate, ax, ay, 0, 0, 0, turn]))
    again.steer_rad = state.steer_rad  # the slip angles are not known from motion alone
    for _ in range(50):
        made.advance(again, 0.03, 0.0, 0.01)
    assert again.yaw_rate_radps == pytest.approx(rate, rel=1e-6)
    assert again.lateral_mps == pytest.approx(state.lateral_mps, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_rigs_acceleration_is_that_of_the_line_it_draws(name):
    made, state = moving(name, 11.0)
    places, told, dt = [], [], 0.005
    for k in range(300):
        made.advance(state, 0.06 * math.sin(0.02 * k), math.cos(0.03 * k), dt)
        places.append((state.x_m, state.y_m))
        *_, ax, ay, _ = made.rig_motion(state)
        c, s = math.cos(state.yaw_rad), math.sin(state.yaw_rad)
        told.append((c * ax - s * ay, s * ax + c * ay))
    drawn = np.gradient(np.gradient(np.array(places), dt, axis=0), dt, axis=0)
    np.testing.assert_allclose(np.array(told)[50:-50], drawn[50:-50], atol=0.12)


@pytest.mark.parametrize("name", NAMES)
def test_actuators_lag_and_keep_their_limits(name):
    made, state = moving(name, 10.0, max_steer_rate_radps=20.0)
    lag = made.limits.accel_lag_s
    run(made, state, 0.05, -1.0, lag, dt_s=lag / 100)
    assert state.accel_mps2 == pytest.approx(-(1 - math.exp(-1)), rel=0.01)
    run(made, state, 9.0, -1.0, 2.0)
    assert state.steer_rad == pytest.approx(math.pi / 4)
    slow, turning = moving(name, 10.0, max_steer_rate_radps=0.3)
    run(slow, turning, 0.5, 0.0, 0.5)
    assert turning.steer_rad == pytest.approx(0.15, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_braking_ends_in_a_standstill_and_holding_turns_wheels_alone(name):
    made, state = moving(name, 8.0)
    run(made, state, 0.1, -6.0, 4.0)
    assert state.speed_mps == 0.0
    at = state.x_m, state.y_m
    run(made, state, 0.1, -6.0, 1.0)
    assert (state.x_m, state.y_m) == pytest.approx(at, abs=0.02)
    at = state.x_m, state.y_m, state.yaw_rad
    made.hold(state, 0.3, 1.0)
    assert (state.x_m, state.y_m, state.yaw_rad) == at
    assert made.rig_motion(state) == (0.0,) * 6 or not any(made.rig_motion(state))
    assert state.steer_rad > 0.25


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("speed_mps", [2.0, 8.0, 25.0])
def test_the_linear_system_is_the_model_for_small_angles(name, speed_mps):
    made, state = moving(name, speed_mps)
    (a,), (b,) = made.lateral_system(np.array([speed_mps]))
    x, dt = np.zeros(len(a)), 0.0005
    for k in range(2000):
        command = 0.01 * math.sin(0.004 * k)
        made.advance(state, command, 0.0, dt)
        x = x + dt * (a @ x + b * command)
    found = [state.y_m, state.yaw_rad, *made.lateral_states(state)]
    np.testing.assert_allclose(found, x, rtol=0.01, atol=2e-5)


def test_stiff_tyres_shorten_the_sub_step():
    assert model("dynamic").substep_s == 0.01
    stiff = model("dynamic", front_stiffness_npr=1e6, rear_stiffness_npr=2e6)
    assert stiff.substep_s < 0.003
    state = PlanarState(speed_mps=5.0)
    for _ in range(1000):
        stiff.advance(state, 0.05, 0.0, stiff.substep_s)
    assert state.yaw_rate_radps == pytest.approx(5.0 * 0.05 / 2.85, rel=0.05)


def test_the_centre_of_gravity_keeps_its_part_of_the_scenes_wheelbase():
    made = VehicleChoice.of("dynamic", None).build(Vehicle(wheelbase_m=5.7))
    assert made.limits.cg_from_rear_m == pytest.approx(3.18)
    assert VehicleChoice.of("dynamic", {"wheelbase_m": 3.0}).build(
        Vehicle()
    ).limits.cg_from_rear_m == pytest.approx(3.0 * 1.59 / 2.85)


@pytest.mark.parametrize(
    ("name", "vehicle", "message"),
    [
        ("bicycle", None, "vehicle_model is 'bicycle'"),
        (None, None, "vehicle_model is None"),
        ("kinematic", {"mass_kg": 1500.0}, "unknown vehicle parameter 'mass_kg'"),
        ("dynamic", {"mass": 1500.0}, "Did you mean 'mass_kg'"),
        ("dynamic", {"friction": 0.0}, "friction is 0.0"),
        ("dynamic", {"front_stiffness_npr": "stiff"}, "front_stiffness_npr is 'stiff'"),
        ("dynamic", ["mass_kg"], "vehicle is"),
    ],
)
def test_wrong_settings_are_named_with_a_remedy(name, vehicle, message):
    with pytest.raises(ConfigError, match=message) as error:
        VehicleChoice.of(name, vehicle)
    assert error.value.remedy
    assert "controller.vehicle" in error.value.where


def test_a_centre_of_gravity_beyond_the_axles_is_refused():
    with pytest.raises(ConfigError, match="5 m before the rear axle"):
        model("dynamic", cg_from_rear_m=5.0)


@pytest.mark.parametrize("law", ["bicycle", "lqr", "mpc"])
def test_a_scene_whose_vehicle_is_too_short_for_the_model_is_refused_before_a_run(law):
    settings = {"vehicle_model": "dynamic", "vehicle": {"cg_from_rear_m": 2.0}}
    controller = create("controller", law, settings)
    controller.check_scene(EmbeddedScenes().load("curve"))
    short = replace(EmbeddedScenes().load("curve"), vehicle=Vehicle(wheelbase_m=1.5))
    with pytest.raises(ConfigError, match="2 m before the rear axle"):
        controller.check_scene(short)


def test_null_stands_for_what_the_scene_says():
    made = model("dynamic", wheelbase_m=None, cg_from_rear_m=None)
    assert made.limits == model("dynamic").limits
    with pytest.raises(ConfigError, match="friction is None"):
        model("dynamic", friction=None)
