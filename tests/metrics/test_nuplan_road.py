"""nuPlan's scores of ego against the map: area, direction, speed limit and progress."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omniloop.core.scene import Area, Lane, VectorMap
from omniloop.metrics import nuplan_drivable_area as area
from omniloop.metrics import nuplan_driving_direction as direction
from omniloop.metrics import nuplan_progress as progress
from omniloop.metrics import nuplan_speed_limit as limit
from omniloop.metrics.lanes_under import NO_LANES
from omniloop.metrics.nuplan_route import route_offsets
from tests.metrics.nuplan_records import TWO_LANES, line, straight
from tests.metrics.records import EGO, Path, by_name, lane, moving, record, rectangle, road, still

RECORDING = moving(0, 0, 10)


def drivable(y: float, vector_map: VectorMap, ego: Path | None = None) -> float | None:
    made = record(ego or moving(0, y, 10), recorded=RECORDING, vector_map=vector_map)
    return by_name(area.NuplanDrivableAreaMetric(), made)[area.NAME].value


def leaving(y: float) -> Path:
    """To the left by `y`, from 0.5 s on within half a second."""
    return lambda t: (10 * t, y * np.clip(2 * t - 1, 0, 1), 0.0)


def test_a_corner_may_be_less_than_0_3_m_off_the_drivable_area() -> None:
    assert drivable(3.0, road()) == 1.0
    assert drivable(3.29, road(), leaving(3.29)) == 1.0
    assert drivable(3.31, road(), leaving(3.31)) == 0.0


def test_a_corner_exactly_0_3_m_off_the_area_and_off_its_lane_is_far_off() -> None:
    """Ego is 0.6 m wide and comes to the border, so that a corner is 0.3 m beyond it, bit for bit."""
    narrow = replace(EGO, width_m=0.6)
    outline = rectangle(-100, -2, 200, 0)
    for y, expected in ((0.0, 0.0), (-0.001, 1.0)):
        border: Path = lambda t, y=y: (10 * t, np.where(t < 0.55, -1.0, y), 0.0)  # noqa: E731
        for lanes in ((), (lane(outline, "lane", centerline=line((-100, -1), (200, -1))),)):
            both = VectorMap(lanes=lanes, drivable_areas=(Area("area", outline),))
            made = record(border, recorded=RECORDING, vector_map=both, vehicle=narrow)
            value = by_name(area.NuplanDrivableAreaMetric(), made)[area.NAME].value
            assert value == expected, (y, len(lanes))


def test_a_corner_in_a_lane_that_the_centre_is_not_in_is_not_off() -> None:
    """The centre is on an area without lanes; the corner, 0.8 m beyond it, is in a lane."""
    outline = rectangle(-100, 4.4, 200, 8)
    beyond = VectorMap(
        lanes=(lane(outline, "beyond", centerline=line((-100, 6), (200, 6))),),
        drivable_areas=road().drivable_areas,
    )
    assert drivable(3.8, beyond, leaving(3.8)) == 1.0
    assert drivable(3.8, VectorMap(drivable_areas=road().drivable_areas), leaving(3.8)) == 0.0


def test_one_corner_far_off_is_enough() -> None:
    """A pillar 1 m wide stands out of the area under ego's front left corner alone."""
    pillar = rectangle(11.5, 0.5, 12.5, 1.5)[::-1]
    holed = VectorMap(drivable_areas=(Area("a", rectangle(-50, -4, 200, 4), (pillar,)),))
    halting: Path = lambda t: (np.where(t < 0.55, 0.0, 9.0), 0.0, 0.0)  # noqa: E731
    assert drivable(0.0, holed, halting) == 0.0
    passing: Path = lambda t: (np.where(t < 0.55, 0.0, 9.0), -1.0, 0.0)  # noqa: E731
    assert drivable(0.0, holed, passing) == 1.0


def test_a_corner_in_a_lane_beyond_the_drivable_area_is_not_off() -> None:
    beyond = VectorMap(lanes=(straight("left", 5.0),), drivable_areas=road().drivable_areas)
    assert drivable(4.5, beyond, leaving(4.5)) == 1.0


def test_a_corner_near_the_lane_of_the_centre_is_not_far_off() -> None:
    def beside(reach: float) -> VectorMap:
        outline = rectangle(-100, 3.0, 200, reach)
        return VectorMap(
            lanes=(lane(outline, "left", centerline=line((-100, 4), (200, 4))),),
            drivable_areas=road().drivable_areas,
        )

    assert drivable(3.8, beside(4.55), leaving(3.8)) == 1.0  # the corner at 4.8
    assert drivable(3.8, beside(4.45), leaving(3.8)) == 0.0


def test_off_the_area_at_handover_does_not_count_until_ego_came_onto_it() -> None:
    arriving: Path = lambda t: (10 * t, 5.0 * np.clip(1 - t, 0, 1), 0.0)  # noqa: E731
    made = record(arriving, recorded=RECORDING, vector_map=road())
    value = by_name(area.NuplanDrivableAreaMetric(), made)[area.NAME]
    assert value.value == 1.0
    assert value.details["ignored_until_us"] == 1_500_000 + 400_000
    assert drivable(9.0, road()) is None
    assert drivable(0.0, VectorMap()) is None


# ------------------------------------------------------------------ driving direction

ONCOMING = VectorMap(lanes=(straight("right", 0.0), straight("left", 4.0, back=True)))


def against(ego: Path, vector_map: VectorMap = ONCOMING) -> tuple[float | None, float]:
    made = record(ego, recorded=RECORDING, vector_map=vector_map, duration_s=3)
    value = by_name(direction.NuplanDrivingDirectionMetric(), made)[direction.NAME]
    return value.value, float(value.details["against_m"])  # type: ignore[arg-type]


@pytest.mark.parametrize(("speed", "score"), [(1.8, 1.0), (1.9, 0.5), (5.4, 0.5), (5.5, 0.0)])
def test_eleven_steps_against_the_lane_are_summed(speed: float, score: float) -> None:
    assert against(moving(0, 4, speed)) == (score, pytest.approx(1.1 * speed))


def test_the_bounds_of_the_distance_against_the_lane_are_2_and_6_m() -> None:
    below_two, below_six = np.nextafter([2.0, 6.0], 0.0)
    found = [direction.compliance(m) for m in (0.0, below_two, 2.0, below_six, 6.0, 99.0)]
    assert found == [1.0, 1.0, 0.5, 0.5, 0.0, 0.0]


def test_only_the_last_second_counts() -> None:
    """Back by 1.5 m twice, one second and a half apart: never 2 m within a second."""
    twice: Path = lambda t: (  # noqa: E731
        -1.5 * np.clip(2 * t, 0, 1) - 1.5 * np.clip(2 * t - 4, 0, 1), 0.0, 0.0,
    )  # fmt: skip
    assert against(twice) == (1.0, pytest.approx(1.5))


def test_with_the_lane_and_in_none_nothing_is_against_it() -> None:
    assert against(moving(0, 0, 20)) == (1.0, 0.0)
    assert against(moving(0, 9, 20)) == (1.0, 0.0)


def test_reversing_in_the_own_lane_is_against_it() -> None:
    assert against(lambda t: (-3 * t, 0, 0))[0] == 0.5


def test_a_lane_counts_from_the_third_sample_in_it_on_the_first_from_the_second() -> None:
    lane_of = np.array([0, 0, 0, 1, 1, 1, 1, -1, 1, 1, 1])
    s_m = np.stack([np.arange(11.0), -2.0 * np.arange(11)], axis=1)
    steps = direction.progress_in_lane_m(lane_of, s_m)
    assert steps.tolist() == [0, 1, 1, 0, 0, -2, -2, 0, 0, 0, -2]
    assert direction.progress_in_lane_m(np.full(3, -1), np.zeros((3, 0))).tolist() == [0, 0, 0]
    assert direction.progress_in_lane_m(np.full(11, -1), s_m).tolist() == [0] * 11


def test_of_overlapping_lanes_the_plain_and_then_the_aligned_one_counts() -> None:
    crossing = straight("x", 0.0, back=True, in_intersection=True)
    both = VectorMap(lanes=(crossing, straight("right", 0.0)))
    assert against(moving(0, 0, 10), both) == (1.0, 0.0)
    two_ways = VectorMap(lanes=(straight("back", 0.0, back=True), straight("right", 0.0)))
    assert against(moving(0, 0, 10), two_ways) == (1.0, 0.0)
    assert against(moving(0, 0, 10), VectorMap(lanes=(crossing,)))[0] == 0.0
    plain_back = straight("back", 0.0, back=True)
    along = straight("x", 0.0, in_intersection=True)
    assert against(moving(0, 0, 10), VectorMap(lanes=(along, plain_back)))[0] == 0.0


def test_window_sums_are_those_of_slices() -> None:
    values = np.random.default_rng(2).normal(size=30)
    expected = [values[max(0, i - 10) : i + 1].sum() for i in range(30)]
    np.testing.assert_allclose(direction.window_sums(values, 10), expected)


# ------------------------------------------------------------------------ speed limit


def limited(lanes: tuple[Lane, ...], speed: float = 10.0) -> tuple[float | None, str]:
    made = record(moving(0, 0, speed), vector_map=VectorMap(lanes=lanes))
    value = by_name(limit.NuplanSpeedLimitMetric(), made)[limit.NAME]
    return value.value, value.reason


def test_speeding_is_summed_over_time() -> None:
    """21 samples of 0.1 s in 2 s, as nuPlan's sum over samples has it."""
    value, _ = limited((straight("a", 0, speed_limit_mps=9.5),))
    assert value == pytest.approx(1 - 0.5 * 21 * 0.1 / (2.23 * 2))
    assert limited((straight("a", 0, speed_limit_mps=10.0),))[0] == pytest.approx(1.0)
    assert limited((straight("a", 0, speed_limit_mps=5.0),))[0] == 0.0


def test_the_greatest_limit_of_the_lanes_counts() -> None:
    slow, quick = straight("a", 0, speed_limit_mps=5.0), straight("b", 0, speed_limit_mps=20.0)
    assert limited((slow, quick))[0] == 1.0
    crossing = straight("b", 0, speed_limit_mps=20.0, in_intersection=True)
    assert limited((slow, crossing))[0] == 0.0


def test_a_lane_of_an_intersection_has_the_limit_of_its_neighbours() -> None:
    before = straight("a", 50, speed_limit_mps=9.0)
    after = straight("c", 60, speed_limit_mps=9.5)
    inside = straight("b", 0, predecessors=("a",), successors=("c",), in_intersection=True)
    assert limited((before, inside, after))[0] == pytest.approx(1 - 0.5 * 2.1 / (2.23 * 2))


def test_without_any_limit_the_score_is_undefined() -> None:
    assert limited((straight("a", 0),))[0] is None
    assert "no speed limits" in limited((straight("a", 0),))[1]
    known, unknown = straight("a", 0, speed_limit_mps=5.0), straight("b", 0)
    assert limited((known, unknown))[0] is None
    assert limited(())[1] == NO_LANES


def test_where_no_limit_is_known_nothing_is_over_it() -> None:
    half = straight("a", 0, -100, 10, speed_limit_mps=9.0), straight("b", 0, 10.0, 200)
    made = record(moving(0, 0, 10), vector_map=VectorMap(lanes=half))
    value = by_name(limit.NuplanSpeedLimitMetric(), made)[limit.NAME]
    assert value.details["unknown_s"] == pytest.approx(1.2)  # the centre is 1 m ahead
    assert value.value == pytest.approx(1 - 1.0 * 9 * 0.1 / (2.23 * 2))


# --------------------------------------------------------------------------- progress


def made_progress(
    ego: Path, recorded: Path = RECORDING, vector_map: VectorMap = TWO_LANES, **kwargs: float
) -> tuple[float | None, float | None, str]:
    made = record(ego, recorded=recorded, vector_map=vector_map, **kwargs)  # type: ignore[arg-type]
    values = by_name(progress.NuplanProgressMetric(), made)
    along, making = (values[name] for name in progress.NAMES)
    return along.value, making.value, along.reason


def test_progress_is_a_share_of_the_experts() -> None:
    assert made_progress(moving(0, 0, 5))[:2] == (pytest.approx(0.5), 1.0)
    assert made_progress(moving(0, 0, 15))[:2] == (1.0, 1.0)
    assert made_progress(moving(0, 4, 5))[:2] == (pytest.approx(0.5), 1.0)  # the lane beside


def test_ego_makes_progress_from_a_fifth_of_the_experts_on() -> None:
    assert made_progress(moving(0, 0, 2.01))[:2] == (pytest.approx(0.201), 1.0)
    assert made_progress(moving(0, 0, 1.99))[:2] == (pytest.approx(0.199), 0.0)


def test_exactly_a_fifth_of_the_experts_is_progress() -> None:
    """The floor of 2 m against an expert who is 10 m ahead from the second sample on."""
    fifth = made_progress(still(0, 0), recorded=lambda t: (np.where(t > 0.05, 10.0, 0.0), 0.0, 0.0))
    assert fifth[:2] == (0.2, 1.0)
    less = made_progress(still(0, 0), recorded=lambda t: (np.where(t > 0.05, 10.01, 0.0), 0.0, 0.0))
    assert less[1] == 0.0


def test_small_distances_count_as_two_metres() -> None:
    assert made_progress(still(0, 0))[:2] == (pytest.approx(0.1), 0.0)
    assert made_progress(still(0, 0), recorded=still(0, 0))[:2] == (1.0, 1.0)
    assert made_progress(still(0, 0), recorded=moving(0, 0, 1.5))[0] == pytest.approx(2 / 3)
    assert made_progress(lambda t: (-0.9 * t, 0, 0), recorded=still(0, 0))[0] == 1.0
    assert made_progress(lambda t: (-1.1 * t, 0, 0), recorded=still(0, 0))[:2] == (0.0, 0.0)


def test_progress_off_the_route_counts_only_once_ego_is_back_on_it() -> None:
    off: Path = lambda t: (10 * t, np.where(t > 1.05, 30.0, 0.0), 0.0)  # noqa: E731
    assert made_progress(off)[0] == pytest.approx(0.5)
    back: Path = lambda t: (10 * t, np.where((t > 0.5) & (t < 1.5), 30.0, 0.0), 0.0)  # noqa: E731
    assert made_progress(back)[0] == 1.0


def test_an_oncoming_lane_is_not_the_route() -> None:
    assert made_progress(moving(0, 4, 10), vector_map=ONCOMING)[0] == pytest.approx(0.1)


def bend(first_rad: float, last_rad: float, radius_m: float = 40.0, half_m: float = 2.0) -> Lane:
    """A lane along a part of a circle about ``(0, radius)``."""
    turn = np.linspace(first_rad, last_rad, 30)

    def arc(r: float) -> list[tuple[float, float]]:
        return [(r * np.sin(a), radius_m - r * np.cos(a)) for a in turn]

    outline = line(*arc(radius_m + half_m), *arc(radius_m - half_m)[::-1])
    return lane(
        outline,
        f"bend{first_rad}",
        centerline=line(*arc(radius_m)),
        successors=(f"bend{last_rad}",),
    )


def test_the_route_follows_the_lanes_beyond_the_recording() -> None:
    """The expert covers 20 m of a bend, ego 60 m."""

    def driving(speed: float) -> Path:
        return lambda t: (
            40 * np.sin(speed * t / 40),
            40 - 40 * np.cos(speed * t / 40),
            speed * t / 40,
        )

    lanes = (bend(-0.5, 1.0), bend(1.0, 2.5))
    made = record(
        driving(15), recorded=driving(5), duration_s=4, vector_map=VectorMap(lanes=lanes)
    )  # fmt: skip
    found = route_offsets(made)
    assert found is not None
    assert found.on_route.all()
    assert found.distance_m.max() < 0.2
    assert found.s_m[-1] - found.s_m[0] == pytest.approx(60, rel=0.01)


def test_a_standing_expert_with_noisy_poses_looks_ahead() -> None:
    rng = np.random.default_rng(1)
    noisy: Path = lambda t: (*(0.003 * rng.normal(size=(2, len(t)))), 0.0)  # noqa: E731
    assert made_progress(moving(0, 0, 3), recorded=noisy)[0] == 1.0
    assert made_progress(moving(0, 0, -3), recorded=noisy)[0] == 0.0


def test_the_ratio_of_progress() -> None:
    assert progress.ratio(-2.01, 50) == 0.0
    assert progress.ratio(-2.0, 50) == 2 / 50
    assert progress.ratio(30, 50) == 0.6
    assert progress.ratio(60, 50) == 1.0
    assert progress.ratio(0.0, 1.0) == 1.0


def test_without_a_route_progress_is_full_and_without_lanes_undefined() -> None:
    far = VectorMap(lanes=(straight("far", 100.0),))
    assert made_progress(moving(0, 0, 1), vector_map=far)[:2] == (1.0, 1.0)
    assert made_progress(moving(0, 0, 1), vector_map=VectorMap())[::2] == (None, NO_LANES)
    assert made_progress(moving(0, 0, 1), recorded_s=1.0)[0] is None


def test_maps_of_areas_only_leave_lane_scores_undefined() -> None:
    made = record(
        moving(0, 0, 1),
        vector_map=VectorMap(drivable_areas=(Area("a", rectangle(-50, -4, 200, 4)),)),
    )
    for metric in (
        direction.NuplanDrivingDirectionMetric(), limit.NuplanSpeedLimitMetric(),
        progress.NuplanProgressMetric(),
    ):  # fmt: skip
        assert {value.reason for value in metric.compute(made)} == {NO_LANES}
