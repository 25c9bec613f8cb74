from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omniloop.core import geometry
from omniloop.core.scene import Polyline, TrafficLight, VectorMap
from omniloop.metrics.crossings import crossings, light_lines
from omniloop.metrics.red_light import RedLightMetric
from tests.metrics.records import Path, by_name, moving, record, still
from tests.metrics.test_lanes_under import straight

HANDOVER_US = 1_500_000
LINE = Polyline("line", np.array([[20.0, -2, 0], [20.0, 2, 0]]), ("in",))
LANES = (straight(-2, 2, "in", x1=22.0), straight(-2, 2, "through", x0=22.0))


def light(*states: tuple[float, str], id: str = "light", lanes: tuple[str, ...] = ("in",)) -> TrafficLight:  # fmt: skip
    """States with seconds since handover."""
    times = np.array([HANDOVER_US + round(t * 1e6) for t, _ in states], dtype=np.int64)
    return TrafficLight(
        id, geometry.pose(25, 3, 4), np.ones(3), lanes, times, tuple(s for _, s in states)
    )


def junction(*lights: TrafficLight, stop_lines: tuple[Polyline, ...] = (LINE,)) -> VectorMap:
    return VectorMap(lanes=LANES, stop_lines=stop_lines, lights=lights)


def scores(path: Path, vector_map: VectorMap) -> tuple[float | None, float | None]:
    made = record(path, vector_map=vector_map, duration_s=4)
    values = by_name(RedLightMetric(), made)
    return values["red_light"].value, values["stop_line_on_red"].value


# At 10 m/s the front, 3 m ahead of the rig origin, is at x = 20 after 1.7 s, the origin after 2 s.
THROUGH = moving(0, 0, 10)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([(-9, "red")], (1, 1)),
        ([(-9, "red_yellow")], (1, 1)),
        ([(-9, "green")], (0, 0)),
        ([(-9, "yellow")], (0, 0)),
        ([(-9, "off")], (0, 0)),
        ([(-9, "yellow"), (1.65, "red")], (1, 1)),
        ([(-9, "yellow"), (1.75, "red")], (0, 0)),
        ([(-9, "red"), (1.75, "green")], (0, 1)),
        ([(3, "red")], (0, 0)),
    ],
)
def test_the_state_counts_when_front_and_rig_origin_pass(
    states: list[tuple[float, str]], expected: tuple[int, int]
) -> None:
    assert scores(THROUGH, junction(light(*states))) == expected


def test_stopping_with_the_front_over_the_line_is_no_red_light_run() -> None:
    over = lambda t: (np.minimum(10 * t, 18.0), 0.0, 0.0)  # noqa: E731
    assert scores(over, junction(light((-9, "red")))) == (0, 1)
    before = lambda t: (np.minimum(10 * t, 16.99), 0.0, 0.0)  # noqa: E731
    assert scores(before, junction(light((-9, "red")))) == (0, 0)


def test_who_stands_beyond_the_line_at_handover_has_not_passed_it() -> None:
    assert scores(moving(18, 0, 5), junction(light((-9, "red")))) == (0, 0)
    assert scores(still(18, 0), junction(light((-9, "red")))) == (0, 0)


def test_passing_against_the_lane_or_beside_the_line_does_not_count() -> None:
    assert scores(moving(30, 0, 10, np.pi), junction(light((-9, "red")))) == (0, 0)
    assert scores(moving(0, 2.5, 10), junction(light((-9, "red")))) == (0, 0)


def test_times_and_speed_of_a_crossing_are_interpolated() -> None:
    made = record(moving(0, 0, 10), vector_map=junction(light((-9, "red"))), duration_s=4)
    (found,) = crossings(made)
    assert found.front_us == HANDOVER_US + 1_700_000
    assert found.rig_us == HANDOVER_US + 2_000_000
    assert found.speed_mps == pytest.approx(10)


def test_without_a_stop_line_the_end_of_the_lane_is_the_line() -> None:
    bare = junction(light((-9, "red")), stop_lines=())
    (line,) = light_lines(bare)
    assert line.id == "end of in"
    assert line.points_xy[:, 0].tolist() == [22.0, 22.0]
    assert np.abs(line.points_xy[:, 1]).tolist() == [1.85, 1.85]
    assert scores(THROUGH, bare) == (1, 1)
    lined = replace(LANES[0], left=np.array([[0.0, 3, 0], [21, 3, 0]]), right=np.array([[0.0, -3, 0], [21, -3, 0]]))  # fmt: skip
    (line,) = light_lines(VectorMap(lanes=(lined,), lights=(light((0, "red")),)))
    assert line.points_xy.tolist() == [[21, 3], [21, -3]]


def test_one_green_light_of_several_at_a_line_is_enough() -> None:
    arrow = light((-9, "green"), id="arrow")
    assert scores(THROUGH, junction(light((-9, "red")), arrow)) == (0, 0)
    elsewhere = light((-9, "green"), id="other", lanes=("through",))
    assert scores(THROUGH, junction(light((-9, "red")), elsewhere)) == (1, 1)


@pytest.mark.parametrize(
    "vector_map",
    [VectorMap(), junction(), junction(light()), junction(light((0, "red"), lanes=("nowhere",)))],
)
def test_without_a_light_whose_states_and_lane_are_known_nothing_is_defined(
    vector_map: VectorMap,
) -> None:
    assert scores(THROUGH, vector_map) == (None, None)
