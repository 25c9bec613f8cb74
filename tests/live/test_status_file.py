"""``status.json``: whole at every moment, and no burden to the run."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from omniloop.live.events import RolloutEnded, RunEnded
from omniloop.live.schema import SnapshotMessage, decode
from omniloop.live.status_file import STATUS_NAME, StatusFile
from tests.live.made_run import progress, result_of, rollouts, started, wait_for


def read(folder: Path) -> SnapshotMessage:
    message = decode((folder / STATUS_NAME).read_bytes())
    assert isinstance(message, SnapshotMessage)
    return message


def test_it_tells_the_newest_and_what_was_notable(tmp_path: Path) -> None:
    said: list[str] = []
    file = StatusFile(said.append, period_s=0.02)
    file.tell(started(run_dir=str(tmp_path)))
    wait_for((tmp_path / STATUS_NAME).exists)
    assert read(tmp_path).status.state == "running"
    assert read(tmp_path).status.process == os.getpid()
    for event in (*rollouts(2), progress(2), RolloutEnded(result_of(2, crash=True), 1, "w0")):
        file.tell(event)
    wait_for(lambda: read(tmp_path).progress is not None)
    file.tell(progress(3, "completed"))
    file.tell(RunEnded("completed"))
    file.close(120.0)
    last = read(tmp_path)
    assert (last.status.state, last.status.done) == ("completed", 3)
    assert [item.kind for item in last.latest] == ["incident"]
    assert not said
    assert os.listdir(tmp_path) == [STATUS_NAME]


def test_a_reader_never_sees_half_of_it(tmp_path: Path) -> None:
    file = StatusFile(print, period_s=0.001)
    file.tell(started(run_dir=str(tmp_path)))
    wait_for((tmp_path / STATUS_NAME).exists)
    for done in range(200):
        file.tell(progress(done))
        json.loads((tmp_path / STATUS_NAME).read_bytes())
    file.close(120.0)


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    file = StatusFile(said.append, period_s=0.02)
    file.tell(started(run_dir=str(tmp_path / "gone")))
    for done in range(5):
        file.tell(progress(done))
    wait_for(lambda: said)
    (tmp_path / "gone").mkdir()  # and once there is room again, it goes on
    wait_for((tmp_path / "gone" / STATUS_NAME).exists)
    file.close(120.0)
    assert len(said) == 1
    assert "the run goes on" in said[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
def test_a_full_disk_is_said_and_leaves_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    file = StatusFile(said.append, period_s=0.02)
    # The temporary file's name as a link to a device on which nothing has room.
    (tmp_path / f".{STATUS_NAME}.{os.getpid()}.tmp").symlink_to("/dev/full")
    file.tell(started(run_dir=str(tmp_path)))
    wait_for(lambda: said)
    assert "No space left" in said[0]
    wait_for((tmp_path / STATUS_NAME).exists)  # the rest was removed, so that it works again
    file.close(120.0)


def test_close_leaves_no_thread(tmp_path: Path) -> None:
    def writers() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "omniloop-status"}

    before = writers()
    file = StatusFile(print)
    file.tell(started(run_dir=str(tmp_path)))
    file.close(120.0)
    assert writers() <= before
    StatusFile(print).close()  # a run that never began
