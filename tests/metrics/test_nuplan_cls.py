"""nuPlan's comfort, its closed-loop score, and both on real recordings driven again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import savgol_filter

from omniloop.core import geometry
from omniloop.core.motion import EgoMotion
from omniloop.core.scene import VectorMap
from omniloop.metrics import nuplan_comfort as comfort
from omniloop.metrics.comfort_filters import ComfortSeries, comfort_of
from omniloop.metrics.navsim_driven import NavsimDrivenMetric
from omniloop.metrics.nuplan_cls import (
    MULTIPLIERS,
    NAME,
    WEIGHTS,
    NuplanClsMetric,
    closed_loop_score,
)
from omniloop.metrics.nuplan_collisions import NuplanCollisionsMetric
from omniloop.metrics.nuplan_comfort import NuplanComfortMetric
from omniloop.metrics.nuplan_drivable_area import NuplanDrivableAreaMetric
from omniloop.metrics.nuplan_driving_direction import NuplanDrivingDirectionMetric
from omniloop.metrics.nuplan_progress import NuplanProgressMetric
from omniloop.metrics.nuplan_speed_limit import NuplanSpeedLimitMetric
from omniloop.metrics.nuplan_ttc import NuplanTtcMetric
from omniloop.metrics.samples import score_samples
from omniloop.metrics.scoring import score
from tests.metrics.nuplan_records import (
    TWO_LANES,
    random_record,
    replayed,
    shared_scene,
    straight,
    with_exact_motion,
)
from tests.metrics.records import Body, Path, by_name, moving, record, transformed

METRICS = (
    NuplanClsMetric(), NuplanCollisionsMetric(), NuplanDrivableAreaMetric(),
    NuplanProgressMetric(), NuplanDrivingDirectionMetric(), NuplanTtcMetric(),
    NuplanSpeedLimitMetric(), NuplanComfortMetric(), NavsimDrivenMetric(),
)  # fmt: skip

ONES: dict[str, float | None] = dict.fromkeys([*MULTIPLIERS, *WEIGHTS], 1.0)

P, TTC, SL, CF = WEIGHTS


# ---------------------------------------------------------------------------- comfort


def accelerating(accel: float, speed: float = 10.0) -> Path:
    return lambda t: (speed * t + accel * t * t / 2, 0.0, 0.0)


def turning(speed: float, radius_m: float) -> Path:
    return lambda t: (
        radius_m * np.sin(speed * t / radius_m),
        radius_m * (1 - np.cos(speed * t / radius_m)),
        speed * t / radius_m,
    )


def comfortable(ego: Path, **kwargs: float) -> tuple[float | None, set[str]]:
    made = record(ego, recorded=moving(0, 0, 10), duration_s=kwargs.pop("duration_s", 4.0))
    made = with_exact_motion(made, ego)
    value = by_name(NuplanComfortMetric(), made)[comfort.NAME]
    return value.value, set(value.details.get("beyond_bounds", {}))  # type: ignore[call-overload]


def test_accelerations_within_the_bounds_are_comfortable() -> None:
    assert comfortable(accelerating(2.39)) == (1.0, set())
    assert comfortable(accelerating(2.41)) == (0.0, {"lon_accel_mps2"})
    assert comfortable(accelerating(-4.04, 20)) == (1.0, set())
    assert comfortable(accelerating(-4.06, 20)) == (0.0, {"lon_accel_mps2"})


def test_turns_are_bounded_by_lateral_acceleration_and_yaw_rate() -> None:
    assert comfortable(turning(10, 21)) == (1.0, set())  # 4.76 m/s2
    assert comfortable(turning(10, 20)) == (0.0, {"lat_accel_mps2"})  # 5 m/s2
    assert comfortable(turning(4.5, 4.8)) == (1.0, set())  # 0.94 rad/s
    assert comfortable(turning(4.5, 4.7)) == (0.0, {"yaw_rate_radps"})  # 0.957 rad/s


def test_yaw_acceleration_is_bounded() -> None:
    def spinning_up(rate: float) -> Path:
        return lambda t: (5 * t, 0.0, rate * (np.clip(t, 0, 0.4)) ** 2 / 2)

    assert "yaw_accel_radps2" in comfortable(spinning_up(2.2))[1]
    assert "yaw_accel_radps2" not in comfortable(spinning_up(1.5))[1]


def test_jerk_is_bounded() -> None:
    """The ends of the filters add up to a third to it."""

    def jerking(jerk: float) -> Path:
        return lambda t: (20 * t + jerk * t**3 / 6, 0.0, 0.0)

    assert "lon_jerk_mps3" not in comfortable(jerking(-3.0), duration_s=2.0)[1]
    assert "lon_jerk_mps3" in comfortable(jerking(-4.4), duration_s=2.0)[1]
    assert "jerk_mps3" not in comfortable(jerking(-6.0), duration_s=2.0)[1]
    assert "jerk_mps3" in comfortable(jerking(-9.0), duration_s=2.0)[1]


ORACLE_BOUNDS = {
    "lon_accel_mps2": (-4.05, 2.40), "lat_accel_mps2": (-4.89, 4.89), "jerk_mps3": (-8.37, 8.37),
    "lon_jerk_mps3": (-4.13, 4.13), "yaw_rate_radps": (-0.95, 0.95),
    "yaw_accel_radps2": (-1.93, 1.93),
}  # fmt: skip
"""Of reference/metrics.md C.1."""


@pytest.mark.parametrize("name", ORACLE_BOUNDS)
@pytest.mark.parametrize("end", [0, 1])
def test_a_quantity_may_reach_its_bound_and_not_pass_it(name: str, end: int) -> None:
    bound = ORACLE_BOUNDS[name][end]
    calm = ComfortSeries(*np.zeros((len(ORACLE_BOUNDS), 9)))
    for value, expected in ((bound, set()), (np.nextafter(bound, 2 * bound), {name})):
        one_sample = np.zeros(9)
        one_sample[4] = value
        series = replace(calm, **{name: one_sample})  # type: ignore[arg-type]
        assert set(comfort.beyond_bounds(series)) == expected


@pytest.mark.parametrize("samples", [4, 5, 9, 40])
def test_the_filters_are_scipys_with_windows_that_shrink(samples: int) -> None:
    rng = np.random.default_rng(samples)
    sway: Path = lambda t: (8 * t + 0.2 * np.sin(5 * t), 0.1 * np.cos(4 * t), 0.3 * np.sin(3 * t))  # noqa: E731
    made = record(sway, duration_s=(samples - 1) / 10)
    dynamics = made.ego.dynamics + rng.normal(0, 0.1, made.ego.dynamics.shape)
    made = replace(made, ego=EgoMotion(made.ego.times_us, made.ego.local_to_rig, dynamics))
    at = score_samples(made)
    assert at is not None
    assert len(at.times_us) == samples
    yaw = geometry.yaw_rad(at.ego.local_to_rig)
    ahead, aside = np.array([np.cos(yaw), np.sin(yaw)]).T, np.array([-np.sin(yaw), np.cos(yaw)]).T
    centre = at.ego.velocity_mps + (at.ego.yaw_rate_radps * 1.0)[:, None] * aside
    accel = np.gradient(centre, 0.1, axis=0)
    lon, lat = np.sum(accel * ahead, axis=1), np.sum(accel * aside, axis=1)

    def smooth(values: np.ndarray) -> np.ndarray:
        return np.round(savgol_filter(values, min(8, samples), 2), 8)

    def derived(values: np.ndarray, window: int, order: int, times: int) -> np.ndarray:
        used = min(window, samples)
        return np.round(savgol_filter(values, used, order, deriv=times, delta=0.1), 8)

    found = comfort_of(made)
    near = {"rtol": 0, "atol": 2e-8}
    np.testing.assert_allclose(found.lon_accel_mps2, smooth(lon), **near)
    np.testing.assert_allclose(found.lat_accel_mps2, smooth(lat), **near)
    size = smooth(np.hypot(lon, lat))
    np.testing.assert_allclose(found.jerk_mps3, derived(size, 15, 2, 1), rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        found.lon_jerk_mps3, derived(smooth(lon), 15, 2, 1), rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(found.yaw_rate_radps, derived(yaw, 5, 2, 1), **near)
    np.testing.assert_allclose(found.yaw_accel_radps2, derived(yaw, 5, 3, 2), rtol=0, atol=1e-6)


def test_scipy_fits_the_even_window_of_nuplan_half_a_sample_ahead() -> None:
    """The middle of 8 samples lies between two; at the ends the fit is read where it belongs."""
    expected = (np.arange(20.0) + 0.5) ** 2
    expected[:4], expected[-4:] = np.arange(4.0) ** 2, np.arange(16.0, 20.0) ** 2
    np.testing.assert_allclose(savgol_filter(np.arange(20.0) ** 2, 8, 2), expected, atol=1e-9)


def test_three_samples_are_too_few_for_comfort() -> None:
    made = record(moving(0, 0, 10), duration_s=0.2)
    value = by_name(NuplanComfortMetric(), made)[comfort.NAME]
    assert (value.value, value.reason) == (None, comfort.TOO_SHORT)
    assert comfortable(moving(0, 0, 10), duration_s=0.3) == (1.0, set())


# -------------------------------------------------------------------------------- CLS


def test_the_closed_loop_score_is_a_product_times_a_weighted_mean() -> None:
    assert closed_loop_score(ONES) == 1.0
    halves = {"nuplan_no_ego_at_fault_collisions": 0.5, "nuplan_driving_direction_compliance": 0.5}
    assert closed_loop_score(ONES | halves) == 0.25
    parts = {P: 0.6, TTC: 0.0, SL: 0.5, CF: 1.0}
    assert closed_loop_score(ONES | parts) == pytest.approx((5 * 0.6 + 4 * 0.5 + 2) / 16)
    for name in MULTIPLIERS:
        assert closed_loop_score(ONES | {name: 0.0}) == 0.0


@pytest.mark.parametrize("name", WEIGHTS)
def test_an_undefined_term_is_left_out_with_its_weight(name: str) -> None:
    parts = {P: 0.6, TTC: 0.6, SL: 0.5, CF: 0.0}
    whole = 5 * 0.6 + 5 * 0.6 + 4 * 0.5
    expected = (whole - WEIGHTS[name] * parts[name]) / (16 - WEIGHTS[name])
    found = closed_loop_score(ONES | parts | {name: None})
    assert found == pytest.approx(expected)


def test_undefined_multipliers_are_left_out_and_no_weighted_term_is_no_score() -> None:
    assert closed_loop_score(ONES | dict.fromkeys(MULTIPLIERS)) == 1.0
    assert closed_loop_score(ONES | dict.fromkeys(WEIGHTS)) is None


def test_the_score_names_what_it_left_out() -> None:
    value = by_name(NuplanClsMetric(), record(moving(0, 0, 10), vector_map=TWO_LANES))[NAME]
    assert value.value == 1.0
    assert list(value.details["left_out"]) == [SL]  # type: ignore[call-overload]
    made = record(moving(0, 0, 10), driven_s=0.0)
    assert by_name(NuplanClsMetric(), made)[NAME].value is None


def test_the_score_is_made_of_the_scores_beside_it() -> None:
    lanes = (straight("right", 0, speed_limit_mps=9.0), straight("left", 4, speed_limit_mps=9.0))
    made = record(
        moving(0, 0, 9.5), [Body(moving(16, 0, 5))], recorded=moving(0, 0, 12),
        vector_map=VectorMap(lanes=lanes),
    )  # fmt: skip
    values = {v.name: v.value for v in score(made, METRICS)}
    terms = {name: values[name] for name in ONES}
    assert values[NAME] == closed_loop_score(terms)
    assert 0.0 < values[NAME] < 1.0  # type: ignore[operator]


# ------------------------------------------------------------------- real and moved ones


@pytest.mark.parametrize(("source", "number"), [("nuscenes", 1), ("av2", 1)])
def test_the_expert_driven_again_scores_well(
    shared_data: FilePath, source: str, number: int
) -> None:
    """nuPlan's own expert does not reach 1 either: rough poses break bounds of comfort."""
    made = replayed(shared_scene(shared_data, source, number))
    found = {v.name: v.value for v in score(made, METRICS)}
    for name in ONES:
        if name not in (SL, CF):
            assert found[name] == 1.0, name
    assert found[SL] is None
    assert found[NAME] == pytest.approx(1.0 if source == "nuscenes" else 10 / 12)
    for name, value in found.items():
        if name.startswith("navsim_") and value is not None:
            assert value == 1.0, name


def test_the_random_rollouts_below_show_all_kinds_of_outcome() -> None:
    values = [{v.name: v.value for v in score(random_record(i), METRICS)} for i in range(60)]
    for name in ONES:
        assert len({v[name] for v in values}) >= 2, name
    for part in ("nc", "dac", "ddc", "ttc", "lk", "hc"):
        assert {v[f"navsim_{part}_driven"] for v in values} >= {0.0, 1.0}, part


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    yaw=st.floats(-np.pi, np.pi),
    x=st.floats(-1e4, 1e4),
    y=st.floats(-1e4, 1e4),
    shift_us=st.integers(-1_000_000, 2_000_000_000_000_000),
)
def test_no_score_depends_on_the_frame_or_on_the_clock(
    seed: int, yaw: float, x: float, y: float, shift_us: int
) -> None:
    made = random_record(seed)
    moved = transformed(made, geometry.pose(x, y, 3.0, yaw), shift_us)
    for here, there in zip(score(made, METRICS), score(moved, METRICS), strict=True):
        assert (here.name, here.reason) == (there.name, there.reason)
        if here.value is not None:
            assert here.value == pytest.approx(there.value, rel=1e-6, abs=1e-6), here.name
