"""The order in which boxes are painted so that nearer ones hide what is behind them."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from omniloop.core.geometry import Array

Index = NDArray[np.intp]


def paint_order(
    frame: NDArray[np.int64],
    camera_in_box: Array,
    halves_m: Array,
    corners_in_camera: Array,
    axes_in_camera: Array,
    extents_px: Array,
) -> list[int]:
    """Sort boxes from back to front.

    Two boxes whose images overlap are compared by a face that separates them: the box on
    the camera's side of that face is in front. Distances decide between all others. Unlike
    sorting by distance alone, this is right for a long truck beside a pedestrian.

    Args:
        frame: ``(N,)`` only boxes of the same frame are compared.
        camera_in_box: ``(N, 3)`` the camera in each box's axes.
        halves_m: ``(N, 3)``.
        corners_in_camera: ``(3, N, 8)``.
        axes_in_camera: ``(N, 3, 3)`` columns are the box's axes.
        extents_px: ``(N, 4)`` left, top, right and bottom of the images.

    Returns:
        Indices, the first to be painted first.
    """
    gap = np.maximum(np.abs(camera_in_box) - halves_m, 0.0)
    range2 = gap[:, 0] ** 2 + gap[:, 1] ** 2 + gap[:, 2] ** 2
    order = np.lexsort((-range2, frame))
    rank = np.empty(len(frame), dtype=np.intp)
    rank[order] = np.arange(len(frame))
    first, second = _overlapping(frame, order, extents_px)
    if not len(first):
        return [int(i) for i in order]
    both = _other_in_front(
        np.concatenate([first, second]), np.concatenate([second, first]),
        camera_in_box, halves_m, corners_in_camera, axes_in_camera,
    )  # fmt: skip
    verdict, reverse = both[: len(first)], both[len(first) :]
    verdict = np.where(verdict != 0, verdict, -reverse)
    verdict = np.where(verdict != 0, verdict, np.where(rank[second] > rank[first], 1, -1))
    behind = np.where(verdict > 0, first, second)
    front = np.where(verdict > 0, second, first)
    return sorted_by_constraints(rank, behind, front)


def _overlapping(frame: NDArray[np.int64], order: Index, extents_px: Array) -> tuple[Index, Index]:
    """Pairs of boxes of one frame whose images' bounding boxes overlap."""
    starts = np.flatnonzero(np.diff(frame[order], prepend=-1)).tolist()
    pairs: list[tuple[Index, Index]] = []
    for a, b in zip(starts, [*starts[1:], len(order)], strict=True):
        group = np.sort(order[a:b])
        left, top, right, bottom = extents_px[group].T
        meet = (left[:, None] <= right) & (top[:, None] <= bottom)
        first, second = np.nonzero(np.triu(meet & meet.T, 1))
        pairs.append((group[first], group[second]))
    return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])


def _other_in_front(
    box: Index, other: Index, camera_in_box: Array, halves_m: Array, corners: Array, axes: Array
) -> NDArray[np.int64]:
    """1 where a face of `box` shows that `other` is in front of it, -1 behind, 0 unknown."""
    # A corner in the box's axes is the camera's place there plus its offset from the camera.
    camera, half = camera_in_box[box], halves_m[box]
    turn = axes[box]
    x, y, z = (np.ascontiguousarray(corners[i, other].T) for i in range(3))
    front = np.zeros(len(box), dtype=bool)
    behind = np.zeros(len(box), dtype=bool)
    for k in range(3):
        place = turn[:, 0, k] * x + turn[:, 1, k] * y + turn[:, 2, k] * z + camera[:, k]
        above = place.min(axis=0) > half[:, k] - _SLACK_M
        below = place.max(axis=0) < _SLACK_M - half[:, k]
        front |= (above & (camera[:, k] > half[:, k])) | (below & (camera[:, k] < -half[:, k]))
        behind |= (above & (camera[:, k] <= half[:, k])) | (below & (camera[:, k] >= -half[:, k]))
    # Faces that say both show that neither hides the other.
    return front.astype(np.int64) - behind.astype(np.int64)


_SLACK_M = 1e-6


def sorted_by_constraints(rank: Index, behind: Index, front: Index) -> list[int]:
    """Topological order of numbers 0 .. N-1; ties go by rank, and so do cycles.

    Args:
        rank: ``(N,)`` distinct, lowest first.
        behind, front: ``(P,)`` pairs; the first of a pair comes before the second.
    """
    n = len(rank)
    waits = np.bincount(front, minlength=n).tolist()
    followers: list[list[int]] = [[] for _ in range(n)]
    for b, f in zip(behind.tolist(), front.tolist(), strict=True):
        followers[b].append(f)
    ranks = rank.tolist()
    ready = [(ranks[i], i) for i in range(n) if waits[i] == 0]
    heapq.heapify(ready)
    done = [False] * n
    order: list[int] = []
    while len(order) < n:
        if ready:
            _, i = heapq.heappop(ready)
        else:
            i = min((k for k in range(n) if not done[k]), key=ranks.__getitem__)
        if done[i]:
            continue
        done[i] = True
        order.append(i)
        for f in followers[i]:
            waits[f] -= 1
            if waits[f] == 0:
                heapq.heappush(ready, (ranks[f], f))
    return order
