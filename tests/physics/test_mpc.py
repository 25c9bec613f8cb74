import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import osqp
import pytest

from omniloop.bench.tracking_paths import drive, lane_change, open_session, stop
from omniloop.core import geometry
from omniloop.core.contracts import VehicleRequest
from omniloop.core.errors import OmniloopError
from omniloop.core.motion import Trajectory
from omniloop.core.registry import create
from omniloop.core.scene import Vehicle
from omniloop.physics.mpc import MpcController
from omniloop.physics.mpc_problem import STEPS, Problem, solver
from omniloop.physics.vehicle import PlanarState, VehicleChoice

NAMES = ("kinematic", "dynamic")
N = STEPS


def built(name):
    return VehicleChoice.of(name, None).build(Vehicle())


def cost_by_driving(made, state, reference, commands, before):
    """The documented cost, from the model itself under held commands."""
    x, y, yaw = reference
    total, last = 0.0, np.array(before)
    for k, (steer, accel) in enumerate(zip(commands[:N], commands[N:], strict=True)):
        for _ in range(20):
            made.advance(state, steer, accel, 0.005)
        c, s = np.cos(yaw[k + 1]), np.sin(yaw[k + 1])
        dx, dy = state.x_m - x[k + 1], state.y_m - y[k + 1]
        along, beside = c * dx + s * dy, c * dy - s * dx
        total += 2 * along**2 + beside**2 + (state.yaw_rad - yaw[k + 1]) ** 2
        total += 0.1 * state.accel_mps2**2
        change = np.array([steer, accel]) - last
        total += 5 * change[0] ** 2 + change[1] ** 2
        last = np.array([steer, accel])
    return total / 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("radius_m", [60.0, -150.0])
def test_the_objective_is_the_cost_of_driving_the_model(name, radius_m):
    made = built(name)
    speed, before = 9.0, (0.02, 0.1)
    s = speed * 0.1 * np.arange(N + 1)
    yaw = s / radius_m
    reference = radius_m * np.sin(yaw), radius_m * (1 - np.cos(yaw)) + 0.2, yaw

    def fresh():
        state = PlanarState(speed_mps=speed, steer_rad=0.02, accel_mps2=0.1)
        state.yaw_rate_radps = speed * 0.02 / 2.85
        state.lateral_mps = state.yaw_rate_radps * 1.59 if name == "dynamic" else 0.0
        return state

    values = Problem(made).values(fresh(), *reference, before)
    assert np.array_equal(values.p, values.p.T) or np.abs(values.p - values.p.T).max() < 1e-9
    rng = np.random.default_rng(3)
    steady = np.full(N, made.steer_for(1 / radius_m, speed))

    def sample():
        return np.concatenate([steady + 0.01 * rng.normal(size=N), 0.2 * rng.normal(size=N)])

    base = sample()
    for _ in range(4):
        z = sample()
        driven = cost_by_driving(made, fresh(), reference, z, before)
        driven -= cost_by_driving(made, fresh(), reference, base, before)
        predicted = z @ values.p @ z / 2 + values.q @ z
        predicted -= base @ values.p @ base / 2 + values.q @ base
        assert predicted == pytest.approx(driven, rel=0.08, abs=0.08)


@pytest.mark.parametrize("name", NAMES)
def test_its_solution_is_the_minimum_and_keeps_all_bounds(name):
    made = built(name)
    problem = Problem(made)
    solve = solver(problem)
    yaw = np.linspace(0.0, 0.5, N + 1)
    state = PlanarState(speed_mps=3.0)
    values = problem.values(state, 1.5 * np.arange(N + 1), 0.3 * np.arange(N + 1), yaw, (0.0, 0.0))
    solve.update(q=values.q, l=values.lower, u=values.upper)
    solve.update(Px=problem.triangle(values.p))
    result = solve.solve(raise_error=False)
    assert result.info.status_val in (
        osqp.SolverStatus.OSQP_SOLVED, osqp.SolverStatus.OSQP_SOLVED_INACCURATE
    )  # fmt: skip
    z, limits = result.x, made.limits
    steer, accel = z[:N], z[N:]
    near = 2e-3  # of the solver's tolerance
    assert np.abs(steer).max() <= limits.max_steer_rad + near
    assert accel.max() <= 6.0 + near
    assert np.abs(np.diff(steer, prepend=0.0)).max() <= 0.1 * limits.max_steer_rate_radps + near
    # First-order conditions: the objective cannot fall along any direction that bounds allow.
    gradient = values.p @ z + values.q + problem.rows.T @ result.y
    assert np.abs(gradient).max() < 1e-3 * np.abs(values.q).max()
    held = problem.rows @ z
    assert (result.y[held < values.upper - 0.01] < 0.05).all()
    assert (result.y[held > values.lower + 0.01] > -0.05).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("speed_mps", [0.0, 0.05, 3.0, 35.0, 38.0])
@pytest.mark.parametrize("accel_mps2", [-9.0, 0.0, 6.0])
def test_there_is_always_a_solution(name, speed_mps, accel_mps2):
    """Holding the wheels and letting the acceleration die out keeps all bounds."""
    problem = Problem(built(name))
    state = PlanarState(speed_mps=speed_mps, accel_mps2=accel_mps2, steer_rad=0.78)
    for place in (-5.0, 0.0, 3.0):
        still = np.full(N + 1, place)
        values = problem.values(state, still, 0 * still, 0 * still, (0.78, accel_mps2))
        at_rest = np.concatenate([np.full(N, 0.78), np.zeros(N)])
        assert (problem.rows @ at_rest >= values.lower - 1e-9).all()
        assert (problem.rows @ at_rest <= values.upper + 1e-9).all()


def test_a_rollout_sets_its_problem_up_once_and_solves_at_every_decision(monkeypatch):
    setups, original = [], osqp.OSQP.setup
    monkeypatch.setattr(
        osqp.OSQP, "setup", lambda self, *a, **k: (setups.append(1), original(self, *a, **k))[1]
    )
    session = open_session(MpcController())
    path = lane_change(2.0)
    motion = drive(session, path, 533_328)
    calls = (len(motion) - 1) / 6
    assert len(setups) == 1
    assert session.facts() == {"solves": 6 * calls, "solve_failures": 0, "failure_status": {}}
    json.dumps(session.facts())


def straight(now_us=0):
    times = now_us + 100_000 * np.arange(40)
    x = 8.0 * times / 1e6
    return Trajectory(
        times, geometry.poses_from_xyz_yaw(np.stack([x, 0 * x, 0 * x], axis=1), 0 * x)
    )


def test_where_no_solution_is_found_the_last_plan_is_driven_on_with_and_counted():
    session = open_session(MpcController())
    law = session.follower
    plan, motion = straight(), np.zeros(12)
    motion[0] = 6.0  # slower than the plan, so that commands change along the horizon
    states = session.step(VehicleRequest(0, 100_000, plan.poses[0], motion, plan))
    good = law._commands.copy()
    assert np.ptp(good[:, 1]) > 0.1
    status = osqp.SolverStatus.OSQP_MAX_ITER_REACHED
    broken = SimpleNamespace(info=SimpleNamespace(status_val=int(status)), x=np.full(2 * N, np.nan))
    law._solver = SimpleNamespace(update=lambda **_: None, solve=lambda **_: broken)
    used = []
    for now_us in range(100_000, 3_000_000, 100_000):
        pose = states.local_to_rig[-1]
        request = VehicleRequest(now_us, now_us + 100_000, pose, motion, straight(now_us))
        states = session.step(request)
        used.append(law.command(None, 0.0))
        assert np.isfinite(states.local_to_rig).all()
    expected = [good[min(k + 1, N - 1)] for k in range(len(used))]
    np.testing.assert_array_equal(used, expected)
    assert session.facts() == {
        "solves": 30, "solve_failures": 29, "failure_status": {"osqp_max_iter_reached": 29},
    }  # fmt: skip


def test_a_first_failure_holds_what_the_vehicle_does():
    session = open_session(MpcController())
    status = osqp.SolverStatus.OSQP_PRIMAL_INFEASIBLE
    broken = SimpleNamespace(info=SimpleNamespace(status_val=int(status)), x=None)
    session.follower._solver = SimpleNamespace(update=lambda **_: None, solve=lambda **_: broken)
    motion = np.zeros(12)
    motion[[0, 5]] = 8.0, 0.3
    plan = straight()
    states = session.step(VehicleRequest(0, 500_000, plan.poses[0], motion, plan))
    assert states.dynamics[-1, 5] == pytest.approx(0.3, rel=0.1)
    assert session.facts()["failure_status"] == {"osqp_primal_infeasible": 5}


@pytest.mark.parametrize("name", NAMES)
def test_stopping_standing_and_swerving_fail_no_solve(name):
    for path in (stop(10.0, 2.0), stop(10.0, 6.0), stop(34.0, 6.0), lane_change(6.0)):
        session = open_session(MpcController(vehicle_model=name))
        drive(session, path, 100_000)
        assert session.facts()["solve_failures"] == 0


def test_the_solver_is_imported_only_when_a_rollout_begins():
    code = "import sys, omniloop.physics.mpc, omniloop.physics.mpc_problem; print('osqp' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_wrong_settings_are_named_with_a_remedy():
    with pytest.raises(OmniloopError, match="vehicle_model is 'static'") as error:
        create("controller", "mpc", {"vehicle_model": "static"})
    assert "kinematic or dynamic" in error.value.remedy
