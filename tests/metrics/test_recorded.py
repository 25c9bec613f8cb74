from __future__ import annotations

import copy
import json

import pytest

from omniloop.core.record import RolloutRecord
from omniloop.metrics.collision import CollisionMetric
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.documentation import pages
from omniloop.metrics.recorded import (
    definitions_in,
    packages_that_differ,
    recorded,
    scores_that_differ,
)


class Plain:
    """A metric without definitions, with a default that JSON cannot hold."""

    names = ("plain_score",)

    def __init__(self, limit: float = float("inf"), shape: object = object) -> None:
        self.limit = limit

    def compute(self, record: RolloutRecord) -> list[object]:
        """Nothing."""
        return []


def test_settings_stand_with_their_defaults_and_definitions_can_be_read_back():
    found = recorded({"collision": {"stopped_mps": 0.2}})
    assert found["collision"]["settings"]["stopped_mps"] == 0.2
    assert "vertical_tolerance_m" in found["collision"]["settings"]
    assert found["collision"]["package"].startswith("omniloop ")
    assert definitions_in(found) == {d.name: d for d in CollisionMetric.definitions}
    assert json.loads(json.dumps(found)) == found


def test_what_json_cannot_hold_is_told_in_words():
    found = recorded({f"{__name__}:Plain": {}})[f"{__name__}:Plain"]
    assert found["settings"] == {"limit": "inf", "shape": "builtins.type"}
    assert found["scores"] == {"plain_score": None}
    assert found["package"] == ""


def changed(part, value):
    found = recorded({"collision": {}})
    other = copy.deepcopy(found)
    other["collision"]["scores"]["collision"][part] = value
    return scores_that_differ(found, other)


@pytest.mark.parametrize(
    ("part", "value", "told"),
    [
        ("version", 2, "it is defined otherwise (version: 1 -> 2)"),
        ("unit", "%", "it is defined otherwise (unit: 0 or 1 -> %)"),
        ("over_rollouts", "sum", "it is defined otherwise (over_rollouts: rate -> sum)"),
    ],
)
def test_a_score_that_is_defined_otherwise_is_told_with_what_differs(part, value, told):
    assert changed(part, value) == {"collision": told}


def test_of_long_formulas_the_part_that_differs_is_told():
    before = recorded({"collision": {}})
    formula = before["collision"]["scores"]["collision"]["formula"]
    told = changed("formula", formula[:-1] + " and more of it")["collision"]
    assert "and more of it" in told
    assert len(told) < 250


@pytest.mark.parametrize("part", ["source", "family"])
def test_where_a_definition_comes_from_does_not_change_a_score(part):
    assert changed(part, "elsewhere") == {}


def test_other_settings_concern_all_scores_of_a_metric():
    found = scores_that_differ(recorded({"offroad": {}}), recorded({"offroad": {"tolerance_m": 9}}))
    assert set(found) == set(recorded({"offroad": {}})["offroad"]["scores"])
    assert "settings of metric 'offroad' differ (tolerance_m: " in found["offroad"]


def test_a_default_that_changed_is_another_setting():
    now = recorded({"offroad": {}})
    before = copy.deepcopy(now)
    before["offroad"]["settings"]["tolerance_m"] = 7
    assert "tolerance_m: 7 -> " in scores_that_differ(before, now)["offroad"]


def test_scores_without_a_definition_are_the_same_only_of_the_same_metric():
    plain = recorded({f"{__name__}:Plain": {}})
    assert scores_that_differ(plain, plain) == {}
    renamed = {"other:Plain": plain[f"{__name__}:Plain"]}
    assert "it is of another metric" in scores_that_differ(plain, renamed)["plain_score"]


def test_packages_of_plugins_are_told_and_omniloops_own_version_is_not():
    now = recorded({"collision": {}})
    plugin = {"mine": {"package": "mine 1.0", "settings": {}, "scores": {}}}
    later = {"mine": {"package": "mine 1.1", "settings": {}, "scores": {}}}
    own = {"collision": {**now["collision"], "package": "omniloop 9"}}
    assert packages_that_differ({**now, **plugin}, {**own, **later}) == [
        "package of metric 'mine': mine 1.0 -> mine 1.1"
    ]


@pytest.mark.parametrize(
    "metrics",
    [
        {"collision": {}},
        {"collision": {"settings": {}, "scores": []}},
        {"collision": {"settings": 3, "scores": {}}},
        {"collision": {"settings": {}, "scores": {"x": {"name": "x"}}}},
        {"collision": {"settings": {}, "scores": {"x": "a word"}}},
    ],
)
def test_a_record_of_another_shape_is_refused(metrics):
    with pytest.raises(ValueError):  # noqa: PT011 - any of these shapes
        definitions_in(metrics)


def test_a_way_of_bringing_rollouts_together_that_is_not_known_is_refused():
    found = recorded({"collision": {}})
    found["collision"]["scores"]["collision"]["over_rollouts"] = "median"
    with pytest.raises(ValueError, match="over_rollouts is 'median'"):
        definitions_in(found)


def test_parts_of_a_later_version_are_passed_over():
    found = recorded({"collision": {}})
    found["collision"]["scores"]["collision"]["of_later"] = 1
    assert definitions_in(found)["collision"] in CollisionMetric.definitions


def test_pages_name_versions_other_than_the_first():
    class Twice:
        """Counts."""

        definitions = (
            MetricDefinition("twice", "test", "1", "x", "sum", "mean", "lower", "", "here", version=3),
        )  # fmt: skip

    assert "*Version*: 3." in pages({"twice": Twice})["test"]
    assert "*Version*" not in pages({"collision": CollisionMetric})["omniloop"]
