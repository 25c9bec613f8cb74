"""How much a parquet file holds, counted before anything of it is unpacked.

Runs of equal values take a few bytes whatever their length: a table of 500 bytes can hold a row
of 10^9 points. Counts are taken from the file's footer and from the head of every page, both
Thrift structs in the compact protocol
(https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift).
"""

from __future__ import annotations

from typing import Any

MAX_VALUES = 1 << 26
"""Of all columns of a table: 8192 x 8192 heights."""

MAX_PAGE_BYTES = 1 << 30
"""Of all pages of a table once they are unpacked."""

_MAX_FOOTER_BYTES = 4 << 20
_DEEPEST = 16

# Fields of the structs of parquet.thrift.
_ROW_GROUPS, _COLUMNS, _META = 4, 1, 3
_NUM_VALUES, _COMPRESSED_SIZE, _DATA_OFFSET, _DICTIONARY_OFFSET = 5, 7, 9, 11
_PAGE_BYTES, _PAGE_COMPRESSED_BYTES = 2, 3
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 5, 7, 8


def check_parquet_size(data: bytes) -> None:
    """Refuse a parquet file that holds more than a table of a scene can.

    Raises:
        ValueError: it holds more values or bytes than may be, or is damaged.
    """
    try:
        footer_bytes = int.from_bytes(data[-8:-4], "little")
        if data[-4:] != b"PAR1" or not 0 < footer_bytes <= len(data) - 8:
            raise ValueError("it does not end as a parquet file does")
        if footer_bytes > _MAX_FOOTER_BYTES:
            raise ValueError(f"its footer has {footer_bytes} bytes, {_MAX_FOOTER_BYTES} at most")
        footer = _Thrift(data, len(data) - 8 - footer_bytes).struct()
        columns = [
            column[_META] for group in footer.get(_ROW_GROUPS, ()) for column in group[_COLUMNS]
        ]
        values = unpacked = 0
        for column in columns:
            more_values, more_bytes = _pages(data, column)
            values, unpacked = values + more_values, unpacked + more_bytes
            if values > MAX_VALUES or unpacked > MAX_PAGE_BYTES:
                raise ValueError(
                    f"it holds more than {MAX_VALUES} values, or {MAX_PAGE_BYTES >> 20} MiB of them"
                )
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("its footer or the head of a page is damaged") from error


def _pages(data: bytes, column: dict[int, Any]) -> tuple[int, int]:
    """Values in a column's pages, dictionaries too, and the bytes that these unpack to."""
    wanted, at = column[_NUM_VALUES], column[_DATA_OFFSET]
    if wanted == 0:
        return 0, 0
    dictionary = column.get(_DICTIONARY_OFFSET, 0)
    at = dictionary if 0 < dictionary < at else at
    end = at + column[_COMPRESSED_SIZE]
    if not 0 < at <= end <= len(data) or wanted > MAX_VALUES:
        raise ValueError(f"a column claims {wanted} values in bytes {at} to {end} of {len(data)}")
    read = values = unpacked = 0
    while read < wanted and at < end:
        thrift = _Thrift(data, at)
        page = thrift.struct()
        head = page.get(_DATA_PAGE) or page.get(_DATA_PAGE_V2)
        count = (head or page.get(_DICTIONARY_PAGE) or {1: 0})[1]
        if min(count, page[_PAGE_BYTES], page[_PAGE_COMPRESSED_BYTES]) < 0:
            raise ValueError("a page has less than no bytes or values")
        read += count if head else 0
        values += count
        unpacked += page[_PAGE_BYTES]
        if values > MAX_VALUES or unpacked > MAX_PAGE_BYTES:
            break
        at = thrift.at + page[_PAGE_COMPRESSED_BYTES]
    return values, unpacked


class _Thrift:
    """Reads structs of Thrift's compact protocol; texts are passed over."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("its footer or the head of a page is damaged")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """The fields of the struct here by their numbers."""
        if depth > _DEEPEST:
            raise ValueError("its footer or the head of a page is damaged")
        out: dict[int, Any] = {}
        number = 0
        while (head := self._data[self.at]) != 0:
            self.at += 1
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 0x0F
            out[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        self.at += 1
        return out

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2, 3):  # in lists a truth value takes a byte
            self.at += 1
            return None
        if kind in (4, 5, 6):
            return self._integer()
        if kind == 7:
            self.at += 8
            return None
        if kind == 8:
            length = self._varint()
            self.at += length
            return None
        if kind in (9, 10):
            head = self._data[self.at]
            self.at += 1
            count = head >> 4 if head >> 4 < 15 else self._varint()
            if count > _MAX_FOOTER_BYTES:
                raise ValueError("its footer or the head of a page is damaged")
            return [self._value(head & 0x0F, depth + 1) for _ in range(count)]
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError("its footer or the head of a page is damaged")
