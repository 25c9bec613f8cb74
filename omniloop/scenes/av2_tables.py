"""Columns of Argoverse 2's feather and parquet files as numpy arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from omniloop.core.errors import SceneError, nearest
from omniloop.core.geometry import Array
from omniloop.scenes.build import damaged

Columns = dict[str, NDArray[Any]]

QUATERNION_COLUMNS = ("qx", "qy", "qz", "qw")
TRANSLATION_COLUMNS = ("tx_m", "ty_m", "tz_m")
POSE_COLUMNS = (*TRANSLATION_COLUMNS, *QUATERNION_COLUMNS)


def read_columns(path: Path, names: tuple[str, ...]) -> Columns:
    """Read the named columns of a ``.feather`` or ``.parquet`` file.

    Returns:
        Arrays ``(N,)``: numbers as they are stored, text as objects.

    Raises:
        SceneError: the file is missing or damaged, lacks a column, or has empty cells in it.
    """
    if not path.is_file():
        raise damaged(f"lacks the file {path.name}", str(path.parent))
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            table = pyarrow.parquet.read_table(path)
        else:
            import pyarrow.feather

            table = pyarrow.feather.read_table(path)
    except (pa.ArrowException, OSError) as error:
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
        out[name] = column.to_numpy()
    return out


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
