"""A run as AlpaSim sums it up: means over clips, then over rollouts, and its summary file.

AlpaSim numbers the rollouts of every clip from 1, takes all rollouts of one number for one
simulation of all clips, and shows the mean over these simulations with their standard
deviation (``eval/aggregation/processing.py``). Here a clip is a scene, and a rollout's number
is the rank of its seed among the seeds of its scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from omniloop.core.contracts import MetricValue
from omniloop.metrics.alpasim_aggregate import BLACK
from omniloop.metrics.alpasim_definitions import DEFINITIONS, OVER_TIME, PREFIX

DISTANCES = (
    ("avg_dist_between_incidents", "offroad_or_collision"),
    ("avg_dist_between_incidents_at_fault", "offroad_or_collision_at_fault"),
)
"""Distances between incidents [km], and the flag that each counts."""

SCORE = PREFIX + "scene_score"


class Scored(Protocol):
    """A rollout's result, such as `omniloop.runlog.results.RolloutResult`."""

    @property
    def scene(self) -> str:
        """The scene's id."""
        ...

    @property
    def seed(self) -> int:
        """The rollout's seed."""
        ...

    @property
    def metrics(self) -> Mapping[str, MetricValue]:
        """Scores by name."""
        ...


@dataclass(frozen=True)
class Line:
    """One score over a run.

    Attributes:
        name: AlpaSim's.
        over_time: How rows become the value of a rollout: "max", "min", "last" or "mean"; empty
            for what is made of such values.
        mean: Over rollout numbers of the mean over clips; None if there is none.
        std: Of these means, with n - 1; None with fewer than two.
        reason: Why there is no mean.
        valid: Rollouts in which it is defined.
        distance_m: What these drove in the tube, `dist_traveled_m` summed up: a rate says
            nothing without it.
    """

    name: str
    over_time: str
    mean: float | None
    std: float | None
    reason: str
    valid: int
    distance_m: float


@dataclass(frozen=True)
class Table:
    """A run.

    Attributes:
        lines: Scores in the order of their definitions, then the distances between incidents.
        clips: Scenes of which a rollout takes part, mean over rollout numbers.
        rollouts: Rollouts with scores of this family, those removed for a black image too.
        numbers: Rollout numbers of which a rollout takes part.
        without_rows: ``<scene>/<seed>`` of rollouts that broke off or drove nothing.
        removed_black: ``<scene>/<seed>`` of rollouts that the rule for black images took out.
        black_unknown: Why the rule was not applied, and to how many rollouts.
    """

    lines: tuple[Line, ...]
    clips: float
    rollouts: int
    numbers: int
    without_rows: tuple[str, ...]
    removed_black: tuple[str, ...]
    black_unknown: tuple[tuple[str, int], ...]


def table(results: Sequence[Scored]) -> Table:
    """Sum up a run; results without scores of this family are left out.

    Rollouts are numbered before the rule for black images, by which whole rollouts go.
    """
    of_family = [r for r in results if SCORE in r.metrics]
    scored = [r for r in of_family if _has_rows(r)]
    number = _numbers(scored)
    names = [d.name.removeprefix(PREFIX) for d in DEFINITIONS]
    left = [(r, n) for r, n in zip(scored, number, strict=True) if _value(r, "img_is_black") != 1.0]
    groups = [[r for r, n in left if n == i] for i in sorted({n for _, n in left})]
    unknown: dict[str, int] = {}
    for result in scored:
        black = result.metrics.get(PREFIX + "img_is_black")
        if black is not None and black.value is None:
            unknown[black.reason] = unknown.get(black.reason, 0) + 1
    return Table(
        lines=(
            *(_line(name, scored, groups) for name in names),
            *(_distance_line(name, flag, scored, groups) for name, flag in DISTANCES),
        ),
        clips=float(np.mean([len(group) for group in groups])) if groups else 0.0,
        rollouts=len(scored),
        numbers=len(groups),
        without_rows=tuple(f"{r.scene}/{r.seed}" for r in of_family if not _has_rows(r)),
        removed_black=tuple(
            f"{r.scene}/{r.seed}" for r in scored if _value(r, "img_is_black") == 1.0
        ),
        black_unknown=tuple(unknown.items()),
    )


def _has_rows(result: Scored) -> bool:
    """Whether AlpaSim would have metrics of it: something is defined, or all is gone for black."""
    return any(m.value is not None for n, m in result.metrics.items() if n.startswith(PREFIX))


def _numbers(scored: Sequence[Scored]) -> list[int]:
    """The rank of each rollout's seed among the seeds of its scene, from 0."""
    seeds: dict[str, list[int]] = {}
    for result in scored:
        seeds.setdefault(result.scene, []).append(result.seed)
    ranks = {scene: {s: i for i, s in enumerate(sorted({*of}))} for scene, of in seeds.items()}
    return [ranks[r.scene][r.seed] for r in scored]


def _value(result: Scored, name: str) -> float | None:
    metric = result.metrics.get(PREFIX + name)
    return None if metric is None else metric.value


def _line(name: str, scored: Sequence[Scored], groups: Sequence[Sequence[Scored]]) -> Line:
    means = []
    for group in groups:
        values = [v for r in group if (v := _value(r, name)) is not None]
        if values:
            means.append(float(np.mean(values)))
    valid = [r for r in scored if _value(r, name) is not None]
    reason = "" if means else _common_reason(scored, name)
    return _summed(name, means, reason, valid)


def _distance_line(
    name: str, flag: str, scored: Sequence[Scored], groups: Sequence[Sequence[Scored]]
) -> Line:
    """Kilometres driven per incident, of each rollout number, then their mean.

    At most one incident a rollout counts. Where a number has none, the distance is infinite,
    and so is the mean: there is none, and the reason says how far the run came.
    """
    found, free = [], 0
    valid = [r for r in scored if _value(r, flag) is not None and _driven_m(r) is not None]
    for group in groups:
        here = [r for r in group if _value(r, flag) is not None and _driven_m(r) is not None]
        incidents = sum(_value(r, flag) or 0.0 for r in here)
        driven_m = sum(_driven_m(r) or 0.0 for r in here)
        if here and incidents:
            found.append(driven_m / incidents / 1000.0)
        free += bool(here) and not incidents
    if free:
        km = sum(_driven_m(r) or 0.0 for r in valid) / 1000.0
        numbers = free + len(found)
        reason = f"no incident in {free} of {numbers} rollout numbers; {km:.3f} km in all"
        return _summed(name, [], reason, valid)
    return _summed(name, found, "" if found else _common_reason(scored, flag), valid)


def _driven_m(result: Scored) -> float | None:
    return _value(result, "dist_traveled_m")


def _summed(name: str, means: Sequence[float], reason: str, valid: Sequence[Scored]) -> Line:
    return Line(
        name=name,
        over_time=OVER_TIME.get(name, ""),
        mean=float(np.mean(means)) if means else None,
        std=float(np.std(means, ddof=1)) if len(means) > 1 else None,
        reason=reason,
        valid=len(valid),
        distance_m=float(sum(_driven_m(r) or 0.0 for r in valid)),
    )


def _common_reason(scored: Sequence[Scored], name: str) -> str:
    """The reason of the first rollout that was not removed, which mostly is that of all."""
    found = [m.reason for r in scored if (m := r.metrics.get(PREFIX + name)) is not None]
    for reason in sorted(filter(None, found), key=lambda reason: reason == BLACK):
        return reason
    return "no rollout has scores of this family"
