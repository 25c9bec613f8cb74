from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.report.svg import Series, line_chart, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 1.0, [0.0, 0.5, 1.0]), (0.0, 14.2, [0.0, 5.0, 10.0]), (-3.0, 3.0, [-2.0, 0.0, 2.0])],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e5))
def test_ticks_lie_inside_and_are_few(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 6
    slack = 1e-6 * span
    assert low - slack <= found[0]
    assert found[-1] <= low + span + slack


def chart(**changes: object) -> ET.Element:
    time_s = np.arange(-1.0, 5.01, 0.1)
    arguments: dict[str, object] = {
        "title": "Speed", "unit": "m/s", "time_s": time_s,
        "series": [Series("driven", "s0", np.full(len(time_s), 10.0))],
    }  # fmt: skip
    return ET.fromstring(line_chart(**{**arguments, **changes}))  # type: ignore[arg-type]


def points(element: ET.Element) -> list[np.ndarray]:
    return [
        np.array([[float(v) for v in pair.split(",")] for pair in line.attrib["points"].split()])
        for line in element.iter("polyline")
    ]


def test_a_chart_is_sound_xml_with_a_text_alternative() -> None:
    element = chart()
    assert element.attrib["role"] == "img"
    assert element.attrib["aria-label"] == "Speed over time"


def test_higher_values_are_higher_up_and_later_ones_further_right() -> None:
    time_s = np.linspace(0, 5, 20)
    (line,) = points(chart(time_s=time_s, series=[Series("a", "s0", time_s * 2)]))
    assert (np.diff(line[:, 0]) > 0).all()
    assert (np.diff(line[:, 1]) < 0).all()


def test_values_that_are_not_known_leave_a_gap() -> None:
    time_s = np.linspace(0, 5, 20)
    values = np.full(20, 3.0)
    values[8:11] = np.nan
    assert [len(p) for p in points(chart(time_s=time_s, series=[Series("a", "s0", values)]))] == [
        8,
        9,
    ]


def test_rounding_errors_do_not_look_like_motion() -> None:
    time_s = np.linspace(0, 5, 20)
    values = np.where(np.arange(20) % 2, 1e-9, 0.0)
    (line,) = points(chart(time_s=time_s, series=[Series("a", "s0", values)]))
    assert np.ptp(line[:, 1]) == 0.0


def test_only_values_that_are_not_known_draw_no_line() -> None:
    time_s = np.linspace(0, 5, 20)
    assert points(chart(time_s=time_s, series=[Series("a", "s0", np.full(20, np.nan))])) == []


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    time_s = np.linspace(0, 100, 5000)
    (line,) = points(chart(time_s=time_s, series=[Series("a", "s0", time_s)]))
    assert len(line) <= 160
    assert line[-1, 0] == pytest.approx(412.0)


def test_incidents_and_warm_up_are_marked() -> None:
    element = chart(warmup_until_s=0.0, marks_s=[2.0, 3.0])
    classes = [e.attrib.get("class") for e in element.iter()]
    assert classes.count("mark") == 2
    assert classes.count("warm") == 1


def test_texts_are_escaped() -> None:
    time_s = np.linspace(0, 5, 5)
    two = [Series("<b>&", "s0", time_s), Series("b", "s1", time_s)]
    text = line_chart("<script>", "m", time_s, two)
    assert "<script>" not in text
    assert "<b>" not in text
    ET.fromstring(text)
