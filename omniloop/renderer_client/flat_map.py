"""Commands that draw lines and filled areas of the map as one camera sees them.

All frames of a request are prepared together; every quantity is computed element by
element, so a frame's commands do not depend on which others it is prepared with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from omniloop.core.geometry import Array
from omniloop.renderer_client import palette
from omniloop.renderer_client.paint import Command, Fill, Lines, Pixels, subpixels, thickness_for
from omniloop.renderer_client.palette import LAYER_RGB, Layer
from omniloop.renderer_client.view import NEAR_M, View, by_point, length_m
from omniloop.renderer_client.world_geometry import WorldGeometry

Index = NDArray[np.int64]

STRAIGHT_PX = 0.25
"""Points this close to a chord are left out."""

REFINE = 8
"""Parts of a segment where the camera bends straight lines."""

_REFINE_ABOVE_PX = 4.0
_EDGE_PER_RANGE = 0.15
_MIN_EDGE_M = 0.05
_MAX_EDGE_PARTS = 16
_KEY = 4096


def to_camera(local_to_camera: Array, points: Array) -> Array:
    """Map points from `local` to the optical frame.

    Args:
        local_to_camera: ``(..., 4, 4)`` matrices of camera poses.
        points: ``(3, ...)``; the two shapes broadcast.
    """
    # Written out: a BLAS product may round differently from one machine to the next.
    m = local_to_camera
    x, y, z = points[0] - m[..., 0, 3], points[1] - m[..., 1, 3], points[2] - m[..., 2, 3]
    out = np.empty((3, *x.shape))
    for i in range(3):
        out[i] = m[..., 0, i] * x + m[..., 1, i] * y + m[..., 2, i] * z
    return out


# ---------------------------------------------------------------------------- lines


def line_commands(
    world: WorldGeometry, view: View, local_to_camera: Array, depth_max_m: float
) -> list[list[Command]]:
    """Commands for lane lines, stop lines and road boundaries, for each frame.

    Args:
        local_to_camera: ``(F, 4, 4)`` matrices of camera poses.
    """
    centers = to_camera(local_to_camera[:, None], world.line_centers)
    near = view.sees_spheres(centers, world.line_radii)
    near &= view.depth_m(centers) - world.line_radii < depth_max_m
    frame, picked = np.nonzero(near)
    points = to_camera(local_to_camera[frame, None], world.line_points[:, picked])
    tag = frame * len(Layer) + world.line_layer[picked]
    whole = by_point(view.covers_convexly(points)).all(axis=0)

    batch = _LineBatch(view, depth_max_m)
    batch.add_pieces(points[:, whole], tag[whole])
    cut = points[:, ~whole]
    parts = cut.shape[2] - 1
    batch.add_clipped(
        cut[:, :, :-1].reshape(3, -1), cut[:, :, 1:].reshape(3, -1), np.repeat(tag[~whole], parts)
    )
    return batch.commands(len(local_to_camera))


class _LineBatch:
    """Collects polylines by tag (frame and layer) and thickness."""

    def __init__(self, view: View, depth_max_m: float) -> None:
        self._view = view
        self._depth_max_m = depth_max_m
        self._width_px = palette.LINE_WIDTH_PX * view.model.width / palette.REFERENCE_WIDTH_PX
        self._depths: list[Array] = []
        self._tags: list[Index] = []
        self._polylines: list[Pixels] = []

    def add_clipped(self, start: Array, end: Array, tag: Index) -> None:
        """Add segments ``(3, N)``, cut to what the camera sees."""
        start, end, index = self._view.clip_segments(start, end)
        if len(index):
            self._add_refined(np.stack([start, end], axis=2), tag[index])

    def _add_refined(self, points: Array, tag: Index) -> None:
        """Add polylines ``(3, N, K)`` with every segment cut into `REFINE` parts."""
        frac = np.arange(REFINE) / REFINE
        start, end = points[:, :, :-1, None], points[:, :, 1:, None]
        inner = (start + (end - start) * frac).reshape(3, points.shape[1], -1)
        fine = np.concatenate([inner, points[:, :, -1:]], axis=2)
        pixels, depth = self._view.project(fine), self._view.depth_m(fine[:, :, fine.shape[2] // 2])
        seen = self._view.on_image(pixels, self._width_px) & (depth < self._depth_max_m)
        self._add(pixels[seen], depth[seen], tag[seen])

    def add_pieces(self, points: Array, tag: Index) -> None:
        """Add pieces ``(3, N, PIECE_POINTS)`` that lie in the cone.

        Points on a straight line are left out; pieces that the camera bends get more.
        """
        pixels, depth = self._view.project(points), self._view.depth_m(points[:, :, 2])
        seen = self._view.on_image(pixels, self._width_px) & (depth < self._depth_max_m)
        pixels, depth, tag = pixels[seen], depth[seen], tag[seen]
        off = _off_chord_px(pixels[:, :1], pixels[:, 1:4], pixels[:, 4:])
        off_half = _off_chord_px(pixels[:, 0:3:2], pixels[:, 1:4:2], pixels[:, 2:5:2])
        bent = off[:, 1] > _REFINE_ABOVE_PX
        two = by_point(off).max(axis=0) < STRAIGHT_PX
        three = ~two & ~bent & (off_half[:, 0] < STRAIGHT_PX) & (off_half[:, 1] < STRAIGHT_PX)
        for chosen, step in ((two, 4), (three, 2), (~(two | three | bent), 1)):
            self._add(pixels[chosen, ::step], depth[chosen], tag[chosen])
        if bent.any():
            self._add_refined(points[:, np.flatnonzero(seen)[bent]], tag[bent])

    def _add(self, pixels: Array, depth_m: Array, tag: Index) -> None:
        self._polylines += list(subpixels(pixels))
        self._depths.append(depth_m)
        self._tags.append(tag)

    def commands(self, frames: int) -> list[list[Command]]:
        """One command for each layer and thickness of each frame.

        Layers come in their order, in each the far, thin lines first.
        """
        out: list[list[Command]] = [[] for _ in range(frames)]
        width = self._width_px * (1 - np.concatenate(self._depths) / self._depth_max_m)
        key = np.concatenate(self._tags) * _KEY + np.minimum(thickness_for(width), _KEY - 1)
        order = np.argsort(key, kind="stable")
        lines = [self._polylines[i] for i in order.tolist()]
        key = key[order]
        starts = np.flatnonzero(np.diff(key, prepend=-1)).tolist()
        for a, b in zip(starts, [*starts[1:], len(lines)], strict=False):
            tag, thickness = divmod(int(key[a]), _KEY)
            frame, layer = divmod(tag, len(Layer))
            out[frame].append(Lines(lines[a:b], LAYER_RGB[Layer(layer)], thickness))
        return out


def _off_chord_px(start: Array, point: Array, end: Array) -> Array:
    """Distances ``(N, K)`` of points from the lines through two others, all ``(N, K or 1, 2)``."""
    chord, arm = end - start, point - start
    cross = chord[..., 0] * arm[..., 1] - chord[..., 1] * arm[..., 0]
    length = np.sqrt(chord[..., 0] ** 2 + chord[..., 1] ** 2)
    return np.asarray(np.abs(cross) / np.maximum(length, 1.0))


# ---------------------------------------------------------------------------- areas


def fill_commands(
    world: WorldGeometry, view: View, local_to_camera: Array, depth_max_m: float
) -> list[list[Command]]:
    """Commands for filled areas, for each frame; arguments as in `line_commands`."""
    out: list[list[Command]] = [[] for _ in local_to_camera]
    centers = to_camera(local_to_camera[:, None], world.fill_centers)
    near = view.sees_spheres(centers, world.fill_radii)
    near &= view.depth_m(centers) < depth_max_m
    frame, picked = np.nonzero(near)
    if not len(picked):
        return out
    first, counts = world.fill_bounds[picked], np.diff(world.fill_bounds)[picked]
    of_ring = np.repeat(np.arange(len(picked)), counts)
    vertex = np.arange(len(of_ring)) + np.repeat(first - np.cumsum(counts) + counts, counts)
    points = to_camera(local_to_camera[frame[of_ring]], world.fill_points[:, vertex])
    points, of_ring = clip_rings(points, of_ring)
    points, of_ring = _refine_rings(points, of_ring)
    if not len(of_ring):
        return out
    pixels = view.project_clamped(points)
    starts = np.flatnonzero(np.diff(of_ring, prepend=-1))
    low, high = np.minimum.reduceat(pixels, starts), np.maximum.reduceat(pixels, starts)
    seen = (high > 0).all(axis=1) & (low < [view.model.width, view.model.height]).all(axis=1)
    fixed, ends = subpixels(pixels), np.append(starts[1:], len(of_ring))
    for n in np.flatnonzero(seen & (ends - starts > 2)).tolist():
        ring = of_ring[starts[n]]
        rgb = LAYER_RGB[Layer(world.fill_layer[picked[ring]])]
        out[frame[ring]].append(Fill(fixed[starts[n] : ends[n]], rgb))
    return out


def _following(of_ring: Index) -> Index:
    """Index of the vertex that follows each on its ring; rings are runs of equal numbers."""
    follows = np.arange(1, len(of_ring) + 1)
    starts = np.flatnonzero(np.diff(of_ring, prepend=-1))
    follows[np.append(starts[1:], len(of_ring)) - 1] = starts
    return follows


def clip_rings(points: Array, of_ring: Index) -> tuple[Array, Index]:
    """Cut closed polygons to what lies before the camera (Sutherland and Hodgman's algorithm).

    Args:
        points: ``(3, P)`` vertices, ring after ring.
        of_ring: ``(P,)`` number of each vertex's ring, ascending.

    Returns:
        Vertices and their rings; a ring behind the camera has none left.
    """
    if not len(of_ring):
        return points, of_ring
    height = points[2] - NEAR_M
    if (height > 0).all():
        return points, of_ring
    after = _following(of_ring)
    height_after = height[after]
    crosses = (height > 0) != (height_after > 0)
    frac = np.where(crosses, height / np.where(crosses, height - height_after, 1.0), 0.0)
    both = np.stack([points, points + (points[:, after] - points) * frac], axis=2).reshape(3, -1)
    kept = np.stack([height > 0, crosses], axis=1).reshape(-1)
    return both[:, kept], np.repeat(of_ring, 2)[kept]


def _refine_rings(points: Array, of_ring: Index) -> tuple[Array, Index]:
    """Cut edges that look long, so that their images may bend and wrap around the cone."""
    if not len(of_ring):
        return points, of_ring
    after = _following(of_ring)
    edge = points[:, after] - points
    reach = length_m(points)
    step = np.maximum(_EDGE_PER_RANGE * np.minimum(reach, reach[after]), _MIN_EDGE_M)
    parts = np.clip(np.ceil(length_m(edge) / step), 1, _MAX_EDGE_PARTS).astype(np.int64)
    source = np.repeat(np.arange(len(of_ring)), parts)
    nth = np.arange(len(source)) - np.repeat(np.cumsum(parts) - parts, parts)
    return points[:, source] + edge[:, source] * (nth / parts[source]), of_ring[source]
