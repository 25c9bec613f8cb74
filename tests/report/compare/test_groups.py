from __future__ import annotations

import pytest

from omniloop.core.errors import ConfigError
from omniloop.report.compare.comparison import Grouped, compare
from omniloop.report.compare.pairing import pair_runs
from omniloop.report.compare.tables import full_differences_table, groups_table
from omniloop.report.runs import read_run
from omniloop.runlog.folder import read_run_yaml, to_yaml
from tests.report.compare.runs_by_hand import make_run


def two_runs(tmp_path, tags=("one", "two")):
    made = []
    for k, name in enumerate(("one", "two")):
        scores = {(s, 0): {"x": 1.0 + k * (s == "b"), "y": 0.0} for s in "abc"}
        make_run(tmp_path / name, scores)
        document = read_run_yaml(tmp_path / name)
        if name in tags:
            document["tags"] = {"a": ["dry"], "b": ["wet", "urban"], "c": ["urban"]}
            document["edits"] = {"c": ["cut_in: car"]}
        (tmp_path / name / "run.yaml").write_text(to_yaml(document))
        made.append(read_run(tmp_path / name))
    return pair_runs(*made)


def by_tag(pairing):
    return compare(pairing, ["x", "y"], 0.1, logs=False, grouped=Grouped("tag", ("x", "y")))


def test_differences_are_paired_within_each_tag(tmp_path):
    found = by_tag(two_runs(tmp_path))
    values = {label: differences[0].value for label, differences in found.groups.items()}
    assert values == {
        "dry": 0.0, "edit:cut_in": 0.0, "edit:none": 0.5, "urban": 0.5, "wet": 1.0,
    }  # fmt: skip
    assert found.differences[0].value == pytest.approx(1 / 3)


def test_tags_that_one_run_knows_are_enough(tmp_path):
    assert list(by_tag(two_runs(tmp_path, tags=("two",))).groups) == [
        "dry", "edit:cut_in", "edit:none", "urban", "wet",
    ]  # fmt: skip


def test_without_tags_in_either_run_it_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="does not know the tags"):
        by_tag(two_runs(tmp_path, tags=()))


def test_a_table_has_rows_where_something_differs_and_names_the_other_groups(tmp_path):
    table = groups_table(by_tag(two_runs(tmp_path)))
    assert [row[:2] for row in table.rows] == [("edit:none", "x"), ("urban", "x"), ("wet", "x")]
    assert "no score differs in 2 group(s): dry, edit:cut_in" in table.notes


def test_the_full_table_has_every_group_and_score(tmp_path):
    table = full_differences_table([by_tag(two_runs(tmp_path))])
    k = table.headers.index("group")
    assert [row[k] for row in table.rows].count(None) == 2
    assert len(table.rows) == 2 * 6
