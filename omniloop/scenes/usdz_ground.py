"""``mesh_ground.ply`` of a USDZ archive: a mesh as a raster of heights, and back.

A scene's ground is a raster. A mesh is sampled at the raster's cells; where several sheets lie
above each other (a bridge, noise) the one nearest to ego's recorded height at its nearest
recorded place counts.
"""

from __future__ import annotations

import numpy as np

from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Trajectory
from omniloop.core.scene import HeightRaster
from omniloop.scenes.height_raster import raster_mesh
from omniloop.scenes.mesh import build_mesh
from omniloop.scenes.ply import parse_ply, ply_bytes

CELL_M = 0.5
"""Side of a raster's cells, at least."""

AROUND_EGO_M = 100.0
"""A raster reaches so far beyond ego's path, where the mesh does."""

RIBBON_HALF_WIDTH_M = 50.0
"""Where a scene has no heights, its mesh reaches at least so far to both sides of ego's path
and beyond its ends, as that of NVIDIA's converter (contracts.md 2.6)."""

_MOST_CELLS = 2_000_000
_MOST_VERTICES = 500_000
_BLOCK_ROWS = 64
_PATH_STEP_M = 2.0


def read_ground(data: bytes, ego: Trajectory, where: str) -> HeightRaster | None:
    """Sample a mesh around ego's path; None if it does not reach there.

    Args:
        data: The PLY file, vertices in `local`.

    Raises:
        SceneError: it holds no mesh that can be used.
    """
    from scipy.spatial import cKDTree

    vertices, triangles = parse_ply(data, where)
    try:
        mesh = build_mesh(vertices, triangles)
    except SceneError as error:
        raise SceneError(error.what, where=where, remedy=error.remedy) from error
    path = ego.poses[:, :3]
    low, high = mesh.bounds_m
    low = np.maximum(low[:2], path[:, :2].min(axis=0) - AROUND_EGO_M)
    high = np.minimum(high[:2], path[:, :2].max(axis=0) + AROUND_EGO_M)
    if (high <= low).any():
        return None
    cell = max(CELL_M, float(np.sqrt(np.prod(high - low) / _MOST_CELLS)))
    first = np.ceil(low / cell).astype(np.int64)
    columns, rows = (np.floor(high / cell).astype(np.int64) - first + 1).tolist()
    if columns < 1 or rows < 1:
        return None
    near = cKDTree(path[:, :2])
    x = (first[0] + np.arange(columns)) * cell
    heights = np.full((rows, columns), np.nan)
    for start in range(0, rows, _BLOCK_ROWS):
        y = (first[1] + np.arange(start, min(start + _BLOCK_ROWS, rows))) * cell
        at = np.stack(np.meshgrid(x, y), axis=-1)
        sheets = mesh.heights(at[..., 0] - mesh.origin_m[0], at[..., 1] - mesh.origin_m[1])
        sheets = sheets + mesh.origin_m[2]
        wanted = path[near.query(at.reshape(-1, 2))[1], 2].reshape(at.shape[:-1])
        gaps = np.abs(sheets - wanted[..., None])
        best = np.argmin(np.where(np.isnan(gaps), np.inf, gaps), axis=-1)
        heights[start : start + len(y)] = np.take_along_axis(sheets, best[..., None], -1)[..., 0]
    if not np.isfinite(heights).any():
        return None
    to_cell = np.array([[1 / cell, 0.0, -float(first[0])], [0.0, 1 / cell, -float(first[1])]])
    return HeightRaster(heights, to_cell)


def ground_mesh(ground: HeightRaster | None, ego: Trajectory) -> bytes:
    """The heights of a scene as a PLY file of float vertices; a ribbon where it has none."""
    if ground is not None:
        vertices, triangles = raster_mesh(ground)
        if len(triangles):
            return ply_bytes(vertices, triangles, "float")
    return ply_bytes(*ribbon(ego), "float")


def ribbon(ego: Trajectory) -> tuple[Array, np.ndarray]:
    """A mesh of ego's heights along its path: vertices ``(V, 3)`` and triangles ``(T, 3)``.

    It is a grid around the path, each vertex as high as the recorded place nearest to it. A
    strip that follows the path would fold over itself inside of bends.
    """
    from scipy.spatial import cKDTree

    path = ego.poses[:, :3]
    size = np.ptp(path[:, :2], axis=0) + 2 * RIBBON_HALF_WIDTH_M
    step = max(_PATH_STEP_M, float(np.sqrt(np.prod(size) / _MOST_VERTICES)))
    reach = RIBBON_HALF_WIDTH_M + 2 * step  # triangles need all their vertices
    low = path[:, :2].min(axis=0) - reach
    columns, rows = (np.ceil((size + 4 * step) / step).astype(np.int64) + 1).tolist()
    x, y = low[0] + step * np.arange(columns), low[1] + step * np.arange(rows)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    away_m, nearest = cKDTree(path[:, :2]).query(grid)
    heights = np.where(away_m <= reach, path[nearest, 2], np.nan).reshape(rows, columns)
    to_cell = np.array([[1.0, 0.0, -low[0]], [0.0, 1.0, -low[1]]]) / step
    return raster_mesh(HeightRaster(heights, to_cell))
