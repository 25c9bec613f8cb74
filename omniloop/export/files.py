"""Files of an export: hashed as they are written, whole or not there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omniloop.runlog.files import usable

_REMEDY = "free some space, then give the same command again: the export goes on"

_SYNCING = 8
"""Files that are synced at once: a file system commits together what is asked for together."""


def writable(path: Path, doing: str = "written") -> contextlib.AbstractContextManager[None]:
    """Turn an operating system's refusal into an error that names the file and how to go on."""
    return usable(path, doing, _REMEDY)


@dataclass(frozen=True)
class Written:
    """A file of the export.

    Attributes:
        name: Path in the export's folder.
        size: Bytes.
        sha256: Of its content, in hexadecimal.
    """

    name: str
    size: int
    sha256: str


class HashedFile(io.RawIOBase):
    """A new file that knows its size and SHA-256; it cannot be read or sought in.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        self._sha256 = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def tell(self) -> int:
        """See `io.IOBase`."""
        return self.size

    def write(self, data: Any) -> int:
        """Write all of `data`."""
        view = memoryview(data)
        self._file.write(view)
        self._sha256.update(view)
        self.size += view.nbytes
        return view.nbytes

    def close(self) -> None:
        """Close the file; what it holds has reached the disk."""
        if not self.closed:
            try:
                self._file.flush()
                os.fsync(self._file.fileno())
            finally:
                self._file.close()
                super().close()

    def written(self, name: str) -> Written:
        """What was written, under the name that the file is to have."""
        return Written(name, self.size, self._sha256.hexdigest())


def write_hashed(path: Path, data: bytes, name: str) -> Written:
    """Write a small file.

    Raises:
        RunFolderError: it cannot be written.
    """
    with writable(path), contextlib.closing(HashedFile(path)) as file:
        file.write(data)
    return file.written(name)


def reach_disk(paths: Iterable[Path]) -> None:
    """Wait until what was written to files, and the names in folders, are on the disk.

    Raises:
        RunFolderError: the disk refuses it.
    """
    with ThreadPoolExecutor(_SYNCING) as pool:
        for _ in pool.map(_sync, paths):
            pass


def _sync(path: Path) -> None:
    with writable(path):
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(opened)
        except OSError as error:
            is_folder = stat.S_ISDIR(os.fstat(opened).st_mode)
            # Some network file systems know no fsync of a folder: they keep names by themselves.
            if not (is_folder and error.errno in (errno.EINVAL, errno.ENOTSUP)):
                raise
        finally:
            os.close(opened)
