"""Renderers compared on frozen states: a known degradation must show as what it is."""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from omniloop.configs.compose import compose
from omniloop.core.errors import ConfigError, RunFolderError
from omniloop.report.backend_bins import Bin, bins_of, brief_table, chart, check_edges, full_table
from omniloop.report.backends import Clips, clips_of
from omniloop.report.image_metrics.difference import DifferenceMetric
from omniloop.report.tabular import to_csv, to_markdown
from omniloop.runner.rerender import rerender
from omniloop.runner.run import execute

SETTINGS = (
    "renderer.width=128", "renderer.height=80", "scenes.ids=curve,junction", "sync.duration_s=5",
)  # fmt: skip
EDGES_M = (0.1, 0.75, 2.0, 4.0)
METRICS = {"difference": DifferenceMetric()}
SCORES = ("ssim", "psnr_db", "gradient_error")
STRENGTHS = ("blur_px_per_m", "warp_px_per_m", "noise_levels_per_m")


def drive(folder: Path, name: str, *settings: str) -> Path:
    execute(compose([f"run.dir={folder}", f"run.name={name}", *SETTINGS, *settings]))
    return folder / name


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that leaves the path, drawn again plainly, mildly and strongly degraded."""
    folder = tmp_path_factory.mktemp("backends")
    driven = drive(folder, "driven", "policy=constant_velocity")
    rerender(driven, folder / "plain")
    for name, times in (("mild", 0.3), ("strong", 1.5)):
        settings = [f"renderer.{key}={times}" for key in STRENGTHS]
        rerender(driven, folder / name, ["renderer=degraded", *settings])
    return folder


def clips(runs: Path, name: str) -> Clips:
    return clips_of(runs / "driven", runs / name, name, clip_s=0.25, every=2)


def value(found: Bin, name: str) -> float:
    return found.estimates[name].value


def test_the_same_renderer_differs_by_nothing_in_any_bin(runs):
    found = bins_of(clips(runs, "plain"), EDGES_M)
    assert len(found) >= 3
    for b in found:
        ssim, psnr, gradient = (b.estimates[name] for name in SCORES)
        assert (ssim.value, psnr.value, gradient.value) == (1.0, None, 0.0)
        assert psnr.reason == "identical"
        assert (ssim.interval.low, ssim.interval.high) in [
            (None, None),
            (pytest.approx(1.0), pytest.approx(1.0)),
        ]
        assert gradient.interval.low is None
        assert gradient.interval.reason


def test_a_degradation_grows_over_the_bins_and_is_nothing_on_the_path(runs):
    found = bins_of(clips(runs, "strong"), EDGES_M)
    ssim, psnr_db, gradient_error = ([value(b, name) for b in found] for name in SCORES)
    assert (found[0].low_m, ssim[0]) == (0.0, 1.0)
    assert len(found) == 5
    assert all(a.deviation_m < b.deviation_m for a, b in itertools.pairwise(found))
    assert all(a > b for a, b in itertools.pairwise(ssim))
    assert all(a > b for a, b in itertools.pairwise(psnr_db[1:]))
    assert all(a < b for a, b in itertools.pairwise(gradient_error[1:]))


def test_curves_of_two_strengths_are_apart_off_the_path(runs):
    mild, strong = (bins_of(clips(runs, name), EDGES_M) for name in ("mild", "strong"))
    assert [b.label for b in mild] == [b.label for b in strong]
    assert [b.deviation_m for b in mild] == [b.deviation_m for b in strong]
    for weak, much in zip(mild[1:], strong[1:], strict=True):
        assert value(weak, "ssim") > value(much, "ssim")
        assert value(weak, "psnr_db") > value(much, "psnr_db")
        assert value(weak, "gradient_error") < value(much, "gradient_error")


def test_clips_hold_every_frame_once(runs):
    whole = clips_of(runs / "driven", runs / "mild", "mild", clip_s=0.5)
    longer = clips_of(runs / "driven", runs / "mild", "mild", clip_s=100.0)
    assert len(longer.frames) == 2
    assert whole.frames.sum() == longer.frames.sum()
    sums = [sum(c.measured["difference"]) for c in (whole, longer)]
    assert sums[0] == pytest.approx(sums[1])
    assert sums[0][0] == whole.frames.sum()
    assert sorted(set(whole.rollouts)) == ["curve/0", "junction/0"]
    assert whole.frames.max() <= 16  # 0.5 s at 30 Hz
    half = clips_of(runs / "driven", runs / "mild", "mild", clip_s=100.0, every=2)
    assert (abs(2 * half.frames - longer.frames) <= 1).all()


def test_tables_and_chart_are_the_same_each_time_and_sound(runs):
    def written() -> tuple[str, str, str]:
        compared = [(c, bins_of(c, EDGES_M)) for c in (clips(runs, "mild"), clips(runs, "strong"))]
        return (
            to_csv(full_table(compared, "driven")),
            to_markdown(brief_table(compared, "driven")),
            chart(compared, "driven"),
        )

    csv, markdown, picture = written()
    assert written() == (csv, markdown, picture)
    assert len(csv.splitlines()) == 11
    assert csv.splitlines()[1].startswith("mild,driven,0.0,0.1,")
    assert "| identical |" in markdown
    root = ET.fromstring(picture)
    lines = [e for e in root.iter() if e.tag.endswith("polyline")]
    assert len(lines) == 4
    assert {line.attrib["class"] for line in lines} == {"s0", "s1"}
    assert "mean deviation from the path" in picture


def made(deviation_m: list[float], ssim: list[float], scenes: list[str]) -> Clips:
    frames = np.full(len(ssim), 10)
    sums = 10 * np.array([(1.0, s, 100 * (1 - s), 1 - s) for s in ssim])
    rollouts = np.array([f"{s}/0" for s in scenes])
    measured = {"difference": tuple(sums)}
    return Clips(
        "made", np.array(scenes), rollouts, np.array(deviation_m), frames, METRICS, measured
    )


def test_a_bin_holds_its_lower_end_and_means_are_over_frames():
    found = bins_of(
        made([0.0, 0.5, 0.99, 9.0], [1.0, 0.8, 0.6, 0.2], ["a", "a", "b", "b"]),
        (0.5, 1.0),
    )
    assert [(b.label, b.clips, b.scenes) for b in found] == [("0-0.5", 1, 1), ("0.5-1", 2, 2), ("1+", 1, 1)]  # fmt: skip
    assert value(found[1], "ssim") == pytest.approx(0.7)
    assert found[1].deviation_m == pytest.approx(0.745)
    assert value(found[1], "psnr_db") == pytest.approx(10 * math.log10(255**2 / 30))


def test_intervals_are_over_scenes_and_hold_the_mean():
    ssim = [0.5, 0.52, 0.7, 0.72, 0.6, 0.61]
    found = bins_of(made([2.0] * 6, ssim, ["a", "a", "b", "b", "c", "c"]), (1.0,))[0]
    interval = found.estimates["ssim"].interval
    assert interval.low < np.mean(ssim) < interval.high
    psnr = found.estimates["psnr_db"]
    assert psnr.interval.low < psnr.value < psnr.interval.high
    one_scene = bins_of(made([2.0] * 6, ssim, ["a"] * 6), (1.0,))[0]
    assert one_scene.estimates["ssim"].interval.reason == "fewer than two scenes"


@pytest.mark.parametrize("edges", [(1.0, 1.0), (2.0, 1.0), (0.0, 1.0), (-1.0,), (1.0, math.nan), (math.inf,)])  # fmt: skip
def test_edges_that_do_not_increase_are_refused(edges):
    with pytest.raises(ConfigError, match="bins end at"):
        check_edges(edges)


def test_runs_that_cannot_be_compared_are_refused(runs, tmp_path):
    other = drive(tmp_path, "other", "policy=log_replay", "scenes.ids=curve")
    with pytest.raises(ConfigError, match="curve/0 was driven otherwise in the second run"):
        clips_of(runs / "driven", other, "other")
    seeing = drive(tmp_path, "seeing", "sync.duration_s=1", "policy=log_replay")
    rerender(seeing, tmp_path / "wide", ["renderer.width=256"])
    with pytest.raises(ConfigError, match="128x80 and 256x80 pixels"):
        clips_of(seeing, tmp_path / "wide", "wide")
    elsewhere = drive(tmp_path, "elsewhere", "scenes.ids=straight_road", "sync.duration_s=1")
    with pytest.raises(ConfigError, match="no completed rollout in common"):
        clips_of(runs / "driven", elsewhere, "elsewhere")
    blind = [drive(tmp_path, f"blind{k}", "renderer=none", "sync.duration_s=1") for k in (1, 2)]
    with pytest.raises(ConfigError, match="no rollout holds frames"):
        clips_of(blind[0], blind[1], "blind")
    with pytest.raises(ConfigError, match="the frames are not the same ones"):
        clips_of(seeing, same_states(tmp_path), "slow")
    with pytest.raises(RunFolderError, match="does not exist"):
        clips_of(runs / "driven", tmp_path / "nowhere", "nowhere")


def same_states(folder: Path) -> Path:
    """A run with the states of "seeing" and frames of another rate: there are none like it."""
    return drive(folder, "silent", "sync.duration_s=1", "policy=log_replay", "imperfection.frames.loss=0.5")  # fmt: skip


@pytest.mark.parametrize("settings", [{"clip_s": 0.0}, {"clip_s": math.nan}, {"every": 0}])
def test_clips_without_length_are_refused(runs, settings):
    with pytest.raises(ConfigError, match="clips of"):
        clips_of(runs / "driven", runs / "mild", "mild", **settings)


def test_a_log_that_is_cut_off_is_refused(runs, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(runs / "mild", copy)
    log = copy / "rollouts" / "curve" / "0" / "log.mcap"
    log.write_bytes(log.read_bytes()[:-5000])
    with pytest.raises(RunFolderError, match="the log is incomplete"):
        clips_of(runs / "driven", copy, "copy")
