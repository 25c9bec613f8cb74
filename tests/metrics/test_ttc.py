from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core.scene import VectorMap
from omniloop.metrics.boxes import TOUCH_M, Rectangles, penetration_m
from omniloop.metrics.swept import first_step_s, overlap_times_s
from omniloop.metrics.ttc import TtcMetric
from tests.metrics.nuplan_records import TWO_LANES
from tests.metrics.records import Body, Path, by_name, moving, record, still
from tests.metrics.test_collision import drifting
from tests.metrics.test_lanes_under import straight
from tests.metrics.test_nuplan_ttc import coming

ROAD = VectorMap(lanes=(straight(-2, 2, "lane"),))
CROSSROADS = VectorMap(lanes=(straight(-2, 2, "lane", in_intersection=True),))


def scores(ego: Path, *bodies: Body, road: VectorMap = ROAD, **kwargs: object) -> tuple[float | None, float | None]:  # fmt: skip
    metric = TtcMetric(**{k: v for k, v in kwargs.items() if k in ("bound_s", "horizon_s")})  # type: ignore[arg-type]
    rest = {k: v for k, v in kwargs.items() if k not in ("bound_s", "horizon_s")}
    values = by_name(metric, record(ego, bodies, vector_map=road, **rest))  # type: ignore[arg-type]
    return values["ttc_min_s"].value, values["ttc_short_share"].value


def test_a_slower_car_ahead_is_reached_after_gap_over_closing_speed() -> None:
    # Front at 3 m, the car's rear at 18 m; 10 m/s against 5 m/s for 1 s: 15 m shrink to 10 m.
    least, share = scores(moving(0, 0, 10), Body(moving(20, 0, 5)), duration_s=1)
    assert least == pytest.approx(2.1)  # touching at 2.0 s is no overlap yet
    assert share == 0.0


def test_the_share_counts_samples_below_the_bound() -> None:
    # 12 m are closed at 10 m/s; at sample k of 0.1 s, 1.2 s - 0.1 k s are left, and one step.
    ego, lead = moving(0, 0, 10), Body(still(17, 0))
    least, share = scores(ego, lead, duration_s=1)
    assert least == pytest.approx(0.3)
    assert share == pytest.approx(7 / 11)
    assert scores(ego, lead, duration_s=1, bound_s=0.0)[1] == 0.0
    assert scores(ego, lead, duration_s=1, bound_s=9.0)[1] == 1.0


def test_nobody_within_the_horizon_is_undefined_and_no_time_is_short() -> None:
    made = record(moving(0, 0, 10), [Body(moving(60, 0, 5))], vector_map=ROAD, duration_s=1)
    values = by_name(TtcMetric(), made)
    assert "collision course" in values["ttc_min_s"].reason
    assert values["ttc_short_share"].value == 0.0
    longer = by_name(TtcMetric(horizon_s=12.0), made)
    assert longer["ttc_min_s"].value == pytest.approx(10.1)
    assert longer["ttc_min_s"].details["actor_id"] == "actor0"


def test_who_comes_from_the_side_counts_in_an_intersection_or_between_lanes_alone() -> None:
    crossing = Body(drifting(10, -20, 0, 10, np.pi / 2))
    assert scores(moving(0, 0, 4), crossing, duration_s=0.5)[0] is None
    assert scores(moving(0, 0, 4), crossing, duration_s=0.5, road=CROSSROADS)[0] is not None
    off = record(moving(0, 1.5, 4), [crossing], vector_map=ROAD, duration_s=0.5)
    assert by_name(TtcMetric(), off)["ttc_min_s"].value is not None


def test_who_comes_from_behind_does_not_count() -> None:
    fast = Body(moving(-20, 0, 20))
    assert scores(moving(0, 0, 4), fast, duration_s=0.5, road=CROSSROADS)[0] is None


def test_a_standing_ego_and_a_touched_actor_do_not_count() -> None:
    assert scores(still(0, 0), Body(moving(12, 0, 5, np.pi)), duration_s=0.5)[0] is None
    touched = Body(still(4, 0))
    assert scores(moving(0, 0, 5), touched, duration_s=1)[0] is None
    # Overlapping at handover; a second car beyond it is seen all the same.
    beyond = Body(still(14, 0))
    assert scores(moving(0, 0, 5), touched, beyond, duration_s=1)[0] is not None


def test_without_lanes_only_who_is_ahead_counts() -> None:
    crossing = Body(drifting(10, -20, 0, 10, np.pi / 2))
    assert scores(moving(0, 0, 4), crossing, duration_s=0.5, road=VectorMap())[0] is None
    assert scores(moving(0, 0, 10), Body(still(17, 0)), duration_s=1, road=VectorMap())[0] == pytest.approx(0.3)  # fmt: skip


@pytest.mark.parametrize("side", [1, -1])
def test_ahead_and_behind_are_30_and_150_degrees_seen_from_the_rear_axle(side: int) -> None:
    def seen(bearing_deg: float, away_m: float, ego_y: float) -> bool:
        made = coming(side * bearing_deg, away_m, ego_y, TWO_LANES)
        return by_name(TtcMetric(), made)["ttc_min_s"].value is not None

    assert [seen(b, 7.0, 0.0) for b in (29.7, 30.3)] == [True, False]
    assert [seen(b, 7.0, 2.0) for b in (29.7, 30.3)] == [True, True]  # between the lanes
    assert [seen(b, 5.0, 2.0) for b in (149.7, 150.3)] == [True, False]
    assert [seen(b, 5.0, 0.0) for b in (149.7, 150.3)] == [False, False]


def test_ego_stands_up_to_0_005_mps() -> None:
    made = record(still(0, 0), [Body(moving(9, 0, 5, np.pi))], vector_map=ROAD, duration_s=0.1)
    for speed, stands in ((0.005, True), (float(np.nextafter(0.005, 1)), False)):
        dynamics = np.zeros_like(made.ego.dynamics)
        dynamics[:, 0] = speed
        creeping = replace(made, ego=replace(made.ego, dynamics=dynamics))
        value = by_name(TtcMetric(), creeping)["ttc_min_s"].value
        assert (value is None) == stands


@pytest.mark.parametrize(("gap_m", "expected"), [(28.95, 2.9), (29.95, 3.0), (30.05, None)])
def test_the_horizon_is_3_s_and_belongs_to_it(gap_m: float, expected: float | None) -> None:
    """Ego states 15 m/s, so that the gap would close at 10 m/s; its poses keep it."""
    lead = Body(moving(5 + gap_m, 0, 5))
    made = record(moving(0, 0, 5), [lead], vector_map=ROAD, duration_s=0.1)
    dynamics = made.ego.dynamics.copy()
    dynamics[:, 0] = 15.0
    made = replace(made, ego=replace(made.ego, dynamics=dynamics))
    value = by_name(TtcMetric(), made)["ttc_min_s"].value
    assert value == (expected if expected is None else pytest.approx(expected))


def test_a_time_of_exactly_the_bound_is_not_short() -> None:
    ego, lead = moving(0, 0, 10), Body(moving(15.5, 0, 5))  # 10.5 m at 5 m/s: 2.2 and 2.1 s
    least, share = scores(ego, lead, duration_s=0.1, bound_s=22 * 0.1)
    assert least == pytest.approx(2.1)
    assert share == 0.5


coordinate = st.floats(-30, 30)


@given(
    xy=st.tuples(coordinate, coordinate), yaw=st.floats(-np.pi, np.pi),
    velocity=st.tuples(coordinate, coordinate), size=st.tuples(st.floats(0.2, 6), st.floats(0.2, 3)),
)  # fmt: skip
def test_overlap_times_are_those_that_a_fine_search_finds(
    xy: tuple[float, float], yaw: float, velocity: tuple[float, float], size: tuple[float, float]
) -> None:
    ego = Rectangles(np.zeros((1, 2)), np.zeros(1), np.array([[2.0, 1.0]]))
    other = Rectangles(np.array([xy]), np.array([yaw]), np.array([size]) / 2)
    start, end = overlap_times_s(ego, other, np.array([velocity]))
    times = np.linspace(-4, 4, 801)
    places = np.array(xy) + times[:, None] * np.array(velocity)
    many = Rectangles(places, np.full(801, yaw), np.repeat(other.half_m, 801, axis=0))
    ones = Rectangles(np.zeros((801, 2)), np.zeros(801), np.repeat(ego.half_m, 801, axis=0))
    inside = penetration_m(ones, many) > TOUCH_M
    expected = (times >= start[0]) & (times <= end[0])
    unsure = (np.abs(times - start[0]) < 1e-6) | (np.abs(times - end[0]) < 1e-6)
    assert (inside == expected)[~unsure].all()


def test_the_first_step_lies_inside_the_interval() -> None:
    start = np.array([-1.0, 0.25, 0.3, 0.31, 2.95, 3.05, np.inf, 0.31])
    end = np.array([1.0, 9.0, 9.0, 0.39, 9.0, 9.0, -np.inf, 0.4])
    found = first_step_s(start, end, 0.1, 30)
    assert found.tolist() == pytest.approx([0.1, 0.3, 0.3, np.inf, 3.0, np.inf, np.inf, 0.4])
