"""How much a feather file holds, counted before anything of it is unpacked.

A feather file (version 2) is an Arrow IPC file: its footer names the places of its batches, and
the head of a batch the lengths of its columns and buffers; both are FlatBuffers
(https://github.com/apache/arrow/blob/main/format/File.fbs and Message.fbs). A compressed buffer
begins with its length before compression.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from omniloop.scenes.parquet_size import MAX_PAGE_BYTES, MAX_VALUES

MAGIC = b"ARROW1"

_MAX_BUFFERS = 1 << 20
"""Of all batches: each column has two or three in each."""

_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_CONTINUATION = 0xFFFFFFFF

# Fields of the tables of File.fbs and Message.fbs, from 0.
_FOOTER_DICTIONARIES, _FOOTER_BATCHES = 2, 3
_HEADER_TYPE, _HEADER = 1, 2
_DICTIONARY_DATA = 1
_LENGTH, _NODES, _BUFFERS, _COMPRESSION = 0, 1, 2, 3

_DAMAGED = "its footer or the head of a batch is damaged"


def check_feather_size(data: bytes) -> None:
    """Refuse a feather file that holds more than a table of a scene can.

    Raises:
        ValueError: it holds more values or bytes than may be, is of version 1, or is damaged.
    """
    if data[:4] == b"FEA1":
        raise ValueError("it is a feather file of version 1, and only version 2 is read")
    if len(data) < 20 or data[:6] != MAGIC or data[-6:] != MAGIC:
        raise ValueError("it does not begin and end as a feather file does")
    try:
        footer_bytes = _number(data, "<i", len(data) - 10)
        footer = _Table.root(data, len(data) - 10 - footer_bytes)
        values = unpacked = buffers = 0
        for block in _blocks(footer):
            rows, lengths = _batch(data, *block)
            values, unpacked = values + rows, unpacked + sum(lengths)
            buffers += len(lengths)
            if values > MAX_VALUES or unpacked > MAX_PAGE_BYTES or buffers > _MAX_BUFFERS:
                raise ValueError(
                    f"it holds more than {MAX_VALUES} values, {MAX_PAGE_BYTES >> 20} MiB of them, or"
                    f" {_MAX_BUFFERS} buffers"
                )
    except struct.error as error:
        raise ValueError(_DAMAGED) from error


def _number(data: bytes, form: str, at: int) -> int:
    if at < 0:  # would count from the end
        raise ValueError(_DAMAGED)
    return int(struct.unpack_from(form, data, at)[0])


class _Table:
    """A FlatBuffers table: the places of its fields are in a list that it points back to."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self._at = at
        self._fields_at = at - _number(data, "<i", at)
        self._fields_bytes = _number(data, "<H", self._fields_at)

    @classmethod
    def root(cls, data: bytes, at: int) -> _Table:
        """The outermost table of the message at a place."""
        return cls(data, at + _number(data, "<I", at))

    def place(self, field: int) -> int | None:
        """Where a field is; None if it is left out."""
        entry = 4 + 2 * field
        if entry + 2 > self._fields_bytes:
            return None
        offset = _number(self.data, "<H", self._fields_at + entry)
        return self._at + offset if offset else None

    def number(self, field: int, form: str) -> int:
        """A number; 0 if it is left out."""
        at = self.place(field)
        return 0 if at is None else _number(self.data, form, at)

    def table(self, field: int) -> _Table | None:
        """A table that the field points to."""
        at = self.place(field)
        return None if at is None else _Table(self.data, at + _number(self.data, "<I", at))

    def structs(self, field: int, size_bytes: int) -> tuple[int, int]:
        """Place and number of the structs that the field points to."""
        at = self.place(field)
        if at is None:
            return 0, 0
        at += _number(self.data, "<I", at)
        count = _number(self.data, "<I", at)
        if at + 4 + count * size_bytes > len(self.data):
            raise ValueError(_DAMAGED)
        return at + 4, count


def _blocks(footer: _Table) -> Iterator[tuple[int, int]]:
    """Place and bytes of the head of each batch."""
    for field in (_FOOTER_DICTIONARIES, _FOOTER_BATCHES):
        at, count = footer.structs(field, 24)
        if count > _MAX_BUFFERS:
            raise ValueError(f"it claims {count} batches")
        for k in range(count):
            place, head_bytes = struct.unpack_from("<qi", footer.data, at + 24 * k)
            if place < 0 or head_bytes < 0:
                raise ValueError(_DAMAGED)
            yield place, head_bytes


def _batch(data: bytes, at: int, head_bytes: int) -> tuple[int, list[int]]:
    """Values of a batch, and the bytes of each of its buffers once they are unpacked."""
    # Before Arrow 0.15 the mark was left out.
    start = at + (8 if _number(data, "<I", at) == _CONTINUATION else 4)
    message = _Table.root(data, start)
    kind, batch = message.number(_HEADER_TYPE, "<B"), message.table(_HEADER)
    if kind == _DICTIONARY_BATCH and batch is not None:
        batch = batch.table(_DICTIONARY_DATA)
    if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH) or batch is None:
        raise ValueError(_DAMAGED)
    rows = _pairs(batch, _NODES)[:, 0]
    buffers = _pairs(batch, _BUFFERS)
    values = batch.number(_LENGTH, "<q")
    if min(values, rows.min(initial=0), buffers.min(initial=0)) < 0 or len(buffers) > _MAX_BUFFERS:
        raise ValueError(_DAMAGED)
    values = max(values, sum(rows.tolist()))
    if batch.table(_COMPRESSION) is None:
        return values, buffers[:, 1].tolist()
    lengths = []
    for offset, length in buffers.tolist():
        whole = _number(data, "<q", at + head_bytes + offset) if length else 0
        lengths.append(length if whole == -1 else whole)  # -1: it was left as it is
    if min(lengths, default=0) < 0:
        raise ValueError(_DAMAGED)
    return values, lengths


def _pairs(batch: _Table, field: int) -> np.ndarray:
    """Structs of two numbers ``(N, 2)``: of a column or of a buffer."""
    at, count = batch.structs(field, 16)
    return np.frombuffer(batch.data, "<i8", 2 * count, at).reshape(-1, 2)
