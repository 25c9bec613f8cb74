"""Runs as they are read back: odd settings, tags and edits."""

from __future__ import annotations

import pytest

from omniloop.core.errors import ConfigError, RunFolderError
from omniloop.report.runs import read_run, scores_of, tags_of
from omniloop.runlog.folder import read_run_yaml, to_yaml
from tests.report.compare.runs_by_hand import make_run


def rewritten(path, **changes):
    make_run(path, {("a", 0): {"x": 1.0}, ("b", 0): {"x": 3.0}})
    document = {**read_run_yaml(path), **changes}
    (path / "run.yaml").write_text(to_yaml(document))
    return read_run(path)


def test_kinds_of_edits_are_tags_too(tmp_path):
    run = rewritten(
        tmp_path / "r", tags={"a": ["urban"], "b": ["urban"]},
        edits={"b": ["cut_in: car 'x' from the left", "insert: cone", "insert: cone"]},
    )  # fmt: skip
    assert tags_of(run, "a") == ("urban", "edit:none")
    assert tags_of(run, "b") == ("urban", "edit:cut_in", "edit:insert")
    groups = {group.label: group.score("x").value for group in scores_of(run, "tag")}
    assert groups == {"edit:cut_in": 3.0, "edit:insert": 3.0, "edit:none": 1.0, "urban": 2.0}


def test_without_edits_there_are_only_tags(tmp_path):
    run = rewritten(tmp_path / "r", tags={"a": ["urban"]}, edits={})
    assert tags_of(run, "a") == ("urban",)
    assert tags_of(run, "b") == ("untagged",)


def test_a_run_that_knows_no_tags_cannot_be_grouped_by_them(tmp_path):
    run = make_run(tmp_path / "r", {("a", 0): {"x": 1.0}})
    with pytest.raises(ConfigError, match="does not know the tags"):
        scores_of(run, "tag")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"scenes": ["a", "b"]}, "'scenes' is no mapping but ['a', 'b']: it is ignored"),
        ({"tags": "urban"}, "'tags' is no mapping but 'urban'"),
        ({"edits": 3}, "'edits' is no mapping but 3"),
        ({"suite": "smoke"}, "'suite' is no mapping but 'smoke'"),
        ({"environment": []}, "'environment' is no mapping but []"),
        ({"config": ["x"]}, "'config' is no mapping but ['x']"),
        ({"config": {"metrics": ["collision"]}}, "'config.metrics' is no mapping"),
        ({"config": {"metrics": {"collision": 3}}}, "'config.metrics.collision' is no mapping"),
        ({"config": None}, "its settings are not known"),
    ],
)
def test_settings_of_another_shape_are_named_and_the_rest_is_read(tmp_path, changes, told):
    run = rewritten(tmp_path / "r", **changes)
    assert len(run.results) == 2
    assert any(told in line and "run.yaml" in line for line in run.problems), run.problems


def test_settings_that_are_no_yaml_are_refused(tmp_path):
    make_run(tmp_path / "r", {("a", 0): {"x": 1.0}})
    (tmp_path / "r/run.yaml").write_text("a: [")
    with pytest.raises(RunFolderError, match="not YAML"):
        read_run(tmp_path / "r")
