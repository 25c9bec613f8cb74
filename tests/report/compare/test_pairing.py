from __future__ import annotations

import pytest

from omniloop.core.errors import ConfigError
from omniloop.report.compare.pairing import pair_runs
from omniloop.report.runs import read_run
from tests.report.compare.runs_by_hand import make_run

TWO = {("a", 0): {"collision": 0.0}, ("b", 0): {"collision": 1.0}}


def paired(tmp_path, first=TWO, second=TWO, one=None, two=None):
    return pair_runs(
        make_run(tmp_path / "one", first, **(one or {})),
        make_run(tmp_path / "two", second, **(two or {})),
    )


def test_runs_are_paired_by_scene_and_seed(tmp_path):
    first = {("a", 0): {"x": 1.0}, ("a", 1): {"x": 2.0}, ("b", 0): {"x": 3.0}}
    second = {("a", 1): {"x": 2.0}, ("b", 0): {"x": 3.0}, ("c", 0): {"x": 4.0}}
    found = paired(tmp_path, first, second)
    assert [pair.name for pair in found.pairs] == ["a/1", "b/0"]
    assert found.left_out["only in two"] == ("c/0",)
    # Seed 0 of scene a was planned in the second run and has no result.
    assert found.left_out["without a valid result in two"] == ("a/0",)
    assert "left out, only in two: 1 rollout(s): c/0" in found.notes()


def test_a_damaged_result_is_named_and_its_rollout_left_out(tmp_path):
    make_run(tmp_path / "one", TWO)
    (tmp_path / "one/rollouts/a/0/result.json").write_text('{"schema": "omni')
    found = pair_runs(read_run(tmp_path / "one"), make_run(tmp_path / "two", TWO))
    assert found.left_out == {"without a valid result in one": ("a/0",)}
    assert any("a/0/result.json is ignored: not JSON" in note for note in found.notes())


def test_another_scene_under_the_same_name_is_left_out(tmp_path):
    found = paired(tmp_path, two={"hashes": {"b": "edited"}})
    assert [pair.name for pair in found.pairs] == ["a/0"]
    assert found.left_out == {"the scene is another one under the same name": ("b/0",)}


def test_nothing_in_common_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ConfigError, match="no rollout in common: only in one: a/0, b/0"):
        paired(tmp_path, second={("z", 0): {"collision": 0.0}})


def test_scores_of_metrics_with_other_settings_are_not_compared(tmp_path):
    changed = {"config": {"metrics": {"collision": {"stopped_mps": 0.5}}}}
    found = paired(tmp_path, two=changed)
    reason = found.left_out_scores["collision"]
    assert reason == "settings of metric 'collision' differ (stopped_mps: 0.05 -> 0.5)"
    assert found.pairs  # the rollouts can be compared all the same


def test_a_score_that_one_run_lacks_is_named(tmp_path):
    found = paired(tmp_path, second={("a", 0): {"other": 1.0}})
    assert found.left_out_scores == {"collision": "only in one", "other": "only in two"}


@pytest.mark.parametrize(
    ("changes", "caution"),
    [
        ({"handover_us": 1_500_000}, "the handover differs in 2 rollout(s), first in a/0: 1000000 -> 1500000"),
        ({"decision_period_us": 50_000}, "the decision period differs in 2 rollout(s)"),
        ({"decisions": 40}, "the number of decisions differs in 2 rollout(s)"),
        ({"end_us": 5_000_000}, "the end differs in 2 rollout(s)"),
        ({"privileged": ["actors"]}, "first in a/0: sensors only -> actors"),
        ({"config": {"sync": {"strategy": "postfetch"}}}, "sync.strategy: prefetch -> postfetch"),
        ({"config": {"run": {"stop_on": ["collision"]}}}, "run.stop_on: None -> ['collision']"),
    ],
)  # fmt: skip
def test_what_differs_but_can_be_compared_is_a_caution(tmp_path, changes, caution):
    found = paired(tmp_path, two=changes)
    assert any(caution in line for line in found.cautions), found.cautions
    assert len(found.pairs) == 2


def test_a_rollout_that_was_stopped_early_has_another_end_by_right(tmp_path):
    found = paired(tmp_path, two={"end_us": 5_000_000, "stopped_by": "collision with x"})
    assert found.cautions == ()


def test_what_the_comparison_is_about_is_told_and_addresses_are_not(tmp_path):
    found = paired(
        tmp_path, one={"config": {"policy": {"name": "p", "address": "host:1"}}},
        two={"config": {"policy": {"name": "q", "address": "host:2"}}},
    )  # fmt: skip
    assert found.changes == ("policy.name: p -> q",)
    assert found.cautions == ()


def test_a_run_without_settings_is_compared_with_a_caution(tmp_path):
    make_run(tmp_path / "one", TWO)
    (tmp_path / "one/run.yaml").unlink()
    found = pair_runs(read_run(tmp_path / "one"), make_run(tmp_path / "two", TWO))
    assert len(found.pairs) == 2
    assert "one does not know the hashes of its scenes" in found.cautions
    assert any("run.yaml is missing" in note for note in found.notes())
