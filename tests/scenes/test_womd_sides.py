"""How far the sides of Waymo's lanes are, from what is beside them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.scenes.womd_map import vector_map
from omniloop.scenes.womd_recording import LaneFeature, MapFeatures, Recording, Stretch
from omniloop.scenes.womd_sides import lane_sides


def line(y: float, lo: float = 0.0, hi: float = 20.0, z: float = 0.0) -> np.ndarray:
    x = np.linspace(lo, hi, 21)
    return np.column_stack([x, np.full(21, y), np.full(21, z)])


def test_a_named_boundary_counts_from_its_first_to_its_last_point_before_a_nearer_line():
    lane = LaneFeature("a", line(0.0), left_boundaries=(Stretch(5, 12, "far"),))
    sides = lane_sides([lane], {"far": line(3.0), "near": line(1.5), "right": line(-2.0)})["a"]
    expected = np.full(21, 1.5)
    expected[5:13] = 3.0
    np.testing.assert_allclose(sides.half_widths_m[0], expected)
    np.testing.assert_allclose(sides.half_widths_m[1], 2.0)
    assert sides.lines == ("near", "right")


def test_half_the_way_to_a_named_neighbour_counts_before_a_line_beyond():
    lane = LaneFeature("a", line(0.0), right_neighbors=(Stretch(0, 20, "b"),))
    sides = lane_sides([lane, LaneFeature("b", line(-3.2))], {"edge": line(-3.9)})
    np.testing.assert_allclose(sides["a"].half_widths_m, 1.6)
    np.testing.assert_allclose(sides["b"].half_widths_m, 0.7)
    assert sides["a"].lines == (None, None), "a neighbour is no line"


def test_an_unknown_side_is_as_far_as_the_other_but_not_beyond_half_a_usual_lane():
    lanes = [LaneFeature("a", line(0.0)), LaneFeature("b", line(50.0))]
    sides = lane_sides(lanes, {"x": line(1.2), "y": line(53.9)})
    np.testing.assert_allclose(sides["a"].half_widths_m, 1.2)
    np.testing.assert_allclose(sides["b"].half_widths_m[0], 3.9)
    np.testing.assert_allclose(sides["b"].half_widths_m[1], 1.85)


def test_gaps_are_interpolated_and_ends_held():
    lane = LaneFeature("a", line(0.0))
    sides = lane_sides([lane], {"x": line(1.0, 3.0, 8.0), "y": line(2.0, 12.0, 16.0)})["a"]
    left = sides.half_widths_m[0]
    np.testing.assert_allclose(left[:9], 1.0)
    np.testing.assert_allclose(left[8:13], [1.0, 1.25, 1.5, 1.75, 2.0])
    np.testing.assert_allclose(left[12:], 2.0)


@pytest.mark.parametrize(("hi", "known"), [(4.0, False), (6.0, True)])
def test_less_than_a_quarter_is_not_enough(hi: float, known: bool):
    lane = LaneFeature("a", line(0.0))
    assert ("a" in lane_sides([lane], {"x": line(1.5, -1.0, hi)})) is known


@pytest.mark.parametrize("y", [0.3, 4.3])
def test_what_is_too_close_or_too_far_is_no_side(y: float):
    assert lane_sides([LaneFeature("a", line(0.0))], {"x": line(y)}) == {}


def test_no_lanes_and_no_lines_have_no_sides():
    assert lane_sides([], {"x": line(1.0)}) == {}
    assert lane_sides([LaneFeature("a", line(0.0))], {}) == {}


@given(
    st.floats(-3.1, 3.1), st.floats(0.6, 3.9), st.floats(0.6, 3.9), st.floats(-500.0, 500.0)
)  # fmt: skip
def test_sides_do_not_depend_on_place_and_direction(
    yaw: float, left: float, right: float, x: float
):
    pose = geometry.pose(x, -x / 3, 2.0, yaw)

    def moved(points: np.ndarray) -> np.ndarray:
        return geometry.transform_points(pose, points)

    lane = LaneFeature("a", moved(line(0.0)))
    sides = lane_sides([lane], {"l": moved(line(left, -1, 21)), "r": moved(line(-right, 21, -1))})
    np.testing.assert_allclose(sides["a"].half_widths_m[0], left, atol=1e-6)
    np.testing.assert_allclose(sides["a"].half_widths_m[1], right, atol=1e-6)


def test_the_neighbour_along_most_of_the_lane_is_the_one():
    lane = LaneFeature(
        "a", line(0.0),
        left_neighbors=(Stretch(0, 3, "b"), Stretch(4, 15, "c"), Stretch(0, 20, "gone"), Stretch(16, 20, "b")),
    )  # fmt: skip
    lanes = (lane, LaneFeature("b", line(3.5)), LaneFeature("c", line(3.6)))
    recording = Recording("f", np.zeros(0, dtype=np.int64), (), None, MapFeatures(lanes), ())
    found = vector_map(recording, np.zeros(3)).lane_by_id
    assert (found["a"].left_lane, found["a"].right_lane) == ("c", None)
    assert found["a"].left is not None
