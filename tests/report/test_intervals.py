from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from omniloop.core.seeds import generator
from omniloop.report.intervals import (
    ALL_ALIKE,
    TOO_FEW,
    bootstrap,
    bootstrap_ratio_differences,
    paired_rates,
    wilson,
)


@pytest.mark.parametrize(
    ("k", "n"), [(0, 1), (1, 1), (0, 10), (1, 10), (5, 10), (81, 263), (7, 500)]
)
def test_wilson_agrees_with_scipy(k, n):
    ours, theirs = wilson(k / n, n), binomtest(k, n).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours.method == "Wilson"


def test_wilson_of_the_literature():
    # Newcombe, Two-sided confidence intervals for the single proportion, 1998, table I.
    for k, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
    ):
        found = wilson(k / n, n)
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_without_a_trial_there_is_no_rate():
    assert wilson(0.0, 0).low is None


@given(st.integers(1, 400), st.floats(0, 1))
def test_a_rate_lies_in_its_interval(n, rate):
    found = wilson(rate, n)
    assert 0 <= found.low <= rate + 1e-12
    assert rate - 1e-12 <= found.high <= 1


def test_paired_rates_by_hand():
    # 3 gained, 1 lost of 18: (4 - 2) / 20 +- 1.96 sqrt((6 / 20 - 0.01) / 20)
    found = paired_rates(3, 1, 18)
    half = 1.959963984540054 * np.sqrt(0.29 / 20)
    assert (found.low, found.high) == pytest.approx((0.1 - half, 0.1 + half))
    none = paired_rates(0, 0, 50)
    assert none.low == pytest.approx(-none.high)
    assert paired_rates(1, 0, 1).reason == TOO_FEW


def test_below_two_scenes_or_without_spread_there_is_no_bootstrap():
    assert bootstrap(np.array([[3.0]]))[0].reason == TOO_FEW
    assert bootstrap(np.zeros((0, 1)))[0].reason == TOO_FEW
    assert bootstrap(np.full((5, 1), 0.1) + [[0], [1e-17], [0], [0], [0]])[0].reason == ALL_ALIKE


def test_two_scenes_give_the_range_of_both():
    found = bootstrap(np.array([[1.0], [3.0]]))[0]
    assert (found.low, found.high) == (1.0, 3.0)


def test_the_same_input_gives_the_same_interval_alone_and_among_others():
    values = generator(1, "values").normal(size=(12, 3))
    together = bootstrap(values)
    assert together == bootstrap(values)
    assert bootstrap(values[:, 1:2])[0].low == pytest.approx(together[1].low, abs=1e-12)


@given(st.integers(2, 9), st.floats(-50, 50), st.floats(0.1, 20))
def test_the_interval_moves_with_the_unit(n, shift, scale):
    values = generator(2, "values").normal(size=(n, 1))
    found, moved = bootstrap(values)[0], bootstrap(values * scale + shift)[0]
    assert moved.low == pytest.approx(found.low * scale + shift, abs=1e-7)
    assert moved.high == pytest.approx(found.high * scale + shift, abs=1e-7)


def test_many_scenes_are_drawn_in_parts_with_the_textbook_result():
    values = generator(3, "values").normal(2.0, 3.0, size=(900, 1))  # more than fits at once
    found = bootstrap(values)[0]
    error = values.std(ddof=1) / np.sqrt(900)
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


@pytest.mark.parametrize(
    ("scenes", "kind", "least"),
    [
        (6, "normal", 0.90),
        (20, "normal", 0.93),
        (10, "exponential", 0.89),
        (50, "exponential", 0.93),
    ],
)
def test_intervals_hold_the_truth_about_as_often_as_they_say(scenes, kind, least):
    random = generator(4, kind, scenes)
    trials = 800
    values = random.normal(size=(scenes, trials)) + 1
    if kind == "exponential":
        values = random.exponential(size=(scenes, trials))
    held = np.mean([i.low <= 1 <= i.high for i in bootstrap(values)])
    assert least <= held <= 0.975  # +- 2 standard errors of 800 trials: 0.015


def test_a_ratio_is_of_sums_not_of_ratios():
    # Rates per km: 1 incident in 1 km, none in 99 km.
    incidents, km = np.array([[1.0], [0.0], [1.0]]), np.array([[1.0], [99.0], [1.0]])
    found = bootstrap(incidents, km)[0]
    assert found.low >= 0
    assert found.low < 2 / 101 < found.high


def test_intervals_of_a_ratio_hold_the_truth():
    random = generator(5, "ratio")
    km = random.uniform(0.1, 1.0, size=(30, 600))
    incidents = (random.random((30, 600)) < km * 0.5).astype(float)  # 0.5 per km
    held = np.mean([i.low is not None and i.low <= 0.5 <= i.high for i in bootstrap(incidents, km)])
    assert 0.90 <= held <= 0.985


def test_with_weights_of_one_a_difference_of_ratios_is_one_of_means():
    random = generator(0, "differences")
    one, two = random.normal(size=(2, 12, 3))
    ones = np.ones_like(one)
    found = bootstrap_ratio_differences((one, ones), (two, ones))
    for ours, theirs in zip(found, bootstrap(two - one), strict=True):
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_a_ratio_against_nothing_is_the_ratio():
    random = generator(0, "ratios")
    values, weights = random.exponential(size=(2, 9, 2))
    found = bootstrap_ratio_differences((np.zeros_like(values), weights), (values, weights))
    assert found == bootstrap(values, weights)


def test_ratios_that_cannot_differ_say_so():
    ones = np.ones((4, 1))
    values = np.arange(4.0)[:, None]
    for first, second in (
        ((values, ones), (values, ones)),
        ((0 * ones, ones), (0 * ones, values)),
        ((ones, ones), (2 * ones, ones)),
    ):
        assert bootstrap_ratio_differences(first, second)[0].reason == ALL_ALIKE
    assert bootstrap_ratio_differences((ones[:1], ones[:1]), (ones[:1], ones[:1]))[0].reason == TOO_FEW  # fmt: skip
