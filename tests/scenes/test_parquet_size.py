"""Sizes of parquet files, counted without reading them."""

from __future__ import annotations

import contextlib
import io
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.scenes import parquet_size
from omniloop.scenes.parquet_size import check_parquet_size


def parquet(rows: int, **options: Any) -> bytes:
    sink = io.BytesIO()
    table = pa.table(
        {
            "x": np.arange(rows, dtype=np.float64),
            "name": pa.array([str(i % 7) for i in range(rows)], pa.string()),
            "points": pa.array([[1.0, 2.0]] * rows, pa.list_(pa.float32())),
        }
    )
    pq.write_table(table, sink, **options)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("rows", "compression", "dictionary", "version"),
    list(itertools.product([1, 3000], ["none", "zstd"], [True, False], ["1.0", "2.0"])),
)
def test_every_value_is_counted_whatever_the_layout(
    monkeypatch: pytest.MonkeyPatch, rows: int, compression: str, dictionary: bool, version: str
) -> None:
    data = parquet(
        rows, compression=compression, use_dictionary=dictionary, data_page_version=version,
        row_group_size=1000, write_page_index=True,
    )  # fmt: skip
    monkeypatch.setattr(parquet_size, "MAX_VALUES", (8 if dictionary else 4) * rows)
    check_parquet_size(data)
    monkeypatch.setattr(parquet_size, "MAX_VALUES", 4 * rows - 1)
    with pytest.raises(ValueError, match="values"):
        check_parquet_size(data)


def test_pages_that_unpack_to_too_much_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = parquet(3000, compression="zstd", use_dictionary=False)
    monkeypatch.setattr(parquet_size, "MAX_PAGE_BYTES", 3000 * 8)
    with pytest.raises(ValueError, match="values"):
        check_parquet_size(data)


def test_a_table_without_rows_is_small() -> None:
    check_parquet_size(parquet(0))


@given(at=st.floats(0, 0.9999), flip=st.integers(1, 255), keep=st.floats(0, 1))
def test_damaged_files_raise_a_value_error_or_pass(at: float, flip: int, keep: float) -> None:
    data = bytearray(parquet(3))
    data[int(len(data) * at)] ^= flip
    for damaged in (bytes(data), bytes(data)[: int(len(data) * keep)]):
        with contextlib.suppress(ValueError):
            check_parquet_size(damaged)
