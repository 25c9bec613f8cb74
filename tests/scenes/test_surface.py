from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core.scene import Area, Lane, VectorMap
from omniloop.scenes.surface import drivable_surface
from tests.metrics.records import lane, rectangle


def depth(vector_map: VectorMap, *points: tuple[float, float]) -> list[float]:
    surface = drivable_surface(vector_map)
    assert surface is not None
    return surface.depth_m(np.array(points)).tolist()


@given(
    gap=st.floats(0, 0.09),
    along=st.floats(-5, 5),
    across=st.floats(-0.1, 0.1),
    slant=st.floats(-0.5, 0.5),
)
def test_a_seam_between_lanes_is_closed(
    gap: float, along: float, across: float, slant: float
) -> None:
    left = np.array([[-9 + slant, gap / 2, 0], [9 + slant, gap / 2, 0], [9, 4, 0], [-9, 4, 0]])
    right = np.array([[-9, -4, 0], [9, -4, 0], [9 - slant, -gap / 2, 0], [-9 - slant, -gap / 2, 0]])
    halves = VectorMap(lanes=(lane(left, "left"), lane(right, "right")))
    assert depth(halves, (along, across)) == [0.0]


def test_a_gap_between_drivable_areas_that_a_wheel_fits_in_stays_open() -> None:
    parts = (Area("a", rectangle(-9, 0.5, 9, 4)), Area("b", rectangle(-9, -4, 9, -0.5)))
    apart = VectorMap(drivable_areas=parts)
    assert depth(apart, (0, 0), (0, 0.2), (0, 0.6)) == pytest.approx([0.5, 0.3, 0.0], abs=1e-9)


@pytest.mark.parametrize(("gap_m", "expected_m"), [(3.9, 0.0), (4.1, 2.05)])
def test_a_gap_between_lanes_counts_as_carriageway_up_to_four_metres(gap_m, expected_m) -> None:
    half = gap_m / 2
    upper, lower = rectangle(-99, half, 99, half + 4), rectangle(-99, -half - 4, 99, -half)
    apart = VectorMap(lanes=(lane(upper), lane(lower)))
    assert depth(apart, (0, 0)) == pytest.approx([expected_m], abs=1e-6)


def bounded(name: str, x0: float, x1: float) -> Lane:
    left, right = np.array([[x0, 2, 0], [x1, 2, 0.0]]), np.array([[x0, -2, 0], [x1, -2, 0.0]])
    return Lane(name, (left + right) / 2, left, right, np.concatenate([left, right[::-1]]))


def test_the_surface_goes_on_for_five_metres_where_the_map_ends_and_not_aside() -> None:
    road = VectorMap(lanes=(bounded("a", 0, 10), bounded("b", 10.05, 20)))
    inside = depth(road, (-4.9, 0), (24.9, 1.9), (10.02, 0))
    assert inside == pytest.approx([0, 0, 0], abs=1e-6)
    assert depth(road, (25.5, 0), (-5.5, 0), (22, 2.5)) == pytest.approx([0.5, 0.5, 0.5], abs=1e-6)


def test_closing_seams_moves_no_outer_edge_and_no_corner() -> None:
    area = VectorMap(drivable_areas=(Area("a", rectangle(0, 0, 10, 10)),))
    points = [(-1, 5), (5, 11), (-3, -4), (9.999, 9.999), (10.001, 5)]
    assert depth(area, *points) == pytest.approx([1.0, 1.0, 5.0, 0.0, 0.001], abs=2e-3)


def test_holes_of_a_drivable_area_are_outside() -> None:
    area = Area("a", rectangle(0, 0, 20, 20), holes=(rectangle(8, 8, 12, 12),))
    assert depth(VectorMap(drivable_areas=(area,)), (10, 10), (10, 9), (5, 5)) == pytest.approx(
        [2.0, 1.0, 0.0], abs=1e-9
    )


def test_drivable_areas_take_precedence_over_lanes() -> None:
    both = VectorMap(
        lanes=(lane(rectangle(100, 0, 110, 4)),),
        drivable_areas=(Area("a", rectangle(0, 0, 10, 10)),),
    )
    surface = drivable_surface(both)
    assert surface is not None
    assert surface.kind == "drivable areas"
    assert depth(both, (105, 2))[0] > 90


@pytest.mark.parametrize(
    ("kind", "counts"),
    [
        ("vehicle", True), ("bus", True), ("bike", True), ("LANE_SURFACE_STREET", True),
        ("bicycleLane", True), ("sidewalk", False), ("CROSSWALK", False), ("tram track", False),
    ],
)  # fmt: skip
def test_every_lane_counts_but_those_for_pedestrians_and_rails(kind: str, counts: bool) -> None:
    road = lane(rectangle(0, 0, 50, 4))
    other = lane(rectangle(0, 10, 50, 14), "other", kind=kind)
    assert (depth(VectorMap(lanes=(road, other)), (25, 12)) == [0.0]) is counts


def test_a_lane_without_a_polygon_is_what_its_boundaries_enclose() -> None:
    line = np.array([[0.0, 0, 0], [50, 0, 0]])
    aside = np.array([0.0, 2, 0])
    bounded = Lane("l", line, left=line + aside, right=line - aside)
    assert depth(VectorMap(lanes=(bounded,)), (25, 1.9), (25, 3)) == pytest.approx([0, 1], abs=1e-9)


def test_a_lane_without_an_outline_is_a_strip_beside_lanes_that_have_one() -> None:
    line = np.array([[10.0, 2, 0], [20, 2, 0]])
    connector = lane(None, "connector", centerline=line)
    mixed = VectorMap(
        lanes=(lane(rectangle(0, 0, 10, 4)), connector, lane(rectangle(20, 0, 30, 4)))
    )
    surface = drivable_surface(mixed)
    assert surface is not None
    assert surface.kind == "lane union"
    assert surface.from_centerlines == 1
    assert depth(mixed, (15, 3.8), (15, 4.85)) == pytest.approx([0, 1.0], abs=1e-6)


@pytest.mark.parametrize(
    "empty",
    [
        VectorMap(),
        VectorMap(lanes=(lane(None, centerline=np.array([[0.0, 0, 0], [9, 0, 0]])),)),
        VectorMap(lanes=(lane(rectangle(0, 0, 9, 0)),)),
        VectorMap(lanes=(lane(rectangle(0, 0, 9, 9), kind="sidewalk"),)),
        VectorMap(drivable_areas=(Area("a", rectangle(0, 0, 9, 9)[:2]),)),
    ],
    ids=["empty", "centre lines alone", "no area", "sidewalk alone", "two points"],
)
def test_a_map_without_polygons_has_no_surface(empty: VectorMap) -> None:
    assert drivable_surface(empty) is None


def test_an_outline_that_crosses_itself_still_counts() -> None:
    bow = np.array([[0.0, 0, 0], [10, 10, 0], [10, 0, 0], [0, 10, 0]])
    assert depth(VectorMap(lanes=(lane(bow),)), (1, 5), (9, 5)) == [0.0, 0.0]
    assert depth(VectorMap(lanes=(lane(bow),)), (5, 9))[0] > 1


@given(st.floats(-5, 45), st.floats(-5, 25))
def test_the_depth_is_the_distance_to_the_nearest_edge_of_any_part(x: float, y: float) -> None:
    parts = VectorMap(
        drivable_areas=(
            Area("a", rectangle(0, 0, 20, 20), holes=(rectangle(8, 8, 12, 12),)),
            Area("b", rectangle(30, 0, 40, 10)),
        )
    )
    surface = drivable_surface(parts)
    assert surface is not None
    wanted = shapely.distance(surface.geometry, shapely.Point(x, y))
    assert depth(parts, (x, y)) == pytest.approx([wanted], abs=1e-9)


def test_points_keep_their_shape() -> None:
    surface = drivable_surface(VectorMap(lanes=(lane(rectangle(0, 0, 9, 9)),)))
    assert surface is not None
    assert surface.depth_m(np.full((3, 4, 2), -1.0)).shape == (3, 4)
    assert surface.depth_m(np.zeros((0, 4, 2))).shape == (0, 4)


def test_a_surface_is_built_once_for_a_map_and_goes_with_it() -> None:
    vector_map = VectorMap(lanes=(lane(rectangle(0, 0, 9, 9)),))
    surface = drivable_surface(vector_map)
    assert drivable_surface(vector_map) is surface
    gone = weakref.ref(vector_map), weakref.ref(surface)
    del vector_map, surface
    gc.collect()
    assert [ref() for ref in gone] == [None, None]
