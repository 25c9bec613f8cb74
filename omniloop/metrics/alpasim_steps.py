"""AlpaSim's scores at every row, and each summed up over time by its own rule alone.

This is what AlpaSim's RuntimeService returns of a rollout: the series as the scorers make
them, before any modifier, and one value for each by its time aggregation over the rows
that have one. Scores that need all of a rollout (scene score, at-fault flags, clipped
progress) are not among them; see `omniloop.metrics.alpasim_aggregate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.motion import Mask, Times
from omniloop.core.record import RolloutRecord
from omniloop.metrics.alpasim_aggregate import MAX, reduced
from omniloop.metrics.alpasim_definitions import OVER_TIME
from omniloop.metrics.alpasim_series import series
from omniloop.metrics.alpasim_settings import Settings
from omniloop.metrics.samples import score_samples

RELEVANT = "eval_relevant"
"""1 at rows from handover on, which are those that AlpaSim's evaluation counts."""


@dataclass(frozen=True, eq=False)
class StepMetric:
    """One score over the rows of a rollout.

    Attributes:
        name: AlpaSim's, without prefix.
        times_us: ``(K,)``.
        values: ``(K,)``, NaN where not valid.
        valid: ``(K,)``.
        over_time: How it is summed up: "max", "min", "last" or "mean".
    """

    name: str
    times_us: Times
    values: Array
    valid: Mask
    over_time: str


def step_metrics(record: RolloutRecord, settings: Settings) -> tuple[StepMetric, ...]:
    """The scores of a rollout at every row; those that are undefined are left out."""
    if score_samples(record) is None:
        return ()
    found = series(record, settings)
    steps = [
        StepMetric(name, found.times_us, values, ~np.isnan(values), OVER_TIME[name])
        for name, values in found.values.items()
        if not isinstance(values, str)
    ]
    counts = found.relevant.astype(np.float64)
    steps.append(
        StepMetric(RELEVANT, found.times_us, counts, np.ones(len(counts), dtype=bool), MAX)
    )
    return tuple(steps)


def summed_up(steps: Sequence[StepMetric]) -> dict[str, float]:
    """One value for each score over its valid rows; a score without any is left out."""
    return {s.name: reduced(s.values[s.valid], s.over_time) for s in steps if s.valid.any()}
