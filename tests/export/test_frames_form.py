"""`--to frames`: images as they were logged, with the poses at their capture."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from omniloop.core.cameras import default_camera
from omniloop.export.export import export_run
from omniloop.export.settings import ExportSettings
from omniloop.runlog.reader import iter_frames
from tests.export.runs import SIZE, add_rollout, make_run, tree
from tests.report.builders import START_US, make_frames

CAMERA = default_camera().id


def settings(**choices) -> ExportSettings:
    return ExportSettings("frames", **choices)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("frames") / "run", ["a", "b.c"], seeds=2)


def test_every_image_is_a_file_with_the_bytes_of_the_log(run, tmp_path):
    done = export_run(run, tmp_path / "out", settings())
    logged = list(iter_frames(run / "rollouts/a/1/log.mcap"))
    for frame in logged:
        file = tmp_path / f"out/a/1/{CAMERA}/{frame.capture_us}.jpg"
        assert file.read_bytes() == frame.image
    images = list((tmp_path / "out").rglob("*.jpg"))
    assert len(images) == done.samples == 4 * len(logged)
    assert (done.rollouts, done.added, done.skipped) == (4, 4, ())


def test_a_dot_in_a_scene_id_is_encoded(run, tmp_path):
    export_run(run, tmp_path / "out", settings(scenes=("b.c",)))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        ".lock",
        "b%2Ec",
        "manifest.json",
    ]
    table = pq.read_table(tmp_path / "out/b%2Ec/0/frames.parquet", partitioning=None)
    assert set(table["scene"].to_pylist()) == {"b.c"}


def test_poses_are_those_at_capture_between_committed_states(tmp_path):
    run = make_run(tmp_path / "run", [])

    def shifted(record):  # captured 37 ms after a committed state
        return [
            replace(f, start_us=f.capture_us + 30_000, capture_us=f.capture_us + 37_000,
                    available_us=f.capture_us + 60_000)
            for f in make_frames(record, SIZE)[:-1]
        ]  # fmt: skip

    add_rollout(run, "a", frames=shifted)
    export_run(run, tmp_path / "out", settings())
    rows = pq.read_table(tmp_path / "out/a/0/frames.parquet").to_pylist()
    for k, row in enumerate(rows):
        assert row["capture_us"] == START_US + 100_000 * k + 37_000
        assert row["available_us"] == START_US + 100_000 * k + 60_000
        # Ego drives along +x at 10 m/s.
        expected = [10 * (0.1 * k + 0.037), 0, 0, 0, 0, 0, 1]
        np.testing.assert_allclose(row["local_to_rig"], expected, atol=1e-9)
        np.testing.assert_array_equal(row["rig_to_camera"], default_camera().rig_to_camera)
        assert row["warmup"] == (k < 10)
        assert (row["width_px"], row["height_px"]) == SIZE


def test_intrinsics_are_those_of_the_delivered_size(run, tmp_path):
    export_run(run, tmp_path / "out", settings())
    document = json.loads((tmp_path / "out/a/0/cameras.json").read_text())
    found = document[CAMERA]["intrinsics"]
    assert (found["model"], found["width"], found["height"]) == ("ftheta", *SIZE)
    # 1280 x 704 is scaled by max(64 / 1280, 48 / 704) and cropped at the centre.
    native = default_camera().model
    assert found["angle_to_pixeldist"][1] == pytest.approx(native.angle_to_pixeldist[1] * 48 / 704)
    assert found["cx"] == pytest.approx((SIZE[0] - 1) / 2)
    assert found["cy"] == pytest.approx((SIZE[1] - 1) / 2)


def test_choices_thin_out_and_cut(run, tmp_path):
    def times(**choices):
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        export_run(run, out, settings(scenes=("a",), **choices))
        table = pq.read_table(out / "a/0/frames.parquet")
        assert len(list((out / "a/0").rglob("*.jpg"))) == len(table)
        return (np.array(table["capture_us"]) - START_US) // 1000

    np.testing.assert_array_equal(times(), np.arange(0, 6001, 100))
    np.testing.assert_array_equal(times(every=7), np.arange(0, 6001, 700))
    np.testing.assert_array_equal(times(after_handover_only=True), np.arange(1000, 6001, 100))
    # Front to rear at 4.72 s (tests/report/test_incident_list.py).
    np.testing.assert_array_equal(times(until_incident=True), np.arange(0, 4701, 100))


def test_exporting_twice_gives_the_same_bytes(run, tmp_path):
    for name in ("one", "two"):
        export_run(run, tmp_path / name, settings())
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
