"""Columns of Argoverse 2's feather and parquet files as numpy arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omniloop.core.errors import SceneError, nearest
from omniloop.core.geometry import Array
from omniloop.core.motion import Times, Trajectory
from omniloop.scenes import bounds
from omniloop.scenes.arrow_tables import is_text, read_bounded, texts
from omniloop.scenes.build import damaged, read_bytes

Columns = dict[str, NDArray[Any]]

QUATERNION_COLUMNS = ("qx", "qy", "qz", "qw")
TRANSLATION_COLUMNS = ("tx_m", "ty_m", "tz_m")
POSE_COLUMNS = (*TRANSLATION_COLUMNS, *QUATERNION_COLUMNS)

MAX_ROWS = 500_000
"""Of a table; a log's largest, its boxes, has some ten thousand."""

_MAX_TABLE_BYTES = 64 << 20
_MAX_TEXT = 200
_DROP_ROW = "drop the row, or leave the log out"

_TEXTS = ("category", "city", "object_type", "sensor_name", "track_id", "track_uuid")
_WHOLE = ("height_px", "timestamp_ns", "timestep", "width_px")
_TIMES_NS = ("timestamp_ns", "start_timestamp")
_LATEST_NS = 9e18


def read_columns(path: Path, names: tuple[str, ...]) -> Columns:
    """Read the named columns of a ``.feather`` or ``.parquet`` file.

    Returns:
        Arrays ``(N,)``: numbers as they are stored, finite and of a size that they can have;
        text as objects.

    Raises:
        SceneError: the file is missing, damaged or much too large, lacks a column, or has
            another type, empty cells or values that cannot be in it.
    """
    where = str(path)
    if not os.path.isfile(path):
        raise damaged(f"lacks the file {path.name}", str(path.parent))
    try:
        table = read_bounded(read_bytes(path, _MAX_TABLE_BYTES))
    except ValueError as error:
        raise damaged(f"cannot be read: {str(error)[:300]}", where) from error
    bounds.check_count(table.num_rows, MAX_ROWS, "rows", where)
    out: Columns = {}
    for name in names:
        if name not in table.column_names:
            known = [column[:_MAX_TEXT] for column in table.column_names]
            raise damaged(f"lacks the column '{name}'.{nearest(name, known)}", where)
        column = table[name]
        if column.null_count:
            raise damaged(f"column '{name}' has {column.null_count} empty cells", where)
        try:
            out[name] = _array(name, column)
        except ValueError as error:
            raise damaged(f"column '{name}': {error}", where) from error
        _check_values(name, out[name], where)
    return out


def _array(name: str, column: Any) -> NDArray[Any]:
    import pyarrow as pa

    kind = column.type
    shown = str(kind)[:_MAX_TEXT]
    if name in _TEXTS:
        if not is_text(kind):
            raise ValueError(f"it holds {shown}, not texts")
        return texts(column)
    whole = pa.types.is_integer(kind)
    if not whole and (name in _WHOLE or not pa.types.is_floating(kind)):
        raise ValueError(f"it holds {shown}, not {'whole ' if name in _WHOLE else ''}numbers")
    found: NDArray[Any] = column.to_numpy()
    if found.dtype == np.uint64 and (found >= 1 << 63).any():
        raise ValueError(f"{found.max()} is too large")
    return found


def _check_values(name: str, values: NDArray[Any], where: str) -> None:
    if name in _TEXTS:
        for text in values:
            bounds.name_of(text, name, where)
        return
    largest = _LATEST_NS if name in _TIMES_NS else bounds.LARGEST
    usable = np.abs(values.astype(np.float64)) <= largest
    if not usable.all():
        row = int(np.argmin(usable))
        raise SceneError(
            f"{name} in row {row} is {values[row]}: not finite, or beyond {largest:g}", where=where,
            remedy=_DROP_ROW,
        )  # fmt: skip


def rows_of_tracks(
    names: NDArray[Any], times_us: Times, grid_us: Times, ego: Trajectory, where: str
) -> list[tuple[str, NDArray[np.intp]]]:
    """The rows of every track, sorted by name and time.

    Args:
        names: ``(N,)`` texts: the track of each row.
        times_us: ``(N,)`` its time.
        grid_us: ``(G,)`` sorted: every time that is in the file.
        ego: The recorded ego.
        where: The file, for errors.

    Raises:
        SceneError: there are more tracks, or more of their motion, than may be.
    """
    found = {name: k for k, name in enumerate(sorted(set(names.tolist())))}
    bounds.check_count(len(found), bounds.MAX_TRACKS, "tracks", where)
    index = np.array([found[name] for name in names.tolist()], dtype=np.intp)
    order = np.lexsort((times_us, index))
    ends = np.cumsum(np.bincount(index, minlength=len(found)))
    rows = np.split(order, ends[:-1]) if found else []
    spans = [(int(times_us[r[0]]), int(times_us[r[-1]])) for r in rows]
    first, last = np.searchsorted(grid_us, np.array(spans, dtype=np.int64).reshape(-1, 2)).T
    poses = int((last - first + 1).sum())
    bounds.check_extent((ego.start_us, ego.end_us), spans, poses, where)
    return list(zip(found, rows, strict=True))


def poses(columns: Columns, where: str) -> Array:
    """Poses ``(N, 7)`` of the `POSE_COLUMNS`, their quaternions normalised.

    Raises:
        SceneError: a quaternion is farther than 1 % from a unit.
    """
    out = np.stack([np.asarray(columns[name], dtype=np.float64) for name in POSE_COLUMNS], axis=1)
    norm = np.linalg.norm(out[:, 3:], axis=1, keepdims=True)
    if len(norm) and np.abs(norm - 1).max() > 0.01:
        row = int(np.abs(norm - 1).argmax())
        raise SceneError(
            f"quaternion {out[row, 3:].tolist()} in row {row} is no unit",
            where=where,
            remedy=_DROP_ROW,
        )
    out[:, 3:] /= norm
    return out
