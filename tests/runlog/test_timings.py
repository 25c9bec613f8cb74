"""The times of a rollout, from whatever its result holds."""

from __future__ import annotations

from typing import Any

import pytest

from omniloop.core.contracts import MetricValue
from omniloop.runlog.results import RolloutResult
from omniloop.runlog.tables import metrics_columns
from omniloop.runlog.timings import times_of

TIMES = {
    "queued_s": 3.0, "rollout_s": 2.0, "scoring_s": 0.25, "wall_s": 2.75,
    "services": {
        "policy.open": {"calls": 1, "total_s": 0.25, "longest_s": 0.25},
        "policy.plan": {"calls": 10, "total_s": 0.5, "longest_s": 0.1},
        "renderer.render": {"calls": 10, "total_s": 1.0, "longest_s": 0.2},
        "renderer.render_rgb": {"calls": 20, "total_s": 1.5, "longest_s": 0.2},  # within render
    },
}  # fmt: skip


def result(timings: dict[str, Any], *metrics: MetricValue) -> RolloutResult:
    return RolloutResult(
        "line", 0, "line/0", "completed", timings=timings, metrics={m.name: m for m in metrics}
    )


def test_own_time_is_what_services_did_not_take_and_the_rest_comes_after() -> None:
    found = times_of(result(TIMES))
    assert found.services == {"policy": 0.75, "renderer": 1.0}
    assert (found.own_s, found.rest_s) == (0.25, 0.5)


@pytest.mark.parametrize(
    "timings", [{}, {"services": 3, "rollout_s": "x"}, {"rollout_s": None}, {"wall_s": True}]
)
def test_what_a_result_does_not_tell_is_none(timings: dict[str, Any]) -> None:
    found = times_of(result(timings))
    assert found.services == {}
    assert [found.queued_s, found.rollout_s, found.own_s, found.rest_s, found.wall_s] == [None] * 5


def test_they_are_columns_of_the_table_beside_the_scores_of_such_names() -> None:
    columns = metrics_columns([
        result(TIMES, MetricValue("time_own_s", 7.0), MetricValue("time_free_s", 8.0)),
        result({"queued_s": 1.0}),
    ])  # fmt: skip
    assert columns["time_queued_s"] == ("float64", [3.0, 1.0])
    assert columns["time_rollout_s"] == ("float64", [2.0, None])
    assert columns["time_policy_s"] == ("float64", [0.75, None])
    assert columns["time_own_s"] == ("float64", [0.25, None])
    assert columns["time_scoring_s"] == ("float64", [0.25, None])
    assert columns["metric_time_own_s"] == ("float64", [7.0, None])
    assert columns["time_free_s"] == ("float64", [8.0, None])
