"""A record from a log is the record from memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from omniloop.core.errors import RunFolderError
from omniloop.runlog.messages import LogHeader
from omniloop.runlog.record import read_record
from omniloop.runlog.writer import LogWriter
from tests.runlog.samples import assert_same_bits, make_scene, make_schedule, play


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("n_actors", [0, 1, 3])
def test_a_record_comes_back_bit_for_bit(tmp_path: Path, noisy: bool, n_actors: int) -> None:
    record = play(
        tmp_path / "log.mcap", scene=make_scene(n_actors), noisy=noisy, stopped_by="collision"
    )
    assert_same_bits(read_record(tmp_path / "log.mcap"), record)


def test_a_scene_at_hand_is_taken(tmp_path: Path) -> None:
    scene = make_scene()
    record = play(tmp_path / "log.mcap", scene=scene)
    read = read_record(tmp_path / "log.mcap", scene=scene)
    assert read.scene is scene
    assert_same_bits(read, record)


def test_a_log_without_states_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.mcap"
    with LogWriter(path):
        pass
    with pytest.raises(RunFolderError, match="no header"):
        read_record(path)
    with LogWriter(path) as log:
        log.header(LogHeader("line/0", "line", 0, make_schedule(), {}, {}, (), "00"), make_scene())
    with pytest.raises(RunFolderError, match="no committed state"):
        read_record(path)


def test_a_log_without_its_scene_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.mcap"
    whole = tmp_path / "whole.mcap"
    record = play(whole)
    with LogWriter(path) as log:
        log.header(LogHeader("line/0", "line", 0, make_schedule(), {}, {}, (), "00"), make_scene())
        log.commit(record.ego.times_us[0], record.ego, record.ego, record.actors)
    with pytest.raises(RunFolderError, match=r"no attachment scene\.zip"):
        read_record(path)
