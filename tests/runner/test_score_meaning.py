"""What a run's scores mean is kept with them, checked on resuming and renewed by scoring."""

from __future__ import annotations

import json
import shutil

import pytest

from omniloop.configs.compose import compose
from omniloop.core.errors import RunFolderError
from omniloop.runlog.definitions import DEFINITIONS_NAME, read_definitions
from omniloop.runner.rescore import rescore
from omniloop.runner.run import execute

SETTINGS = (
    "scenes.ids=[straight_road]", "renderer=none", "policy=constant_velocity", "sync.duration_s=1",
)  # fmt: skip


def run(folder, *more):
    return execute(compose([*SETTINGS, f"run.dir={folder}", "run.name=r", *more]))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("meaning")
    run(folder)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def older(folder):
    """As if the run were of a version that defined a score otherwise."""
    path = folder / "r" / DEFINITIONS_NAME
    document = json.loads(path.read_text())
    document["metrics"]["progress"]["scores"]["progress_rel"]["version"] = 0
    path.write_text(json.dumps(document))


def test_a_run_keeps_what_its_scores_mean(made):
    kept = read_definitions(made / "r")
    assert {"collision", "progress"} <= set(kept)
    assert kept["progress"]["scores"]["progress_rel"]["over_rollouts"] == "mean"
    assert "stopped_mps" in kept["collision"]["settings"]


def test_a_run_of_other_definitions_is_not_resumed(folder):
    older(folder)
    with pytest.raises(RunFolderError, match=r"progress_rel: .*version: 0 -> 1") as caught:
        run(folder, "run.resume=true", "run.seeds=2")
    assert "omniloop score" in str(caught.value)


def test_scoring_again_renews_them_and_then_it_is_resumed(folder):
    older(folder)
    rescore(folder / "r")
    assert read_definitions(folder / "r")["progress"]["scores"]["progress_rel"]["version"] == 1
    assert len(run(folder, "run.resume=true", "run.seeds=2").results) == 2


def test_a_run_that_never_said_so_stays_silent_until_it_is_scored(folder):
    (folder / "r" / DEFINITIONS_NAME).unlink()
    run(folder, "run.resume=true", "run.seeds=2")
    assert read_definitions(folder / "r") is None
    rescore(folder / "r")
    assert read_definitions(folder / "r") is not None


def test_scoring_that_breaks_off_half_way_leaves_no_claim(folder):
    run(folder, "run.resume=true", "run.seeds=2")
    (folder / "r/rollouts/straight_road/1/log.mcap").unlink()
    with pytest.raises(RunFolderError):
        rescore(folder / "r")
    assert read_definitions(folder / "r") is None
