"""What a batch of results comes to: columns, cells and means with their counts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from omniloop.metrics.documentation import definitions_of, registered
from omniloop.report.aggregate import matrix, reduced
from omniloop.report.intervals import TOO_FEW, Interval, no_interval
from omniloop.runlog.results import RolloutResult

UNDEFINED = "\N{EN DASH}"
"""Shown where a score is undefined; never 0."""

COLLISION_CLASSES = ("front", "lateral", "rear", "ego_stopped")


@dataclass(frozen=True)
class Column:
    """How a score is shown.

    Attributes:
        name: The score's name.
        label: Its heading.
        kind: "flag" for 0 or 1, "share" for a ratio shown in per cent, else "number".
        unit: Shown after a number.
        bad_if_set: A flag that is bad news.
    """

    name: str
    label: str
    kind: Literal["flag", "share", "number"] = "number"
    unit: str = ""
    bad_if_set: bool = False

    def text(self, value: float) -> str:
        """The value of one rollout."""
        if self.kind == "flag":
            return "yes" if value else "no"
        return self.mean_text(value)

    def mean_text(self, value: float) -> str:
        """A mean over rollouts."""
        if self.kind in ("flag", "share"):
            return f"{value * 100:.0f} %"
        return f"{_number(value)} {self.unit}".rstrip()

    def interval_text(self, interval: Interval) -> str:
        """An interval of means; empty if it is undefined."""
        if interval.low is None or interval.high is None:
            return ""
        if self.kind in ("flag", "share"):
            return f"{interval.low * 100:.0f} to {interval.high * 100:.0f} %"
        return f"{_number(interval.low)} to {_number(interval.high)}"


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


KEY_COLUMNS = (
    Column("incident", "Incident", "flag", bad_if_set=True),
    Column("incident_at_fault", "At fault", "flag", bad_if_set=True),
    Column("collision", "Collision", "flag", bad_if_set=True),
    Column("offroad", "Off-road", "flag", bad_if_set=True),
    Column("progress_rel", "Progress", "share"),
    Column("path_distance_max_m", "Path distance", unit="m"),
    Column("incident_in_tube", "Incident in tube", "flag", bad_if_set=True),
    Column("distance_in_tube_m", "Driven in tube", unit="m"),
)

_FLAGS = frozenset(column.name for column in KEY_COLUMNS if column.kind == "flag")

_FAMILIES = ("omniloop", "alpasim", "nuplan", "navsim")
_HEADLINES = ("nuplan_cls", "alpasim_scene_score")
"""Of families that come with the package, scores that have a column besides the key scores."""


@functools.cache
def _detailed() -> frozenset[str]:
    """Scores of the package's own families that are shown in full lists only."""
    found = (d for plugin in registered().values() for d in definitions_of(plugin))
    return frozenset(d.name for d in found if d.family in _FAMILIES) - set(_HEADLINES)


def columns_of(results: Sequence[RolloutResult]) -> list[Column]:
    """Columns worth a place in a table: key scores that occur, then scores of other plugins.

    A score that is defined nowhere has a column only if it is a key score.
    """
    present = list(dict.fromkeys(name for r in results for name in r.metrics))
    defined = {name for r in results for name, metric in r.metrics.items() if metric.valid}
    known = [column for column in KEY_COLUMNS if column.name in present]
    seen = _detailed() | {column.name for column in KEY_COLUMNS}
    others = [name for name in present if name not in seen and name in defined]
    return known + [Column(name, name) for name in others]


@dataclass(frozen=True)
class Mean:
    """A mean over the rollouts in which a score is defined.

    Attributes:
        value: Mean over scenes of the mean over a scene's seeds; None if it is defined in none.
        valid: In how many rollouts it is defined.
        total: How many rollouts there are.
        summed: Sum over rollouts.
        interval: At 95 %; undefined below two scenes.
    """

    value: float | None
    valid: int
    total: int
    summed: float
    interval: Interval


def mean_of(results: Sequence[RolloutResult], name: str) -> Mean:
    """Average one score; see `omniloop.report.aggregate`."""
    return means_of(results, [name])[0]


def means_of(results: Sequence[RolloutResult], names: Sequence[str]) -> list[Mean]:
    """Average several scores; they share the draws of their intervals."""
    scores = reduced(results, {name: "rate" if name in _FLAGS else "mean" for name in names})
    sums = np.nansum(matrix(results, names), axis=0).tolist()
    return [
        Mean(
            score.value, score.valid, score.rollouts, summed,
            score.interval if score.scenes > 1 else no_interval(TOO_FEW),
        )
        for score, summed in zip(scores, sums, strict=True)
    ]  # fmt: skip


def collision_classes(result: RolloutResult) -> list[str]:
    """Which classes of collision occurred, in a fixed order; empty if none or undefined."""
    return [
        kind.replace("_", " ")
        for kind in COLLISION_CLASSES
        if (metric := result.metrics.get(f"collision_{kind}")) is not None and metric.value
    ]


@dataclass(frozen=True)
class Cell:
    """A score of a rollout as it is shown.

    Attributes:
        value: None if it is undefined.
        reason: Why it is.
        bad: Whether it is bad news.
    """

    text: str
    value: float | None
    reason: str = ""
    bad: bool = False


def cell(result: RolloutResult, column: Column) -> Cell:
    """A score of a rollout, with the reason if it has none."""
    metric = result.metrics.get(column.name)
    if metric is None or metric.value is None:
        reason = metric.reason if metric is not None else "not computed"
        if metric is None and result.error is not None:
            reason = f"the rollout ended early: {result.error.get('what', '')}"
        return Cell(UNDEFINED, None, reason)
    text = column.text(metric.value)
    if column.name == "collision" and metric.value:
        text = ", ".join(collision_classes(result)) or text
    return Cell(text, metric.value, bad=column.bad_if_set and bool(metric.value))


def outcome_label(outcome: str) -> str:
    """An outcome in words."""
    return outcome.replace("_", " ")
