"""FID, KID and FVD end to end, with tiny networks that are called like the public ones."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from omniloop.core.errors import ConfigError, PluginError
from omniloop.report.image_metrics.choosing import choose
from omniloop.report.image_metrics.contract import FramePair
from omniloop.report.image_metrics.distribution import frechet_distance, kernel_distance
from omniloop.report.image_metrics.i3d import I3dMetric
from omniloop.report.image_metrics.inception import InceptionMetric
from tests.report.image_metrics import networks

SCENES = np.array(["a", "b"])

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


def png(seed: int, level: int = 0) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 120, (48, 64, 3)) + level
    return bytes(cv2.imencode(".png", noise.astype(np.uint8))[1])


def clip(start: int, frames: int = 12, cameras=("front", "rear"), level: int = 40):
    return [
        FramePair(c, 1000 * k, png(start + k + 100 * n), png(start + k + 100 * n, level))
        for n, c in enumerate(cameras)
        for k in range(frames)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def images(folder) -> str:
    return networks.saved(networks.Images(), folder / "images.pt")


@pytest.fixture(scope="module")
def videos(folder) -> str:
    return networks.saved(networks.Videos(), folder / "videos.pt")


def pixels(encoded: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def test_fid_and_kid_are_those_of_the_features_of_rgb_frames(images):
    metric = InceptionMetric(images, batch=5)
    measured = [metric.measure(clip(0)), metric.measure(clip(500, cameras=("front",)))]
    pairs = clip(0) + clip(500, cameras=("front",))
    expected = []
    for encoded in ([p.reference for p in pairs], [p.other for p in pairs]):
        x = np.array([pixels(e) for e in encoded], np.float64).transpose(0, 3, 1, 2) / 255
        spread = x.std((1, 2, 3), ddof=1)[:, None]
        halves = [x[:, :, :, :32].mean((2, 3)), x.mean((2, 3))]
        expected.append(np.concatenate([*halves, spread, x.max((1, 2, 3))[:, None]], axis=1))
    for side in (0, 1):
        rows = np.concatenate([m[side] for m in measured])
        assert rows == pytest.approx(expected[side], abs=1e-5)
    fid, kid = metric.score(measured, SCENES)
    assert fid.value == pytest.approx(frechet_distance(*expected), rel=1e-4)
    assert kid.value == pytest.approx(kernel_distance(*expected, subsets=100, size=1000), rel=1e-3)
    assert "8 features, weights of SHA-256" in metric.notes(measured)[0]


def test_fvd_is_that_of_the_features_of_videos_of_each_camera(videos):
    metric = I3dMetric(videos, frames=10, least_videos=2)
    measured = [metric.measure(clip(0)), metric.measure(clip(500))]
    expected = [[], []]
    for pairs in (clip(0), clip(500)):
        for camera in ("front", "rear"):
            own = [p for p in pairs if p.camera_id == camera][:10]
            for side, encoded in enumerate(([p.reference for p in own], [p.other for p in own])):
                frames = [cv2.resize(pixels(e).astype(np.float32), (224, 224)) for e in encoded]
                video = np.array(frames) / 127.5 - 1
                moved = np.abs(np.diff(video, axis=0)).mean()
                expected[side].append([*video.mean((0, 1, 2)), moved])
    assert np.concatenate([m.other for m in measured]) == pytest.approx(np.array(expected[1]), abs=1e-4)  # fmt: skip
    (fvd,) = metric.score(measured, SCENES)
    assert fvd.value == pytest.approx(frechet_distance(*map(np.array, expected)), rel=1e-3)


def test_cameras_with_too_few_frames_are_left_out_and_told(videos):
    metric = I3dMetric(videos, frames=16, least_videos=2)
    mixed = clip(0, frames=16, cameras=("front",)) + clip(0, frames=12, cameras=("rear",))
    measured = [metric.measure(mixed), metric.measure(clip(500))]
    assert [(len(m.reference), m.short) for m in measured] == [(1, 1), (0, 2)]
    (fvd,) = metric.score(measured, SCENES)
    assert (fvd.value, fvd.reason) == (None, "needs 2 videos, has 1")
    assert "3 of 4 videos have fewer than 16 frames" in metric.notes(measured)[1]


def test_equal_frames_have_no_distance_and_are_computed_once(images):
    metric = InceptionMetric(images, least_frames=8)
    same = [FramePair("front", k, png(k), png(k)) for k in range(12)]
    fid, kid = metric.score([metric.measure(same)], SCENES[:1])
    assert fid.value == pytest.approx(0, abs=1e-9)
    assert kid.value <= 0  # unbiased, and one set is the other
    assert len(metric._network._known) == 12


def test_scores_are_the_same_bytes_in_each_call_and_process(images, folder):
    code = f"""
import torch
torch.set_num_threads({networks.torch.get_num_threads()})  # each call computes alike with as many
from tests.report.image_metrics.test_network_metrics import InceptionMetric, SCENES, clip
metric = InceptionMetric({images!r}, batch=7, kid_subset_frames=20)
print([e.value.hex() for e in metric.score([metric.measure(clip(0)), metric.measure(clip(90))], SCENES)])
"""
    command = [sys.executable, "-c", code]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    metric = InceptionMetric(images, batch=7, kid_subset_frames=20)
    for _ in range(2):
        found = metric.score([metric.measure(clip(0)), metric.measure(clip(90))], SCENES)
        assert str([e.value.hex() for e in found]) == there.strip()


def test_too_few_frames_leave_fid_undefined_with_the_number_needed(images):
    few = [InceptionMetric(images).measure(clip(0, frames=5, cameras=("front",)))]
    fid, kid = InceptionMetric(images).score(few, SCENES[:1])
    assert (fid.value, fid.reason) == (None, "needs 8 frames, has 5")
    assert kid.value is not None
    fid, _ = InceptionMetric(images, least_frames=5).score(few, SCENES[:1])
    assert fid.value > 0
    one = [(rows[:1], other[:1]) for rows, other in few]
    assert InceptionMetric(images).score(one, SCENES[:1])[1].reason == "needs 2 frames, has 1"


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (networks.Flat, r"it gives \(\) for \(1, 3, 299, 299\), not 1 rows of features"),
        (networks.Maps, r"it gives \(1, 3, 299, 299\)"),
        (networks.NoKeyword, r"forward\(\) expected at most 2 argument"),
        (networks.Videos, "inception cannot use the file"),
    ],
)
def test_modules_that_are_called_otherwise_are_refused_at_once(module, says, tmp_path):
    with pytest.raises(ConfigError, match=says) as caught:
        InceptionMetric(networks.saved(module(), tmp_path / "m.pt"))
    assert "return_features=True" in caught.value.remedy


def test_files_that_are_no_torchscript_are_refused(tmp_path):
    text = tmp_path / "weights.pt"
    text.write_text("not found: 404")
    with pytest.raises(ConfigError, match="inception cannot use the file"):
        InceptionMetric(str(text))
    networks.torch.save({"weight": networks.torch.zeros(3)}, tmp_path / "state.pt")
    with pytest.raises(ConfigError, match=r"constants\.pkl"):
        InceptionMetric(str(tmp_path / "state.pt"))
    for path, says in (("nowhere.pt", "No such file"), (".", "Is a directory")):
        with pytest.raises(ConfigError, match=says):
            InceptionMetric(str(tmp_path / path))
    with pytest.raises(ConfigError, match="i3d cannot use the file"):
        I3dMetric(str(text))


def test_a_device_that_is_not_there_is_refused(images):
    if networks.torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ConfigError, match="inception cannot use the file") as caught:
        InceptionMetric(images, device="cuda")
    assert "inception.device=cuda" in caught.value.remedy


def test_features_that_are_not_finite_name_the_frame(tmp_path):
    metric = InceptionMetric(networks.saved(networks.Nan(), tmp_path / "m.pt"))
    black = bytes(cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1])
    pairs = [FramePair("front", 1000, black, black), FramePair("front", 2000, black, png(1))]
    with pytest.raises(ConfigError, match="not finite for the other's front at 2000 us"):
        metric.measure(pairs)


def test_running_out_of_memory_says_how_to_take_less(tmp_path):
    weights = networks.saved(networks.Greedy(), tmp_path / "m.pt")
    with pytest.raises(ConfigError, match="needs more memory than cpu has") as caught:
        InceptionMetric(weights, batch=32)
    assert "--set inception.batch=8" in caught.value.remedy


def test_a_frame_that_cannot_be_read_is_named(images):
    with pytest.raises(ConfigError, match="neither JPEG nor PNG") as caught:
        InceptionMetric(images).measure([FramePair("front", 7, b"broken", b"broken")])
    assert "front at 7 us" in caught.value.where


def test_weights_and_settings_choose_what_is_scored(images, videos):
    used, absent = choose()
    assert list(used) == ["difference"]
    assert absent == ["FVD: needs --weights i3d=PATH", "FID, KID: needs --weights inception=PATH"]
    used, absent = choose(
        weights=[f"inception={images}", f"i3d={videos}"], settings=["i3d.frames=12"]
    )
    assert list(used) == ["difference", "i3d", "inception"]
    assert absent == []
    own = "omniloop.report.image_metrics.inception:InceptionMetric"
    assert list(choose([own], weights=[f"{own}={images}"])[0]) == [own]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"weights": ["inception"]}, "'inception' cannot be read"),
        ({"weights": ["inseption=x"]}, "Did you mean 'inception'"),
        ({"settings": ["inception=8"]}, "'inception=8' cannot be read"),
        ({"settings": ["inception.batch=["]}, "cannot be read"),
        ({"settings": ["inception.bach=8"]}, "Did you mean 'batch'"),
        ({"settings": ["inception.batch=0"]}, "inception.batch is 0"),
        ({"settings": ["inception.batch=many"]}, "refuses its settings"),
        ({"settings": ["i3d.frames=9"]}, "i3d.frames is 9"),
        ({"settings": ["inception.kid_subset_frames=1"]}, "kid_subset_frames is 1"),
        ({"names": ["inception"]}, "no image metric gives scores"),
        ({"names": ["nothing"]}, "unknown image_metric plugin"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(arguments, says):
    with pytest.raises((ConfigError, PluginError), match=says):
        choose(**arguments)


def test_two_metrics_of_one_score_are_refused():
    own = "omniloop.report.image_metrics.difference:DifferenceMetric"
    with pytest.raises(ConfigError, match="two image metrics give 'gradient_error'"):
        choose(["difference", own])
