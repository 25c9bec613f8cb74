"""Telling degrees from radians."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core.errors import SceneError
from omniloop.scenes.womd_headings import are_degrees


def driving(yaw: float, turn: float = 0.0, steps: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Headings in radians and positions of somebody at 10 m/s."""
    heading = yaw + turn * np.arange(steps)
    step = np.column_stack([np.cos(heading), np.sin(heading)])
    position = np.concatenate([np.zeros((1, 2)), np.cumsum(step[:-1], axis=0)])
    return (heading + np.pi) % (2 * np.pi) - np.pi, position


def decide(moves: list[tuple[np.ndarray, np.ndarray]], degrees: bool) -> bool:
    headings = [np.rad2deg(h) if degrees else h for h, _ in moves]
    positions = [p for _, p in moves]
    return are_degrees(headings, positions, [np.ones(len(h), dtype=bool) for h in headings], "f")


@given(
    st.lists(st.tuples(st.floats(-3.1, 3.1), st.floats(-0.05, 0.05)), min_size=1, max_size=5),
    st.booleans(),
)
def test_motion_tells_the_unit(ways: list[tuple[float, float]], degrees: bool):
    moves = [driving(yaw, turn) for yaw, turn in ways]
    flattest = max(float(np.abs(h).max()) for h, _ in moves)
    apart = np.mean(np.abs(np.concatenate([h[:-1] for h, _ in moves]))) * (1 - math.pi / 180)
    if apart > 0.05 or (flattest < 0.009 and not degrees):
        assert decide(moves, degrees) is degrees


def test_a_few_who_reverse_do_not_mislead():
    back, position = driving(2.0)
    moves = [driving(0.4), driving(-1.2), (back, -position)]
    assert decide(moves, degrees=True) is True
    assert decide(moves, degrees=False) is False


def test_parked_cars_tell_degrees_by_numbers_that_no_radian_reaches():
    still = (np.full(20, 1.5), np.zeros((20, 2)))
    assert decide([still], degrees=True) is True
    with pytest.raises(SceneError, match="cannot tell") as caught:
        decide([still], degrees=False)
    assert "scenes.heading_unit=radians" in caught.value.remedy


def test_numbers_that_mean_the_same_in_both_units_are_radians():
    assert decide([driving(0.005)], degrees=False) is False


def test_motion_that_fits_neither_is_refused():
    heading, position = driving(1.5)
    with pytest.raises(SceneError, match="neither as degrees") as caught:
        decide([(heading + 1.0, position)], degrees=False)
    assert re.search(r"\d+ degrees off", caught.value.what)


def test_what_is_not_valid_is_not_looked_at():
    heading, position = driving(2.0)
    seen = np.arange(len(heading)) < 12
    heading[~seen], position[~seen] = -1e4, -1e4
    assert are_degrees([heading], [position], [seen], "f") is False
