"""``omniloop run`` where its folder and its processes are ill-treated: a clear end, and it goes on."""

from __future__ import annotations

import functools
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omniloop.configs.compose import compose
from omniloop.core.errors import RunFolderError
from omniloop.live.events import Event, RolloutEnded
from omniloop.runlog.digest import digest_run
from omniloop.runner.run import execute
from tests.runner.batch.processes import LONG_S, in_session, wait_until

pytestmark = pytest.mark.timeout(600)

SMALL = ["renderer=none", "scenes.ids=curve", "sync.duration_s=1.0", "policy=constant_velocity"]
AS_IN_A_TERMINAL = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
from omniloop.cli.main import main
main()
"""
"""A process inherits what is ignored, as SIGINT in the background and SIGHUP under nohup."""
COMMAND = [sys.executable, "-c", AS_IN_A_TERMINAL, "run", *SMALL, "run.name=run", "run.resume=true"]  # fmt: skip


def omniloop_run(folder: Path, *settings: str, **how: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, f"run.dir={folder}", *settings], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, **how,  # type: ignore[call-overload]
    )  # fmt: skip


SmallDisk = tuple[Path, Callable[[], None], dict[str, object]]
"""A folder, what makes space in it, and how to start a process that has not much."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A folder without much space.

    Where nothing can be mounted, processes are started that may write no file of over 40 KiB.
    """
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", str(disk)]
    if shutil.which("mount") and not subprocess.run(mount, check=False, capture_output=True).returncode:  # fmt: skip

        def grow() -> None:
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)

        yield disk, grow, {}
        subprocess.run(["umount", "-l", str(disk)], check=True)
    else:
        limits = (40 << 10, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        set_limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        yield disk, lambda: None, {"preexec_fn": set_limit}


def test_a_full_disk_under_workers_ends_the_run_cleanly_and_it_goes_on(
    tmp_path: Path, small_disk: SmallDisk
) -> None:
    disk, grow, how = small_disk
    process = omniloop_run(disk, "run.seeds=16", "run.workers=2", start_new_session=True, **how)
    _, told = process.communicate(timeout=LONG_S)
    assert process.returncode == 1
    assert "cannot be written" in told
    assert "free some space" in told
    assert "Traceback" not in told
    wait_until(lambda: not in_session(process.pid))
    grow()
    settings = [*SMALL, "run.name=run", "run.seeds=16", "run.workers=1"]
    finished = execute(compose([*settings, f"run.dir={disk}", "run.resume=true"]))
    assert [r.outcome for r in finished.results] == ["completed"] * 16
    assert finished.resumed < 16
    execute(compose([*settings, f"run.dir={tmp_path}"]))
    assert digest_run(disk / "run") == digest_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("number", "times"), [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGHUP, 1)]
)
def test_a_signal_to_all_of_a_terminals_processes_leaves_none_behind(
    tmp_path: Path, number: signal.Signals, times: int
) -> None:
    process = omniloop_run(tmp_path, "run.seeds=500", "run.workers=2", start_new_session=True)
    wait_until(lambda: len(list(tmp_path.glob("run/rollouts/*/*/result.json"))) > 2)
    for _ in range(times):
        os.killpg(process.pid, number)
        time.sleep(0.02)
    out, told = process.communicate(timeout=LONG_S)
    if times == 1:  # the second one ends even the end
        assert process.returncode == 1
        assert "go on with run.name=run run.resume=true" in told
        assert "Traceback" not in told
        assert "is replaced" not in out
    assert process.returncode != 0
    wait_until(lambda: not in_session(process.pid))


def test_a_reader_that_closes_the_pipe_ends_the_run(tmp_path: Path) -> None:
    process = omniloop_run(tmp_path, "run.seeds=500", "run.workers=2", start_new_session=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=LONG_S) == 1
    process.stderr.close()
    wait_until(lambda: not in_session(process.pid))


@pytest.mark.parametrize("is_replaced", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_whose_folder_is_taken_away_ends_and_makes_no_half_of_one(
    tmp_path: Path, workers: int, is_replaced: bool
) -> None:
    class Removes(list[Event]):
        def tell(self, event: Event) -> None:
            self.append(event)
            if isinstance(event, RolloutEnded) and sum(isinstance(e, RolloutEnded) for e in self) == 2:  # fmt: skip
                (tmp_path / "run").rename(tmp_path / "elsewhere")
                if is_replaced:
                    (tmp_path / "run").mkdir()
                    (tmp_path / "run" / ".lock").touch()

    settings = [
        "run.name=run", f"run.dir={tmp_path}", f"run.workers={workers}", "run.seeds=20",
        "run.concurrency=2",
    ]  # fmt: skip
    with pytest.raises(RunFolderError, match=r"was removed or replaced|cannot be"):
        execute(compose([*SMALL, *settings]), (Removes(),))
    assert not (tmp_path / "run" / "metrics.parquet").exists()


def test_results_that_vanish_during_a_run_are_no_complete_run(tmp_path: Path) -> None:
    class Removes:
        def tell(self, event: Event) -> None:
            if isinstance(event, RolloutEnded) and event.result.seed == 2:
                shutil.rmtree(tmp_path / "run" / "rollouts" / "curve" / "1")

    settings = ["run.name=run", f"run.dir={tmp_path}", "run.workers=1", "run.seeds=4", "run.concurrency=1"]  # fmt: skip
    with pytest.raises(RunFolderError, match="1 of 4 results are gone"):
        execute(compose([*SMALL, *settings]), (Removes(),))
    finished = execute(compose([*SMALL, *settings, "run.resume=true"]))
    assert (finished.resumed, len(finished.results)) == (3, 4)
