from __future__ import annotations

from omniloop.configs.compose import compose
from omniloop.runner.rescore import rescore
from omniloop.runner.run import execute

SETTINGS = (
    "metrics=alpasim", "scenes.ids=cut_in", "policy=constant_velocity", "sync.duration_s=2",
    "renderer.width=320", "renderer.height=176",
)  # fmt: skip


def test_frames_are_looked_at_on_request_and_change_nothing_else(tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = execute(compose([f"run.dir={tmp_path}", "run.name=run", *SETTINGS]))
    assert "--frames" in run.results[0].metrics["alpasim_img_is_black"].reason
    assert rescore(tmp_path / "run").changes == []
    again = rescore(tmp_path / "run", frames=True)
    assert again.results[0].metrics["alpasim_img_is_black"].value == 0
    assert [line.split()[1] for line in again.changes] == ["alpasim_img_is_black:"]
