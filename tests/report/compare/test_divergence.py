from __future__ import annotations

import pytest

from omniloop.core.errors import RunFolderError
from omniloop.report.compare.divergence import divergence
from omniloop.runlog.reader import LogReader
from tests.report.builders import START_US, make_record, write_log


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    for name, speed in (("ten", 10.0), ("again", 10.0), ("nine", 9.0)):
        write_log(folder / f"{name}.mcap", make_record(speed_mps=speed))
    return folder


HANDOVER_US = START_US + 1_000_000


def test_logs_of_the_same_drive_never_part(logs):
    found = divergence(logs / "ten.mcap", logs / "again.mcap", 0.0)
    assert (found.time_us, found.problem) == (None, "")
    assert found.until_us == START_US + 6_000_000


@pytest.mark.parametrize(
    ("tolerance_m", "after_s"), [(0.0, 0.1), (0.15, 0.2), (1.0, 1.1), (4.95, 5.0)]
)
def test_the_time_follows_from_the_speeds(logs, tolerance_m, after_s):
    # 1 m/s apart from handover on, states every 100 ms.
    found = divergence(logs / "ten.mcap", logs / "nine.mcap", tolerance_m)
    assert found.time_us == HANDOVER_US + int(after_s * 1e6)
    assert found.distance_m == pytest.approx(after_s)


def test_within_the_tolerance_they_do_not_part(logs):
    assert divergence(logs / "ten.mcap", logs / "nine.mcap", 5.1).time_us is None


def test_a_log_that_is_cut_off_is_compared_as_far_as_it_goes_and_named(logs, tmp_path):
    data = (logs / "again.mcap").read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(data[: len(data) // 2])
    for pair in ((logs / "ten.mcap", cut), (cut, logs / "ten.mcap")):
        found = divergence(*pair, 0.1)
        assert found.time_us is None
        assert "cut off or damaged" in found.problem
        assert "cut.mcap" in found.problem


def test_a_log_that_is_no_log_is_named(logs, tmp_path):
    (tmp_path / "none.mcap").write_text("hello")
    for other in ("none.mcap", "missing.mcap"):
        found = divergence(logs / "ten.mcap", tmp_path / other, 0.1)
        assert (found.time_us, found.until_us) == (None, None)
        assert other in found.problem
    with pytest.raises(RunFolderError):
        LogReader(tmp_path / "none.mcap")


def test_a_shorter_rollout_is_compared_up_to_its_end(logs, tmp_path):
    from tests.report.builders import make_scene

    write_log(tmp_path / "short.mcap", make_record(make_scene(seconds=3.0)))
    for pair in (("short", "ten"), ("ten", "short")):
        paths = [(tmp_path if name == "short" else logs) / f"{name}.mcap" for name in pair]
        found = divergence(*paths, 0.01)
        assert found.time_us is None
        assert found.until_us == START_US + 3_000_000
