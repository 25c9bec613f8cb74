from __future__ import annotations

import numpy as np
import pytest

from omniloop.core.cameras import default_camera
from omniloop.core.errors import ConfigError, SceneError
from omniloop.scenes.families import FAMILIES, FamilyScenes, is_held_out, make
from omniloop.scenes.native import scene_hash
from omniloop.scenes.rig import FRONT_TELE, FRONT_WIDE, STANDARD_RIG
from omniloop.scenes.validate import validate_scene


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("index", [0, 17, 901])
def test_a_scene_is_sound_and_ego_starts_at_the_origin(family, index):
    scene = make(f"{family}-{index:04d}")
    assert scene.id == f"{family}-{index:04d}"
    assert [f for f in validate_scene(scene) if f.severity != "info"] == []
    assert np.linalg.norm(scene.ego.poses[0, :3]) < 0.5
    assert np.linalg.norm(scene.ego.poses[-1, :2]) > 20.0


def test_a_name_is_one_scene_and_indices_differ():
    assert scene_hash(make("curve-0003")) == scene_hash(make("curve-0003"))
    assert scene_hash(make("curve-0003")) != scene_hash(make("curve-0004"))


def test_ego_accelerates_within_what_a_driver_does():
    for family in sorted(FAMILIES):
        scene = make(f"{family}-0005")
        times = np.arange(0, scene.end_us + 1, 100_000)
        speed = np.linalg.norm(np.diff(scene.ego.sample(times)[:, :2], axis=0), axis=1) / 0.1
        accel = np.diff(speed) / 0.1
        assert accel.max() < 2.5
        assert accel.min() > -7.5


def test_scenes_have_the_standard_rig():
    assert [c.id for c in make("straight-0000").cameras] == [FRONT_WIDE, FRONT_TELE]
    assert default_camera().id == FRONT_WIDE
    wide, tele = (c.model for c in STANDARD_RIG)
    for model, degrees in ((wide, 120.0), (tele, 30.0)):
        edges = model.unproject(np.array([[-0.5, model.cy], [model.width - 0.5, model.cy]]))
        assert np.rad2deg(np.arccos(edges[0] @ edges[1])) == pytest.approx(degrees)


def test_the_split_is_by_index():
    assert is_held_out("curve-0900")
    assert not is_held_out("curve-0899")
    assert not is_held_out("curve")
    held = FamilyScenes(split="heldout").ids()
    training = FamilyScenes(split="training").ids()
    assert all(is_held_out(name) for name in held)
    assert not any(is_held_out(name) for name in training)
    assert len(held) == 100 * len(FAMILIES)
    assert sorted(held + training) == FamilyScenes().ids()


def test_families_and_a_count_choose_scenes():
    source = FamilyScenes(split="heldout", families=["s_bend", "curve"], count=2)
    assert source.ids() == ["curve-0900", "curve-0901", "s_bend-0900", "s_bend-0901"]
    assert source.load("curve-0901").id == "curve-0901"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"split": "held_out"}, "heldout"), ({"families": ["curves"]}, "curve"),
        ({"count": 0}, "count"), ({"path": "x"}, "path"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_refused(arguments, word):
    with pytest.raises(ConfigError, match=word):
        FamilyScenes(**arguments)


@pytest.mark.parametrize("name", ["curve-17", "curve-1000", "bend-0001", "curve"])
def test_an_unknown_scene_is_refused(name):
    with pytest.raises(SceneError, match="no scene"):
        FamilyScenes().load(name)
