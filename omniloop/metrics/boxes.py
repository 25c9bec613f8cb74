"""Overlap of many pairs of oriented boxes at once.

Footprints are the exact rectangles of the boxes at their heading, not shrunk and not
rounded. Two rectangles are apart if and only if they are apart along an edge normal of
one of them (separating axis theorem: Gottschalk, Lin and Manocha, "OBBTree", SIGGRAPH
1996, section 5; in the plane four axes are left).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omniloop.core import geometry
from omniloop.core.geometry import Array

TOUCH_M = 1e-6
"""Rectangles overlap with positive area when they do so by more than this along every axis.

Rounding in coordinates of 100 km stays under 1e-10 m, so that boxes that merely touch do
so in every frame of reference.
"""

_SIGN_X = np.array([[1.0], [-1.0], [-1.0], [1.0]])
_SIGN_Y = np.array([[1.0], [1.0], [-1.0], [-1.0]])


@dataclass(frozen=True, eq=False)
class Rectangles:
    """Oriented rectangles in the plane.

    Attributes:
        xy: ``(N, 2)`` centres [m].
        yaw_rad: ``(N,)`` headings.
        half_m: ``(N, 2)`` half length and half width; a length of 0 is a line.
    """

    xy: Array
    yaw_rad: Array
    half_m: Array

    def take(self, index: NDArray[np.intp]) -> Rectangles:
        """Some of them."""
        return Rectangles(self.xy[index], self.yaw_rad[index], self.half_m[index])


def footprints(local_to_aabb: Array, sizes_m: Array) -> Rectangles:
    """The footprints of boxes: poses ``(N, 7)`` of their centres, sizes ``(N, 3)``."""
    return Rectangles(local_to_aabb[:, :2], geometry.yaw_rad(local_to_aabb), sizes_m[:, :2] / 2)


def edge_lines(rectangles: Rectangles, end: int) -> Rectangles:
    """The front edges (`end` 1) or the rear edges (-1) of rectangles, as lines."""
    half = rectangles.half_m
    forward = np.stack([np.cos(rectangles.yaw_rad), np.sin(rectangles.yaw_rad)], axis=1)
    line = np.stack([np.zeros(len(half)), half[:, 1]], axis=1)
    return Rectangles(rectangles.xy + end * half[:, :1] * forward, rectangles.yaw_rad, line)


def penetration_m(a: Rectangles, b: Rectangles) -> Array:
    """How deep rectangles `a` and `b` overlap, pair by pair.

    Returns:
        ``(N,)`` the shortest shift [m] along an edge normal that parts them; 0 where they
        touch; negative where they are apart, and then its size is at most their distance.
    """
    cos_a, sin_a = np.cos(a.yaw_rad), np.sin(a.yaw_rad)
    cos_b, sin_b = np.cos(b.yaw_rad), np.sin(b.yaw_rad)
    dx, dy = (b.xy - a.xy).T
    along = np.abs(cos_a * cos_b + sin_a * sin_b)
    across = np.abs(cos_a * sin_b - sin_a * cos_b)
    (la, wa), (lb, wb) = a.half_m.T, b.half_m.T
    depth = la + lb * along + wb * across - np.abs(dx * cos_a + dy * sin_a)
    np.minimum(depth, wa + lb * across + wb * along - np.abs(dy * cos_a - dx * sin_a), out=depth)
    np.minimum(depth, lb + la * along + wa * across - np.abs(dx * cos_b + dy * sin_b), out=depth)
    np.minimum(depth, wb + la * across + wa * along - np.abs(dy * cos_b - dx * sin_b), out=depth)
    return np.asarray(depth)


def distance_m(a: Rectangles, b: Rectangles) -> Array:
    """Distance ``(N,)`` of rectangles `a` and `b`, pair by pair; 0 where they touch or overlap.

    Between two convex polygons that are apart the shortest way begins or ends at a corner.
    """
    out = np.zeros(len(a.xy))
    apart = np.flatnonzero(~(penetration_m(a, b) >= 0))
    a, b = a.take(apart), b.take(apart)
    out[apart] = np.minimum(_corner_distance_m(a, b), _corner_distance_m(b, a))
    return out


def _corner_distance_m(of: Rectangles, to: Rectangles) -> Array:
    """Distance ``(N,)`` from the nearest corner of one rectangle to the other."""
    c, s = np.cos(of.yaw_rad), np.sin(of.yaw_rad)
    lx, ly = of.half_m[:, 0] * _SIGN_X, of.half_m[:, 1] * _SIGN_Y  # (4, N): long rows are quick
    away = of.xy - to.xy
    dx, dy = away[:, 0] + c * lx - s * ly, away[:, 1] + s * lx + c * ly
    c, s = np.cos(to.yaw_rad), np.sin(to.yaw_rad)
    out_x = np.maximum(np.abs(c * dx + s * dy) - to.half_m[:, 0], 0.0)
    out_y = np.maximum(np.abs(c * dy - s * dx) - to.half_m[:, 1], 0.0)
    return np.asarray(np.hypot(out_x, out_y).min(axis=0))


def vertical_gap_m(poses_a: Array, sizes_a: Array, poses_b: Array, sizes_b: Array) -> Array:
    """Free height ``(N,)`` between boxes; negative where their vertical extents overlap.

    The extent is that of the box as it stands, pitch and roll included.
    """
    apart = np.abs(poses_b[:, 2] - poses_a[:, 2])
    return np.asarray(apart - _half_height_m(poses_a, sizes_a) - _half_height_m(poses_b, sizes_b))


def _half_height_m(poses: Array, sizes: Array) -> Array:
    x, y, z, w = (poses[:, i] for i in range(3, 7))
    up = (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y))
    along, across, above = (np.abs(axis) * sizes[:, i] for i, axis in enumerate(up))
    return np.asarray((along + across + above) / 2)
