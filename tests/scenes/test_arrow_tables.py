"""Parquet and feather files of strangers: counted before they are unpacked."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.scenes import feather_size, parquet_size
from omniloop.scenes.arrow_tables import is_text, read_bounded, texts
from omniloop.scenes.feather_size import check_feather_size
from tests.memory import traced_peak

LONG = "x" * 200_000
TIMES = 2_000
"""`LONG` so many times is 400 MB; written once, it takes less than a kilobyte."""


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"compression": "zstd", **options})
    return sink.getvalue()


def feather(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pyarrow.feather.write_feather(table, sink, **{"compression": "zstd", **options})
    return sink.getvalue()


def repeated(text: str, times: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, np.int32)), pa.array([text]))


def mixed(rows: int) -> pa.Table:
    return pa.table(
        {
            "x": np.arange(rows, dtype=np.float64),
            "name": pa.array([str(i % 7) for i in range(rows)]),
            "label": pa.array([str(i % 3) for i in range(rows)]).dictionary_encode(),
        }
    )


def test_one_long_text_that_stands_for_many_is_refused_by_name() -> None:
    table = pa.table({"t": repeated(LONG, TIMES)})
    delta = pa.table({"t": pa.array([LONG] * 20)})
    lists = pa.ListArray.from_arrays(
        pa.array(np.arange(TIMES + 1), pa.int32()), table["t"].chunk(0)
    )
    bombs = [
        parquet(table),
        parquet(table, store_schema=False),
        parquet(table, compression="snappy", data_page_version="2.0"),
        parquet(pa.table({"t": lists})),
    ]
    for data in bombs:
        assert len(data) < 20_000
        with (
            traced_peak() as peak,
            pytest.raises(ValueError, match=r"it holds more than .* texts, or 256 MiB of them"),
        ):
            read_bounded(data)
        assert peak.size < 4 << 20
    packed = parquet(delta, use_dictionary=False, column_encoding={"t": "DELTA_BYTE_ARRAY"})
    assert len(packed) < 2_000
    assert read_bounded(packed).num_rows == 20


def test_texts_that_begin_as_the_one_before_count_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"t": pa.array([LONG] * 20)})
    data = parquet(table, use_dictionary=False, column_encoding={"t": "DELTA_BYTE_ARRAY"})
    monkeypatch.setattr(parquet_size, "MAX_TEXT_BYTES", 20 * len(LONG) - 1)
    with pytest.raises(ValueError, match="texts"):
        read_bounded(data)


def test_a_repeated_text_of_a_feather_file_is_refused_before_it_is_repeated() -> None:
    data = feather(pa.table({"t": repeated(LONG, TIMES)}))
    assert len(data) < 20_000
    column = read_bounded(data)["t"]
    with pytest.raises(ValueError, match=r"it holds more than .* texts, or 256 MiB of them"):
        texts(column)


def test_bytes_of_one_length_count_for_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    values = pa.array([None] * 50, pa.binary(1_000))
    monkeypatch.setattr(parquet_size, "MAX_PAGE_BYTES", 50_000 - 1)
    with pytest.raises(ValueError, match="values"):
        read_bounded(parquet(pa.table({"b": values})))


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_all_of_a_feather_file_is_counted(
    monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    data = feather(mixed(3000), compression=compression, chunksize=1000)
    assert read_bounded(data).equals(mixed(3000))
    monkeypatch.setattr(feather_size, "MAX_VALUES", 3 * 3000 + 3)  # the dictionary has three
    check_feather_size(data)
    monkeypatch.setattr(feather_size, "MAX_VALUES", 3 * 3000 + 2)
    with pytest.raises(ValueError, match="values"):
        check_feather_size(data)


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_feather_file_that_unpacks_to_too_much_is_refused_unread(
    monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    data = feather(pa.table({"x": np.zeros(1 << 20)}), compression=compression)
    assert len(data) < 50_000
    monkeypatch.setattr(feather_size, "MAX_PAGE_BYTES", 8 << 20)
    check_feather_size(data)
    monkeypatch.setattr(feather_size, "MAX_PAGE_BYTES", (8 << 20) - 1)
    before = pa.total_allocated_bytes()
    with pytest.raises(ValueError, match="values"):
        read_bounded(data)
    assert pa.total_allocated_bytes() == before


def test_columns_without_bytes_are_counted() -> None:
    empty = pa.table({"n": pa.nulls(1 << 27)})
    with pytest.raises(ValueError, match="values"):
        check_feather_size(feather(empty))


def test_the_first_version_of_feather_and_other_files_are_refused() -> None:
    data = b"FEA1" + bytes(40)
    with pytest.raises(ValueError, match="version 1"):
        read_bounded(data)
    with pytest.raises(ValueError, match="parquet"):
        read_bounded(b"PK\x03\x04" + bytes(40))
    with pytest.raises(ValueError, match="feather"):
        read_bounded(b"ARROW1" + bytes(40))


def test_texts_come_back_from_any_encoding() -> None:
    table = mixed(10)
    for data in (parquet(table), feather(table), feather(table, compression="lz4")):
        found = read_bounded(data, ["label", "name", "nothing"])
        assert found.column_names == ["label", "name"]
        for name in ("label", "name"):
            assert is_text(found[name].type)
            assert texts(found[name]).tolist() == table[name].to_pylist()
    assert not is_text(pa.float64())


@pytest.mark.parametrize("write", [parquet, feather])
@given(at=st.floats(0, 0.9999), flip=st.integers(1, 255), keep=st.floats(0, 1))
def test_damaged_files_raise_a_value_error_or_pass(
    write: Callable[[pa.Table], bytes], at: float, flip: int, keep: float
) -> None:
    data = bytearray(write(mixed(3)))
    data[int(len(data) * at)] ^= flip
    for damaged in (bytes(data), bytes(data)[: int(len(data) * keep)]):
        with contextlib.suppress(ValueError):
            found = read_bounded(damaged)
            for column in found.columns:
                if is_text(column.type):
                    texts(column)
