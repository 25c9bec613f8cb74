from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.errors import PluginError
from omniloop.core.motion import Trajectory
from omniloop.training.taught import Disturbances, TaughtPolicy, shifted

TIMES = np.arange(0, 3_000_001, 100_000, dtype=np.int64)


def ahead(speed: float, yaw: float = 0.0) -> Trajectory:
    times = np.arange(0, 6_400_001, 100_000, dtype=np.int64)
    s = speed * times / 1e6
    xyz = np.stack([s * np.cos(yaw), s * np.sin(yaw), np.zeros(len(s))], axis=1)
    return Trajectory(times, geometry.poses_from_xyz_yaw(xyz, np.full(len(s), yaw)))


def draws(seed: int = 0, **changes) -> Disturbances:
    given_ = {"lateral_m": 0.6, "speed_share": 0.3, "pause_s": 3.0, "start_share": 0.6} | changes
    return Disturbances(np.random.default_rng(seed), 2_000_000, 12_000_000, **given_)


def test_a_plan_moves_aside_and_ends_parallel_to_its_way():
    out = shifted(ahead(10.0), TIMES, 1.5, 0.9, 1.0)
    np.testing.assert_allclose(out.poses[0], geometry.pose(), atol=1e-12)
    assert out.poses[-1, 1] == pytest.approx(0.9)
    yaw = geometry.yaw_rad(out.poses)
    assert yaw.max() == pytest.approx(np.arctan(1.875 * 0.9 / 15.0), rel=0.05)
    assert abs(yaw[-1]) < 1e-9


def test_a_plan_goes_at_another_speed():
    out = shifted(ahead(10.0), TIMES, 1.0, 0.0, 0.8)
    speed = np.diff(out.poses[:, 0]) / 0.1
    assert speed[0] == pytest.approx(9.9)
    np.testing.assert_allclose(speed[10:], 8.0)


@given(
    st.floats(0, 20),
    st.floats(-3, 3),
    st.floats(-1.5, 1.5),
    st.floats(0.7, 1.3),
    st.floats(0.8, 1.8),
)
def test_headings_follow_the_motion(speed, yaw, aside, factor, lasts):
    out = shifted(ahead(speed, yaw), TIMES, lasts, aside, factor)
    step = np.diff(out.poses[:, :2], axis=0)
    moving = np.linalg.norm(step, axis=1) > 0.3
    course = np.arctan2(step[:, 1], step[:, 0])
    off = geometry.wrap_rad(course - geometry.yaw_rad(out.poses)[:-1])
    assert np.abs(off[moving]).max(initial=0.0) < 0.15
    # Nobody slides sideways.
    offset = np.abs(out.poses[-1, :2] @ [-np.sin(yaw), np.cos(yaw)])
    assert offset <= 0.35 / 1.875 * lasts * max(factor, 1.0) * speed + 1e-9


def test_disturbances_begin_after_handover_and_follow_from_the_seed():
    begins = [draws(k).begins_us for k in range(200)]
    assert draws(3).begins_us == begins[3]
    assert min(b[0] for b in begins if b) == 2_000_000
    assert all(t < 12_000_000 for b in begins for t in b)
    at_handover = np.mean([bool(b) and b[0] == 2_000_000 for b in begins])
    assert at_handover == pytest.approx(0.6, abs=0.12)
    assert draws(pause_s=None).begins_us == []


def test_a_disturbance_is_driven_for_about_a_second_and_at_most_so_far():
    for seed in range(50):
        plan, until_us = draws(seed).disturbed(ahead(10.0))
        assert 400_000 <= until_us <= 1_800_000
        assert plan.end_us >= until_us + 1_000_000
        assert np.abs(plan.poses[:, 1]).max() <= 1.5 + 1e-9


def test_the_spec_is_that_of_all_together():
    spec = TaughtPolicy(cameras=["a"]).spec
    assert (spec.cameras, spec.horizon_s, spec.privileged) == (("a",), 6.4, frozenset({"actors"}))
    assert spec.ego_history_s == 1.6
    assert TaughtPolicy(expert="log_replay").spec.route


@pytest.mark.parametrize(
    "arguments", [{"lateral_m": -1.0}, {"speed_share": 0.9}, {"pause_s": 0.0}, {"start_share": 1.2}]
)
def test_a_setting_out_of_range_is_refused(arguments):
    with pytest.raises(PluginError, match=next(iter(arguments))):
        TaughtPolicy(**arguments)
