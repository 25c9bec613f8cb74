"""Files and folders of a run, written so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from omniloop.core.errors import RunFolderError

_REMEDY = "free some space, make it writable, or choose another run.dir; then run.resume=true"


@contextlib.contextmanager
def usable(path: Path, doing: str, remedy: str = _REMEDY) -> Iterator[None]:
    """Turn an operating system's refusal into an error that names the path.

    Args:
        doing: What cannot be done, such as "written".

    Raises:
        RunFolderError: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            f"{path.name or path} cannot be {doing}: {error.strerror or error}",
            where=str(path),
            remedy=remedy,
        ) from error


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that readers see all of it or what was there before.

    Raises:
        RunFolderError: it cannot be written.
    """
    with replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when the block ends, and not if it raises.

    Raises:
        RunFolderError: it cannot be written: the block raised an OSError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with usable(path, "written"):
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            # What hinders the write may hinder this too; the first error is the one to tell.
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
