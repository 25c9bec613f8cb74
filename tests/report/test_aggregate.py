from __future__ import annotations

import numpy as np
import pytest

from omniloop.core.contracts import MetricValue
from omniloop.metrics.definition import MetricDefinition
from omniloop.report.aggregate import aggregate
from omniloop.report.intervals import ALL_ALIKE, TOO_FEW, wilson
from omniloop.runlog.results import RolloutResult


def result(scene: str, seed: int = 0, outcome: str = "completed", **scores: float | None):
    metrics = {
        name: MetricValue(name, value, "" if value is not None else "no reason to have one")
        for name, value in scores.items()
    }
    return RolloutResult(scene, seed, f"{scene}/{seed}", outcome, metrics=metrics)


def definition(name: str, over_rollouts: str, better: str = "lower", unit: str = "m"):
    return MetricDefinition(name, "test", unit, "", "", over_rollouts, better, "", "")


def score(results, name, over_rollouts=None):
    known = {name: definition(name, over_rollouts)} if over_rollouts else {}
    return aggregate(results, known).score(name)


def test_seeds_are_repeats_within_a_scene():
    # Scene a has the mean 2 over three seeds, b has 10 with one: scenes count alike.
    results = [result("a", k, x=v) for k, v in enumerate((1.0, 2.0, 3.0))] + [result("b", x=10.0)]
    found = score(results, "x")
    assert found.value == 6.0
    assert (found.valid, found.rollouts, found.scenes) == (4, 4, 2)
    assert (found.interval.low, found.interval.high) == (2.0, 10.0)


def test_undefined_scores_are_left_out_and_counted():
    results = [result("a", x=1.0), result("b", x=None), result("c", x=3.0), result("d")]
    found = score(results, "x")
    assert (found.value, found.valid, found.rollouts, found.scenes) == (2.0, 2, 4, 2)


def test_a_score_defined_nowhere_has_a_reason():
    found = score([result("a", x=None)], "x")
    assert found.value is None
    assert found.reason == "defined in no rollout"
    assert found.interval.low is None


def test_a_rate_has_wilsons_interval_with_as_many_trials_as_scenes():
    results = [result(s, k, f=float(s == "a")) for s in "abcd" for k in range(2)]
    found = score(results, "f", "rate")
    assert (found.value, found.count, found.valid) == (0.25, 2, 8)
    assert found.interval == wilson(0.25, 4)


def test_a_rate_is_the_share_of_ones():
    assert score([result("a", f=1.0), result("b", f=0.5)], "f", "rate").value == 0.5


@pytest.mark.parametrize(
    ("how", "value"), [("mean", 2.25), ("sum", 6.0), ("min", 1.0), ("max", 3.0)]
)
def test_each_reduction_by_hand(how, value):
    results = [result("a", 0, x=1.0), result("a", 1, x=2.0), result("b", x=3.0), result("c")]
    assert score(results, "x", how).value == value


def test_a_sum_has_the_interval_of_a_sum():
    results = [
        result(s, x=v) for s, v in zip("abcdef", (1.0, 2.0, 4.0, 3.0, 2.5, 0.5), strict=True)
    ]
    mean, total = score(results, "x"), score(results, "x", "sum")
    assert total.interval.low == pytest.approx(6 * mean.interval.low)
    assert total.interval.low < total.value < total.interval.high


def test_extremes_and_what_is_not_reduced_have_no_interval():
    results = [result("a", x=1.0), result("b", x=3.0)]
    assert "extreme" in score(results, "x", "max").interval.reason
    none = score(results, "x", "none")
    assert none.value is None
    assert none.reason == "not brought together over rollouts"


def test_one_scene_or_no_spread_says_why_there_is_no_interval():
    assert score([result("a", x=1.0), result("a", 1, x=2.0)], "x").interval.reason == TOO_FEW
    assert score([result("a", x=1.0), result("b", x=1.0)], "x").interval.reason == ALL_ALIKE


def test_outcomes_are_counted_apart():
    results = [
        result("a", x=1.0), result("b", outcome="policy_failed"),
        result("c", outcome="infrastructure_failed"), result("d", outcome="policy_failed"),
    ]  # fmt: skip
    assert aggregate(results, {}).outcomes == {
        "completed": 1, "policy_failed": 2, "infrastructure_failed": 1,
    }  # fmt: skip


def test_incidents_per_km_use_rollouts_that_have_both():
    results = [
        result("a", incident_in_tube=1.0, distance_in_tube_m=500.0),
        result("b", incident_in_tube=0.0, distance_in_tube_m=1500.0),
        result("c", incident_in_tube=1.0, distance_in_tube_m=None),
    ]  # fmt: skip
    found = aggregate(results, {}).score("incident_in_tube_per_km")
    assert found.value == pytest.approx(0.5)
    assert (found.valid, found.count, found.unit) == (2, 1, "1/km")
    assert found.basis == "2.000 km in the tube"


def test_without_a_distance_there_is_no_rate_per_km():
    results = [result("a", incident_in_tube=0.0, distance_in_tube_m=0.0)]
    found = aggregate(results, {}).score("incident_in_tube_per_km")
    assert (found.value, found.reason) == (None, "no distance")


def test_the_order_of_rollouts_does_not_matter():
    random = np.random.Generator(np.random.PCG64(0))
    results = [result(f"s{k // 2}", k % 2, x=float(random.normal())) for k in range(20)]
    one, two = score(results, "x"), score(results[::-1], "x")
    assert one.value == pytest.approx(two.value)
    assert one.valid == two.valid


def test_no_rollout_at_all_is_no_error():
    assert aggregate([], {}).scores == ()
