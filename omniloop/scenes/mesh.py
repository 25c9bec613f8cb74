"""Heights of a triangle mesh: vertical rays against triangles sorted into a grid of cells."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.scenes.ply import read_ply

_ENTRIES_PER_TRIANGLE = 4
"""Cells are so large that a triangle lies in about so many: memory is bounded by it."""

_CELLS_PER_TRIANGLE = 4
_MIN_CELLS = 1 << 16
_BLOCK = 1 << 18
"""Triangles sorted, and candidates of rays tested, at a time."""

_LEAST_COS = 1e-6
"""Triangles steeper than this are walls, which no vertical ray hits."""

MESHES_HELD = 8


@dataclass(frozen=True, eq=False)
class TriangleMesh:
    """Triangles in a uniform grid over the plane.

    Attributes:
        origin_m: ``(3,)`` in the frame of the mesh; all else is relative to it, so that nothing is
            lost far from the origin of a dataset.
        xyz: ``(3, V)`` vertices, axis by axis.
        triangles: ``(T, 3)`` int32; walls and triangles without an area are left out.
        low_m: ``(2,)`` corner of the first cell.
        cell_m: Side of a cell.
        shape: Columns and rows of the grid.
        starts: ``(cells + 1,)`` where each cell's triangles begin in `members`; a cell's number
            is ``row * columns + column``.
        members: Triangles by cell.
    """

    origin_m: Array
    xyz: Array
    triangles: np.ndarray
    low_m: Array
    cell_m: float
    shape: tuple[int, int]
    starts: np.ndarray
    members: np.ndarray

    @property
    def bounds_m(self) -> tuple[Array, Array]:
        """Least and largest x, y, z ``(3,)`` in the frame of the mesh."""
        used = self.xyz[:, np.unique(self.triangles)]
        return self.origin_m + used.min(axis=1), self.origin_m + used.max(axis=1)

    def heights(self, x_m: Array, y_m: Array) -> Array:
        """Heights of all triangles above and below places.

        Args:
            x_m: Of any shape ``(...)``, relative to `origin_m`.
            y_m: Likewise.

        Returns:
            ``(..., L)`` heights relative to `origin_m`, L >= 1 the most at any place, in no
            order and NaN where there are fewer. A place on a shared edge has the height of each
            triangle.
        """
        x, y = np.ravel(x_m), np.ravel(y_m)
        rays, heights = self._hits(x, y)
        counts = np.bincount(rays, minlength=len(x))
        layers = max(int(counts.max(initial=0)), 1)
        out = np.full((len(x), layers), np.nan)
        out[rays, np.arange(len(rays)) - np.repeat(counts.cumsum() - counts, counts)] = heights
        return out.reshape(*np.shape(x_m), layers)

    def _hits(self, x: Array, y: Array) -> tuple[np.ndarray, Array]:
        """Rays that hit a triangle, in order, and at which height."""
        columns, rows = self.shape
        with np.errstate(invalid="ignore"):  # places of NaN lie in no cell
            column = np.floor((x - self.low_m[0]) / self.cell_m)
            row = np.floor((y - self.low_m[1]) / self.cell_m)
            inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        rays = inside.nonzero()[0]
        cells = (row[rays] * columns + column[rays]).astype(np.int64)
        begin = self.starts[cells]
        counts = self.starts[cells + 1] - begin
        ends = counts.cumsum()
        cuts = np.searchsorted(ends, np.arange(_BLOCK, counts.sum(), _BLOCK))
        found = [
            self._tested(x, y, *block)
            for block in zip(
                np.split(rays, cuts), np.split(begin, cuts), np.split(counts, cuts), strict=True
            )
        ]
        if len(found) == 1:
            return found[0]
        return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])

    def _tested(
        self, x: Array, y: Array, rays: np.ndarray, begin: np.ndarray, counts: np.ndarray
    ) -> tuple[np.ndarray, Array]:
        """Test rays against the triangles of their cells."""
        members = np.arange(int(counts.sum())) + np.repeat(begin - counts.cumsum() + counts, counts)
        rays = np.repeat(rays, counts)
        corners = self.triangles[self.members[members]].T
        x, y = x[rays], y[rays]
        (ax, ay), (bx, by), (cx, cy) = (
            (self.xyz[0].take(corner) - x, self.xyz[1].take(corner) - y) for corner in corners
        )
        # Twice the areas that the ray's place spans with the edges opposite each corner. From
        # differences to the place itself an edge's two triangles get the same number with
        # opposite signs to the bit, and no ray slips between them.
        a, b, c = bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx
        total = a + b + c
        hit = (((a >= 0) & (b >= 0) & (c >= 0)) | ((a <= 0) & (b <= 0) & (c <= 0))) & (total != 0)
        hits = hit.nonzero()[0]
        areas, z = np.stack([a[hits], b[hits], c[hits]]), self.xyz[2].take(corners[:, hits])
        return rays[hits], (areas * z).sum(axis=0) / total[hits]


def build_mesh(vertices: Array, triangles: np.ndarray) -> TriangleMesh:
    """Sort triangles into a grid.

    Args:
        vertices: ``(V, 3)`` in any frame whose z axis points up, float64.
        triangles: ``(T, 3)`` indices of vertices, which are finite there.

    Raises:
        SceneError: there is no triangle that a vertical ray could hit.
    """
    origin = np.round(vertices[triangles[0, 0]]) if len(triangles) else np.zeros(3)
    xyz = np.ascontiguousarray((vertices - origin).T)
    triangles = np.asarray(triangles, dtype=np.int32)[_is_ground(xyz, triangles)]
    if not len(triangles):
        raise SceneError(
            "the mesh has no triangle with an area seen from above",
            remedy="give a mesh of the ground with its z axis up",
        )
    low, high = _boxes(xyz[:2], triangles)
    cell = _cell_m(low, high)
    corner = low.min(axis=0)
    first, last = (np.floor((at - corner) / cell).astype(np.int32) for at in (low, high))
    columns, rows = (last.max(axis=0) + 1).tolist()
    starts, members = _by_cell(first, last, (columns, rows))
    return TriangleMesh(origin, xyz, triangles, corner, cell, (columns, rows), starts, members)


def _is_ground(xyz: Array, triangles: np.ndarray) -> np.ndarray:
    """Whether triangles have an area seen from above; ``(T,)``."""
    out = np.zeros(len(triangles), dtype=bool)
    for start in range(0, len(triangles), _BLOCK):
        part = slice(start, start + _BLOCK)
        a, b, c = (xyz[:, corner] for corner in triangles[part].T)
        normal = np.cross(b - a, c - a, axis=0)
        out[part] = np.abs(normal[2]) > _LEAST_COS * np.linalg.norm(normal, axis=0)
    return out


def _boxes(xy: Array, triangles: np.ndarray) -> tuple[Array, Array]:
    """Corners ``(T, 2)`` of triangles' boxes in the plane, from vertices ``(2, V)``."""
    a, b, c = (xy[:, corner] for corner in triangles.T)
    low, high = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
    return low.T, high.T


def _cell_m(low: Array, high: Array) -> float:
    """The side of a cell such that triangles lie in few cells, and few cells are empty.

    The sum over triangles of ``(width / cell + 1) (length / cell + 1)`` is about the
    number of entries; the side solves it for `_ENTRIES_PER_TRIANGLE`.
    """
    size = high - low
    area, length, more = size.prod(axis=1).sum(), size.sum(), len(low) * (_ENTRIES_PER_TRIANGLE - 1)
    cell = (length + np.sqrt(length * length + 4 * area * more)) / (2 * more)
    extent = high.max(axis=0) - low.min(axis=0)
    most = max(_CELLS_PER_TRIANGLE * len(low), _MIN_CELLS)
    return float(max(cell, np.sqrt(extent[0] * extent[1] / most), extent.max() / most))


def _by_cell(
    first: np.ndarray, last: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Triangles by cell in compressed rows, from each one's first and last column and row."""
    from scipy.sparse import csr_array

    n, cells = len(first), shape[0] * shape[1]
    wide, deep = (last - first + 1).T
    counts = wide.astype(np.int64) * deep
    ends = np.concatenate([[0], counts.cumsum()])
    index = np.int32 if max(ends[-1], cells) < 2**31 else np.int64
    touched = np.empty(ends[-1], dtype=index)
    for start in range(0, n, _BLOCK):
        part = slice(start, start + _BLOCK)
        begin, end = ends[start], ends[min(start + _BLOCK, n)]
        step = np.arange(end - begin) - np.repeat(ends[part][: n - start] - begin, counts[part])
        down, across = np.divmod(step, np.repeat(wide[part], counts[part]))
        row, column = (np.repeat(first[part, i], counts[part]) for i in (1, 0))
        touched[begin:end] = (row + down) * shape[0] + column + across
    # The transpose of triangles by cells is cells by triangles, sorted by counting.
    matrix = csr_array(
        (np.ones(len(touched), dtype=np.int8), touched, ends.astype(index)), (n, cells)
    )
    by_cell = matrix.tocsc()
    return by_cell.indptr, by_cell.indices


@functools.lru_cache(maxsize=MESHES_HELD)
def _loaded(path: Path, stamp: tuple[int, int], dataset_to_axes: bytes) -> TriangleMesh:
    vertices, triangles = read_ply(path)
    turn = np.frombuffer(dataset_to_axes).reshape(3, 3)
    if not np.array_equal(turn, np.eye(3)):
        vertices = vertices @ turn.T
    try:
        return build_mesh(vertices, triangles)
    except SceneError as error:
        raise SceneError(error.what, where=str(path), remedy=error.remedy) from error


def load_mesh(path: Path, dataset_to_axes: Array) -> TriangleMesh:
    """Read a mesh, or take the one read before: the last `MESHES_HELD` stay in memory.

    Args:
        path: PLY file.
        dataset_to_axes: ``(3, 3)`` rotation of its vertices into axes whose z points up.

    Raises:
        OSError: the file cannot be read.
        SceneError: it holds no mesh that can be used.
    """
    status = path.stat()
    stamp = (status.st_mtime_ns, status.st_size)
    return _loaded(path.resolve(), stamp, np.ascontiguousarray(dataset_to_axes).tobytes())
