"""Frechet and kernel distances against closed forms, matrix roots and loops."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.report.image_metrics.distribution import (
    frechet_distance,
    kernel_distance,
    unbiased_mmd2,
)


def sample(mean, factor, count: int, seed: int = 0) -> np.ndarray:
    """Vectors whose sample mean is `mean` and whose unbiased covariance is ``factor factor^T``."""
    mean, factor = np.atleast_1d(mean), np.atleast_2d(factor)
    drawn = np.random.default_rng(seed).normal(size=(count, factor.shape[1]))
    white = np.linalg.qr(drawn - drawn.mean(axis=0))[0] * np.sqrt(count - 1)
    return mean + white @ factor.T


def test_gaussians_of_one_dimension_are_apart_by_means_and_deviations():
    a, b = sample(1.0, 2.0, 50), sample(4.0, 0.5, 80, seed=1)
    assert frechet_distance(a, b) == pytest.approx(3.0**2 + 1.5**2)


def test_diagonal_covariances_add_up_over_the_axes():
    one, two = np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.5, 3.0])
    a, b = sample(np.zeros(3), np.diag(one), 40), sample([1, 0, -1], np.diag(two), 60, seed=1)
    assert frechet_distance(a, b) == pytest.approx(2 + ((one - two) ** 2).sum())


@pytest.mark.parametrize("count", [5, 9, 300])
def test_full_covariances_agree_with_the_root_of_their_product(count):
    random = np.random.default_rng(3)
    a = random.normal(size=(count, 6)) @ random.normal(size=(6, 6)) + 0.3
    b = random.normal(size=(count + 40, 6)) @ random.normal(size=(6, 6))
    one, two = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(one @ two)
    apart = a.mean(axis=0) - b.mean(axis=0)
    expected = apart @ apart + np.trace(one + two - 2 * root).real
    # Where there are fewer samples than features the reference, not the score, loses digits.
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9 if count > 6 else 1e-6)


def test_a_singular_covariance_gives_the_closed_form():
    line = np.array([[3.0], [0.0], [0.0]])  # all variance on one axis, 9
    a, b = sample(np.zeros(3), line, 30), sample(np.zeros(3), np.eye(3), 40, seed=1)
    assert frechet_distance(a, b) == pytest.approx(9 + 3 - 2 * 3, rel=1e-12)
    across = np.array([[0.0], [2.0], [0.0]])
    assert frechet_distance(a, sample(np.zeros(3), across, 30)) == pytest.approx(9 + 4, rel=1e-12)
    still = np.tile([1.0, 2.0, 2.0], (5, 1))  # no variance at all
    assert frechet_distance(a, still) == pytest.approx(9 + 9, rel=1e-12)


def test_fewer_samples_than_features_are_exact():
    a, b = (np.random.default_rng(k).normal(size=(4, 500)) for k in (1, 2))
    means = a.mean(axis=0) - b.mean(axis=0)
    expected = means @ means + a.var(axis=0, ddof=1).sum() + b.var(axis=0, ddof=1).sum()
    one, two = (x - x.mean(axis=0) for x in (a, b))
    shared = scipy.linalg.sqrtm(one @ two.T @ two @ one.T / 9).trace().real
    assert frechet_distance(a, b) == pytest.approx(expected - 2 * shared, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_the_distance_is_a_distance(n: int, m: int, width: int, seed: int):
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(n, width)), random.normal(size=(m, width))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), abs=1e-9)
    assert frechet_distance(a, b) >= 0
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-12)
    turn = scipy.linalg.qr(random.normal(size=(width, width)))[0]
    assert frechet_distance(a @ turn + 5, b @ turn + 5) == pytest.approx(
        frechet_distance(a, b), abs=1e-9
    )


def mmd2_by_loops(x: np.ndarray, y: np.ndarray) -> float:
    def kernel(p, q):
        return (sum(p * q) / len(p) + 1) ** 3

    own = [
        sum(kernel(v[i], v[j]) for i in range(len(v)) for j in range(len(v)) if i != j)
        / (len(v) * (len(v) - 1))
        for v in (x, y)
    ]
    return own[0] + own[1] - 2 * np.mean([kernel(p, q) for p in x for q in y])


def test_the_kernel_distance_is_the_papers_sum():
    random = np.random.default_rng(4)
    a, b = random.normal(size=(7, 5)), random.normal(size=(9, 5)) + 0.4
    assert unbiased_mmd2(a, b) == pytest.approx(mmd2_by_loops(a, b))
    assert kernel_distance(a, b, subsets=100, size=1000) == unbiased_mmd2(a, b)


def test_the_kernel_distance_is_unbiased():
    random = np.random.default_rng(5)
    found = [
        unbiased_mmd2(random.normal(size=(20, 4)), random.normal(size=(20, 4))) for _ in range(2000)
    ]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(2000)
    assert min(found) < 0


def test_subsets_follow_from_the_seed_and_estimate_the_whole():
    random = np.random.default_rng(6)
    a, b = random.normal(size=(300, 6)), random.normal(size=(260, 6)) + 0.5
    found = kernel_distance(a, b, subsets=50, size=100)
    assert kernel_distance(a, b, subsets=50, size=100) == found
    assert found == pytest.approx(unbiased_mmd2(a, b), rel=0.1)
    assert found != unbiased_mmd2(a, b)
    assert kernel_distance(a, b, subsets=20, size=280) != unbiased_mmd2(a, b)  # b whole, a in parts
