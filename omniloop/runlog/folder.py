"""The folder of a run: made once, locked while in use, resumed by what is missing.

<run_dir>/run.yaml
          rollouts/<scene>/<seed>/log.mcap, timeseries.parquet, result.json
          metrics.parquet, timeseries.parquet
          replaced/        rollouts of other content, from before a run.force_new
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from omniloop.core.errors import RunFolderError
from omniloop.core.record import RolloutRecord
from omniloop.runlog import tables
from omniloop.runlog.files import usable
from omniloop.runlog.results import (
    RESULT_NAME,
    FoundResults,
    RolloutResult,
    find_results,
    read_result,
    write_result,
)
from omniloop.runlog.run_yaml import RUN_YAML, read_run_yaml, to_yaml, write_run_yaml

__all__ = [
    "LOG_NAME", "RUN_YAML", "RunFolder", "open_existing", "read_run_yaml", "rollout_dir", "to_yaml",
]  # fmt: skip

LOG_NAME = "log.mcap"
LOCK_NAME = ".lock"
_REPLACED = "replaced"
_ORPHANS_S = 10.0
"""How long workers may outlive the run that was killed."""


def open_existing(run_dir: Path) -> Path:
    """Return the folder of a run that is there.

    Raises:
        RunFolderError: there is no folder, or it is no run's.
    """
    if (run_dir / "rollouts").is_dir() or (run_dir / RUN_YAML).is_file():
        return run_dir
    what = "the folder holds no run" if run_dir.is_dir() else "the folder does not exist"
    raise RunFolderError(
        "it is a file, no run's folder" if run_dir.is_file() else what,
        where=str(run_dir),
        remedy="give the folder of a run, such as runs/demo",
    )


def rollout_dir(run_dir: Path, scene_id: str, seed: int) -> Path:
    """Folder of one rollout: ``rollouts/<scene>/<seed>``.

    Raises:
        RunFolderError: the scene's id is no folder name.
    """
    if scene_id in ("", ".", "..") or "/" in scene_id or "\0" in scene_id:
        raise RunFolderError(
            f"scene id '{scene_id}' cannot be a folder name",
            where=str(run_dir),
            remedy="rename the scene",
        )
    return run_dir / "rollouts" / scene_id / str(int(seed))


class RunFolder:
    """A run's folder, held by one process at a time.

    The lock is the operating system's: it goes when the process ends, however it ends.

    Attributes:
        path: The folder.
        warnings: What a reader of the results should know.
    """

    def __init__(self, path: Path, lock: int | None) -> None:
        self.path = path
        self.warnings: list[str] = []
        self._lock: int | None = lock

    @classmethod
    def acquire(cls, path: Path, *, resume: bool = False) -> RunFolder:
        """Make the folder of a new run, or take up that of an earlier one.

        Args:
            resume: Go on where the run left off; begins it if there is none yet.

        Raises:
            RunFolderError: it is there and `resume` is not set, another process uses it,
                or it cannot be written.
        """
        remedy = "choose a writable folder with run.dir="
        with usable(path.parent, "made", remedy):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with usable(path, "made", remedy):
                path.mkdir()
        except RunFolderError as error:
            if not isinstance(error.__cause__, FileExistsError):
                raise
            if not path.is_dir():
                raise RunFolderError(
                    "there is a file where the run's folder should be", where=str(path),
                    remedy="choose another run.name=",
                ) from error  # fmt: skip
            if not resume:
                raise RunFolderError(
                    "the run's folder exists already", where=str(path),
                    remedy="go on with it by run.resume=true, or choose another run.name=",
                ) from error  # fmt: skip
        return cls(path, _locked(path))

    @classmethod
    def joined(cls, path: Path) -> RunFolder:
        """The folder of a run, for a worker of the process that has acquired it."""
        return cls(path, None)

    @property
    def lock(self) -> int:
        """File descriptor of the lock; a process that inherits it holds the folder too."""
        assert self._lock is not None  # acquired, and not closed
        return self._lock

    def close(self) -> None:
        """Let other processes use the folder; a second call does nothing."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def check(self) -> None:
        """See that the folder is still there, and still this one.

        Raises:
            RunFolderError: it was removed or moved, or another stands in its place.
        """
        try:
            is_same = self.path.is_dir() and (
                self._lock is None
                or os.path.samestat(os.fstat(self._lock), (self.path / LOCK_NAME).stat())
            )
        except OSError:
            is_same = False
        if not is_same:
            raise RunFolderError(
                "the run's folder was removed or replaced while the run went on",
                where=str(self.path), remedy="begin the run again; keep other programs out of it",
            )  # fmt: skip

    def write_run_yaml(self, document: Mapping[str, Any], *, force: bool = False) -> None:
        """See `omniloop.runlog.run_yaml.write_run_yaml`; its warnings go to `warnings`."""
        self._warn(write_run_yaml(self.path, document, force=force))

    def find(self, known: Iterable[RolloutResult] = ()) -> FoundResults:
        """See `omniloop.runlog.results.find_results`; damaged results are named in `warnings`."""
        found = find_results(self.path, known)
        self._warn(found.damaged)
        return found

    def completed(
        self, contents: Mapping[tuple[str, int], str], results: Iterable[RolloutResult]
    ) -> set[tuple[str, int]]:
        """Scene and seed of every rollout that need not run again.

        These have a result that is not `infrastructure_failed`, of the content that is wanted.
        Those of other content count as absent and are named in `warnings`; one that does not say
        its content is taken for what its folder says.

        Args:
            contents: Content hash of each rollout wanted, by scene and seed.
            results: What `find` has found.
        """
        ended = [r for r in results if r.outcome != "infrastructure_failed"]
        done = {r.key for r in ended if r.key in contents and _is_of(r, contents[r.key])}
        other = [r for r in ended if r.key in contents and r.key not in done]
        if other:
            first = other[0].session_id
            self._warn([
                f"{len(other)} result(s), first {first}, were made by other versions of omniloop or"
                " services: these rollouts were run again"
            ])  # fmt: skip
        return done

    def set_aside(
        self, contents: Mapping[tuple[str, int], str], results: Iterable[RolloutResult]
    ) -> list[RolloutResult]:
        """Move rollouts of other content than wanted to ``replaced/<content>/<scene>/<seed>``.

        Args:
            contents: Content hash of each rollout wanted, by scene and seed.
            results: What `find` has found.

        Returns:
            Those that stay.

        Raises:
            RunFolderError: one cannot be moved.
        """
        stay = []
        for result in results:
            if result.key in contents and _is_of(result, contents[result.key]):
                stay.append(result)
                continue
            here = rollout_dir(self.path, result.scene, result.seed)
            content = result.content_sha256[:12] or "unknown"
            there = self.path / _REPLACED / content / result.scene / str(result.seed)
            with usable(here, "moved away"):
                if there.exists():
                    shutil.rmtree(there)
                there.parent.mkdir(parents=True, exist_ok=True)
                here.rename(there)
        return stay

    def attempts(self, scene_id: str, seed: int) -> int:
        """How often a rollout has ended before, as far as its result tells."""
        path = rollout_dir(self.path, scene_id, seed) / RESULT_NAME
        if not path.is_file():
            return 0
        try:
            return read_result(path).attempts
        except RunFolderError:
            return 0  # damaged; `find` has named it

    def begin_rollout(self, scene_id: str, seed: int) -> Path:
        """Return a rollout's folder, empty: what an earlier attempt left is removed.

        Raises:
            RunFolderError: it cannot be written, or the run's folder is gone.
        """
        self.check()
        path = rollout_dir(self.path, scene_id, seed)
        with usable(path, "cleared and made"):
            # The result goes first, so that half a folder never looks complete.
            (path / RESULT_NAME).unlink(missing_ok=True)
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.exists():
                shutil.rmtree(path)
            path.mkdir(parents=True)
        return path

    def finish_rollout(self, result: RolloutResult, record: RolloutRecord | None = None) -> None:
        """Write a rollout's time series, if there is a record, and last its result.

        Raises:
            RunFolderError: they cannot be written, or the run's folder is gone.
        """
        self.check()
        path = rollout_dir(self.path, result.scene, result.seed)
        with usable(path, "made"):
            path.mkdir(parents=True, exist_ok=True)
        if record is not None:
            tables.write_rollout_timeseries(path, record)
        write_result(path / RESULT_NAME, result)

    def write_tables(self, results: Sequence[RolloutResult]) -> None:
        """Write ``metrics.parquet`` and ``timeseries.parquet``.

        Args:
            results: All valid ones, as `find` has found them.

        Raises:
            RunFolderError: they cannot be written, or the run's folder is gone.
        """
        self.check()
        tables.write_metrics_parquet(self.path, results)
        tables.write_timeseries_parquet(self.path, results)

    def _warn(self, lines: Iterable[str]) -> None:
        self.warnings += [line for line in lines if line not in self.warnings]


def _is_of(result: RolloutResult, content: str) -> bool:
    return result.content_sha256 in ("", content)


def _locked(path: Path) -> int:
    """Take the folder's lock; the file names who has it."""
    name = path / LOCK_NAME
    with usable(path, "locked", "choose a writable folder with run.dir="):
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _take(lock)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    except BlockingIOError as error:
        holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
        os.close(lock)
        raise RunFolderError(
            f"the run's folder is in use by {holder}", where=str(path),
            remedy="wait until it is done, or choose another run.name=",
        ) from error  # fmt: skip
    except OSError as error:
        os.close(lock)
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise RunFolderError(
            f"the run's folder cannot be locked: {error.strerror or error}", where=str(path),
            remedy="free some space, or choose another folder by run.dir=" if is_full
            else "choose a folder on a file system with locks by run.dir=",
        ) from error  # fmt: skip
    return lock


def _take(lock: int) -> None:
    """Take the lock; workers of a run that was killed may hold it a moment longer.

    Raises:
        BlockingIOError: somebody has it.
    """
    until_s = time.monotonic() + _ORPHANS_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until_s or not _is_dead(os.pread(lock, 200, 0)):
                raise
            time.sleep(0.05)
        else:
            return


def _is_dead(holder: bytes) -> bool:
    """Whether the process that a lock names was on this machine and is gone."""
    words = holder.decode(errors="replace").split()
    if len(words) != 4 or words[3] != socket.gethostname() or not words[1].isdecimal():
        return False
    try:
        os.kill(int(words[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
