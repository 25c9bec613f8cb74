from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core.geometry import Array
from omniloop.core.record import RolloutRecord
from omniloop.metrics.comfort import ComfortMetric
from omniloop.metrics.comfort_filters import comfort_of, comfort_series, smoothed
from tests.metrics.records import Path, by_name, moving, record


def braking(accel: float, speed: float = 10.0) -> Path:
    return lambda t: (speed * t + accel * t**2 / 2, 0.0, 0.0)


def circle(speed: float, radius: float) -> Path:
    """The rig origin on a circle."""
    w = speed / radius
    return lambda t: (radius * np.sin(w * t), radius - radius * np.cos(w * t), w * t)


def values_of(made: RolloutRecord, **bounds: float) -> dict[str, float | None]:
    return {k: v.value for k, v in by_name(ComfortMetric(**bounds), made).items()}


def values(path: Path, **bounds: float) -> dict[str, float | None]:
    return values_of(record(path, duration_s=4), **bounds)


def test_a_steady_ride_is_comfortable() -> None:
    found = values(moving(0, 0, 10))
    assert found["comfort"] == 1.0
    assert found["comfort_share"] == 1.0
    assert found["jerk_max_mps3"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("accel", "comfortable"), [(2.39, 1.0), (2.41, 0.0), (-4.04, 1.0), (-4.06, 0.0)]
)
def test_constant_acceleration_has_its_bounds(accel: float, comfortable: float) -> None:
    made = record(braking(accel, 20.0), duration_s=4)
    # Finite differences are one-sided at the last state; what was driven is known exactly.
    dynamics = made.ego.dynamics.copy()
    dynamics[:, 0] = 20.0 + accel * (made.ego.times_us - 1_500_000) / 1e6
    made = replace(made, ego=replace(made.ego, dynamics=dynamics))
    found = {k: v.value for k, v in by_name(ComfortMetric(), made).items()}
    assert found["accel_max_mps2"] == pytest.approx(max(accel, 0), abs=1e-6)
    assert found["decel_max_mps2"] == pytest.approx(max(-accel, 0), abs=1e-6)
    assert found["comfort"] == comfortable
    assert found["comfort_share"] == comfortable


def test_a_circle_has_the_centripetal_acceleration_of_the_box_centre() -> None:
    # The centre is 1 m ahead of the rig origin: its acceleration w^2 (1, R) in rig axes.
    speed, radius = 10.0, 25.0
    w = speed / radius
    made = record(circle(speed, radius), duration_s=4, step_us=20_000)
    series = comfort_of(made)
    inner = slice(8, -8)
    assert series.lat_accel_mps2[inner] == pytest.approx(w**2 * radius, rel=2e-3)
    assert series.lon_accel_mps2[inner] == pytest.approx(-(w**2), rel=2e-2)
    assert series.yaw_rate_radps[inner] == pytest.approx(w, rel=1e-6)
    assert series.yaw_accel_radps2[inner] == pytest.approx(0, abs=1e-6)


def test_each_bound_is_named_when_it_is_broken() -> None:
    fast = by_name(ComfortMetric(), record(circle(12.0, 20.0), duration_s=4))
    assert fast["comfort"].value == 0.0
    assert fast["comfort"].details["broken"] == ["max_lat_accel_mps2"]
    tight = by_name(ComfortMetric(), record(circle(2.0, 2.0), duration_s=4))
    assert "max_yaw_rate_radps" in tight["comfort"].details["broken"]


def test_a_sudden_brake_breaks_the_bound_on_jerk_for_a_part_of_the_time() -> None:
    def slams(t: Array) -> tuple[object, object, object]:
        since = np.clip(t - 2.0, 0.0, 0.5)
        return 20 * t - 3.0 * since**2 - 3.0 * np.clip(t - 2.5, 0.0, None), 0.0, 0.0

    found = values(slams)
    assert found["comfort"] == 0.0
    assert found["lon_jerk_max_mps3"] == found["jerk_max_mps3"]
    assert found["lon_jerk_max_mps3"] > 4.13  # type: ignore[operator]
    assert 0.5 < found["comfort_share"] < 1.0  # type: ignore[operator]


def test_a_short_run_is_undefined() -> None:
    short = by_name(ComfortMetric(), record(moving(0, 0, 5), duration_s=1.3))
    assert all("score samples" in v.reason for v in short.values())
    longer = by_name(ComfortMetric(), record(moving(0, 0, 5), duration_s=1.4))
    assert longer["comfort"].value == 1.0


@pytest.mark.parametrize(
    ("window", "order", "derivative"), [(8, 2, 0), (15, 2, 1), (5, 2, 1), (5, 3, 2), (15, 3, 2)]
)
@pytest.mark.parametrize("count", [4, 5, 7, 8, 9, 14, 15, 16, 40])
def test_filters_are_those_of_scipy(count: int, window: int, order: int, derivative: int) -> None:
    from scipy.signal import savgol_filter

    data = np.random.default_rng(count).normal(size=(2, count))
    expected = savgol_filter(data, min(window, count), order, deriv=derivative, delta=0.1)
    assert smoothed(data, window, order, 0.1, derivative) == pytest.approx(expected, abs=2e-8)


def test_windows_shrink_to_the_sequence_and_too_few_values_are_refused() -> None:
    line = np.arange(6.0)
    assert smoothed(line, 15, 2, 0.5, 1) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="too few"):
        smoothed(line[:2], 8, 2, 0.1)
    with pytest.raises(ValueError, match="too few"):
        comfort_series(np.zeros((3, 2)), np.zeros(3), 0.1)


def test_values_are_rounded_as_nuplan_rounds_them() -> None:
    found = smoothed(np.random.default_rng(1).normal(size=30), 8, 2, 0.1)
    assert (found == np.round(found, 8)).all()


def test_bounds_are_nuplans() -> None:
    assert ComfortMetric().bounds == (2.40, 4.05, 4.89, 8.37, 4.13, 0.95, 1.93)


def test_a_quantity_may_reach_its_bound_and_not_pass_it() -> None:
    """A bumpy ride; each bound in turn is put on what it reached and just below that."""
    bumpy: Path = lambda t: (10 * t + np.sin(3 * t), 0.1 * np.sin(4 * t), 0.2 * np.sin(2 * t))  # noqa: E731
    made = record(bumpy, duration_s=3)
    names = ("accel_mps2", "decel_mps2", "lat_accel_mps2", "jerk_mps3", "lon_jerk_mps3",
             "yaw_rate_radps", "yaw_accel_radps2")  # fmt: skip
    reached = values_of(made, **{f"max_{name}": 1e6 for name in names})
    for name in names:
        stem, _, unit = name.rpartition("_")
        most = reached[f"{stem}_max_{unit}"]
        assert most is not None
        assert most > 0
        for bound, comfortable in ((most, 1.0), (float(np.nextafter(most, 0)), 0.0)):
            bounds = {f"max_{n}": 1e6 for n in names} | {f"max_{name}": bound}
            assert values_of(made, **bounds)["comfort"] == comfortable, name


@settings(max_examples=25)
@given(factor=st.floats(1.0, 4.0), accel=st.floats(-6, 6), seed=st.integers(0, 1000))
def test_wider_bounds_are_never_less_comfortable(factor: float, accel: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rate = rng.uniform(0.5, 2)

    def ride(t: Array) -> tuple[object, object, object]:
        return 10 * t + accel * np.sin(rate * t), np.sin(t), 0.1 * np.cos(t)

    made = record(ride, duration_s=2)
    tight = ComfortMetric()
    wide = ComfortMetric(
        **{
            f"max_{name}": bound * factor
            for name, bound in zip(
                ("accel_mps2", "decel_mps2", "lat_accel_mps2", "jerk_mps3", "lon_jerk_mps3",
                 "yaw_rate_radps", "yaw_accel_radps2"),
                tight.bounds, strict=True,
            )
        }
    )  # fmt: skip
    before, after = by_name(tight, made), by_name(wide, replace(made))
    for name in ("comfort", "comfort_share"):
        assert after[name].value >= before[name].value  # type: ignore[operator]
