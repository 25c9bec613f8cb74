from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omniloop.core.contracts import MetricValue
from omniloop.core.scene import VectorMap
from omniloop.metrics.alpasim_aggregate import BLACK, aggregate, clip, scene_score
from omniloop.metrics.alpasim_definitions import OVER_TIME
from omniloop.metrics.alpasim_metric import AlpasimMetric
from omniloop.metrics.alpasim_series import Series, series
from omniloop.metrics.alpasim_settings import Settings
from omniloop.metrics.values import NOTHING_DRIVEN
from tests.metrics.alpasim_records import lane_along_x, line, scores, two_lanes
from tests.metrics.records import Body, moving, record, still

SETTINGS = Settings()


def made_series(count: int = 10, first_relevant: int = 2, **given: object) -> Series:
    """Series of zeros at 1 s intervals, with progress k / 10 at row k."""
    values: dict[str, object] = {name: np.zeros(count) for name in OVER_TIME}
    values |= {
        "progress": np.arange(count) / 10, "progress_rel_to_total": np.arange(count) / 10,
        "gt_dist_traveled_m": np.full(count, 50.0), "dist_traveled_m": 4.0 * np.arange(count),
    }  # fmt: skip
    for name, at in given.items():
        if isinstance(at, dict):
            values[name] = np.array([at.get(k, 0.0) for k in range(count)])
        else:
            values[name] = at
    for name in ("offroad_or_collision", "collision_at_fault", "offroad_or_collision_at_fault"):
        del values[name]
    del values["duration_frac_20s"], values["progress_clipped_rel"]
    times = 1_000_000 * np.arange(5, 5 + count)
    return Series(times, np.arange(count) >= first_relevant, values)  # type: ignore[arg-type]


def aggregated(
    of: Series, settings: Settings = SETTINGS
) -> tuple[dict[str, float | None], dict[str, MetricValue]]:
    found = aggregate(clip(of, settings), OVER_TIME)
    found["scene_score"] = scene_score(found, settings)
    return {name: value.value for name, value in found.items()}, found


def collision(kind: str, *rows: int) -> dict[str, object]:
    at = dict.fromkeys(rows, 1.0)
    return {f"collision_{kind}": at, "collision_any": at}


def test_rows_before_handover_do_not_count() -> None:
    values, _ = aggregated(made_series(**collision("front", 1), dist_to_gt_trajectory={0: 9.0}))
    assert values["collision_any"] == values["dist_to_gt_trajectory"] == 0
    assert values["progress_clipped_rel"] == 0.9
    # The duration runs from the first row that counts: 7 rows of 1 s after it.
    assert values["duration_frac_20s"] == pytest.approx(7 / 20)


def test_relevance_lasts_from_its_first_row_on() -> None:
    of = made_series(**collision("front", 5))
    relevant = of.relevant.copy()
    relevant[4:6] = False
    assert aggregated(replace(of, relevant=relevant))[0]["collision_any"] == 1


def test_the_first_incident_ends_the_rollout_and_its_row_counts() -> None:
    values, _ = aggregated(
        made_series(**collision("front", 6, 7), wrong_lane={6: 1.0}, offroad={7: 1.0})
    )
    assert values["collision_front"] == values["wrong_lane"] == 1
    assert values["offroad"] == 0
    assert values["progress_clipped_rel"] == values["progress"] == 0.6
    assert values["dist_traveled_m"] == 24
    assert values["duration_frac_20s"] == pytest.approx(4 / 20)


def test_a_hit_from_behind_hides_a_later_one_at_fault() -> None:
    hits = {
        "collision_rear": {4: 1.0},
        "collision_front": {6: 1.0},
        "collision_any": {4: 1.0, 6: 1.0},
    }
    values, _ = aggregated(made_series(**hits))
    assert (values["collision_rear"], values["collision_front"]) == (1, 0)
    assert (values["offroad_or_collision"], values["offroad_or_collision_at_fault"]) == (1, 0)
    assert values["collision_at_fault"] == 0
    assert values["scene_score"] == pytest.approx(0.4 / 0.8)


def test_an_incident_on_the_row_that_leaves_the_tube_counts_and_one_after_it_does_not() -> None:
    away = {k: 3.0 + 0.25 * k for k in range(10)}  # 4.0 at row 4
    for row, counts in ((3, 1), (4, 1), (5, 0)):
        values, _ = aggregated(made_series(**collision("lateral", row), dist_to_gt_trajectory=away))
        assert values["collision_at_fault"] == counts
    assert values["dist_to_gt_trajectory"] == 4.0
    assert values["progress_clipped_rel"] == 0.4


def test_a_policy_that_leaves_the_tube_at_once_is_scored_on_the_first_row_alone() -> None:
    away = dict.fromkeys(range(10), 5.0)
    values, _ = aggregated(made_series(**collision("front", 3), dist_to_gt_trajectory=away))
    assert values["collision_any"] == 0
    assert (values["duration_frac_20s"], values["dist_traveled_m"]) == (0, 8)
    assert values["scene_score"] == pytest.approx(0.2 / 0.8)


def test_incidents_cut_before_the_tube_does() -> None:
    # Row 3 is an incident, row 5 leaves the tube: the cut is at the incident.
    clipped = clip(made_series(**collision("rear", 3), dist_to_gt_trajectory={5: 9.0}), SETTINGS)
    assert (clipped.cut_by, clipped.cut_us) == ("incident", 8_000_000)
    clipped = clip(made_series(**collision("rear", 5), dist_to_gt_trajectory={3: 9.0}), SETTINGS)
    assert (clipped.cut_by, clipped.cut_us) == ("tube", 8_000_000)
    assert clip(made_series(), SETTINGS).cut_by == ""
    # Nothing follows the last row: it cuts nothing off.
    assert clip(made_series(**collision("rear", 9)), SETTINGS).cut_by == ""


def test_a_black_image_drops_the_rollout_even_after_an_incident_but_not_before_handover() -> None:
    values, found = aggregated(made_series(**collision("front", 4), img_is_black={8: 1.0}))
    assert values.pop("img_is_black") == 1
    assert set(values.values()) == {None}
    assert found["collision_any"].reason == BLACK
    values, _ = aggregated(made_series(**collision("front", 4), img_is_black={1: 1.0}))
    assert (values["img_is_black"], values["collision_any"]) == (0, 1)


def test_rows_without_a_value_are_left_out() -> None:
    nan = np.full(10, np.nan)
    nan[[3, 5]] = [1.0, 2.0]
    values, found = aggregated(made_series(plan_deviation=nan, open_loop_collision=nan * np.nan))
    assert values["plan_deviation"] == 1.5
    assert values["open_loop_collision"] is None
    assert found["open_loop_collision"].reason == "no row that counts has a value"


def test_without_offroad_collisions_alone_cut_and_what_needs_it_is_undefined() -> None:
    of = made_series(**collision("front", 4), offroad="no map")
    values, found = aggregated(of)
    assert values["duration_frac_20s"] == pytest.approx(2 / 20)
    for name in ("offroad", "offroad_or_collision", "offroad_or_collision_at_fault", "scene_score"):
        assert values[name] is None
        assert found[name].reason.endswith("no map")
    strict, _ = aggregated(of, Settings(compat="strict"))
    assert (strict["offroad"], strict["offroad_or_collision"], strict["scene_score"]) == (0, 1, 0)


@pytest.mark.parametrize(
    ("progress", "recorded_m", "hit", "off", "score", "failure"),
    [
        (0.4, 50.0, 0, 0, 0.5, None),
        (0.8, 50.0, 0, 0, 1.0, None),
        (0.95, 50.0, 0, 0, 1.0, None),
        (0.0, 50.0, 0, 0, 0.0, None),
        (-0.2, 50.0, 0, 0, 0.0, None),
        (0.95, 50.0, 1, 0, 0.0, "collision_at_fault"),
        (0.95, 50.0, 0, 1, 0.0, "offroad"),
        (0.95, 50.0, 1, 1, 0.0, "collision_at_fault"),
        (0.1, 4.99, 0, 0, 1.0, None),
        (0.1, 5.0, 0, 0, 0.125, None),
        (0.1, 4.99, 1, 0, 0.0, "collision_at_fault"),
    ],
)
def test_scene_score(
    progress: float, recorded_m: float, hit: int, off: int, score: float, failure: str | None
) -> None:
    parts = {
        "progress_clipped_rel": progress, "gt_dist_traveled_m": recorded_m,
        "collision_at_fault": float(hit), "offroad": float(off),
    }  # fmt: skip
    found = scene_score({k: MetricValue(k, v) for k, v in parts.items()}, SETTINGS)
    assert found.value == pytest.approx(score)
    assert found.details["failure_reason"] == failure


def test_nothing_is_scored_when_nothing_was_driven() -> None:
    found = scores(record(moving(0, 0, 10), driven_s=0.0))
    assert {value.reason for value in found.values()} == {NOTHING_DRIVEN}


def test_names_are_alpasims_and_unique() -> None:
    names = AlpasimMetric.names
    assert len(set(names)) == len(names) == 33
    assert all(name.startswith("alpasim_") for name in names)
    assert {"alpasim_min_ade@0.5s(gt)", "alpasim_min_ade@5.0s(self)", "alpasim_scene_score"} <= {
        *names
    }
    assert all(d.family == "alpasim" and d.formula and d.source for d in AlpasimMetric.definitions)


def test_every_series_has_an_aggregation_over_time() -> None:
    made = series(record(moving(0, 0, 10)), SETTINGS)
    derived = {
        "offroad_or_collision", "collision_at_fault", "offroad_or_collision_at_fault",
        "duration_frac_20s", "progress_clipped_rel",
    }  # fmt: skip
    assert set(made.values) | derived == set(OVER_TIME)


def test_a_whole_rollout() -> None:
    # The recording drives 25 m in 2.5 s; ego stops it at 5 m/s behind a box it then hits.
    box = Body(still(10.0, 0.0))
    made = record(moving(0, 0, 5), [box], recorded=moving(0, 0, 10), vector_map=two_lanes())
    found = scores(made, max_dist_to_gt_trajectory=100.0)
    # Front at 3 m + 5 t less 1 % of 4 m, the box's rear at 8 m and as much; at 1.1 s 8.46.
    assert found["duration_frac_20s"].value == pytest.approx(1.1 / 20)
    assert found["collision_front"].value == found["offroad_or_collision_at_fault"].value == 1
    assert found["scene_score"].value == 0
    details = found["offroad_or_collision"].details
    assert details == {
        "compat": "corrected",
        "rows": 12,
        "cut_by": "incident",
        "last_row_us": 2_600_000,
    }


def test_a_map_of_lanes_alone_is_enough() -> None:
    only = VectorMap(lanes=(lane_along_x(-3.5, 3.5),), road_boundaries=(line([(0, 9), (9, 9)]),))
    assert scores(record(moving(0, 0, 10), vector_map=only))["offroad"].value == 0
