"""Folders of rollouts that are under way on a node: gone afterwards, or when the next worker starts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "omniloop-rollout-"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder among the temporary files; it goes when the block ends, however it ends.

    It is locked while this process uses it: see `sweep`.

    Raises:
        OSError: none can be made.
    """
    place, lock = _locked_folder()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(lock)


def sweep() -> None:
    """Remove such folders of this user whose process was killed."""
    for place in sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")):
        with contextlib.suppress(OSError):  # another's, in use, or gone by now
            lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(lock).st_uid == os.getuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(place, ignore_errors=True)
            finally:
                os.close(lock)


def _locked_folder() -> tuple[Path, int]:
    while True:
        place = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.is_dir():  # not swept before it was locked
            return place, lock
        os.close(lock)
