"""Heights of a scene's raster, and the raster as a triangle mesh."""

from __future__ import annotations

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.scene import HeightRaster


def sample_heights(raster: HeightRaster, x_m: Array, y_m: Array) -> Array:
    """Bilinear heights at positions of any shape; NaN where unknown or outside.

    A cell that is unknown spoils only positions that it has a part in.
    """
    affine, cells = raster.local_xy_to_cell, raster.heights_m
    column = affine[0, 0] * x_m + affine[0, 1] * y_m + affine[0, 2]
    row = affine[1, 0] * x_m + affine[1, 1] * y_m + affine[1, 2]
    last_row, last_column = cells.shape[0] - 1, cells.shape[1] - 1
    inside = (column >= 0) & (column <= last_column) & (row >= 0) & (row <= last_row)
    if not inside.all():
        column, row = np.where(inside, column, 0.0), np.where(inside, row, 0.0)
    c0, r0 = column.astype(np.int64), row.astype(np.int64)
    fc, fr = column - c0, row - r0
    c1, r1 = np.minimum(c0 + 1, last_column), np.minimum(r0 + 1, last_row)
    low = _blend(cells[r0, c0], cells[r0, c1], fc)
    out = _blend(low, _blend(cells[r1, c0], cells[r1, c1], fc), fr)
    return out if inside.all() else np.where(inside, out, np.nan)


def _blend(a: Array, b: Array, part: Array) -> Array:
    """``a + part (b - a)``, and `a` itself at 0 whatever `b` is."""
    return np.asarray(np.where(part == 0, a, a + part * (b - a)))


def raster_mesh(raster: HeightRaster) -> tuple[Array, np.ndarray]:
    """A raster as triangles: two between every four known cells that are neighbours.

    Between cell centres its heights differ from the bilinear ones by at most a quarter of
    the cells' twist, ``|h00 + h11 - h01 - h10|``.

    Returns:
        Vertices ``(V, 3)`` in `local`, one per cell that a triangle needs, and triangles
        ``(T, 3)`` of indices of vertices.
    """
    columns = raster.heights_m.shape[1]
    known = np.isfinite(raster.heights_m)
    whole = known[:-1, :-1] & known[:-1, 1:] & known[1:, :-1] & known[1:, 1:]
    first = np.flatnonzero(np.pad(whole, ((0, 1), (0, 1))))
    corners = first[:, None] + [0, 1, columns + 1, columns]
    cells, triangles = np.unique(corners[:, [0, 1, 2, 0, 2, 3]], return_inverse=True)
    to_cell = raster.local_xy_to_cell
    at = np.stack([cells % columns, cells // columns]) - to_cell[:, 2:]
    xy = np.linalg.solve(to_cell[:, :2], at)
    return np.column_stack([*xy, raster.heights_m.ravel()[cells]]), triangles.reshape(-1, 3)
