from __future__ import annotations

from typing import Any

import pytest

from omniloop.report.compare.suites import suite_cautions
from omniloop.report.runs import read_run
from omniloop.runlog.folder import read_run_yaml, to_yaml
from tests.report.compare.runs_by_hand import make_run

CONTENT = {
    "scenes": {"a": {"sha256": "1", "edits": []}, "b": {"sha256": "2", "edits": []}},
    "seeds": [0], "metrics": {"collision": {"stopped_mps": 0.05}}, "settings": {"traffic": "idm"},
}  # fmt: skip


def suite(sha256: str, name: str = "town", **content: Any) -> dict[str, Any]:
    return {"name": name, "version": 1, "sha256": sha256 * 64, "content": {**CONTENT, **content}}


def cautions(tmp_path, first, second):
    runs = []
    for name, told in (("one", first), ("two", second)):
        make_run(tmp_path / name, {("a", 0): {"collision": 0.0}})
        document = read_run_yaml(tmp_path / name)
        if told is not None:
            document["suite"] = told
        (tmp_path / name / "run.yaml").write_text(to_yaml(document))
        runs.append(read_run(tmp_path / name))
    return suite_cautions(*runs)


def test_the_same_suite_or_none_needs_no_caution(tmp_path):
    assert cautions(tmp_path, None, None) == []
    assert cautions(tmp_path / "x", suite("1"), suite("1", name="renamed")) == []


def test_one_run_of_no_suite_is_told(tmp_path):
    assert cautions(tmp_path, suite("1"), None) == [
        "only one run is of a suite: one is of town version 1 (111111111111), two is of none"
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"scenes": {"a": CONTENT["scenes"]["a"]}}, "1 scene(s) only in the first: b"),
        ({"scenes": {**CONTENT["scenes"], "c": {}}}, "1 scene(s) only in the second: c"),
        (
            {"scenes": {**CONTENT["scenes"], "b": {"sha256": "3", "edits": []}}},
            "1 scene(s) with other content: b",
        ),
        ({"seeds": [0, 1]}, "seeds: [0] -> [0, 1]"),
        (
            {"metrics": {"collision": {"stopped_mps": 1}}},
            "metrics.collision.stopped_mps: 0.05 -> 1",
        ),
        ({"settings": {"traffic": "log_replay"}}, "settings.traffic: idm -> log_replay"),
        ({}, "in what is not known"),
    ],
)
def test_what_differs_between_suites_is_told_in_short(tmp_path, content, told):
    assert cautions(tmp_path, suite("1"), suite("2", **content)) == [
        f"the suites differ ({told}): one is of town version 1 (111111111111),"
        " two is of town version 1 (222222222222)"
    ]


def test_many_differences_are_counted(tmp_path):
    settings = {f"key{k}": k for k in range(9)}
    (told,) = cautions(tmp_path, suite("1", settings={}), suite("2", settings=settings))
    assert "more differences of settings" in told


@pytest.mark.parametrize("content", [None, [], {"scenes": [1]}])
def test_a_suite_without_its_content_is_told_by_hash(tmp_path, content):
    (told,) = cautions(tmp_path, suite("1"), {**suite("2"), "content": content})
    assert "in what is not known" in told
    assert "222222222222" in told
