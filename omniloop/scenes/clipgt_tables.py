"""Tables of a ClipGT archive: columns to parquet and back.

Every table has three columns of structs: ``key``, one named like the table, and
``version`` (contracts.md 2.6). Points are float32.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Times
from omniloop.scenes.arrow_tables import read_bounded
from omniloop.scenes.parquet_size import MAX_TEXTS

VERSION = 1

FEATURE_TABLES = {
    "pole": 1,
    "road_marking": 2,
    "intersection_area": 3,
    "road_island": 3,
    "gore_area": 3,
    "buffer_zone": 3,
}
"""Tables of `MapFeature`, with the fewest points of an element."""

MPH_MPS = 0.44704
"""``lane.speed_limit`` is in miles per hour, 0 where it is unknown: in NuRec scenes of Sweden
it is 24.8548 where the limit is 40 km/h."""

_MAX_ROWS = 5_000_000
"""A table that claims more is damaged, or a bomb; NVIDIA's sample has 2305 rows in all."""

_LARGEST = 1e9
"""No coordinate is larger, in metres or pixels."""

_MEND = "write the HD map again"

# --------------------------------------------------------------------------- writing


def texts(values: Sequence[str]) -> Any:
    """A column of texts."""
    return pa.array(values, pa.string())


def text_lists(values: Sequence[Sequence[str]]) -> Any:
    """A column of lists of texts."""
    return pa.array(values, pa.list_(pa.string()))


def flags(values: Sequence[bool]) -> Any:
    """A column of truth values."""
    return pa.array(values, pa.bool_())


def numbers(values: Sequence[float]) -> Any:
    """A column of float64."""
    return pa.array(values, pa.float64())


def times(values: Times) -> Any:
    """A column of microseconds."""
    return pa.array(values, pa.int64())


def vectors(values: Array, names: str = "xyz") -> Any:
    """A column of structs of float32 from ``(N, len(names))``."""
    rows = np.asarray(values, dtype=np.float32).reshape(-1, len(names))
    parts = [pa.array(np.ascontiguousarray(rows[:, i])) for i in range(len(names))]
    return pa.StructArray.from_arrays(parts, names=list(names))


def polylines(lines: Sequence[Array]) -> Any:
    """A column of lists of points from arrays ``(N, 3)``."""
    offsets = np.concatenate([[0], np.cumsum([len(line) for line in lines])]).astype(np.int32)
    points = np.concatenate([np.zeros((0, 3)), *lines])
    return pa.ListArray.from_arrays(pa.array(offsets), vectors(points))


def write_table(name: str, key: Mapping[str, Any], payload: Mapping[str, Any]) -> bytes:
    """Return a table as a parquet file, uncompressed since the archive is compressed.

    Args:
        key, payload: Columns of the two structs.
    """
    columns = [
        pa.StructArray.from_arrays(list(part.values()), names=list(part)) for part in (key, payload)
    ]
    version = pa.array(np.full(len(columns[0]), VERSION, dtype=np.uint64))
    table = pa.table([*columns, version], names=["key", name, "version"])
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="none", write_statistics=False, store_schema=False)
    return sink.getvalue()


# --------------------------------------------------------------------------- reading


class TableReader:
    """Reads the columns of one table.

    Args:
        name: The table's name.
        data: The parquet file; None for a table that is not there, which has no rows.
        where: The file's name, for errors.

    Raises:
        SceneError: not parquet, much too large, or without its columns.
    """

    def __init__(self, name: str, data: bytes | None, where: str) -> None:
        self._name = name
        self._where = where
        self._parts: dict[str, Any] = {}
        self._rows = 0
        if data is None:
            return
        try:
            table = read_bounded(data, ["key", name])
        except ValueError as error:
            raise self._wrong(f"not a readable parquet file: {error}") from error
        if table.num_rows > _MAX_ROWS:
            raise self._wrong(f"it claims {table.num_rows} rows, {_MAX_ROWS} at most")
        self._rows = table.num_rows
        for part in ("key", name):
            if part not in table.column_names:
                raise self._wrong(f"column '{part}' is missing")
            column = table.column(part).combine_chunks()
            if _holds_nothing(column.type):
                # NuRec writes a table without elements as one row of nulls of no type.
                self._rows, self._parts = 0, {}
                return
            if not pa.types.is_struct(column.type):
                raise self._wrong(f"column '{part}' is {column.type}, not a struct")
            self._parts[part] = column

    def _wrong(self, what: str) -> SceneError:
        return SceneError(f"table {self._name}: {what}", where=self._where, remedy=_MEND)

    def __len__(self) -> int:
        return self._rows

    def _field(self, part: str, field: str) -> Any:
        column = self._parts[part]
        if column.type.get_field_index(field) < 0:
            raise self._wrong(f"'{part}.{field}' is missing")
        return pc.struct_field(column, field)

    def has(self, field: str, part: str = "") -> bool:
        """Whether the table has a field."""
        column = self._parts.get(part or self._name)
        return column is not None and column.type.get_field_index(field) >= 0

    def texts(self, field: str, part: str = "") -> list[str]:
        """Texts; "" where the field is null, or missing altogether."""
        part = part or self._name
        if not self.has(field, part):
            return [""] * self._rows
        found = self._field(part, field)
        if pa.types.is_nested(found.type):
            raise self._wrong(f"'{part}.{field}' is {found.type}, not texts")
        return [str(v) if v is not None else "" for v in found.to_pylist()]

    def text_lists(self, field: str) -> list[list[str]]:
        """Lists of texts; a single text counts as a list of one."""
        if not self.has(field):
            return [[] for _ in range(self._rows)]
        column = self._field(self._name, field)
        if _is_list(column.type):
            self._few(column, field)
        elif pa.types.is_nested(column.type):
            raise self._wrong(f"'{self._name}.{field}' is {column.type}, not lists of texts")
        lists = [v if isinstance(v, list) else [v] for v in column.to_pylist()]
        return [[str(x) for x in items if x is not None] for items in lists]

    def times(self, field: str = "timestamp_micros") -> Times:
        """Microseconds ``(N,)`` of the key."""
        if not self._rows:
            return np.zeros(0, dtype=np.int64)
        column = self._field("key", field)
        if not pa.types.is_integer(column.type) or column.null_count:
            raise self._wrong(f"'key.{field}' is {column.type} with {column.null_count} nulls")
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)

    def numbers(self, field: str) -> Array:
        """Numbers ``(N,)``; NaN where null, or missing altogether."""
        if not self._rows or not self.has(field):
            return np.full(self._rows, np.nan)
        column = self._field(self._name, field)
        if pa.types.is_null(column.type):
            return np.full(self._rows, np.nan)
        if not _is_number(column.type):
            raise self._wrong(f"'{self._name}.{field}' is {column.type}, not a number")
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)

    def number_lists(self, field: str) -> list[list[int]]:
        """Lists of whole numbers; none where the field is null or missing."""
        if not self._rows or not self.has(field):
            return [[] for _ in range(self._rows)]
        column = self._field(self._name, field)
        if pa.types.is_null(column.type):
            return [[] for _ in range(self._rows)]
        if not _is_list(column.type) or not (
            pa.types.is_integer(column.type.value_type) or pa.types.is_null(column.type.value_type)
        ):
            raise self._wrong(
                f"'{self._name}.{field}' is {column.type}, not a list of whole numbers"
            )
        self._few(column, field)
        return [[x for x in row or () if x is not None] for row in column.to_pylist()]

    def _few(self, lists: Any, field: str) -> None:
        """Refuse lists of more elements than there may be Python objects."""
        if pa.types.is_nested(lists.type.value_type) or len(lists.flatten()) > MAX_TEXTS:
            raise self._wrong(
                f"'{self._name}.{field}' is {lists.type} of {len(lists.flatten())} elements, and"
                f" {MAX_TEXTS} single values may be read"
            )

    def vectors(self, field: str, names: str = "xyz") -> Array:
        """Vectors ``(N, len(names))``; NaN where null."""
        if not self._rows:
            return np.zeros((0, len(names)))
        return self._numbers(self._field(self._name, field), names, field)

    def polylines(self, field: str) -> list[Array]:
        """Lists of points ``(M, 3)``; no points where the field is null."""
        if not self._rows:
            return []
        column = self._field(self._name, field)
        if pa.types.is_null(column.type):
            return [np.zeros((0, 3)) for _ in range(self._rows)]
        if not _is_list(column.type):
            raise self._wrong(f"'{self._name}.{field}' is {column.type}, not a list of points")
        lengths = pc.fill_null(pc.list_value_length(column), 0)
        points = self._numbers(column.flatten(), "xyz", field)
        ends = np.cumsum(lengths.to_numpy(zero_copy_only=False)).astype(np.int64)
        return np.split(points, ends[:-1])

    def _numbers(self, structs: Any, names: str, field: str) -> Array:
        if pa.types.is_null(structs.type):
            return np.full((len(structs), len(names)), np.nan)
        if not pa.types.is_struct(structs.type):
            raise self._wrong(f"'{self._name}.{field}' is {structs.type}, not a struct")
        columns = []
        for name in names:
            index = structs.type.get_field_index(name)
            if index >= 0 and pa.types.is_null(structs.type.field(index).type):
                columns.append(np.full(len(structs), np.nan))
                continue
            if index < 0 or not _is_number(structs.type.field(index).type):
                raise self._wrong(f"'{self._name}.{field}.{name}' is missing or no number")
            part = pc.struct_field(structs, name).to_numpy(zero_copy_only=False)
            columns.append(np.asarray(part, dtype=np.float64))
        points = np.stack(columns, axis=1)
        sizes = np.abs(points[np.isfinite(points)])  # elements with other numbers are left out
        if (sizes > _LARGEST).any():
            raise self._wrong(
                f"'{self._name}.{field}' has the value {sizes.max():g}, and {_LARGEST:g} may be"
            )
        return points


def _holds_nothing(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return kind.num_fields > 0 and all(_holds_nothing(f.type) for f in kind)
    return bool(pa.types.is_null(kind))


def _is_list(kind: Any) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
