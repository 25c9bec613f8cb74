"""Framing of ASL logs: exact bytes, cut tails, foreign files, bounded memory."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core.errors import RunFolderError
from omniloop.services.asl_file import MAX_ENTRY_BYTES, AslReader, AslWriter, entry_bytes, read_asl
from omniloop.services.protos.common_pb2 import Empty
from omniloop.services.protos.egodriver_pb2 import DriveRequest
from omniloop.services.protos.logging_pb2 import ActorPoses, LogEntry, RolloutMetadata
from tests.memory import traced_peak

METADATA = RolloutMetadata(session_metadata=RolloutMetadata.SessionMetadata(scene_id="a"))
REQUEST = DriveRequest(session_uuid="u", time_now_us=5)

GOLDEN = bytes.fromhex(
    "00000007" "0a05" "0a03" "120161"  # rollout_metadata { session_metadata { scene_id "a" } }
    "0000000e" "220c" "0a0175" "190500000000000000"  # driver_request { uuid "u", now 5 }
    "00000003" "b20100"  # available_ego_masks_request {}
)  # fmt: skip


def write(path: Path) -> Path:
    with AslWriter(path) as log:
        log.write("rollout_metadata", METADATA)
        log.write("driver_request", REQUEST.SerializeToString())
        log.write("available_ego_masks_request", Empty())
    return path


def test_a_log_is_a_big_endian_length_and_a_log_entry_over_and_over(tmp_path: Path) -> None:
    assert write(tmp_path / "x.asl").read_bytes() == GOLDEN


def test_what_is_written_is_read(tmp_path: Path) -> None:
    reader = AslReader(write(tmp_path / "x.asl"))
    assert list(reader) == [
        LogEntry(rollout_metadata=METADATA),
        LogEntry(driver_request=REQUEST),
        LogEntry(available_ego_masks_request=Empty()),
    ]
    assert reader.problem == ""
    assert reader.notes() == []


@given(st.integers(0, 2**64 - 1), st.lists(st.text(max_size=5), max_size=3))
def test_entries_are_the_bytes_that_protobuf_writes(time_us: int, names: list[str]) -> None:
    poses = [ActorPoses.ActorPose(actor_id=name) for name in names]
    message = ActorPoses(timestamp_us=time_us, actor_poses=poses)
    expected = LogEntry(actor_poses=message).SerializeToString(deterministic=True)
    assert entry_bytes("actor_poses", message) == expected
    assert entry_bytes("actor_poses", message.SerializeToString()) == expected


@pytest.mark.parametrize("cut", range(12, len(GOLDEN)))
def test_a_cut_tail_gives_the_entries_before_it_and_says_where(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.asl"
    path.write_bytes(GOLDEN[:cut])
    reader = AslReader(path)
    starts = [0, 11, 29, len(GOLDEN)]
    whole = max(n for n, start in enumerate(starts) if start <= cut)
    assert len(list(reader)) == whole
    if cut in starts:
        assert reader.problem == ""
    else:
        assert f"byte {starts[whole]} of {cut}" in reader.problem
        assert f"{cut - starts[whole]} byte(s)" in reader.problem


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"", "empty"),
        (b"\x00\x00", "holds 2 bytes"),
        (b"\x89MCAP0\r\n" + bytes(50), "an MCAP file"),
        (b"\x1f\x8b\x08" + bytes(50), "gzip"),
        (b"PK\x03\x04" + bytes(50), "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
        (b"\xff\xff\xff\xff\x0a" + bytes(50), "4294967295 bytes of 55"),
        (b"hello, world, this is text", "68 65 6c 6c"),
        (b"\x00\x00\x00\x05\x12" + bytes(50), "no length of a rollout_metadata"),
        (GOLDEN[:8], "cut off in its first entry: 7 bytes are declared and 4 are there"),
    ],
)
def test_a_foreign_file_is_named(tmp_path: Path, head: bytes, said: str) -> None:
    path = tmp_path / "foreign.asl"
    path.write_bytes(head)
    with pytest.raises(RunFolderError, match=str(path)) as caught:
        read_asl(path)
    assert said in caught.value.what


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"none\.asl"):
        AslReader(tmp_path / "none.asl")


def test_a_length_beyond_the_file_is_a_cut_and_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.asl"
    path.write_bytes(GOLDEN[:11] + struct.pack(">I", 4_000_000_000) + b"\x22" * 100)
    reader = AslReader(path)
    with traced_peak() as peak:
        assert len(list(reader)) == 1
    assert "cut off at byte 11 of 115" in reader.problem
    assert peak.size < 64 << 20  # whatever else goes on in this process; 4 GB are declared


def test_an_entry_longer_than_any_is_not_read_even_where_the_file_has_it(tmp_path: Path) -> None:
    path = tmp_path / "sparse.asl"
    with path.open("wb") as file:
        file.write(GOLDEN[:11] + struct.pack(">I", MAX_ENTRY_BYTES + 1))
        file.truncate(MAX_ENTRY_BYTES + 100)
    reader = AslReader(path)
    assert len(list(reader)) == 1
    assert f"an entry of {MAX_ENTRY_BYTES + 1} bytes" in reader.problem


def test_a_damaged_entry_ends_the_log(tmp_path: Path) -> None:
    path = tmp_path / "damaged.asl"
    path.write_bytes(GOLDEN[:11] + struct.pack(">I", 4) + b"\x22\x7f\x00\x00" + GOLDEN[11:])
    reader = AslReader(path)
    assert len(list(reader)) == 1
    assert "damaged at byte 11" in reader.problem


def test_entries_of_unknown_kinds_are_given_with_their_bytes_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "new.asl"
    unknown = bytes.fromhex("ba0903010203")  # field 151, three bytes
    framed = struct.pack(">I", len(unknown)) + unknown
    path.write_bytes(GOLDEN[:11] + framed + framed + struct.pack(">I", 0) + GOLDEN[11:])
    reader = AslReader(path)
    entries = list(reader)
    assert len(entries) == 6
    assert entries[1].WhichOneof("log_entry") is None
    assert entries[1].SerializeToString() == unknown
    assert reader.unknown == {151: 2, 0: 1}
    assert any("2 entries of kind 151" in note for note in reader.notes())


def test_readers_never_see_half_a_log(tmp_path: Path) -> None:
    path = write(tmp_path / "x.asl")

    def fail() -> None:
        with AslWriter(path) as log:
            log.write("rollout_metadata", METADATA)
            assert path.read_bytes() == GOLDEN
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == GOLDEN
    assert [p.name for p in tmp_path.iterdir()] == ["x.asl"]


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="nowhere"), AslWriter(tmp_path / "nowhere" / "x.asl"):
        pass
