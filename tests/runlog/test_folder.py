"""The run folder: made once, locked across processes, resumed by what is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from omniloop.core.errors import RunFolderError
from omniloop.runlog.folder import RunFolder, open_existing, rollout_dir
from omniloop.runlog.results import RolloutResult
from tests.runlog.samples import play


def result(scene: str, seed: int, outcome: str = "completed", **more: Any) -> RolloutResult:
    return RolloutResult(
        scene=scene, seed=seed, session_id=f"{scene}/{seed}", outcome=outcome, **more
    )


def test_a_new_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    with RunFolder.acquire(tmp_path / "runs" / "demo") as folder:
        assert folder.path.is_dir()
        assert folder.find().results == []
        assert folder.completed({("a", 0): "x"}, []) == set()


def test_a_folder_that_exists_is_refused_with_both_remedies(tmp_path: Path) -> None:
    RunFolder.acquire(tmp_path / "demo").close()
    with pytest.raises(RunFolderError, match="exists already") as caught:
        RunFolder.acquire(tmp_path / "demo")
    assert caught.value.where == str(tmp_path / "demo")
    assert "run.resume=true" in caught.value.remedy
    assert "run.name=" in caught.value.remedy


def test_resuming_takes_up_the_folder_or_begins_it(tmp_path: Path) -> None:
    with RunFolder.acquire(tmp_path / "demo", resume=True) as folder:
        folder.begin_rollout("a", 1)
        folder.finish_rollout(result("a", 1))
    with RunFolder.acquire(tmp_path / "demo", resume=True) as folder:
        assert folder.completed({("a", 1): ""}, folder.find().results) == {("a", 1)}


def test_what_is_completed_are_valid_results_that_say_something_of_the_policy(
    tmp_path: Path,
) -> None:
    with RunFolder.acquire(tmp_path / "demo") as folder:
        for seed, outcome in enumerate(("completed", "policy_failed", "infrastructure_failed")):
            folder.begin_rollout("a", seed)
            folder.finish_rollout(result("a", seed, outcome))
        folder.begin_rollout("a", 3)
        path = folder.begin_rollout("a", 4) / "result.json"
        path.write_text(result("a", 4).to_json()[:-40])
        wanted = {("a", seed): "" for seed in range(5)}
        for _ in range(2):
            assert folder.completed(wanted, folder.find().results) == {("a", 0), ("a", 1)}
        assert len(folder.warnings) == 1
        assert str(path) in folder.warnings[0]
        assert [r.seed for r in folder.find().results] == [0, 1, 2]


def _of(content: str, seed: int) -> RolloutResult:
    return replace(result("a", seed), content_sha256=content)


def test_only_results_of_the_content_wanted_count_as_completed(tmp_path: Path) -> None:
    with RunFolder.acquire(tmp_path / "demo") as folder:
        for seed, content in enumerate(("x", "y", "")):
            folder.finish_rollout(_of(content, seed))
        wanted = {("a", seed): "x" for seed in range(4)}
        assert folder.completed(wanted, folder.find().results) == {("a", 0), ("a", 2)}
        assert "a/1" in folder.warnings[0]
        assert "run again" in folder.warnings[0]


def test_what_is_of_other_content_or_not_wanted_is_kept_aside(tmp_path: Path) -> None:
    with RunFolder.acquire(tmp_path / "demo") as folder:
        for seed, content in enumerate(("x" * 64, "y" * 64, "z" * 64)):
            (folder.begin_rollout("a", seed) / "log.mcap").write_bytes(content.encode())
            folder.finish_rollout(_of(content, seed))
        for _ in range(2):
            wanted = {("a", 0): "x" * 64, ("a", 1): "x" * 64}
            stay = folder.set_aside(wanted, folder.find().results)
            assert [r.seed for r in stay] == [0]
        assert folder.find().results == stay
        aside = folder.path / "replaced"
        assert (aside / ("y" * 12) / "a" / "1" / "log.mcap").read_bytes() == b"y" * 64
        assert (aside / ("z" * 12) / "a" / "2" / "result.json").is_file()


def test_the_lock_of_a_run_that_died_is_waited_for_while_its_workers_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import subprocess, sys\n"
        "from pathlib import Path\n"
        "from omniloop.runlog.folder import RunFolder\n"
        "folder = RunFolder.acquire(Path(sys.argv[1]), resume=True)\n"
        "subprocess.Popen(['cat'], pass_fds=[folder.lock])\n"
    )
    its_end, end = os.pipe()  # the worker lives until `end` is closed
    command = [sys.executable, "-c", code, str(tmp_path / "demo")]
    subprocess.run(command, stdin=its_end, check=True)
    os.close(its_end)
    waits = []

    def wait(seconds: float) -> None:
        if not waits:
            os.close(end)
        waits.append(seconds)
        time.sleep(seconds)

    # The clock stands still: how long the worker takes to end is the machine's affair.
    clock = SimpleNamespace(monotonic=lambda: 0.0, sleep=wait)
    monkeypatch.setattr("omniloop.runlog.folder.time", clock)
    RunFolder.acquire(tmp_path / "demo", resume=True).close()
    assert waits


def test_beginning_a_rollout_clears_what_an_earlier_attempt_left(tmp_path: Path) -> None:
    with RunFolder.acquire(tmp_path / "demo") as folder:
        path = folder.begin_rollout("a", 1)
        (path / "log.mcap").write_bytes(b"half")
        (path / "deep").mkdir()
        (path / "deep" / "file").write_text("x")
        (path / "result.json").write_text("{")
        other = folder.begin_rollout("a", 2) / "log.mcap"
        other.write_bytes(b"whole")
        assert folder.begin_rollout("a", 1) == path == rollout_dir(folder.path, "a", 1)
        assert list(path.iterdir()) == []
        assert other.read_bytes() == b"whole"


def test_clearing_never_follows_a_link_out_of_the_folder(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("keep me")
    with RunFolder.acquire(tmp_path / "demo") as folder:
        (folder.path / "rollouts" / "a").mkdir(parents=True)
        (folder.path / "rollouts" / "a" / "1").symlink_to(precious)
        path = folder.begin_rollout("a", 1)
    assert not path.is_symlink()
    assert (precious / "file").read_text() == "keep me"


@pytest.mark.parametrize("scene_id", ["", ".", "..", "a/b", "../../etc", "a\0b"])
def test_a_scene_id_cannot_leave_the_folder(tmp_path: Path, scene_id: str) -> None:
    with pytest.raises(RunFolderError, match="cannot be a folder name"):
        rollout_dir(tmp_path, scene_id, 0)


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(RunFolderError, match="cannot be made") as caught:
        RunFolder.acquire(tmp_path / "runs" / "demo")
    assert "run.dir" in caught.value.remedy
    with pytest.raises(RunFolderError, match="cannot be made"):
        RunFolder.acquire(tmp_path / "runs" / "deeper" / "demo")
    for resume in (False, True):
        with pytest.raises(RunFolderError, match="there is a file"):
            RunFolder.acquire(tmp_path / "runs", resume=resume)


def test_a_rollout_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with RunFolder.acquire(tmp_path / "demo") as folder:
        (folder.path / "rollouts").write_text("a file where a folder should be")
        with pytest.raises(RunFolderError, match="cannot be cleared and made"):
            folder.begin_rollout("a", 1)
        with pytest.raises(RunFolderError, match="1 cannot be made"):
            folder.finish_rollout(result("a", 1))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir(mode=0o500)
    with pytest.raises(RunFolderError, match="Permission denied"):
        RunFolder.acquire(tmp_path / "runs" / "demo")


HOLD = """
import sys
import time
from dataclasses import replace
from pathlib import Path
from omniloop.runlog.folder import RunFolder
folder = RunFolder.acquire(Path(sys.argv[1]), resume=True)
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Any:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "demo")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_two_processes_cannot_use_one_folder(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(RunFolderError, match=f"in use by process {holder.pid} on") as caught:
        RunFolder.acquire(tmp_path / "demo", resume=True)
    assert caught.value.where == str(tmp_path / "demo")
    holder.communicate("done\n")
    RunFolder.acquire(tmp_path / "demo", resume=True).close()


def test_a_killed_process_leaves_no_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    RunFolder.acquire(tmp_path / "demo", resume=True).close()


def test_one_process_cannot_use_a_folder_twice(tmp_path: Path) -> None:
    with RunFolder.acquire(tmp_path / "demo"), pytest.raises(RunFolderError, match="in use"):
        RunFolder.acquire(tmp_path / "demo", resume=True)


def test_a_run_that_is_there_is_opened(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="does not exist"):
        open_existing(tmp_path / "demo")
    with RunFolder.acquire(tmp_path / "demo") as folder:
        with pytest.raises(RunFolderError, match="holds no run"):
            open_existing(folder.path)
        folder.write_run_yaml({"config": {}})
        assert open_existing(folder.path) == folder.path


def test_a_finished_run_has_its_tables(tmp_path: Path) -> None:
    with RunFolder.acquire(tmp_path / "demo") as folder:
        for seed in (1, 0):
            path = folder.begin_rollout("line", seed)
            record = play(path / "log.mcap", seed=seed)
            folder.finish_rollout(result("line", seed), record)
        folder.begin_rollout("line", 2)
        folder.finish_rollout(result("line", 2, "policy_failed"))
        folder.write_tables(folder.find().results)
        assert pq.read_table(folder.path / "metrics.parquet").column("seed").to_pylist() == [
            0,
            1,
            2,
        ]
        series = pq.read_table(folder.path / "timeseries.parquet")
        count = len(record.schedule.score_times_us(record.frontier_us))
        assert series.column("seed").to_pylist() == [0] * count + [1] * count
