"""Small line charts and bars as inline SVG; colours and fonts come from the page's style sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from omniloop.core.geometry import Array

_WIDTH, _HEIGHT = 420, 132
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 8, 22, 20
_MOST_POINTS = 160


@dataclass(frozen=True, eq=False)
class Series:
    """A line of a chart.

    Attributes:
        label: Its name in the chart's key.
        style: CSS class of the line.
        values: ``(N,)``; NaN leaves a gap.
    """

    label: str
    style: str
    values: Array


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers within ``[low, high]``, about `wanted` of them."""
    span = max(high - low, 1e-9)
    power = 10.0 ** np.floor(np.log10(span / wanted))
    step = next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= span / wanted - 1e-12)
    first = np.ceil(low / step - 1e-9)
    return [float((first + k) * step) for k in range(int((high - first * step) / step + 1e-9) + 1)]


def line_chart(
    title: str,
    unit: str,
    time_s: Array,
    series: Sequence[Series],
    *,
    warmup_until_s: float | None = None,
    marks_s: Sequence[float] = (),
    x_unit: str = "s",
    over: str = "time",
) -> Markup:
    """Draw values over time, or over another quantity.

    Args:
        title: What is shown; also the chart's text alternative.
        unit: Unit of the values.
        time_s: ``(N,)`` increasing, N >= 1.
        warmup_until_s: Times before it are shaded.
        marks_s: Times of incidents, drawn as vertical lines.
        x_unit: Unit of `time_s`.
        over: What `time_s` is, for the text alternative.
    """
    t0, t1 = float(time_s[0]), float(max(time_s[-1], time_s[0] + 1e-3))
    finite = np.concatenate([s.values[np.isfinite(s.values)] for s in series])
    # A span of at least 1, so that rounding errors do not look like motion.
    top = max(float(finite.max()) * 1.08, 1.0) if len(finite) else 1.0
    low = min(float(finite.min()), 0.0) * 1.08 if len(finite) else 0.0

    def x(time: float) -> float:
        return _LEFT + (time - t0) / (t1 - t0) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - low) / (top - low) * (_HEIGHT - _TOP - _BOTTOM)

    floor, ceiling = _HEIGHT - _BOTTOM, _TOP
    parts = []
    if warmup_until_s is not None and warmup_until_s > t0:
        edge = x(min(warmup_until_s, t1))
        parts.append(
            f'<rect class="warm" x="{_LEFT}" y="{ceiling}" width="{edge - _LEFT:.1f}" height="{floor - ceiling}"/>'
        )
    for value in ticks(low, top):
        at = f"{y(value):.1f}"
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>'
        )
        parts.append(
            f'<text x="{_LEFT - 5}" y="{y(value) + 3:.1f}" text-anchor="end">{value:g}</text>'
        )
    for time in ticks(t0, t1, 6):
        column = x(time)
        anchor = "end" if column > _WIDTH - _RIGHT - 14 else "middle"
        parts.append(
            f'<text x="{column:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{time:g} {escape(x_unit)}</text>'
        )
    for mark in marks_s:
        at = f"{x(min(max(mark, t0), t1)):.1f}"
        parts.append(f'<line class="mark" x1="{at}" x2="{at}" y1="{ceiling}" y2="{floor}"/>')
    keep = np.unique(
        np.linspace(0, len(time_s) - 1, min(len(time_s), _MOST_POINTS)).round().astype(int)
    )
    key_x = _WIDTH - _RIGHT
    for line in reversed(series):
        parts += [
            f'<polyline class="{escape(line.style)}" points="{points}"/>'
            for points in _runs(time_s[keep], line.values[keep], x, y)
        ]
    for line in reversed(series) if len(series) > 1 else ():
        parts.append(
            f'<text class="key {escape(line.style)}" x="{key_x}" y="13" text-anchor="end">{escape(line.label)}</text>'
        )
        key_x -= 7 * len(line.label) + 12
    name = escape(title)
    head = (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{name} over {escape(over)}">'
        f'<text class="title" x="{_LEFT}" y="13">{name} [{escape(unit)}]</text>'
    )
    return Markup(head + "".join(parts) + "</svg>")


_BAR_WIDTH, _BAR_HEIGHT = 860, 26


def stacked_bar(title: str, parts: Sequence[tuple[str, str, float]]) -> Markup:
    """Draw parts of a whole side by side; those that have room have their name on them.

    Args:
        title: The bar's text alternative begins with it.
        parts: Label, colour and a value of 0 or more.
    """
    whole = sum(value for _, _, value in parts)
    drawn, told, x = [], [], 0.0
    for label, color, value in parts:
        width = _BAR_WIDTH * value / whole if whole > 0 else 0.0
        name = escape(label)
        told.append(f"{name} {value:.3g}")
        drawn.append(
            f'<rect x="{x:.1f}" y="0" width="{width:.1f}" height="{_BAR_HEIGHT}" fill="{escape(color)}"/>'
        )
        if width > 8 * len(label) + 10:
            drawn.append(f'<text class="on" x="{x + 6:.1f}" y="17">{name}</text>')
        x += width
    head = (
        f'<svg class="chart bar" viewBox="0 0 {_BAR_WIDTH} {_BAR_HEIGHT}" role="img"'
        f' aria-label="{escape(title)}: {", ".join(told)}">'
    )
    return Markup(head + "".join(drawn) + "</svg>")


_STANDALONE = (
    "text{font:10.5px sans-serif;fill:#667}.title{font-size:12px;font-weight:600;fill:#223}"
    ".grid{stroke:#dde}polyline{fill:none;stroke-width:1.8;stroke-linejoin:round}"
)
_COLORS = ("#1d6fd1", "#d1571d", "#2a8a4a", "#8a3fb0", "#b08a1d", "#555566")


def standalone(charts: Sequence[Markup]) -> str:
    """Charts below one another as a file of their own; lines of styles s0, s1, ... have colours."""
    rules = "".join(
        f"polyline.s{k}{{stroke:{color}}}text.s{k}{{fill:{color};font-weight:600}}"
        for k, color in enumerate(_COLORS)
    )
    placed = [
        chart.replace("<svg ", f'<svg y="{k * _HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" ', 1)
        for k, chart in enumerate(map(str, charts))
    ]
    height = _HEIGHT * len(placed)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        f' width="{2 * _WIDTH}" height="{2 * height}"><style>{_STANDALONE}{rules}</style>'
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>'
    )
    return "\n".join([head, *placed, "</svg>\n"])


def style_of(number: int) -> str:
    """The style of a line by its number; colours come around again."""
    return f"s{number % len(_COLORS)}"


def _runs(
    time_s: Array, values: Array, x: Callable[[float], float], y: Callable[[float], float]
) -> list[str]:
    """Points of the stretches without gaps."""
    good = np.isfinite(values)
    edges = np.flatnonzero(np.diff(good.astype(np.int8))) + 1
    return [
        " ".join(f"{x(time_s[k]):.1f},{y(values[k]):.1f}" for k in run)
        for run in np.split(np.arange(len(values)), edges)
        if len(run) >= 2 and good[run[0]]
    ]
