"""A setting that no scene may fit is told at the first scene, not when all are read."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from omniloop.configs.compose import compose
from omniloop.core.errors import InputError
from omniloop.core.scene import Scene
from omniloop.runner.assemble import assemble
from omniloop.scenes.native import write_bundle
from tests.runner.test_fitness import CAMERA, GOOD, SMALL, Counting, filmed


def noticed(folder: Path, *settings: str) -> list[str]:
    told: list[str] = []
    config = compose(["scenes=native", f"scenes.path={folder}", *SMALL, *settings])
    with contextlib.suppress(InputError):
        assemble(config, told.append)
    return told


def test_a_setting_that_the_first_scene_does_not_fit_is_told_before_the_others_are_read(
    tmp_path: Path,
) -> None:
    write_bundle(GOOD, tmp_path / "good.zip")
    for name in ("a", "b", "z"):
        write_bundle(replace(filmed(GOOD, id="rear_wide"), id=name), tmp_path / f"{name}.zip")
    [line] = noticed(tmp_path, "renderer.cameras=[rear_wid]")  # none has it
    assert line == (
        "scene a is excluded: camera 'rear_wid' is not in the scene (Did you mean 'rear_wide'? its"
        " cameras: rear_wide); 3 more scene(s) are read to see which can be run"
    )
    [line] = noticed(tmp_path, f"renderer.cameras=[{CAMERA}]")  # only one has it, not the first
    assert line.startswith(f"scene a is excluded: camera '{CAMERA}' is not in the scene (")
    assert noticed(tmp_path, "renderer.cameras=[rear_wide]") == []  # the first has it
    # Of a single scene it is the error, at once.
    assert noticed(tmp_path, "renderer.cameras=[rear_wid]", "scenes.ids=a") == []
    (tmp_path / "0.zip").write_bytes(b"PK")  # a damaged first scene says nothing of the settings
    assert len(noticed(tmp_path, "renderer.cameras=[rear_wid]")) == 1


def test_the_notice_comes_after_one_scene_and_those_that_fit_still_run() -> None:
    loaded: list[int] = []
    before = Counting.loaded
    setup = assemble(
        compose([f"scenes={__name__}:Mixed", "scenes.ids=two,one", "renderer.cameras=[front]", *SMALL]),
        lambda line: loaded.append(Counting.loaded - before),
    )  # fmt: skip
    assert loaded == [1]
    assert setup.ids == ["one"]
    assert [e.scene_id for e in setup.exclusions] == ["two"]


class Mixed(Counting):
    """Scenes of which only one has a camera in front."""

    def load(self, scene_id: str) -> Scene:
        return filmed(super().load(scene_id), id="front" if scene_id == "one" else "rear")
