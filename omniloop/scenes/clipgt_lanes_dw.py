"""Lanes in the newer ClipGT tables ``dw_lane`` and ``lane_chunk`` (alpasim.md 6.3).

They are lanes as a car saw them at each instant, so a road is there many times over. Like
AlpaSim's reader this one takes every 20th instant (2 s at 10 Hz) and keeps the lanes of
each apart: lane 7 of the 20th instant is ``7_20``, and is followed by lanes of that instant.
"""

from __future__ import annotations

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.scene import Lane
from omniloop.scenes.build import without_repeats
from omniloop.scenes.clipgt_tables import TableReader

EVERY = 20
_EGO, _LEFT, _RIGHT = 1.0, 2.0, 3.0
"""Values of ``dw_lane.position``."""


def read_dw_lanes(
    lanes: TableReader, chunks: TableReader
) -> tuple[tuple[Lane, ...], tuple[str, ...]]:
    """Read lanes, each joined from its chunks.

    Args:
        lanes: Table ``dw_lane``: ``currentId``, ``position``, ``chunkIndices`` (rows of
            ``lane_chunk`` of the same instant) and ``lgwm_lane_continuation_array`` (rows
            of ``dw_lane`` of the same instant).
        chunks: Table ``lane_chunk``: ``center``, ``left`` and ``right``, each a list of points.

    Returns:
        The lanes, and one line about what was left out.

    Raises:
        SceneError: a column is missing, or of another type.
    """
    stamps, chunk_stamps = lanes.times(), chunks.times()
    ids, positions = lanes.texts("currentId"), lanes.numbers("position")
    after = lanes.number_lists("lgwm_lane_continuation_array")
    parts = lanes.number_lists("chunkIndices")
    sides = [chunks.polylines(side) for side in ("center", "left", "right")]
    found: list[Lane] = []
    seen = 0
    for frame, stamp in enumerate(np.unique(stamps).tolist()):
        if frame % EVERY:
            continue
        rows = np.flatnonzero(stamps == stamp).tolist()
        own = np.flatnonzero(chunk_stamps == stamp).tolist()
        names = [f"{ids[row]}_{frame}" for row in rows]
        beside = {
            position: next((n for n, r in zip(names, rows, strict=True) if positions[r] == position), None)
            for position in (_LEFT, _RIGHT)
        }  # fmt: skip
        seen += len(rows)
        for name, row in zip(names, rows, strict=True):
            center, left, right = (
                _joined([side[own[i]] for i in parts[row] if 0 <= i < len(own)]) for side in sides
            )
            if len(center) < 2 or len(left) < 2 or len(right) < 2:
                continue
            ego = positions[row] == _EGO
            found.append(
                Lane(
                    name, center, left=left, right=right,
                    successors=tuple(names[i] for i in after[row] if 0 <= i < len(names)),
                    left_lane=beside[_LEFT] if ego else None,
                    right_lane=beside[_RIGHT] if ego else None,
                )
            )  # fmt: skip
    notes = []
    if seen > len(found):
        notes.append(
            f"table dw_lane: {seen - len(found)} of {seen} lanes left out: fewer than 2 points,"
            " or points that are not finite"
        )
    return _unique(found), tuple(notes)


def _joined(parts: list[Array]) -> Array:
    points = np.concatenate([np.zeros((0, 3)), *parts])
    return without_repeats(points) if np.isfinite(points).all() else np.zeros((0, 3))


def _unique(lanes: list[Lane]) -> tuple[Lane, ...]:
    """The first lane of each id."""
    return tuple({lane.id: lane for lane in reversed(lanes)}.values())[::-1]
