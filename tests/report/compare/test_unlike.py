from __future__ import annotations

import json

import pytest

from omniloop.report.compare.comparison import compare
from omniloop.report.compare.pairing import pair_runs
from omniloop.report.compare.tables import differences_table
from omniloop.report.runs import read_run
from omniloop.runlog.definitions import DEFINITIONS_NAME, forget_definitions
from tests.report.compare.runs_by_hand import make_run

SCORES = {
    (scene, 0): {"collision": 1.0, "distance_driven_m": 500.0, "progress_rel": 0.5}
    for scene in "abc"
}
METRICS = {"config": {"metrics": {"collision": {}, "progress": {}}}}


@pytest.fixture
def runs(tmp_path):
    for name in ("one", "two"):
        make_run(tmp_path / name, SCORES, **METRICS)
    return tmp_path


def redefine(run, plugin, score, **parts):
    path = run / DEFINITIONS_NAME
    document = json.loads(path.read_text())
    document["metrics"][plugin]["scores"][score].update(parts)
    path.write_text(json.dumps(document))


def paired(runs):
    return pair_runs(read_run(runs / "one"), read_run(runs / "two"))


def test_a_score_of_another_version_is_left_out_counted_and_named(runs):
    redefine(runs / "two", "progress", "progress_rel", version=2)
    found = paired(runs)
    assert found.left_out_scores == {"progress_rel": "it is defined otherwise (version: 1 -> 2)"}
    assert (
        "not compared, it is defined otherwise (version: 1 -> 2): 1 score(s): progress_rel"
        in found.notes()
    )
    done = compare(found, ["collision", "progress_rel"], 0.1, logs=False)
    assert [d.name for d in done.differences] == ["collision"]


def test_a_score_per_km_goes_with_its_parts(runs):
    redefine(runs / "two", "progress", "distance_driven_m", formula="another length")
    found = paired(runs)
    assert set(found.left_out_scores) == {"distance_driven_m", "collision_per_km"}


def test_a_run_that_does_not_say_what_its_scores_mean_is_compared_with_a_caution(runs):
    forget_definitions(runs / "one")
    found = paired(runs)
    assert found.left_out_scores == {}
    assert len(found.cautions) == 1
    assert "one does not say what its scores mean" in found.cautions[0]
    assert f"`omniloop score {runs / 'one'}`" in found.cautions[0]


def test_a_damaged_record_is_named_and_counts_as_none(runs):
    (runs / "two" / DEFINITIONS_NAME).write_text("{")
    found = paired(runs)
    assert any("two does not say what its scores mean" in c for c in found.cautions)
    assert any(f"{DEFINITIONS_NAME} is ignored: not JSON" in note for note in found.notes())


def test_definitions_that_a_run_keeps_hold_where_its_plugin_is_gone(runs):
    for name in ("one", "two"):
        path = runs / name / DEFINITIONS_NAME
        document = json.loads(path.read_text())
        document["metrics"]["gone"] = document["metrics"].pop("collision")
        path.write_text(json.dumps(document))
        settings = (runs / name / "run.yaml").read_text()
        (runs / name / "run.yaml").write_text(settings.replace("collision: {}", "gone: {}"))
    run = read_run(runs / "one")
    assert run.definitions["collision"].over_rollouts == "rate"
    assert run.problems == ()
    assert compare(paired(runs), ["collision"], 0.1, logs=False).differences[0].flag


def test_nothing_to_compare_is_said(tmp_path):
    one = make_run(tmp_path / "one", {("a", 0): {"x": 1.0}})
    two = make_run(tmp_path / "two", {("a", 0): {"y": 1.0}})
    table = differences_table(compare(pair_runs(one, two), ["x", "y"], 0.1, logs=False))
    assert table.rows == ()
    assert "no score is in both runs and means the same in both" in table.notes
    assert "not compared, only in one: 1 score(s): x" in table.notes
