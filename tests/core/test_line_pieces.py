"""Projection on long lines gives what looking at every segment gives, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.line_pieces import MANY_PAIRS, PIECE, near_pieces

SHAPES = {
    "straight": lambda s: (s, 0 * s),
    "circles": lambda s: (30 * np.cos(s / 30), 30 * np.sin(s / 30)),
    "zigzag": lambda s: (s, 3 * np.abs(s % 20 - 10)),
    "halting": lambda s: (np.floor(s / 50) * 50, 0 * s),
    "there and back": lambda s: (np.abs(s % 400 - 200), 0 * s),
}


@given(
    shape=st.sampled_from(sorted(SHAPES)), seed=st.integers(0, 10_000), far_m=st.sampled_from([0, 1, 300])
)  # fmt: skip
def test_many_points_are_projected_as_each_by_itself(shape: str, seed: int, far_m: float) -> None:
    rng = np.random.default_rng(seed)
    s = np.sort(rng.uniform(0, 600, 1000))
    line = np.stack(SHAPES[shape](s), axis=1) + 1e5
    points = line[rng.integers(0, len(line), 150)] + far_m * rng.normal(size=(150, 2))
    assert len(points) * (len(line) - 1) > MANY_PAIRS
    together = geometry.project_on_polyline(points, line)
    each = [geometry.project_on_polyline(point[None], line) for point in points]
    for at, values in enumerate(together):
        assert np.array_equal(values, [one[at][0] for one in each])


def test_pieces_are_few_near_a_line_and_all_segments_are_taken_where_they_would_be_many() -> None:
    x = np.arange(2000.0)
    line = np.stack([x, 0 * x], axis=1)
    arc_m = geometry.arc_length_m(line)
    near = near_pieces(line[::10] + [0.0, 1.0], line, arc_m)
    assert near is not None
    point, segments = near
    assert np.array_equal(np.unique(point), np.arange(200))
    assert segments.shape == (len(point), PIECE)
    assert len(point) < 600
    assert near_pieces(np.tile([1000.0, 1e6], (200, 1)), line, arc_m) is None
    assert near_pieces(line[:3], line, arc_m) is None


@pytest.mark.parametrize("vertices", [1, 2])
def test_short_lines_with_very_many_points(vertices: int) -> None:
    line = np.array([[0.0, 0.0], [1.0, 0.0]])[:vertices]
    points = np.tile([0.5, 2.0], (MANY_PAIRS + 1, 1))
    s_m, distance_m = geometry.project_on_polyline(points, line)
    assert np.all(s_m == (0.5 if vertices == 2 else 0.0))
    assert distance_m == pytest.approx(np.hypot(0.5 if vertices == 1 else 0.0, 2.0))
