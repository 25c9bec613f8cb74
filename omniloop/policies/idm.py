"""Speed along a path: curves and cruise from the path, followers by IDM."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from omniloop.core.geometry import Array
from omniloop.policies.leads import Obstacles
from omniloop.policies.smooth_path import SmoothPath

_STRONG_BRAKE_MPS2 = 4.0
"""Used where ego is faster than a curve allows."""

_MIN_GAP_M = 0.1

_OPENING_MPS = 1.0
"""Behind one that is faster by this much ego brakes no harder than is comfortable: IDM alone
brakes fully when a faster vehicle cuts in."""


@dataclass(frozen=True)
class SpeedSettings:
    """The Intelligent Driver Model's constants and the limits of the path.

    Treiber, Hennecke and Helbing, "Congested traffic states in empirical observations and
    microscopic simulations", 2000; values of nuPlan's IDM planner, whose s0 is 1 m.

    Attributes:
        min_gap_m: s0, bumper to bumper.
        headway_s: T.
        max_accel_mps2: a.
        comfortable_brake_mps2: b; also how early ego slows for a curve.
        emergency_brake_mps2: Never brakes harder.
        max_lateral_mps2: In curves.
    """

    min_gap_m: float = 1.5
    headway_s: float = 1.5
    max_accel_mps2: float = 1.0
    comfortable_brake_mps2: float = 3.0
    emergency_brake_mps2: float = 8.0
    max_lateral_mps2: float = 2.0


def allowed_speeds(
    path: SmoothPath, cruise_mps: float, stop_m: float, settings: SpeedSettings
) -> Array:
    """Speeds ``(M,)`` at the path's stations from which ego can still slow down in time.

    Args:
        cruise_mps: Nowhere faster.
        stop_m: Arc length at which ego is to stand; infinite for none.
    """
    bend = np.abs(path.curvature_1pm)
    limit2 = np.minimum(settings.max_lateral_mps2 / np.maximum(bend, 1e-6), cruise_mps**2)
    if math.isfinite(stop_m):
        to_stop = 2 * settings.comfortable_brake_mps2 * np.maximum(stop_m - path.s_m, 0.0)
        limit2 = np.minimum(limit2, to_stop)
    # v(s)^2 <= v(s')^2 + 2 b (s' - s) for every s' ahead.
    ramp = 2 * settings.comfortable_brake_mps2 * path.s_m
    reachable = np.minimum.accumulate((limit2 + ramp)[::-1])[::-1] - ramp
    return np.asarray(np.sqrt(np.maximum(reachable, 0.0)))


def progress(
    path: SmoothPath,
    allowed_mps: Array,
    obstacles: Obstacles,
    speed_mps: float,
    cruise_mps: float,
    step_s: float,
    count: int,
    settings: SpeedSettings,
) -> Array:
    """Arc length ``(count + 1,)`` along the path every `step_s`, from 0, decided every other.

    IDM towards `cruise_mps` behind the nearest obstacle at each time, cut to the allowed
    speed and, before those who cross, to what lets them pass. Ego does not go back.
    """
    times: Array = 2 * step_s * np.arange((count + 1) // 2, dtype=np.float64)
    lead_m, lead_mps = (v.tolist() for v in obstacles.nearest(times))
    waiting = obstacles.braking(times, speed_mps, settings.min_gap_m).tolist()
    grid = np.interp(np.arange(int(path.route_end_m) + 3.0), path.s_m, allowed_mps).tolist()
    last, dt_s = len(grid) - 1, 2 * step_s
    top = settings.max_accel_mps2
    root = 2 * math.sqrt(top * settings.comfortable_brake_mps2)
    hardest, strongest, far = -settings.emergency_brake_mps2, _STRONG_BRAKE_MPS2 * dt_s, math.inf
    comfortable = settings.comfortable_brake_mps2
    gap0, headway = settings.min_gap_m, settings.headway_s
    s, v = 0.0, max(speed_mps, 0.0)
    out = [0.0]
    # Plain floats and comparisons: this loop is the longest part of a plan.
    for k in range(len(lead_m)):
        accel = top * (1.0 - (v / cruise_mps) ** 4)
        gap = lead_m[k] - s
        if gap < far:
            wished = v * headway + v * (v - lead_mps[k]) / root
            wished = gap0 + wished if wished > 0.0 else gap0
            pushed = top * (wished / (gap if gap > _MIN_GAP_M else _MIN_GAP_M)) ** 2
            if lead_mps[k] > v + _OPENING_MPS and pushed > comfortable:
                pushed = comfortable
            accel -= pushed
        accel = min(accel, waiting[k])
        accel = max(accel, hardest)
        after = v + accel * dt_s
        there = s + v * dt_s
        i = int(there)
        allowed = grid[last] if i >= last else grid[i] + (there - i) * (grid[i + 1] - grid[i])
        if after > allowed:
            slowest = v - strongest
            after = allowed if allowed > slowest else slowest
        after = max(after, 0.0)
        # Half way, with half of the change of speed.
        out.append(s + (3 * v + after) / 4 * step_s)
        s += (v + after) * step_s
        out.append(s)
        v = after
    return np.array(out[: count + 1])
