"""Frames drawn again on frozen states: what stays, what changes, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from omniloop.configs.compose import compose
from omniloop.configs.schema import PluginConfig
from omniloop.core.errors import ConfigError, InputError, PluginError, RunFolderError
from omniloop.runlog.digest import digest_run
from omniloop.runlog.folder import read_run_yaml
from omniloop.runlog.reader import LogReader, iter_frames
from omniloop.runlog.record import read_record
from omniloop.runlog.results import read_results
from omniloop.runner.frozen import renderer_settings
from omniloop.runner.rerender import Rerendered, rerender
from omniloop.runner.run import execute

SMALL = ("renderer.width=64", "renderer.height=48", "scenes.ids=curve,straight_road")
LEAVES = ("policy=constant_velocity", "sync.duration_s=4")


def drive(folder: Path, *settings: str, name: str = "run") -> Path:
    execute(compose([f"run.dir={folder}", f"run.name={name}", *SMALL, *settings]))
    return folder / name


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drive(tmp_path_factory.mktemp("driven"), *LEAVES, "run.concurrency=4")


@pytest.fixture(scope="module")
def worse(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Rerendered:
    """That run drawn again by another renderer."""
    return rerender(run, tmp_path_factory.mktemp("drawn") / "worse", ["renderer=degraded"])


def log_of(run_dir: Path, scene: str = "curve") -> Path:
    return run_dir / "rollouts" / scene / "0" / "log.mcap"


def test_the_runs_own_renderer_gives_the_same_and_goes_on_where_it_left_off(run, tmp_path):
    out = tmp_path / "again"
    done = rerender(run, out)
    assert done.exit_code == 0
    assert digest_run(out) == digest_run(run)
    frames = list(iter_frames(log_of(run)))
    assert len(frames) > 100
    again = list(iter_frames(log_of(out)))
    assert [(f.camera_id, f.capture_us, f.available_us, f.image) for f in frames] == [
        (f.camera_id, f.capture_us, f.available_us, f.image) for f in again
    ]
    kept = log_of(out, "straight_road").stat().st_mtime_ns
    (log_of(out).parent / "result.json").unlink()
    with pytest.raises(RunFolderError, match="exists already"):
        rerender(run, out)
    drawn = []
    done = rerender(run, out, resume=True, progress=lambda r, k, n: drawn.append((r.scene, k, n)))
    assert drawn == [("curve", 1, 1)]
    assert [r.scene for r in done.results] == ["curve", "straight_road"]
    assert log_of(out, "straight_road").stat().st_mtime_ns == kept


@pytest.mark.parametrize(
    "settings",
    [
        ("sync=postfetch", "sync.decisions_per_chunk=2"),
        ("imperfection=all", "run.wire_precision=float32"),
    ],
)
def test_so_it_does_in_postfetch_and_when_everything_is_disturbed(tmp_path, settings):
    driven = drive(tmp_path, *settings, "sync.duration_s=1.2")
    rerender(driven, tmp_path / "again")
    assert digest_run(tmp_path / "again") == digest_run(driven)


def test_so_it_does_frame_by_frame_where_a_chunked_renderer_is_refused(tmp_path):
    driven = drive(tmp_path, "renderer.chunk=0", "renderer.fps=10", "sync.duration_s=1.2")
    rerender(driven, tmp_path / "again")
    assert digest_run(tmp_path / "again") == digest_run(driven)
    with pytest.raises(ConfigError, match="asked for frame by frame"):
        rerender(driven, tmp_path / "out", ["renderer.chunk=8"])


def test_another_renderer_changes_the_images_and_nothing_else(run, worse):
    first, second = log_of(run), log_of(worse.run_dir)
    one, two = read_record(first), read_record(second)
    for name in ("times_us", "local_to_rig", "dynamics"):
        assert np.array_equal(getattr(one.ego, name), getattr(two.ego, name))
    assert np.array_equal(one.actors.local_to_aabb, two.actors.local_to_aabb)
    assert len(one.decisions) == len(two.decisions) > 0
    images = [[f.image for f in iter_frames(log)] for log in (first, second)]
    changed = [a != b for a, b in zip(*images, strict=True)]
    assert any(changed)
    assert not changed[0]  # the warm-up is on the path
    before, after = read_results(run)[0], worse.results[0]
    assert after.metrics == before.metrics
    assert after.frames == before.frames
    assert (after.plugins["renderer"], before.plugins["renderer"]) == ("degraded", "rasterizer")
    # A hand's breadth off the path an effect may be less than a level.
    assert 0 <= after.facts["renderer"]["distance"]["degraded"] - sum(changed) <= 2
    assert set(after.timings["services"]) == {"renderer.open", "renderer.render", "renderer.close"}
    assert "drawn by degraded on states driven with rasterizer" in after.notices[-1]


def test_the_new_folder_is_a_runs_and_says_where_it_comes_from(run, worse):
    document = read_run_yaml(worse.run_dir)
    assert document["rerendered"] == {"run": str(run), "renderer": "rasterizer"}
    assert document["config"]["renderer"]["name"] == "degraded"
    assert document["config"]["renderer"]["width"] == 64
    header = LogReader(log_of(worse.run_dir)).header()
    assert header.plugins["renderer"] == "degraded"
    assert header.config["rerendered_from"] == "rasterizer"
    assert (worse.run_dir / "metrics.parquet").is_file()
    assert (log_of(worse.run_dir).parent / "timeseries.parquet").is_file()


def test_what_was_drawn_again_can_be_drawn_again(run, worse, tmp_path):
    done = rerender(worse.run_dir, tmp_path / "back", ["renderer=rasterizer"])
    assert digest_run(tmp_path / "back") == digest_run(run)
    assert read_run_yaml(tmp_path / "back")["rerendered"]["renderer"] == "rasterizer"
    notes = [n for n in done.results[0].notices if "drawn by" in n]
    assert notes == ["the frames are drawn by rasterizer on states driven with rasterizer"]


def test_the_same_bytes_whatever_the_concurrency(run, worse, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    text = (copy / "run.yaml").read_text()
    assert text.count("concurrency: 4") == 1
    (copy / "run.yaml").write_text(text.replace("concurrency: 4", "concurrency: 1"))
    rerender(copy, tmp_path / "one", ["renderer=degraded"])
    for scene in ("curve", "straight_road"):
        one, four = (log_of(r, scene).read_bytes() for r in (tmp_path / "one", worse.run_dir))
        assert one == four


def test_a_chunked_run_is_drawn_frame_by_frame_by_a_renderer_without_chunks(run, tmp_path):
    done = rerender(run, tmp_path / "single", ["renderer.chunk=0"])
    assert done.exit_code == 0
    images = [[f.image for f in iter_frames(log_of(r))] for r in (run, tmp_path / "single")]
    assert images[0] == images[1]


def test_a_run_is_never_drawn_into_itself(run):
    before = (run / "run.yaml").read_bytes()
    for resume in (False, True):
        with pytest.raises(ConfigError, match="into itself"):
            rerender(run, run, resume=resume)
    assert (run / "run.yaml").read_bytes() == before


def test_rollouts_that_failed_are_left_out_and_named(tmp_path):
    driven = drive(
        tmp_path, "policy=tests.plugins:FailsOnSeedOne", "run.seeds=2", "sync.duration_s=1.5"
    )
    done = rerender(driven, tmp_path / "again")
    assert [r.seed for r in done.results] == [0, 0]
    assert "curve/1 is left out: it ended as policy_failed" in done.notes


def test_a_renderer_that_fails_is_the_rollouts_outcome(run, tmp_path):
    done = rerender(run, tmp_path / "lost", ["renderer=tests.plugins:Evicted", "renderer.losses=1"])
    assert done.exit_code == 1
    assert {r.outcome for r in done.results} == {"infrastructure_failed"}
    assert done.results[0].error["type"] == "SessionEvicted"
    assert not any(value.valid for value in done.results[0].metrics.values())


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        (["policy=log_replay"], ConfigError, "is not of the renderer"),
        (["renderer=none"], ConfigError, "nothing to draw with"),
        (["renderer=rasteriser"], PluginError, "Did you mean 'rasterizer'"),
        (["renderer.depth=3"], InputError, "depth"),
        (["renderer=degraded", "renderer.blur_px_per_m=-1"], ConfigError, "blur_px_per_m is -1"),
        (["renderer.chunk=12"], ConfigError, "chunks of 12 frames at 30 Hz, the frames were asked"),
        (["renderer.fps=10"], ConfigError, "renderer.chunk=8 renderer.fps=30"),
        (["renderer.cameras=[rear]"], ConfigError, "told to render rear, the log has frames of"),
    ],
)
def test_a_renderer_that_does_not_fit_is_refused_before_anything_is_written(
    run, tmp_path, settings, error, says
):
    with pytest.raises(error) as caught:
        rerender(run, tmp_path / "out", settings)
    assert says in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_run_without_frames_is_refused(tmp_path):
    driven = tmp_path / "blind"
    execute(compose([
        f"run.dir={tmp_path}", "run.name=blind", "renderer=none", "scenes.ids=curve", "sync.duration_s=1",
    ]))  # fmt: skip
    with pytest.raises(RunFolderError, match="holds no frames: nothing was rendered"):
        rerender(driven, tmp_path / "out", ["renderer=rasterizer"])
    with pytest.raises(ConfigError, match="nothing to draw with"):
        rerender(driven, tmp_path / "out")


@pytest.mark.parametrize("cut_bytes", [40, 20_000])
def test_a_log_that_is_cut_off_is_refused(run, tmp_path, cut_bytes):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    log = log_of(copy)
    log.write_bytes(log.read_bytes()[:-cut_bytes])
    with pytest.raises(RunFolderError, match=r"the log is incomplete"):
        rerender(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_log_no_run_and_no_completed_rollout_are_refused(run, tmp_path):
    with pytest.raises(RunFolderError, match="does not exist"):
        rerender(tmp_path / "nowhere", tmp_path / "out")
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    log_of(copy).unlink()
    with pytest.raises(RunFolderError, match="the log cannot be read"):
        rerender(copy, tmp_path / "out")
    for path in copy.glob("rollouts/*/*/result.json"):
        result = json.loads(path.read_text())
        path.write_text(json.dumps({**result, "outcome": "policy_failed"}))
    with pytest.raises(RunFolderError, match="no completed rollout"):
        rerender(copy, tmp_path / "out")


def test_frame_settings_are_the_runs_unless_given_and_other_ones_only_of_the_same_renderer():
    before = PluginConfig(name="rasterizer", chunk=12, width=640, depth_max_m=50.0)
    same = renderer_settings(before, ["renderer.width=320"])
    assert same.name == "rasterizer"
    assert {k: same.arguments[k] for k in ("chunk", "width", "depth_max_m")} == {
        "chunk": 12, "width": 320, "depth_max_m": 50.0,
    }  # fmt: skip
    other = renderer_settings(before, ["renderer=degraded", "renderer.free_m=0.5"])
    assert other.arguments == {"chunk": 12, "fps": 30, "width": 640, "free_m": 0.5}
