"""What a camera can see: projection, coverage and clipping in the camera frame.

A camera is bounded by a cone around its optical axis. The cone is a little wider than the
image, stays where the model is monotonic, and everything outside it is cut away before
projection, so no projected point is undefined, folded back or far from the image.
Points are arrays of three rows, ``(3, ...)``, in the optical frame.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omniloop.core.cameras import CameraModel
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask

MARGIN = 0.1
"""How far beyond the image the cone reaches, as a part of the image's larger side."""

NEAR_M = 0.01
"""Filled shapes are cut at this depth."""

_MIN_RANGE_M = 1e-6


@dataclass(frozen=True, eq=False)
class View:
    """A camera with the cone that bounds what is drawn.

    Attributes:
        model: The camera at the size of the image.
        clip_rad: Half opening angle of the cone.
        principal_px: ``(2,)`` image of the optical axis.
        spread: How far outwards points beyond the cone are moved when filling: past
            the image where the cone covers it, else not at all.
    """

    model: CameraModel
    clip_rad: float
    principal_px: Array
    spread: float

    @functools.cached_property
    def cos_clip(self) -> float:
        """Cosine of the cone's half angle."""
        return float(np.cos(self.clip_rad))

    @functools.cached_property
    def sin_clip(self) -> float:
        """Sine of the cone's half angle."""
        return float(np.sin(self.clip_rad))

    def depth_m(self, points: Array) -> Array:
        """Depth that widths and the far limit go by.

        It is z where the camera sees less than a half-space, else the range (as in the
        world-scenario renderer).
        """
        return points[2] if self.clip_rad < np.pi / 2 else length_m(points)

    def covers(self, points: Array) -> Mask:
        """Whether points ``(3, ...)`` lie in the cone."""
        length = length_m(points)
        inside: Mask = (points[2] >= self.cos_clip * length) & (length > _MIN_RANGE_M)
        return inside

    def covers_convexly(self, points: Array) -> Mask:
        """Whether points lie in a part of the cone that holds all lines between them.

        That is the cone, or its part before the camera where the cone is wider than a
        half-space and has no line across the back.
        """
        inside = self.covers(points)
        return inside if self.clip_rad < np.pi / 2 else inside & (points[2] >= 0)

    def sees_spheres(self, centers: Array, radii: Array) -> Mask:
        """Whether spheres with centres ``(3, ..., N)`` may reach into the cone."""
        planar = np.sqrt(centers[0] * centers[0] + centers[1] * centers[1])
        outside_by = planar * self.cos_clip - centers[2] * self.sin_clip
        seen: Mask = outside_by <= radii
        return seen

    def project(self, points: Array) -> Array:
        """Pixels ``(..., 2)`` of points ``(3, ...)`` in the cone."""
        return self.model.project(points.transpose((*range(1, points.ndim), 0)))[0]

    def project_clamped(self, points: Array) -> Array:
        """Pixels ``(..., 2)`` of points before the camera, for the outlines of filled shapes.

        A point outside the cone goes to the cone's rim, in its own direction from the
        axis. So an outline that leaves the image closes beyond its border.
        """
        inside = self.covers(points)
        planar = np.maximum(np.sqrt(points[0] * points[0] + points[1] * points[1]), 1e-12)
        rim = np.empty(points.shape)
        rim[:2] = points[:2] * (self.sin_clip / planar)
        rim[2] = self.cos_clip
        pixels = self.project(np.where(inside, points, rim))
        moved = self.principal_px + self.spread * (pixels - self.principal_px)
        return np.where(inside[..., None], pixels, moved)

    def on_image(self, pixels: Array, border_px: float) -> Mask:
        """Whether the bounding boxes of polylines ``(N, K, 2)`` meet the image."""
        low, high = extents(pixels)
        meets: Mask = (
            (high[:, 0] > -border_px) & (low[:, 0] < self.model.width + border_px)
            & (high[:, 1] > -border_px) & (low[:, 1] < self.model.height + border_px)
        )  # fmt: skip
        return meets

    def clip_segments(self, start: Array, end: Array) -> tuple[Array, Array, NDArray[np.intp]]:
        """Cut segments to the cone, exactly.

        Args:
            start, end: ``(3, N)``.

        Returns:
            ``(start, end, index)`` of the parts inside: ``(3, K)``, ``(3, K)`` and
            ``(K,)``, which segment each is of. A segment may leave two parts in a camera
            that sees more than a half-space.
        """
        step = end - start
        c2 = self.cos_clip**2
        a = step[2] ** 2 - c2 * dot(step, step)
        b = start[2] * step[2] - c2 * dot(start, step)
        c = start[2] ** 2 - c2 * dot(start, start)
        root = np.sqrt(np.maximum(b * b - a * c, 0.0))
        # The stable pair of roots of a t^2 + 2 b t + c: q / a and c / q.
        q = -(b + np.copysign(root, b))
        with np.errstate(divide="ignore", invalid="ignore"):
            cuts = np.stack([q / a, c / q])
        cuts = np.sort(np.clip(np.where(np.isfinite(cuts), cuts, 0.0), 0.0, 1.0), axis=0)
        edges = np.concatenate([np.zeros((1, len(c))), cuts, np.ones((1, len(c)))])
        middle = (edges[:-1] + edges[1:]) / 2
        inside = self.covers(start[:, None] + step[:, None] * middle) & (edges[1:] > edges[:-1])
        part, index = np.nonzero(inside)
        t0, t1 = edges[part, index], edges[part + 1, index]
        return start[:, index] + step[:, index] * t0, start[:, index] + step[:, index] * t1, index


def by_point(values: NDArray[Any]) -> NDArray[Any]:
    """A contiguous copy with the second axis first: numpy reduces it many times faster."""
    return np.ascontiguousarray(values.swapaxes(0, 1))


def extents(pixels: Array) -> tuple[Array, Array]:
    """Lowest and highest coordinates, ``(N, 2)`` each, of polylines ``(N, K, 2)``."""
    points = by_point(pixels)
    return points.min(axis=0), points.max(axis=0)


def dot(a: Array, b: Array) -> Array:
    """Scalar products of vectors ``(3, ...)``."""
    return np.asarray(a[0] * b[0] + a[1] * b[1] + a[2] * b[2])


def length_m(points: Array) -> Array:
    """Lengths of vectors ``(3, ...)``."""
    return np.asarray(np.sqrt(dot(points, points)))


def view_of(model: CameraModel) -> View:
    """The view of a camera model, found once per model object."""
    key: Any = model
    return _find_view(key)


@functools.lru_cache(maxsize=256)
def _find_view(model: CameraModel) -> View:
    """Find the cone of a camera model by sampling rays.

    The cone ends where the first of these is reached: the model's own largest angle, the
    angle at which a distortion polynomial folds back, the image with a margin around it.
    """
    angles = np.linspace(0.0, min(model.max_angle_rad, 3.1) * 0.9999, 512)
    azimuths = np.linspace(0.0, 2 * np.pi, 96, endpoint=False)
    ring = np.sin(angles)[:, None]
    rays = np.stack(np.broadcast_arrays(
        ring * np.cos(azimuths), ring * np.sin(azimuths), np.cos(angles)[:, None]
    ), axis=-1)  # fmt: skip
    pixels, covered = model.project(rays)
    principal = pixels[0, 0]
    radius = np.linalg.norm(pixels - principal, axis=-1)
    grows = np.concatenate([np.full((1, len(azimuths)), True), np.diff(radius, axis=0) > 0])
    usable: Mask = np.logical_and.accumulate((grows & covered).all(axis=1))
    margin = MARGIN * max(model.width, model.height)
    in_use = np.flatnonzero(usable & _any_on_image(pixels, model, margin))
    last = int(in_use[-1]) if len(in_use) else 1
    beyond = min(last + 1, len(angles) - 1)
    end = beyond if usable[beyond] else last
    reaches_past = not _any_on_image(pixels[end : end + 1], model, 0.0)[0]
    return View(model, float(angles[end]), principal, 2.0 if reaches_past else 1.0)


def _any_on_image(pixels: Array, model: CameraModel, margin_px: float) -> Mask:
    """Whether any of the pixels ``(N, K, 2)`` of each row lies on the image or its margin."""
    u, v = pixels[..., 0], pixels[..., 1]
    inside = (u > -margin_px) & (u < model.width + margin_px)
    inside &= (v > -margin_px) & (v < model.height + margin_px)
    return np.asarray(inside.any(axis=1))
