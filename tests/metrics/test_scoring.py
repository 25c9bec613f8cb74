from __future__ import annotations

import gc
import json
import math
import weakref

import pytest

from omniloop.core import registry
from omniloop.core.contracts import MetricValue
from omniloop.core.errors import ConfigError
from omniloop.core.record import RolloutRecord
from omniloop.metrics.collision import CollisionMetric
from omniloop.metrics.contacts import contacts
from omniloop.metrics.displacement import DisplacementMetric
from omniloop.metrics.incidents import IncidentsMetric
from omniloop.metrics.offroad import OffroadMetric
from omniloop.metrics.path_distance import PathDistanceMetric
from omniloop.metrics.progress import ProgressMetric
from omniloop.metrics.samples import score_samples
from omniloop.metrics.scoring import check_names, names_of, score, undefined_scores
from tests.metrics.records import Body, moving, record, road, still

ALL = (
    CollisionMetric, OffroadMetric, PathDistanceMetric, ProgressMetric, DisplacementMetric, IncidentsMetric,
)  # fmt: skip


class Breaks:
    names = ("first", "second")

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        raise ZeroDivisionError("no way")


class Returns:
    def __init__(self, *values: object) -> None:
        self.values = values

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        return list(self.values)  # type: ignore[arg-type]


def test_all_metrics_are_computed_in_order_and_name_what_they_give() -> None:
    made = record(moving(0, 0, 10), [Body(still(15, 0))], vector_map=road())
    metrics = [metric() for metric in ALL]
    values = score(made, metrics)
    assert [v.name for v in values] == [name for m in metrics for name in names_of(m)]
    assert all(v.valid for v in values)
    json.dumps([v.details for v in values], allow_nan=False)


def test_the_metrics_are_the_plugins_of_their_names() -> None:
    names = ("collision", "offroad", "path_distance", "progress", "displacement", "incidents")
    assert tuple(registry.load_class("metrics", name) for name in names) == ALL


def test_a_metric_that_raises_leaves_the_others_alone() -> None:
    made = record(moving(0, 0, 10))
    values = score(made, [Breaks(), PathDistanceMetric()])
    assert [v.name for v in values] == [
        "first", "second", "path_distance_max_m", "path_distance_mean_m",
    ]  # fmt: skip
    assert [v.valid for v in values] == [False, False, True, True]
    assert values[0].reason == "Breaks raised ZeroDivisionError: no way"


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (0.5, "TypeError"),
        (MetricValue("x", 1.0, "a reason"), "ValueError"),
        (MetricValue("x", math.nan), "the value is nan"),
        (MetricValue("x", math.inf), "the value is inf"),
        (MetricValue("x", None), "no reason given"),
    ],
)
def test_what_is_no_score_becomes_undefined_with_a_reason(returned: object, reason: str) -> None:
    (value,) = score(record(moving(0, 0, 10)), [Returns(returned)])
    assert value.value is None
    assert reason in value.reason


def test_two_values_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two scores are called 'offroad'"):
        check_names([OffroadMetric(), OffroadMetric(tolerance_m=1.0)])
    twice = [Returns(MetricValue("offroad", 1.0)), OffroadMetric()]
    with pytest.raises(ConfigError, match="Returns and OffroadMetric"):
        score(record(moving(0, 0, 10), vector_map=road()), twice)
    check_names([metric() for metric in ALL])


def test_a_rollout_that_failed_has_every_score_undefined() -> None:
    values = undefined_scores([OffroadMetric(), Returns()], "policy failed")
    assert [(v.name, v.value, v.reason) for v in values] == [
        ("offroad", None, "policy failed"),
        ("offroad_depth_m", None, "policy failed"),
        ("Returns", None, "policy failed"),
    ]


def test_metrics_share_what_is_computed_for_a_record_and_let_it_go_with_it() -> None:
    made = record(moving(0, 0, 10), [Body(still(15, 0))], vector_map=road())
    score(made, [metric() for metric in ALL])
    assert score_samples(made) is score_samples(made)
    shared = contacts(made, 0.05, 0.3)
    assert contacts(made, 0.05, 0.3) is shared
    assert contacts(made, 0.05, 1.0) is not shared
    gone = weakref.ref(made), weakref.ref(score_samples(made)), weakref.ref(shared)
    del made, shared
    gc.collect()
    assert [ref() for ref in gone] == [None, None, None]
