"""The folder of a run: made once, locked while in use, resumed by what is missing.

<run_dir>/run.yaml
          rollouts/<scene>/<seed>/log.mcap, timeseries.parquet, result.json
          metrics.parquet, timeseries.parquet
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from omniloop.core.errors import RunFolderError
from omniloop.core.record import RolloutRecord
from omniloop.runlog import tables
from omniloop.runlog.files import usable
from omniloop.runlog.results import (
    RESULT_NAME,
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
_LOCK_NAME = ".lock"


def open_existing(run_dir: Path) -> Path:
    """Return the folder of a run that is there.

    Raises:
        RunFolderError: there is no folder, or it is no run's.
    """
    if (run_dir / "rollouts").is_dir() or (run_dir / RUN_YAML).is_file():
        return run_dir
    what = "holds no run" if run_dir.is_dir() else "does not exist"
    raise RunFolderError(
        f"the folder {what}",
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

    def __init__(self, path: Path, lock: int) -> None:
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

    def write_run_yaml(self, document: Mapping[str, Any]) -> None:
        """See `omniloop.runlog.run_yaml.write_run_yaml`; its warnings go to `warnings`."""
        self._warn(write_run_yaml(self.path, document))

    def completed(self) -> set[tuple[str, int]]:
        """Scene and seed of every rollout that need not run again.

        These have a valid result that is not `infrastructure_failed`. Damaged results
        count as absent and are named in `warnings`.
        """
        found = find_results(self.path)
        self._warn(found.damaged)
        return {r.key for r in found.results if r.outcome != "infrastructure_failed"}

    def results(self, wanted: Iterable[tuple[str, int]] | None = None) -> list[RolloutResult]:
        """Valid results: of the rollouts wanted in their order, or all by scene and seed."""
        found = find_results(self.path)
        self._warn(found.damaged)
        if wanted is None:
            return found.results
        by_key = {result.key: result for result in found.results}
        return [by_key[key] for key in wanted if key in by_key]

    def attempts(self, scene_id: str, seed: int) -> int:
        """How often a rollout has ended before, as far as its result tells."""
        path = rollout_dir(self.path, scene_id, seed) / RESULT_NAME
        if not path.is_file():
            return 0
        try:
            return read_result(path).attempts
        except RunFolderError:
            return 0  # damaged; `completed` has named it

    def begin_rollout(self, scene_id: str, seed: int) -> Path:
        """Return a rollout's folder, empty: what an earlier attempt left is removed.

        Raises:
            RunFolderError: it cannot be written.
        """
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
            RunFolderError: they cannot be written.
        """
        path = rollout_dir(self.path, result.scene, result.seed)
        if record is not None:
            tables.write_rollout_timeseries(path, record)
        write_result(path / RESULT_NAME, result)

    def write_tables(self) -> None:
        """Write ``metrics.parquet`` and ``timeseries.parquet`` of all valid results.

        Raises:
            RunFolderError: they cannot be written.
        """
        tables.write_metrics_parquet(self.path)
        tables.write_timeseries_parquet(self.path)

    def _warn(self, lines: Iterable[str]) -> None:
        self.warnings += [line for line in lines if line not in self.warnings]


def _locked(path: Path) -> int:
    """Take the folder's lock; the file names who has it."""
    name = path / _LOCK_NAME
    with usable(path, "locked", "choose a writable folder with run.dir="):
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
        raise RunFolderError(
            f"the run's folder cannot be locked: {error.strerror or error}", where=str(path),
            remedy="choose a folder on a file system with locks by run.dir=",
        ) from error  # fmt: skip
    return lock
