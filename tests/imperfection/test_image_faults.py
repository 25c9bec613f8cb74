from __future__ import annotations

import asyncio

import cv2
import numpy as np
import pytest
import simplejpeg

from omniloop.core.cameras import default_camera
from omniloop.core.errors import ServiceError
from omniloop.core.messages import RenderRequest, RenderResult, SessionInfo
from omniloop.core.motion import ActorMotion
from omniloop.core.scene import Vehicle
from omniloop.imperfection.image import GainDrift, ImageFaults, disturb
from omniloop.imperfection.settings import ImageSettings
from tests.orchestrator.harness import make_scene

NEUTRAL = {"gain": 1.0, "blur_px": 0.0, "noise_levels": 0.0, "jpeg_quality": 95}
EDGE = np.zeros((48, 64, 3), dtype=np.uint8)
EDGE[:, 32:] = (120, 160, 200)


def jpeg(pixels: np.ndarray) -> bytes:
    return bytes(simplejpeg.encode_jpeg(pixels, quality=95, colorspace="RGB"))


def png(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", pixels[..., ::-1])[1])


def pixels_of(image: bytes) -> np.ndarray:
    if image.startswith(b"\xff\xd8"):
        return simplejpeg.decode_jpeg(image, colorspace="RGB").astype(int)
    return cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)


def changed(image: bytes, seed: int = 0, **settings: float) -> bytes:
    return disturb(image, **{**NEUTRAL, **settings}, noise=np.random.default_rng(seed))


@pytest.mark.parametrize("encode", [jpeg, png])
def test_a_picture_that_nothing_changes_keeps_its_bytes(encode):
    image = encode(EDGE)
    assert changed(image) is image


@pytest.mark.parametrize("encode", [jpeg, png])
@pytest.mark.parametrize("setting", [{"gain": 1.3}, {"blur_px": 2.0}, {"noise_levels": 5.0}])
def test_the_same_seed_gives_the_same_bytes_in_the_same_format(encode, setting):
    image = encode(EDGE)
    once = changed(image, **setting)
    assert once == changed(image, **setting)
    assert once[:3] == image[:3]
    assert once != image


def test_gain_multiplies_and_clips():
    brighter = pixels_of(changed(png(EDGE), gain=1.5))
    assert brighter[10, 50].tolist() == [180, 240, 255]
    assert brighter[10, 10].tolist() == [0, 0, 0]
    darker = pixels_of(changed(jpeg(EDGE), gain=0.5))
    assert np.abs(darker[10, 55] - [60, 80, 100]).max() <= 3


def test_blur_is_a_gaussian_of_its_deviation():
    across = pixels_of(changed(png(EDGE), blur_px=3.0))[24, :, 2] / 200
    slope = np.diff(across)
    places = np.arange(len(slope)) + 0.5
    mean = (slope * places).sum()
    assert mean == pytest.approx(31.5, abs=0.1)
    assert np.sqrt((slope * (places - mean) ** 2).sum()) == pytest.approx(3.0, rel=0.05)


def test_noise_has_its_deviation_is_grey_and_depends_on_its_seed():
    flat = np.full((200, 200, 3), 128, dtype=np.uint8)
    noisy = pixels_of(changed(png(flat), noise_levels=6.0))
    assert (noisy - 128).std() == pytest.approx(6.0, rel=0.02)
    assert (noisy[..., 0] == noisy[..., 2]).all()
    assert changed(png(flat), noise_levels=6.0) != changed(png(flat), seed=1, noise_levels=6.0)


@pytest.mark.parametrize("image", [b"no picture", b"\xff\xd8cut", b"\x89PNGcut"])
def test_what_is_no_picture_is_an_error(image):
    with pytest.raises((ValueError, cv2.error)):
        changed(image, gain=2.0)


def test_gain_stays_in_its_range_drifts_slowly_and_differs_by_camera():
    settings = ImageSettings(gain=(0.5, 2.0), gain_period_s=5.0)
    span = 1_000_000, 601_000_000
    drift = GainDrift(settings, *span, 4, "front")
    gains = np.array([drift.at(t) for t in range(*span, 100_000)])
    assert 0.5 <= gains.min() < 0.6
    assert 1.8 < gains.max() <= 2.0
    assert np.abs(np.diff(np.log(gains))).max() <= np.log(4) / 50 + 1e-12
    assert np.mean(np.log(gains)) == pytest.approx(0, abs=0.15)
    other = GainDrift(settings, *span, 4, "rear")
    assert other.at(2_000_000) != drift.at(2_000_000)
    assert GainDrift(settings, span[0], 90_000_000, 4, "front").at(77_000_000) == drift.at(77_000_000)  # fmt: skip


def test_a_gain_of_one_is_exactly_one():
    drift = GainDrift(ImageSettings(blur_px=1), 0, 10_000_000, 4, "front")
    assert {drift.at(t) for t in range(0, 10_000_000, 123_457)} == {1.0}


def session_faults(settings: ImageSettings) -> ImageFaults:
    scene = make_scene(cameras=(default_camera(),))
    info = SessionInfo("line/0", scene, 1, Vehicle(), 0, 0, 6_000_000)
    return ImageFaults(settings, info, scene.cameras, 9)


def apply(faults: ImageFaults, capture_us: list[int], result: RenderResult) -> RenderResult:
    times, frames = np.array(capture_us), np.arange(len(capture_us))
    motion = ActorMotion(times, np.zeros((0, len(times), 7)), np.zeros((0, len(times)), bool))
    request = RenderRequest(
        times, np.zeros((len(times), 7)), (), motion, 0 * frames, frames, frames
    )
    return asyncio.run(faults.apply(request, result))


WORSE = ImageSettings(gain=(0.5, 0.9), blur_px=1, noise_levels=3)


def test_a_frame_is_the_same_however_it_is_asked_for_and_facts_tell_the_gains():
    times = [100_000 * k for k in range(1, 7)]
    together = session_faults(WORSE)
    images = apply(together, times, RenderResult((jpeg(EDGE),) * 6)).images
    alone = session_faults(WORSE)
    singly = [apply(alone, [t], RenderResult((jpeg(EDGE),))).images[0] for t in times]
    assert list(images) == singly
    assert len(set(images)) == 6
    assert together.facts() == alone.facts()
    (facts,) = together.facts().values()
    assert facts["frames"] == 6
    assert 0.5 <= facts["gain_min"] < facts["gain_max"] <= 0.9


def test_lost_frames_are_left_out():
    faults = session_faults(WORSE)
    result = RenderResult((b"garbage", jpeg(EDGE)), lost=np.array([True, False]))
    out = apply(faults, [1, 2], result)
    assert out.images[0] == b"garbage"
    assert out.images[1] != jpeg(EDGE)
    assert faults.facts()[default_camera().id]["frames"] == 1


def test_a_renderer_that_returns_no_picture_is_named():
    with pytest.raises(ServiceError, match="neither JPEG nor PNG") as caught:
        apply(session_faults(WORSE), [5], RenderResult((b"text",)))
    assert "line/0, camera camera_front_wide_120fov at 5 us" in str(caught.value)
