"""How much a parquet file holds, counted before anything of it is unpacked.

Runs of equal values take a few bytes whatever their length: a table of 500 bytes can hold a row
of 10^9 points, and one text of a megabyte in a dictionary can stand for a million of its kind.
Counts are taken from the file's footer and from the head of every page, both Thrift structs in
the compact protocol
(https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift). Of the
data only dictionaries of texts are unpacked, for the length of their longest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAX_VALUES = 1 << 26
"""Of all columns of a table: 8192 x 8192 heights."""

MAX_PAGE_BYTES = 1 << 30
"""Of all pages of a table once they are unpacked."""

MAX_TEXTS = 1 << 22
"""Of all columns of a table: as Python objects they take 60 bytes and more each."""

MAX_TEXT_BYTES = 256 << 20
"""Of all texts of a table, repeated ones counted as often as they are there."""

_MAX_FOOTER_BYTES = 4 << 20
_DEEPEST = 16

# Fields of the structs of parquet.thrift.
_SCHEMA, _NUM_ROWS, _ROW_GROUPS, _COLUMNS, _META = 2, 3, 4, 1, 3
_TYPE, _TYPE_LENGTH = 1, 2
_CODEC, _NUM_VALUES, _COMPRESSED_SIZE, _DATA_OFFSET, _DICTIONARY_OFFSET = 4, 5, 7, 9, 11
_PAGE_BYTES, _PAGE_COMPRESSED_BYTES = 2, 3
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 5, 7, 8
_ENCODING, _ENCODING_V2 = 2, 4

# Values of its enumerations.
_BYTE_ARRAY, _FIXED_LEN_BYTE_ARRAY = 6, 7
_FROM_DICTIONARY, _DELTA_BYTE_ARRAY = (2, 8), 7
_CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}

_DAMAGED = "its footer or the head of a page is damaged"


def check_parquet_size(data: bytes) -> None:
    """Refuse a parquet file that holds more than a table of a scene can.

    Raises:
        ValueError: it holds more values, texts or bytes than may be, or is damaged.
    """
    try:
        footer_bytes = int.from_bytes(data[-8:-4], "little")
        if data[-4:] != b"PAR1" or not 0 < footer_bytes <= len(data) - 8:
            raise ValueError("it does not end as a parquet file does")
        if footer_bytes > _MAX_FOOTER_BYTES:
            raise ValueError(f"its footer has {footer_bytes} bytes, {_MAX_FOOTER_BYTES} at most")
        footer = _Thrift(data, len(data) - 8 - footer_bytes).struct()
        if not 0 <= footer[_NUM_ROWS] <= MAX_VALUES:
            raise ValueError(f"it claims {footer[_NUM_ROWS]} rows, and {MAX_VALUES} values may be")
        leaves = [element for element in footer[_SCHEMA] if _TYPE in element]
        held = _Held()
        for group in footer.get(_ROW_GROUPS, ()):
            for leaf, column in zip(leaves, group[_COLUMNS], strict=True):
                _add_pages(held, data, leaf, column[_META])
                held.check()
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(_DAMAGED) from error


@dataclass
class _Held:
    """What was counted so far.

    Attributes:
        values: In all pages, dictionaries too.
        page_bytes: Of the pages once they are unpacked.
        texts: Those of the values that are texts.
        text_bytes: Of these texts, each repetition counted.
    """

    values: int = 0
    page_bytes: int = 0
    texts: int = 0
    text_bytes: int = 0

    def check(self) -> None:
        if self.values > MAX_VALUES or self.page_bytes > MAX_PAGE_BYTES:
            raise ValueError(
                f"it holds more than {MAX_VALUES} values, or {MAX_PAGE_BYTES >> 20} MiB of them"
            )
        if self.texts > MAX_TEXTS or self.text_bytes > MAX_TEXT_BYTES:
            raise ValueError(
                f"it holds more than {MAX_TEXTS} texts, or {MAX_TEXT_BYTES >> 20} MiB of them"
            )


def _add_pages(held: _Held, data: bytes, leaf: dict[int, Any], column: dict[int, Any]) -> None:
    """Count a column's pages, until there is too much."""
    wanted, at = column[_NUM_VALUES], column[_DATA_OFFSET]
    if wanted == 0:
        return
    dictionary = column.get(_DICTIONARY_OFFSET, 0)
    at = dictionary if 0 < dictionary < at else at
    end = at + column[_COMPRESSED_SIZE]
    if not 0 < at <= end <= len(data) or wanted > MAX_VALUES:
        raise ValueError(f"a column claims {wanted} values in bytes {at} to {end} of {len(data)}")
    read = longest = 0
    while read < wanted and at < end:
        thrift = _Thrift(data, at)
        page = thrift.struct()
        head = page.get(_DATA_PAGE) or page.get(_DATA_PAGE_V2)
        count = (head or page.get(_DICTIONARY_PAGE) or {1: 0})[1]
        page_bytes, packed_bytes = page[_PAGE_BYTES], page[_PAGE_COMPRESSED_BYTES]
        if min(count, page_bytes, packed_bytes) < 0:
            raise ValueError("a page has less than no bytes or values")
        held.values += count
        held.page_bytes += page_bytes
        if leaf[_TYPE] == _FIXED_LEN_BYTE_ARRAY:  # a null takes as much room once it is read
            held.page_bytes += count * leaf[_TYPE_LENGTH]
        elif leaf[_TYPE] == _BYTE_ARRAY:
            held.texts += count
            if head:
                encoding = head[_ENCODING_V2 if _DATA_PAGE_V2 in page else _ENCODING]
                held.text_bytes += _text_bytes(encoding, count, page_bytes, longest)
            elif count:
                held.text_bytes += page_bytes
                held.check()
                packed = data[thrift.at : thrift.at + packed_bytes]
                texts = _unpacked(packed, column.get(_CODEC, 0), page_bytes)
                longest = page_bytes if texts is None else max(longest, _longest(texts, count))
        held.check()
        read += count if head else 0
        at = thrift.at + packed_bytes


def _text_bytes(encoding: int, count: int, page_bytes: int, longest: int) -> int:
    """The most bytes that a page's texts take once each stands for itself."""
    if encoding in _FROM_DICTIONARY:
        return count * longest
    if encoding == _DELTA_BYTE_ARRAY:  # each may begin with all of the one before it
        return count * page_bytes
    return page_bytes


def _unpacked(packed: bytes, codec: int, page_bytes: int) -> bytes | None:
    """A page's bytes; None if its compression cannot be undone here."""
    import pyarrow as pa

    if codec == 0:
        return packed
    if codec not in _CODECS or not pa.Codec.is_available(_CODECS[codec]):
        return None
    try:
        found: bytes = pa.decompress(packed, page_bytes, codec=_CODECS[codec], asbytes=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"a dictionary cannot be unpacked: {error}") from error
    return found


def _longest(texts: bytes, count: int) -> int:
    """Length of the longest of `count` texts, each preceded by its length in 4 bytes."""
    at = longest = 0
    for _ in range(count):
        length = int.from_bytes(texts[at : at + 4], "little")
        at += 4 + length
        if at > len(texts):
            raise ValueError("a dictionary ends before its last text")
        longest = max(longest, length)
    return longest


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
                raise ValueError(_DAMAGED)

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """The fields of the struct here by their numbers."""
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
        if depth > _DEEPEST:
            raise ValueError(_DAMAGED)
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
                raise ValueError(_DAMAGED)
            return [self._value(head & 0x0F, depth + 1) for _ in range(count)]
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError(_DAMAGED)
