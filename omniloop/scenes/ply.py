"""Triangle meshes in PLY files: ascii, binary little and big endian.

The format is Greg Turk's, "The PLY Polygon File Format" (Stanford, 1994), with the type names of
later writers (``float32`` and the like). Read are the element `vertex` with x, y, z and the element
`face` with its list `vertex_indices` (or `vertex_index`); all else is skipped.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.scenes.ply_header import Element, Property, broken, read_header

_INDICES = ("vertex_indices", "vertex_index")
_COARSEST_M = 0.05

Polygons = list[tuple[np.ndarray, np.ndarray]]
"""Polygons of the same number of vertices: their numbers in the file ``(M,)`` and indices of
vertices ``(M, k)``."""


def read_ply(path: Path) -> tuple[Array, np.ndarray]:
    """Read a mesh; polygons become fans of triangles round their first vertex.

    Returns:
        Vertices ``(V, 3)`` as float64, exactly as stored, and triangles ``(T, 3)`` of int32
        indices, T >= 1. A vertex that no triangle needs may be NaN.

    Raises:
        OSError: the file cannot be read.
        SceneError: it is no PLY, is cut off or goes on after its end, holds no triangle,
            or a face names a vertex that is not there or not finite.
    """
    return parse_ply(path.read_bytes(), str(path))


def parse_ply(data: bytes, where: str) -> tuple[Array, np.ndarray]:
    """Read a mesh that is in memory, see `read_ply`.

    Args:
        where: Its name, for errors.

    Raises:
        SceneError: as of `read_ply`.
    """
    order, elements, at = read_header(data, where)
    if order == "=":
        data, elements = _numbers(data[at:], elements, where)
        at = 0
    vertices: Array | None = None
    polygons: Polygons | None = None
    for element in elements:
        if element.name == "vertex":
            vertices, at = _vertices(data, at, element, where)
        else:
            wanted = element.name == "face"
            found, at = _lists(data, at, element, _INDICES if wanted else (), where)
            polygons = found if wanted else polygons
    if vertices is None or polygons is None:
        missing = "vertex" if vertices is None else "face"
        raise broken(f"there is no element '{missing}', only {[e.name for e in elements]}", where)
    if data[at:].strip():
        raise broken(f"{len(data) - at} bytes follow the last element", where)
    return vertices, _triangles(vertices, polygons, where)


def write_ply(path: Path, vertices: Array, triangles: np.ndarray) -> None:
    """Write vertices ``(V, 3)`` and triangles ``(T, 3)``, binary little endian, as double and int."""
    path.write_bytes(ply_bytes(vertices, triangles))


def ply_bytes(vertices: Array, triangles: np.ndarray, coordinates: str = "double") -> bytes:
    """A mesh as a binary little-endian file: see `write_ply`.

    Args:
        coordinates: Type of x, y and z: "double" or "float".
    """
    faces = np.empty(len(triangles), dtype=[("n", "u1"), ("v", "<i4", 3)])
    faces["n"], faces["v"] = 3, triangles
    axes = "".join(f"property {coordinates} {axis}\n" for axis in "xyz")
    kind = {"double": "<f8", "float": "<f4"}[coordinates]
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n{axes}"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    return header.encode() + np.asarray(vertices, dtype=kind).tobytes() + faces.tobytes()


def _numbers(
    text: bytes, elements: tuple[Element, ...], where: str
) -> tuple[bytes, tuple[Element, ...]]:
    """An ascii body as a binary one of doubles alone, which hold its integers exactly."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # older numpy warns where newer raises
            numbers = np.fromstring(text, sep=" ") if text.strip() else np.zeros(0)
    except (ValueError, DeprecationWarning):
        raise broken("there is something that is no number after the header", where) from None
    doubles = tuple(
        Element(
            e.name,
            e.count,
            tuple(Property(p.name, "=f8", "=f8" * p.is_list) for p in e.properties),
        )
        for e in elements
    )
    return numbers.tobytes(), doubles


# -------------------------------------------------------------------------- the elements


def _table(data: bytes, at: int, element: Element, dtype: np.dtype, where: str) -> np.ndarray:
    """Rows of a fixed size.

    Raises:
        SceneError: there are fewer than the header says.
    """
    if element.count * dtype.itemsize > len(data) - at:
        raise _cut_off(element, (len(data) - at) // dtype.itemsize, where)
    return np.frombuffer(data, dtype, element.count, at)


def _cut_off(element: Element, rows: int, where: str) -> SceneError:
    return broken(
        f"the file is cut off: of {element.count} of '{element.name}' it holds at most {rows}",
        where,
    )


def _vertices(data: bytes, at: int, element: Element, where: str) -> tuple[Array, int]:
    if any(p.is_list for p in element.properties):
        raise broken("vertices have a list among their properties", where)
    columns = {p.name: f"{i}" for i, p in enumerate(element.properties)}
    missing = [axis for axis in "xyz" if axis not in columns]
    if missing:
        raise broken(f"vertices have no property '{missing[0]}', only {list(columns)}", where)
    dtype = np.dtype([(f"{i}", p.kind) for i, p in enumerate(element.properties)])
    table = _table(data, at, element, dtype, where)
    xyz = [table[columns[axis]] for axis in "xyz"]
    _check_resolution(xyz, where)
    return np.column_stack(xyz).astype(np.float64), at + table.nbytes


def _check_resolution(xyz: list[np.ndarray], where: str) -> None:
    """Refuse coordinates far from the origin that were rounded to float."""
    for axis, values in zip("xyz", xyz, strict=True):
        if values.dtype.itemsize == 4 and values.dtype.kind == "f":
            largest = np.max(np.abs(values), where=np.isfinite(values), initial=0.0)
            if np.spacing(largest) > _COARSEST_M:
                raise SceneError(
                    f"{axis} is stored as float and reaches {largest:.0f} m, where floats are {np.spacing(largest):g} m apart",
                    where=where, remedy="export the mesh with double coordinates, or near the origin",
                )  # fmt: skip


def _lists(
    data: bytes, at: int, element: Element, wanted: tuple[str, ...], where: str
) -> tuple[Polygons, int]:
    """The wanted list of every row, and the first byte after the element."""
    names = [p.name for p in element.properties if p.is_list]
    column = next((names.index(name) for name in wanted if name in names), None)
    if wanted and column is None:
        raise broken(f"faces have no list '{wanted[0]}', only {names}", where)
    if element.count == 0 or not element.properties:
        return [], at
    # Rows are nearly always alike, and then a table.
    lengths = next(_walk(data, at, element, where))[1]
    dtype = _row_dtype(element, lengths)
    if element.count * dtype.itemsize <= len(data) - at:
        table = np.frombuffer(data, dtype, element.count, at)
        if all((table[f"n{i}"] == n).all() for i, n in enumerate(lengths)):
            found = [] if column is None else [(np.arange(element.count), table[f"l{column}"])]
            return found, at + table.nbytes
    return _uneven_lists(data, at, element, column, where)


def _row_dtype(element: Element, lengths: list[int]) -> np.dtype:
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    for i, p in enumerate(element.properties):
        if p.is_list:
            number = sum(q.is_list for q in element.properties[:i])
            fields += [(f"n{number}", p.count_kind), (f"l{number}", p.kind, (lengths[number],))]
        else:
            fields.append((f"{i}", p.kind))
    return np.dtype(fields)


def _uneven_lists(
    data: bytes, at: int, element: Element, column: int | None, where: str
) -> tuple[Polygons, int]:
    """`_lists` where rows differ in length: their places one by one, their values at once."""
    starts, counts = [], []
    for begins, lengths, ends in _walk(data, at, element, where):
        at = ends
        if column is not None:
            starts.append(begins[column])
            counts.append(lengths[column])
    polygons: Polygons = []
    if column is not None:
        kind = np.dtype([p.kind for p in element.properties if p.is_list][column])
        raw, all_counts, all_starts = np.frombuffer(data, "u1"), np.array(counts), np.array(starts)
        for length in np.unique(all_counts):
            rows = (all_counts == length).nonzero()[0]
            if length:
                windows = np.lib.stride_tricks.sliding_window_view(raw, length * kind.itemsize)
                values = windows[all_starts[rows]].view(kind)
            else:
                values = np.zeros((len(rows), 0), dtype=kind)
            polygons.append((rows, values))
    return polygons, at


def _walk(
    data: bytes, at: int, element: Element, where: str
) -> Iterator[tuple[list[int], list[int], int]]:
    """Of each row: where its lists begin, how long they are, and where the row ends."""
    steps = [
        (np.dtype(p.kind).itemsize, _counter(p.count_kind) if p.is_list else None)
        for p in element.properties
    ]
    for row in range(element.count):
        begins, lengths = [], []
        for size, counter in steps:
            length = 1
            if counter is not None:
                if at + counter.size > len(data):
                    raise _cut_off(element, row, where)
                (value,) = counter.unpack_from(data, at)
                length = int(value) if math.isfinite(value) else -1
                if length < 0 or length != value:
                    raise broken(
                        f"a list of {value} values cannot be", f"{where}, {element.name} {row}"
                    )
                at += counter.size
                begins.append(at)
                lengths.append(length)
            at += length * size
        if at > len(data):
            raise _cut_off(element, row, where)
        yield begins, lengths, at


def _counter(kind: str) -> struct.Struct:
    return struct.Struct(kind[0] + np.dtype(kind).char)  # the two agree on one-letter names


# ------------------------------------------------------------------------- the triangles


def _triangles(vertices: Array, polygons: Polygons, where: str) -> np.ndarray:
    """Fans ``(T, 3)`` of int32.

    Raises:
        SceneError: there is none; a face is a line or a point; a vertex is not there or
            not finite.
    """
    finite = np.asarray(np.isfinite(vertices).all(axis=1))
    fans = []
    for faces, indices in polygons:
        if indices.shape[1] < 3:
            raise broken(f"a face of {indices.shape[1]} vertices is none", _face(where, faces[0]))
        there: np.ndarray = (indices >= 0) & (indices < len(vertices))
        if indices.dtype.kind == "f":
            there &= indices == np.floor(indices)
        _check(there, f"of {len(vertices)} vertices there is no", faces, indices, where)
        whole = indices.astype(np.int32)
        _check(finite[whole], "x, y or z is not finite of", faces, whole, where)
        corner = np.arange(1, whole.shape[1] - 1)
        fan = np.stack([np.zeros_like(corner), corner, corner + 1], axis=1)
        fans.append(whole[:, fan].reshape(-1, 3))
    if not fans or not sum(map(len, fans)):
        raise broken("the mesh is empty: it has no face", where)
    return np.concatenate(fans)


def _check(good: np.ndarray, what: str, faces: np.ndarray, indices: np.ndarray, where: str) -> None:
    if not good.all():
        row, corner = np.argwhere(~good)[0]
        raise broken(f"{what} vertex {indices[row, corner]}", _face(where, faces[row]))


def _face(where: str, number: int) -> str:
    return f"{where}, face {number} (counted from 0)"
