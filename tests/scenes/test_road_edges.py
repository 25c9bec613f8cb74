"""Road edges derived from drivable areas."""

from __future__ import annotations

import numpy as np
import pytest

from omniloop.core import geometry
from omniloop.core.scene import Area, Lane
from omniloop.scenes.road_edges import road_edges


def rectangle(name: str, x0: float, x1: float, y0: float, y1: float, z: float = 0.0) -> Area:
    return Area(name, np.array([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]]))


def straight(
    name: str, x0: float, x1: float, *, sides: bool = True, **links: tuple[str, ...]
) -> Lane:
    line = np.array([[x0, 0.0, 0.0], [x1, 0.0, 0.0]])
    side = np.array([0.0, 2.0, 0.0])
    left, right = line + side, line - side
    outline = np.concatenate([right, left[::-1]])
    if not sides:
        return Lane(name, line, **links)
    return Lane(name, line, left, right, outline, **links)


def test_without_drivable_areas_there_are_no_edges():
    assert road_edges((), (straight("a", 0, 10),)) == ()


def test_without_lanes_the_whole_outline_is_an_edge():
    (edge,) = road_edges((rectangle("a", 0, 10, 0, 5, z=3.0),), ())
    assert geometry.arc_length_m(edge.points)[-1] == pytest.approx(30.0)
    np.testing.assert_array_equal(edge.points[0], edge.points[-1])
    np.testing.assert_array_equal(edge.points[:, 2], 3.0)


@pytest.mark.parametrize("gap_m", [0.0, 1e-6, 0.08])
def test_tiles_that_touch_have_one_outline(gap_m):
    tiles = (rectangle("a", 0, 10, 0, 5), rectangle("b", 10 + gap_m, 20, 0, 5))
    (edge,) = road_edges(tiles, ())
    assert geometry.arc_length_m(edge.points)[-1] == pytest.approx(50.0, abs=0.01)


def test_tiles_apart_have_an_outline_each():
    assert len(road_edges((rectangle("a", 0, 10, 0, 5), rectangle("b", 11, 20, 0, 5)), ())) == 2


def test_a_hole_has_an_edge_of_its_own():
    area = rectangle("a", 0, 30, 0, 30)
    island = Area("a", area.outline, (rectangle("", 10, 20, 10, 20).outline,))
    lengths = [geometry.arc_length_m(e.points)[-1] for e in road_edges((island,), ())]
    assert sorted(lengths) == pytest.approx([40.0, 120.0])


def test_where_the_map_is_cut_off_across_a_lane_there_is_no_edge():
    edges = road_edges((rectangle("a", 0, 50, -2, 2),), (straight("a", 0, 50),))
    assert sorted(round(e.points[0, 1]) for e in edges) == [-2, 2]
    for edge in edges:
        assert np.abs(np.abs(edge.points[:, 1]) - 2).max() < 0.3


def test_a_lane_that_goes_on_keeps_what_stands_across_its_end():
    lanes = (straight("a", 0, 25, successors=("b",)), straight("b", 25, 50, predecessors=("a",)))
    sides = [e.points for e in road_edges((rectangle("a", 0, 50, -2, 2),), lanes)]
    assert len(sides) == 2
    assert all(np.ptp(points[:, 0]) == pytest.approx(50) for points in sides)


def test_no_edge_crosses_the_centre_line_of_a_lane_without_sides():
    tiles = (rectangle("a", 0, 10, -5, 5), rectangle("b", 11, 20, -5, 5))
    edges = road_edges(tiles, (straight("connector", 5, 15, sides=False),))
    for edge in edges:
        near = (edge.points[:, 0] > 5) & (edge.points[:, 0] < 15)
        assert np.abs(edge.points[near, 1]).min() >= 0.5 - 1e-9
