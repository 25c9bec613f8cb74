"""OpenDRIVE's plan view against numeric integration, and its projection against closed forms."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq

from omniloop.core.errors import SceneError
from omniloop.scenes.xodr_geo import (
    FLATTENING,
    SEMI_MAJOR_M,
    TransverseMercator,
    earth_from_degrees,
    read_projection,
)
from omniloop.scenes.xodr_geometry import read_cubics, read_reference_line, spiral


def plan(*shapes: str, **attributes: object) -> ElementTree.Element:
    """A road of one geometry for each shape."""
    given = {"s": 0, "x": 0, "y": 0, "hdg": 0, "length": 10, **attributes}
    text = " ".join(f'{k}="{v}"' for k, v in given.items())
    inner = "".join(f"<geometry {text}>{shape}</geometry>" for shape in shapes)
    return ElementTree.fromstring(f"<road><planView>{inner}</planView></road>")


def integrated(heading_at, length: float) -> np.ndarray:
    """The end of a curve of which the heading by distance is known."""
    return np.array([
        quad(lambda s, f=f: f(heading_at(s)), 0, length, epsabs=1e-12, limit=800)[0]
        for f in (np.cos, np.sin)
    ])  # fmt: skip


def test_a_straight_line_starts_where_it_says_and_goes_where_it_heads() -> None:
    line = read_reference_line(plan("<line/>", x=3, y=-2, hdg=np.pi / 2, length=7), "x")
    x, y, heading = line(np.array([0.0, 7.0]))
    np.testing.assert_allclose(x, [3, 3], atol=1e-12)
    np.testing.assert_allclose(y, [-2, 5])
    np.testing.assert_allclose(heading, np.pi / 2)


def test_an_arc_goes_round_its_centre() -> None:
    line = read_reference_line(plan('<arc curvature="-0.1"/>', length=np.pi * 5), "x")
    x, y, heading = line(np.linspace(0, np.pi * 5, 9))
    np.testing.assert_allclose(np.hypot(x, y + 10), 10, atol=1e-12)
    assert (x[-1], y[-1], heading[-1]) == pytest.approx((10, -10, -np.pi / 2))


@settings(max_examples=25, deadline=None)
@given(
    start=st.floats(-0.2, 0.2), change=st.floats(-0.3, 0.3) | st.floats(-1e-6, 1e-6),
    length=st.floats(0.5, 120.0),
)  # fmt: skip
def test_a_spiral_is_the_integral_of_its_curvature(
    start: float, change: float, length: float
) -> None:
    x, y, heading = spiral(start, start + change, length, "x")(np.array([length]))
    end = integrated(lambda s: start * s + change / length * s * s / 2, length)
    np.testing.assert_allclose([x[0], y[0]], end, atol=1e-8)
    assert heading[0] == pytest.approx((start + change / 2) * length, abs=1e-9)


def test_a_spiral_that_is_almost_an_arc_keeps_its_digits() -> None:
    for change in (1e-15, 1e-12, 1e-9, 1e-7, 1e-5):
        x, y, _ = spiral(0.01, 0.01 + change, 300.0, "x")(np.array([150.0, 300.0]))
        for k, length in enumerate((150.0, 300.0)):
            end = integrated(lambda s, c=change: 0.01 * s + c / 300 * s * s / 2, length)
            np.testing.assert_allclose([x[k], y[k]], end, atol=1e-8)


U, V = np.array([0.0, 12.0, 3.0, -1.0]), np.array([0.0, 0.5, 4.0, 2.0])


def polynomial(name: str, k: np.ndarray) -> str:
    return " ".join(f'{letter}{name}="{value}"' for letter, value in zip("abcd", k, strict=True))


def by_arc_length(u: np.ndarray, v: np.ndarray, part: float, ends_at: float) -> np.ndarray:
    """The point at a part of a cubic's own length, by root finding."""
    du, dv = (np.polynomial.polynomial.polyder(k) for k in (u, v))
    value = np.polynomial.polynomial.polyval

    def length(p: float) -> float:
        return quad(lambda q: np.hypot(value(q, du), value(q, dv)), 0, p, epsabs=1e-12)[0]

    p = brentq(lambda q: length(q) - part * length(ends_at), 0, ends_at, xtol=1e-13)
    return np.array([value(p, u), value(p, v), np.arctan2(value(p, dv), value(p, du))])


@pytest.mark.parametrize(("p_range", "ends_at"), [("normalized", 1.0), ("arcLength", 1.2)])
def test_a_parametric_cubic_is_followed_at_equal_distances(p_range: str, ends_at: float) -> None:
    shape = f'<paramPoly3 pRange="{p_range}" {polynomial("U", U)} {polynomial("V", V)}/>'
    length = 1.2
    line = read_reference_line(plan(shape, length=length), "x")
    for part in (0.0, 0.3, 0.71, 1.0):
        found = np.array(line(np.array([part * length])))[:, 0]
        np.testing.assert_allclose(found, by_arc_length(U, V, part, ends_at), atol=1e-9)


def test_a_cubic_of_u_ends_where_its_length_does() -> None:
    k = np.array([0.0, 0.0, 0.02, -0.0004])
    line = read_reference_line(plan(f"<poly3 {polynomial('', k)}/>", length=30), "x")
    x, y, _ = line(np.array([15.0, 30.0]))
    np.testing.assert_allclose(y, np.polynomial.polynomial.polyval(x, k), atol=1e-9)
    slope = np.polynomial.polynomial.polyder(k)
    for i, length in enumerate((15.0, 30.0)):
        along = quad(lambda u: np.hypot(1, np.polynomial.polynomial.polyval(u, slope)), 0, x[i])[0]
        assert along == pytest.approx(length, abs=1e-7)


def test_each_piece_counts_from_its_own_start() -> None:
    pieces = ElementTree.fromstring(
        '<r><p s="10" a="5" b="1"/><p s="0" a="1" b="0" c="0.5"/><p s="20" a="0" d="1"/></r>'
    )
    cubics = read_cubics(pieces, "s", "x")
    np.testing.assert_allclose(cubics(np.array([-3.0, 2.0, 10.0, 12.0, 22.0])), [1, 3, 5, 7, 8])
    assert read_cubics([], "s", "x")(np.array([1.0, 2.0])).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("road", "says"),
    [
        (ElementTree.fromstring("<road/>"), "no <geometry> in its <planView>"),
        (plan("<line/>", length=0), "no geometry of any length"),
        (plan("<line/>", length=-4), "length of <geometry> is -4, which is negative"),
        (plan("<line/>", length="nan"), "length of <geometry> is 'nan', not a finite number"),
        (plan("<line/>", x="inf"), "x of <geometry> is 'inf'"),
        (plan("<clothoid/>"), "geometry of the kind 'clothoid' is unknown"),
        (plan(""), "geometry of the kind 'geometry' is unknown"),
        (plan("<arc/>"), "curvature of <arc> is None"),
        (plan('<arc curvature="1e6"/>'), "turns further than"),
        (plan('<paramPoly3 aU="0" bU="0" cU="0" dU="0" aV="0" bV="0" cV="0" dV="0"/>'), "stands still"),
    ],
)  # fmt: skip
def test_impossible_geometry_is_named(road: ElementTree.Element, says: str) -> None:
    with pytest.raises(SceneError, match=says) as caught:
        read_reference_line(road, "the road")
    assert caught.value.where == "the road"


# ---------------------------------------------------------------------- the Earth


def exact_mercator(latitude: float, longitude: float) -> np.ndarray:
    """Gauss-Krueger by its definition: the meridian's length, continued into the complex plane."""
    e2 = FLATTENING * (2 - FLATTENING)
    e = np.sqrt(e2)
    wanted = np.arcsinh(np.tan(latitude)) - e * np.arctanh(e * np.sin(latitude)) + 1j * longitude
    z = latitude + 0j
    for _ in range(50):
        off = np.arctanh(np.sin(z)) - e * np.arctanh(e * np.sin(z)) - wanted
        z -= off * (1 - e2 * np.sin(z) ** 2) * np.cos(z) / (1 - e2)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    at = z / 2 * (nodes + 1)
    arc = z / 2 * np.sum(weights * SEMI_MAJOR_M * (1 - e2) / (1 - e2 * np.sin(at) ** 2) ** 1.5)
    return np.array([arc.imag, arc.real])


@pytest.mark.parametrize(
    ("latitude", "longitude"), [(48, 3), (60, -2), (-33, 1.5), (0, 2), (80, 3)]
)
def test_transverse_mercator_is_exact_to_a_micrometre(latitude: float, longitude: float) -> None:
    exact = exact_mercator(np.radians(latitude), np.radians(longitude))
    projection = TransverseMercator()
    forward = projection.forward(np.array([latitude]), np.array([longitude]))
    np.testing.assert_allclose(forward[0], exact, atol=1e-6)
    back = projection.inverse(exact[None])
    np.testing.assert_allclose(np.array(back)[:, 0], [latitude, longitude], atol=1e-11)


def test_a_utm_string_is_utm() -> None:
    """The Eiffel tower, 31U 448252 5411933."""
    for text in ("+proj=utm +zone=31 +datum=WGS84 +units=m", "EPSG:32631", "epsg:32631"):
        found = read_projection(text, "x").forward(np.array([48.8582]), np.array([2.2945]))
        np.testing.assert_allclose(found, [[448251.8, 5411932.7]], atol=0.1)
    south = read_projection("+proj=utm +zone=33 +south", "x")
    assert south.forward(np.array([0.0]), np.array([15.0]))[0].tolist() == [5e5, 1e7]


def test_a_string_of_nurec_is_read_with_its_misprint() -> None:
    text = "+proj=tmerc +lon_0=17.957 +lat_0=59.3487 +=alt_0=12.5 +ellps=WGS84 +units=m +geoidgrids=egm96_15.gtx"
    assert read_projection(text, "x") == TransverseMercator(59.3487, 17.957, height_m=12.5)
    np.testing.assert_allclose(
        read_projection(text, "x").forward(np.array([59.3487]), np.array([17.957])), 0, atol=1e-9
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("+proj=merc +lat_ts=0", r"\+proj=merc is not supported"),
        ("PROJCS[...]", "'PROJCS"),
        ("+proj=tmerc +lat_0=91", "no place on Earth"),
        ("+proj=tmerc +lat_0=abc", "'abc' is not a finite number"),
        ("+proj=tmerc +lat_0=nan", "'nan' is not a finite number"),
        ("+proj=tmerc +ellps=bessel", r"\+ellps=bessel is not supported"),
        ("+proj=tmerc +towgs84=598.1,73.7,418.2", r"\+towgs84"),
        ("+proj=tmerc +units=us-ft", r"\+units=us-ft"),
        ("+proj=utm", "no zone 1 to 60"),
        ("EPSG:32661", "no zone 1 to 60"),
    ],
)
def test_other_projections_are_refused(text: str, says: str) -> None:
    with pytest.raises(SceneError, match=says):
        read_projection(text, "x")


def test_points_on_the_ellipsoid() -> None:
    found = earth_from_degrees(np.array([0.0, 90.0, 0.0]), np.array([0.0, 0.0, 90.0]), np.array([0, 0, 5.0]))  # fmt: skip
    polar = SEMI_MAJOR_M * (1 - FLATTENING)
    np.testing.assert_allclose(
        found, [[SEMI_MAJOR_M, 0, 0], [0, 0, polar], [0, SEMI_MAJOR_M + 5, 0]], atol=1e-8
    )
