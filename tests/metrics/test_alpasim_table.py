from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from omniloop.core.contracts import MetricValue
from omniloop.metrics.alpasim_aggregate import BLACK
from omniloop.metrics.alpasim_metric import AlpasimMetric
from omniloop.metrics.alpasim_summary import results_summary
from omniloop.metrics.alpasim_table import Line, table


@dataclass(frozen=True)
class Result:
    scene: str
    seed: int
    metrics: Mapping[str, MetricValue]
    outcome: str = "completed"


def result(scene: str, seed: int, **values: float | None) -> Result:
    given = {"dist_traveled_m": 100.0, "img_is_black": 0.0, "offroad_or_collision": 0.0,
             "offroad_or_collision_at_fault": 0.0, "scene_score": 1.0} | values  # fmt: skip
    metrics = {name: MetricValue(name, None, "not given") for name in AlpasimMetric.names}
    for name, value in given.items():
        key = f"alpasim_{name}"
        failure = "offroad" if name == "scene_score" and value == 0 else None
        details: dict[str, object] = {"failure_reason": failure} if name == "scene_score" else {}
        metrics[key] = MetricValue(key, value, "" if value is not None else "gone", details)
    return Result(scene, seed, metrics)


def lines(*results: Result) -> dict[str, Line]:
    return {line.name: line for line in table(results).lines}


def test_means_are_over_clips_then_over_rollout_numbers() -> None:
    found = lines(
        result("a", 0, scene_score=0.2), result("b", 0, scene_score=0.4),
        result("a", 7, scene_score=1.0), result("b", 3, scene_score=0.6),
    )["scene_score"]  # fmt: skip
    # Seeds 7 and 3 are both the second of their scene: means 0.3 and 0.8.
    assert found.mean == pytest.approx(0.55)
    assert found.std == pytest.approx(0.5 / 2**0.5)
    assert (found.valid, found.distance_m) == (4, 400.0)


def test_a_clip_with_fewer_rollouts_takes_part_in_those_it_has() -> None:
    found = lines(
        result("a", 0, offroad_or_collision=1.0), result("b", 0), result("a", 1, offroad_or_collision=1.0)
    )["offroad_or_collision"]  # fmt: skip
    assert found.mean == pytest.approx((0.5 + 1.0) / 2)


def test_one_rollout_number_has_no_deviation() -> None:
    assert lines(result("a", 0), result("b", 0))["scene_score"].std is None


def test_distance_between_incidents_is_distance_over_incidents_of_each_number() -> None:
    found = lines(
        result("a", 0, offroad_or_collision=1.0, dist_traveled_m=500.0),
        result("b", 0, dist_traveled_m=1500.0),
        result("a", 1, offroad_or_collision=1.0, dist_traveled_m=400.0),
        result("b", 1, offroad_or_collision=1.0, dist_traveled_m=600.0),
    )  # fmt: skip
    between = found["avg_dist_between_incidents"]
    assert between.mean == pytest.approx((2.0 + 0.5) / 2)
    assert between.std == pytest.approx(1.5 / 2**0.5)
    at_fault = found["avg_dist_between_incidents_at_fault"]
    assert at_fault.mean is None
    assert at_fault.reason == "no incident in 2 of 2 rollout numbers; 3.000 km in all"


def test_a_number_without_incident_makes_the_distance_infinite() -> None:
    found = lines(
        result("a", 0, offroad_or_collision=1.0), result("a", 1, dist_traveled_m=50.0)
    )["avg_dist_between_incidents"]  # fmt: skip
    assert (found.mean, found.std) == (None, None)
    assert found.reason == "no incident in 1 of 2 rollout numbers; 0.150 km in all"


def test_distance_of_rollouts_whose_incidents_are_unknown_does_not_count() -> None:
    found = lines(
        result("a", 0, offroad_or_collision=1.0, dist_traveled_m=200.0),
        result("b", 0, offroad_or_collision=None, dist_traveled_m=900.0),
    )["avg_dist_between_incidents"]  # fmt: skip
    assert found.mean == pytest.approx(0.2)
    assert (found.valid, found.distance_m) == (1, 200.0)


def black(scene: str, seed: int) -> Result:
    metrics = {name: MetricValue(name, None, BLACK) for name in AlpasimMetric.names}
    metrics["alpasim_img_is_black"] = MetricValue("alpasim_img_is_black", 1.0)
    return Result(scene, seed, metrics)


def test_rollouts_with_a_black_image_are_named_and_take_no_part() -> None:
    found = table(
        [result("a", 0, scene_score=0.5), black("b", 0), result("c", 0, img_is_black=None)]
    )
    assert found.rollouts == 3
    assert found.removed_black == ("b/0",)
    assert found.black_unknown == (("gone", 1),)
    assert (found.clips, found.numbers) == (2.0, 1)
    score = next(line for line in found.lines if line.name == "scene_score")
    assert (score.mean, score.valid) == (0.75, 2)


def test_rollouts_are_numbered_before_black_ones_are_removed() -> None:
    found = table([black("a", 0), result("a", 1, scene_score=0.2), result("b", 0, scene_score=0.6)])
    score = next(line for line in found.lines if line.name == "scene_score")
    assert score.std == pytest.approx(0.4 / 2**0.5)  # a/1 is the second of its scene
    assert (found.clips, found.numbers) == (1.0, 2)


def test_a_rollout_that_broke_off_has_no_number() -> None:
    broken = Result("a", 0, {n: MetricValue(n, None, "broke off") for n in AlpasimMetric.names}, "policy_failed")  # fmt: skip
    found = table([broken, result("a", 1), result("b", 0)])
    assert (found.rollouts, found.clips, found.numbers) == (2, 2.0, 1)
    assert found.without_rows == ("a/0",)
    assert found.black_unknown == ()


def test_results_of_other_families_are_left_out() -> None:
    found = table([Result("a", 0, {"collision": MetricValue("collision", 0.0)})])
    assert (found.rollouts, found.clips, found.numbers) == (0, 0, 0)
    assert {line.mean for line in found.lines} == {None}
    assert all(line.reason for line in found.lines)


def test_the_summary_says_how_each_rollout_ended() -> None:
    broken = Result("d", 0, {n: MetricValue(n, None, "broke off") for n in AlpasimMetric.names}, "policy_failed")  # fmt: skip
    made = results_summary(
        [result("a", 0), result("b", 0, scene_score=0.0), black("c", 0), broken], "demo", "1234"
    )
    text = json.loads(json.dumps(made, allow_nan=False))
    ends = [(r["clipgt_id"], r["status"], r["passed"], r["score"], r["failure_reason"]) for r in text["rollouts"]]  # fmt: skip
    assert ends == [
        ("a", "pass", True, 1.0, None),
        ("b", "fail", False, 0.0, "offroad"),
        ("c", "unscored", False, None, None),
        ("d", "fail", False, 0.0, "rollout_failed"),
    ]
    assert text["schema_version"] == 1
    assert text["metrics_results"][0]["dist_traveled_m"] == 100.0
    assert "scene_score" not in text["metrics_results"][0]
    assert text["metrics_results"][0]["avg_dist_between_incidents"] is None
    assert set(text["rollouts"][0]["score_metrics"]) == {
        "progress_clipped_rel", "gt_dist_traveled_m", "collision_at_fault", "offroad",
    }  # fmt: skip
