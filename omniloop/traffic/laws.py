"""The Intelligent Driver Model as functions over actors.

With the gap s, the speed v and the lead's speed v_l,

    dv/dt = a [1 - (v / v0)^delta - (s* / s)^2],
    s*    = s0 + v T + v (v - v_l) / (2 sqrt(a b))

(Treiber, Hennecke and Helbing, Phys. Rev. E 62, 2000). `IdmParameters` says how a code base
departs from it.
"""

from __future__ import annotations

import math

import numpy as np

from omniloop.core.geometry import Array
from omniloop.traffic.parameters import IdmParameters


def idm_accel(
    speed_mps: Array, desired_mps: Array, gap_m: Array, lead_mps: Array, p: IdmParameters
) -> Array:
    """Accelerations ``(A,)`` in ``[-hardest_brake, max_accel]``.

    Args:
        speed_mps: ``(A,)``, not negative.
        desired_mps: ``(A,)`` v0, positive.
        gap_m: ``(A,)`` bumper to bumper; infinite on a free road, negative in an overlap.
        lead_mps: ``(A,)`` the lead's speed along the lane; 0 on a free road.
    """
    per_mps = 1.0 / (2.0 * math.sqrt(p.max_accel_mps2 * p.comfortable_brake_mps2))
    wished = speed_mps * (p.headway_s + (speed_mps - lead_mps) * per_mps)
    if p.positive_interaction:
        wished = np.maximum(wished, 0.0)
    ratio = (p.min_gap_m + wished) / np.maximum(_seen_gap(gap_m, speed_mps, p), p.gap_floor_m)
    relative = speed_mps / desired_mps
    if p.exponent == 4.0:  # two products are far quicker than a power
        relative = relative * relative
        free = 1.0 - relative * relative
    else:
        free = 1.0 - relative**p.exponent
    if p.free_brake_mps2 < math.inf:
        free = np.maximum(free, -p.free_brake_mps2 / p.max_accel_mps2)
    accel = p.max_accel_mps2 * (free - ratio * ratio)
    return np.asarray(np.maximum(accel, -p.hardest_brake_mps2))


def _seen_gap(gap_m: Array, speed_mps: Array, p: IdmParameters) -> Array:
    """The model's s, before its floor."""
    if p.length_in_gap_m:
        gap_m = gap_m + p.length_in_gap_m
    return gap_m - p.nose_s * speed_mps if p.nose_s else gap_m


def advance(
    speed_mps: Array, accel_mps2: Array, dt_s: float, p: IdmParameters
) -> tuple[Array, Array]:
    """Return ``(moved_m, new_speed_mps)``, each ``(A,)`` and never negative.

    Args:
        speed_mps: ``(A,)``, not negative.
        accel_mps2: ``(A,)`` held through the step.
    """
    raw = speed_mps + accel_mps2 * dt_s
    after = np.maximum(raw, 0.0)
    if p.integration == "euler":
        return speed_mps * dt_s, after
    moved = (speed_mps + after) * (dt_s / 2)
    if p.integration == "ballistic":
        stops = raw < 0.0
        if stops.any():
            moved[stops] = speed_mps[stops] ** 2 / (-2.0 * accel_mps2[stops])
    return moved, after


def equilibrium_gap(speed_mps: Array, desired_mps: Array, p: IdmParameters) -> Array:
    """Bumper-to-bumper gaps ``(A,)`` at which one follows a lead of its own speed unchanged.

    s_e = (s0 + v T) / sqrt(1 - (v / v0)^delta): Treiber and Kesting, "Traffic Flow Dynamics",
    2013, chapter 11. Infinite where `speed_mps` is not below `desired_mps`.
    """
    return _equilibrium_s(speed_mps, desired_mps, p) - p.length_in_gap_m + p.nose_s * speed_mps


def _equilibrium_s(speed_mps: Array, desired_mps: Array, p: IdmParameters) -> Array:
    room = np.maximum(1.0 - (speed_mps / desired_mps) ** p.exponent, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray((p.min_gap_m + p.headway_s * speed_mps) / np.sqrt(room))


def string_stability_margin(speed_mps: Array, desired_mps: Array, p: IdmParameters) -> Array:
    """How far ``(A,)`` [1/s^2] a platoon in equilibrium is from amplifying: stable if positive.

    For dv/dt = f(s, v, v_l) a small oscillation of frequency w passes from car to car with
    the gain

        |G(w)|^2 = (f_s^2 + f_l^2 w^2) / ((f_s - w^2)^2 + f_v^2 w^2),

    which is at most 1 for all w if and only if f_v^2 - f_l^2 - 2 f_s >= 0. That is the criterion
    dv_e/ds <= (f_l - f_v) / 2 of Treiber and Kesting, "Traffic Flow Dynamics", 2013, chapter
    15, with dv_e/ds = -f_s / (f_v + f_l). The limits of acceleration and the time
    step have no part in it.
    """
    s = _equilibrium_s(speed_mps, desired_mps, p)
    wished = p.min_gap_m + p.headway_s * speed_mps
    top = p.max_accel_mps2
    per_s = 2.0 * top * wished / s**2
    approach = speed_mps / (2.0 * math.sqrt(top * p.comfortable_brake_mps2))
    f_s = per_s * wished / s
    f_l = per_s * approach
    free = top * p.exponent * speed_mps ** (p.exponent - 1.0) / desired_mps**p.exponent
    f_v = -free - per_s * (p.headway_s + approach) - p.nose_s * f_s
    return np.asarray(f_v**2 - f_l**2 - 2.0 * f_s)
