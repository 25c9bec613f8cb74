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
from omniloop.metrics.alpasim_definitions import DEFINITIONS, PREFIX

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
        mean: Over rollout numbers of the mean over clips; None if there is none.
        std: Of these means, with n - 1; None with fewer than two.
        reason: Why there is no mean.
        valid: Rollouts in which it is defined.
        distance_m: What these drove in the tube, `dist_traveled_m` summed up: a rate says
            nothing without it.
    """

    name: str
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
        clips: Scenes.
        rollouts: Rollouts with scores of this family.
        numbers: Rollouts of the clip that has most.
        removed_black: Rollouts that the rule for black images took out.
        black_unknown: Rollouts in whose images nobody looked.
    """

    lines: tuple[Line, ...]
    clips: int
    rollouts: int
    numbers: int
    removed_black: int
    black_unknown: int


def table(results: Sequence[Scored]) -> Table:
    """Sum up a run; results without scores of this family are left out."""
    scored = [r for r in results if SCORE in r.metrics]
    number = _numbers(scored)
    names = [d.name.removeprefix(PREFIX) for d in DEFINITIONS]
    groups = [[r for r, n in zip(scored, number, strict=True) if n == i] for i in sorted({*number})]
    black = [_value(r, "img_is_black") for r in scored]
    return Table(
        lines=(
            *(_line(name, scored, groups) for name in names),
            *(_distance_line(name, flag, scored, groups) for name, flag in DISTANCES),
        ),
        clips=len({r.scene for r in scored}),
        rollouts=len(scored),
        numbers=len(groups),
        removed_black=sum(value == 1.0 for value in black),
        black_unknown=sum(value is None for value in black),
    )


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
        mean=float(np.mean(means)) if means else None,
        std=float(np.std(means, ddof=1)) if len(means) > 1 else None,
        reason=reason,
        valid=len(valid),
        distance_m=float(sum(_driven_m(r) or 0.0 for r in valid)),
    )


def _common_reason(scored: Sequence[Scored], name: str) -> str:
    """The reason of the first rollout, which mostly is that of all."""
    for result in scored:
        metric = result.metrics.get(PREFIX + name)
        if metric is not None and metric.reason:
            return metric.reason
    return "no rollout has scores of this family"
