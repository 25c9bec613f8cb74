from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.scene import Lane, LaneLine, MarkColor, MarkStyle
from omniloop.report.map_raster import dash_polyline, lane_outline, offset_polyline, painted, zebra

STRAIGHT = np.stack([np.arange(0.0, 61.0, 5.0), np.zeros(13), np.zeros(13)], axis=1)


def line(style: MarkStyle) -> LaneLine:
    return LaneLine("l", STRAIGHT, style, MarkColor.WHITE)


@given(on=st.floats(0.5, 6.0), off=st.floats(0.5, 12.0))
def test_dashes_have_the_length_and_the_gaps_asked_for(on: float, off: float) -> None:
    dashes = dash_polyline(STRAIGHT[:, :2], on, off)
    lengths = [geometry.arc_length_m(d)[-1] for d in dashes]
    np.testing.assert_allclose(lengths[:-1], on, atol=1e-9)
    starts = np.array([d[0, 0] for d in dashes])
    np.testing.assert_allclose(starts[0], off / 2)
    np.testing.assert_allclose(np.diff(starts), on + off, atol=1e-9)


def test_dashes_follow_the_bends_of_their_line() -> None:
    corner = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]])
    pieces = dash_polyline(corner, 3.0, 3.0)
    # The second dash runs over the arc lengths 7.5 to 10.5 and so around the corner.
    np.testing.assert_allclose(pieces[1], [[7.5, 0.0], [10.0, 0.0], [10.0, 0.5]])


@pytest.mark.parametrize(
    ("style", "sides"),
    [
        (MarkStyle.SOLID_SINGLE, [0.0]),
        (MarkStyle.SOLID_GROUP, [0.18, -0.18]),
        (MarkStyle.NONE, []),
    ],
)
def test_solid_paint_lies_where_its_style_says(style: MarkStyle, sides: list[float]) -> None:
    pieces = painted(line(style))
    assert [round(float(p[3, 1]), 3) for p in pieces] == sides
    assert all(geometry.arc_length_m(p)[-1] == pytest.approx(60.0) for p in pieces)


@pytest.mark.parametrize(
    ("style", "solid_side"), [(MarkStyle.SOLID_DASHED, 0.18), (MarkStyle.DASHED_SOLID, -0.18)]
)
def test_of_a_mixed_line_the_first_word_is_the_left_side(
    style: MarkStyle, solid_side: float
) -> None:
    solid, *dashes = painted(line(style))
    assert solid[3, 1] == pytest.approx(solid_side)
    assert len(dashes) == 5
    assert all(d[0, 1] == pytest.approx(-solid_side) for d in dashes)


@pytest.mark.parametrize(
    ("style", "on_m"),
    [
        (MarkStyle.DASHED_SINGLE, 3.0),
        (MarkStyle.LONG_DASHED_SINGLE, 6.0),
        (MarkStyle.SHORT_DASHED_SINGLE, 1.0),
        (MarkStyle.DASHED_GROUP, 3.0),
    ],
)
def test_dashed_styles_differ_in_their_dashes(style: MarkStyle, on_m: float) -> None:
    assert geometry.arc_length_m(painted(line(style))[0])[-1] == pytest.approx(on_m)


def test_every_style_can_be_painted_also_on_a_line_of_one_point() -> None:
    for style in MarkStyle:
        painted(line(style))
        assert painted(LaneLine("p", STRAIGHT[:1], style)) == []


def test_an_offset_to_the_left_is_left_of_the_direction_of_travel() -> None:
    np.testing.assert_allclose(offset_polyline(STRAIGHT[:, :2], 1.5)[:, 1], 1.5)
    np.testing.assert_allclose(offset_polyline(STRAIGHT[::-1, :2], 1.5)[:, 1], -1.5)


def test_bars_of_a_crossing_repeat_along_its_longer_side() -> None:
    bars = zebra(np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 12.0], [0.0, 12.0]]))
    assert len(bars) == 10
    for bar in bars:
        assert np.ptp(bar[:, 0]) == pytest.approx(3.0, abs=1e-4)
        assert np.ptp(bar[:, 1]) == pytest.approx(0.6, abs=1e-4)


def test_a_lane_is_outlined_by_its_polygon_else_by_its_sides_else_not_at_all() -> None:
    centre = STRAIGHT
    aside = np.array([0.0, 1.5, 0.0])
    left, right = STRAIGHT + aside, STRAIGHT - aside
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0]])
    assert lane_outline(Lane("a", centre)) is None
    both = lane_outline(Lane("b", centre, left, right))
    assert both is not None
    assert both.shape == (26, 2)
    drawn = lane_outline(Lane("c", centre, left, right, polygon=square))
    assert drawn is not None
    np.testing.assert_array_equal(drawn, square[:, :2])
