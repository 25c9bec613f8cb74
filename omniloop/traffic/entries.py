"""Who appears and who leaves: as recorded, unless the place is taken."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask

_ROOM_M = 0.5
"""A place is taken when a box that much longer and wider overlaps it."""


def place_taken(
    box: Array, size_m: Array, others: Array, other_sizes_m: Array, room_m: float = _ROOM_M
) -> bool:
    """Whether a box ``(7,)`` with some room around it overlaps one of N others ``(N, 7)``.

    Rectangles are apart if and only if they are apart along an edge normal of one of them
    (separating axis theorem).
    """
    if len(others) == 0:
        return False
    yaw, other_yaw = geometry.yaw_rad(box), geometry.yaw_rad(others)
    dx, dy = others[:, 0] - box[0], others[:, 1] - box[1]
    c, s = np.abs(np.cos(other_yaw - yaw)), np.abs(np.sin(other_yaw - yaw))
    (half_l, half_w), (other_l, other_w) = (size_m[:2] + room_m) / 2, (other_sizes_m[:, :2] / 2).T
    apart = np.abs(dx * np.cos(yaw) + dy * np.sin(yaw)) > half_l + other_l * c + other_w * s
    apart |= np.abs(dy * np.cos(yaw) - dx * np.sin(yaw)) > half_w + other_w * c + other_l * s
    cos, sin = np.cos(other_yaw), np.sin(other_yaw)
    apart |= np.abs(dx * cos + dy * sin) > other_l + half_l * c + half_w * s
    apart |= np.abs(dy * cos - dx * sin) > other_w + half_w * c + half_l * s
    return bool((~apart).any())


def first_taken(
    candidates: np.ndarray, boxes: Array, there: Mask, poses: Array, sizes_m: Array, ego: Array | None,
    ego_size_m: Array,
) -> Mask:  # fmt: skip
    """Which of N candidates find their place taken, looked at one after another.

    Args:
        candidates: ``(N,)`` actors.
        boxes: ``(N, 7)`` where they would appear.
        there: ``(A,)`` whose boxes count; those admitted count for the ones after them.
        poses: ``(A, 7)`` of all actors.
        ego: ``(7,)`` ego's box if it counts.
    """
    taken = np.zeros(len(candidates), dtype=bool)
    others = [poses[there]]
    sizes = [sizes_m[there]]
    if ego is not None:
        others.append(ego[None])
        sizes.append(ego_size_m[None])
    for n, who in enumerate(candidates.tolist()):
        taken[n] = place_taken(boxes[n], sizes_m[who], np.vstack(others), np.vstack(sizes))
    return taken
