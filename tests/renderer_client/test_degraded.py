"""The rasteriser whose pictures get worse with the distance from the recorded path."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from omniloop.core import geometry
from omniloop.core.cameras import Camera, default_camera
from omniloop.core.contracts import RenderRequest, SessionInfo
from omniloop.core.errors import ConfigError
from omniloop.core.scene import Scene, VectorMap
from omniloop.renderer_client.degraded import DegradedRasterizer, degraded
from omniloop.renderer_client.rasterizer import Rasterizer
from omniloop.report.image_difference import difference
from omniloop.scenes.embedded import EmbeddedScenes

SIZE = {"width": 320, "height": 176}
TIMES_US = 2_000_000 + 33_333 * np.arange(8)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return EmbeddedScenes().load("straight_road")


def cameras() -> tuple[Camera, ...]:
    camera = default_camera()
    small = replace(camera, model=camera.model.resized(320, 176))
    return small, replace(small, id="second")


def session(scene: Scene, seed: int = 7) -> SessionInfo:
    end_us = scene.end_us
    return SessionInfo("s/0", scene, seed, scene.vehicle, scene.start_us, scene.start_us, end_us)


def request(scene: Scene, left_m: float, times_us: np.ndarray = TIMES_US) -> RenderRequest:
    """Frames of both cameras, ego so far to the left of where it was recorded."""
    index = np.repeat(np.arange(len(times_us)), 2)
    poses = geometry.compose(scene.ego.sample(times_us), geometry.pose(0.0, left_m))
    return RenderRequest(
        times_us, poses, scene.actors, scene.recorded_actors(times_us),
        np.tile([0, 1], len(times_us)), index, index,
    )  # fmt: skip


def images(scene: Scene, left_m: float, seed: int = 7, **settings: Any) -> tuple[bytes, ...]:
    opened = DegradedRasterizer(**SIZE, **settings).open(session(scene, seed), cameras())
    return opened.render(request(scene, left_m)).images


def plain(scene: Scene, left_m: float) -> tuple[bytes, ...]:
    opened = Rasterizer(**SIZE).open(session(scene), cameras())
    return opened.render(request(scene, left_m)).images


@pytest.mark.parametrize("left_m", [0.0, 0.09])
def test_on_the_path_the_frames_are_the_rasterisers_to_the_byte(scene: Scene, left_m: float):
    assert images(scene, left_m) == plain(scene, left_m)


@pytest.mark.parametrize("effect", ["blur_px_per_m", "warp_px_per_m", "noise_levels_per_m", None])
def test_every_effect_grows_with_the_distance(scene: Scene, effect: str | None):
    settings = dict.fromkeys(("blur_px_per_m", "warp_px_per_m", "noise_levels_per_m"), 0.0)
    chosen = {} if effect is None else {**settings, effect: 4.0}
    likeness = []
    for left_m in (0.0, 0.5, 1.0, 2.0, 4.0):
        pairs = zip(plain(scene, left_m), images(scene, left_m, **chosen), strict=True)
        likeness.append(np.mean([difference(a, b).ssim for a, b in pairs]))
    assert likeness[0] == 1.0
    assert all(near > far for near, far in itertools.pairwise(likeness)), likeness


def test_both_sides_of_the_path_are_off_it(scene: Scene):
    assert images(scene, -1.0) != plain(scene, -1.0)


def test_what_is_drawn_follows_from_seed_camera_and_time(scene: Scene):
    first = images(scene, 2.0)
    assert first == images(scene, 2.0)
    assert all(a != b for a, b in zip(first, images(scene, 2.0, seed=8), strict=True))
    black = replace(scene, map=VectorMap(), tracks=())
    shown = images(black, 2.0)
    assert len(set(shown)) == len(shown)  # other cameras and times, other noise


def test_the_frames_do_not_depend_on_how_they_are_asked_for(scene: Scene):
    whole = images(scene, 2.0)
    opened = DegradedRasterizer(**SIZE).open(session(scene), cameras())
    parts = [opened.render(request(scene, 2.0, TIMES_US[k : k + 1])).images for k in (3, 0, 7)]
    assert [p for part in parts for p in part] == [*whole[6:8], *whole[0:2], *whole[14:16]]


def test_beyond_the_largest_distance_it_gets_no_worse(scene: Scene):
    black = replace(scene, map=VectorMap(), tracks=())
    assert images(black, 25.0) == images(black, 60.0)
    assert images(black, 15.0) != images(black, 25.0)


def test_a_session_tells_how_far_ego_was_and_what_that_did(scene: Scene):
    opened = DegradedRasterizer(**SIZE).open(session(scene), cameras())
    opened.render(request(scene, 0.0))
    opened.render(request(scene, 3.0))
    facts = opened.facts()["distance"]
    assert (facts["frames"], facts["degraded"]) == (32, 16)
    assert facts["farthest_m"] == pytest.approx(3.0, abs=1e-6)


def test_the_picture_given_stays_as_it_is():
    image = np.full((64, 96, 3), 120, np.uint8)
    image[20:40, 30:60] = 255
    before = image.copy()
    changed = degraded(image, 1.0, 2.0, 5.0, np.random.default_rng(0))
    assert (image == before).all()
    assert (changed != before).any()


def test_noise_has_the_deviation_asked_for():
    grey = np.full((200, 300, 3), 128, np.uint8)
    noisy = degraded(grey, 0.0, 0.0, 6.0, np.random.default_rng(1)).astype(float)
    assert noisy.mean() == pytest.approx(128, abs=0.1)
    assert noisy.std() == pytest.approx(6.0, rel=0.02)
    assert (noisy[..., 0] == noisy[..., 2]).all()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"blur_px_per_m": -1.0}, "renderer.blur_px_per_m"),
        ({"warp_px_per_m": float("nan")}, "renderer.warp_px_per_m"),
        ({"noise_levels_per_m": float("inf")}, "renderer.noise_levels_per_m"),
        ({"free_m": "near"}, "renderer.free_m"),
        ({"free_m": 5.0, "most_m": 5.0}, "renderer.most_m"),
        ({"width": 33}, "renderer.width"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], says: str):
    with pytest.raises(ConfigError) as error:
        DegradedRasterizer(**settings)
    assert says in error.value.where
