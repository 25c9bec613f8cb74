"""Lines of OpenDRIVE's plan view: straight lines, arcs, Euler spirals and cubics.

Formulas: ASAM OpenDRIVE 1.7, section 9 (geometry). Each curve starts at the origin along
the x axis; a point is asked for by its distance along the curve. Of cubics, whose
parameter is none, that distance is worked out by Gauss-Legendre quadrature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.scenes.xodr_xml import not_negative, value

Curve = Callable[[Array], tuple[Array, Array, Array]]
"""Distances ``(N,)`` in m to u, v (m) and heading (rad)."""

MOST_TURNING_RAD = 1000.0
"""A curve that turns further is none of a road."""

_ILL_CONDITIONED = 1e5
"""Beyond this squared argument, Fresnel integrals lose digits that quadrature keeps."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


@dataclass(frozen=True, eq=False)
class Cubics:
    """A function of pieces ``a + b d + c d^2 + e d^3``, d being the distance from their starts.

    Attributes:
        starts: ``(K,)`` ascending; before the first the function is its a.
        coefficients: ``(K, 4)``; without pieces the function is 0.
    """

    starts: Array
    coefficients: Array

    def __call__(self, s_m: Array) -> Array:
        """Values at ``(N,)``."""
        if len(self.starts) == 0:
            return np.zeros(len(s_m))
        index = np.clip(np.searchsorted(self.starts, s_m, side="right") - 1, 0, None)
        d = np.maximum(s_m - self.starts[index], 0.0)
        a, b, c, e = self.coefficients[index].T
        return np.asarray(a + d * (b + d * (c + d * e)))


def read_cubics(
    elements: Iterable[Element], start: str, where: str, offset_m: float = 0.0
) -> Cubics:
    """Read elements with a start and ``a`` to ``d``.

    Args:
        start: Name of the start's attribute, "s" or "sOffset".
        offset_m: What the starts are counted from.

    Raises:
        SceneError: a number is missing or not finite.
    """
    rows = [
        [value(e, start, where, 0.0) + offset_m, *(value(e, k, where, 0.0) for k in "abcd")]
        for e in elements
    ]
    table = np.array(rows).reshape(-1, 5)
    table = table[np.argsort(table[:, 0], kind="stable")]
    return Cubics(table[:, 0], table[:, 1:])


@dataclass(frozen=True, eq=False)
class ReferenceLine:
    """A road's reference line.

    Attributes:
        starts: ``(K,)`` distances at which its curves begin.
        lengths: ``(K,)``.
        origins: ``(K, 3)`` x, y and heading of their starts.
        curves: One for each.
    """

    starts: Array
    lengths: Array
    origins: Array
    curves: tuple[Curve, ...]

    @property
    def length_m(self) -> float:
        """Where it ends."""
        return float(self.starts[-1] + self.lengths[-1])

    def __call__(self, s_m: Array) -> tuple[Array, Array, Array]:
        """x, y and heading at distances ``(N,)``; its ends where it has no point."""
        index = np.clip(np.searchsorted(self.starts, s_m, side="right") - 1, 0, None)
        d = np.clip(s_m - self.starts[index], 0.0, self.lengths[index])
        out = np.zeros((3, len(s_m)))
        for k in np.unique(index).tolist():
            own = index == k
            u, v, turned = self.curves[k](d[own])
            x, y, heading = self.origins[k]
            out[0, own] = x + u * np.cos(heading) - v * np.sin(heading)
            out[1, own] = y + u * np.sin(heading) + v * np.cos(heading)
            out[2, own] = heading + turned
        return out[0], out[1], out[2]


def read_reference_line(road: Element, where: str) -> ReferenceLine:
    """Read the ``<planView>`` of a road.

    Raises:
        SceneError: it is missing or empty, a length is negative, a curve is of an unknown
            kind, or a number is missing or not finite.
    """
    elements = road.findall("planView/geometry")
    rows, curves = [], []
    for element in elements:
        length = not_negative(element, "length", where)
        if length == 0:
            continue
        origin = [value(element, k, where) for k in ("x", "y", "hdg")]
        rows.append([not_negative(element, "s", where), length, *origin])
        curves.append(_curve(element, length, where))
    if not rows:
        lacks = "geometry of any length" if elements else "<geometry> in its <planView>"
        raise SceneError(f"the road has no {lacks}", where=where, remedy="export the map again")
    table = np.array(rows)
    order = np.argsort(table[:, 0], kind="stable")
    table = table[order]
    return ReferenceLine(table[:, 0], table[:, 1], table[:, 2:], tuple(curves[i] for i in order))


def _curve(element: Element, length_m: float, where: str) -> Curve:
    kinds = [e for e in element if e.tag != "userData"]
    shape = kinds[0] if kinds else element
    if shape.tag == "line":
        return lambda d: (d, np.zeros_like(d), np.zeros_like(d))
    if shape.tag == "arc":
        curvature = value(shape, "curvature", where)
        return spiral(curvature, curvature, length_m, where)
    if shape.tag == "spiral":
        ends = value(shape, "curvStart", where), value(shape, "curvEnd", where)
        return spiral(*ends, length_m, where)
    if shape.tag == "poly3":
        a, b, c, d = (value(shape, k, where) for k in "abcd")
        return _poly3(np.array([a, b, c, d]), length_m, where)
    if shape.tag == "paramPoly3":
        u = np.array([value(shape, f"{k}U", where) for k in "abcd"])
        v = np.array([value(shape, f"{k}V", where) for k in "abcd"])
        ends_at = length_m if shape.get("pRange") == "arcLength" else 1.0
        return by_distance(u, v, ends_at, length_m, where)
    raise SceneError(
        f"geometry of the kind '{shape.tag}' is unknown", where=where,
        remedy="use line, arc, spiral, poly3 or paramPoly3",
    )  # fmt: skip


def spiral(start: float, end: float, length_m: float, where: str) -> Curve:
    """A curve whose curvature (1/m) goes linearly from `start` to `end`; an arc if they are equal.

    Abramowitz and Stegun, section 7.3 (Fresnel integrals).

    Raises:
        SceneError: it turns round and round.
    """
    rate = (end - start) / length_m
    if max(abs(start), abs(end)) * length_m > MOST_TURNING_RAD:
        raise SceneError(
            f"curvature {max(start, end, key=abs):g} over {length_m:g} m turns further than"
            f" {MOST_TURNING_RAD:g} rad",
            where=where, remedy="give curvatures in 1/m: 0.01 is a radius of 100 m",
        )  # fmt: skip

    def arc(d: Array) -> tuple[Array, Array, Array]:
        half = start * d / 2
        chord = d * np.sinc(half / np.pi)
        return chord * np.cos(half), chord * np.sin(half), 2 * half

    def fresnel_curve(d: Array) -> tuple[Array, Array, Array]:
        from scipy.special import fresnel

        scale = np.sqrt(np.pi / abs(rate))
        first = start / rate / scale
        sine, cosine = fresnel(np.concatenate([d / scale + first, [first]]))
        u, v = scale * (cosine[:-1] - cosine[-1]), scale * (sine[:-1] - sine[-1])
        v = v * np.sign(rate)
        back = -(start**2) / (2 * rate)
        x, y = u * np.cos(back) - v * np.sin(back), u * np.sin(back) + v * np.cos(back)
        return x, y, start * d + rate * d**2 / 2

    def quadrature(d: Array) -> tuple[Array, Array, Array]:
        turns = int(np.ceil(max(abs(start), abs(end)) * length_m)) + 1
        knots = np.unique(np.concatenate([np.linspace(0.0, length_m, turns + 1), d]))
        half = np.diff(knots) / 2
        at = (knots[:-1] + half)[:, None] + half[:, None] * _NODES
        angle = at * (start + rate * at / 2)
        ends = [np.cumsum(half * (f(angle) @ _WEIGHTS)) for f in (np.cos, np.sin)]
        x, y = (np.interp(d, knots, np.concatenate([[0.0], e])) for e in ends)
        return x, y, start * d + rate * d**2 / 2

    if rate == 0:
        return arc
    argument = max(start**2, end**2) / (np.pi * abs(rate))
    return fresnel_curve if argument < _ILL_CONDITIONED else quadrature


def _poly3(coefficients: Array, length_m: float, where: str) -> Curve:
    """v as a cubic of u, as far as the length reaches."""
    straight = np.array([0.0, 1.0, 0.0, 0.0])
    p, s = _arc_table(straight, coefficients, length_m, length_m)
    k = np.clip(np.searchsorted(s, [length_m], side="right") - 1, 0, len(p) - 2)
    q = np.interp([length_m], s, p)
    for _ in range(2):  # Newton
        off = s[k] + _stretch(straight, coefficients, p[k], q) - length_m
        q = q - off / _speed(straight, coefficients, q)
    ends_at = float(q[0])
    return by_distance(straight, coefficients, ends_at, length_m, where)


def by_distance(u: Array, v: Array, ends_at: float, length_m: float, where: str) -> Curve:
    """Cubics u(p) and v(p), p from 0 to `ends_at`, at parts of their own length.

    Args:
        length_m: The stated length, which stands for that of the curve.

    Raises:
        SceneError: the curve stands still.
    """
    p, s = _arc_table(u, v, ends_at, length_m)
    if not np.isfinite(s[-1]) or s[-1] <= 0 or (np.diff(s) <= 0).any():
        raise SceneError(
            "a cubic stands still, or has no end", where=where, remedy="export the map again"
        )

    def curve(d: Array) -> tuple[Array, Array, Array]:
        wanted = d * (s[-1] / length_m)
        q = np.interp(wanted, s, p)
        for _ in range(2):  # Newton; the table's panels are short enough for both to be exact
            k = np.clip(np.searchsorted(p, q, side="right") - 1, 0, len(p) - 2)
            q = q - (s[k] + _stretch(u, v, p[k], q) - wanted) / np.maximum(_speed(u, v, q), 1e-9)
        q = np.clip(q, 0.0, ends_at)
        heading = np.arctan2(_slope(v, q), _slope(u, q))
        return _cubic(u, q), _cubic(v, q), heading

    return curve


def _arc_table(u: Array, v: Array, ends_at: float, length_m: float) -> tuple[Array, Array]:
    """Parameters, and distances along the curve at them, about a metre apart."""
    p = np.linspace(0.0, ends_at, int(np.clip(np.ceil(length_m), 16, 4096)) + 1)
    return p, np.concatenate([[0.0], np.cumsum(_stretch(u, v, p[:-1], p[1:]))])


def _stretch(u: Array, v: Array, start: Array, end: Array) -> Array:
    half = (end - start) / 2
    at = (start + half)[:, None] + half[:, None] * _NODES
    return np.asarray(half * (_speed(u, v, at) @ _WEIGHTS))


def _speed(u: Array, v: Array, p: Array) -> Array:
    return np.asarray(np.hypot(_slope(u, p), _slope(v, p)))


def _cubic(k: Array, p: Array) -> Array:
    return np.asarray(k[0] + p * (k[1] + p * (k[2] + p * k[3])))


def _slope(k: Array, p: Array) -> Array:
    return np.asarray(k[1] + p * (2 * k[2] + 3 * p * k[3]))
