"""The log's bytes: the same for the same calls, simulated times only, errors that say where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mcap.reader import make_reader

from omniloop.core.contracts import CameraFrame
from omniloop.core.errors import ConfigError, RunFolderError, SceneError
from omniloop.runlog.messages import LogHeader
from omniloop.runlog.reader import LogReader
from omniloop.runlog.writer import LATEST_US, LogWriter
from tests.runlog.samples import START_US, make_scene, make_schedule, play

FULL = Path("/dev/full")


def header(**changes: object) -> LogHeader:
    values: dict[str, object] = {
        "session_id": "line/0", "scene_id": "line", "seed": 0, "schedule": make_schedule(), "seeds": {},
        "plugins": {}, "privileged": (), "scene_sha256": "00",
    }  # fmt: skip
    return LogHeader(**{**values, **changes})  # type: ignore[arg-type]


def test_the_same_calls_write_the_same_bytes(tmp_path: Path) -> None:
    play(tmp_path / "a.mcap", seed=3)
    play(tmp_path / "b.mcap", seed=3)
    play(tmp_path / "c.mcap", seed=4)
    first, second, third = ((tmp_path / f"{name}.mcap").read_bytes() for name in "abc")
    assert first == second
    assert first != third


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    play(tmp_path / "a.mcap", seed=3)
    code = (
        "import sys; from pathlib import Path; from tests.runlog.samples import play;"
        "play(Path(sys.argv[1]), seed=3)"
    )
    root = Path(__file__).resolve().parents[2]
    for hash_seed in ("1", "2"):
        other = tmp_path / f"{hash_seed}.mcap"
        subprocess.run(
            [sys.executable, "-c", code, str(other)], cwd=root, check=True,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root), "PATH": ""},
        )  # fmt: skip
        assert other.read_bytes() == (tmp_path / "a.mcap").read_bytes()


def test_all_times_in_the_file_are_simulated(tmp_path: Path) -> None:
    record = play(tmp_path / "log.mcap")
    with (tmp_path / "log.mcap").open("rb") as file:
        reader = make_reader(file)
        times = {t for _, _, m in reader.iter_messages() for t in (m.log_time, m.publish_time)}
        stamps = {(a.log_time, a.create_time) for a in reader.iter_attachments()}
        library = reader.get_header().library
    assert min(times) >= START_US * 1000
    assert max(times) <= record.frontier_us * 1000
    assert stamps == {(0, 0)}
    assert library == "omniloop"


def test_messages_of_the_loop_never_go_back_in_time(tmp_path: Path) -> None:
    play(tmp_path / "log.mcap")
    times = [event.time_us for event in LogReader(tmp_path / "log.mcap").events()]
    assert times == sorted(times)


def test_secrets_are_masked(tmp_path: Path) -> None:
    play(
        tmp_path / "log.mcap",
        config={"policy": {"api_key": "hunter2", "url": "http://me:pw@host/"}},
    )
    assert b"hunter2" not in (tmp_path / "log.mcap").read_bytes()
    config = LogReader(tmp_path / "log.mcap").header().config
    assert config == {"policy": {"api_key": "***", "url": "http://***@host/"}}


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_told_with_path_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "log.mcap"
    path.symlink_to(FULL)
    with pytest.raises(RunFolderError, match="No space left") as caught:
        play(path)
    assert caught.value.where == str(path)
    assert "run.resume=true" in caught.value.remedy


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
def test_after_a_failure_closing_is_quiet(tmp_path: Path) -> None:
    path = tmp_path / "log.mcap"
    path.symlink_to(FULL)
    log = LogWriter(path)
    with pytest.raises(RunFolderError), log:
        log.scene(bytes(1 << 20))
    log.notice(START_US, "nobody hears this")
    log.close()


def test_a_path_that_cannot_be_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunFolderError, match="cannot be written"):
        LogWriter(tmp_path / "folder")
    with pytest.raises(RunFolderError, match="cannot be written") as caught:
        LogWriter(tmp_path / "missing" / "log.mcap")
    assert "missing" in caught.value.where


def test_closing_twice_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    with LogWriter(tmp_path / "log.mcap") as log:
        log.close()
        data = (tmp_path / "log.mcap").read_bytes()
    assert (tmp_path / "log.mcap").read_bytes() == data


def test_a_rollout_before_time_zero_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    early = replace(make_schedule(), context_start_us=-5)
    with LogWriter(tmp_path / "log.mcap") as log, pytest.raises(SceneError, match="-5 us"):
        log.header(header(schedule=early), make_scene())


def test_a_rollout_that_ends_after_what_a_log_can_hold_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    late = replace(make_schedule(), first_decision_us=LATEST_US)
    with LogWriter(tmp_path / "log.mcap") as log, pytest.raises(SceneError, match="no time after"):
        log.header(header(schedule=late), make_scene())


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_does_not_fit_is_refused(tmp_path: Path, seed: int) -> None:
    with LogWriter(tmp_path / "log.mcap") as log, pytest.raises(ConfigError, match=str(seed)):
        log.header(header(seed=seed), make_scene())


@pytest.mark.parametrize("value", [float("nan"), object()])
def test_settings_that_are_not_json_are_refused(tmp_path: Path, value: object) -> None:
    with LogWriter(tmp_path / "log.mcap") as log, pytest.raises(ConfigError, match="not JSON"):
        log.header(header(config={"x": value}), make_scene())


def test_settings_are_json_with_sorted_keys(tmp_path: Path) -> None:
    config = {"b": [1, 2.5, None], "a": {"ü": "→"}}
    play(tmp_path / "log.mcap", config=config)
    assert LogReader(tmp_path / "log.mcap").header().config == config
    play(tmp_path / "other.mcap", config=dict(reversed(list(config.items()))))
    assert (tmp_path / "log.mcap").read_bytes() == (tmp_path / "other.mcap").read_bytes()


def test_frames_and_notices_are_kept_for_the_result(tmp_path: Path) -> None:
    with LogWriter(tmp_path / "log.mcap") as log:
        for k, camera in enumerate(("left", "right", "left")):
            log.frame(CameraFrame(camera, b"", START_US, START_US + k, START_US + k))
        log.notice(START_US, "slow")
        assert log.frame_counts == {"left": 2, "right": 1}
        assert log.notices == ["slow"]
