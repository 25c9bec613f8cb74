"""Maps whose heights are not to be trusted, put on the ground.

AlpaSim sets the heights of maps in a scene's ``fastmap/`` folder to those of its ground
mesh (alpasim.md 6.1).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.scene import HeightRaster, VectorMap
from omniloop.scenes.map_points import with_points


def on_ground(vector_map: VectorMap, ground: HeightRaster) -> VectorMap:
    """Return a map with the heights of a ground, bilinear between the centres of its cells.

    Points where the ground is unknown keep their heights, and so do lights, signs and poles,
    which stand on it.
    """
    lowered = with_points(vector_map, lambda points: _with_heights(points, ground))
    pairs = zip(vector_map.features, lowered.features, strict=True)
    return replace(lowered, features=tuple(a if a.kind == "pole" else b for a, b in pairs))


def _with_heights(points: Array, ground: HeightRaster) -> Array:
    out = np.array(points, dtype=np.float64)
    affine, heights = ground.local_xy_to_cell, ground.heights_m
    if heights.size == 0:
        return out
    cell = out[:, :2] @ affine[:, :2].T + affine[:, 2]
    rows, columns = heights.shape
    low = np.floor(cell).astype(np.int64)
    z, weight = np.zeros(len(out)), np.zeros(len(out))
    for column_step in (0, 1):
        for row_step in (0, 1):
            column, row = low[:, 0] + column_step, low[:, 1] + row_step
            inside = (column >= 0) & (row >= 0) & (column < columns) & (row < rows)
            found = heights[np.where(inside, row, 0), np.where(inside, column, 0)]
            inside &= np.isfinite(found)
            part = (1 - np.abs(cell[:, 0] - column)) * (1 - np.abs(cell[:, 1] - row))
            z += np.where(inside, part * found, 0.0)
            weight += np.where(inside, part, 0.0)
    known = weight > 0.25
    out[known, 2] = z[known] / weight[known]
    return out
