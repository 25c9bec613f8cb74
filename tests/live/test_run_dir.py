"""A run watched by its folder alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from omniloop.core.errors import RunFolderError
from omniloop.live import run_dir as module
from omniloop.live.events import RolloutEnded, RunEnded
from omniloop.live.run_dir import RunDir, in_use
from omniloop.live.status_file import STATUS_NAME, StatusFile
from omniloop.runlog.folder import LOCK_NAME, RunFolder, rollout_dir
from omniloop.runlog.results import RESULT_NAME, RolloutResult, write_result
from tests.live.made_run import progress, result_of, started, wait_for


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder; it is looked through at every call, however slow the disk is just now."""
    monkeypatch.setattr(module, "_SCAN_SHARE", float("inf"))
    path = tmp_path / "demo"
    path.mkdir()
    plan(path, 3)
    return path


def plan(folder: Path, seeds: int) -> None:
    document = {"config": {"run": {"seeds": list(range(seeds))}}, "scenes": {"line": "sha256:1"}}
    (folder / "run.yaml").write_text(yaml.safe_dump(document))
    os.utime(folder / "run.yaml", ns=(seeds, seeds))  # another time, however coarse the clock


def finish(folder: Path, result: RolloutResult) -> None:
    path = rollout_dir(folder, result.scene, result.seed)
    path.mkdir(parents=True, exist_ok=True)
    write_result(path / RESULT_NAME, result)


@pytest.fixture
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder as a run does."""
    program = (
        "import sys, pathlib, time; from omniloop.runlog.folder import RunFolder\n"
        "held = RunFolder.acquire(pathlib.Path(sys.argv[1]), resume=True)\n"
        "print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_run_that_goes_on_is_told_from_one_that_was_killed(
    folder: Path, holder: subprocess.Popen[str]
) -> None:
    finish(folder, result_of(0))
    watched = RunDir(folder)
    row = watched.row(0.0)
    assert (row.state, row.done, row.planned) == ("running", 1, 3)
    assert row.outcomes == {"completed": 1}
    holder.kill()
    holder.wait()
    row = watched.row(10.0)
    assert (row.state, row.in_flight) == ("lost", 0)
    assert "1 of 3" in row.what


def test_to_look_takes_the_lock_from_nobody(folder: Path, holder: subprocess.Popen[str]) -> None:
    assert in_use(folder) is True
    holder.kill()
    holder.wait()
    assert in_use(folder) is False
    with RunFolder.acquire(folder, resume=True):
        assert in_use(folder) is True
        watched = RunDir(folder)
        assert watched.row(0.0).state == "running"


def test_a_free_lock_is_not_asked_for_again_until_someone_had_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / LOCK_NAME).write_text("process 1 on gone\n")
    os.utime(folder / LOCK_NAME, ns=(1, 1))  # long ago by the coarsest of clocks
    asked: list[Path] = []

    def ask(path: Path) -> bool | None:
        asked.append(path)
        return in_use(path)

    monkeypatch.setattr(module, "in_use", ask)
    watched = RunDir(folder)
    for second in range(5):
        assert watched.row(float(second)).state == "lost"
    assert len(asked) == 1
    with RunFolder.acquire(folder, resume=True):
        assert watched.row(9.0).state == "running"


def test_a_run_without_a_status_file_is_complete_once_all_results_are_there(folder: Path) -> None:
    for seed in range(3):
        finish(folder, result_of(seed, crash=seed == 1))
    row = RunDir(folder).row(0.0)
    assert (row.state, row.done) == ("completed", 3)
    assert [note.kind for note in row.notes] == ["incident"]
    assert "line/1" in row.notes[0].text


def test_what_was_written_last_counts_however_rarely_folders_are_looked_through(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SCAN_SHARE", 1e-12)
    with RunFolder.acquire(folder, resume=True):
        finish(folder, result_of(0))
        watched = RunDir(folder)
        assert (watched.row(0.0).state, watched.row(0.1).done) == ("running", 1)
        for seed in (1, 2):
            finish(folder, result_of(seed))
        assert watched.row(0.2).done == 1
    row = watched.row(0.3)
    assert (row.state, row.done) == ("completed", 3)


def test_the_status_file_adds_what_no_result_tells(folder: Path) -> None:
    with RunFolder.acquire(folder, resume=True):
        file = StatusFile(print, period_s=0.02)
        file.tell(started(run_dir=str(folder), planned=3))
        file.tell(progress(1, planned=3))
        wait_for((folder / STATUS_NAME).exists)
        watched = RunDir(folder)
        wait_for(lambda: watched.row(0.0).in_flight == 2)
        row = watched.row(1.0)
        assert (row.state, row.left_s, row.memory_mib) == ("running", 9.0, 300.0)
        assert row.services[0].address == "host:50051"
        file.tell(progress(1, "paused", planned=3))
        wait_for(lambda: watched.row(2.0).state == "paused")
        file.tell(RunEnded("cancelled"))
        file.close(120.0)
        assert watched.row(3.0).state == "cancelled"  # while the run writes its tables
    assert watched.row(4.0).state == "cancelled"


def test_a_status_of_a_run_that_was_killed_does_not_say_running(folder: Path) -> None:
    file = StatusFile(print, period_s=0.02)
    file.tell(started(run_dir=str(folder), planned=3))
    wait_for((folder / STATUS_NAME).exists)
    file.close(120.0)
    (folder / LOCK_NAME).touch()
    assert RunDir(folder).row(0.0).state == "lost"


def test_a_run_taken_up_again_is_not_as_its_old_status_says(
    folder: Path, holder: subprocess.Popen[str]
) -> None:
    file = StatusFile(print, period_s=0.02)
    file.tell(started(run_dir=str(folder), planned=3))
    file.tell(RunEnded("cancelled"))
    file.close(120.0)
    assert RunDir(folder).row(0.0).state == "running"


def test_each_result_is_read_once_but_for_failures_that_are_repeated(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = module.read_result

    def reading(path: Path) -> RolloutResult:
        read.append(path.parent.name)
        return real(path)

    monkeypatch.setattr(module, "read_result", reading)
    finish(folder, result_of(0))
    finish(folder, result_of(1, outcome="infrastructure_failed", what="gone"))
    watched = RunDir(folder)
    for second in range(4):
        watched.row(10.0 * second)
    assert sorted(read) == ["0", "1"]
    assert watched.row(50.0).outcomes == {"completed": 1, "infrastructure_failed": 1}
    (rollout_dir(folder, "line", 1) / RESULT_NAME).unlink()
    assert watched.row(60.0).outcomes == {"completed": 1}
    finish(folder, result_of(1))
    finish(folder, result_of(2))
    assert watched.row(70.0).outcomes == {"completed": 3}
    assert sorted(read) == ["0", "1", "1", "2"]


def test_rollouts_that_are_not_of_the_present_run_do_not_count(folder: Path) -> None:
    for seed in range(3):
        finish(folder, result_of(seed))
    finish(folder, result_of(0, scene="other", crash=True))
    watched = RunDir(folder)
    row = watched.row(0.0)
    assert (row.state, row.done, row.planned, row.notes) == ("completed", 3, 3, ())
    plan(folder, 1)  # as it is resumed with fewer seeds
    row = watched.row(10.0)
    assert (row.done, row.planned, row.outcomes) == (1, 1, {"completed": 1})
    plan(folder, 4)
    row = watched.row(20.0)
    assert (row.state, row.done, row.planned) == ("lost", 3, 4)


def failure(seed: int, attempts: int, what: str) -> RolloutResult:
    result = result_of(seed, outcome="infrastructure_failed", what=what)
    return replace(result, attempts=attempts)


def test_a_failure_that_is_repeated_is_told_once(folder: Path) -> None:
    with RunFolder.acquire(folder, resume=True):
        file = StatusFile(print, period_s=0.02)
        file.tell(started(run_dir=str(folder), planned=3))
        wait_for((folder / STATUS_NAME).exists)
        watched = RunDir(folder)
        first = failure(0, 1, "no licence")
        finish(folder, first)
        assert watched.row(0.0).notes == ()  # it may be repeated
        file.tell(RolloutEnded(first, 1, "w0", retry_in_s=2.0))
        wait_for(lambda: watched.row(1.0).notes)
        last = failure(0, 2, "no network")
        finish(folder, last)
        finish(folder, failure(1, 1, "never told"))
        file.tell(RolloutEnded(last, 2, "w0"))
        file.tell(RunEnded("completed"))
        file.close(120.0)
    texts = [note.text for note in watched.row(2.0).notes]
    assert texts == [
        "line/0: infrastructure_failed, attempt 1, again in 2 s: no licence",
        "line/0: infrastructure_failed, attempt 2: no network",
        "line/1: infrastructure_failed, attempt 1: never told",
    ]
    assert [note.text for note in RunDir(folder).row(0.0).notes] == texts


def test_what_failed_before_a_run_was_taken_up_is_not_told_as_of_now(
    folder: Path, holder: subprocess.Popen[str]
) -> None:
    file = StatusFile(print, period_s=0.02)
    file.tell(started(run_dir=str(folder), planned=3))
    for attempt, retry_in_s in ((1, 2.0), (2, None)):
        file.tell(RolloutEnded(failure(0, attempt, "gone"), attempt, "w0", retry_in_s))
    file.tell(RunEnded("completed"))
    file.close(120.0)
    finish(folder, failure(0, 2, "gone"))
    watched = RunDir(folder)
    row = watched.row(0.0)
    assert (row.state, row.notes) == ("running", ())
    holder.kill()
    holder.wait()
    assert [note.text for note in RunDir(folder).row(0.0).notes] == [
        "line/0: infrastructure_failed, attempt 1, again in 2 s: gone",
        "line/0: infrastructure_failed, attempt 2: gone",
    ]


def test_many_results_are_read_bit_by_bit(folder: Path) -> None:
    plan(folder, 40)
    for seed in range(40):
        finish(folder, result_of(seed))
    watched = RunDir(folder)
    row = watched.row(0.0, budget_s=0.0)
    assert (row.done, watched.unread) == (0, 40)
    assert "40 results are not read yet" in row.what
    assert watched.row(1.0).done == 40


def test_what_is_damaged_is_passed_over(folder: Path) -> None:
    finish(folder, result_of(0))
    path = rollout_dir(folder, "line", 1)
    path.mkdir(parents=True)
    (path / RESULT_NAME).write_text('{"schema": "omni')
    (folder / STATUS_NAME).write_text("{")
    (folder / "run.yaml").write_text("- [")
    row = RunDir(folder).row(0.0)
    assert (row.done, row.planned) == (1, None)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="does not exist"):
        RunDir(tmp_path / "none")
    with pytest.raises(RunFolderError, match="holds no run"):
        RunDir(tmp_path)
