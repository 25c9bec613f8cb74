"""Records of TFRecord files, their checksums verified; no TensorFlow.

A record is its length (8 bytes, little-endian), the masked CRC-32C of these 8 bytes, the data,
and the masked CRC-32C of the data (tensorflow/core/lib/io/record_writer.h). CRC-32C is the
Castagnoli polynomial, 0x1EDC6F41 (RFC 3720, B.4); the mask is LevelDB's (util/crc32c.h).
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omniloop.core.errors import SceneError
from omniloop.scenes.build import damaged

HEADER_BYTES = 12
FOOTER_BYTES = 4
MAX_RECORD_BYTES = 512 << 20
"""Longer records are refused before anything of them is read."""

_POLYNOMIAL = np.uint32(0x82F63B78)  # bits in reverse order
_LANE_BYTES = 512
_NOT_TFRECORD = "give an uncompressed TFRecord file; if it is one, copy it again from the dataset"


@dataclass(frozen=True)
class Record:
    """Where a record's data lie in a file.

    Attributes:
        path: The file.
        number: From 0.
        start: Offset of the data's first byte.
        length: Bytes of data.
    """

    path: Path
    number: int
    start: int
    length: int

    @property
    def where(self) -> str:
        """File and number, for errors."""
        return f"{self.path}, record {self.number}"


def records(path: Path) -> Iterator[Record]:
    """The records of a file; their headers are read and verified, their data are not.

    Raises:
        SceneError: the file cannot be read or is empty, a length fails its checksum, is above
            `MAX_RECORD_BYTES`, or points beyond the end.
    """
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise damaged("is empty", str(path))
            yield from _records(file, path, size)
    except OSError as error:
        raise damaged(f"cannot be read: {error}", str(path)) from error


def _records(file: RawIOBase, path: Path, size: int) -> Iterator[Record]:
    at, number = 0, 0
    while at < size:
        where = f"{path}, record {number}"
        file.seek(at)
        header = file.read(HEADER_BYTES) or b""
        if len(header) < HEADER_BYTES:
            raise damaged(f"is cut off at byte {at + len(header)}, inside a record's header", where)
        length, checksum = struct.unpack("<QI", header)
        if masked(crc32c(header[:8])) != checksum:
            raise SceneError(
                f"the length at byte {at} fails its checksum", where=where, remedy=_NOT_TFRECORD
            )
        if length > MAX_RECORD_BYTES:
            raise SceneError(
                f"a record of {length} bytes, more than {MAX_RECORD_BYTES}", where=where,
                remedy="leave the file out: no scenario is as long",
            )  # fmt: skip
        start = at + HEADER_BYTES
        at = start + length + FOOTER_BYTES
        if at > size:
            raise damaged(f"is cut off at byte {size}, {at - size} bytes before the end", where)
        yield Record(path, number, start, length)
        number += 1


def read_record(record: Record) -> bytes:
    """The data of a record, its checksum verified.

    Raises:
        SceneError: the file cannot be read or has changed, or the data fail their checksum.
    """
    try:
        with record.path.open("rb") as file:
            file.seek(record.start)
            data = file.read(record.length)
            footer = file.read(FOOTER_BYTES)
    except OSError as error:
        raise damaged(f"cannot be read: {error}", record.where) from error
    if len(data) < record.length or len(footer) < FOOTER_BYTES:
        raise damaged("is shorter than when it was listed", record.where)
    if masked(crc32c(data)) != struct.unpack("<I", footer)[0]:
        raise damaged(f"its {record.length} bytes of data fail their checksum", record.where)
    return data


def masked(crc: int) -> int:
    """The checksum as it is stored: rotated right by 15 bits, plus a constant."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C of bytes.

    Long data are cut into pieces of equal length that go through the table side by side; the
    remainders are joined in pairs, the first of each carried over the length of the second.
    """
    values = np.frombuffer(data, dtype=np.uint8)
    width = 1 << max(0, (len(values) // _LANE_BYTES).bit_length() - 1)
    steps = len(values) // width if width > 1 else 0
    crc = np.uint32(0xFFFFFFFF)
    if steps:
        pieces = np.ascontiguousarray(values[: width * steps].reshape(width, steps).T)
        lanes = np.zeros(width, dtype=np.uint32)
        lanes[0] = crc
        table = _table()
        for row in pieces:
            lanes = table[(lanes ^ row) & 0xFF] ^ (lanes >> 8)
        over = _zeros(steps)
        while len(lanes) > 1:
            lanes = _apply(over, lanes[0::2]) ^ lanes[1::2]
            over = _apply(over, over)
        crc = lanes[0]
    out, rest = int(crc), _table().tolist()
    for byte in data[width * steps :]:
        out = rest[(out ^ byte) & 0xFF] ^ (out >> 8)
    return out ^ 0xFFFFFFFF


@functools.cache
def _table() -> NDArray[np.uint32]:
    """Remainders ``(256,)`` of the single bytes."""
    out = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        out = np.where(out & 1, (out >> 1) ^ _POLYNOMIAL, out >> 1).astype(np.uint32)
    return out


def _zeros(count: int) -> NDArray[np.uint32]:
    """The linear map of a remainder over `count` zero bytes: images ``(32,)`` of the bits."""
    step = np.uint32(1) << np.arange(32, dtype=np.uint32)
    out = step
    step = _table()[step & 0xFF] ^ (step >> 8)
    while count:
        if count & 1:
            out = _apply(step, out)
        step = _apply(step, step)
        count >>= 1
    return out


def _apply(images: NDArray[np.uint32], values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """A linear map over GF(2), given by its images ``(32,)`` of the bits, of values ``(N,)``."""
    out = np.zeros_like(values)
    for bit in range(32):
        out ^= np.where((values >> np.uint32(bit)) & 1, images[bit], np.uint32(0))
    return out
