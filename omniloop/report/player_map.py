"""The map around a drive as whole numbers, for the page's bird's-eye players."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.polygon import orient

from omniloop.core.geometry import Array
from omniloop.core.scene import LaneLine, MarkColor, MarkStyle, VectorMap
from omniloop.report.map_features import Drawn, drawn_features
from omniloop.report.map_raster import DASHES_M, lane_outline, offset_polyline

UNIT_M = 0.05
"""Positions are whole multiples of this; half of it is a fifth of a pixel at 8 pixels a metre."""

REACH_M = 90.0
"""What is farther than this from everywhere ego went is left out."""

_TOLERANCE_M = 0.08
_DOUBLE_GAP_M = 0.12
_COLORS = {MarkColor.YELLOW: "line_yellow", MarkColor.BLUE: "line_blue"}
_ONE = MarkStyle.DASHED_SINGLE
# Per style: sideways offset to the left, and the style whose dashes it has; None is solid.
_STRIPES: dict[MarkStyle, tuple[tuple[float, MarkStyle | None], ...]] = {
    MarkStyle.SOLID_SINGLE: ((0.0, None),),
    MarkStyle.SOLID_GROUP: ((_DOUBLE_GAP_M, None), (-_DOUBLE_GAP_M, None)),
    MarkStyle.DASHED_SINGLE: ((0.0, _ONE),),
    MarkStyle.LONG_DASHED_SINGLE: ((0.0, MarkStyle.LONG_DASHED_SINGLE),),
    MarkStyle.SHORT_DASHED_SINGLE: ((0.0, MarkStyle.SHORT_DASHED_SINGLE),),
    MarkStyle.DASHED_GROUP: ((_DOUBLE_GAP_M, _ONE), (-_DOUBLE_GAP_M, _ONE)),
    MarkStyle.SOLID_DASHED: ((_DOUBLE_GAP_M, None), (-_DOUBLE_GAP_M, _ONE)),
    MarkStyle.DASHED_SOLID: ((_DOUBLE_GAP_M, _ONE), (-_DOUBLE_GAP_M, None)),
    MarkStyle.NONE: (),
}


def deltas(values: Array, unit: float) -> list[int]:
    """Whole multiples of a unit: the first, then the steps between them.

    Rounding is of the values and not of the steps, so that no error adds up.
    """
    whole = np.rint(np.asarray(values) / unit).astype(np.int64)
    steps: list[int] = np.diff(whole, prepend=0).tolist()
    return steps


def packed_line(xy: Array, origin: Array) -> list[int]:
    """A polyline ``(N, 2)`` as ``[x, y, dx, dy, ...]`` in `UNIT_M` from an origin ``(2,)``."""
    whole = np.rint((xy - origin) / UNIT_M).astype(np.int64)
    flat: list[int] = np.diff(whole, axis=0, prepend=0).reshape(-1).tolist()
    return flat


def player_map(vector_map: VectorMap, driven_xy: Array, origin: Array) -> dict[str, Any]:
    """The map near a drive, clipped and simplified by at most 8 cm.

    Args:
        driven_xy: ``(N, 2)`` where ego was, in `local`.
        origin: ``(2,)`` what positions are counted from.

    Returns:
        Lists of packed polylines: "areas" and "lanes" (each shape a list of rings),
        "crosswalks" likewise, "bare" (centrelines of lanes without an outline), "faint"
        (lane boundaries of a map without paint), "edges", "stops", and "paint" as
        ``[colour, dashes, line]``, dashes being metres of paint and gap, or empty if it is solid.
        A map with features near the drive also has "features", see `Look`: "label", "color",
        "draw", "m" (its `width_m`) and "shapes", packed.
    """
    near = _Near(driven_xy, origin)
    outlines = [lane_outline(lane) for lane in vector_map.lanes]
    bare = [
        lane.centerline
        for lane, outline in zip(vector_map.lanes, outlines, strict=True)
        if outline is None
    ]
    sides = [s for lane in vector_map.lanes for s in (lane.left, lane.right) if s is not None]
    unpainted = not vector_map.lane_lines
    drawn = drawn_features(vector_map.features)
    features = [found for one in drawn if (found := _feature(near, one))["shapes"]]
    return {
        "areas": near.shapes([(a.outline, *a.holes) for a in vector_map.drivable_areas]),
        "lanes": near.shapes([(o,) for o in outlines if o is not None]),
        "crosswalks": near.shapes([(c.outline, *c.holes) for c in vector_map.crosswalks]),
        "bare": near.lines(bare),
        "faint": near.lines(sides) if unpainted else [],
        "edges": near.lines([b.points for b in vector_map.road_boundaries]),
        "stops": near.lines([s.points for s in vector_map.stop_lines]),
        "paint": [
            [color, list(dashes), line]
            for (color, dashes), stripes in _paint(vector_map.lane_lines).items()
            for line in near.lines(stripes)
        ],
        **({"features": features} if features else {}),
    }


def _feature(near: _Near, drawn: Drawn) -> dict[str, Any]:
    look, shapes = drawn.look, drawn.shapes
    packed: dict[str, Callable[[], list[Any]]] = {
        "fill": lambda: near.shapes([(xy,) for xy in shapes]),
        "line": lambda: near.lines(shapes),
        "dots": lambda: near.dots(shapes),
    }
    return {
        "label": look.label,
        "color": look.color,
        "draw": look.draw,
        "m": look.width_m,
        "shapes": packed[look.draw](),
    }


_Paint = tuple[str, tuple[float, ...]]


def _paint(lines: Iterable[LaneLine]) -> dict[_Paint, list[Array]]:
    out: dict[_Paint, list[Array]] = {}
    for line in lines:
        for offset_m, dashed_as in _STRIPES[line.style]:
            xy = np.asarray(line.points, dtype=np.float64)[:, :2]
            if len(xy) >= 2:
                moved = offset_polyline(xy, offset_m) if offset_m else xy
                key = (
                    _COLORS.get(line.color, "line_white"),
                    DASHES_M[dashed_as] if dashed_as else (),
                )
                out.setdefault(key, []).append(moved)
    return out


class _Near:
    """Clips shapes to the surroundings of a drive and packs them."""

    def __init__(self, driven_xy: Array, origin: Array) -> None:
        self._origin = origin
        path = shapely.MultiPoint(driven_xy[:: max(len(driven_xy) // 200, 1)])
        self._path = path
        low, high = driven_xy.min(axis=0) - REACH_M, driven_xy.max(axis=0) + REACH_M
        self._window = (*low.tolist(), *high.tolist())

    def lines(self, points: Sequence[Array]) -> list[list[int]]:
        """Polylines near the drive, packed; one that leaves and comes back is several."""
        made = [shapely.linestrings(p[:, :2]) for p in points if len(p) >= 2]
        parts = shapely.get_parts(self._clipped(np.array(made, dtype=object)))
        found = parts[shapely.get_type_id(parts) == shapely.GeometryType.LINESTRING]
        return [packed_line(shapely.get_coordinates(g), self._origin) for g in found]

    def shapes(self, rings: Sequence[Sequence[Array]]) -> list[list[list[int]]]:
        """Polygons near the drive: each its outline and holes, packed without the repeated end.

        Outlines run counter-clockwise and holes clockwise, so that shapes which overlap can be
        filled at once by the nonzero rule.
        """
        made = [
            shapely.Polygon(shape[0][:, :2], [h[:, :2] for h in shape[1:] if len(h) >= 3])
            for shape in rings
            if len(shape[0]) >= 3
        ]
        valid = shapely.make_valid(np.array(made, dtype=object))
        # Mending may give a collection of collections.
        parts = shapely.get_parts(shapely.get_parts(self._clipped(valid)))
        found = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
        return [
            [
                packed_line(shapely.get_coordinates(ring)[:-1], self._origin)
                for ring in (polygon.exterior, *polygon.interiors)
            ]
            for polygon in map(orient, found)
        ]

    def dots(self, points: Sequence[Array]) -> list[list[int]]:
        """Points ``(1, 2)`` near the drive, packed."""
        made = shapely.points(np.concatenate(points))
        near = np.flatnonzero(shapely.dwithin(made, self._path, REACH_M))
        return [packed_line(points[k], self._origin) for k in near.tolist()]

    def _clipped(self, geometries: NDArray[Any]) -> NDArray[Any]:
        if not len(geometries):
            return geometries
        close = geometries[shapely.dwithin(geometries, self._path, REACH_M)]
        clipped: NDArray[Any] = shapely.simplify(
            shapely.clip_by_rect(close, *self._window), _TOLERANCE_M
        )
        return clipped
