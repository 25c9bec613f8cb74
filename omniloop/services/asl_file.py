"""AlpaSim's log file: entries one after the other (alpasim.md 6.5).

Each is a 4-byte big-endian length and as many bytes of a serialised ``logging.LogEntry``.
There is no header, no checksum and no index.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from google.protobuf.message import DecodeError, Message

from omniloop.core.errors import RunFolderError
from omniloop.runlog.files import usable
from omniloop.runlog.wire import embedded
from omniloop.services.protos.logging_pb2 import LogEntry

MAX_ENTRY_BYTES = 256 << 20
"""Longer entries are not read: AlpaSim's own messages end at 64 to 100 MiB."""

_LENGTH = struct.Struct(">I")
_NUMBERS = {f.name: f.number for f in LogEntry.DESCRIPTOR.fields}
_METADATA_TAG = 0x0A
"""First byte of every log: the tag of `rollout_metadata`."""

_FOREIGN = (
    (b"\x89MCAP0", "an MCAP file, such as a log of Omniloop"),
    (b"\x1f\x8b", "compressed by gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (b"PK\x03\x04", "a zip archive"),
    (b"version https://git-lfs", "a pointer of Git LFS, without the file itself"),
)
_REMEDY = "give a rollout.asl that AlpaSim, or `omniloop convert --to asl`, has written"

_ROOM = "free some space or choose a writable place, then give the same command again"


def entry_bytes(name: str, message: Message | bytes) -> bytes:
    """A ``LogEntry`` with one field, serialised; a message may be serialised already."""
    data = message if isinstance(message, bytes) else message.SerializeToString(deterministic=True)
    return embedded(_NUMBERS[name], data)


class AslReader:
    """Reads a log in the order in which it was written.

    A cut tail is tolerated, as AlpaSim's readers do: what is before it is read, and `problem`
    tells of it. An entry of a kind that is not known is given as it is, its bytes among its
    unknown fields, and counted.

    Attributes:
        path: The file.
        problem: What is wrong with the file, empty if nothing is; known after an iteration.
        unknown: Field number to how many entries of that kind were met in the last iteration.

    Raises:
        RunFolderError: the file cannot be read, or is no such log.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        self.unknown: dict[int, int] = {}
        with usable(path, "read", _REMEDY):
            self._size = path.stat().st_size
            with path.open("rb") as file:
                self._check_head(file.read(64))

    def __iter__(self) -> Iterator[LogEntry]:
        """Entries, one in memory at a time."""
        self.problem, self.unknown = "", {}
        with usable(self.path, "read", _REMEDY), self.path.open("rb") as file:
            while head := file.read(_LENGTH.size):
                offset = file.tell() - len(head)
                length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
                left = self._size - offset - _LENGTH.size
                if len(head) < _LENGTH.size or length > left:
                    self.problem = (
                        f"cut off at byte {offset} of {self._size}: the last"
                        f" {self._size - offset} byte(s) are no whole entry"
                    )
                    return
                if length > MAX_ENTRY_BYTES:
                    self.problem = (
                        f"damaged at byte {offset}: an entry of {length} bytes, where"
                        f" {MAX_ENTRY_BYTES} is the most"
                    )
                    return
                data = file.read(length)
                try:
                    entry = LogEntry.FromString(data)
                except DecodeError as error:
                    self.problem = f"damaged at byte {offset} of {self._size}: {error}"
                    return
                if entry.WhichOneof("log_entry") is None:
                    number = _first_field(data)
                    self.unknown[number] = self.unknown.get(number, 0) + 1
                yield entry

    def notes(self) -> list[str]:
        """What a user should know after an iteration: the problem and the unknown entries."""
        out = [f"the ASL log is {self.problem}"] if self.problem else []
        for number, count in sorted(self.unknown.items()):
            what = f"of kind {number}, which is not known" if number else "that are empty"
            out.append(f"the ASL log has {count} entries {what}; they are passed over")
        return out

    def error(self, what: str, remedy: str = _REMEDY) -> RunFolderError:
        """An error about this log."""
        return RunFolderError(what, where=str(self.path), remedy=remedy)

    def _check_head(self, head: bytes) -> None:
        """Refuse what cannot be a log: its first entry is the rollout's metadata."""
        if not head:
            raise self.error("the ASL log is empty")
        for magic, what in _FOREIGN:
            if head.startswith(magic):
                raise self.error(f"the file is no ASL log: it is {what}")
        if len(head) <= _LENGTH.size:
            raise self.error(f"the file is no ASL log: it holds {len(head)} bytes")
        length = _LENGTH.unpack(head[: _LENGTH.size])[0]
        if head[_LENGTH.size] != _METADATA_TAG or not 0 < length <= MAX_ENTRY_BYTES:
            raise self.error(
                f"the file is no ASL log: it begins with {head[:8].hex(' ')}, which is no length of"
                f" a rollout_metadata entry (read as a length: {length} bytes of {self._size})"
            )
        if length > self._size - _LENGTH.size:
            raise self.error(
                f"the ASL log is cut off in its first entry: {length} bytes are declared and"
                f" {self._size - _LENGTH.size} are there"
            )


def read_asl(path: Path) -> Iterator[LogEntry]:
    """Entries of a log up to its end, or to where it is cut; see `AslReader`.

    Raises:
        RunFolderError: the file cannot be read, or is no such log.
    """
    return iter(AslReader(path))


def _first_field(data: bytes) -> int:
    """The number of the first field of a serialised message; 0 if there is none."""
    tag, shift = 0, 0
    for byte in data[:10]:
        tag |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return tag >> 3


class AslWriter:
    """Writes a log so that readers see all of it, or what was there before.

    Leaving the context without an error puts the file in its place.

    Args:
        path: The file; one that is there is replaced.

    Raises:
        RunFolderError: by any method, if the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def __enter__(self) -> AslWriter:
        with usable(self._path, "written", _ROOM):
            self._file = self._temporary.open("wb")
        return self

    def write(self, name: str, message: Message | bytes) -> None:
        """Append an entry: the name of its field in ``LogEntry``, and what it holds.

        Raises:
            ValueError: it is longer than `MAX_ENTRY_BYTES`.
        """
        data = entry_bytes(name, message)
        if len(data) > MAX_ENTRY_BYTES:
            raise ValueError(f"an entry '{name}' of {len(data)} bytes, {MAX_ENTRY_BYTES} at most")
        with usable(self._path, "written", _ROOM):
            self._file.write(_LENGTH.pack(len(data)) + data)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with usable(self._path, "written", _ROOM):
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                if error is None:
                    self._temporary.replace(self._path)
        finally:
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)
