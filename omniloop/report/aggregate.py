"""Many rollouts in a few numbers: scores with intervals and with how many they rest on.

Seeds are repeats within a scene: the mean over a scene's seeds comes first, and scenes count
alike. Scenes are what is resampled, for they are what a run has drawn from the world.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from omniloop.core.geometry import Array
from omniloop.metrics.definition import MetricDefinition, Reduction
from omniloop.report.intervals import Interval, bootstrap, no_interval, wilson
from omniloop.runlog.results import OUTCOMES, RolloutResult

PER_KM = (
    ("incident_in_tube", "distance_in_tube_m", "in the tube"),
    ("incident", "distance_driven_m", "driven"),
    ("incident_at_fault", "distance_driven_m", "driven"),
    ("collision", "distance_driven_m", "driven"),
    ("collision_at_fault", "distance_driven_m", "driven"),
    ("offroad", "distance_driven_m", "driven"),
)
"""Flags counted per distance: at most one a rollout."""

Definitions = Mapping[str, MetricDefinition]


@dataclass(frozen=True)
class Score:
    """One score over several rollouts.

    Attributes:
        unit: Of value and interval; "1" for a plain number.
        reduction: How rollouts were brought together: "mean", "rate", "sum", "min", "max",
            "none", or "per km".
        better: Which direction is good: "lower", "higher" or "neither".
        value: None if it is undefined.
        reason: Why it is.
        interval: At 95 %.
        valid: In how many rollouts the score is defined.
        rollouts: How many there are.
        scenes: In how many scenes it is defined.
        count: Of a rate: in how many rollouts the flag is set.
        basis: Of a rate per km: the distance, in words.
    """

    name: str
    unit: str
    reduction: str
    better: str
    value: float | None
    reason: str
    interval: Interval
    valid: int
    rollouts: int
    scenes: int
    count: int | None = None
    basis: str = ""


@dataclass(frozen=True)
class Aggregate:
    """What a group of rollouts comes to.

    Attributes:
        label: The group's name.
        scores: In the order in which results name them.
        outcomes: How many rollouts ended in each way.
    """

    label: str
    scores: tuple[Score, ...]
    outcomes: dict[str, int]
    rollouts: int
    scenes: int

    def score(self, name: str) -> Score | None:
        """A score by name."""
        return next((score for score in self.scores if score.name == name), None)


def outcome_counts(results: Sequence[RolloutResult]) -> dict[str, int]:
    """How many rollouts ended in each way, all three named even where it is 0."""
    return {outcome: sum(r.outcome == outcome for r in results) for outcome in OUTCOMES}


def score_names(results: Iterable[RolloutResult]) -> list[str]:
    """Names of all scores, in the order of first occurrence."""
    return list(dict.fromkeys(name for result in results for name in result.metrics))


def per_km_names(present: Sequence[str]) -> list[str]:
    """Scores per km that can be made of those present: ``incident_per_km`` and so on."""
    made = (f"{flag}_per_km" for flag, km, _ in PER_KM if flag in present and km in present)
    return [name for name in made if name not in present]


def parts_per_km(name: str) -> tuple[str, str, str]:
    """The flag, the distance and that in words, of a score per km."""
    return next(entry for entry in PER_KM if f"{entry[0]}_per_km" == name)


def matrix(results: Sequence[RolloutResult], names: Sequence[str]) -> Array:
    """Scores ``(rollouts, names)``, NaN where one is not defined."""
    out = np.full((len(results), len(names)), np.nan)
    for row, result in zip(out, results, strict=True):
        for k, name in enumerate(names):
            metric = result.metrics.get(name)
            if metric is not None and metric.value is not None:
                row[k] = metric.value
    return out


def scene_index(results: Sequence[RolloutResult]) -> tuple[list[str], NDArray[np.intp]]:
    """Scenes in order of first occurrence, and which of them each rollout is of."""
    place = {scene: k for k, scene in enumerate(dict.fromkeys(r.scene for r in results))}
    return list(place), np.array([place[r.scene] for r in results], dtype=np.intp)


def scene_means(values: Array, scene: NDArray[np.intp], scenes: int) -> Array:
    """Mean over the seeds of each scene, ``(rollouts, M)`` to ``(scenes, M)``; NaN if none."""
    defined = ~np.isnan(values)
    sums = np.zeros((scenes, values.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, scene, np.where(defined, values, 0.0))
    np.add.at(counts, scene, defined)
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def mean_intervals(values: Array, weights: Array | None = None) -> list[Interval]:
    """`bootstrap` of each column of ``(scenes, M)`` over the scenes in which it is defined."""
    defined = ~np.isnan(values)
    out: list[Interval] = [no_interval("")] * values.shape[1]
    masks: dict[bytes, list[int]] = {}
    for k in range(values.shape[1]):
        masks.setdefault(defined[:, k].tobytes(), []).append(k)
    for columns in masks.values():
        rows = np.flatnonzero(defined[:, columns[0]])
        part = None if weights is None else weights[rows][:, columns]
        for k, interval in zip(columns, bootstrap(values[rows][:, columns], part), strict=True):
            out[k] = interval
    return out


def aggregate(
    results: Sequence[RolloutResult],
    definitions: Definitions,
    label: str = "",
    names: Sequence[str] | None = None,
) -> Aggregate:
    """Bring the scores of rollouts together.

    Args:
        definitions: How each score is brought together; a score without one is a mean.
        label: The group's name.
        names: Scores wanted, those of `per_km_names` too; all if None.
    """
    present = score_names(results)
    derived = per_km_names(present)
    per_km = [name for name in derived if names is None or name in names]
    names = present if names is None else [name for name in names if name not in derived]
    reductions: dict[str, Reduction] = {
        name: definitions[name].over_rollouts if name in definitions else "mean" for name in names
    }
    found = [
        replace(score, unit=known.unit, better=known.better)
        if (known := definitions.get(score.name)) is not None
        else score
        for score in reduced(results, reductions)
    ]
    found += _per_km(results, per_km)
    scenes = len({result.scene for result in results})
    return Aggregate(label, tuple(found), outcome_counts(results), len(results), scenes)


def reduced(results: Sequence[RolloutResult], reductions: Mapping[str, Reduction]) -> list[Score]:
    """Bring scores together, each as it is given; their units are left empty."""
    names = list(reductions)
    scenes, scene = scene_index(results)
    values = matrix(results, names)
    for k, reduction in enumerate(reductions.values()):
        if reduction == "rate":
            values[:, k] = np.where(np.isnan(values[:, k]), np.nan, values[:, k] == 1)
    means = scene_means(values, scene, len(scenes))
    for k, reduction in enumerate(reductions.values()):
        if reduction == "sum":  # of a scene's seeds, then of scenes
            means[:, k] *= np.bincount(scene, ~np.isnan(values[:, k]), minlength=len(scenes))
    boot = [k for k, reduction in enumerate(reductions.values()) if reduction in ("mean", "sum")]
    intervals = dict(zip(boot, mean_intervals(means[:, boot]), strict=True))
    scores = []
    for k, (name, reduction) in enumerate(reductions.items()):
        rollouts, per_scene = values[:, k], means[:, k]
        rollouts = rollouts[~np.isnan(rollouts)]
        per_scene = per_scene[~np.isnan(per_scene)]
        value, reason, interval = _reduced(reduction, rollouts, per_scene, intervals.get(k))
        if not len(rollouts):
            reason = "defined in no rollout"
        scores.append(
            Score(
                name=name, unit="", reduction=reduction, better="neither", value=value,
                reason=reason, interval=interval, valid=len(rollouts), rollouts=len(results),
                scenes=len(per_scene), count=int(rollouts.sum()) if reduction == "rate" else None,
            )
        )  # fmt: skip
    return scores


def _reduced(
    reduction: str, rollouts: Array, scenes: Array, interval: Interval | None
) -> tuple[float | None, str, Interval]:
    """Value, the reason if there is none, and interval of one score."""
    if not len(rollouts):
        return None, "", no_interval("the score is undefined")
    if reduction == "rate":
        rate = float(scenes.mean())
        return rate, "", wilson(rate, len(scenes))
    if reduction == "none":
        reason = "not brought together over rollouts"
        return None, reason, no_interval(reason)
    if reduction in ("min", "max"):
        extreme = rollouts.min() if reduction == "min" else rollouts.max()
        return float(extreme), "", no_interval("a bootstrap of an extreme does not converge")
    assert interval is not None
    if reduction == "sum":
        return float(scenes.sum()), "", _scaled(interval, len(scenes))
    return float(scenes.mean()), "", interval


def _scaled(interval: Interval, factor: int) -> Interval:
    if interval.low is None or interval.high is None:
        return interval
    return Interval(interval.low * factor, interval.high * factor, method=interval.method)


def flags_and_km(results: Sequence[RolloutResult], names: Sequence[str]) -> tuple[Array, Array]:
    """Flags and distances [km] of scores per km, each ``(rollouts, names)``, NaN unless both are."""
    parts = [parts_per_km(name) for name in names]
    flags = matrix(results, [flag for flag, _, _ in parts])
    km = matrix(results, [distance for _, distance, _ in parts]) / 1000
    both = ~np.isnan(flags) & ~np.isnan(km)
    return np.where(both, flags, np.nan), np.where(both, km, np.nan)


def _per_km(results: Sequence[RolloutResult], names: Sequence[str]) -> list[Score]:
    """Incidents per km, each of the flags that are there with its distance."""
    if not names:
        return []
    scenes, scene = scene_index(results)
    flags, km = flags_and_km(results, names)
    per_scene = scene_means(flags, scene, len(scenes))
    length = scene_means(km, scene, len(scenes))
    intervals = mean_intervals(per_scene, length)
    out = []
    for k, name in enumerate(names):
        total = float(np.nansum(length[:, k]))
        value = float(np.nansum(per_scene[:, k])) / total if total > 0 else None
        valid = int((~np.isnan(flags[:, k])).sum())
        reason = "" if value is not None else "no distance" if valid else "defined in no rollout"
        out.append(
            Score(
                name=name, unit="1/km", reduction="per km", better="lower", value=value, reason=reason,
                interval=intervals[k] if value is not None else no_interval(reason),
                valid=valid, rollouts=len(results),
                scenes=int((~np.isnan(per_scene[:, k])).sum()), count=int(np.nansum(flags[:, k])),
                basis=f"{float(np.nansum(km[:, k])):.3f} km {parts_per_km(name)[2]}",
            )
        )  # fmt: skip
    return out
