"""Everything that can be on at once: traffic, vehicle, ground, edits, every imperfection."""

from __future__ import annotations

import numpy as np
import pytest

from omniloop.configs.compose import compose
from omniloop.runlog.digest import digest_run
from omniloop.runlog.record import read_record
from omniloop.runner.rescore import rescore
from omniloop.runner.run import execute

EVERYTHING = (
    "scenes.ids=cut_in,crossing_pedestrian", "scenes.edit=recipe:hard_brake,recipe:night_rain",
    "traffic=idm", "controller=mpc", "imperfection=all", "renderer.width=64", "renderer.height=48",
    "sync.duration_s=2.5", "run.seeds=2",
)  # fmt: skip


def run(folder, name, *settings):
    return execute(compose([*EVERYTHING, f"run.dir={folder}", f"run.name={name}", *settings]))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    return run(folder, "alone", "run.concurrency=1"), folder / "alone"


BY_FRAME = ("renderer.chunk=0", "renderer.fps=10", "sync.duration_s=1.5")


@pytest.mark.parametrize("renderer", [(), BY_FRAME])
def test_the_same_bytes_whatever_the_concurrency(tmp_path, alone, renderer):
    wanted = alone[1]
    if renderer:
        run(tmp_path, "one", "run.concurrency=1", *renderer)
        wanted = tmp_path / "one"
    finished = run(tmp_path, "four", "run.concurrency=4", *renderer)
    assert [r.outcome for r in finished.results] == ["completed"] * 4
    assert digest_run(tmp_path / "four") == digest_run(wanted)
    assert len({sha for sha, _ in digest_run(wanted)}) == 4


def test_every_part_tells_what_it_did(alone):
    for result in alone[0].results:
        assert result.facts["traffic"]["idm"] >= 2
        assert result.facts["controller"]["solves"] > 10
        assert result.facts["ground"]["ego"]["SUCCESSFUL_UPDATE"] > 10
        assert result.facts["imperfection"]["ego_motion"]["position_rms_m"] > 0
        assert result.facts["renderer"]["imperfection"]["frames"]


def test_scores_from_the_logs_are_those_of_the_run(alone):
    finished, folder = alone
    before = {r.session_id: r.metrics for r in finished.results}
    rescore(folder)
    again = execute(
        compose([*EVERYTHING, f"run.dir={folder.parent}", "run.name=alone", "run.resume=true"])
    )
    assert again.resumed == 4
    assert {r.session_id: r.metrics for r in again.results} == before


def test_seeds_differ_in_what_was_injected_and_not_in_the_scene(alone):
    logs = sorted(alone[1].glob("rollouts/cut_in/*/log.mcap"))
    first, second = (read_record(log) for log in logs)
    assert first.scene.edits == second.scene.edits != ()
    assert not np.array_equal(first.ego_estimated.local_to_rig, second.ego_estimated.local_to_rig)
