"""Vehicle shapes as AlpaSim scores them: shrunk boxes with round corners.

A shape is a rectangle, smaller by the radius on every side, grown by a disc of that
radius. So the distance of two shapes is that of their inner rectangles less both radii,
exactly; AlpaSim's own arcs are 64-gons, at most 0.7 mm off for a car.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.metrics import boxes
from omniloop.metrics.alpasim_settings import Settings
from omniloop.metrics.boxes import Rectangles

Shapes = NDArray[np.object_]

_ARC_SEGMENTS = 16
"""Segments per quarter circle: shapely's default, which AlpaSim uses."""


@dataclass(frozen=True, eq=False)
class RoundedSizes:
    """Sizes of shapes.

    Attributes:
        half_m: ``(N, 2)`` half length and half width, shrunk.
        radius_m: ``(N,)`` of the corners.
    """

    half_m: Array
    radius_m: Array

    @property
    def reach_m(self) -> Array:
        """``(N,)`` radius of the smallest circle around a shape."""
        inner = self.half_m - self.radius_m[:, None]
        return np.asarray(np.hypot(inner[:, 0], inner[:, 1]) + self.radius_m)

    @property
    def core_m(self) -> Array:
        """``(N,)`` radius of the greatest circle at the centre of a shape."""
        return np.asarray(self.half_m.min(axis=1))

    def take(self, index: NDArray[np.intp]) -> RoundedSizes:
        """Some of them."""
        return RoundedSizes(self.half_m[index], self.radius_m[index])


def rounded_sizes(sizes_m: Array, settings: Settings) -> RoundedSizes:
    """Shrink and round boxes ``(N, 3)``."""
    half = sizes_m[:, :2] * (1.0 - settings.vehicle_shrink_factor) / 2
    return RoundedSizes(half, settings.vehicle_corner_roundness * half.min(axis=1, initial=np.inf))


def distance_m(
    xy_a: Array, yaw_a: Array, a: RoundedSizes, xy_b: Array, yaw_b: Array, b: RoundedSizes
) -> Array:
    """Distances ``(N,)`` of shapes, pair by pair; 0 or less where they touch or overlap.

    Args:
        xy_a, xy_b: ``(N, 2)`` centres.
        yaw_a, yaw_b: ``(N,)`` headings.
        a, b: Sizes of N shapes each.
    """
    one = Rectangles(xy_a, yaw_a, a.half_m - a.radius_m[:, None])
    other = Rectangles(xy_b, yaw_b, b.half_m - b.radius_m[:, None])
    return np.asarray(boxes.distance_m(one, other) - a.radius_m - b.radius_m)


def touch(
    xy_a: Array, yaw_a: Array, a: RoundedSizes, xy_b: Array, yaw_b: Array, b: RoundedSizes
) -> Mask:
    """``(N,)`` whether `distance_m` is 0 or less, told without measuring what is clearly apart."""
    one = Rectangles(xy_a, yaw_a, a.half_m - a.radius_m[:, None])
    other = Rectangles(xy_b, yaw_b, b.half_m - b.radius_m[:, None])
    # Rectangles are at least as far apart as along any of their normals.
    maybe = np.flatnonzero(boxes.penetration_m(one, other) >= -(a.radius_m + b.radius_m) - 1e-6)
    out = np.zeros(len(xy_a), dtype=bool)
    gap_m = boxes.distance_m(one.take(maybe), other.take(maybe))
    out[maybe] = gap_m - a.radius_m[maybe] - b.radius_m[maybe] <= 0.0
    return out


def outline(half_m: Array, radius_m: float) -> shapely.Geometry:
    """One shape in its own frame: x forward, its centre at the origin."""
    return _outline(float(half_m[0]), float(half_m[1]), radius_m)


@functools.lru_cache(maxsize=1024)
def _outline(length: float, width: float, radius_m: float) -> shapely.Geometry:
    corners = [(length, width), (-length, width), (-length, -width), (length, -width)]
    if radius_m == 0.0:
        return shapely.Polygon(corners)
    corner = np.array([length - radius_m, width - radius_m])
    # The hull of the inner rectangle may be a line or a point.
    inner = shapely.MultiPoint([corner, -corner, corner * (1, -1), corner * (-1, 1)]).convex_hull
    return inner.buffer(radius_m, quad_segs=_ARC_SEGMENTS)


def bumpers(half_m: Array, radius_m: float) -> tuple[shapely.Geometry, shapely.Geometry]:
    """Front and rear bumper of a shape in its own frame.

    The front edge of the shrunk box; with round corners the part of the shape within the
    radius of that edge.
    """
    return _bumpers(float(half_m[0]), float(half_m[1]), radius_m)


@functools.lru_cache(maxsize=64)
def _bumpers(
    length: float, width: float, radius_m: float
) -> tuple[shapely.Geometry, shapely.Geometry]:
    shape = _outline(length, width, radius_m)
    lines = [shapely.LineString([(x, width), (x, -width)]) for x in (length, -length)]
    if radius_m == 0.0:
        return lines[0], lines[1]
    grown = shapely.buffer(lines, radius_m, quad_segs=_ARC_SEGMENTS)
    front, rear = shapely.intersection(grown, shape)
    return front, rear


def placed(shape: shapely.Geometry, xy: Array, yaw_rad: Array) -> Shapes:
    """Copies ``(N,)`` of a shape at centres ``(N, 2)`` with headings ``(N,)``."""
    body = shapely.get_coordinates(shape)
    c, s = np.cos(yaw_rad)[:, None], np.sin(yaw_rad)[:, None]
    coords = np.empty((len(xy), len(body), 2))
    coords[..., 0] = xy[:, :1] + c * body[:, 0] - s * body[:, 1]
    coords[..., 1] = xy[:, 1:2] + s * body[:, 0] + c * body[:, 1]
    if isinstance(shape, shapely.LineString):
        return np.asarray(shapely.linestrings(coords))
    return np.asarray(shapely.polygons(coords))
