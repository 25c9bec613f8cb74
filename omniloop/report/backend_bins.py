"""Differences of renderers in bins of metres from the recorded path: table and chart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from omniloop.core.errors import ConfigError
from omniloop.core.geometry import Array
from omniloop.report.backends import Clips
from omniloop.report.image_difference import psnr_db
from omniloop.report.intervals import Interval, bootstrap
from omniloop.report.svg import Series, line_chart, standalone, style_of
from omniloop.report.tabular import Table, Value, text

EDGES_M = (0.5, 1.0, 2.0, 4.0)
"""Where a bin ends and the next begins; the first begins at 0, the last has no end."""


@dataclass(frozen=True)
class Bin:
    """Clips of one backend whose mean deviation lies in ``[low_m, high_m)``.

    Attributes:
        deviation_m: Mean over the frames.
        ssim, mse, gradient_error: Means over the frames.
        intervals: Of these three: 95 %, over scenes.
    """

    low_m: float
    high_m: float
    clips: int
    frames: int
    rollouts: int
    scenes: int
    deviation_m: float
    ssim: float
    mse: float
    gradient_error: float
    intervals: tuple[Interval, Interval, Interval]

    @property
    def label(self) -> str:
        """Such as "0.5-1" or "4+"."""
        return f"{self.low_m:g}+" if math.isinf(self.high_m) else f"{self.low_m:g}-{self.high_m:g}"

    @property
    def psnr_db(self) -> tuple[float | None, float | None, float | None]:
        """Of the mean squared error, and its interval; None where it is infinite or undefined."""
        low, high = self.intervals[1].low, self.intervals[1].high
        return _psnr(self.mse), _psnr(high), _psnr(low)


def _psnr(mean_squared_error: float | None) -> float | None:
    if mean_squared_error is None or mean_squared_error <= 0:
        return None
    return psnr_db(mean_squared_error)


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
    """Group clips by their mean deviation; bins without a clip are left out.

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
    frames, sums = clips.frames[chosen], clips.sums[chosen]
    names, scene = np.unique(clips.scenes[chosen], return_inverse=True)
    values, weights = np.zeros((len(names), 3)), np.zeros((len(names), 3))
    np.add.at(values, scene, sums)
    np.add.at(weights, scene, frames[:, None])
    ssim, mse, gradient = (sums.sum(axis=0) / frames.sum()).tolist()
    first, second, third = bootstrap(values, weights)
    return Bin(
        low_m=low_m, high_m=high_m, clips=len(chosen), frames=int(frames.sum()),
        rollouts=len(np.unique(clips.rollouts[chosen])), scenes=len(names),
        deviation_m=float(clips.deviation_m[chosen] @ frames / frames.sum()),
        ssim=ssim, mse=mse, gradient_error=gradient, intervals=(first, second, third),
    )  # fmt: skip


def full_table(backends: Sequence[tuple[Clips, Sequence[Bin]]], reference: str) -> Table:
    """A row per backend and bin, every number in full."""
    rows: list[tuple[Value, ...]] = []
    for clips, bins in backends:
        for b in bins:
            ssim, _, gradient = b.intervals
            high = None if math.isinf(b.high_m) else b.high_m
            rows.append(
                (
                    clips.name, reference, b.low_m, high, b.deviation_m, b.clips, b.frames, b.rollouts, b.scenes,
                    b.ssim, ssim.low, ssim.high, *b.psnr_db,
                    b.gradient_error, gradient.low, gradient.high,
                )
            )  # fmt: skip
    headers = (
        "backend", "reference", "from_m", "to_m", "deviation_mean_m", "clips", "frames", "rollouts", "scenes",
        "ssim", "ssim_low", "ssim_high", "psnr_db", "psnr_db_low", "psnr_db_high",
        "gradient_error", "gradient_error_low", "gradient_error_high",
    )  # fmt: skip
    return Table("backends", _title(reference), headers, tuple(rows))


def brief_table(backends: Sequence[tuple[Clips, Sequence[Bin]]], reference: str) -> Table:
    """A row per backend and bin, intervals beside the numbers."""
    rows: list[tuple[Value, ...]] = []
    notes = ["deviation: ego from the recorded path, mean of a clip; a bin holds its lower end"]
    for clips, bins in backends:
        notes += [f"{clips.name}: {note}" for note in clips.notes]
        for b in bins:
            ssim, _, gradient = b.intervals
            psnr, low, high = b.psnr_db
            rows.append(
                (
                    clips.name, b.label, b.clips, b.scenes, _with(b.ssim, ssim.low, ssim.high),
                    "identical" if psnr is None else _with(psnr, low, high),
                    _with(b.gradient_error, gradient.low, gradient.high),
                )
            )  # fmt: skip
    if any(i.reason for _, bins in backends for b in bins for i in b.intervals):
        notes.append("no interval where all scenes are alike or there are fewer than two")
    headers = (
        "backend", "deviation [m]", "clips", "scenes", "SSIM", "PSNR [dB]", "gradient error [levels/px]",
    )  # fmt: skip
    return Table("backends", _title(reference), headers, tuple(rows), tuple(dict.fromkeys(notes)))


def _title(reference: str) -> str:
    return f"Frames on the same states, compared with {reference}"


def _with(value: float, low: float | None, high: float | None) -> str:
    return (
        text(value) if low is None or high is None else f"{text(value)} [{text(low)}, {text(high)}]"
    )


def chart(backends: Sequence[tuple[Clips, Sequence[Bin]]], reference: str) -> str:
    """SSIM and gradient error over the bins' mean deviation, as an SVG file."""
    # The states are the same, so all backends have the same bins.
    deviation_m = np.array([b.deviation_m for b in backends[0][1]])
    return standalone(
        [
            _lines(f"SSIM with {reference}", "1", deviation_m, backends, "ssim"),
            _lines(
                f"Gradient error to {reference}", "levels/px", deviation_m, backends,
                "gradient_error",
            ),
        ]
    )  # fmt: skip


def _lines(
    title: str,
    unit: str,
    deviation_m: Array,
    backends: Sequence[tuple[Clips, Sequence[Bin]]],
    name: str,
) -> Markup:
    series = [
        Series(clips.name, style_of(k), np.array([getattr(b, name) for b in bins]))
        for k, (clips, bins) in enumerate(backends)
    ]
    return line_chart(
        title, unit, deviation_m, series, x_unit="m", over="the mean deviation from the path"
    )
