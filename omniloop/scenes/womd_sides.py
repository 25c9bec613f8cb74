"""How far the sides of lanes are from their centre lines, where the dataset lets one know.

The Waymo Open Motion Dataset gives lanes as centre lines alone. What is beside them tells how
wide they are, in this order: the boundaries and the neighbours that a lane names, then any road
line or road edge that runs along it and is met first on a way straight to the side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.scenes.surface import CENTERLINE_HALF_WIDTH_M
from omniloop.scenes.womd_recording import LaneFeature, Stretch

MIN_HALF_WIDTH_M = 0.5
MAX_HALF_WIDTH_M = 4.0
"""What is closer or farther is no side of the lane: a line that crosses it, another lane's."""

ALONG_RAD = np.deg2rad(30.0)
"""A line at a greater angle crosses the lane."""

SAME_LEVEL_M = 2.0
"""A line that lies higher or lower than that beside a lane is on another level of a crossing."""

KNOWN_SHARE = 0.25
"""The sides of a lane are given if they are known beside this share of its points."""


@dataclass(frozen=True, eq=False)
class LaneSides:
    """The sides of a lane of N points.

    Attributes:
        half_widths_m: ``(2, N)`` to the left and to the right.
        lines: Ids of what is most often beside it, left and right; None where nothing is
            beside half of its points.
    """

    half_widths_m: Array
    lines: tuple[str | None, str | None]


def lane_sides(lanes: Sequence[LaneFeature], beside: Mapping[str, Array]) -> dict[str, LaneSides]:
    """The sides of all lanes for which they are known.

    Between points where a side is known its distance is interpolated, before the first and
    after the last held. Where one side alone is known at a point, the other is as far, but
    no farther than `CENTERLINE_HALF_WIDTH_M`.

    Args:
        lanes: With two points or more each, that do not repeat.
        beside: Points ``(M, 3)`` of road lines and road edges by their ids.
    """
    if not lanes:
        return {}
    centers = {lane.id: lane.points[:, :2] for lane in lanes}
    found = {lane.id: _named(lane, beside, centers) for lane in lanes}
    _meet_beside(found, {lane.id: lane.points for lane in lanes}, beside)
    out = {}
    for name, (measured, features) in found.items():
        other = np.minimum(measured[::-1], CENTERLINE_HALF_WIDTH_M)
        half = np.where(np.isnan(measured), other, measured)
        known = ~np.isnan(half[0])
        if known.mean() < KNOWN_SHARE:
            continue
        at = np.arange(len(known))
        full = np.array([np.interp(at, at[known], side[known]) for side in half])
        lines = tuple(_most(side) for side in features)
        out[name] = LaneSides(full, (lines[0], lines[1]))
    return out


def normals(points_xy: Array) -> Array:
    """Unit vectors ``(N, 2)`` to the left of a polyline ``(N, 2)`` at its points."""
    along = np.gradient(points_xy, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-12)
    return np.column_stack([-along[:, 1], along[:, 0]])


_Found = tuple[Array, tuple[list[str | None], list[str | None]]]


def _named(lane: LaneFeature, beside: Mapping[str, Array], centers: Mapping[str, Array]) -> _Found:
    """Distances ``(2, N)`` to what the lane names, NaN elsewhere, and the boundaries' ids."""
    points = centers[lane.id]
    half = np.full((2, len(points)), np.nan)
    features: tuple[list[str | None], list[str | None]] = (
        [None] * len(points),
        [None] * len(points),
    )
    for side, boundaries, neighbors in (
        (0, lane.left_boundaries, lane.left_neighbors),
        (1, lane.right_boundaries, lane.right_neighbors),
    ):
        for stretch in boundaries:
            if stretch.feature in beside:
                _take(half[side], features[side], points, stretch, beside[stretch.feature], 1.0)
        for stretch in neighbors:
            if stretch.feature in centers:
                _take(half[side], None, points, stretch, centers[stretch.feature], 0.5)
    return half, features


def _take(
    half: Array, features: list[str | None] | None, points: Array, stretch: Stretch, line: Array,
    share: float,
) -> None:  # fmt: skip
    """Enter the distances from points of a stretch to a line, where nothing is known yet."""
    at = np.arange(max(stretch.start, 0), min(stretch.end + 1, len(points)))
    at = at[np.isnan(half[at])]
    if len(at) == 0:
        return
    distance = share * geometry.project_on_polyline(points[at], line[:, :2])[1]
    fits = (distance >= MIN_HALF_WIDTH_M) & (distance <= MAX_HALF_WIDTH_M)
    half[at[fits]] = distance[fits]
    if features is not None:
        for i in at[fits].tolist():
            features[i] = stretch.feature


def _meet_beside(
    found: Mapping[str, _Found], lanes: Mapping[str, Array], beside: Mapping[str, Array]
) -> None:
    """Enter the distances to the first line straight to the side, where nothing is known yet."""
    ids = list(beside)
    pairs = [np.stack([beside[i][:-1], beside[i][1:]], axis=1) for i in ids]
    if not pairs:
        return
    segments = np.concatenate(pairs)
    owner = np.repeat(np.arange(len(ids)), [len(p) for p in pairs])
    names = list(found)
    at_lane, at_side, at_point, start, way = [], [], [], [], []
    for k, name in enumerate(names):
        left = normals(lanes[name][:, :2])
        for side, sign in ((0, 1.0), (1, -1.0)):
            open_ = np.flatnonzero(np.isnan(found[name][0][side]))
            at_lane.append(np.full(len(open_), k))
            at_side.append(np.full(len(open_), side))
            at_point.append(open_)
            start.append(lanes[name][open_])
            way.append(sign * left[open_])
    begin, step = np.concatenate(start), np.concatenate(way)
    ends = begin[:, :2] + MAX_HALF_WIDTH_M * step
    rays = shapely.linestrings(np.stack([begin[:, :2], ends], axis=1))
    walls = np.asarray(shapely.linestrings(segments[..., :2]))
    ray, segment = shapely.STRtree(walls).query(rays, predicate="intersects")
    line = segments[segment, 1] - segments[segment, 0]
    # A ray p + t n meets a line through a along d where t = (a - p) x d / (n x d).
    cross = step[ray, 0] * line[:, 1] - step[ray, 1] * line[:, 0]
    rel = segments[segment, 0] - begin[ray]
    length = np.maximum(np.linalg.norm(line[:, :2], axis=1), 1e-12)
    fits = np.abs(cross) >= np.cos(ALONG_RAD) * length
    fits &= np.abs(rel[:, 2]) <= SAME_LEVEL_M
    distance = np.full(len(ray), np.inf)
    t = (rel[:, 0] * line[:, 1] - rel[:, 1] * line[:, 0])[fits] / cross[fits]
    distance[fits] = np.where(t >= MIN_HALF_WIDTH_M, t, np.inf)
    order = np.lexsort([segment, distance, ray])
    first = order[np.append(True, np.diff(ray[order]) > 0)] if len(order) else order
    first = first[np.isfinite(distance[first])]
    which, sides, points = (np.concatenate(x) for x in (at_lane, at_side, at_point))
    for i in first.tolist():
        half, features = found[names[which[ray[i]]]]
        side, point = int(sides[ray[i]]), int(points[ray[i]])
        half[side, point] = distance[i]
        features[side][point] = ids[owner[segment[i]]]


def _most(features: Sequence[str | None]) -> str | None:
    counted = Counter(name for name in features if name is not None)
    name, count = counted.most_common(1)[0] if counted else (None, 0)
    return name if 2 * count >= len(features) else None
