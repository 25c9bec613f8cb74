"""Which pieces of a long line may be nearest to points, found without looking at all of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MANY_PAIRS = 1 << 16
"""Up to so many pairs of a point and a segment it is quicker to look at all of them."""

PIECE = 16
"""Segments of a piece."""

_ROUNDING_M = 1e-6


def near_pieces(
    points_xy: NDArray[np.float64], line_xy: NDArray[np.float64], arc_m: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Find pieces of a polyline that may hold the point on it nearest to a point.

    A piece is nowhere nearer than half of what the distances to its two ends together exceed its
    length by (triangle inequality), and the line is at least as near as any of those ends.

    Args:
        points_xy: ``(N, 2)``.
        line_xy: ``(M, 2)``, M >= 2.
        arc_m: ``(M,)`` arc length at its vertices.

    Returns:
        Indices of points ``(P,)``, in order, each point at least once, and of the segments
        ``(P, PIECE)`` of a piece, along the line; the last piece repeats its last segment. None
        if there are few pairs, or most pieces may be nearest.
    """
    segments = len(line_xy) - 1
    if len(points_xy) * segments <= MANY_PAIRS:
        return None
    ends = np.append(np.arange(0, segments, PIECE), segments)
    end_m = np.hypot(points_xy[:, :1] - line_xy[ends, 0], points_xy[:, 1:] - line_xy[ends, 1])
    at_least_m = (end_m[:, :-1] + end_m[:, 1:] - np.diff(arc_m[ends])) / 2
    point, piece = np.nonzero(at_least_m <= end_m.min(axis=1, keepdims=True) + _ROUNDING_M)
    if 4 * len(point) * PIECE > len(points_xy) * segments:
        return None
    return point, np.minimum(piece[:, None] * PIECE + np.arange(PIECE), segments - 1)
