"""A run watched by its folder: ``status.json``, the lock, and each result read once."""

from __future__ import annotations

import fcntl
import itertools
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
from omniloop.live.schema import ENDS, LONGEST_TEXT, Notable, SnapshotMessage, decode
from omniloop.live.status_file import STATUS_NAME
from omniloop.runlog.folder import LOCK_NAME, open_existing
from omniloop.runlog.results import RESULT_NAME, RolloutResult, read_result
from omniloop.runlog.run_yaml import RUN_YAML, read_run_yaml

_Key = tuple[str, str]
"""Scene and seed, as folders are named."""

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
    """A run as its folder shows it: the rollouts of its ``run.yaml``, not others that lie there."""

    def __init__(self, run_dir: Path) -> None:
        """Look whether it is a run's folder.

        Raises:
            RunFolderError: it is none.
        """
        self.path = open_existing(run_dir)
        self.name = self.path.resolve().name
        self._view = RunView(self.name)
        self._outcomes: dict[_Key, tuple[str, int]] = {}  # outcome, mtime of its result
        self._unread: deque[Path] = deque()
        self._scan_at_s = 0.0
        self._scanned_at_end = False
        self._snapshot_text = b""
        self._snapshot: SnapshotMessage | None = None
        self._snapshot_seen_s = float("-inf")  # when it was last seen to have changed
        self._free_since: int | None = None  # mtime of the lock file when nobody held it
        self._planned: tuple[int, frozenset[_Key] | None] | None = None  # mtime of run.yaml
        self._failures: dict[_Key, RolloutResult] = {}  # that may yet be repeated, or told
        self._told: dict[_Key, str] = {}  # why a rollout failed last, as the status tells it

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
        wanted = self._read_planned()
        self._scan(now_s, wanted)
        left = self._read_results(budget_s)
        planned = len(wanted or ()) or self._view.row(now_s).planned
        over = self._state(now_s, planned, sum(self._count(wanted).values())) in ENDS
        if over and not left and not self._scanned_at_end:  # it may have written since the scan
            self._scan_at_s = now_s
            self._scan(now_s, wanted)
            left = self._read_results(budget_s)
            self._scanned_at_end = True
        self._scanned_at_end &= over
        outcomes = self._count(wanted)
        done = sum(outcomes.values())
        state = self._state(now_s, planned, done)
        if self._snapshot is None or state in ENDS:
            self._note_failures()
        row = self._view.row(now_s)
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

    def _count(self, wanted: frozenset[_Key] | None) -> dict[str, int]:
        """The run's rollouts by outcome; of all that lie there if it is not known which it has."""
        outcomes: dict[str, int] = {}
        for key, (outcome, _) in self._outcomes.items():
            if wanted is None or key in wanted:
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
        return outcomes

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
            if self._snapshot is None or self._snapshot.instance != message.instance:
                self._told = {}
            self._snapshot = message
            self._view.take(message.model_copy(update={"latest": []}), now_s)
            if self._is_holder() or not self._held():  # else it is of before the run was taken up
                for item in message.latest:
                    self._take(item, now_s)
            if not first:
                self._snapshot_seen_s = now_s

    def _take(self, item: Notable, now_s: float) -> None:
        """Take what no result tells: workers lost, and failures that were or will be repeated."""
        if item.kind == "worker":
            self._view.take(item, now_s)
        elif item.kind == "rollout" and item.outcome == "infrastructure_failed":
            self._view.take(item, now_s)
            self._told[item.scene, str(item.seed)] = item.error.what if item.error else ""

    def _read_planned(self) -> frozenset[_Key] | None:
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
            keys: frozenset[_Key] | None = None
            if isinstance(scenes, dict) and isinstance(seeds, list):
                keys = frozenset(itertools.product(map(str, scenes), map(str, seeds)))
            self._planned = (changed, keys)
        return self._planned[1]

    def _scan(self, now_s: float, wanted: frozenset[_Key] | None) -> None:
        """Find results that are not known, and infrastructure failures that are being repeated."""
        if now_s < self._scan_at_s or self._unread:
            return
        began = time.perf_counter()
        found: list[tuple[int, Path]] = []
        for key, path in _rollouts(self.path / "rollouts"):
            if wanted is not None and key not in wanted:
                continue
            known = self._outcomes.get(key)
            if known is not None and known[0] != "infrastructure_failed":
                continue
            try:
                changed = path.stat().st_mtime_ns
            except OSError:
                self._outcomes.pop(key, None)
                self._failures.pop(key, None)
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
            self._failures.pop(key, None)
            if result.outcome == "infrastructure_failed":
                self._failures[key] = result
            else:
                self._note(result)
        return len(self._unread)

    def _note_failures(self) -> None:
        """Note failures that stand, but for those of which the status told."""
        for key, result in self._failures.items():
            what, told = (result.error or {}).get("what", ""), self._told.get(key)
            if told is None or told[: LONGEST_TEXT - 1] != what[: LONGEST_TEXT - 1]:
                self._note(result)
        self._failures.clear()

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


def _rollouts(folder: Path) -> Iterator[tuple[_Key, Path]]:
    for scene in _folders(folder):
        for seed in _folders(folder / scene):
            yield (scene, seed), folder / scene / seed / RESULT_NAME


def _folders(path: Path) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return []
