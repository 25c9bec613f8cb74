from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.metrics.boxes import TOUCH_M, edge_lines, footprints, penetration_m, vertical_gap_m

lengths = st.floats(0.1, 20.0)
box = st.tuples(
    st.floats(-10, 10), st.floats(-10, 10), st.floats(-4, 4), lengths, lengths, st.floats(0.1, 4.0)
)


def arrays(boxes: list[tuple[float, ...]]) -> tuple[np.ndarray, np.ndarray]:
    values = np.array(boxes)
    xyz = np.column_stack([values[:, :2], np.zeros(len(values))])
    return geometry.poses_from_xyz_yaw(xyz, values[:, 2]), values[:, 3:]


def polygons(poses: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return shapely.polygons(geometry.box_corners_xy(poses, sizes))


@given(st.lists(st.tuples(box, box), min_size=1, max_size=20))
def test_rectangles_overlap_exactly_where_shapely_finds_a_common_area(
    pairs: list[tuple[tuple[float, ...], tuple[float, ...]]],
) -> None:
    (poses_a, sizes_a), (poses_b, sizes_b) = (arrays([p[i] for p in pairs]) for i in (0, 1))
    depth = penetration_m(footprints(poses_a, sizes_a), footprints(poses_b, sizes_b))
    a, b = polygons(poses_a, sizes_a), polygons(poses_b, sizes_b)
    clear = np.abs(depth) > TOUCH_M
    common = shapely.area(shapely.intersection(a, b))
    assert ((common > 0) == (depth > 0))[clear].all()
    apart = depth < 0
    assert (shapely.distance(a, b)[apart] >= -depth[apart] - 1e-9).all()


@given(box, box)
def test_the_penetration_depth_is_the_shortest_shift_that_parts_two_rectangles(
    a: tuple[float, ...], b: tuple[float, ...]
) -> None:
    (poses, sizes) = arrays([a, b])
    first, second = footprints(poses[:1], sizes[:1]), footprints(poses[1:], sizes[1:])
    depth = penetration_m(first, second)[0]
    assert depth == pytest.approx(penetration_m(second, first)[0], abs=1e-9)
    if depth <= 1e-3:
        return
    left = []
    for yaw in (a[2], a[2] + np.pi / 2, b[2], b[2] + np.pi / 2):
        for sign in (1, -1):
            moved = poses[1:].copy()
            moved[0, :2] += sign * (depth + 1e-6) * np.array([np.cos(yaw), np.sin(yaw)])
            left.append(penetration_m(first, footprints(moved, sizes[1:]))[0])
    assert min(left) <= 0
    assert max(left) > -depth


@given(box, box, st.sampled_from([1, -1]))
def test_an_edge_meets_a_rectangle_exactly_where_shapely_says_so(
    a: tuple[float, ...], b: tuple[float, ...], end: int
) -> None:
    poses, sizes = arrays([a, b])
    corners = geometry.box_corners_xy(poses[0], sizes[0])
    line = shapely.LineString(corners[[0, 3]] if end == 1 else corners[[1, 2]])
    other = polygons(poses[1:], sizes[1:])[0]
    lines = edge_lines(footprints(poses[:1], sizes[:1]), end)
    depth = penetration_m(lines, footprints(poses[1:], sizes[1:]))[0]
    if abs(depth) > TOUCH_M:
        assert (depth > 0) == line.intersects(other)


def test_a_shared_edge_and_a_shared_corner_are_no_overlap() -> None:
    sizes = np.array([[4.0, 2.0, 1.5]] * 2)
    still = np.array([geometry.pose(), geometry.pose()])
    beside = np.array([geometry.pose(0, 2), geometry.pose(4, 2)])
    depth = penetration_m(footprints(still, sizes), footprints(beside, sizes))
    assert depth == pytest.approx(0, abs=1e-12)


def test_the_vertical_gap_follows_a_box_that_stands_on_a_ramp() -> None:
    level = geometry.pose(0, 0, 0.5)[None]
    pitched = np.array([[0, 0, 5.0, 0, np.sin(np.pi / 8), 0, np.cos(np.pi / 8)]])
    size = np.array([[4.0, 2.0, 1.0]])
    half = (4.0 + 1.0) / 2 * np.sqrt(0.5)
    assert vertical_gap_m(level, size, pitched, size)[0] == pytest.approx(4.5 - 0.5 - half)
    assert vertical_gap_m(level, size, level, size)[0] == pytest.approx(-1.0)
