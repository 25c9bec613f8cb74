"""TFRecord files: framing, checksums, damage."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core.errors import SceneError
from omniloop.scenes.tfrecord import MAX_RECORD_BYTES, crc32c, masked, read_record, records
from tests.scenes.womd_made import framed


def bit_by_bit(data: bytes) -> int:
    """CRC-32C from its definition: polynomial division, lowest bit first."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_checksums_are_those_of_rfc_3720(data: bytes, checksum: int):
    assert crc32c(data) == checksum


@given(st.binary(max_size=40), st.integers(0, 6000))
def test_checksums_of_long_data_are_those_of_the_definition(seed: bytes, length: int):
    data = ((seed + b"\x01omniloop") * (length // (len(seed) + 9) + 1))[:length]
    assert crc32c(data) == bit_by_bit(data)


def test_a_record_is_framed_as_tensorflow_frames_it(tmp_path: Path):
    # Length 3, its masked CRC, the data, their masked CRC: worked out bit by bit.
    length = struct.pack("<Q", 3)

    def mask(crc: int) -> bytes:
        turned = ((crc >> 15) | (crc << 17)) & 0xFFFFFFFF
        return struct.pack("<I", (turned + 0xA282EAD8) & 0xFFFFFFFF)

    data = length + mask(bit_by_bit(length)) + b"abc" + mask(bit_by_bit(b"abc"))
    assert framed(b"abc") == data
    file = tmp_path / "x.tfrecord"
    file.write_bytes(data)
    (record,) = records(file)
    assert (record.number, record.start, record.length) == (0, 12, 3)
    assert read_record(record) == b"abc"


def test_records_follow_each_other_empty_ones_too(tmp_path: Path):
    file = tmp_path / "x.tfrecord"
    parts = [b"first", b"", b"x" * 5000]
    file.write_bytes(framed(*parts))
    assert [read_record(r) for r in records(file)] == parts
    assert [r.number for r in records(file)] == [0, 1, 2]


def header(length: int) -> bytes:
    packed = struct.pack("<Q", length)
    return packed + struct.pack("<I", masked(crc32c(packed)))


GOOD = framed(b"abc", b"defgh")
DAMAGED = {
    "empty": (b"", "is empty", ""),
    "cut in a header": (GOOD[:25], "cut off at byte 25", "record 1"),
    "cut in the data": (GOOD[:33], "cut off at byte 33", "record 1"),
    "cut in the last checksum": (GOOD[:-1], "cut off", "record 1"),
    "length changed": (b"\x04" + GOOD[1:], "fails its checksum", "record 0"),
    "gzip": (b"\x1f\x8b\x08" + bytes(40), "fails its checksum", "record 0"),
    "10 GB": (GOOD + header(10 << 30) + bytes(50), f"{10 << 30} bytes, more than {MAX_RECORD_BYTES}", "record 2"),
    "8 EB": (header(2**63) + bytes(50), "more than", "record 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_named_with_file_and_record(tmp_path: Path, case: str):
    data, what, where = DAMAGED[case]
    file = tmp_path / "bad.tfrecord"
    file.write_bytes(data)
    with pytest.raises(SceneError) as caught:
        list(records(file))
    assert what in caught.value.what
    assert str(file) in caught.value.where
    assert where in caught.value.where
    assert caught.value.remedy


@pytest.mark.parametrize("at", [12, 14, 15, 18])
def test_a_changed_byte_of_data_or_checksum_is_found_when_read(tmp_path: Path, at: int):
    data = bytearray(GOOD)
    data[at] ^= 1
    file = tmp_path / "bad.tfrecord"
    file.write_bytes(data)
    first, second = records(file)
    with pytest.raises(SceneError, match="3 bytes of data fail their checksum") as caught:
        read_record(first)
    assert caught.value.where == f"{file}, record 0"
    assert read_record(second) == b"defgh"


def test_a_file_that_shrank_after_it_was_listed_is_found_when_read(tmp_path: Path):
    file = tmp_path / "x.tfrecord"
    file.write_bytes(GOOD)
    _, second = records(file)
    file.write_bytes(GOOD[:-6])
    with pytest.raises(SceneError, match="shorter than when it was listed"):
        read_record(second)
