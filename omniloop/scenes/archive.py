"""Members of an untrusted zip with a scene: named, bounded, never written to disk.

A USDZ archive also holds checkpoints of gigabytes; a log of a stranger brings a native bundle.
Nothing is unpacked: only members that a reader asks for are opened, and of these no more is
read than their kind may have. Names
that lead out of a folder, links and members of one name are refused even where nobody asks
for them, as another program might unpack them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from omniloop.core.errors import SceneError

BROKEN_ZIP = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, struct.error,
)  # fmt: skip
"""What zipfile raises on damaged archives; RuntimeError also for encrypted members and for
compressions that are not there."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of every member that is written."""

_MAX_DIRECTORY_BYTES = 8 << 20
"""The list of members: each takes some 100 bytes in the file and a kilobyte in memory."""

_MAX_TOTAL_BYTES = 1 << 30
"""Of all members that are read."""

_MAX_RATIO = 250
_RATIO_FROM_BYTES = 1 << 20
"""From this size a member that unpacks to `_MAX_RATIO` times as much is a bomb: JSON of poses
has a ratio of 3 to 20, deflate ends at 1032."""

_BLOCK = 1 << 20
_ENCRYPTED = 0x1
_AGAIN = "copy the file again, or write it again from its source"
_HOSTILE = "do not use the file: nothing that writes scenes makes such a member"


class SceneArchive:
    """An open archive; close it, or use it in a with statement.

    Args:
        source: The file's path, or what it holds.
        where: Its name for errors; None takes the path.

    Raises:
        SceneError: it cannot be read, is no regular file or no zip, or a member's name leads
            out of a folder, is a link, or is there twice.
    """

    def __init__(self, source: Path | bytes, where: str | None = None) -> None:
        self.where = where or (str(source) if isinstance(source, Path) else "the archive")
        self._left_bytes = _MAX_TOTAL_BYTES
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(self._opened(source))
                _check_directory(file, self.where)
                self._zip = stack.enter_context(zipfile.ZipFile(file))
            except BROKEN_ZIP as error:
                raise self._damaged(error) from error
            self._infos = self._checked()
            self._stack = stack.pop_all()

    def __enter__(self) -> SceneArchive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def names(self) -> tuple[str, ...]:
        """Members in the order of the archive, folders left out."""
        return tuple(self._infos)

    def __contains__(self, name: str) -> bool:
        return name in self._infos

    def under(self, folder: str) -> tuple[str, ...]:
        """Sorted names of the members below a folder such as ``clipgt/``."""
        return tuple(sorted(name for name in self._infos if name.startswith(folder)))

    def place(self, name: str) -> str:
        """File and member, for errors."""
        return f"{self.where}, {name}"

    def read(self, name: str, max_bytes: int) -> bytes:
        """Read one member.

        Args:
            max_bytes: A larger one is refused before it is read.

        Raises:
            SceneError: it is missing, too large, encrypted, damaged or a bomb.
        """
        if name not in self._infos:
            raise SceneError(f"member '{name}' is missing", where=self.where, remedy=_AGAIN)
        declared = self._infos[name].file_size
        if declared > min(max_bytes, self._left_bytes):
            raise SceneError(
                f"the member says it has {declared} bytes, and {min(max_bytes, self._left_bytes)} may be read",
                where=self.place(name), remedy="cut the scene into shorter ones, or thin out that member",
            )  # fmt: skip
        data = b"".join(self.blocks(name))
        self._left_bytes -= len(data)
        return data

    def blocks(self, name: str) -> Iterator[bytes]:
        """A member in blocks of at most 1 MiB.

        Raises:
            SceneError: it is encrypted, damaged, or unpacks to far more than it is.
        """
        info = self._infos[name]
        if info.flag_bits & _ENCRYPTED:
            raise SceneError(
                "the member is encrypted", where=self.place(name),
                remedy="write the archive without a password",
            )  # fmt: skip
        count = 0
        try:
            with self._zip.open(info) as file:
                while block := file.read(_BLOCK):
                    count += len(block)
                    if count > _RATIO_FROM_BYTES and count > _MAX_RATIO * info.compress_size:
                        raise SceneError(
                            f"{info.compress_size} bytes unpack to more than {_MAX_RATIO} times as many",
                            where=self.place(name), remedy=_HOSTILE,
                        )  # fmt: skip
                    yield block
        except (*BROKEN_ZIP, NotImplementedError) as error:
            raise SceneError(
                f"the member cannot be unpacked: {str(error) or type(error).__name__}",
                where=self.place(name), remedy=_AGAIN,
            ) from error  # fmt: skip

    def sha256(self, name: str) -> str:
        """The SHA-256 of a member in hexadecimal.

        Raises:
            SceneError: as of `blocks`, or more bytes are read from the archive than may be.
        """
        found = hashlib.sha256()
        count = 0
        for block in self.blocks(name):
            found.update(block)
            count += len(block)
            if count > _MAX_TOTAL_BYTES:
                raise SceneError(
                    f"the member has more than {_MAX_TOTAL_BYTES >> 20} MiB", where=self.place(name),
                    remedy="cut the scene into shorter ones, or thin out that member",
                )  # fmt: skip
        return found.hexdigest()

    def size_bytes(self, name: str) -> int:
        """A member's size, as the archive says."""
        return self._infos[name].file_size

    def _opened(self, source: Path | bytes) -> BinaryIO:
        if isinstance(source, bytes):
            return io.BytesIO(source)
        if source.exists() and not source.is_file():  # opening a pipe would wait without end
            raise ValueError("it is no regular file")
        return source.open("rb")

    def _damaged(self, error: Exception) -> SceneError:
        what = str(error) or type(error).__name__
        return SceneError(f"not a readable zip: {what}", where=self.where, remedy=_AGAIN)

    def _checked(self) -> dict[str, zipfile.ZipInfo]:
        infos: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            name = info.orig_filename
            parts = name.replace("\\", "/").split("/")
            if name.startswith(("/", "\\")) or ".." in parts or re.match("[A-Za-z]:", name):
                raise self._hostile(name, "has a path that leads out of the archive")
            if "\\" in name or "\0" in name or not name:
                raise self._hostile(name, "has a name with a backslash or a zero, or none")
            if stat.S_ISLNK(info.external_attr >> 16):
                raise self._hostile(name, "is a symbolic link")
            if name in infos:
                raise self._hostile(name, "is there twice")
            if not info.is_dir():
                infos[name] = info
        return infos

    def _hostile(self, name: str, what: str) -> SceneError:
        return SceneError(f"member {name!r:.200} {what}", where=self.where, remedy=_HOSTILE)


def _check_directory(file: BinaryIO, where: str) -> None:
    """Refuse a list of members that would fill the memory before any of them is looked at."""
    end, locator = struct.Struct("<4s4H2LH"), struct.Struct("<4sLQL")
    size = file.seek(0, 2)
    file.seek(max(size - end.size - 0xFFFF - locator.size, 0))
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + end.size > len(tail):
        raise zipfile.BadZipFile("it has no end of the list of members: is the file cut off?")
    directory_bytes = end.unpack_from(tail, at)[5]
    if at >= locator.size and tail[at - locator.size :][:4] == b"PK\x06\x07":
        file.seek(locator.unpack_from(tail, at - locator.size)[2])
        record = file.read(56)
        if record[:4] == b"PK\x06\x06" and len(record) == 56:
            directory_bytes = max(
                directory_bytes if directory_bytes != 0xFFFFFFFF else 0,
                struct.unpack_from("<Q", record, 40)[0],
            )
    if directory_bytes > _MAX_DIRECTORY_BYTES:
        raise SceneError(
            f"its list of members has {directory_bytes} bytes, and {_MAX_DIRECTORY_BYTES} may be read",
            where=where, remedy="remove members that no simulator reads",
        )  # fmt: skip
