from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core.scene import VectorMap
from omniloop.metrics.driving_direction import DrivingDirectionMetric, worst_window_m
from tests.metrics.records import by_name, moving, record, still
from tests.metrics.test_lanes_under import straight

AHEAD = straight(-2, 2, "ahead")
OTHER = straight(2, 6, "other")
OTHER = replace(OTHER, centerline=OTHER.centerline[::-1])
ROAD = VectorMap(lanes=(AHEAD, OTHER))


def against(path: object, vector_map: VectorMap = ROAD, **kwargs: object) -> float | None:
    made = record(path, vector_map=vector_map, **kwargs)  # type: ignore[arg-type]
    return by_name(DrivingDirectionMetric(), made)["against_lane_m"].value


def test_with_the_lane_there_is_nothing_against_it() -> None:
    assert against(moving(0, 0, 10)) == 0.0
    assert against(moving(0, 4, 10, np.pi)) == 0.0
    assert against(still(0, 4)) == 0.0


def test_the_wrong_side_counts_its_metres_of_one_second() -> None:
    assert against(moving(0, 4, 5), duration_s=3) == pytest.approx(5.0)
    # Overtaking at 10 m/s, for 0.3 s on the other side.
    swerve = lambda t: (10 * t, np.where((t > 0.95) & (t < 1.25), 4.0, 0.0), 0.0)  # noqa: E731
    assert against(swerve, duration_s=3) == 0.0  # the rest of the second makes up for it
    stop = lambda t: (10 * np.minimum(t, 0.3), 4.0, 0.0)  # noqa: E731
    assert against(stop, duration_s=3) == pytest.approx(3.0)


def test_reversing_counts_too() -> None:
    assert against(lambda t: (-1.5 * t, 0, 0), duration_s=2) == pytest.approx(1.5)


def test_a_lane_that_favours_ego_wins_where_lanes_overlap() -> None:
    back = replace(AHEAD, id="back", centerline=AHEAD.centerline[::-1])
    assert against(moving(0, 0, 10), VectorMap(lanes=(back, AHEAD))) == 0.0
    assert against(moving(0, 0, 10), VectorMap(lanes=(back,))) == pytest.approx(10.0)


def test_out_of_lanes_nothing_is_counted_and_without_them_nothing_is_known() -> None:
    values = by_name(DrivingDirectionMetric(), record(moving(0, 30, 5), vector_map=ROAD))
    assert "no lane" in values["against_lane"].reason
    values = by_name(DrivingDirectionMetric(), record(moving(0, 0, 5)))
    assert "no lanes" in values["against_lane_m"].reason
    # Out of the wrong lane after 0.5 s: 0.5 s x 5 m/s are counted.
    leaves = lambda t: (5 * t, np.where(t > 0.55, 30.0, 4.0), 0.0)  # noqa: E731
    assert against(leaves, duration_s=2) == pytest.approx(2.5)


def test_the_flag_is_set_from_the_threshold_on() -> None:
    def flag(speed: float, **settings: float) -> float | None:
        made = record(moving(0, 4, speed), vector_map=ROAD, duration_s=2)
        return by_name(DrivingDirectionMetric(**settings), made)["against_lane"].value

    assert flag(1.99) == 0.0
    assert flag(2.01) == 1.0
    assert flag(2.01, max_against_m=2.5) == 0.0


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=40), st.integers(1, 12))
def test_the_worst_window_is_that_of_all_sums(steps: list[float], window: int) -> None:
    sums = [sum(steps[max(0, i - window + 1) : i + 1]) for i in range(len(steps))]
    size, at = worst_window_m(np.array(steps), window)
    assert size == pytest.approx(max(0.0, -min(sums)), abs=1e-9)
    assert sums[at] == pytest.approx(min(sums), abs=1e-9)
