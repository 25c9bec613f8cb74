"""Whether two groups of runs rank policies alike: Kendall's tau of their mean scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniloop.core.geometry import Array
from omniloop.report.intervals import (
    LEVEL,
    SAME,
    TOO_FEW,
    Interval,
    no_interval,
    resampled_means,
)


@dataclass(frozen=True)
class Agreement:
    """How alike two rankings are.

    Attributes:
        tau: Kendall's tau-b in [-1, 1]; None if it is undefined.
        reason: Why it is.
        interval: At 95 %, over scenes.
        kept: Share of resamples in which both groups give the same ranking, tau being 1.
        scenes: In how many scenes all policies have the score in both groups.
        first: Mean score of each policy in the first group.
        second: The same in the second.
    """

    tau: float | None
    reason: str
    interval: Interval
    kept: float | None
    scenes: int
    first: tuple[float, ...]
    second: tuple[float, ...]


def kendall_tau_b(x: Array, y: Array) -> Array:
    """Kendall's tau-b of scores ``(..., P)``; NaN where all of `x` or all of `y` are tied.

    Source: M. G. Kendall, The treatment of ties in ranking problems, Biometrika 33 (1945).
    """
    one, two = np.triu_indices(x.shape[-1], 1)
    sx, sy = (np.sign(d) * (abs(d) > SAME) for d in (v[..., one] - v[..., two] for v in (x, y)))
    untied = np.count_nonzero(sx, axis=-1) * np.count_nonzero(sy, axis=-1)
    with np.errstate(invalid="ignore"):
        tau: Array = np.where(
            untied > 0, (sx * sy).sum(axis=-1) / np.sqrt(np.maximum(untied, 1)), np.nan
        )
    return tau


def kendall_of_rankings(first: Array, second: Array) -> Agreement:
    """Compare the rankings of policies by a score in two groups, say under two renderers.

    The interval is that of the percentiles of tau over resampled scenes, the same scenes for
    all policies and both groups; resamples in which tau is undefined are passed over.

    Args:
        first: ``(P, S)``: P policies in S scenes, NaN where the score is not defined.
        second: The same policies and scenes in the second group.

    Raises:
        ValueError: the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"tables {first.shape} and {second.shape} differ in shape")
    defined = ~(np.isnan(first).any(axis=0) | np.isnan(second).any(axis=0))
    first, second = first[:, defined], second[:, defined]
    policies, scenes = first.shape
    if not scenes:
        reason = "no scene in which every policy has the score in both groups"
        return Agreement(None, reason, no_interval(reason), None, 0, (), ())
    means = first.mean(axis=1), second.mean(axis=1)
    told = tuple(means[0].tolist()), tuple(means[1].tolist())
    tau = float(kendall_tau_b(*means)) if policies > 1 else np.nan
    if np.isnan(tau):
        reason = "fewer than two policies" if policies < 2 else "all policies are tied"
        return Agreement(None, reason, no_interval(reason), None, scenes, *told)
    if scenes < 2:
        return Agreement(tau, "", no_interval(TOO_FEW), None, scenes, *told)
    both = resampled_means(np.concatenate([first, second]).T)
    taus = kendall_tau_b(both[:, :policies], both[:, policies:])
    taus = taus[~np.isnan(taus)]
    low, high = np.quantile(taus, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    kept = float((taus == 1).mean())
    interval = Interval(float(low), float(high), method="bootstrap")
    return Agreement(tau, "", interval, kept, scenes, *told)
