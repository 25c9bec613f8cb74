"""Bulk arrays in protobuf's wire format.

A packed ``repeated double`` is, on the wire, the little-endian bytes of its float64
array, and a packed ``repeated sfixed64`` those of its int64 array. Writing these bytes
directly costs 1 us where the generated code's `extend` costs 10 us for 50 poses. The
generated code reads them as any other field.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LENGTH_DELIMITED = 2


@functools.lru_cache(maxsize=1 << 14)
def varint(value: int) -> bytes:
    """Encode a non-negative integer in base 128, lowest group first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def embedded(number: int, data: bytes) -> bytes:
    """Encode field `number` that holds a message, a string or bytes."""
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(len(data)) + data


def doubles(number: int, values: ArrayLike) -> bytes:
    """Encode ``repeated double`` field `number`, all dimensions flattened row by row."""
    array = np.asarray(values, dtype="<f8")
    return embedded(number, array.tobytes()) if array.size else b""


def sfixed64s(number: int, values: ArrayLike) -> bytes:
    """Encode ``repeated sfixed64`` field `number`."""
    array = np.asarray(values, dtype="<i8")
    return embedded(number, array.tobytes()) if array.size else b""


def float64s(values: Sequence[float], *shape: int) -> NDArray[np.float64]:
    """A decoded ``repeated double`` as an array of a shape.

    Raises:
        ValueError: the count of values does not fit the shape.
    """
    return np.array(values, dtype=np.float64).reshape(shape)


def int64s(values: Sequence[int]) -> NDArray[np.int64]:
    """A decoded ``repeated sfixed64`` or ``int32`` as an array ``(N,)``."""
    return np.array(values, dtype=np.int64)
