"""Columns of Argoverse 2's feather and parquet files as numpy arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omniloop.core.errors import SceneError, nearest
from omniloop.core.geometry import Array
from omniloop.scenes.arrow_tables import is_text, read_bounded, texts
from omniloop.scenes.build import damaged, read_bytes

Columns = dict[str, NDArray[Any]]

QUATERNION_COLUMNS = ("qx", "qy", "qz", "qw")
TRANSLATION_COLUMNS = ("tx_m", "ty_m", "tz_m")
POSE_COLUMNS = (*TRANSLATION_COLUMNS, *QUATERNION_COLUMNS)

_TEXTS = ("category", "city", "object_type", "sensor_name", "track_id", "track_uuid")
_WHOLE = ("height_px", "timestamp_ns", "timestep", "width_px")


def read_columns(path: Path, names: tuple[str, ...]) -> Columns:
    """Read the named columns of a ``.feather`` or ``.parquet`` file.

    Returns:
        Arrays ``(N,)``: numbers as they are stored, text as objects.

    Raises:
        SceneError: the file is missing, damaged or much too large, lacks a column, or has
            another type or empty cells in it.
    """
    if not path.is_file():
        raise damaged(f"lacks the file {path.name}", str(path.parent))
    try:
        table = read_bounded(read_bytes(path))
    except ValueError as error:
        raise damaged(f"cannot be read: {error}", str(path)) from error
    out: Columns = {}
    for name in names:
        if name not in table.column_names:
            raise damaged(
                f"lacks the column '{name}'.{nearest(name, table.column_names)}", str(path)
            )
        column = table[name]
        if column.null_count:
            raise damaged(f"column '{name}' has {column.null_count} empty cells", str(path))
        try:
            out[name] = _array(name, column)
        except ValueError as error:
            raise damaged(f"column '{name}': {error}", str(path)) from error
    return out


def _array(name: str, column: Any) -> NDArray[Any]:
    import pyarrow as pa

    kind = column.type
    if name in _TEXTS:
        if not is_text(kind):
            raise ValueError(f"it holds {kind}, not texts")
        return texts(column)
    whole = pa.types.is_integer(kind)
    if not whole and (name in _WHOLE or not pa.types.is_floating(kind)):
        raise ValueError(f"it holds {kind}, not {'whole ' if name in _WHOLE else ''}numbers")
    found: NDArray[Any] = column.to_numpy()
    if found.dtype == np.uint64 and (found >= 1 << 63).any():
        raise ValueError(f"{found.max()} is too large")
    return found


def poses(columns: Columns, where: str) -> Array:
    """Poses ``(N, 7)`` of the `POSE_COLUMNS`, their quaternions normalised.

    Raises:
        SceneError: a number is not finite, or a quaternion is farther than 1 % from a unit.
    """
    out = np.stack([np.asarray(columns[name], dtype=np.float64) for name in POSE_COLUMNS], axis=1)
    remedy = "drop the row, or leave the log out"
    if not np.isfinite(out).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(out))[0])
        raise SceneError(
            f"{POSE_COLUMNS[column]} in row {row} is {out[row, column]}", where=where, remedy=remedy
        )
    norm = np.linalg.norm(out[:, 3:], axis=1, keepdims=True)
    if len(norm) and np.abs(norm - 1).max() > 0.01:
        row = int(np.abs(norm - 1).argmax())
        raise SceneError(
            f"quaternion {out[row, 3:].tolist()} in row {row} is no unit",
            where=where,
            remedy=remedy,
        )
    out[:, 3:] /= norm
    return out
