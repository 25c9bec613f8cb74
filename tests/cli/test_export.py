"""`omniloop export` as users meet it, on a run that was simulated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from omniloop.runlog.digest import digest
from omniloop.runlog.reader import iter_frames
from omniloop.runlog.record import read_record
from tests.command import omniloop

QUICK = ("renderer.width=64", "renderer.height=48", "sync.duration_s=2", "run.seeds=2")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli")
    settings = (f"run.dir={path}", "run.name=demo", "scenes.ids=curve,cut_in", *QUICK)
    done = omniloop("run", *settings)
    assert done.returncode == 0, done.stderr
    return path / "demo"


def test_every_form_holds_every_decision_and_frame_of_the_logs(run, tmp_path):
    logs = {f"{p.parts[-3]}/{p.parts[-2]}": p for p in sorted(run.glob("rollouts/*/*/log.mcap"))}
    before = {name: digest(log) for name, log in logs.items()}
    records = {name: read_record(log) for name, log in logs.items()}
    for form in ("frames", "parquet", "webdataset"):
        done = omniloop("export", run, "--to", form, "--out", tmp_path / form)
        assert done.returncode == 0, done.stderr
        assert "of 4 rollout(s), 4 new" in done.stdout
    images = {p.read_bytes() for p in (tmp_path / "frames").rglob("*.jpg")}
    table = pq.read_table(tmp_path / "parquet/decisions").to_pylist()
    assert len(table) == sum(len(r.decisions) for r in records.values())
    for row in table:
        record = records[f"{row['scene']}/{row['seed']}"]
        decision = record.decisions[row["decision"]]
        assert row["time_us"] == decision.time_us
        assert row["plan_time_us"] == decision.plan.local_to_rig.times_us.tolist()
        at = np.searchsorted(record.ego.times_us, row["time_us"])
        np.testing.assert_allclose(row["local_to_rig"], record.ego.local_to_rig[at], atol=1e-12)
    for log in logs.values():
        assert {frame.image for frame in iter_frames(log)} <= images
    assert {name: digest(log) for name, log in logs.items()} == before


def test_choices_of_the_command_line_arrive(run, tmp_path):
    done = omniloop(
        "export", run, "--to", "parquet", "--out", tmp_path / "out", "--scenes", "cut*",
        "--every", "2", "--after-handover-only", "--outcome", "completed",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(tmp_path / "out/decisions").to_pylist()
    assert {row["scene"] for row in rows} == {"cut_in"}
    assert all(row["decision"] % 2 == 0 and not row["warmup"] for row in rows)
    again = omniloop("export", run, "--to", "parquet", "--out", tmp_path / "out", "--every", "3")
    assert again.returncode == 2
    assert "--every is 3, the export has 2" in again.stderr


def test_a_damaged_log_is_told_and_the_exit_code_is_1(run, tmp_path):
    log = run / "rollouts/curve/1/log.mcap"
    whole = log.read_bytes()
    log.write_bytes(whole[: len(whole) // 2])
    try:
        done = omniloop("export", run, "--to", "webdataset", "--out", tmp_path / "out")
    finally:
        log.write_bytes(whole)
    assert done.returncode == 1
    assert "not exported: curve/1: the log " in done.stderr
    assert "of 3 rollout(s), 3 new" in done.stdout
    done = omniloop("export", run, "--to", "webdataset", "--out", tmp_path / "out")
    assert (done.returncode, "of 4 rollout(s), 1 new" in done.stdout) == (0, True)


def test_bad_input_is_named(tmp_path):
    done = omniloop("export", tmp_path / "none", "--to", "frames")
    assert (done.returncode, "the folder does not exist" in done.stderr) == (2, True)
    done = omniloop("export", tmp_path, "--to", "tfrecord")
    assert done.returncode == 2
