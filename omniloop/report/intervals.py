"""95 % intervals: in closed form for rates, a bootstrap over scenes for everything else."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from omniloop.core.geometry import Array
from omniloop.core.seeds import generator

LEVEL = 0.95
RESAMPLES = 10_000

TOO_FEW = "fewer than two scenes"
ALL_ALIKE = "the same in every scene"

SAME = 1e-9
"""Means that differ by no more are the same: sums in another order differ by less."""

_DRAWS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Interval:
    """An interval of confidence.

    Attributes:
        low: None if it is undefined.
        high: None if it is undefined.
        reason: Why it is undefined; empty if it is not.
        method: "Wilson", "Bonett-Price" or "bootstrap".
    """

    low: float | None
    high: float | None
    reason: str = ""
    method: str = ""


def no_interval(reason: str) -> Interval:
    """An interval that is undefined."""
    return Interval(None, None, reason)


def wilson(rate: float, trials: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a binomial rate.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical
    inference, JASA 22 (1927). It keeps its level where a rate is near 0 or 1 and trials are
    few (Brown, Cai, DasGupta, Interval estimation for a binomial proportion, 2001).

    Args:
        rate: Share of trials, in [0, 1]; need not be a multiple of ``1 / trials``.
        trials: Independent ones.
        level: Of confidence.
    """
    if trials < 1:
        return no_interval("no trial")
    z2 = float(ndtri(0.5 + level / 2)) ** 2
    middle = rate + z2 / (2 * trials)
    half = np.sqrt(z2 * (rate * (1 - rate) / trials + z2 / (4 * trials**2)))
    low, high = (middle - half) / (1 + z2 / trials), (middle + half) / (1 + z2 / trials)
    return Interval(max(float(low), 0.0), min(float(high), 1.0), method="Wilson")


def paired_rates(gained: float, lost: float, trials: int, level: float = LEVEL) -> Interval:
    """Interval of the difference of two rates in the same trials.

    Source: D. G. Bonett, R. M. Price, Adjusted Wald confidence interval for a difference of
    binomial proportions based on paired data, Journal of Educational and Behavioral Statistics
    37 (2012): a Wald interval after one more trial gained and one more lost. Unlike a bootstrap
    it says something where few trials differ, or none.

    Args:
        gained: In how many trials only the second is set; need not be whole.
        lost: In how many only the first is.
        trials: Independent ones.
        level: Of confidence.
    """
    if trials < 2:
        return no_interval(TOO_FEW)
    up, down = (gained + 1) / (trials + 2), (lost + 1) / (trials + 2)
    middle = up - down
    half = float(ndtri(0.5 + level / 2)) * np.sqrt((up + down - middle**2) / (trials + 2))
    low, high = max(middle - half, -1.0), min(middle + half, 1.0)
    return Interval(float(low), float(high), method="Bonett-Price")


def bootstrap(
    values: Array, weights: Array | None = None, *, level: float = LEVEL
) -> list[Interval]:
    """Bootstrap intervals of the ratios ``sum(values) / sum(weights)``: means by default.

    Scenes (rows) are resampled with replacement, `RESAMPLES` times, alike for all columns
    and alike in every call with as many scenes. Ends are those of the bias-corrected and accelerated
    interval (Efron, Better bootstrap confidence intervals, JASA 82, 1987, equation 2.3; the
    acceleration by the jackknife, 6.6), at levels widened for few scenes, ``z`` becoming
    ``sqrt(n / (n - 1)) t(n - 1)`` (Hesterberg, What teachers should know about the bootstrap,
    The American Statistician 69, 2015, "expanded percentile interval").

    Args:
        values: ``(S, M)``, finite: M scores in S scenes.
        weights: ``(S, M)``, not negative, such as distances; None for one each.
        level: Of confidence.

    Returns:
        One for each column; undefined below two scenes and where all scenes are alike.
    """
    count, scores = values.shape
    if count < 2:
        return [no_interval(TOO_FEW)] * scores
    weights = np.ones_like(values) if weights is None else weights
    alike = _constant(values, weights) | ~values.any(axis=0)
    return _intervals(_ratios(values, weights), alike, level)


def bootstrap_ratio_differences(
    first: tuple[Array, Array], second: tuple[Array, Array], *, level: float = LEVEL
) -> list[Interval]:
    """Bootstrap intervals of differences of ratios, second minus first, over the same scenes.

    Each resample holds the same scenes for both ratios; ends are those of `bootstrap`.

    Args:
        first: Values and weights, ``(S, M)`` each, finite, such as incidents and km.
        second: The same of the second run.
        level: Of confidence.

    Returns:
        One for each column; undefined below two scenes, where all scenes are alike, and where
        nothing differs in any.
    """
    count, scores = first[0].shape
    if count < 2:
        return [no_interval(TOO_FEW)] * scores
    alike = _constant(*first, *second) | ~(first[0].any(axis=0) | second[0].any(axis=0))
    alike |= (first[0] == second[0]).all(axis=0) & (first[1] == second[1]).all(axis=0)
    one, two = _ratios(*first), _ratios(*second)
    with np.errstate(invalid="ignore"):
        change = (two[0] - one[0], two[1] - one[1], two[2] - one[2])
    return _intervals(change, alike, level)


def _constant(*columns: Array) -> NDArray[np.bool_]:
    alike: NDArray[np.bool_] = np.ptp(np.stack(columns), axis=1).max(axis=0) <= SAME
    return alike


_Sampled = tuple[Array, Array, Array]
"""Estimates ``(M,)``, those without each scene ``(S, M)``, and those of resamples ``(R, M)``."""


def _ratios(values: Array, weights: Array) -> _Sampled:
    """Ratios of sums over scenes."""
    total, weight = values.sum(axis=0), weights.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        resampled = np.concatenate([(n @ values) / (n @ weights) for n in _draws(len(values))])
        return total / weight, (total - values) / (weight - weights), resampled


def _intervals(sampled: _Sampled, alike: NDArray[np.bool_], level: float) -> list[Interval]:
    estimates, left_out, resampled = sampled
    return [
        no_interval(ALL_ALIKE)
        if same
        else _accelerated(resampled[:, k], float(estimates[k]), left_out[:, k], level)
        for k, same in enumerate(alike.tolist())
    ]


def resampled_means(values: Array) -> Array:
    """Means of resamples of scenes, ``(S, M)`` to ``(RESAMPLES, M)``; see `bootstrap`."""
    return np.concatenate([(n @ values) / len(values) for n in _draws(len(values))])


def _draws(count: int) -> Iterator[Array]:
    """How often each resample holds each scene, ``(K, count)``, in parts of bounded size."""
    rows = max(_DRAWS_AT_ONCE // count, 1)
    if count * RESAMPLES <= _DRAWS_AT_ONCE:
        yield _kept_draws(count)
        return
    random = generator(0, "bootstrap", count)
    for start in range(0, RESAMPLES, rows):
        yield _draw(random, count, min(rows, RESAMPLES - start))


@functools.lru_cache(maxsize=4)
def _kept_draws(count: int) -> Array:
    return _draw(generator(0, "bootstrap", count), count, RESAMPLES)


def _draw(random: np.random.Generator, count: int, rows: int) -> Array:
    scene = random.integers(0, count, size=(rows, count))
    scene += np.arange(rows)[:, None] * count
    times: NDArray[np.intp] = np.bincount(scene.ravel(), minlength=rows * count)
    return times.reshape(rows, count).astype(np.float64)


def _accelerated(resampled: Array, estimate: float, left_out: Array, level: float) -> Interval:
    """The BCa interval of one score; see `bootstrap`."""
    resampled = resampled[np.isfinite(resampled)]
    left_out = left_out[np.isfinite(left_out)]
    count = len(left_out)
    if not len(resampled) or count < 2:
        return no_interval("too few scenes with a weight")
    apart = estimate - resampled
    below = np.mean(np.sign(apart) * (np.abs(apart) > SAME) + 1) / 2
    bias = float(ndtri(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES)))
    off = left_out.mean() - left_out
    spread = float((off**2).sum())
    acceleration = float((off**3).sum()) / (6 * spread**1.5) if spread else 0.0
    wide = float(stdtrit(count - 1, 0.5 + level / 2)) * np.sqrt(count / (count - 1))
    z = bias + np.array([-wide, wide])
    # Far out the acceleration would turn the tail around: there it is cut at the last resample.
    slope = 1 - acceleration * z
    levels = np.where(slope > 0, ndtr(bias + z / np.maximum(slope, 1e-9)), [0.0, 1.0])
    low, high = np.quantile(resampled, levels)
    return Interval(float(low), float(high), method="bootstrap")
