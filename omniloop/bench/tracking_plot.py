"""A picture of how controllers follow plans, as one SVG that needs no style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from omniloop.bench.tracking import ENTRIES, PERIODS_US, STOP, Entry
from omniloop.bench.tracking_paths import PATHS, Path, drive, stop
from omniloop.core.geometry import Array
from omniloop.core.motion import EgoMotion
from omniloop.core.time import US_PER_S
from omniloop.report.svg import ticks

_SHOWN = {
    "bicycle, kinematic": "#e08a00",
    "lqr, kinematic": "#0a6ebd",
    "mpc, dynamic": "#c2255c",
}
"""Colours of the controllers with their own vehicle models, worst first, apart for the colour-blind."""

_MAGNIFIED = 10.0
_WIDTH, _HEIGHT = 1280, 640
_LEFT, _GAP, _PANEL_W = 58, 62, 250
_TOP, _BOTTOM = (118, 332), (404, 584)
_INK, _DIM, _GRID, _ROAD = "#1f2933", "#66717d", "#e4e8ec", "#c9d0d7"


@dataclass(frozen=True)
class _Panel:
    """A rectangle with axes: pixels from values."""

    x_px: tuple[float, float]
    y_px: tuple[float, float]
    x: tuple[float, float]
    y: tuple[float, float]

    def points(self, x: Array, y: Array) -> str:
        px = np.interp(x, self.x, self.x_px)
        share = (np.asarray(y) - self.y[0]) / (self.y[1] - self.y[0])
        py = self.y_px[1] - share * (self.y_px[1] - self.y_px[0])
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(px, py, strict=True))

    def axes(self, title: str, x_label: str, y_label: str) -> list[str]:
        (x0, x1), (y0, y1) = self.x_px, self.y_px
        out = [_text(x0, y0 - 12, title, 13, _INK, weight=600)] if title else []
        for value in ticks(*self.y, 6):
            at = float(y1 - (value - self.y[0]) / (self.y[1] - self.y[0]) * (y1 - y0))
            out.append(_line(x0, at, x1, at, _GRID if abs(value) > 1e-9 else _ROAD))
            out.append(_text(x0 - 7, at + 4, f"{value:g}", 11, _DIM, "end"))
        for value in ticks(*self.x, 4):
            at = float(np.interp(value, self.x, self.x_px))
            out.append(_text(at, y1 + 16, f"{value:g}", 11, _DIM, "middle"))
        out.append(_text((x0 + x1) / 2, y1 + 33, x_label, 11, _DIM, "middle"))
        if y_label:
            out.append(_text(x0 - 40, (y0 + y1) / 2, y_label, 11, _DIM, "middle", turned=True))
        return out

    def line(self, x: Array, y: Array, color: str, width: float = 1.9) -> str:
        return (
            f'<polyline points="{self.points(x, y)}" fill="none" stroke="{color}"'
            f' stroke-width="{width}" stroke-linejoin="round" stroke-linecap="round"/>'
        )


def picture(lateral_mps2: float) -> str:
    """Draw the paths, what was driven of them, and the errors; new plans every 100 ms.

    Args:
        lateral_mps2: Largest lateral acceleration of the paths.
    """
    entries = [(entry, _SHOWN[entry.label]) for entry in ENTRIES if entry.label in _SHOWN]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}"'
        f' height="{_HEIGHT}" font-family="Inter, Helvetica, Arial, DejaVu Sans, sans-serif">'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        _text(_LEFT, 36, "What controllers make of a plan", 19, _INK, weight=600),
        _text(
            _LEFT, 58, f"Up to {lateral_mps2:g} m/s² sideways; a new plan every 100 ms. Above: driven lines,"
            f" their distance from the path drawn {_MAGNIFIED:g} times as large.", 12, _DIM,
        ),
    ]  # fmt: skip
    parts += _key(entries)
    for column, make in enumerate(PATHS):
        path = make(lateral_mps2)
        driven = [(drive(e.open(), path, PERIODS_US[0]), color) for e, color in entries]
        parts += _path_column(path, driven, _columns(column))
    path = stop(*STOP)
    driven = [(drive(e.open(), path, PERIODS_US[0]), color) for e, color in entries]
    parts += _stop_column(path, driven, _columns(len(PATHS)))
    return "\n".join([*parts, "</svg>\n"])


def _columns(number: int) -> tuple[float, float]:
    left = _LEFT + number * (_PANEL_W + _GAP)
    return left, left + _PANEL_W


def _key(entries: Sequence[tuple[Entry, str]]) -> list[str]:
    out, x = [], _WIDTH - 560.0
    for label, color, width in [("path", _ROAD, 7.0)] + [(e.label, c, 2.6) for e, c in entries]:
        out.append(_line(x, 32, x + 24, 32, color, width))
        out.append(_text(x + 31, 36, label, 12, _INK))
        x += 62 + 6.6 * len(label)
    return out


def _path_column(
    path: Path, driven: Sequence[tuple[EgoMotion, str]], x_px: tuple[float, float]
) -> list[str]:
    until_m = max(float(path.cross_track_m(m.local_to_rig[-1:, :2])[0][0]) for m, _ in driven)
    shown = path.points[path.s_m <= until_m][::25]
    span = _span(shown, x_px)
    top = _Panel(x_px, _TOP, *span)
    bottom = _Panel(x_px, _BOTTOM, (0.0, until_m), (-0.25, 0.25))
    title = f"{path.name[0].upper()}{path.name[1:]}, {3.6 * path.speed_mps:.0f} km/h"
    out = top.axes(title, "x [m]", "y [m]")
    out += bottom.axes("", "along the path [m]", "to the left of the path [m]")
    out.append(top.line(shown[:, 0], shown[:, 1], _ROAD, 7.0))
    for motion, color in driven:
        s, beside = path.cross_track_m(motion.local_to_rig[:, :2])
        fine_s = np.linspace(s[0], s[-1], 400)
        x, y, yaw = path.place(np.interp(fine_s, path.s_m, path.parameter)).T
        off = _MAGNIFIED * np.interp(fine_s, s, beside)
        out.append(top.line(x - off * np.sin(yaw), y + off * np.cos(yaw), color))
        out.append(bottom.line(s, beside, color))
    return out


def _span(
    points: Array, x_px: tuple[float, float]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ranges of x and y: as large in both if the path is about as wide as long."""
    low, high = points.min(axis=0), points.max(axis=0)
    size = high - low
    if size[1] < size[0] / 4:
        return (float(low[0]), float(high[0])), (float(low[1]) - 2.5, float(high[1]) + 2.5)
    per_px = 1.12 * max(size[0] / (x_px[1] - x_px[0]), size[1] / (_TOP[1] - _TOP[0]))
    half = per_px / 2 * np.array([x_px[1] - x_px[0], _TOP[1] - _TOP[0]])
    middle = (low + high) / 2
    (x0, y0), (x1, y1) = (middle - half).tolist(), (middle + half).tolist()
    return (x0, x1), (y0, y1)


def _stop_column(
    path: Path, driven: Sequence[tuple[EgoMotion, str]], x_px: tuple[float, float]
) -> list[str]:
    end_s, end_m = float(path.times_s[-1]), float(path.driven_m[-1])
    top = _Panel(x_px, _TOP, (0.0, end_s + 3.0), (0.0, path.speed_mps + 1.0))
    bottom = _Panel(x_px, _BOTTOM, (end_s - 1.0, end_s + 3.0), (-0.25, 0.25))
    out = top.axes(f"Stop, {STOP[1]:g} m/s²", "time [s]", "speed [m/s]")
    out += bottom.axes("", "time [s]", "beyond the stop point [m]")
    until = path.times_s <= end_s
    speed = np.gradient(path.driven_m[until], path.times_s[until])
    held = np.array([0.0, 0.0])
    out.append(top.line(np.append(path.times_s[until], end_s + 3.0), np.append(speed, 0), _ROAD, 7))
    out.append(bottom.line(np.array([end_s, end_s + 3.0]), held, _ROAD, 7.0))
    for motion, color in driven:
        times = motion.times_us / US_PER_S
        top_part = times <= end_s + 3.0
        out.append(top.line(times[top_part], motion.dynamics[top_part, 0], color))
        beyond = motion.local_to_rig[:, 0] - end_m
        near = top_part & (beyond >= -0.25) & (times >= end_s - 1.0)
        out.append(bottom.line(times[near], beyond[near], color))
    return out


def _line(x0: float, y0: float, x1: float, y1: float, color: str, width: float = 1.0) -> str:
    return (
        f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{color}"'
        f' stroke-width="{width}"/>'
    )


def _text(
    x: float, y: float, text: str, size: int, color: str, anchor: str = "start",
    weight: int = 400, turned: bool = False,
) -> str:  # fmt: skip
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" text-anchor="{anchor}"'
        f' font-weight="{weight}"{turn}>{text}</text>'
    )
