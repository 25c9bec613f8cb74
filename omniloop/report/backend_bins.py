"""Differences of renderers in bins of metres from the recorded path: table and chart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from omniloop.core.errors import ConfigError
from omniloop.core.geometry import Array
from omniloop.report.backends import Clips
from omniloop.report.image_metrics.contract import Estimate, ImageScore
from omniloop.report.svg import Series, line_chart, standalone, style_of
from omniloop.report.tabular import Table, Value, text

EDGES_M = (0.5, 1.0, 2.0, 4.0)
"""Where a bin ends and the next begins; the first begins at 0, the last has no end."""


@dataclass(frozen=True, eq=False)
class Bin:
    """Clips of one backend whose mean deviation lies in ``[low_m, high_m)``.

    Attributes:
        deviation_m: Mean over the frames.
        estimates: By name of the score.
    """

    low_m: float
    high_m: float
    clips: int
    frames: int
    rollouts: int
    scenes: int
    deviation_m: float
    estimates: Mapping[str, Estimate]

    @property
    def label(self) -> str:
        """Such as "0.5-1" or "4+"."""
        return f"{self.low_m:g}+" if math.isinf(self.high_m) else f"{self.low_m:g}-{self.high_m:g}"


Backends = Sequence[tuple[Clips, Sequence[Bin]]]
"""Backends with their bins; the states are the same, so all have the same bins."""


def check_edges(edges_m: Sequence[float]) -> tuple[float, ...]:
    """Edges as they were given.

    Raises:
        ConfigError: they are not positive, finite and increasing.
    """
    edges = (0.0, *edges_m)
    if not all(a < b < math.inf for a, b in itertools.pairwise(edges)):
        raise ConfigError(
            f"bins end at {', '.join(f'{e:g}' for e in edges_m)} m", where="--bins",
            remedy="give increasing positive metres, such as --bins 0.5,1,2,4",
        )  # fmt: skip
    return tuple(edges_m)


def bins_of(clips: Clips, edges_m: Sequence[float] = EDGES_M) -> list[Bin]:
    """Group clips by their mean deviation and score the groups; empty bins are left out.

    Raises:
        ConfigError: the edges are not positive, finite and increasing.
    """
    edges = np.array([0.0, *check_edges(edges_m), np.inf])
    place = np.searchsorted(edges, clips.deviation_m, side="right") - 1
    return [
        _bin(clips, np.flatnonzero(place == k), float(edges[k]), float(edges[k + 1]))
        for k in range(len(edges) - 1)
        if (place == k).any()
    ]


def _bin(clips: Clips, chosen: NDArray[np.intp], low_m: float, high_m: float) -> Bin:
    frames, scenes = clips.frames[chosen], clips.scenes[chosen]
    estimates: dict[str, Estimate] = {}
    for name, metric in clips.metrics.items():
        found = metric.score([clips.measured[name][k] for k in chosen], scenes)
        estimates.update(zip((s.name for s in metric.scores), found, strict=True))
    return Bin(
        low_m=low_m, high_m=high_m, clips=len(chosen), frames=int(frames.sum()),
        rollouts=len(np.unique(clips.rollouts[chosen])), scenes=len(np.unique(scenes)),
        deviation_m=float(clips.deviation_m[chosen] @ frames / frames.sum()), estimates=estimates,
    )  # fmt: skip


def full_table(backends: Backends, reference: str) -> Table:
    """A row per backend and bin, every number in full; what is undefined in the last column."""
    scores = _scores(backends)
    rows: list[tuple[Value, ...]] = []
    for clips, bins in backends:
        for b in bins:
            high = None if math.isinf(b.high_m) else b.high_m
            values: list[Value] = []
            for score in scores:
                found = b.estimates[score.name]
                values += [found.value]
                values += [found.interval.low, found.interval.high] if score.has_interval else []
            why = [f"{s.name}: {b.estimates[s.name].reason}" for s in scores]
            undefined = [w for w, s in zip(why, scores, strict=True) if b.estimates[s.name].reason]
            rows.append(
                (
                    clips.name, reference, b.low_m, high, b.deviation_m, b.clips, b.frames,
                    b.rollouts, b.scenes, *values, "; ".join(undefined) or None,
                )
            )  # fmt: skip
    columns = [
        name
        for s in scores
        for name in ((s.name, f"{s.name}_low", f"{s.name}_high") if s.has_interval else (s.name,))
    ]
    headers = (
        "backend", "reference", "from_m", "to_m", "deviation_mean_m", "clips", "frames",
        "rollouts", "scenes", *columns, "undefined",
    )  # fmt: skip
    return Table("backends", _title(reference), headers, tuple(rows))


def brief_table(backends: Backends, reference: str, absent: Sequence[str] = ()) -> Table:
    """A row per backend and bin, intervals beside the numbers.

    Args:
        absent: Notes of the metrics that gave no scores.
    """
    scores = _scores(backends)
    rows: list[tuple[Value, ...]] = []
    notes = ["deviation: ego from the recorded path, mean of a clip; a bin holds its lower end"]
    for clips, bins in backends:
        notes += [f"{clips.name}: {note}" for note in clips.notes]
        rows += [
            (clips.name, b.label, b.clips, b.scenes, *(_cell(b.estimates[s.name]) for s in scores))
            for b in bins
        ]
    found = [b.estimates[s.name] for _, bins in backends for b in bins for s in scores]
    if any(estimate.interval.reason for estimate in found):
        notes.append("no interval where all scenes are alike or there are fewer than two")
    headers = (
        "backend", "deviation [m]", "clips", "scenes",
        *(f"{s.heading} [{s.unit}]" if s.unit else s.heading for s in scores),
    )  # fmt: skip
    notes += absent
    return Table("backends", _title(reference), headers, tuple(rows), tuple(dict.fromkeys(notes)))


def _scores(backends: Backends) -> list[ImageScore]:
    return [score for metric in backends[0][0].metrics.values() for score in metric.scores]


def _title(reference: str) -> str:
    return f"Frames on the same states, compared with {reference}"


def _cell(estimate: Estimate) -> str:
    if estimate.value is None:
        return estimate.reason
    low, high = estimate.interval.low, estimate.interval.high
    if low is None or high is None:
        return text(estimate.value)
    return f"{text(estimate.value)} [{text(low)}, {text(high)}]"


def chart(backends: Backends, reference: str) -> str:
    """Scores over the bins' mean deviation, as an SVG file: those drawn that are defined."""
    deviation_m = np.array([b.deviation_m for b in backends[0][1]])
    return standalone(
        [
            _lines(score, reference, deviation_m, backends)
            for score in _scores(backends)
            if score.in_chart
            and any(b.estimates[score.name].value is not None for _, bins in backends for b in bins)
        ]
    )


def _lines(score: ImageScore, reference: str, deviation_m: Array, backends: Backends) -> Markup:
    series = [
        Series(
            clips.name,
            style_of(k),
            np.array([b.estimates[score.name].value for b in bins], dtype=np.float64),
        )
        for k, (clips, bins) in enumerate(backends)
    ]
    title = f"{score.heading[:1].upper()}{score.heading[1:]} against {reference}"
    return line_chart(
        title, score.unit or "1", deviation_m, series, x_unit="m",
        over="the mean deviation from the path",
    )  # fmt: skip
