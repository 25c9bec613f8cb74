"""Paired differences of scores between two runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from omniloop.report.aggregate import (
    Definitions,
    matrix,
    mean_intervals,
    scene_index,
    scene_means,
)
from omniloop.report.compare.pairing import Pair
from omniloop.report.intervals import SAME, Interval, paired_rates


@dataclass(frozen=True)
class Difference:
    """One score in two runs, over the pairs in which both have it.

    Attributes:
        unit: Of the values; "1" for a plain number.
        flag: Whether it is 0 or 1.
        better: Which direction is good.
        first: Mean over scenes of the mean over a scene's seeds; None without such a pair.
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


def paired_differences(
    pairs: Sequence[Pair], names: Sequence[str], definitions: Definitions
) -> list[Difference]:
    """Differences of scores, second minus first.

    In each pair in which both runs have a score its difference is taken, then the mean over
    a scene's seeds, then that over scenes. Scenes are what the interval resamples; of a flag it
    is that of `paired_rates`, with as many trials as scenes.
    """
    scenes, scene = scene_index([pair.first for pair in pairs])
    first = matrix([pair.first for pair in pairs], names)
    second = matrix([pair.second for pair in pairs], names)
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


def _flipped(pairs: Sequence[Pair], change: np.ndarray) -> tuple[str, ...]:
    return tuple(pair.name for pair, by in zip(pairs, change.tolist(), strict=True) if by > 0)
