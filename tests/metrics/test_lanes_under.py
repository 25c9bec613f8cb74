from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omniloop.core.scene import Lane, VectorMap
from omniloop.metrics.lanes_under import (
    CENTRE,
    CORNERS,
    NONE,
    ONE,
    RIG,
    SEVERAL,
    lane_shapes,
    lanes_under,
)
from tests.metrics.records import EGO, lane, moving, record, rectangle, still


def straight(y0: float, y1: float, id: str, x0: float = -50.0, x1: float = 200.0, **kwargs: object) -> Lane:  # fmt: skip
    """A lane along x, its centre line in its middle."""
    middle = (y0 + y1) / 2
    line = np.array([[x0, middle, 0.0], [x1, middle, 0.0]])
    return lane(rectangle(x0, y0, x1, y1), id, centerline=line, **kwargs)


TWO = VectorMap(lanes=(straight(-2, 2, "right", speed_limit_mps=13.0), straight(2, 6, "left")))


def test_each_point_is_found_in_the_lane_under_it() -> None:
    # Ego's box is 2 m wide: its left corners come over y = 2 once its centre is past y = 1.
    under = lanes_under(record(lambda t: (5 * t, t, 0.0), vector_map=TWO, duration_s=4))
    assert [x.id for x in under.lanes] == ["right", "left"]
    t = np.arange(41) / 10
    assert under.inside[:, CENTRE, 0].tolist() == (t <= 2).tolist()
    assert under.inside[:, CENTRE, 1].tolist() == (t >= 2).tolist()
    assert under.inside[:, CORNERS, 1].any(axis=1).tolist() == (t >= 1).tolist()
    assert (under.inside[:, RIG] == under.inside[:, CENTRE]).all()
    # On the border a point is in both lanes, so both hold the whole box at 1 s and at 3 s.
    assert under.box.tolist() == np.where((t <= 1) | (t >= 3), ONE, SEVERAL).tolist()
    assert under.speed_limit_mps[0] == 13.0
    assert np.isnan(under.speed_limit_mps[1])
    assert under.on_surface is not None
    assert under.on_surface.all()


def test_points_are_the_centre_the_rig_origin_and_the_corners() -> None:
    under = lanes_under(record(still(7, 1), vector_map=TWO))
    assert under.points_xy[0].tolist() == [[8, 1], [7, 1], [10, 2], [6, 2], [6, 0], [10, 0]]
    assert EGO.length_m == 4.0


def test_a_lane_goes_on_into_its_successors_and_not_back_into_those_before_it() -> None:
    """Ego's rear corners are in one or two lanes, its front corners in two or one."""
    fork = (
        straight(-2, 2, "a", x1=8, successors=("b", "c")),
        straight(-2, 0, "b", x0=8), straight(0, 2, "c", x0=8),
    )  # fmt: skip
    merge = (
        straight(-2, 0, "a", x1=8, successors=("c",)),
        straight(0, 2, "b", x1=8, successors=("c",)), straight(-2, 2, "c", x0=8),
    )  # fmt: skip
    for lanes, where in ((fork, ONE), (merge, SEVERAL)):
        under = lanes_under(record(still(7, 0), vector_map=VectorMap(lanes=lanes)))
        assert under.inside[0, CORNERS].any(axis=1).all()
        assert set(under.box.tolist()) == {where}


def test_foot_points_tell_place_distance_and_heading() -> None:
    back = straight(2, 6, "back")
    back = replace(back, centerline=back.centerline[::-1])
    made = record(still(9, 1.5), vector_map=VectorMap(lanes=(straight(-2, 2, "ahead"), back)))
    feet = lanes_under(made).centre_feet
    assert feet.s_m[0].tolist() == [60, 190]
    assert feet.distance_m[0].tolist() == [1.5, 2.5]
    assert np.abs(feet.heading_rad[0]).tolist() == [0, np.pi]


def test_a_box_that_reaches_into_the_successor_is_within_one_lane() -> None:
    first = straight(-2, 2, "first", x1=10.0, successors=("second",))
    second = straight(-2, 2, "second", x0=10.0)
    made = record(moving(0, 0, 5), vector_map=VectorMap(lanes=(first, second)), duration_s=3)
    assert (lanes_under(made).box == ONE).all()
    loose = VectorMap(lanes=(replace(first, successors=()), second))
    assert SEVERAL in lanes_under(record(moving(0, 0, 5), vector_map=loose, duration_s=3)).box


def test_a_box_beside_all_lanes_is_in_none_and_half_off_is_not_within_one() -> None:
    assert (lanes_under(record(still(0, 20), vector_map=TWO)).box == NONE).all()
    assert (lanes_under(record(still(0, -2), vector_map=TWO)).box == SEVERAL).all()
    empty = lanes_under(record(still(0, 0)))
    assert empty.inside.shape[1:] == (6, 0)
    assert (empty.box == NONE).all()
    assert empty.on_surface is None


def test_lanes_without_an_outline_are_strips_around_their_centre_lines() -> None:
    line = np.array([[-50.0, 0.0, 0.0], [50.0, 0.0, 0.0]])
    bare = VectorMap(lanes=(Lane("bare", line),))
    at = lanes_under(record(lambda t: (0, 1.8 + 0.1 * (t >= 1), 0.0), vector_map=bare))
    assert at.inside[0, RIG, 0]
    assert not at.inside[-1, RIG].any()


@pytest.mark.parametrize("kind", ["bike", "BICYCLE", "sidewalk", "tram rail"])
def test_lanes_that_no_car_drives_on_are_left_out(kind: str) -> None:
    assert not lane_shapes(VectorMap(lanes=(straight(-2, 2, "x", kind=kind),))).lanes
    assert lane_shapes(VectorMap(lanes=(straight(-2, 2, "x", kind="bus"),))).lanes


def test_intersections_are_told_by_the_lanes_under_the_centre() -> None:
    inner = straight(-2, 2, "inner", x0=10.0, x1=20.0, in_intersection=True)
    outer = straight(-2, 2, "outer", x1=10.0)
    made = record(moving(0, 0, 10), vector_map=VectorMap(lanes=(outer, inner)), duration_s=3)
    x = 1 + np.arange(31.0)
    assert lanes_under(made).centre_in_intersection.tolist() == ((x > 9.99) & (x < 20.01)).tolist()


def test_an_outline_that_crosses_itself_still_holds_points() -> None:
    bow = np.array([[0.0, -2, 0], [10, 2, 0], [10, -2, 0], [0, 2, 0]])
    under = lanes_under(record(still(0.5, 0), vector_map=VectorMap(lanes=(lane(bow, "bow"),))))
    assert under.inside[0, RIG].any()
