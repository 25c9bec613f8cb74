import xml.etree.ElementTree as ET
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.bench import tracking
from omniloop.bench.tracking import ENTRIES, Measured, largest_error_m, stop_error_m, table
from omniloop.bench.tracking_paths import PATHS, drive, open_session, stop
from omniloop.bench.tracking_plot import picture
from omniloop.core import geometry
from omniloop.core.contracts import VehicleRequest
from omniloop.core.motion import Trajectory
from omniloop.core.registry import create

BY_LABEL = {entry.label: entry for entry in ENTRIES}
BOUNDS_M = {
    "perfect": 1e-6,
    "bicycle, kinematic": 0.20,
    "bicycle, dynamic": 0.20,
    "lqr, kinematic": 0.35,
    "lqr, dynamic": 0.35,
    "mpc, kinematic": 0.20,
    "mpc, dynamic": 0.20,
}


CUT = {100_000: "progress", 533_328: "time"}


@pytest.mark.parametrize("label", BOUNDS_M)
@pytest.mark.parametrize("make", PATHS)
@pytest.mark.parametrize("period_us", [100_000, 533_328])
def test_the_cross_track_error_at_3_mps2_stays_within_its_bound(label, make, period_us):
    """Both cuts of plans on the first path, on the others each at one of the intervals."""
    path, first = make(3.0), make is PATHS[0]
    for cut in ("progress", "time") if first else (CUT[period_us],):
        driven = drive(BY_LABEL[label].open(), path, period_us, cut)
        assert largest_error_m(path, driven) <= BOUNDS_M[label]


@pytest.mark.parametrize("label", ["lqr, kinematic", "mpc, dynamic"])
@pytest.mark.parametrize("period_us", [33_333, 266_664, 1_066_656])
def test_other_intervals_are_tracked_too(label, period_us):
    path = PATHS[2](3.0)
    error_m = largest_error_m(path, drive(BY_LABEL[label].open(), path, period_us))
    assert error_m <= BOUNDS_M[label]


@pytest.mark.parametrize("label", BOUNDS_M)
@pytest.mark.parametrize("period_us", [100_000, 533_328])
@pytest.mark.parametrize("cut", ["progress", "time"])
def test_it_stops_within_30_cm_of_the_stop_point_and_stays(label, period_us, cut):
    path = stop(10.0, 2.0)
    driven = drive(BY_LABEL[label].open(), path, period_us, cut)
    assert abs(stop_error_m(path, driven)) <= 0.3
    at_rest = driven.times_us > (path.measured_s - 2.0) * 1e6
    assert np.abs(driven.dynamics[at_rest]).max() < 1e-9
    assert np.ptp(driven.local_to_rig[at_rest], axis=0).max() < 1e-9


@pytest.mark.parametrize("make", PATHS)
def test_a_paths_largest_lateral_acceleration_is_what_was_asked_for(make):
    path = make(2.0)
    s = np.arange(0.0, path.measured_s * path.speed_mps, 0.05)
    x, y = path.poses(s / path.speed_mps)[:, :2].T
    dx, dy = np.gradient(x, 0.05), np.gradient(y, 0.05)
    curvature = np.abs(dx * np.gradient(dy, 0.05) - dy * np.gradient(dx, 0.05))
    assert curvature.max() * path.speed_mps**2 == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("label", ["lqr, kinematic", "mpc, dynamic", "bicycle, dynamic"])
@pytest.mark.parametrize("turn_rad", [np.pi - 0.2, -2.0])
def test_headings_beyond_half_a_turn_change_nothing(label, turn_rad):
    """The same drive in axes turned so that the heading passes plus or minus pi."""
    turned = geometry.pose(50.0, -20.0, 0.0, turn_rad)
    straight, other = (_drive_turned(label, by) for by in (geometry.IDENTITY, turned))
    back = geometry.compose(geometry.inverse(turned), other)
    np.testing.assert_allclose(back[:, :2], straight[:, :2], atol=2e-3)


def _drive_turned(label, by):
    path, session = PATHS[0](3.0), BY_LABEL[label].open()
    pose, motion, out = geometry.compose(by, path.poses(np.zeros(1)))[0], np.zeros(12), []
    motion[0] = path.speed_mps
    for now_us in range(0, 10_000_000, 100_000):
        times = now_us + 100_000 * np.arange(30)
        poses = geometry.compose(by, path.poses(times / 1e6))
        poses[0] = pose
        request = VehicleRequest(now_us, now_us + 100_000, pose, motion, Trajectory(times, poses))
        states = session.step(request)
        pose, motion = states.local_to_rig[-1], states.dynamics[-1]
        out.append(pose)
    return np.array(out)


@cache
def plugin(name, model):
    return create("controller", name, {"vehicle_model": model})


@st.composite
def plans(draw):
    """Uneven times; poses that go on, turn, reverse, stand and jump."""
    count = draw(st.integers(2, 12))
    gaps = draw(st.lists(st.integers(1_000, 900_000), min_size=count - 1, max_size=count - 1))
    steps = st.tuples(st.floats(-6, 30), st.floats(-4, 4), st.floats(-3.2, 3.2))
    moves = draw(st.lists(steps, min_size=count - 1, max_size=count - 1))
    times = np.concatenate([[0], np.cumsum(gaps)])
    poses = [geometry.IDENTITY]
    for x, y, yaw in moves:
        poses.append(geometry.compose(poses[-1], geometry.pose(x, y, 0.0, yaw)))
    return times, np.array(poses)


@given(
    st.sampled_from(["bicycle", "lqr", "mpc"]), st.sampled_from(["kinematic", "dynamic"]),
    st.floats(0, 35), st.floats(-1, 1), st.floats(-3.1, 3.1), st.integers(33_000, 1_070_000),
    st.lists(plans(), min_size=1, max_size=4), st.booleans(),
)  # fmt: skip
def test_any_plan_gives_finite_motion_and_twice_the_same(
    name, model, speed_mps, yaw_rate, yaw, interval_us, given_plans, coerce
):
    def driven():
        session = open_session(plugin(name, model))
        pose, now_us = geometry.pose(1e3, -1e3, 2.0, yaw), 1_700_000_000_000_000
        motion, out = np.zeros(12), []
        motion[[0, 5]] = speed_mps, yaw_rate
        for ahead_us, moves in given_plans:
            times = np.append(ahead_us, max(ahead_us[-1] + 1, interval_us))
            poses = geometry.compose(pose, np.concatenate([moves, moves[-1:]]))
            plan = Trajectory(now_us + times, poses)
            request = VehicleRequest(now_us, now_us + interval_us, pose, motion, plan, coerce)
            states = session.step(request)
            assert states.times_us[-1] == now_us + interval_us
            assert (np.diff(states.times_us, prepend=now_us) <= 100_000).all()
            assert np.isfinite(states.local_to_rig).all()
            assert np.isfinite(states.dynamics).all()
            assert (states.dynamics[:, 0] >= 0.0).all()
            unit = np.linalg.norm(states.local_to_rig[:, 3:], axis=1)
            np.testing.assert_allclose(unit, 1.0, atol=1e-9)
            pose, motion, now_us = (
                states.local_to_rig[-1],
                states.dynamics[-1],
                now_us + interval_us,
            )
            out += [states.local_to_rig.tobytes(), states.dynamics.tobytes()]
        return out, session.facts()

    assert driven() == driven()


@pytest.mark.parametrize("name", ["lqr", "mpc"])
@pytest.mark.parametrize("model", ["kinematic", "dynamic"])
def test_from_standing_it_starts_and_reaches_the_plans_speed(name, model):
    session, pose, motion = open_session(plugin(name, model)), geometry.IDENTITY, np.zeros(12)
    for now_us in range(0, 8_000_000, 100_000):
        times = now_us + 100_000 * np.arange(40)
        x = 0.75 * (times / 1e6) ** 2  # 1.5 m/s^2
        poses = geometry.poses_from_xyz_yaw(np.stack([x, 0 * x, 0 * x], axis=1), 0 * x)
        poses[0] = pose
        request = VehicleRequest(now_us, now_us + 100_000, pose, motion, Trajectory(times, poses))
        states = session.step(request)
        pose, motion = states.local_to_rig[-1], states.dynamics[-1]
    assert motion[0] == pytest.approx(12.0, abs=0.3)
    assert pose[0] == pytest.approx(48.0, abs=0.6)
    assert pose[1] == 0.0


def test_the_table_is_markdown_with_a_row_for_every_controller(monkeypatch):
    monkeypatch.setattr(tracking, "ENTRIES", ENTRIES[:2])
    monkeypatch.setattr(tracking, "PATHS", PATHS[:1])
    monkeypatch.setattr(tracking, "_TIMED", 1)
    rows = list(tracking.run(3.0))
    assert [row.label for row in rows] == ["perfect", "bicycle, kinematic"]
    assert rows[0].cross_track_m[0] < 1e-6 < rows[1].cross_track_m[0]
    lines = table([Measured("a", (1e-7,), -0.25, None, 2.0, 0)]).splitlines()
    assert lines[-1] == "| a | 1e-07 | -0.25 |  | 2.00 | 1 x | 0 |"
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")


def test_the_picture_is_one_svg_with_a_line_per_controller_and_path(monkeypatch):
    monkeypatch.setattr("omniloop.bench.tracking_plot.PATHS", PATHS[:1])
    root = ET.fromstring(picture(3.0))
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 1 + 2 * 3 + 2 + 2 * 3
    for line in lines:
        numbers = np.array([p.split(",") for p in line.get("points").split()], dtype=float)
        assert np.isfinite(numbers).all()
        assert len(numbers) > 1
