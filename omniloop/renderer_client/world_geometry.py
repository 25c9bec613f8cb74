"""A scene's map as arrays that are ready to draw, made once per scene."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.scene import Area, VectorMap
from omniloop.renderer_client import palette
from omniloop.renderer_client.palette import Layer, Rgb, Stroke

PIECE_POINTS = 5
"""Points of a piece of line; its four segments share one width."""

MAX_SEGMENT_M = 4.0
MIN_DASH_M = 0.05


@dataclass(frozen=True, eq=False)
class Cuboids:
    """Boxes to draw.

    Attributes:
        centers: ``(N, 3)`` in `local`.
        rotations: ``(N, 3, 3)`` from the box's axes to `local`.
        halves_m: ``(N, 3)`` half lengths along the box's x, y, z.
        front_rgb, back_rgb: ``(N, 3)`` colours at the +x and -x faces.
        wireframe: ``(N,)`` whether edges are drawn.
    """

    centers: Array
    rotations: Array
    halves_m: Array
    front_rgb: Array
    back_rgb: Array
    wireframe: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.centers)

    @classmethod
    def of_one_colour(cls, poses: Array, sizes_m: Array, rgb: Rgb) -> Cuboids:
        """Plain boxes without edges from poses ``(N, 7)`` and sizes ``(N, 3)``."""
        rgbs = np.broadcast_to(np.array(rgb, dtype=np.float64), (len(poses), 3))
        return cls(
            poses[:, :3], geometry.matrix_from_pose(poses)[:, :3, :3], sizes_m / 2,
            rgbs, rgbs, np.zeros(len(poses), dtype=bool),
        )  # fmt: skip

    def take(self, index: NDArray[np.intp]) -> Cuboids:
        """Boxes by number, repeated if asked for repeatedly."""
        return Cuboids(
            self.centers[index], self.rotations[index], self.halves_m[index],
            self.front_rgb[index], self.back_rgb[index], self.wireframe[index],
        )  # fmt: skip

    @classmethod
    def join(cls, parts: Iterable[Cuboids]) -> Cuboids:
        """Concatenate boxes in order."""
        rows = [
            (p.centers, p.rotations, p.halves_m, p.front_rgb, p.back_rgb, p.wireframe)
            for p in parts
        ]
        return cls(*(np.concatenate(columns) for columns in zip(*rows, strict=True)))


NO_CUBOIDS = Cuboids(
    np.zeros((0, 3)), np.zeros((0, 3, 3)), np.zeros((0, 3)),
    np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, dtype=bool),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class WorldGeometry:
    """A map in `local`, ready to draw.

    Attributes:
        line_points: ``(3, M, PIECE_POINTS)`` pieces of line; the last point of a short
            piece repeats.
        line_layer: ``(M,)`` values of `Layer`, ascending.
        line_centers, line_radii: ``(3, M)`` and ``(M,)`` bounding spheres of the pieces.
        fill_points: ``(3, P)`` vertices of all polygons, one polygon after another.
        fill_bounds: ``(Q + 1,)`` polygon q has vertices ``fill_bounds[q]`` to
            ``fill_bounds[q + 1]``.
        fill_layer: ``(Q,)`` values of `Layer`, ascending.
        fill_centers, fill_radii: ``(3, Q)`` and ``(Q,)`` bounding spheres of the polygons.
        cuboids: Traffic lights and signs.
    """

    line_points: Array
    line_layer: NDArray[np.int64]
    line_centers: Array
    line_radii: Array
    fill_points: Array
    fill_bounds: NDArray[np.int64]
    fill_layer: NDArray[np.int64]
    fill_centers: Array
    fill_radii: Array
    cuboids: Cuboids


def build_geometry(vector_map: VectorMap) -> WorldGeometry:
    """Cut the lines of a map into pieces and dashes, and its areas into rings.

    Road boundaries are the map's own; a map that has none is bounded by the outlines of
    its drivable areas.
    """
    lines: list[tuple[Layer, Array]] = []
    for line in vector_map.lane_lines:
        layer = palette.lane_line_layer(line.color)
        for stroke in palette.STYLE_STROKES[line.style]:
            lines += [
                (layer, part)
                for part in cut_dashes(offset_left(line.points, stroke.offset_m), stroke)
            ]
    lines += [(Layer.WAIT_LINE, line.points) for line in vector_map.stop_lines]
    boundaries = [line.points for line in vector_map.road_boundaries]
    if not boundaries:
        rings = [ring for area in vector_map.drivable_areas for ring in (area.outline, *area.holes)]
        boundaries = [np.concatenate([ring, ring[:1]]) for ring in rings if len(ring) > 1]
    lines += [(Layer.ROAD_BOUNDARY, points) for points in boundaries]
    lines.sort(key=lambda item: item[0])

    pieces = [(layer, _pieces(points)) for layer, points in lines if len(points) > 1]
    stacked = np.concatenate([np.zeros((0, PIECE_POINTS, 3)), *(piece for _, piece in pieces)])
    low, high = stacked.min(axis=1, initial=np.inf), stacked.max(axis=1, initial=-np.inf)
    rings = [_ring(area) for area in vector_map.crosswalks if len(area.outline) > 2]
    bounds = np.concatenate([[0], np.cumsum([len(ring) for ring in rings])]).astype(np.int64)
    ring_centers = np.array([(r.min(axis=0) + r.max(axis=0)) / 2 for r in rings]).reshape(-1, 3)
    centers = (low + high) / 2
    return WorldGeometry(
        line_points=np.ascontiguousarray(stacked.transpose(2, 0, 1)),
        line_layer=np.repeat(
            np.array([layer for layer, _ in pieces], dtype=np.int64), [len(piece) for _, piece in pieces]
        ),
        line_centers=np.ascontiguousarray(centers.T),
        line_radii=np.linalg.norm(stacked - centers[:, None], axis=2).max(axis=1, initial=0.0),
        fill_points=np.ascontiguousarray(np.concatenate([np.zeros((0, 3)), *rings]).T),
        fill_bounds=bounds,
        fill_layer=np.full(len(rings), Layer.CROSSWALK, dtype=np.int64),
        fill_centers=np.ascontiguousarray(ring_centers.T),
        fill_radii=np.array(
            [np.linalg.norm(r - c, axis=1).max() for r, c in zip(rings, ring_centers, strict=True)]
        ),
        cuboids=_fixtures(vector_map),
    )  # fmt: skip


def _fixtures(vector_map: VectorMap) -> Cuboids:
    parts = [NO_CUBOIDS]
    if vector_map.lights:
        poses = np.array([light.local_to_light for light in vector_map.lights])
        sizes = np.array([light.size_m for light in vector_map.lights])
        parts.append(Cuboids.of_one_colour(poses, sizes, palette.TRAFFIC_LIGHT_RGB))
    if vector_map.signs:
        poses = np.array([sign.local_to_sign for sign in vector_map.signs])
        sizes = np.array([sign.size_m for sign in vector_map.signs])
        parts.append(Cuboids.of_one_colour(poses, sizes, palette.TRAFFIC_SIGN_RGB))
    return Cuboids.join(parts)


def offset_left(points: Array, offset_m: float) -> Array:
    """Shift a polyline ``(N, 3)`` to the left of its direction in the xy plane."""
    if offset_m == 0.0 or len(points) < 2:
        return points
    xy = points[:, :2]
    tangent = np.concatenate([xy[1:2] - xy[:1], xy[2:] - xy[:-2], xy[-1:] - xy[-2:-1]])
    length = np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    out = np.array(points, dtype=np.float64)
    out[:, :2] += offset_m * np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) / length
    return out


def cut_dashes(points: Array, stroke: Stroke) -> list[Array]:
    """Cut a polyline ``(N, 3)`` into its dashes, measured along it from its start.

    A line shorter than half a dash stays whole, as in the world-scenario renderer.
    """
    if stroke.dash_m == 0.0 or len(points) < 2:
        return [points]
    arc = _arc_length_m(points)
    if arc[-1] < stroke.dash_m / 2:
        return [points]
    starts = np.arange(0.0, arc[-1] - MIN_DASH_M, stroke.dash_m + stroke.gap_m)
    ends = np.minimum(starts + stroke.dash_m, arc[-1])
    return [
        _between(points, arc, a, b) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def _arc_length_m(points: Array) -> Array:
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])


def _at(points: Array, arc: Array, s_m: Array) -> Array:
    return np.stack([np.interp(s_m, arc, points[:, i]) for i in range(3)], axis=1)


def _between(points: Array, arc: Array, start_m: float, end_m: float) -> Array:
    inner = arc[(arc > start_m) & (arc < end_m)]
    return _at(points, arc, np.concatenate([[start_m], inner, [end_m]]))


def _densify(points: Array, step_m: float) -> Array:
    """Insert points so that no segment is longer than `step_m`; vertices stay."""
    arc = _arc_length_m(points)
    counts = np.maximum(np.ceil(np.diff(arc) / step_m - 1e-9), 1).astype(np.int64)
    index = np.repeat(np.arange(len(counts)), counts)
    nth = np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
    frac = (nth / counts[index])[:, None]
    return np.concatenate([points[index] * (1 - frac) + points[index + 1] * frac, points[-1:]])


def _pieces(points: Array) -> Array:
    dense = _densify(np.asarray(points, dtype=np.float64), MAX_SEGMENT_M)
    per_piece = PIECE_POINTS - 1
    first = np.arange(0, len(dense) - 1, per_piece)
    return np.asarray(dense[np.minimum(first[:, None] + np.arange(PIECE_POINTS), len(dense) - 1)])


def _ring(area: Area) -> Array:
    """One ring per area; holes hang on it by doubled edges, which even-odd filling ignores."""
    parts = [area.outline]
    for hole in area.holes:
        parts += [area.outline[:1], hole, hole[:1]]
    ring = np.concatenate(parts).astype(np.float64)
    return _densify(np.concatenate([ring, ring[:1]]), MAX_SEGMENT_M)[:-1]
