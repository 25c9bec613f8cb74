"""Every known defect of AlpaSim: there in strict, mended in corrected."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omniloop.core.scene import VectorMap
from tests.metrics.alpasim_records import both, lane_along_x, line, planned, scores, two_lanes
from tests.metrics.records import Body, Path, moving, record, still

FAR = {"max_dist_to_gt_trajectory": 1e3}


def pushed(t: np.ndarray) -> tuple[object, object, object]:
    """Follows ego from behind, into it by 0.2 m."""
    return 5 * t - 2.8, 0.0, 0.0


def test_the_last_actor_that_touches_ego_decides() -> None:
    ahead, behind = Body(moving(4.8, 0, 5)), Body(pushed)
    made = record(moving(0, 0, 5), [ahead, behind])
    assert both(made, "collision_front") == (1, 0)
    assert both(made, "collision_rear") == (1, 1)
    assert both(made, "collision_at_fault") == (1, 0)
    turned = record(moving(0, 0, 5), [behind, ahead])
    assert both(turned, "collision_rear") == (1, 0)
    assert both(turned, "collision_any") == (1, 1)


def test_headings_of_lanes_are_not_wrapped() -> None:
    # Ego heads west like its lane, one at +179 and one at -179 degrees.
    near_pi = np.deg2rad(179)
    lane = lane_along_x(-3.5, 3.5, back=True)
    turned = replace(lane, centerline=lane.centerline + [[0, 2.0, 0], [0, -2.0, 0]])
    west = record(moving(100, 0, 5, near_pi), vector_map=VectorMap(lanes=(turned,)))
    assert both(west, "wrong_lane") == (0, 1)
    against = record(moving(0, 0, 5), vector_map=VectorMap(lanes=(lane,)))
    assert both(against, "wrong_lane") == (1, 1)
    along = record(moving(0, 0, 5), vector_map=VectorMap(lanes=(lane_along_x(-3.5, 3.5),)))
    assert both(along, "wrong_lane") == (0, 0)


def test_the_first_two_rows_are_made_up() -> None:
    # Without warm-up rows the first two rows count; ego stands 3 m beside the recording.
    made = record(still(2.0, 3.0), recorded=moving(0, 0, 10), duration_s=0.1, recorded_s=3.0)
    made = replace(made, schedule=replace(made.schedule, n_warmup=0))
    cut = replace(
        made, ego=made.ego.__class__(*(a[:2] for a in (made.ego.times_us, made.ego.local_to_rig, made.ego.dynamics)))
    )  # fmt: skip
    assert both(cut, "dist_to_gt_trajectory") == (pytest.approx(3.0), 0.0)
    assert both(cut, "dist_to_gt_location")[1] == 0.0
    assert both(cut, "progress_rel")[1] == 1.0
    assert both(cut, "progress") == (pytest.approx(7 / 35), None)
    # With a third row, the first two lie evenly between 0 and it.
    cut = replace(
        made, ego=made.ego.__class__(*(a[:3] for a in (made.ego.times_us, made.ego.local_to_rig, made.ego.dynamics)))
    )  # fmt: skip
    first = scores(cut, max_dist_to_gt_trajectory=0.0)
    fake = scores(cut, max_dist_to_gt_trajectory=0.0, compat="strict")
    assert first["progress_clipped_rel"].value == pytest.approx(7 / 35)
    assert fake["progress_clipped_rel"].value == 0.0


def test_plans_without_a_pose_in_the_window_count_as_free_of_collision() -> None:
    box = Body(still(40.0, 0.0))
    made = record(moving(0, 0, 1), [box], duration_s=6.0)
    # Every other decision has a plan of one pose, the one at its own time.
    made = planned(made, lambda s: moving(-15 * s, 0, 16), horizon_s=3.0)
    short = [
        d if i % 2 else replace(d, plan=replace(d.plan, local_to_rig=d.plan.local_to_rig.between(0, d.time_us)))
        for i, d in enumerate(made.decisions)
    ]  # fmt: skip
    corrected, strict = both(replace(made, decisions=tuple(short)), "open_loop_collision")
    assert corrected is not None
    assert corrected > 0.5
    assert strict == pytest.approx(corrected / 2)


@pytest.mark.parametrize(
    ("y", "off"), [(0.0, (0, 0)), (3.0, (1, 1)), (6.0, (1, 0)), (-9.0, (1, 0))]
)
def test_ego_beyond_a_road_edge_is_not_off_the_road(y: float, off: tuple[int, int]) -> None:
    made = record(moving(0, y, 5), recorded=moving(0, 0, 5), vector_map=two_lanes(edges=3.6))
    assert (
        scores(made, **FAR)["offroad"].value,
        scores(made, **FAR, compat="strict")["offroad"].value,
    ) == off


def test_on_a_shoulder_between_lane_and_edge_ego_is_on_the_road() -> None:
    made = record(moving(0, 6.0, 5), recorded=moving(0, 0, 5), vector_map=two_lanes(edges=9.0))
    for compat in ("corrected", "strict"):
        assert scores(made, **FAR, compat=compat)["offroad"].value == 0


def test_an_edge_that_is_not_the_nearest_to_the_centre_is_not_seen() -> None:
    # An edge beside ego, 1.3 m from its centre line, and one across its way.
    road = VectorMap(
        lanes=(lane_along_x(-1.2, 1.2, x1=5.0),),
        road_boundaries=(line([(-50, 1.3), (200, 1.3)]), line([(7.0, -5), (7.0, 1.2)])),
    )
    made = record(moving(0, 0, 2), recorded=moving(0, 0, 5), vector_map=road, duration_s=2.2)
    assert both(made, "offroad") == (1, 0)


def test_a_map_without_road_counts_as_on_the_road() -> None:
    made = record(moving(0, 0, 5))
    assert both(made, "offroad") == (None, 0)
    assert scores(made)["offroad"].reason.startswith("the map has no")
    assert both(made, "scene_score") == (None, 1)
    for name in ("wrong_lane", "min_distance_to_lane_boundary_m"):
        assert both(made, name) == (None, None)


def test_a_map_without_road_edges_lends_the_outline_of_its_surface() -> None:
    for y, off in ((0.0, (0, 0)), (3.4, (1, 0)), (9.0, (1, 0))):
        made = record(moving(0, y, 5), vector_map=two_lanes(edges=None))
        assert both(made, "offroad") == off


def test_a_recording_without_length_has_no_scene_score() -> None:
    made = record(moving(0, 0, 0.5), recorded=still(0, 0), vector_map=two_lanes())
    assert both(made, "progress") == (None, None)
    assert both(made, "scene_score") == (1, None)


def test_two_plans_with_few_times_in_common_are_compared() -> None:
    # Each plan lies 0.1 m further to the left; two consecutive ones share 4 or 5 times.
    for horizon_s, corrected in ((0.5, None), (0.6, 0.1)):
        made = planned(record(moving(0, 0, 5)), lambda s: moving(0, s, 5), horizon_s=horizon_s)
        found = both(made, "plan_deviation")
        assert found == (corrected and pytest.approx(corrected), pytest.approx(0.1))
        assert scores(made, plan_min_timesteps=4)["plan_deviation"].value == pytest.approx(0.1)


def test_an_actor_that_is_not_seen_for_a_while_is_a_ghost() -> None:
    def away_and_back(t: np.ndarray) -> tuple[object, object, object]:
        return np.where(t < 1.0, -40.0, 50.0), 0.0, 0.0

    body = Body(away_and_back, present=lambda t: (t < 0.55) | (t > 1.45))
    made = record(moving(0, 0, 5), [body])
    assert both(made, "collision_any") == (0, 1)


def test_ego_that_drives_back_has_driven_less() -> None:
    def there_and_back(t: np.ndarray) -> tuple[object, object, object]:
        return 5 - np.abs(5 * t - 5), 0.0, 0.0

    made = record(there_and_back, recorded=moving(-10, 0, 10))
    warmup_m = 2.5
    assert both(made, "dist_traveled_m") == (pytest.approx(warmup_m + 10), pytest.approx(warmup_m))


def test_seams_between_lanes_part_them() -> None:
    seam = VectorMap(
        lanes=(lane_along_x(-3.5, -1e-6), lane_along_x(1e-6, 3.5)),
        road_boundaries=(line([(-50, 9), (200, 9)]),),
    )
    made = record(moving(0, 0, 5), vector_map=seam)
    corrected, strict = both(made, "min_distance_to_lane_boundary_m")
    assert corrected == pytest.approx(3.5 - 0.98, abs=1e-3)
    assert strict == 0


def test_horizons_of_min_ade_are_counted_in_rows_from_the_decision() -> None:
    # Decisions every 200 ms, rows every 100 ms: distances begin a row late, and so end one late.
    made = record(moving(0, 0, 5), duration_s=8.0)
    every = replace(
        made.schedule, first_decision_us=made.schedule.first_decision_us + 100_000,
        decision_period_us=200_000, n_warmup=2, n_decisions=42,
    )  # fmt: skip
    made = replace(made, schedule=every)
    straight: Path = moving(0, 0, 5)

    def late(now_s: float) -> Path:
        """On ego's way but for one metre to the left after 0.5 s."""
        return lambda t: (5 * t, np.where(t - now_s > 0.55, 1.0, 0.0), 0.0)

    made = planned(made, lambda s: straight, samples=[late])
    corrected, strict = both(made, "min_ade@0.5s(self)")
    assert corrected == 0
    assert strict == pytest.approx(1 / 5)


def test_a_sample_that_ends_early_fails_all_of_min_ade() -> None:
    made = planned(
        record(moving(0, 0, 5), duration_s=8.0), lambda s: moving(0, 0, 5),
        samples=[lambda s: moving(0, 1, 5)], horizon_s=3.0,
    )  # fmt: skip
    assert both(made, "min_ade@2.5s(gt)") == (pytest.approx(1.0), None)
    assert both(made, "min_ade@5.0s(gt)") == (None, None)
    assert "sampled trajectory" in scores(made, compat="strict")["min_ade@2.5s(gt)"].reason


def test_without_any_of_these_both_modes_agree() -> None:
    box = Body(still(60.0, 2.0))
    made = record(moving(0, -1.5, 8), [box], recorded=moving(0, -1, 8), vector_map=two_lanes())
    made = planned(
        made, lambda s: moving(0, -1.5 - 0.2 * s, 8), samples=[lambda s: moving(0, -1, 8)]
    )
    one, other = scores(made), scores(made, compat="strict")
    for name, value in one.items():
        assert value.reason == other[name].reason, name
        if value.value is not None:
            assert value.value == pytest.approx(other[name].value, abs=1e-6), name
