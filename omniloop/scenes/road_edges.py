"""Road edges of maps that have drivable areas only: the outline of these together."""

from __future__ import annotations

import numpy as np
import shapely

from omniloop.core.geometry import Array
from omniloop.core.scene import Area, Lane, Polyline

SEAM_M = 0.05
"""Areas are grown by this before they are joined: maps cut them into tiles that just touch."""

ACROSS_M = 0.5
"""An outline this deep inside a lane, or this close to its centre line where its sides are
unknown, or to its open end, crosses it: there the map was cut, and no kerb stands."""

MIN_LENGTH_M = 1.5
"""Shorter scraps between two such places are no edge either."""


def road_edges(areas: tuple[Area, ...], lanes: tuple[Lane, ...]) -> tuple[Polyline, ...]:
    """Outlines ``(N, 3)`` of the union of drivable areas, where they do not cross a lane.

    Heights are those of the nearest vertex of an area. Closed outlines repeat their first
    point.
    """
    if not areas:
        return ()
    from scipy.spatial import cKDTree

    polygons = [shapely.Polygon(a.outline[:, :2], [h[:, :2] for h in a.holes]) for a in areas]
    grown = shapely.buffer(polygons, SEAM_M, join_style="mitre")
    road = shapely.buffer(shapely.union_all(grown), -SEAM_M, join_style="mitre")
    vertices = np.concatenate([part for a in areas for part in (a.outline, *a.holes)])
    tree = cKDTree(vertices[:, :2])
    outlines = []
    for ring in shapely.get_rings(shapely.get_parts(road)):
        xy = shapely.get_coordinates(ring)
        outlines.append(shapely.LineString(np.column_stack([xy, vertices[tree.query(xy)[1], 2]])))
    kept = shapely.line_merge(shapely.difference(outlines, _inside_lanes(lanes)))
    pieces = shapely.get_parts(kept)
    return tuple(
        Polyline(f"road-edge-{i}", shapely.get_coordinates(piece, include_z=True))
        for i, piece in enumerate(pieces[shapely.length(pieces) >= MIN_LENGTH_M])
    )


def _inside_lanes(lanes: tuple[Lane, ...]) -> shapely.Geometry:
    """Where no kerb can stand."""
    outlined = [shapely.Polygon(x.polygon[:, :2]) for x in lanes if x.polygon is not None]
    bare = [shapely.LineString(x.centerline[:, :2]) for x in lanes if x.polygon is None]
    across = [shapely.LineString(end) for end in _open_ends(lanes)]
    surface = shapely.union_all(shapely.buffer(outlined, 0), grid_size=0.01)
    # Each line by itself: the time of a buffer of all grows with the square of their number.
    return shapely.union_all([
        shapely.buffer(surface, -ACROSS_M), *shapely.buffer([*bare, *across], ACROSS_M),
    ])  # fmt: skip


def _open_ends(lanes: tuple[Lane, ...]) -> list[Array]:
    """Segments ``(2, 2)`` across lanes where they begin or end without another lane."""
    ends = []
    for lane in lanes:
        if lane.left is not None and lane.right is not None:
            ends += [(lane.left[0], lane.right[0])] * (not lane.predecessors)
            ends += [(lane.left[-1], lane.right[-1])] * (not lane.successors)
    across = np.array(ends).reshape(-1, 2, 3)[..., :2]
    width = np.linalg.norm(across[:, 1] - across[:, 0], axis=1)
    across, width = across[width > 4 * ACROSS_M], width[width > 4 * ACROSS_M]
    # They stop half as far again from the lane's sides, so that kerbs there stay whole.
    step = (across[:, 1] - across[:, 0]) / width[:, None] * (1.5 * ACROSS_M)
    return list(np.stack([across[:, 0] + step, across[:, 1] - step], axis=1))
