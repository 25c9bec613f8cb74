"""Columns of numpy arrays, and how they become Arrow arrays and JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omniloop.core.motion import Mask

WIDTHS = {"vec3": 3, "pose": 7, "dynamics": 12}
"""Numbers in a value of a kind of fixed width."""


@dataclass(frozen=True, eq=False)
class Masked:
    """Values of which some are null.

    Attributes:
        values: ``(N, ...)``, or a `Ragged` of N rows.
        valid: ``(N,)``.
    """

    values: np.ndarray | Ragged
    valid: Mask


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths: row k is ``values[offsets[k]:offsets[k + 1]]``."""

    values: np.ndarray | Sequence[Any]
    offsets: NDArray[np.int32]

    @classmethod
    def of(cls, rows: Sequence[Any], shape: tuple[int, ...] = (), kind: Any = np.float64) -> Ragged:
        """Join arrays ``(n_k, *shape)``."""
        offsets = np.zeros(len(rows) + 1, dtype=np.int32)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        none = np.zeros((0, *shape), dtype=kind)
        return cls(np.concatenate([none, *rows]) if len(rows) else none, offsets)

    @classmethod
    def words(cls, rows: Sequence[Sequence[str]]) -> Ragged:
        """Join lists of texts."""
        ends = np.cumsum([len(row) for row in rows], dtype=np.int32)
        offsets = np.concatenate([np.zeros(1, dtype=np.int32), ends]).astype(np.int32)
        return cls([word for row in rows for word in row], offsets)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """``(N,)`` of the rows."""
        return np.diff(self.offsets)


Column = np.ndarray | Sequence[Any] | Masked | Ragged
Columns = Mapping[str, Column]


def value_at(column: Column, row: int) -> Any:
    """One value as JSON holds it."""
    if isinstance(column, Masked):
        return value_at(column.values, row) if column.valid[row] else None
    if isinstance(column, Ragged):
        part = column.values[column.offsets[row] : column.offsets[row + 1]]
        return part.tolist() if isinstance(part, np.ndarray) else list(part)
    value = column[row]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def arrow_type(kind: str) -> Any:
    """The Arrow type of a kind: a scalar's, one of `WIDTHS`, ``list<...>``, ``map<...>``."""
    import pyarrow as pa

    if kind.startswith("list<"):
        return pa.list_(arrow_type(kind[5:-1]))
    if kind.startswith("map<"):
        return pa.map_(*(arrow_type(part) for part in kind[4:-1].split(",")))
    if kind in WIDTHS:
        return pa.list_(pa.float64(), WIDTHS[kind])
    return getattr(pa, {"bool": "bool_"}.get(kind, kind))()


def arrow_array(kind: str, column: Column) -> Any:
    """An Arrow array of a column; arrays of numbers are not walked in Python."""
    import pyarrow as pa
    import pyarrow.compute as pc

    mask = None
    if isinstance(column, Masked):
        mask, column = pa.array(~column.valid), column.values
    if isinstance(column, Ragged):
        inner = arrow_array(kind[5:-1], column.values)
        return pa.ListArray.from_arrays(pa.array(column.offsets), inner, mask=mask)
    if kind in WIDTHS:
        flat = pa.array(np.ascontiguousarray(column, dtype=np.float64).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, WIDTHS[kind], mask=mask)
    array = pa.array(column, type=arrow_type(kind))
    return array if mask is None else pc.if_else(mask, None, array)
