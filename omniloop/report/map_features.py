"""Poles, markings, islands and areas of a map: what each kind looks like from above."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import shapely

from omniloop.core.geometry import Array
from omniloop.core.scene import MapFeature

POLE_M = 0.3
"""Radius of a pole's disc; most poles are thinner and would not be seen."""

_PAINT_M = 0.15
_HATCH_EVERY_M = 1.6
_MOST_HATCHES = 400


@dataclass(frozen=True)
class Look:
    """How features are drawn.

    Attributes:
        label: Their name in legends.
        color: A field of `omniloop.report.palette.Palette`.
        draw: "fill", "line" of `width_m`, or "dots" of the radius `width_m`.
        mark: The mark of `omniloop.report.birdseye.draw_legend`.
    """

    label: str
    color: str
    draw: str
    mark: str
    width_m: float = 0.0


_HATCHED = Look("gore or buffer", "line_white", "line", "hatch", _PAINT_M)
_MARKING = Look("marking", "line_white", "fill", "box")
_OTHER = Look("other feature", "faint", "line", "thin", _PAINT_M)
# In drawing order, by kind.
_LOOKS = {
    "intersection_area": Look("intersection", "junction", "fill", "box"),
    "road_island": Look("island", "island", "fill", "box"),
    "gore_area": _HATCHED,
    "buffer_zone": _HATCHED,
    "road_marking": _MARKING,
    "": _OTHER,
    "pole": Look("pole", "pole", "dots", "disc", POLE_M),
}


@dataclass(frozen=True, eq=False)
class Drawn:
    """Shapes of one look.

    Attributes:
        shapes: ``(N, 2)`` outlines, lines or, for dots, points ``(1, 2)``.
    """

    look: Look
    shapes: tuple[Array, ...]


def drawn_features(features: Iterable[MapFeature]) -> list[Drawn]:
    """Features as shapes, in drawing order; a look without shapes is left out.

    Features of a kind that has no look of its own are outlined. An area of fewer than three
    points has nothing to draw; a marking of two is a painted line.
    """
    shapes: dict[Look, list[Array]] = {look: [] for look in _LOOKS.values()}
    for feature in features:
        xy = np.asarray(feature.points, dtype=np.float64)[:, :2]
        look = _LOOKS.get(feature.kind, _OTHER)
        if look.draw == "dots":
            shapes[look] += [xy[:1]] if len(xy) else []
        elif len(xy) >= 3:
            if look is _HATCHED:
                shapes[look] += hatch(xy)
            shapes[look].append(xy if look.draw == "fill" else np.vstack([xy, xy[:1]]))
        elif look is _MARKING and len(xy) == 2:
            shapes[look].append(_bar(xy))
    return [Drawn(look, tuple(found)) for look, found in shapes.items() if found]


def _bar(xy: Array) -> Array:
    """Outline ``(4, 2)`` of a painted line from one point to another."""
    along = np.diff(xy, axis=0)[0]
    aside = np.array([-along[1], along[0]]) * (_PAINT_M / 2 / max(float(np.hypot(*along)), 1e-9))
    return np.array([xy[0] + aside, xy[1] + aside, xy[1] - aside, xy[0] - aside])


def hatch(outline_xy: Array) -> list[Array]:
    """Lines ``(2, 2)`` across an area ``(N, 2)``, slanted by 45 degrees to its longer side."""
    corners = cv2.boxPoints(cv2.minAreaRect(outline_xy.astype(np.float32))).astype(np.float64)
    a, b = corners[1] - corners[0], corners[3] - corners[0]
    length = max(float(np.hypot(*a)), float(np.hypot(*b)))
    if length < 0.1:
        return []
    longer = (a if np.hypot(*a) >= np.hypot(*b) else b) / length
    along = np.array([longer[0] - longer[1], longer[0] + longer[1]]) / np.sqrt(2)
    aside = np.array([-along[1], along[0]])
    spread = outline_xy @ aside
    step = max(_HATCH_EVERY_M, float(np.ptp(spread)) / _MOST_HATCHES)
    places = np.arange(spread.min() + step / 2, spread.max(), step)
    reach = (outline_xy @ along).min() - 1.0, (outline_xy @ along).max() + 1.0
    ends = np.stack([places[:, None] * aside + end * along for end in reach], axis=1)
    area = shapely.make_valid(shapely.Polygon(outline_xy))
    # Mending may give a collection of collections.
    parts = shapely.get_parts(
        shapely.get_parts(shapely.intersection(shapely.linestrings(ends), area))
    )
    found = parts[shapely.get_type_id(parts) == shapely.GeometryType.LINESTRING]
    return [shapely.get_coordinates(line) for line in found if not shapely.is_empty(line)]
