from __future__ import annotations

from omniloop.scenes.edits.apply import apply_edits
from omniloop.scenes.edits.files import read_edit_file
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.scenes.opening import open_scenes
from omniloop.scenes.rig import STANDARD_RIG


def rigged(scene):
    return apply_edits(scene, read_edit_file("recipe:standard_rig").resolve({}))


def test_any_scene_gets_both_cameras_and_keeps_all_else():
    scene = EmbeddedScenes().load("curve")
    edited = rigged(scene)
    assert edited.cameras == STANDARD_RIG
    assert edited.edits == (
        "standard_rig: camera_front_wide_120fov, camera_front_tele_30fov instead of"
        " camera_front_wide_120fov",
    )
    assert (edited.ego, edited.tracks, edited.map) == (scene.ego, scene.tracks, scene.map)


def test_first_images_go_with_their_cameras(shared_data):
    scene = open_scenes("nuscenes", {}, str(shared_data / "nuscenes_mini")).load("scene-0061")
    assert scene.first_frames
    edited = rigged(scene)
    assert edited.cameras == STANDARD_RIG
    assert edited.first_frames == ()
