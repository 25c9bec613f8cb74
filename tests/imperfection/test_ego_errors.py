from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.motion import EgoMotion
from omniloop.imperfection.ego_motion import (
    KNOT_US,
    EgoErrors,
    ego_estimator,
    gauss_markov_knots,
)
from omniloop.imperfection.settings import EgoMotionSettings

START_US = 315_971_916_927_482
NOISY = EgoMotionSettings(
    along_m=0.5, across_m=0.3, yaw_rad=0.05, speed_mps=0.4, correlation_s=2.0,
    white_along_m=0.1, white_across_m=0.1, white_yaw_rad=0.01, white_speed_mps=0.1,
)  # fmt: skip


def turning(times_us: np.ndarray) -> EgoMotion:
    """A car on a circle, on a slope, with motion that tells its time."""
    s = (times_us - START_US) / 1e6
    poses = geometry.poses_from_xyz_yaw(
        np.stack([50 * np.sin(s / 5), 50 - 50 * np.cos(s / 5), 0.1 * s], 1), s / 5
    )
    tilt = np.array([0.0, 0.0, 0.0, 0.0, np.sin(0.02), 0.0, np.cos(0.02)])
    dynamics = np.outer(s, np.arange(1, 13.0))
    return EgoMotion(times_us, geometry.compose(poses, tilt), dynamics)


def straight(times_us: np.ndarray) -> EgoMotion:
    s = (times_us - START_US) / 1e6
    xyz = np.stack([10 * s, 0 * s, 0 * s], 1)
    dynamics = np.zeros((len(s), 12))
    dynamics[:, 0] = 10
    return EgoMotion(times_us, geometry.poses_from_xyz_yaw(xyz, 0 * s), dynamics)


def estimate(settings: EgoMotionSettings, batches: list[EgoMotion], seed: int = 7) -> EgoMotion:
    make = ego_estimator(settings, START_US, START_US + 20_000_000, seed)
    assert make is not None
    estimator = make()
    told = [estimator(batch) for batch in batches]
    return EgoMotion(
        *(np.concatenate([getattr(t, name) for t in told]) for name in ("times_us", "local_to_rig", "dynamics"))
    )  # fmt: skip


gaps = st.lists(st.integers(1_000, 100_000), min_size=2, max_size=60)


@given(
    gaps,
    st.lists(st.integers(1, 60), max_size=5),
    st.sampled_from([0, 1, 70_000, 100_000, 5_000_000]),
)
def test_the_estimate_does_not_depend_on_how_motion_is_split_into_batches(gaps, cuts, delay_us):  # fmt: skip
    times = START_US + np.cumsum([0, *gaps])
    settings = NOISY.model_copy(update={"delay_us": delay_us})
    whole = estimate(settings, [turning(times)])
    parts = [p for p in np.split(times, sorted({c for c in cuts if c < len(times)})) if len(p)]
    split = estimate(settings, [turning(part) for part in parts])
    assert whole.local_to_rig.tobytes() == split.local_to_rig.tobytes()
    assert whole.dynamics.tobytes() == split.dynamics.tobytes()


@given(gaps, st.sampled_from([0, 70_000, 300_000]))
def test_the_error_at_a_time_does_not_depend_on_the_other_state_times(gaps, delay_us):
    settings = NOISY.model_copy(update={"delay_us": delay_us})
    few = START_US + np.cumsum([0, *gaps])
    many = np.union1d(few, np.arange(START_US, few[-1], 13_000))
    sparse, dense = estimate(settings, [straight(few)]), estimate(settings, [straight(many)])
    both = np.isin(many, few)
    assert np.allclose(dense.local_to_rig[both], sparse.local_to_rig, atol=1e-9)
    assert np.allclose(dense.dynamics[both], sparse.dynamics, atol=1e-9)


@given(gaps)
def test_the_estimate_is_of_unit_quaternions_at_the_same_times_and_unlike_the_truth(gaps):
    times = START_US + np.cumsum([0, *gaps])
    told = estimate(NOISY, [turning(times)])
    assert np.array_equal(told.times_us, times)
    assert np.allclose(np.linalg.norm(told.local_to_rig[:, 3:], axis=1), 1, atol=1e-15)
    assert not np.isclose(told.local_to_rig[:, :2], turning(times).local_to_rig[:, :2]).all(1).any()


def test_a_delay_alone_shows_the_true_state_of_a_while_ago_and_the_first_one_before():
    times = START_US + np.arange(0, 2_000_001, 50_000)
    told = estimate(EgoMotionSettings(delay_us=125_000), [turning(times)])
    ago = turning(np.maximum(times - 125_000, START_US))
    assert np.array_equal(told.local_to_rig[:3], turning(times[:1]).local_to_rig.repeat(3, 0))
    assert np.allclose(told.local_to_rig, ago.local_to_rig, atol=1e-3)  # a chord of the circle
    assert np.allclose(told.dynamics, ago.dynamics)


def test_height_roll_and_pitch_have_no_error_and_only_forward_speed_has_one():
    times = START_US + np.arange(0, 5_000_001, 50_000)
    true, told = turning(times), estimate(NOISY, [turning(times)])
    assert np.array_equal(true.local_to_rig[:, 2], told.local_to_rig[:, 2])
    up_true, up_told = (
        geometry.rotate(geometry.conjugate(m.local_to_rig[:, 3:]), np.array([[0, 0, 1.0]]))
        for m in (true, told)
    )
    assert np.allclose(up_true, up_told, atol=1e-12)
    assert np.array_equal(true.dynamics[:, 1:], told.dynamics[:, 1:])
    assert not np.isclose(true.dynamics[:, 0], told.dynamics[:, 0]).any()


def test_errors_lie_along_and_across_the_heading():
    times = START_US + np.arange(0, 5_000_001, 50_000)
    true = turning(times)
    for setting, axis in (("along_m", 0), ("across_m", 1)):
        told = estimate(EgoMotionSettings(**{setting: 1.0}), [true])
        offset = told.local_to_rig[:, :3] - true.local_to_rig[:, :3]
        level = geometry.poses_from_xyz_yaw(0 * offset, geometry.yaw_rad(true.local_to_rig))
        in_car = geometry.rotate(geometry.conjugate(level[:, 3:]), offset)
        assert np.abs(in_car[:, axis]).max() > 0.1
        assert np.allclose(np.delete(in_car, axis, 1), 0, atol=1e-12)
        assert np.allclose(told.local_to_rig[:, 3:], true.local_to_rig[:, 3:], atol=1e-15)


def test_one_error_switched_on_leaves_the_others_as_they_were():
    span = START_US, START_US + 10_000_000
    times = np.arange(*span, 37_000)
    alone = EgoErrors(EgoMotionSettings(across_m=1.0), *span, seed=3).at(times)
    together = EgoErrors(NOISY.model_copy(update={"across_m": 1.0, "white_across_m": 0.0, "correlation_s": 5.0}), *span, seed=3).at(times)  # fmt: skip
    assert np.array_equal(alone[:, 1], together[:, 1])
    assert not alone[:, [0, 2, 3]].any()
    assert together[:, [0, 2, 3]].all()


def test_errors_do_not_depend_on_where_the_rollout_ends():
    times = START_US + np.arange(0, 3_000_000, 41_000)
    short = EgoErrors(NOISY, START_US, START_US + 3_000_000, 1).at(times)
    assert np.array_equal(short, EgoErrors(NOISY, START_US, START_US + 90_000_000, 1).at(times))


@pytest.mark.parametrize("offset_us", [0, 25_000, 50_000])
def test_gauss_markov_errors_have_their_deviation_and_correlation_at_and_between_knots(offset_us):
    settings = EgoMotionSettings(along_m=0.5, yaw_rad=0.1, correlation_s=1.0)
    end_us = START_US + 200_000 * KNOT_US
    errors = EgoErrors(settings, START_US, end_us, seed=11).at(
        np.arange(START_US, end_us - KNOT_US, KNOT_US) + offset_us
    )
    along, yaw = errors[:, 0], errors[:, 2]
    # 20,000 s of a correlation time of 1 s are 10,000 independent samples: 1.5 % is 2 sigma.
    assert along.std() == pytest.approx(0.5, rel=0.02)
    assert yaw.std() == pytest.approx(0.1, rel=0.02)
    assert abs(np.corrcoef(along, yaw)[0, 1]) < 0.03
    a, f = np.exp(-0.1), offset_us / KNOT_US
    apart, together = (1 - f) ** 2 + f**2, f * (1 - f)
    for steps in (10, 20):  # at the knots it is a ** steps, the exponential of the time between
        wanted = apart * a**steps + together * (a ** (steps - 1) + a ** (steps + 1))
        wanted /= apart + 2 * together * a
        found = np.corrcoef(along[:-steps], along[steps:])[0, 1]
        assert found == pytest.approx(wanted, abs=0.03)


@pytest.mark.parametrize("offset_us", [0, 30_000, 50_000])
def test_white_errors_have_their_deviation_and_no_correlation(offset_us):
    settings = EgoMotionSettings(white_across_m=0.2)
    end_us = START_US + 50_000 * KNOT_US
    across = EgoErrors(settings, START_US, end_us, seed=11).at(
        np.arange(START_US, end_us - KNOT_US, KNOT_US) + offset_us
    )[:, 1]
    assert across.std() == pytest.approx(0.2, rel=0.02)
    assert abs(np.corrcoef(across[:-2], across[2:])[0, 1]) < 0.015


def test_gauss_markov_by_hand():
    knots = gauss_markov_knots(0.6, np.array([[1.0], [2.0], [-1.0]]))
    assert np.allclose(knots[:, 0], [1.0, 0.6 + 1.6, 0.6 * 2.2 - 0.8])


def test_nothing_is_estimated_when_nothing_is_on():
    assert ego_estimator(EgoMotionSettings(correlation_s=1.0), 0, 1_000_000, 1) is None
