"""Reading a log back: messages in order, frames one by one, the record of the rollout."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lz4.frame  # type: ignore[import-untyped]
import zstandard
from google.protobuf.message import DecodeError
from mcap.exceptions import InvalidMagic, McapError
from mcap.records import Attachment, Channel, Chunk, Footer, McapRecord, Message
from mcap.stream_reader import StreamReader, breakup_chunk

from omniloop.core.contracts import CameraFrame
from omniloop.core.errors import RunFolderError
from omniloop.runlog import messages as topics
from omniloop.runlog.codec import decode, decode_plan
from omniloop.runlog.messages import FrameInfo, LogHeader, Observed
from omniloop.runlog.views import decode_image

_BROKEN = (McapError, struct.error, ValueError, RuntimeError, MemoryError, zstandard.ZstdError)
"""What mcap and the decompressors raise on bytes that are cut off or damaged."""

MAX_CHUNK_BYTES = 128 << 20
"""Of one chunk, unpacked; ours have 1 MiB, and of a message that is larger what it needs."""

_RUN_AGAIN = "run the rollout again: run.resume=true, with its result.json removed"


@dataclass(frozen=True)
class LogMessage:
    """One message as it is in the file."""

    topic: str
    time_us: int
    data: bytes


@dataclass(frozen=True, eq=False)
class LogEvent:
    """One decoded message of the loop.

    Attributes:
        topic: One of `omniloop.runlog.messages`.
        value: What `omniloop.runlog.codec.decode` returns for the topic; for plans a
            `omniloop.core.record.Decision`.
    """

    topic: str
    time_us: int
    value: Any


class LogReader:
    """Reads a log in the order in which it was written.

    A log that is cut off or damaged gives every message before that place; `problem`
    then says what is wrong. Each iteration reads the file anew, a chunk at a time.

    Raises:
        RunFolderError: the file is missing, cannot be read, or is no MCAP file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._problem: str | None = None
        self._check_magic()

    @property
    def problem(self) -> str:
        """What is wrong with the file, empty if nothing is; known after an iteration."""
        if self._problem is None:
            for _ in self.messages(()):
                pass
        return self._problem or ""

    def messages(self, wanted: Collection[str] | None = None) -> Iterator[LogMessage]:
        """Messages of the topics wanted (all if None), in the file's order."""
        channels: dict[int, str] = {}
        for record in self._records():
            if isinstance(record, Channel):
                channels[record.id] = record.topic
            elif isinstance(record, Message):
                topic = channels.get(record.channel_id)
                if topic is None:
                    raise self.error(
                        f"a message is on channel {record.channel_id}, which the log lacks"
                    )
                if wanted is None or topic in wanted:
                    yield LogMessage(topic, record.log_time // 1000, record.data)

    def events(self, wanted: Collection[str] | None = None) -> Iterator[LogEvent]:
        """Decoded messages of the topics below ``/omniloop/`` that are wanted.

        Raises:
            RunFolderError: a message does not fit its topic, or is of a newer version.
        """
        observed: Observed | None = None
        needed = None if wanted is None else {*wanted, topics.OBSERVATION}
        for message in self.messages(needed):
            if not message.topic.startswith(topics.PREFIX):
                continue
            try:
                if message.topic == topics.PLAN:
                    value: Any = decode_plan(message.data, observed.route if observed else None)
                else:
                    value = decode(message.topic, message.data)
            except (DecodeError, ValueError, KeyError, IndexError) as error:
                raise RunFolderError(
                    f"a message on {message.topic} at {message.time_us} us cannot be read: {error}",
                    where=str(self.path),
                    remedy="read it with the version of omniloop that wrote it, or run the rollout again",
                ) from error
            if isinstance(value, Observed):
                observed = value
            if wanted is None or message.topic in wanted:
                yield LogEvent(message.topic, message.time_us, value)

    def header(self) -> LogHeader:
        """What the log begins with.

        Raises:
            RunFolderError: the log has none.
        """
        for event in self.events((topics.HEADER,)):
            if isinstance(event.value, LogHeader):
                return event.value
        raise self.error("the log has no header")

    def scene_bundle(self) -> bytes:
        """The scene bundle that the log carries.

        Raises:
            RunFolderError: the log has none, or one that is not what its header says.
        """
        expected = self.header().scene_sha256
        for record in self._records():
            if isinstance(record, Attachment) and record.name == topics.SCENE_ATTACHMENT:
                found = hashlib.sha256(record.data).hexdigest()
                if found != expected:
                    raise self.error(
                        f"{topics.SCENE_ATTACHMENT} has SHA-256 {found}, the header says {expected}"
                    )
                return bytes(record.data)
        raise self.error(f"the log has no attachment {topics.SCENE_ATTACHMENT}")

    def error(self, what: str) -> RunFolderError:
        """An error about this log."""
        detail = f" ({self._problem})" if self._problem else ""
        return RunFolderError(what + detail, where=str(self.path), remedy=_RUN_AGAIN)

    def _check_magic(self) -> None:
        try:
            with self.path.open("rb") as file:
                head = file.read(8)
        except OSError as error:
            raise RunFolderError(
                f"the log cannot be read: {error.strerror or error}", where=str(self.path),
                remedy="give the folder of a run that has finished",
            ) from error  # fmt: skip
        if not head.startswith(b"\x89MCAP0\r\n"):
            what = "is empty" if not head else "is no MCAP file"
            raise RunFolderError(f"the log {what}", where=str(self.path), remedy=_RUN_AGAIN)

    def _records(self) -> Iterator[McapRecord]:
        """Records up to the end of the file or to the first that is damaged."""
        with self.path.open("rb") as file:
            size = self.path.stat().st_size
            stream = StreamReader(
                file, emit_chunks=True, validate_crcs=True, record_size_limit=size
            )
            reader = iter(stream.records)
            while True:
                try:
                    record = next(reader)
                    inside = (
                        breakup_chunk(_unpacked(record), validate_crc=True)
                        if isinstance(record, Chunk)
                        else [record]
                    )
                except StopIteration:
                    break
                except _BROKEN as error:
                    self._problem = (
                        f"cut off or damaged near byte {file.tell()} of {size}: {_brief(error)}"
                    )
                    return
                if isinstance(record, Footer):
                    self._problem = ""
                yield from inside


def _unpacked(chunk: Chunk) -> Chunk:
    """The chunk without compression; no more is unpacked than it says, and than may be.

    Raises:
        ValueError: it says that it is too large, or holds more or less than it says.
    """
    size = chunk.uncompressed_size
    if size > MAX_CHUNK_BYTES:
        raise ValueError(f"a chunk of {size} bytes, {MAX_CHUNK_BYTES} at most")
    if chunk.compression == "zstd":
        data = zstandard.ZstdDecompressor().stream_reader(chunk.data).read(size + 1)
    elif chunk.compression == "lz4":
        data = lz4.frame.LZ4FrameDecompressor().decompress(chunk.data, max_length=size + 1)
    else:
        return chunk
    if len(data) != size:
        raise ValueError(f"a chunk that says it has {size} bytes unpacks to others")
    return replace(chunk, compression="", data=data)


def _brief(error: BaseException) -> str:
    if isinstance(error, InvalidMagic | struct.error):
        return "the file ends inside a record"
    return str(error) or type(error).__name__


def iter_frames(path: Path, camera_id: str | None = None) -> Iterator[CameraFrame]:
    """Delivered frames of one camera or of all, in order of delivery, one in memory at a time.

    Raises:
        RunFolderError: the log cannot be read, or a frame has no image. A log that is
            cut off gives the frames before that place.
    """
    reader = LogReader(path)
    waiting: FrameInfo | None = None
    for message in reader.messages():
        if message.topic == topics.FRAME:
            waiting = decode(topics.FRAME, message.data)
        elif message.topic.startswith(topics.CAMERA_PREFIX):
            if waiting is None or topics.CAMERA_PREFIX + waiting.camera_id != message.topic:
                raise reader.error(
                    f"an image on {message.topic} at {message.time_us} us has no times"
                )
            if camera_id is None or waiting.camera_id == camera_id:
                yield CameraFrame(
                    camera_id=waiting.camera_id, image=decode_image(message.data), start_us=waiting.start_us,
                    capture_us=waiting.capture_us, available_us=waiting.available_us,
                )  # fmt: skip
            waiting = None
