"""Scenes that cannot be run beside scenes that can: each kind of fault, alone and among others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omniloop.configs.compose import compose
from omniloop.core.errors import ConfigError, InputError, SceneError
from omniloop.core.motion import Trajectory
from omniloop.core.scene import Scene
from omniloop.runner.assemble import Setup, assemble
from omniloop.runner.run import describe
from omniloop.scenes.embedded import synthetic_scene
from omniloop.scenes.native import write_bundle

SMALL = ("renderer.chunk=0", "renderer.width=64", "renderer.height=48", "sync.warmup_s=1")
GOOD = replace(synthetic_scene(1, 3.0), id="good")
CAMERA = GOOD.cameras[0].id


def moved(scene: Scene, by_us: int) -> Scene:
    return replace(scene, ego=Trajectory(scene.ego.times_us + by_us, scene.ego.poses), tracks=())


def slower(scene: Scene, times: int) -> Scene:
    return replace(scene, ego=Trajectory(scene.ego.times_us * times, scene.ego.poses), tracks=())


def filmed(scene: Scene, **changes: Any) -> Scene:
    return replace(scene, cameras=tuple(replace(c, **changes) for c in scene.cameras))


FAULTS: dict[str, tuple[Callable[[Scene], Scene], str]] = {
    "before 0": (lambda s: moved(s, -1), "starts at -1 us"),
    "far before 0": (lambda s: moved(s, -(2**63)), "starts at -9223372036854775808 us"),
    "after the last time": (lambda s: moved(s, 2**62), "ends at 46116860184"),
    "at the end of the integers": (lambda s: moved(s, 2**63 - 1 - 3_000_000), "ends at 92233720368"),
    "of a year": (lambda s: slower(s, 10**7), "makes 300000000 decisions"),
    "one instant": (lambda s: replace(s, ego=Trajectory(s.ego.times_us[:1], s.ego.poses[:1])), "of 0.0 s leaves no"),
    "shorter than the warm-up": (lambda s: replace(s, ego=s.ego.clip(0, 900_000)), "of 0.9 s leaves no"),
    "camera after the end": (lambda s: filmed(s, first_frame_end_us=3_000_001), f"'{CAMERA}' has its first frame at 3000001 us"),
    "camera beyond the integers": (lambda s: filmed(s, first_frame_end_us=10**30), "first frame at 1000000000000"),
    "camera of a million frames a second": (lambda s: filmed(s, frame_interval_us=1), "a frame every 1 us"),
    "camera that runs backwards": (lambda s: filmed(s, frame_interval_us=-100), "a frame every -100 us"),
    "shutter that closes before it opens": (lambda s: filmed(s, shutter_us=-1), "a shutter of -1 us"),
    "without the camera": (lambda s: filmed(s, id="rear"), f"camera '{CAMERA}' is not in the scene"),
}  # fmt: skip


def assembled(folder: Path, *settings: str) -> Setup:
    return assemble(
        compose(["scenes=native", f"scenes.path={folder}", f"renderer.cameras=[{CAMERA}]", *SMALL, *settings])
    )  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_one_unfit_scene_is_excluded_among_others_and_named_alone(
    tmp_path: Path, kind: str
) -> None:
    spoil, message = FAULTS[kind]
    write_bundle(GOOD, tmp_path / "good.zip")
    write_bundle(replace(spoil(GOOD), id="bad"), tmp_path / "bad.zip")
    setup = assembled(tmp_path)
    assert setup.ids == ["good"]
    listed = describe(setup)["exclusions"]
    assert [e["scene"] for e in listed] == ["bad"]  # type: ignore[attr-defined]
    assert message in listed[0]["reason"]  # type: ignore[index]
    with pytest.raises(InputError) as caught:
        assembled(tmp_path, "scenes.ids=bad")
    assert message in caught.value.what
    assert caught.value.where == "scene bad"
    assert caught.value.remedy


def test_a_damaged_file_is_excluded_with_its_place(tmp_path: Path) -> None:
    write_bundle(GOOD, tmp_path / "good.zip")
    whole = (tmp_path / "good.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-200])
    setup = assembled(tmp_path)
    assert setup.ids == ["good"]
    assert setup.exclusions[0].scene_id == "cut.zip"
    assert setup.exclusions[0].reason.startswith("not a readable zip")
    assert f"{tmp_path / 'cut.zip'}" in setup.exclusions[0].reason


def test_if_every_scene_is_unfit_the_error_is_the_first_ones_with_its_kind(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_bundle(replace(moved(GOOD, -1), id=name), tmp_path / f"{name}.zip")
    with pytest.raises(
        SceneError, match=r"every scene is excluded; a: .* starts at -1 us"
    ) as caught:
        assembled(tmp_path)
    assert caught.value.where == "scene a; 2 scenes"
    assert "shift" in caught.value.remedy
    for name in ("a", "b"):
        write_bundle(replace(GOOD, id=name), tmp_path / f"{name}.zip")
    with pytest.raises(ConfigError, match="camera 'back' is not in the scene"):
        assembled(tmp_path, "renderer.cameras=[back]")


def test_a_setting_that_is_wrong_for_every_scene_stops_at_the_first() -> None:
    before = Counting.loaded
    with pytest.raises(ConfigError, match="must reach 5") as caught:
        assemble(
            compose([f"scenes={__name__}:Counting", "scenes.ids=one,two", "renderer=none", "sync.decision_latency_us=5000000"])
        )  # fmt: skip
    assert "sync.decision_latency_us" in caught.value.where
    assert Counting.loaded == before + 1


def test_a_source_that_breaks_down_on_one_scene_leaves_the_others_alone() -> None:
    source = f"scenes={__name__}:Counting"
    setup = assemble(compose([source, "renderer=none", "scenes.ids=one,breaks,two"]))
    assert setup.ids == ["one", "two"]
    assert setup.exclusions[0].scene_id == "breaks"
    assert "broke down: KeyError: 'lanes' (test_fitness.py:" in setup.exclusions[0].reason
    with pytest.raises(KeyError):  # its author wants the place
        assemble(compose([source, "renderer=none", "scenes.ids=breaks"]))


def test_a_damaged_scene_of_a_suite_is_an_error(tmp_path: Path) -> None:
    write_bundle(GOOD, tmp_path / "good.zip")
    (tmp_path / "cut.zip").write_bytes(b"PK")
    suite = tmp_path / "mine.yaml"
    suite.write_text(f"scenes: [{{source: native, path: {tmp_path}}}]\n")
    with pytest.raises(SceneError, match="not a readable zip"):
        assemble(compose([f"suite={suite}", "renderer=none"]))


class Counting:
    """Three scenes, of which one cannot be read."""

    loaded = 0

    def ids(self) -> list[str]:
        return ["breaks", "one", "two"]

    def load(self, scene_id: str) -> Scene:
        Counting.loaded += 1
        if scene_id == "breaks":
            raise KeyError("lanes")
        return replace(GOOD, id=scene_id)
