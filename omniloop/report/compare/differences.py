"""Paired differences of scores between two runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from omniloop.report.aggregate import (
    Definitions,
    flags_and_km,
    matrix,
    mean_intervals,
    per_km_names,
    scene_index,
    scene_means,
    score_names,
)
from omniloop.report.compare.pairing import Pair
from omniloop.report.intervals import (
    SAME,
    Interval,
    bootstrap_ratio_differences,
    no_interval,
    paired_rates,
)
from omniloop.runlog.results import RolloutResult


@dataclass(frozen=True)
class Difference:
    """One score in two runs, over the pairs in which both have it.

    Attributes:
        unit: Of the values; "1" for a plain number.
        flag: Whether it is 0 or 1.
        better: Which direction is good.
        first: Mean over scenes of the mean over a scene's seeds, of a score per km incidents over
            distance; None without such a pair.
        second: The same of the second run.
        value: `second` minus `first`.
        interval: Of `value`, at 95 %, over scenes.
        valid: Pairs in which both runs have the score.
        pairs: All pairs.
        higher: Scenes in which the second run's score is higher.
        lower: Scenes in which it is lower.
        same: Scenes in which it is the same.
        set_by: Of a flag: rollouts in which only the second run has it set.
        cleared_by: Of a flag: rollouts in which only the first run has it set.
    """

    name: str
    unit: str
    flag: bool
    better: str
    first: float | None
    second: float | None
    value: float | None
    interval: Interval
    valid: int
    pairs: int
    scenes: int
    higher: int
    lower: int
    same: int
    set_by: tuple[str, ...] = ()
    cleared_by: tuple[str, ...] = ()

    @property
    def wins(self) -> int | None:
        """Scenes in which the second run is better; None if no direction is."""
        return {"higher": self.higher, "lower": self.lower}.get(self.better)

    @property
    def losses(self) -> int | None:
        """Scenes in which the second run is worse; None if no direction is better."""
        return {"higher": self.lower, "lower": self.higher}.get(self.better)


def differences_of(
    pairs: Sequence[Pair], names: Sequence[str], definitions: Definitions
) -> list[Difference]:
    """`paired_differences` of scores and `per_km_differences` of those per km, in their order."""
    results = [result for side in _sides(pairs) for result in side]
    derived = per_km_names(score_names(results))
    own = [name for name in names if name not in derived]
    per_km = [name for name in names if name in derived]
    found = [*paired_differences(pairs, own, definitions), *per_km_differences(pairs, per_km)]
    return sorted(found, key=lambda difference: names.index(difference.name))


def paired_differences(
    pairs: Sequence[Pair], names: Sequence[str], definitions: Definitions
) -> list[Difference]:
    """Differences of scores, second minus first.

    In each pair in which both runs have a score its difference is taken, then the mean over
    a scene's seeds, then that over scenes. Scenes are what the interval resamples; of a flag it
    is that of `paired_rates`, with as many trials as scenes.
    """
    scenes, scene = scene_index([pair.first for pair in pairs])
    first, second = (matrix(results, names) for results in _sides(pairs))
    both = ~np.isnan(first) & ~np.isnan(second)
    first, second = np.where(both, first, np.nan), np.where(both, second, np.nan)
    change = scene_means(second - first, scene, len(scenes))
    before, after = (scene_means(values, scene, len(scenes)) for values in (first, second))
    gained, lost = (
        scene_means(np.where(both, np.maximum(by, 0), np.nan), scene, len(scenes))
        for by in (second - first, first - second)
    )
    intervals = mean_intervals(change)
    out = []
    for k, name in enumerate(names):
        rows = ~np.isnan(change[:, k])
        by_scene = change[rows, k]
        known = definitions.get(name)
        flag = known is not None and known.over_rollouts == "rate"
        some = bool(len(by_scene))
        interval = intervals[k]
        if flag and some:
            up, down = float(gained[rows, k].sum()), float(lost[rows, k].sum())
            interval = paired_rates(up, down, len(by_scene))
        out.append(
            Difference(
                name=name, unit=known.unit if known else "", flag=flag,
                better=known.better if known else "neither",
                first=float(before[rows, k].mean()) if some else None,
                second=float(after[rows, k].mean()) if some else None,
                value=float(by_scene.mean()) if some else None, interval=interval,
                valid=int(both[:, k].sum()), pairs=len(pairs), scenes=len(by_scene),
                higher=int((by_scene > SAME).sum()), lower=int((by_scene < -SAME).sum()),
                same=int((np.abs(by_scene) <= SAME).sum()),
                set_by=_flipped(pairs, second[:, k] - first[:, k]) if flag else (),
                cleared_by=_flipped(pairs, first[:, k] - second[:, k]) if flag else (),
            )
        )  # fmt: skip
    return out


def per_km_differences(pairs: Sequence[Pair], names: Sequence[str]) -> list[Difference]:
    """Differences of scores per km, second minus first, over pairs that have both their parts.

    Flags and distances are averaged over a scene's seeds and then summed over scenes, in each run
    for itself; the interval resamples scenes, the same for both. Scenes are counted by their own
    rates, those without a distance in either run left out.

    Args:
        names: Of `omniloop.report.aggregate.per_km_names`.
    """
    if not names:
        return []
    scenes, scene = scene_index([pair.first for pair in pairs])
    sides = [flags_and_km(results, names) for results in _sides(pairs)]
    both = ~np.isnan(sides[0][0]) & ~np.isnan(sides[1][0])
    flags, km = (
        [scene_means(np.where(both, side[part], np.nan), scene, len(scenes)) for side in sides]
        for part in (0, 1)
    )
    out = []
    for k, name in enumerate(names):
        rows = ~np.isnan(flags[0][:, k])
        one, two = ((flags[i][rows, k, None], km[i][rows, k, None]) for i in (0, 1))
        driven = (one[1] > 0) & (two[1] > 0)
        change = two[0][driven] / two[1][driven] - one[0][driven] / one[1][driven]
        far = min(float(one[1].sum()), float(two[1].sum())) > 0
        rates = [float(side[0].sum() / side[1].sum()) if far else None for side in (one, two)]
        value = rates[1] - rates[0] if rates[0] is not None and rates[1] is not None else None
        out.append(
            Difference(
                name=name, unit="1/km", flag=False, better="lower", first=rates[0], second=rates[1],
                value=value, valid=int(both[:, k].sum()), pairs=len(pairs),
                scenes=int(rows.sum()) if far else 0,
                interval=bootstrap_ratio_differences(one, two)[0] if far else no_interval("no distance"),
                higher=int((change > SAME).sum()), lower=int((change < -SAME).sum()),
                same=int((np.abs(change) <= SAME).sum()),
            )
        )  # fmt: skip
    return out


def _sides(pairs: Sequence[Pair]) -> tuple[list[RolloutResult], list[RolloutResult]]:
    return [pair.first for pair in pairs], [pair.second for pair in pairs]


def _flipped(pairs: Sequence[Pair], change: np.ndarray) -> tuple[str, ...]:
    return tuple(pair.name for pair, by in zip(pairs, change.tolist(), strict=True) if by > 0)
