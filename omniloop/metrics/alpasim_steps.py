"""AlpaSim's scores over time, and each summed up over time by its own rule alone.

This is what AlpaSim's RuntimeService returns of a rollout: the series as the scorers make
them, before any modifier, and one value for each by its time aggregation over the times at
which it is valid. Scores that need all of a rollout (scene score, at-fault flags, clipped
progress) are not among them; see `omniloop.metrics.alpasim_aggregate`.

Every series has times of its own, as there: most have all rows, `open_loop_collision` those of
the decisions with a plan, `plan_deviation`, ``min_ade@*`` and `img_is_black` those at which there
is a value. So a time that is marked as not valid is one at which AlpaSim's scorer looked and
found nothing to measure (no pose ahead, no actor).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from omniloop.core.geometry import Array
from omniloop.core.motion import Mask, Times
from omniloop.core.record import BlackFrames, RolloutRecord
from omniloop.metrics.alpasim_aggregate import MAX, reduced
from omniloop.metrics.alpasim_definitions import OVER_TIME
from omniloop.metrics.alpasim_series import black_at, series
from omniloop.metrics.alpasim_settings import OPEN_LOOP_US, Settings
from omniloop.metrics.samples import score_samples

RELEVANT = "eval_relevant"
"""1 at rows from handover on, which are those that AlpaSim's evaluation counts."""

_OPEN_LOOP = "open_loop_collision"
_BLACK = "img_is_black"
_WHERE_DEFINED = ("plan_deviation", "min_ade@", _BLACK)
"""Scores, or how they begin, whose series hold valid times only."""


@dataclass(frozen=True, eq=False)
class StepMetric:
    """One score over time.

    Attributes:
        name: AlpaSim's, without prefix.
        times_us: ``(K,)``, increasing; each score has its own.
        values: ``(K,)``, NaN where not valid.
        valid: ``(K,)``.
        over_time: How it is summed up: "max", "min", "last" or "mean".
    """

    name: str
    times_us: Times
    values: Array
    valid: Mask
    over_time: str

    def at(self, kept: Mask | NDArray[np.intp]) -> StepMetric:
        """The score at some of its times."""
        return replace(
            self, times_us=self.times_us[kept], values=self.values[kept], valid=self.valid[kept]
        )


def step_metrics(
    record: RolloutRecord, settings: Settings, frames: BlackFrames | None = None
) -> tuple[StepMetric, ...]:
    """The scores of a rollout over time; those that are undefined are left out.

    Args:
        frames: For `img_is_black`, if someone looked at the images that the record lacks.
    """
    if score_samples(record) is None:
        return ()
    found = series(record, settings)
    black = black_at(found.times_us, frames or record.black_frames, settings.camera)
    every = [
        StepMetric(name, found.times_us, values, ~np.isnan(values), OVER_TIME[name])
        for name, values in {**found.values, _BLACK: black}.items()
        if not isinstance(values, str)
    ]
    steps = [_timed(step, record) for step in every]
    counts = found.relevant.astype(np.float64)
    steps.append(
        StepMetric(RELEVANT, found.times_us, counts, np.ones(len(counts), dtype=bool), MAX)
    )
    return tuple(step for step in steps if len(step.times_us))


def _timed(step: StepMetric, record: RolloutRecord) -> StepMetric:
    """A score at the times that AlpaSim's scorer gives it."""
    if step.name == _OPEN_LOOP:
        return _at_plans(step, record)
    return step.at(step.valid) if step.name.startswith(_WHERE_DEFINED) else step


def _at_plans(step: StepMetric, record: RolloutRecord) -> StepMetric:
    """At the decisions with a plan, valid if it has a pose in the window.

    Compat "strict" has a value for others too, since AlpaSim's tables do not look at `valid`;
    its RuntimeService does.
    """
    plans = [(d.time_us, d.plan.local_to_rig.times_us) for d in record.decisions]
    last_us = step.times_us[-1]
    plans = [(now_us, ahead) for now_us, ahead in plans if len(ahead) and now_us <= last_us]
    made = step.at(np.searchsorted(step.times_us, np.array([t for t, _ in plans], dtype=np.int64)))
    window = [np.searchsorted(t, (now, now + OPEN_LOOP_US), "right") for now, t in plans]
    valid = made.valid & np.array([first < end for first, end in window], dtype=bool)
    return replace(made, values=np.where(valid, made.values, np.nan), valid=valid)


def summed_up(steps: Sequence[StepMetric]) -> dict[str, float]:
    """One value for each score over its valid times; a score without any is left out."""
    return {s.name: reduced(s.values[s.valid], s.over_time) for s in steps if s.valid.any()}
