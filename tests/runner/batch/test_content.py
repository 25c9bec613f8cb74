"""The content hash of a rollout: changes with what decides the result, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from omniloop.configs.compose import compose
from omniloop.runner.assemble import assemble
from omniloop.runner.batch.content import content_of

PLAIN = ["scenes.ids=curve", "renderer=none", "policy=constant_velocity"]


def content(*settings: str, seed: int = 0) -> str:
    setup = assemble(compose([*PLAIN, *settings]))
    return content_of(setup)(setup.ids[0], seed)


def test_the_same_settings_have_the_same_content() -> None:
    assert content() == content()


@pytest.mark.parametrize(
    "settings",
    [
        ["scenes.ids=straight_road"],
        ["scenes.edit=recipe:slow_lead"],
        ["policy=route_follower"],
        ["controller=bicycle"],
        ["run.root_seed=1"],
        ["sync.duration_s=2"],
        ["run.stop_on=collision"],
        ["metrics=nuplan"],
        ["imperfection.latency.extra_us=20000"],
    ],
)
def test_what_decides_a_result_changes_its_content(settings: list[str]) -> None:
    assert content(*settings) != content()


def test_the_seed_changes_the_content() -> None:
    assert content(seed=1) != content()


@pytest.mark.parametrize(
    "settings",
    [
        ["run.name=other", "run.dir=elsewhere"],
        ["run.concurrency=7", "run.workers=3"],
        ["run.retries=9", "run.hang_s=5"],
        ["run.video=true"],
        ["run.seeds=5"],
    ],
)
def test_what_decides_no_result_leaves_the_content(settings: list[str]) -> None:
    assert content(*settings) == content()


def test_the_version_changes_the_content(monkeypatch: pytest.MonkeyPatch) -> None:
    before = content()
    monkeypatch.setattr("omniloop.__version__", "99.0")
    assert content() != before


def test_where_a_scene_lies_does_not_change_its_content(tmp_path: Path) -> None:
    from omniloop.scenes.embedded import EmbeddedScenes
    from omniloop.scenes.native import write_bundle

    found = set()
    for name in ("a", "b"):
        write_bundle(EmbeddedScenes().load("curve"), tmp_path / name / "curve.zip")
        found.add(content("scenes=native", f"scenes.path={tmp_path / name}"))
    assert len(found) == 1
