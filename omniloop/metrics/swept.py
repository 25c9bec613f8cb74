"""When two boxes that keep their velocities and headings overlap: exact, many pairs at once."""

from __future__ import annotations

import numpy as np

from omniloop.core.geometry import Array
from omniloop.metrics.boxes import TOUCH_M, Rectangles


def overlap_times_s(a: Rectangles, b: Rectangles, relative_mps: Array) -> tuple[Array, Array]:
    """From when to when moving rectangles overlap with positive area, pair by pair.

    Along each of the four edge normals the two extents overlap during one interval of time;
    the rectangles do while all four do (separating axis theorem, as `boxes.penetration_m`).

    Args:
        relative_mps: ``(N, 2)`` velocity of `b` less that of `a`.

    Returns:
        ``(start_s, end_s)``, each ``(N,)``, over all times, negative ones too. Start is
        infinite and end minus infinity for pairs that never overlap.
    """
    cos_a, sin_a = np.cos(a.yaw_rad), np.sin(a.yaw_rad)
    cos_b, sin_b = np.cos(b.yaw_rad), np.sin(b.yaw_rad)
    dx, dy = (b.xy - a.xy).T
    vx, vy = relative_mps.T
    along = np.abs(cos_a * cos_b + sin_a * sin_b)
    across = np.abs(cos_a * sin_b - sin_a * cos_b)
    (la, wa), (lb, wb) = a.half_m.T, b.half_m.T
    start, end = np.full(len(dx), -np.inf), np.full(len(dx), np.inf)
    for nx, ny, reach in (
        (cos_a, sin_a, la + lb * along + wb * across),
        (-sin_a, cos_a, wa + lb * across + wb * along),
        (cos_b, sin_b, lb + la * along + wa * across),
        (-sin_b, cos_b, wb + la * across + wa * along),
    ):
        away, speed, room = dx * nx + dy * ny, vx * nx + vy * ny, reach - TOUCH_M
        moves = np.abs(speed) > 1e-9
        safe = np.where(moves, speed, 1.0)
        one, other = (-room - away) / safe, (room - away) / safe
        always = np.abs(away) < room
        first = np.where(moves, np.minimum(one, other), np.where(always, -np.inf, np.inf))
        last = np.where(moves, np.maximum(one, other), np.where(always, np.inf, -np.inf))
        np.maximum(start, first, out=start)
        np.minimum(end, last, out=end)
    never = start > end
    start[never], end[never] = np.inf, -np.inf
    return start, end


def first_step_s(start_s: Array, end_s: Array, step_s: float, steps: int) -> Array:
    """The first of ``step, 2 step, ..., steps x step`` in each interval ``(N,)``; else inf.

    Args:
        start_s, end_s: ``(N,)`` ends of the intervals, as of `overlap_times_s`.
    """
    number = np.maximum(np.ceil(start_s / step_s - 1e-9), 1.0)
    found = (number <= steps) & (number * step_s <= end_s + 1e-9)
    return np.asarray(np.where(found, number * step_s, np.inf))
