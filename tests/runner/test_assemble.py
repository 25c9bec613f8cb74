from __future__ import annotations

import pytest

from omniloop.configs.compose import compose
from omniloop.core.errors import PluginError
from omniloop.runner.assemble import assemble
from omniloop.scenes.native import scene_to_bytes


@pytest.mark.parametrize(
    "settings", [("scenes.ids=junction",), ("scenes=nuscenes", "scenes.limit=1")]
)
def test_a_scene_that_left_memory_comes_back_the_same_to_the_bit(settings, request):
    if "scenes=nuscenes" in settings:
        settings = (
            *settings,
            f"scenes.path={request.getfixturevalue('shared_data')}/nuscenes_mini",
        )
    setup = assemble(compose([*settings, "renderer=none"]))
    first = setup.prepare(setup.ids[0])
    setup.prepared.clear()
    again = setup.prepare(setup.ids[0])
    assert again is not first
    assert scene_to_bytes(again.scene) == again.bundle == first.bundle
    assert again.sha256 == first.sha256 == setup.hashes[setup.ids[0]]
    assert again.schedule == first.schedule


def test_prepared_scenes_are_shared_between_rollouts_and_few_stay_in_memory():
    setup = assemble(compose(["renderer=none"]))
    assert setup.prepare("curve") is setup.prepare("curve")
    assert len(setup.prepared) <= 8


def test_a_source_that_takes_no_path_needs_none_and_refuses_one():
    assert assemble(compose(["scenes=tests.plugins:OneScene", "renderer=none"])).ids == ["curve"]
    with pytest.raises(PluginError, match="has no setting 'path'"):
        assemble(compose(["scenes=tests.plugins:OneScene", "scenes.path=x", "renderer=none"]))
