"""Reading back: every message, cut-off files, garbage."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from omniloop.core.errors import RunFolderError
from omniloop.runlog import messages as topics
from omniloop.runlog import writer
from omniloop.runlog.messages import End, FramesAsked, Notice, Observed
from omniloop.runlog.reader import LogReader, iter_frames
from omniloop.runlog.record import read_record
from omniloop.scenes.native import scene_to_bytes
from tests.memory import traced_peak
from tests.runlog.samples import PERIOD_US, START_US, assert_same_bits, make_scene, play


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CHUNK_BYTES", 6000)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    play(tmp_path / "log.mcap")
    return tmp_path / "log.mcap"


def prefixes(path: Path, steps: int) -> Iterator[tuple[int, Path]]:
    """The file cut off at evenly spread places, at its ends and near them."""
    data = path.read_bytes()
    near = [*range(30), *range(len(data) - 30, len(data))]
    for size in sorted({*near, *range(0, len(data), max(len(data) // steps, 1))}):
        cut = path.with_name("cut.mcap")
        cut.write_bytes(data[:size])
        yield size, cut


def test_observations_are_told_what_is_new(log: Path) -> None:
    seen = [e.value for e in LogReader(log).events((topics.OBSERVATION,))]
    assert all(isinstance(o, Observed) for o in seen)
    record = read_record(log)
    told = [t for o in seen for t in o.ego.times_us.tolist()]
    assert told == [t for t in record.ego.times_us.tolist() if t <= seen[-1].time_us]
    assert seen[0].privileged == ("actors",)
    assert seen[0].next_decision_us == seen[0].time_us + PERIOD_US
    t = seen[0].time_us
    assert seen[0].frames == {"camera_front_wide_120fov": ((t - 1, t),)}


def test_every_message_of_the_loop_is_there(log: Path) -> None:
    events = list(LogReader(log).events())
    kinds = [e.topic for e in events]
    n = 6
    expected = {
        topics.HEADER: 1, topics.COMMIT: n + 1, topics.FRAME: n, topics.OBSERVATION: n, topics.PLAN: n,
        topics.VEHICLE: n, topics.GROUND: 2 * n, topics.TRAFFIC: n, topics.RENDER_REQUEST: n,
        topics.NOTICE: 1, topics.END: 1,
    }  # fmt: skip
    assert {kind: kinds.count(kind) for kind in kinds} == expected
    notice, end = events[-2].value, events[-1].value
    assert isinstance(notice, Notice)
    assert notice.text == "one frame was dropped on purpose"
    assert end == End(START_US + 7 * PERIOD_US, "")


def test_frames_asked_for_have_their_times(log: Path) -> None:
    asked = next(LogReader(log).events((topics.RENDER_REQUEST,))).value
    assert isinstance(asked, FramesAsked)
    t = START_US + PERIOD_US
    assert asked.frames.capture_us.tolist() == [t + 33_333, t + 66_666]
    assert asked.frames.camera_index.tolist() == [0, 0]


def test_a_service_is_replayed_from_its_answers(log: Path) -> None:
    record = read_record(log)
    request, answer = next(LogReader(log).events((topics.VEHICLE,))).value
    assert (request.time_us, request.target_us, request.coerce) == (
        START_US + 100_000,
        START_US + 200_000,
        True,
    )
    assert_same_bits(request.plan_local_to_rig, record.decisions[0].plan.local_to_rig)
    assert len(answer) == 3
    time_us, traffic = next(LogReader(log).events((topics.TRAFFIC,))).value
    assert time_us == START_US + 100_000
    assert traffic.valid.shape == (3, 3)
    _, subject, result = list(LogReader(log).events((topics.GROUND,)))[1].value
    assert subject == "actors"
    assert result.status.tolist() == [i % 5 for i in range(len(result.local_to_aabb))]


def test_frames_come_in_order_with_their_times(tmp_path: Path, small_chunks: None) -> None:
    play(tmp_path / "log.mcap", images=3, image_bytes=4000)
    frames = list(iter_frames(tmp_path / "log.mcap"))
    assert len(frames) == 18
    assert all(f.image.startswith(b"\xff\xd8") and len(f.image) == 4002 for f in frames)
    assert len({f.image for f in frames}) == 18
    assert [f.available_us for f in frames] == sorted(f.available_us for f in frames)
    assert all(f.start_us < f.capture_us <= f.available_us for f in frames)
    assert list(iter_frames(tmp_path / "log.mcap", "another_camera")) == []
    named = list(iter_frames(tmp_path / "log.mcap", "camera_front_wide_120fov"))
    assert [f.image for f in named] == [f.image for f in frames]


def test_reading_a_record_leaves_images_alone(tmp_path: Path) -> None:
    play(tmp_path / "log.mcap", images=5, image_bytes=1 << 20)
    assert (tmp_path / "log.mcap").stat().st_size > 30 << 20
    with traced_peak() as peak:
        read_record(tmp_path / "log.mcap")
    assert peak.size < 12 << 20


def test_a_whole_log_has_no_problem(log: Path) -> None:
    reader = LogReader(log)
    assert reader.problem == ""
    assert list(reader.messages()) == list(reader.messages())


def test_a_cut_off_log_gives_a_prefix_and_says_so(tmp_path: Path, small_chunks: None) -> None:
    play(tmp_path / "log.mcap", n=8)
    whole = list(LogReader(tmp_path / "log.mcap").messages())
    found = set()
    for size, cut in prefixes(tmp_path / "log.mcap", 150):
        if size < 8:
            with pytest.raises(RunFolderError, match=r"is empty|is no MCAP file"):
                LogReader(cut)
            continue
        reader = LogReader(cut)
        messages = list(reader.messages())
        assert messages == whole[: len(messages)]
        assert "cut off or damaged near byte" in reader.problem
        found.add(len(messages))
    assert len(found) > 10


def test_a_record_of_a_cut_off_log_is_a_prefix(tmp_path: Path, small_chunks: None) -> None:
    path = tmp_path / "log.mcap"
    whole = play(path, n=8)
    scene = make_scene()
    lengths = set()
    for size, cut in prefixes(path, 40):
        if size < 8:
            continue
        with pytest.raises(RunFolderError, match="cut off"):
            read_record(cut, scene=scene)
        try:
            part = read_record(cut, scene=scene, allow_cut_off=True)
        except RunFolderError as error:
            assert "the log h" in error.what  # noqa: PT017 - both are allowed here
            continue
        n = len(part.ego)
        assert part.ego.times_us.tolist() == whole.ego.times_us[:n].tolist()
        assert part.ego.dynamics.tobytes() == whole.ego.dynamics[:n].tobytes()
        t = len(part.actors.times_us)
        assert part.actors.local_to_aabb.tobytes() == whole.actors.local_to_aabb[:, :t].tobytes()
        assert_same_bits(part.decisions, whole.decisions[: len(part.decisions)])
        lengths.add(n)
    assert len(lengths) > 3


def test_flipped_bits_are_noticed(tmp_path: Path, small_chunks: None) -> None:
    path = tmp_path / "log.mcap"
    play(path, n=8)
    whole = list(LogReader(path).messages())
    data = path.read_bytes()
    start = data.index(b"PK\x05\x06") + 400  # beyond the scene, which has its own hash
    end = len(data) - 12_000  # before the summary, which is not needed to read the messages
    for at in range(start, end, max((end - start) // 60, 1)):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        other = tmp_path / "damaged.mcap"
        other.write_bytes(damaged)
        reader = LogReader(other)
        try:
            messages = list(reader.messages())
        except RunFolderError:
            continue
        assert messages == whole[: len(messages)]


def test_a_damaged_scene_is_noticed(log: Path) -> None:
    data = log.read_bytes()
    bundle = scene_to_bytes(make_scene())
    at = data.index(bundle) + len(bundle) // 2
    log.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(RunFolderError, match="SHA-256"):
        read_record(log)


@pytest.mark.parametrize(
    "data", [b"", b"\x89MCAP1\r\n" * 9, b"not a log at all", b"\x89PNG\r\n\x1a\n" * 100]
)
def test_garbage_is_refused_with_its_path(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "log.mcap"
    path.write_bytes(data)
    with pytest.raises(RunFolderError, match=r"is empty|is no MCAP file") as caught:
        read_record(path)
    assert caught.value.where == str(path)


def test_garbage_behind_the_magic_is_an_incomplete_log(tmp_path: Path) -> None:
    path = tmp_path / "log.mcap"
    for tail in (b"\xff" * 100, b"\x01" + b"\xff" * 8, bytes(1000), b"\x06\x10" + bytes(40)):
        path.write_bytes(b"\x89MCAP0\r\n" + tail)
        with pytest.raises(RunFolderError, match="incomplete"):
            read_record(path)


def test_a_missing_log_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="No such file"):
        read_record(tmp_path / "log.mcap")
    with pytest.raises(RunFolderError, match="Is a directory"):
        LogReader(tmp_path)


@pytest.mark.parametrize(
    ("compression", "said"), [("zstd", 1 << 40), ("zstd", 1000), ("lz4", 1 << 40), ("lz4", 1000)]
)
def test_a_chunk_that_unpacks_to_gigabytes_is_damage(
    tmp_path: Path, compression: str, said: int
) -> None:
    import lz4.frame
    import zstandard

    zeros = bytes(64 << 20)
    pack = zstandard.compress if compression == "zstd" else lz4.frame.compress
    name, packed = compression.encode(), pack(zeros)
    del zeros
    chunk = struct.pack("<QQQI", 0, 0, said, 0) + struct.pack("<I", len(name)) + name
    chunk += struct.pack("<Q", len(packed)) + packed
    head = struct.pack("<II", 0, 0)
    records = (b"\x01", head), (b"\x06", chunk)
    data = b"".join(opcode + struct.pack("<Q", len(body)) + body for opcode, body in records)
    (tmp_path / "log.mcap").write_bytes(b"\x89MCAP0\r\n" + data)
    with traced_peak() as peak:
        assert "a chunk" in LogReader(tmp_path / "log.mcap").problem
    assert peak.size < 8 << 20
