"""Parquet tables of a native scene bundle: columns to bytes and back, checked.

The bytes depend on nothing but the columns and the version of pyarrow.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.scenes.arrow_tables import read_bounded

POSE_COLUMNS = ("x", "y", "z", "qx", "qy", "qz", "qw")
POINT_COLUMNS = ("x", "y", "z")

Columns = Mapping[str, NDArray[np.generic]]


def write_table(columns: Columns) -> bytes:
    """Return a parquet file of columns ``(N,)`` in the order given.

    Floats are split into byte planes before they are compressed: neighbouring samples
    share their high bytes, and all eight bytes of a float come back exactly.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: pa.array(np.ascontiguousarray(c)) for name, c in columns.items()})
    floats = [name for name, c in columns.items() if np.issubdtype(c.dtype, np.floating)]
    sink = io.BytesIO()
    pq.write_table(
        table, sink, compression="zstd", compression_level=1, use_dictionary=False,
        use_byte_stream_split=floats or False, write_statistics=False, store_schema=False,
    )  # fmt: skip
    return sink.getvalue()


def read_table(data: bytes, types: Mapping[str, str], where: str) -> dict[str, NDArray[np.generic]]:
    """Return the named columns of a parquet file; other columns are ignored.

    Args:
        data: The file.
        types: Column name to the kinds of numpy types that it may have, of "i" (widened
            to int64), "f" (widened to float64) and "b".
        where: The file's name for errors.

    Raises:
        SceneError: not parquet, much too large, or a column is missing, has gaps or has another type.
    """
    import pyarrow as pa

    try:
        table = read_bounded(data)
    except ValueError as error:
        raise SceneError(
            f"not a readable parquet file: {error}",
            where=where,
            remedy="write the bundle again from its source",
        ) from error
    out: dict[str, NDArray[np.generic]] = {}
    for name, kind in types.items():
        if name not in table.column_names:
            raise SceneError(
                f"column '{name}' is missing",
                where=where,
                remedy=f"give the columns {', '.join(types)}",
            )
        column = table.column(name)
        type_ok = {"i": pa.types.is_integer, "f": pa.types.is_floating, "b": pa.types.is_boolean}
        if column.null_count or not type_ok[kind](column.type):
            what = f"{column.null_count} nulls" if column.null_count else f"type {column.type}"
            wanted = {"i": "integers (int64)", "f": "floats (double)", "b": "booleans"}[kind]
            raise SceneError(
                f"column '{name}' has {what}", where=where, remedy=f"give {wanted} without nulls"
            )
        dtype = {"i": np.int64, "f": np.float64, "b": np.bool_}[kind]
        out[name] = column.to_numpy().astype(dtype, copy=False)
    return out


def pose_columns(poses: Array) -> dict[str, Array]:
    """Columns of poses ``(N, 7)``."""
    return {name: poses[:, i] for i, name in enumerate(POSE_COLUMNS)}


def stack(columns: Mapping[str, NDArray[np.generic]], names: Sequence[str]) -> Array:
    """Columns side by side: ``(N, len(names))`` float64."""
    return np.stack([columns[name] for name in names], axis=1).astype(np.float64, copy=False)


def narrowest_exact(values: Array) -> NDArray[np.generic]:
    """The values in the smallest float type that holds each of them exactly.

    Height rasters come as float16 or float32 from their datasets.
    """
    for dtype in (np.float16, np.float32):
        with np.errstate(over="ignore"):
            narrow: NDArray[np.generic] = values.astype(dtype)
        if np.array_equal(narrow.astype(np.float64), values, equal_nan=True):
            return narrow
    return values
