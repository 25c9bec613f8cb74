"""Scoring a rollout with many metrics, none of which can take another down."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from omniloop.core.contracts import MetricValue
from omniloop.core.errors import ConfigError
from omniloop.core.record import Metric, RolloutRecord
from omniloop.metrics.values import undefined


def names_of(metric: Metric) -> tuple[str, ...]:
    """The values that a metric declares in its attribute `names`, else its class's name."""
    return tuple(getattr(metric, "names", (type(metric).__name__,)))


def check_names(metrics: Sequence[Metric]) -> None:
    """Refuse metrics that declare a value of the same name.

    Raises:
        ConfigError: two metrics do.
    """
    _refuse_duplicates((name, metric) for metric in metrics for name in names_of(metric))


def score(record: RolloutRecord, metrics: Sequence[Metric]) -> list[MetricValue]:
    """Compute all metrics of a rollout, in order.

    A metric that raises, or returns something that is no score, gives an undefined value
    for each name that it declares, with the error as the reason.

    Raises:
        ConfigError: two values have the same name.
    """
    check_names(metrics)
    found = [(value, metric) for metric in metrics for value in _compute(metric, record)]
    _refuse_duplicates((value.name, metric) for value, metric in found)
    return [value for value, _ in found]


def undefined_scores(metrics: Sequence[Metric], reason: str) -> list[MetricValue]:
    """The scores of a rollout that cannot be scored: each name undefined for `reason`."""
    return undefined((name for metric in metrics for name in names_of(metric)), reason)


def _compute(metric: Metric, record: RolloutRecord) -> list[MetricValue]:
    try:
        values = metric.compute(record)
        return [_checked(value) for value in values]
    except Exception as error:  # a metric may be anybody's code
        reason = f"{type(metric).__name__} raised {type(error).__name__}: {error}"
        return undefined(names_of(metric), reason)


def _checked(value: MetricValue) -> MetricValue:
    if not isinstance(value, MetricValue):
        raise TypeError(f"compute returned {value!r}, which is no MetricValue")
    if value.value is None:
        return value if value.reason else MetricValue(value.name, None, "no reason given")
    if not math.isfinite(value.value):
        return MetricValue(value.name, None, f"the value is {value.value}", value.details)
    if value.reason:
        raise ValueError(f"{value.name} is {value.value} and has a reason: {value.reason}")
    return value


def _refuse_duplicates(named: Iterable[tuple[str, Metric]]) -> None:
    owner: dict[str, str] = {}
    for name, metric in named:
        this = type(metric).__name__
        if name in owner:
            raise ConfigError(
                f"two scores are called '{name}'",
                where=f"{owner[name]} and {this}",
                remedy="leave one of these metrics out, or rename its value",
            )
        owner[name] = this
