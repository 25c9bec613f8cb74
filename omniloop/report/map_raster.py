"""The static map as picture patches, drawn where they are looked at.

A patch is a square north-up raster around a point of a coarse grid. Memory is bounded
whatever the size of the map, and the same place gives the same pixels in any order of
visits, because patches depend on the grid alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.scene import Lane, LaneLine, MarkStyle, VectorMap
from omniloop.report.map_features import drawn_features
from omniloop.report.palette import Color, Palette
from omniloop.report.text import Image

GRID_M = 32.0
"""Patches are centred on multiples of this."""

SHIFT = 4
"""Fractional bits of the pixel coordinates given to OpenCV."""

_PATCHES_KEPT = 3
_LANE_WIDTH_M = 3.5
_PAINT_M = 0.15
_DOUBLE_GAP_M = 0.18
_CIRCLE = np.stack([np.cos(np.arange(12) * np.pi / 6), np.sin(np.arange(12) * np.pi / 6)], axis=1)

DASHES_M = {
    MarkStyle.DASHED_SINGLE: (3.0, 9.0),
    MarkStyle.DASHED_GROUP: (3.0, 9.0),
    MarkStyle.LONG_DASHED_SINGLE: (6.0, 6.0),
    MarkStyle.SHORT_DASHED_SINGLE: (1.0, 3.0),
}
"""Paint and gap in metres (MUTCD section 3A.06: 10 ft lines, 30 ft gaps; dotted lines 3 ft, 9 ft)."""


def to_fixed(pixels: Array) -> np.ndarray:
    """Pixels ``(N, 2)`` as OpenCV's fixed-point coordinates."""
    return np.round(pixels * (1 << SHIFT)).astype(np.int32)


def offset_polyline(xy: Array, left_m: float) -> Array:
    """Move a polyline ``(N, 2)`` to its left by `left_m`."""
    along = np.gradient(xy, axis=0)
    length = np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / length
    return np.asarray(xy + left_m * normal)


def _strip(xy: Array, width_m: float) -> Array:
    """Outline ``(2 N, 2)`` of a line with square ends."""
    return np.vstack([offset_polyline(xy, width_m / 2), offset_polyline(xy, -width_m / 2)[::-1]])


def dash_polyline(xy: Array, on_m: float, off_m: float) -> list[Array]:
    """Cut a polyline ``(N, 2)`` into dashes, starting with half a gap."""
    s = geometry.arc_length_m(xy)
    starts = np.arange(off_m / 2, s[-1], on_m + off_m)
    dashes = []
    for start in starts:
        end = min(start + on_m, s[-1])
        inner = s[(s > start) & (s < end)]
        dashes.append(geometry.resample_polyline(xy, np.concatenate([[start], inner, [end]])))
    return dashes


def painted(line: LaneLine) -> list[Array]:
    """Polylines ``(N, 2)`` of paint that make up a lane line."""
    xy = np.asarray(line.points, dtype=np.float64)[:, :2]
    if line.style is MarkStyle.NONE or len(xy) < 2:
        return []
    if line.style is MarkStyle.SOLID_SINGLE:
        return [xy]
    if line.style in (MarkStyle.SOLID_GROUP, MarkStyle.DASHED_GROUP):
        sides = [offset_polyline(xy, _DOUBLE_GAP_M), offset_polyline(xy, -_DOUBLE_GAP_M)]
        if line.style is MarkStyle.SOLID_GROUP:
            return sides
        return [dash for side in sides for dash in dash_polyline(side, *DASHES_M[line.style])]
    if line.style in (MarkStyle.SOLID_DASHED, MarkStyle.DASHED_SOLID):
        solid_left = 1.0 if line.style is MarkStyle.SOLID_DASHED else -1.0
        dashed = offset_polyline(xy, -solid_left * _DOUBLE_GAP_M)
        return [
            offset_polyline(xy, solid_left * _DOUBLE_GAP_M),
            *dash_polyline(dashed, *DASHES_M[MarkStyle.DASHED_SINGLE]),
        ]
    return dash_polyline(xy, *DASHES_M[line.style])


def lane_outline(lane: Lane) -> Array | None:
    """Outline ``(N, 2)`` of a lane, or None if the map knows its centreline alone."""
    if lane.polygon is not None and len(lane.polygon) >= 3:
        return np.asarray(lane.polygon)[:, :2]
    if lane.left is not None and lane.right is not None:
        return np.vstack([lane.left[:, :2], lane.right[::-1, :2]])
    return None


def zebra(outline_xy: Array) -> list[Array]:
    """Bars ``(4, 2)`` of a pedestrian crossing, clipped to its outline by the drawing.

    They repeat along the crossing's longer side and span the shorter one.
    """
    corners = cv2.boxPoints(cv2.minAreaRect(outline_xy.astype(np.float32))).astype(np.float64)
    a, b = corners[1] - corners[0], corners[3] - corners[0]
    if np.linalg.norm(a) < np.linalg.norm(b):
        a, b = b, a
    length = float(np.linalg.norm(a))
    if length < 1.0:
        return []
    count = max(round(length / 1.2), 1)
    origin = corners[0]
    bars = []
    for k in range(count):
        near, far = origin + a * ((k + 0.25) / count), origin + a * ((k + 0.75) / count)
        bars.append(np.array([near, far, far + b, near + b]))
    return bars


@dataclass(frozen=True, eq=False)
class _Layer:
    """Shapes of one look, in drawing order.

    Attributes:
        rings: Per shape one or more ``(N, 2)`` polylines; several make holes.
        boxes: ``(K, 4)`` x and y minimum, x and y maximum.
        width_m: Line width; None for filled shapes.
    """

    rings: Sequence[Sequence[Array]]
    boxes: Array
    color: Color
    width_m: float | None
    clip: Sequence[Array] | None = None


def _layer(
    shapes: Iterable[Sequence[Array]],
    color: Color,
    width_m: float | None = None,
    clip: Sequence[Array] | None = None,
) -> _Layer:
    rings = [shape for shape in shapes if shape and len(shape[0]) >= 2]
    boxes = np.array([[*r[0].min(axis=0), *r[0].max(axis=0)] for r in rings]).reshape(-1, 4)
    return _Layer(rings, boxes, color, width_m, clip)


def _layers(vector_map: VectorMap, palette: Palette) -> list[_Layer]:
    outlines = [lane_outline(lane) for lane in vector_map.lanes]
    surfaces = [[o] for o in outlines if o is not None]
    bare = [
        [lane.centerline[:, :2]]
        for lane, outline in zip(vector_map.lanes, outlines, strict=True)
        if outline is None
    ]
    areas = [[a.outline[:, :2], *(h[:, :2] for h in a.holes)] for a in vector_map.drivable_areas]
    crossings = [np.asarray(c.outline)[:, :2] for c in vector_map.crosswalks if len(c.outline) >= 3]
    layers = [
        _layer(areas, palette.drivable),
        _layer(bare, palette.lane, _LANE_WIDTH_M),
        _layer(surfaces, palette.lane),
        *_feature_layers(vector_map, palette),
    ]
    if not vector_map.lane_lines:
        sides = [s for lane in vector_map.lanes for s in (lane.left, lane.right) if s is not None]
        layers.append(_layer([[s[:, :2]] for s in sides], palette.faint, _PAINT_M))
        if not sides:
            layers.append(_layer(surfaces, palette.faint, _PAINT_M))
    for outline in crossings:
        bars = zebra(outline)
        layers.append(_layer([[bar] for bar in bars], palette.crosswalk, None, clip=[outline]))
    paint: dict[Color, list[list[Array]]] = {}
    for line in vector_map.lane_lines:
        paint.setdefault(palette.line(line.color), []).extend([piece] for piece in painted(line))
    layers += [_layer(pieces, color, _PAINT_M) for color, pieces in paint.items()]
    boundaries = [[b.points[:, :2]] for b in vector_map.road_boundaries]
    layers.append(_layer(boundaries, palette.boundary, 0.25))
    stops = [[_strip(s.points[:, :2], 0.4)] for s in vector_map.stop_lines if len(s.points) >= 2]
    layers.append(_layer(stops, palette.stop_line))
    return [layer for layer in layers if len(layer.rings)]


def _feature_layers(vector_map: VectorMap, palette: Palette) -> Iterator[_Layer]:
    for drawn in drawn_features(vector_map.features):
        look = drawn.look
        shapes = drawn.shapes
        if look.draw == "dots":
            shapes = tuple(xy + look.width_m * _CIRCLE for xy in shapes)
        width_m = look.width_m if look.draw == "line" else None
        yield _layer([[xy] for xy in shapes], getattr(palette, look.color), width_m)


class MapRaster:
    """Draws patches of a vector map and keeps the last few.

    Args:
        vector_map: The map, in the `local` frame.
        palette: Its colours.
        px_per_m: Resolution of the patches.
        half_m: Half the side of a patch.
    """

    def __init__(
        self, vector_map: VectorMap, palette: Palette, px_per_m: float, half_m: float
    ) -> None:
        self._palette = palette
        self._layers = _layers(vector_map, palette)
        self.px_per_m = px_per_m
        self.side_px = int(np.ceil(2 * half_m * px_per_m))
        self._half_m = self.side_px / px_per_m / 2
        self._patches: OrderedDict[tuple[int, int], Image] = OrderedDict()

    def patch_at(self, xy: Array) -> tuple[Image, Array]:
        """The patch around the grid point nearest to `xy` ``(2,)``.

        Returns:
            The picture and ``(2, 3)``, the affine map of ``[x, y, 1]`` to its pixels.
        """
        key = (int(np.round(xy[0] / GRID_M)), int(np.round(xy[1] / GRID_M)))
        image = self._patches.get(key)
        left, top = key[0] * GRID_M - self._half_m, key[1] * GRID_M + self._half_m
        k = self.px_per_m
        # The last half pixel: OpenCV counts from the centres of pixels.
        local_to_px = np.array([[k, 0.0, -k * left - 0.5], [0.0, -k, k * top - 0.5]])
        if image is None:
            image = self._draw(
                local_to_px, (left, top - 2 * self._half_m, left + 2 * self._half_m, top)
            )
            self._patches[key] = image
            if len(self._patches) > _PATCHES_KEPT:
                self._patches.popitem(last=False)
        else:
            self._patches.move_to_end(key)
        return image, local_to_px

    def _draw(self, local_to_px: Array, window: tuple[float, float, float, float]) -> Image:
        image = np.empty((self.side_px, self.side_px, 3), dtype=np.uint8)
        image[:] = self._palette.background
        for layer in self._layers:
            b = layer.boxes
            seen = (b[:, 0] < window[2]) & (b[:, 2] > window[0])
            seen &= (b[:, 1] < window[3]) & (b[:, 3] > window[1])
            chosen = [layer.rings[i] for i in np.flatnonzero(seen).tolist()]
            if not chosen:
                continue
            if layer.clip is None:
                self._paint(image, chosen, layer, local_to_px)
            else:
                self._paint_clipped(image, chosen, layer, local_to_px)
        return image

    def _paint(
        self, image: Image, shapes: list[Sequence[Array]], layer: _Layer, local_to_px: Array
    ) -> None:
        fixed = [
            [to_fixed(ring @ local_to_px[:, :2].T + local_to_px[:, 2]) for ring in s]
            for s in shapes
        ]
        if layer.width_m is not None:
            width = max(round(layer.width_m * self.px_per_m), 1)
            lines = [ring for shape in fixed for ring in shape]
            cv2.polylines(image, lines, False, layer.color, width, cv2.LINE_AA, SHIFT)
            return
        for shape in fixed:
            cv2.fillPoly(image, shape, layer.color, cv2.LINE_AA, SHIFT)
            # An outline closes the hair between neighbours that smoothing leaves.
            cv2.polylines(image, shape, True, layer.color, 1, cv2.LINE_AA, SHIFT)

    def _paint_clipped(
        self, image: Image, shapes: list[Sequence[Array]], layer: _Layer, local_to_px: Array
    ) -> None:
        assert layer.clip is not None
        outline = layer.clip[0] @ local_to_px[:, :2].T + local_to_px[:, 2]
        low = np.maximum(np.floor(outline.min(axis=0)).astype(int) - 2, 0)
        high = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 3, self.side_px)
        if (high <= low).any():
            return
        window = image[low[1] : high[1], low[0] : high[0]]
        painted_over = window.copy()
        shift = np.array([[1.0, 0.0, -low[0]], [0.0, 1.0, -low[1]]])
        moved = np.hstack([local_to_px[:, :2], local_to_px[:, 2:] + shift[:, 2:]])
        self._paint(painted_over, shapes, layer, moved)
        mask = np.zeros(window.shape[:2], dtype=np.uint8)
        cv2.fillPoly(mask, [to_fixed(outline - low)], 255, cv2.LINE_AA, SHIFT)
        share = mask[..., None].astype(np.float32) / 255
        window[:] = np.round(window * (1 - share) + painted_over * share).astype(np.uint8)
