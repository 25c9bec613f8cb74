from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from omniloop.core import geometry
from omniloop.core.cameras import Camera, PinholeCamera, default_camera
from omniloop.core.motion import Trajectory
from omniloop.core.scene import Scene, VectorMap
from omniloop.report.palette import LIGHT
from omniloop.report.scene_picture import draw_scene, scene_image
from tests.report.builders import make_scene


def count(image: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((np.abs(image.astype(int) - color).max(axis=2) <= 4).sum())


def test_the_png_shows_the_map_the_ego_path_and_every_class(tmp_path: Path) -> None:
    scene = make_scene()
    draw_scene(scene, tmp_path / "s.png")
    image = cv2.imread(str(tmp_path / "s.png"))[..., ::-1]
    assert image.shape[1] == 1600
    for color in (LIGHT.lane, LIGHT.drivable, LIGHT.background, LIGHT.ego):
        assert count(image, color) > 500
    for color in (LIGHT.truck, LIGHT.cyclist, LIGHT.pedestrian):
        assert count(image, color) > 20


def test_the_ego_path_runs_from_start_to_end_in_a_line() -> None:
    scene = replace(make_scene(), tracks=(), cameras=())
    image = scene_image(scene)
    path = np.abs(image[84:-80].astype(int) - LIGHT.ego).max(axis=2) <= 4
    columns = np.flatnonzero(path.sum(axis=0) >= 3)
    # Small scenes are drawn at 12 px/m; ego's box sticks out of both ends of its path.
    assert columns[-1] - columns[0] == pytest.approx((60.0 + 5.393) * 12, abs=4)


def test_a_camera_adds_its_field_of_view_and_one_that_looks_down_does_not() -> None:
    scene = replace(make_scene(), tracks=())
    bare = scene_image(replace(scene, cameras=()))[84:]
    forward = scene_image(scene)[84:]
    changed = (forward != bare).any(axis=2)
    camera_column = 800 + (1.6 - 30.0) * 12  # 12 px/m, the middle of the path in the middle
    _, columns = np.nonzero(changed)
    assert changed.sum() > 10_000
    # It looks along +x, and so to the right of the camera; the path hides the fan's tip.
    assert columns.min() == pytest.approx(camera_column, abs=10)
    down = geometry.poses_from_xyz_yaw(np.array([1.0, 0.0, 2.0]), 0.0)
    down[3:] = [1.0, 0.0, 0.0, 0.0]  # optical z points down
    camera = Camera("down", PinholeCamera(2, 2, 1e4, 1e4, 0.5, 0.5), down)
    np.testing.assert_array_equal(scene_image(replace(scene, cameras=(camera,)))[84:], bare)


def variants() -> list[tuple[str, Scene]]:
    scene = make_scene()
    still = Trajectory(scene.ego.times_us, np.repeat(scene.ego.poses[:1], len(scene.ego), axis=0))
    track = scene.tracks[0]
    never = replace(track, valid=np.zeros(len(track.times_us), dtype=bool))
    gappy = replace(track, valid=np.arange(len(track.times_us)) % 7 < 4)
    return [
        ("ego stands still", replace(scene, ego=still)),
        ("no map", replace(scene, map=VectorMap())),
        ("nothing but ego", replace(scene, map=VectorMap(), tracks=(), cameras=())),
        ("a track that is never valid", replace(scene, tracks=(never,))),
        ("a track with gaps", replace(scene, tracks=(gappy,))),
        ("a long name", replace(scene, id="scene-" * 60, cameras=(default_camera(),) * 12)),
        ("a name that is not ASCII", replace(scene, id="Straße-東京")),
        ("one pose", replace(scene, ego=Trajectory(scene.ego.times_us[:1], scene.ego.poses[:1]))),
    ]


@pytest.mark.parametrize(("name", "scene"), variants(), ids=[name for name, _ in variants()])
def test_unusual_scenes_are_drawn_too(name: str, scene: Scene) -> None:
    image = scene_image(scene)
    assert image.shape[1:] == (1600, 3)
    assert count(image, LIGHT.ego) > 50, name


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        draw_scene(make_scene(), tmp_path / "none" / "s.png")


def test_real_recordings_are_drawn(shared_data: Path, tmp_path: Path) -> None:
    from omniloop.scenes.nuscenes import NuScenesScenes

    scene = NuScenesScenes(str(shared_data / "nuscenes_mini")).load("scene-0553")
    draw_scene(scene, tmp_path / "s.png")
    image = cv2.imread(str(tmp_path / "s.png"))[..., ::-1]
    assert count(image, LIGHT.lane) > 10_000
    assert count(image, LIGHT.ego) > 50
