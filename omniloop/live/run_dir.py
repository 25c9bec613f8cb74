"""A run watched by its folder: ``status.json``, the lock, and each result read once."""

from __future__ import annotations

import fcntl
import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from omniloop.core.errors import RunFolderError
from omniloop.live.board import Row, RunView, clean, incident_text
from omniloop.live.schema import ENDS, SnapshotMessage, decode
from omniloop.live.status_file import STATUS_NAME
from omniloop.runlog.folder import LOCK_NAME, open_existing
from omniloop.runlog.results import RESULT_NAME, RolloutResult, read_result
from omniloop.runlog.run_yaml import RUN_YAML, read_run_yaml

_FRESH_S = 3.0
_SCAN_SHARE = 0.05
"""Of the time, how much goes into looking through folders; slow file systems are asked rarely."""


def in_use(run_dir: Path) -> bool | None:
    """Whether a process holds a run's lock; None if that cannot be told.

    The lock is asked for and given back at once. A run that begins in the same microseconds
    would find it taken: `RunDir` asks only when nothing else tells.
    """
    try:
        lock = os.open(run_dir / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(lock)
    return False


class RunDir:
    """A run as its folder shows it."""

    def __init__(self, run_dir: Path) -> None:
        """Look whether it is a run's folder.

        Raises:
            RunFolderError: it is none.
        """
        self.path = open_existing(run_dir)
        self.name = self.path.resolve().name
        self._view = RunView(self.name)
        self._outcomes: dict[tuple[str, str], tuple[str, int]] = {}  # outcome, mtime of its result
        self._unread: deque[Path] = deque()
        self._scan_at_s = 0.0
        self._scanned_at_end = False
        self._snapshot_text = b""
        self._snapshot: SnapshotMessage | None = None
        self._snapshot_seen_s = float("-inf")  # when it was last seen to have changed
        self._free_since: int | None = None  # mtime of the lock file when nobody held it
        self._planned: tuple[int, int | None] | None = None  # mtime of run.yaml, rollouts

    @property
    def unread(self) -> int:
        """Results that are found but not read yet."""
        return len(self._unread)

    def row(self, now_s: float, budget_s: float | None = None) -> Row:
        """Look again, and return the run as it is shown.

        Args:
            now_s: A clock that only grows.
            budget_s: For how long results are read at most; those left are read next time.
        """
        self._read_snapshot(now_s)
        self._scan(now_s)
        left = self._read_results(budget_s)
        row = self._view.row(now_s)
        planned = self._read_planned() or row.planned
        over = self._state(now_s, planned, len(self._outcomes)) in ENDS
        if over and not left and not self._scanned_at_end:  # it may have written since the scan
            self._scan_at_s = now_s
            self._scan(now_s)
            left = self._read_results(budget_s)
            row = self._view.row(now_s)
            self._scanned_at_end = True
        self._scanned_at_end &= over
        outcomes: dict[str, int] = {}
        for outcome, _ in self._outcomes.values():
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        done = sum(outcomes.values())
        state = self._state(now_s, planned, done)
        what = (
            f"{left} results are not read yet" if left else row.what if state == row.state else ""
        )
        gone = state == "lost"
        if gone and not left:
            what = f"no process has it; {done} of {planned} rollouts have a result"
        return replace(
            row, name=clean(self.name), state=state, what=what, planned=planned, done=done,
            outcomes=outcomes, where=clean(str(self.path)), silent_s=None,
            in_flight=0 if state in ENDS else row.in_flight,
            left_s=None if state in ENDS else row.left_s,
        )  # fmt: skip

    def _state(self, now_s: float, planned: int | None, done: int) -> str:
        told = self._snapshot.status.state if self._snapshot else None
        going = told is not None and told not in ENDS
        if going and now_s - self._snapshot_seen_s < _FRESH_S:
            return str(told)
        if self._held():
            # While an ended run writes its tables it has the lock still; when another process has
            # it, the run was taken up again and the status is that of before.
            return str(told) if going or self._is_holder() else "running"
        if told is not None and not going:
            return told
        return "completed" if told is None and planned is not None and done >= planned else "lost"

    def _is_holder(self) -> bool:
        """Whether the process of the status is the one that the lock names."""
        if self._snapshot is None:
            return False
        status = self._snapshot.status
        try:
            holder = (self.path / LOCK_NAME).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return holder.strip() == f"process {status.process} on {status.host}"

    def _held(self) -> bool:
        try:
            changed = (self.path / LOCK_NAME).stat().st_mtime_ns
        except OSError:
            return False
        if changed == self._free_since:  # whoever takes the lock writes its name into the file
            return False
        held = in_use(self.path)
        self._free_since = None if held else changed
        return held is not False

    def _read_snapshot(self, now_s: float) -> None:
        try:
            text = (self.path / STATUS_NAME).read_bytes()
        except OSError:
            return
        if text == self._snapshot_text:
            return
        first, self._snapshot_text = not self._snapshot_text, text
        try:
            message = decode(text)
        except ValidationError:
            return  # of another version, or cut off: results and lock still tell
        if isinstance(message, SnapshotMessage):
            self._snapshot = message
            self._view.take(message.model_copy(update={"latest": []}), now_s)
            for item in message.latest:
                if item.kind == "worker" or (
                    item.kind == "rollout" and item.retry_in_s is not None
                ):
                    self._view.take(item, now_s)  # no result tells of these
            if not first:
                self._snapshot_seen_s = now_s

    def _read_planned(self) -> int | None:
        try:
            changed = (self.path / RUN_YAML).stat().st_mtime_ns
        except OSError:
            return None
        if self._planned is None or self._planned[0] != changed:
            try:
                document: dict[str, Any] = read_run_yaml(self.path)
            except RunFolderError:
                return None  # being written for the first time, or damaged
            scenes = document.get("scenes")
            config = document.get("config")
            run = config.get("run") if isinstance(config, dict) else None
            seeds = run.get("seeds") if isinstance(run, dict) else None
            known = isinstance(scenes, dict) and isinstance(seeds, list)
            self._planned = (changed, len(scenes) * len(seeds) if known else None)  # type: ignore[arg-type]
        return self._planned[1]

    def _scan(self, now_s: float) -> None:
        """Find results that are not known, and infrastructure failures that are being repeated."""
        if now_s < self._scan_at_s or self._unread:
            return
        began = time.perf_counter()
        found: list[tuple[int, Path]] = []
        for key, path in _rollouts(self.path / "rollouts"):
            known = self._outcomes.get(key)
            if known is not None and known[0] != "infrastructure_failed":
                continue
            try:
                changed = path.stat().st_mtime_ns
            except OSError:
                self._outcomes.pop(key, None)
                continue
            if known is None or known[1] != changed:
                found.append((changed, path))
        self._unread.extend(path for _, path in sorted(found))
        self._scan_at_s = now_s + (time.perf_counter() - began) / _SCAN_SHARE

    def _read_results(self, budget_s: float | None) -> int:
        until = None if budget_s is None else time.perf_counter() + budget_s
        while self._unread and (until is None or time.perf_counter() < until):
            path = self._unread.popleft()
            key = (path.parent.parent.name, path.parent.name)
            try:
                changed = path.stat().st_mtime_ns
                result = read_result(path)
            except (OSError, RunFolderError):
                continue  # removed meanwhile, or damaged: the run makes it anew
            self._outcomes[key] = (result.outcome, changed)
            self._note(result)
        return len(self._unread)

    def _note(self, result: RolloutResult) -> None:
        name = f"{result.scene}/{result.seed}"
        if result.outcome != "completed":
            what = (result.error or {}).get("what", "")
            text = f"{name}: {result.outcome}, attempt {result.attempts}: {what}"
            self._view.note("failure", text)
        for found in _incidents(result):
            after = result.handover_us
            after_s = None if after is None else (found.start_us - after) / 1e6
            text = incident_text(name, found.label, found.facts, after_s, found.at_fault)
            self._view.note("incident", text)


def _incidents(result: RolloutResult) -> list[Any]:
    from omniloop.report.incidents import incidents_from_metrics

    return list(incidents_from_metrics(result.metrics))


def _rollouts(folder: Path) -> Iterator[tuple[tuple[str, str], Path]]:
    for scene in _folders(folder):
        for seed in _folders(folder / scene):
            yield (scene, seed), folder / scene / seed / RESULT_NAME


def _folders(path: Path) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return []
