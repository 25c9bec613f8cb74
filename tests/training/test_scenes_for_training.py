from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from omniloop.configs.suite import read_suite
from omniloop.core.errors import ConfigError
from omniloop.scenes.families import FAMILIES, FamilyScenes
from omniloop.training.scenes_for_training import (
    held_out,
    plan_work,
    real_scenes,
    recording_of,
)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_no_planned_scene_is_held_out():
    work = plan_work(3000)
    assert not [w for w in work if held_out(w.scene_id)]
    assert len({w.path(Path()) for w in work}) == len(work) == 3000


def test_validation_has_scenes_of_its_own():
    work = plan_work(2000)
    names = {split: {w.scene_id for w in work if w.split == split} for split in ("train", "val")}
    assert not names["train"] & names["val"]
    assert 0.03 < sum(w.split == "val" for w in work) / 2000 < 0.08


def test_any_first_part_is_of_all_families():
    for count in (60, 600):
        families = [w.scene_id.split("-")[0] for w in plan_work(count) if not w.edits]
        assert set(families) >= set(FAMILIES)


def test_a_plan_follows_from_its_seed():
    assert plan_work(100, seed=1) == plan_work(100, seed=1)
    assert plan_work(100, seed=1) != plan_work(100, seed=2)


def test_the_suite_of_families_is_held_out():
    (entry,) = read_suite("wam-heldout-families").entries
    ids = FamilyScenes(**entry.arguments).ids()
    assert len(ids) == 140
    assert all(held_out(name) for name in ids)


def test_the_suite_of_recordings_is_held_out():
    entries = yaml.safe_load((EXAMPLES / "wam-heldout-real.yaml").read_text())["scenes"]
    ids = [name for e in entries for name in e.get("ids", ())]
    assert len(ids) == len(set(ids)) == 66
    assert all(held_out(name) for name in ids)


def test_files_of_one_recording_belong_together():
    assert recording_of("USA_US101-10_3_T-1") == "USA_US101-10"
    assert recording_of("scene-0061") == "scene-0061"


def test_recordings_are_found_in_folders_and_held_out_ones_left_out(shared_data):
    found = real_scenes([shared_data / "commonroad_ngsim", shared_data / "av2"])
    assert {source[0] for source, _ in found} == {"scenes=commonroad"}
    assert {recording_of(name) for _, name in found} == {
        f"USA_US101-{k}" for k in (1, 2, 3, 4, 5, 6, 8, 9)
    }
    work = plan_work(200, real=[shared_data / "commonroad_ngsim"])
    assert sum("commonroad" in w.source[0] for w in work) == 20


def test_a_folder_without_scenes_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no scenes") as caught:
        plan_work(10, real=[tmp_path])
    assert str(tmp_path) in caught.value.where


def test_an_unknown_family_is_refused():
    with pytest.raises(ConfigError, match="bends"):
        plan_work(10, scenes=["bends"])
