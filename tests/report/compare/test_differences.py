from __future__ import annotations

import numpy as np
import pytest

from omniloop.core.seeds import generator
from omniloop.metrics.definition import MetricDefinition
from omniloop.report.compare.differences import (
    differences_of,
    paired_differences,
    per_km_differences,
)
from omniloop.report.compare.pairing import Pair
from omniloop.report.intervals import ALL_ALIKE, TOO_FEW, paired_rates
from tests.report.test_aggregate import definition, result


def pairs(first: dict[str, float | None], second: dict[str, float | None]) -> list[Pair]:
    return [Pair(result(s, x=first[s]), result(s, x=second[s])) for s in first]


def only(found: list[Pair], known: MetricDefinition | None = None):
    return paired_differences(found, ["x"], {"x": known} if known else {})[0]


def test_a_difference_by_hand():
    found = only(pairs({"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 2.0, "b": 2.0, "c": 1.0}),
                 definition("x", "mean", "lower"))  # fmt: skip
    assert (found.first, found.second, found.value) == pytest.approx((2.0, 5 / 3, -1 / 3))
    assert (found.higher, found.same, found.lower) == (1, 1, 1)
    assert (found.wins, found.losses) == (1, 1)


def test_winning_is_a_matter_of_direction():
    better = pairs({"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 3.0})
    assert only(better, definition("x", "mean", "higher")).wins == 2
    assert only(better, definition("x", "mean", "lower")).losses == 2
    assert only(better, definition("x", "mean", "neither")).wins is None


def test_only_pairs_in_which_both_have_the_score_count():
    found = only(pairs({"a": 1.0, "b": None, "c": 5.0}, {"a": 2.0, "b": 100.0, "c": None}))
    assert (found.first, found.second, found.value) == (1.0, 2.0, 1.0)
    assert (found.valid, found.pairs, found.scenes) == (1, 3, 1)


def test_seeds_come_first_and_scenes_count_alike():
    found = [Pair(result("a", k, x=0.0), result("a", k, x=1.0)) for k in range(9)]
    found.append(Pair(result("b", x=0.0), result("b", x=3.0)))
    assert only(found).value == 2.0


def test_pairing_takes_the_spread_of_scenes_out_of_the_interval():
    random = generator(0, "scenes")
    level = random.normal(0, 100, size=30)
    shift = 2 + random.normal(0, 0.5, size=30)
    one = {f"s{k}": float(v) for k, v in enumerate(level)}
    two = {f"s{k}": float(v) for k, v in enumerate(level + shift)}
    found = only(pairs(one, two))
    assert found.interval.low < 2 < found.interval.high
    error = shift.std(ddof=1) / np.sqrt(30)
    assert found.interval.high - found.interval.low == pytest.approx(2 * 2.04 * error, rel=0.15)


def test_the_same_run_twice_differs_nowhere():
    same = {"a": 1.0, "b": 2.0}
    found = only(pairs(same, same))
    assert (found.value, found.same) == (0.0, 2)
    assert found.interval.reason == ALL_ALIKE


def test_flags_that_flip_are_named():
    found = only(
        pairs({"a": 0.0, "b": 1.0, "c": 1.0, "d": 0.0}, {"a": 1.0, "b": 0.0, "c": 1.0, "d": 1.0}),
        definition("x", "rate", "lower", "0 or 1"),
    )
    assert found.set_by == ("a/0", "d/0")
    assert found.cleared_by == ("b/0",)
    assert found.interval == paired_rates(2, 1, 4)


def test_without_a_pair_nothing_is_claimed():
    found = only(pairs({"a": None}, {"a": 1.0}), definition("x", "rate"))
    assert (found.value, found.first, found.valid) == (None, None, 0)
    assert found.interval.low is None


def km_pairs(first: dict[str, tuple[float | None, float]], second) -> list[Pair]:
    def of(scene, values):
        return result(scene, incident=values[0], distance_driven_m=values[1])

    return [Pair(of(s, first[s]), of(s, second[s])) for s in first]


def test_incidents_per_km_are_a_ratio_of_sums_in_each_run():
    found = per_km_differences(
        km_pairs({"a": (1.0, 500.0), "b": (0.0, 1500.0)}, {"a": (0.0, 1000.0), "b": (1.0, 3000.0)}),
        ["incident_per_km"],
    )[0]
    assert (found.first, found.second, found.value) == pytest.approx((0.5, 0.25, -0.25))
    assert (found.wins, found.same, found.losses) == (1, 0, 1)
    assert (found.unit, found.valid, found.scenes) == ("1/km", 2, 2)


def test_only_pairs_with_both_parts_in_both_runs_count_per_km():
    found = per_km_differences(
        km_pairs({"a": (1.0, 500.0), "b": (None, 9000.0)}, {"a": (0.0, 500.0), "b": (1.0, 9000.0)}),
        ["incident_per_km"],
    )[0]
    assert (found.first, found.second, found.valid, found.pairs) == (2.0, 0.0, 1, 2)


def test_seeds_come_first_per_km_too():
    pairs = km_pairs({"a": (1.0, 1000.0)}, {"a": (0.0, 1000.0)}) * 3
    pairs += km_pairs({"b": (0.0, 1000.0)}, {"b": (0.0, 1000.0)})
    assert per_km_differences(pairs, ["incident_per_km"])[0].first == 0.5


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ({"a": (0.0, 0.0)}, {"a": (0.0, 0.0)}, "no distance"),
        ({"a": (None, 5.0)}, {"a": (0.0, 5.0)}, "no distance"),
        ({"a": (1.0, 500.0)}, {"a": (0.0, 500.0)}, TOO_FEW),
        (dict.fromkeys("ab", (0.0, 500.0)), dict.fromkeys("ab", (0.0, 900.0)), ALL_ALIKE),
    ],
)
def test_no_interval_per_km_without_its_reason(first, second, reason):
    found = per_km_differences(km_pairs(first, second), ["incident_per_km"])[0]
    assert found.interval.reason == reason
    assert (found.value is None) == (reason == "no distance")


def test_a_scene_without_a_distance_in_one_run_is_in_the_sums_but_not_won_or_lost():
    found = per_km_differences(
        km_pairs({"a": (1.0, 0.0), "b": (0.0, 1000.0)}, {"a": (0.0, 1000.0), "b": (0.0, 1000.0)}),
        ["incident_per_km"],
    )[0]
    assert (found.first, found.second) == (1.0, 0.0)
    assert (found.wins, found.same, found.losses) == (0, 1, 0)


def test_scores_keep_the_order_asked_for():
    pairs = km_pairs({"a": (1.0, 500.0)}, {"a": (0.0, 500.0)})
    names = ["incident", "incident_per_km", "distance_driven_m"]
    assert [d.name for d in differences_of(pairs, names, {})] == names
