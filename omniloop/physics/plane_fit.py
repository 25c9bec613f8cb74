"""Setting boxes on the plane that fits the ground under them.

After AlpaSim's physics service: heights at 4 x 4 points under a box's bottom face, a least
squares plane through them, and limits beyond which a pose stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import GroundStatus
from omniloop.core.errors import ConfigError
from omniloop.core.geometry import Array

Heights = Callable[[Array, Array], Array]
"""Ground heights ``(N, K, L)`` at places x, y ``(N, K)`` in `local`: up to L surfaces above
each other at each place, in any order; NaN where there are fewer."""

REACH_M = 100.0
"""Ground farther above or below a box's bottom is not seen; AlpaSim's length of rays."""

_GRID = 4
_UNIT = np.linspace(-0.5, 0.5, _GRID)
_UNIT_U, _UNIT_V = np.repeat(_UNIT, _GRID), np.tile(_UNIT, _GRID)
_BASIS = np.stack([np.ones(_GRID**2), _UNIT_U, _UNIT_V], axis=1)
_FIT = _BASIS / (_BASIS**2).sum(axis=0)
"""Mean and slopes over the unit box from heights at all its points: the grid is symmetric,
so the three parts of the fit do not mix."""

_PRODUCTS = (_BASIS[:, :, None] * _BASIS[:, None, :]).reshape(-1, 9)
_MIN_POINTS = 3
_LEAST_DETERMINANT = 1e-6
"""Of three points of the grid that are no line it is at least 0.01; of a line 0."""

_LEAST_SIDE_M = 1e-3
_LEAST_COS = 0.1
_MAX_PASSES = 32


@dataclass(frozen=True)
class Limits:
    """How much a pose may be corrected; the defaults are AlpaSim's.

    Attributes:
        max_shift_m: Of the box's centre, up or down.
        max_tilt_deg: Angle of the rotation from the old attitude to the new.

    Raises:
        ConfigError: a value is no number or out of range.
    """

    max_shift_m: float = 1.5
    max_tilt_deg: float = 10.0

    def __post_init__(self) -> None:
        for name, value, high in (
            ("max_shift_m", self.max_shift_m, REACH_M), ("max_tilt_deg", self.max_tilt_deg, 80.0),
        ):  # fmt: skip
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value <= high:
                raise ConfigError(
                    f"{name} is {value!r}", where=f"ground.{name}={value!r}",
                    remedy=f"give a number above 0 and up to {high:g}",
                )  # fmt: skip


def set_on_ground(
    heights: Heights, boxes: Array, sizes_m: Array, limits: Limits
) -> tuple[Array, np.ndarray]:
    """Set boxes on the planes fitted to the ground under them.

    A box keeps its place x, y and its yaw. Of surfaces above each other the one nearest to
    the box's bottom face counts, and where that is farther off than `max_shift_m` none. The
    bottom face then lies in the plane, and the surfaces are chosen again, until the
    choice is the same: a box that has been set is set the same way again. (Each pass
    lowers the sum of squared gaps, capped at the limit, so that there is an end to them.)

    Args:
        heights: The ground.
        boxes: ``(N, 7)`` centres, ``local_to_aabb``.
        sizes_m: ``(N, 3)``.
        limits: Larger corrections are not made.

    Returns:
        Poses ``(N, 7)`` and `GroundStatus` values ``(N,)``. A box keeps its pose where there
        is no ground under three points that span a plane (INSUFFICIENT_POINTS_FITPLANE), where
        it would rise or sink by more than `max_shift_m` (HIGH_TRANSLATION), or turn by more than
        `max_tilt_deg` (HIGH_ROTATION).
    """
    sides_m = np.maximum(sizes_m[:, :2], _LEAST_SIDE_M)
    yaw = geometry.yaw_rad(boxes)
    c, s = np.cos(yaw), np.sin(yaw)
    u, v = sides_m[:, 0, None] * _UNIT_U, sides_m[:, 1, None] * _UNIT_V
    x = boxes[:, 0, None] + c[:, None] * u - s[:, None] * v
    y = boxes[:, 1, None] + s[:, None] * u + c[:, None] * v
    bottoms = _bottom_planes(boxes, sizes_m[:, 2], sides_m, c, s)
    planes, fitted, seen = _planes(heights(x, y), bottoms, limits.max_shift_m)
    out = _standing(boxes, sizes_m[:, 2], planes[:, 0], planes[:, 1:] / sides_m, yaw)
    shift_m = np.abs(out[:, 2] - boxes[:, 2])
    # |<q, p>| is the cosine of half the angle between two rotations.
    half_cos = np.abs(np.einsum("ij,ij->i", out[:, 3:], boxes[:, 3:]))
    tilted = half_cos < np.cos(np.deg2rad(limits.max_tilt_deg) / 2)
    status = np.where(tilted, GroundStatus.HIGH_ROTATION.value, 0)
    status[shift_m > limits.max_shift_m] = GroundStatus.HIGH_TRANSLATION.value
    status[~fitted & seen] = GroundStatus.HIGH_TRANSLATION.value
    status[~fitted & ~seen] = GroundStatus.INSUFFICIENT_POINTS_FITPLANE.value
    return (np.where((status == 0)[:, None], out, boxes) if status.any() else out), status


def _bottom_planes(boxes: Array, heights_m: Array, sides_m: Array, c: Array, s: Array) -> Array:
    """Planes of the boxes' bottom faces, as `_fit` returns them."""
    x, y, z, w = (boxes[:, i] for i in range(3, 7))
    # The box's z axis; a box on its side has no bottom to speak of.
    up_x, up_y = 2 * (x * z + w * y), 2 * (y * z - w * x)
    up_z = np.maximum(1 - 2 * (x * x + y * y), _LEAST_COS)
    out = np.empty((len(boxes), 3))
    out[:, 0] = boxes[:, 2] - heights_m / 2 / up_z
    out[:, 1] = -(up_x * c + up_y * s) / up_z * sides_m[:, 0]
    out[:, 2] = -(up_y * c - up_x * s) / up_z * sides_m[:, 1]
    return out


def _planes(layers: Array, bottoms: Array, limit_m: float) -> tuple[Array, np.ndarray, np.ndarray]:
    """Fit planes to the surfaces that are nearest to them.

    Args:
        layers: ``(N, 16, L)`` heights.
        bottoms: ``(N, 3)`` planes to begin with.
        limit_m: Heights farther than this from the plane do not count.

    Returns:
        Planes ``(N, 3)``; whether there were enough points ``(N,)``, where not the plane
        means nothing; and whether there would have been without the limit ``(N,)``.
    """
    planes, before = bottoms, None
    for _ in range(_MAX_PASSES):
        chosen_m, choice = _nearest(layers, planes @ _BASIS.T, limit_m)
        if before is not None and np.array_equal(choice, before):
            break
        fits, fitted = _fit(chosen_m)
        planes = fits if fitted.all() else np.where(fitted[:, None], fits, planes)
        before = choice
    if fitted.all():
        return planes, fitted, fitted
    return planes, fitted, _fit(_nearest(layers, bottoms @ _BASIS.T, REACH_M)[0])[1]


def _nearest(layers: Array, reference_m: Array, limit_m: float) -> tuple[Array, np.ndarray]:
    """Heights ``(N, 16)`` nearest to the reference, NaN where beyond the limit; which they are."""
    if layers.shape[2] == 1:
        heights = layers[:, :, 0]
        near = np.abs(heights - reference_m) <= limit_m
        return heights if near.all() else np.where(near, heights, np.nan), near
    gaps = np.abs(layers - reference_m[:, :, None])
    best = np.where(np.isnan(gaps), np.inf, gaps).argmin(axis=2)[:, :, None]
    heights, gap = (np.take_along_axis(a, best, axis=2)[:, :, 0] for a in (layers, gaps))
    near = gap <= limit_m
    return np.where(near, heights, np.nan), np.where(near, best[:, :, 0], -1)


def _fit(heights: Array) -> tuple[Array, np.ndarray]:
    """Least squares planes through heights ``(N, 16)``, NaN where there is none.

    Returns:
        ``(N, 3)`` height at the box's place and rise over its length and its width, and
        whether three points that span a plane have a height ``(N,)``.
    """
    planes: Array = heights @ _FIT
    fitted = np.ones(len(heights), dtype=bool)
    some = np.isnan(planes[:, 0]).nonzero()[0]
    if not len(some):
        return planes, fitted
    known = ~np.isnan(heights[some])
    normal = (known @ _PRODUCTS).reshape(-1, 3, 3)
    enough = (known.sum(axis=1) >= _MIN_POINTS) & (np.linalg.det(normal) > _LEAST_DETERMINANT)
    right = np.where(known, heights[some], 0.0) @ _BASIS
    normal[~enough], right[~enough] = np.eye(3), 0.0
    planes[some] = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
    fitted[some] = enough
    return planes, fitted


def _standing(
    boxes: Array, heights_m: Array, ground_m: Array, gradient: Array, yaw_rad: Array
) -> Array:
    """Boxes on planes: same place and yaw, z axis along the plane's normal.

    Args:
        boxes: ``(N, 7)``.
        heights_m: ``(N,)`` of the boxes.
        ground_m: ``(N,)`` plane's height at the boxes' places.
        gradient: ``(N, 2)`` along the boxes' headings and to their left.
        yaw_rad: ``(N,)`` of the boxes.
    """
    a, b = gradient[:, 0], gradient[:, 1]
    length_x = np.sqrt(1 + a * a)
    length_z = np.sqrt(1 + a * a + b * b)
    # In axes turned by the yaw: x = (1, 0, a), z = (-a, -b, 1), y = z x x, normalised;
    # as a pitch about y, then a roll about the new x.
    half_pitch = -np.arctan(a) / 2
    half_roll = np.arctan2(b, length_x) / 2
    half_yaw = yaw_rad / 2
    cy, sy = np.cos(half_yaw), np.sin(half_yaw)
    cp, sp = np.cos(half_pitch), np.sin(half_pitch)
    cr, sr = np.cos(half_roll), np.sin(half_roll)
    out = boxes.copy()
    # The bottom face's centre lies below the box centre along the normal, on the plane.
    out[:, 2] = ground_m + heights_m / 2 * length_z
    out[:, 3] = cy * cp * sr - sy * sp * cr
    out[:, 4] = cy * sp * cr + sy * cp * sr
    out[:, 5] = sy * cp * cr - cy * sp * sr
    out[:, 6] = cy * cp * cr + sy * sp * sr
    return out
