"""Small things that every metric needs: undefined values and checked thresholds."""

from __future__ import annotations

import math
from collections.abc import Iterable

from omniloop.core.contracts import MetricValue
from omniloop.core.errors import ConfigError
from omniloop.metrics.definition import Better, MetricDefinition, Reduction

NOTHING_DRIVEN = "the rollout has fewer than two score samples: it ended at or before handover"
"""Reason of every score of a rollout in which the policy drove nothing."""


NEVER_DRIVEN = "nothing was driven"
"""`NOTHING_DRIVEN` as definitions say it."""


def own(
    name: str,
    unit: str,
    formula: str,
    over_time: str,
    over_rollouts: Reduction = "mean",
    better: Better = "lower",
    *,
    undefined: str = NEVER_DRIVEN,
    source: str = "Omniloop",
    settings: tuple[tuple[str, float | str], ...] = (),
) -> MetricDefinition:
    """Define a score of the family `omniloop`."""
    return MetricDefinition(
        name, "omniloop", unit, formula, over_time, over_rollouts, better, undefined, source, settings
    )  # fmt: skip


FLAG = "0 or 1"
"""Unit of a score that is 1 if something happened."""


def undefined(names: Iterable[str], reason: str) -> list[MetricValue]:
    """Return a value without a score for each name."""
    return [MetricValue(name, None, reason) for name in names]


def threshold(setting: str, value: float) -> float:
    """Return `value` as a float.

    Raises:
        ConfigError: it is not a number, not finite, or negative.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{setting} is {value!r}", remedy="give a number")
    if not math.isfinite(value) or value < 0:
        raise ConfigError(f"{setting} is {value}", remedy="give a finite number, 0 or more")
    return float(value)
