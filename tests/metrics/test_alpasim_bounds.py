"""AlpaSim's constants, each by a case on either side of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omniloop.core.scene import VectorMap
from omniloop.metrics.alpasim_aggregate import aggregate, clip
from omniloop.metrics.alpasim_definitions import OVER_TIME
from omniloop.metrics.alpasim_series import series
from omniloop.metrics.alpasim_settings import Settings
from tests.metrics.alpasim_records import lane_along_x, line, planned, scores
from tests.metrics.records import Body, Path, moving, record
from tests.metrics.test_alpasim_aggregate import made_series

ORACLE_OVER_TIME = {
    "max": "collision_front collision_rear collision_lateral collision_any offroad wrong_lane"
    " dist_to_gt_trajectory dist_to_gt_location img_is_black safety_monitor_triggered"
    " offroad_or_collision collision_at_fault offroad_or_collision_at_fault",
    "last": "progress progress_rel_to_total dist_traveled_m gt_dist_traveled_m duration_frac_20s"
    " progress_clipped_rel",
    "mean": "open_loop_collision plan_deviation"
    " min_ade@0.5s(gt) min_ade@1.0s(gt) min_ade@2.5s(gt) min_ade@5.0s(gt)"
    " min_ade@0.5s(self) min_ade@1.0s(self) min_ade@2.5s(self) min_ade@5.0s(self)",
    "min": "progress_rel min_distance_to_lane_boundary_m min_distance_to_obstacle_m",
}
"""Of reference/alpasim.md 4.2 and 4.3."""


def test_every_score_is_reduced_over_time_as_alpasims() -> None:
    expected = {name: how for how, names in ORACLE_OVER_TIME.items() for name in names.split()}
    assert expected == OVER_TIME


@pytest.mark.parametrize("how", ORACLE_OVER_TIME)
def test_reductions_take_the_rows_that_count_in_their_order(how: str) -> None:
    values = np.array([9.0, 9.0, 0.3, 0.7, 0.1, 0.4, 0.0, 9.0])
    rows = [0.3, 0.7, 0.1, 0.4]  # handover at row 2, an incident at row 5
    expected = {"max": 0.7, "last": 0.4, "mean": np.mean(rows), "min": 0.1}[how]
    of = made_series(8, collision_rear={5: 1.0}, collision_any={5: 1.0}, progress=values)
    assert aggregate(clip(of, Settings()), {"progress": how})["progress"].value == expected


@pytest.mark.parametrize("compat", ["corrected", "strict"])
@pytest.mark.parametrize(("centre_m", "near"), [(5.9, True), (6.1, False)])
def test_lanes_take_part_whose_centre_line_is_within_6_m(
    compat: str, centre_m: float, near: bool
) -> None:
    """Ego is across the border of two lanes, the centre line of one is so far away."""
    lanes = (lane_along_x(-3.5, 0.0), lane_along_x(0.0, 2 * centre_m))
    edge = line([(-50, 0.5), (200, 0.5)])
    made = record(moving(0, 0, 5), vector_map=VectorMap(lanes=lanes, road_boundaries=(edge,)))
    found = scores(made, compat=compat)
    gap_m = found["min_distance_to_lane_boundary_m"].value
    assert gap_m == pytest.approx(3.5 - 0.98 if near else 0.0, abs=2e-3)
    assert found["offroad"].value == float(not near)


@pytest.mark.parametrize("compat", ["corrected", "strict"])
def test_ego_within_one_lane_is_on_the_road_however_wide_that_is(compat: str) -> None:
    """Its centre line is 7 m away, and a road edge runs under ego."""
    edge = line([(-50, 0.5), (200, 0.5)])
    wide = VectorMap(lanes=(lane_along_x(-2.0, 16.0),), road_boundaries=(edge,))
    assert scores(record(moving(0, 0, 5), vector_map=wide), compat=compat)["offroad"].value == 0


@pytest.mark.parametrize("compat", ["corrected", "strict"])
@pytest.mark.parametrize(("gap_m", "off"), [(0.8e-3, 1.0), (1.2e-3, 0.0)])
def test_a_road_edge_is_touched_from_1_mm_on(compat: str, gap_m: float, off: float) -> None:
    """Ego's shrunk side is at 0.98 m, its lane ends at 0.9 m."""
    edge = line([(-50, 0.98 + gap_m), (200, 0.98 + gap_m)])
    narrow = VectorMap(lanes=(lane_along_x(-3.0, 0.9),), road_boundaries=(edge,))
    assert scores(record(moving(0, 0, 5), vector_map=narrow), compat=compat)["offroad"].value == off


@pytest.mark.parametrize("compat", ["corrected", "strict"])
@pytest.mark.parametrize(("turn_deg", "wrong"), [(119.5, 0.0), (120.5, 1.0), (-119.5, 0.0), (-120.5, 1.0)])  # fmt: skip
def test_a_lane_is_wrong_beyond_120_degrees(compat: str, turn_deg: float, wrong: float) -> None:
    made = record(
        moving(50, 0, 0.1, np.deg2rad(turn_deg)), vector_map=VectorMap(lanes=(lane_along_x(-8, 8),))
    )
    assert scores(made, compat=compat)["wrong_lane"].value == wrong


def test_plan_deviation_weighs_common_times_by_exp_of_a_tenth_each() -> None:
    """Two plans: the later one leaves the earlier one by 0.3 m, then by 0.1 m more each 0.1 s."""
    straight: Path = moving(0, 0, 5)
    fanning: Path = lambda t: (5 * t, 0.2 + t, 0.0)  # noqa: E731
    plans = {0: straight, 1: fanning}
    made = planned(record(moving(0, 0, 5)), lambda s: plans.get(round(10 * s)), horizon_s=1.0)
    total = weights = 0.0
    for i in range(9):  # the later plan at 0.2, ..., 1.0 s; its first pose is where ego is
        weight = 2.718281828459045 ** (-0.1 * i)
        total, weights = total + weight * (0.4 + 0.1 * i), weights + weight
    for compat in ("corrected", "strict"):
        found = scores(made, compat=compat)["plan_deviation"].value
        assert found == pytest.approx(total / weights)


@pytest.mark.parametrize(("reach_s", "hit"), [(2.9, 1.0), (3.0, 1.0), (3.1, 0.0)])
def test_open_loop_collisions_are_looked_for_up_to_3_s_ahead_and_at_3_s(
    reach_s: float, hit: float
) -> None:
    """A box stands in the way of the one plan at one time alone."""
    box = Body(lambda t: (np.where(np.abs(t - reach_s) < 0.06, 40.0, 400.0), 0.0, 0.0))
    jumping: Path = lambda t: (np.where(np.abs(t - reach_s) < 0.06, 39.0, 0.0), 0.0, 0.0)  # noqa: E731
    made = record(moving(0, 0, 1), [box], duration_s=5.0)
    made = planned(made, lambda s: jumping if abs(s) < 0.01 else None, horizon_s=4.0)
    assert scores(made)["open_loop_collision"].value == hit


def test_the_pose_of_a_plan_at_its_own_time_is_no_open_loop_collision() -> None:
    """It is where ego is: what meets it there is a collision, and no doing of the plan."""
    box = Body(lambda t: (np.where(t < 0.05, 3.0, 400.0), 0.0, 0.0))
    made = record(moving(0, 0, 1), [box], duration_s=2.0)
    made = planned(made, lambda s: moving(0, 0, 1) if abs(s) < 0.01 else None)
    assert scores(made)["collision_front"].value == 1
    assert scores(made)["open_loop_collision"].value == 0


def test_a_boundary_is_far_from_the_shape_and_not_from_the_box() -> None:
    """Twice as long, ego's shape shrinks by twice as much at its ends."""
    lanes = VectorMap(lanes=(lane_along_x(-30, 30, -50, 60),))
    made = record(moving(0, 0, 20), vector_map=lanes)
    # Ego ends at x = 40; its box's centre at 41, its front at 41 + 0.98 * 2, the lane's end at 60.
    gap_m = scores(made)["min_distance_to_lane_boundary_m"].value
    assert gap_m == pytest.approx(60 - 41 - 1.96, abs=1e-3)
    long = replace(made.scene.vehicle, length_m=8.0)
    gap_m = scores(replace(made, scene=replace(made.scene, vehicle=long)))[
        "min_distance_to_lane_boundary_m"
    ].value
    assert gap_m == pytest.approx(60 - 41 - 3.92, abs=1e-3)


def test_strict_fills_the_first_two_rows_evenly_up_to_the_third() -> None:
    made = record(moving(0, 0, 5), recorded=moving(0, 1, 10), vector_map=VectorMap())
    found, faked = (series(made, Settings(compat=c)).values for c in ("corrected", "strict"))  # type: ignore[arg-type]
    progress, fake = np.asarray(found["progress"]), np.asarray(faked["progress"])
    assert fake[:3].tolist() == [0.0, progress[2] / 2, progress[2]]
    assert (fake[2:] == progress[2:]).all()
    for name, put in (("dist_to_gt_trajectory", 0.0), ("dist_to_gt_location", 0.0),
                      ("dist_traveled_m", 0.0), ("progress_rel", 1.0)):  # fmt: skip
        real, made_up = np.asarray(found[name]), np.asarray(faked[name])
        assert made_up[:2].tolist() == [put, put], name
        assert made_up[2:] == pytest.approx(real[2:]), name
