"""Motion along a line: how far an actor has come, and how it moves aside."""

from __future__ import annotations

import numpy as np

from omniloop.core.geometry import Array
from omniloop.scenes.edits.frame import PathFrame

_RAMP_S = 0.3
"""A brake takes this long to bite."""

_FINE_S = 0.02
_TURN_MPS2 = 2.5
_COMFORT_MPS2, _BRAKE_MPS2 = 1.5, 2.0
_HARDEST_MPS2 = -6.0
_HEADWAY_S, _STANDSTILL_M = 1.5, 2.0
"""Comfortable values of the intelligent driver model (Treiber, Hennecke, Helbing, 2000)."""


def quintic(u: Array | float) -> Array:
    """``6 u^5 - 15 u^4 + 10 u^3`` held at 0 and 1: no velocity nor acceleration at its ends."""
    x = np.clip(np.asarray(u, dtype=np.float64), 0.0, 1.0)
    return np.asarray(x**3 * (10 - 15 * x + 6 * x**2))


def braked(times_s: Array, s_m: Array, at_s: float, decel_mps2: float, to_mps: float) -> Array:
    """Arc lengths of one who brakes from `at_s` on and then holds its speed.

    Args:
        times_s: ``(N,)`` rising.
        s_m: ``(N,)`` where it is without braking.
    """
    if at_s >= times_s[-1]:
        return s_m
    fine = np.arange(at_s, times_s[-1] + _FINE_S, _FINE_S)
    start = float(np.interp(at_s, times_s, s_m))
    before = float(np.interp(at_s - 0.2, times_s, s_m))
    speed = (start - before) / 0.2 if at_s - 0.2 >= times_s[0] else _slope(times_s, s_m)
    bite = np.minimum((fine - at_s) / _RAMP_S, 1.0) * decel_mps2
    lost = np.concatenate([[0.0], np.cumsum((bite[1:] + bite[:-1]) / 2 * _FINE_S)])
    v = np.maximum(speed - lost, min(to_mps, speed))
    gone = np.concatenate([[0.0], np.cumsum((v[1:] + v[:-1]) / 2 * _FINE_S)])
    return np.where(times_s <= at_s, s_m, start + np.interp(times_s, fine, gone))


def _slope(times_s: Array, s_m: Array) -> float:
    return float((s_m[1] - s_m[0]) / (times_s[1] - times_s[0]))


def speed_limits(frame: PathFrame, wanted_mps: float) -> tuple[Array, Array]:
    """Arc lengths and speeds ``(N,)`` at which bends are taken at 2.5 m/s2 across.

    Speeds change by at most 2 m/s2 along the line, in either direction.
    """
    bend = np.sqrt(_TURN_MPS2 / np.maximum(np.abs(frame.curvature), 1e-6))
    v2 = (np.minimum(bend, wanted_mps) ** 2).tolist()
    most = 2 * _BRAKE_MPS2 * float(frame.s_m[1] - frame.s_m[0])
    for k in range(1, len(v2)):
        v2[k] = min(v2[k], v2[k - 1] + most)
    for k in range(len(v2) - 2, -1, -1):
        v2[k] = min(v2[k], v2[k + 1] + most)
    return frame.s_m, np.sqrt(np.array(v2))


def towards(frame: PathFrame, times_s: Array, meet: tuple[float, float], speed_mps: float) -> Array:
    """Arc lengths ``(N,)`` of one who drives against a line and is at a place at a time.

    Args:
        meet: Arc length and time.
        speed_mps: Its speed, where bends allow it.
    """
    s, v = speed_limits(frame, speed_mps)
    slowness = np.concatenate([[0.0], np.cumsum((1 / v[1:] + 1 / v[:-1]) / 2 * np.diff(s))])
    clock = meet[1] - (slowness - np.interp(meet[0], s, slowness))
    out = np.interp(times_s, clock[::-1], s[::-1])
    out += np.where(times_s < clock[-1], (clock[-1] - times_s) * v[-1], 0.0)
    return np.asarray(out - np.where(times_s > clock[0], (times_s - clock[0]) * v[0], 0.0))


def driven(
    times_s: Array, start: tuple[float, float], limits: tuple[Array, Array],
    ahead_m: Array, ahead_mps: Array, forward: bool = True,
) -> Array:  # fmt: skip
    """Arc lengths ``(N,)`` of one who drives on, slows for bends and keeps its distance.

    The intelligent driver model, with a desired speed that depends on the place.

    Args:
        times_s: ``(N,)`` rising.
        start: Arc length and speed at the first time.
        limits: See `speed_limits`.
        ahead_m: ``(N,)`` arc length of the next one's rear, infinite if nobody is ahead,
            counted in the direction of motion and less half of its own length.
        ahead_mps: ``(N,)`` speed of that one.
        forward: Along the line or against it; `start` and the result are on the line.
    """
    sign = 1.0 if forward else -1.0
    s, v = start
    out = [s]
    for k, dt in enumerate(np.diff(times_s).tolist()):
        desired = max(float(np.interp(s, *limits)), 0.1)
        gap = max(float(ahead_m[k]) - sign * s, 0.1)
        closing = v * (v - float(ahead_mps[k])) / (2 * np.sqrt(_COMFORT_MPS2 * _BRAKE_MPS2))
        keep = _STANDSTILL_M + max(v * _HEADWAY_S + closing, 0.0)
        a = _COMFORT_MPS2 * (1 - (v / desired) ** 4 - (keep / gap) ** 2)
        if v > desired:  # before a bend: `speed_limits` falls by no more than 2 m/s2
            a = min(a, max((desired - v) / dt, -2 * _BRAKE_MPS2))
        a = min(max(a, _HARDEST_MPS2), _COMFORT_MPS2)
        v_next = max(v + a * dt, 0.0)
        s += sign * (v + v_next) / 2 * dt
        v = v_next
        out.append(s)
    return np.array(out)
