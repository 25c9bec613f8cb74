"""The checkpoint that comes with the package drives scenes that it was not trained on."""

from __future__ import annotations

import pytest

from omniloop.configs.compose import compose
from omniloop.policies.wam import inputs
from omniloop.runner.run import execute
from omniloop.scenes.families import is_held_out

torch = pytest.importorskip("torch", reason="needs the extra `models`")

SCENES = ("curve-0903", "s_bend-0901", "cut_in-0901")


def scores(
    tmp_path, name: str, *settings: str, scenes=SCENES, seconds: int = 14
) -> dict[str, dict[str, float | None]]:
    config = compose([
        "scenes=families", f"scenes.ids=[{','.join(scenes)}]", "traffic=idm", *settings,
        "renderer.chunk=0", "renderer.fps=5", f"renderer.width={inputs.IMAGE_WIDTH}",
        f"renderer.height={inputs.IMAGE_HEIGHT}", "sync.decision_period_us=200000",
        "sync.warmup_s=2", f"sync.duration_s={seconds}", f"run.dir={tmp_path}", f"run.name={name}",
    ])  # fmt: skip
    results = execute(config).results
    assert [r.outcome for r in results] == ["completed"] * len(scenes)
    return {r.scene: {n: m.value for n, m in r.metrics.items()} for r in results}


def test_it_is_small_and_says_what_it_was_trained_with():
    from omniloop.policies.wam import checkpoint as files

    assert files.PACKAGED.stat().st_size < 20e6
    facts = files.load(files.PACKAGED, "cpu").facts
    assert facts["training_rollouts"] > 500
    card = files.PACKAGED.with_suffix(".md").read_text()
    assert f"{facts['sequences']:,}" in card


@pytest.mark.timeout(900)  # some seconds of work, and a busy machine
def test_it_drives_where_constant_velocity_does_not(tmp_path):
    assert all(is_held_out(scene) for scene in SCENES)
    seeing = scores(tmp_path, "wam", "policy=wam")
    going_on = scores(tmp_path, "cv", "policy=constant_velocity", seconds=10)
    blind = scores(tmp_path, "black", "policy=wam", "policy.ablate=black", scenes=("s_bend-0901",))
    for scene in SCENES:
        assert seeing[scene]["incident"] == 0
        assert seeing[scene]["progress_rel"] > 0.7
        assert going_on[scene]["incident"] == 1
    assert blind["s_bend-0901"]["incident"] == 1
