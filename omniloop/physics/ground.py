"""Setting boxes on the ground."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import GroundRequest, GroundResult, GroundStatus, SessionInfo
from omniloop.core.errors import ConfigError, SceneError
from omniloop.core.geometry import Array
from omniloop.core.scene import HeightRaster, Scene

MAX_SHIFT_M = 1.5
MAX_TILT_RAD = np.deg2rad(10.0)
"""A larger correction leaves the pose as it was; AlpaSim's limits."""

_GRID = 4
"""Heights are taken at 4 x 4 points under the box's bottom face, as in AlpaSim."""

_UNIT = np.linspace(-0.5, 0.5, _GRID)
_UNIT_U, _UNIT_V = np.repeat(_UNIT, _GRID), np.tile(_UNIT, _GRID)
_FIT = np.stack([np.ones(_GRID**2), _UNIT_U, _UNIT_V], axis=1) / [
    _GRID**2,
    (_UNIT_U**2).sum(),
    (_UNIT_V**2).sum(),
]
"""Mean and slopes over the unit box from heights at all its points."""

_MIN_POINTS = 3


class FlatGround:
    """A horizontal plane: boxes stand on it upright, at their own place and yaw.

    Args:
        height_m: The plane's height in `local`; None for the ego's first recorded one.
    """

    def __init__(self, height_m: float | None = None) -> None:
        if height_m is not None and not np.isfinite(height_m):
            raise ConfigError(
                f"height_m is {height_m}", where="ground.height_m", remedy="give a finite height"
            )
        self._height_m = height_m

    def open(self, session: SessionInfo) -> FlatSession:
        """Begin a rollout."""
        height = session.scene.ego.poses[0, 2] if self._height_m is None else self._height_m
        return FlatSession(float(height))


class FlatSession:
    """One rollout's plane."""

    def __init__(self, height_m: float) -> None:
        self._height_m = height_m

    def correct(self, request: GroundRequest) -> GroundResult:
        """Set every box upright on the plane."""
        boxes = request.local_to_aabb
        out = geometry.poses_from_xyz_yaw(boxes[:, :3], geometry.yaw_rad(boxes))
        out[:, 2] = self._height_m + request.sizes_m[:, 2] / 2
        return GroundResult(out, _all_updated(len(out)))


class RasterGround:
    """The scene's raster of ground heights.

    A plane is fitted to the bilinear heights under each box's bottom face, and the box is
    set on it with its own place in the plane and its own yaw. The result depends on place,
    yaw and size alone, so that correcting twice changes nothing.
    """

    def check_scene(self, scene: Scene) -> None:
        """Check that a scene has ground heights.

        Raises:
            SceneError: it has none.
        """
        if scene.ground is None:
            raise SceneError(
                "the scene has no raster of ground heights", where=f"scene {scene.id}, ground=raster",
                remedy="use ground=flat, or ground=scene, which leaves poses as planned",
            )  # fmt: skip

    def open(self, session: SessionInfo) -> RasterSession:
        """Begin a rollout.

        Raises:
            SceneError: the scene has no ground heights.
        """
        self.check_scene(session.scene)
        assert session.scene.ground is not None
        return RasterSession(session.scene.ground)


class RasterSession:
    """One rollout's height raster."""

    def __init__(self, raster: HeightRaster) -> None:
        self._raster = raster

    def correct(self, request: GroundRequest) -> GroundResult:
        """Set every box on the plane fitted to the heights under it.

        A box keeps its pose where fewer than three points that span a plane have a
        height (INSUFFICIENT_POINTS_FITPLANE), where its centre would rise or sink by more
        than 1.5 m (HIGH_TRANSLATION), or where it would tilt by more than 10 degrees
        (HIGH_ROTATION).
        """
        boxes, sizes = request.local_to_aabb, request.sizes_m
        centre_m, gradient, fitted = self._planes(boxes, sizes)
        out = _standing(boxes, sizes[:, 2], centre_m, gradient)
        shift_m = np.abs(out[:, 2] - boxes[:, 2])
        # |<q, p>| is the cosine of half the angle between two rotations.
        half_cos = np.abs(np.einsum("ij,ij->i", out[:, 3:], boxes[:, 3:]))
        tilted = half_cos < np.cos(MAX_TILT_RAD / 2)
        status = np.where(tilted, GroundStatus.HIGH_ROTATION.value, 0)
        status[shift_m > MAX_SHIFT_M] = GroundStatus.HIGH_TRANSLATION.value
        status[~fitted] = GroundStatus.INSUFFICIENT_POINTS_FITPLANE.value
        if not status.any():
            return GroundResult(out, status)
        return GroundResult(np.where((status == 0)[:, None], out, boxes), status)

    def _planes(self, boxes: Array, sizes_m: Array) -> tuple[Array, Array, np.ndarray]:
        """Least-squares planes under boxes.

        Returns:
            Height ``(N,)`` at the box centre, gradient ``(N, 2)`` along the box's heading
            and to its left, and whether there were enough points ``(N,)``. Where not, the
            first two are 0.
        """
        yaw = geometry.yaw_rad(boxes)
        u, v = sizes_m[:, 0, None] * _UNIT_U, sizes_m[:, 1, None] * _UNIT_V
        c, s = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
        x = boxes[:, 0, None] + c * u - s * v
        y = boxes[:, 1, None] + s * u + c * v
        heights = sample_heights(self._raster, x, y)
        known = np.isfinite(heights)
        fitted = np.ones(len(boxes), dtype=bool)
        if known.all():
            # The grid is symmetric, so the three parts of the fit do not mix.
            plane = heights @ _FIT
            return plane[:, 0], plane[:, 1:] / sizes_m[:, :2], fitted
        basis = np.stack([np.ones_like(u), u, v], axis=-1) * known[..., None]
        normal = np.einsum("nki,nkj->nij", basis, basis)
        # In units of the box, lest the size decide what counts as degenerate.
        scale = np.stack([np.ones(len(u)), sizes_m[:, 0], sizes_m[:, 1]], axis=1)
        determinant = np.linalg.det(normal / (scale[:, :, None] * scale[:, None, :]))
        fitted = (known.sum(axis=1) >= _MIN_POINTS) & (determinant > 1e-6)
        normal[~fitted] = np.eye(3)
        right = np.einsum("nki,nk->ni", basis, np.where(known, heights, 0.0))
        right[~fitted] = 0.0
        plane = np.linalg.solve(normal, right[..., None])[..., 0]
        return plane[:, 0], plane[:, 1:], fitted


class SceneGround:
    """The scene's height raster where it has one; else poses stay as they are."""

    def open(self, session: SessionInfo) -> RasterSession | AsPlannedSession:
        """Begin a rollout."""
        raster = session.scene.ground
        return AsPlannedSession() if raster is None else RasterSession(raster)


class AsPlannedSession:
    """A rollout without a ground: poses are returned as they came."""

    def correct(self, request: GroundRequest) -> GroundResult:
        """Return the request's own poses."""
        return GroundResult(request.local_to_aabb, _all_updated(len(request.local_to_aabb)))


def sample_heights(raster: HeightRaster, x_m: Array, y_m: Array) -> Array:
    """Bilinear heights at positions of any shape; NaN where unknown or outside.

    A cell that is unknown spoils only positions that it has a part in.
    """
    affine, cells = raster.local_xy_to_cell, raster.heights_m
    column = affine[0, 0] * x_m + affine[0, 1] * y_m + affine[0, 2]
    row = affine[1, 0] * x_m + affine[1, 1] * y_m + affine[1, 2]
    last_row, last_column = cells.shape[0] - 1, cells.shape[1] - 1
    inside = (column >= 0) & (column <= last_column) & (row >= 0) & (row <= last_row)
    if not inside.all():
        column, row = np.where(inside, column, 0.0), np.where(inside, row, 0.0)
    c0, r0 = column.astype(np.int64), row.astype(np.int64)
    fc, fr = column - c0, row - r0
    c1, r1 = np.minimum(c0 + 1, last_column), np.minimum(r0 + 1, last_row)
    low = _blend(cells[r0, c0], cells[r0, c1], fc)
    out = _blend(low, _blend(cells[r1, c0], cells[r1, c1], fc), fr)
    return out if inside.all() else np.where(inside, out, np.nan)


def _blend(a: Array, b: Array, part: Array) -> Array:
    """``a + part (b - a)``, and `a` itself at 0 whatever `b` is."""
    return np.asarray(np.where(part == 0, a, a + part * (b - a)))


def _standing(boxes: Array, heights_m: Array, ground_m: Array, gradient: Array) -> Array:
    """Boxes on planes: same place and yaw, z axis along the plane's normal.

    Args:
        boxes: ``(N, 7)``.
        heights_m: ``(N,)`` of the boxes.
        ground_m: ``(N,)`` plane's height at the boxes' places.
        gradient: ``(N, 2)`` along the boxes' headings and to their left.
    """
    a, b = gradient[:, 0], gradient[:, 1]
    length_x = np.sqrt(1 + a * a)
    length_z = np.sqrt(1 + a * a + b * b)
    # In axes turned by the yaw: x = (1, 0, a), z = (-a, -b, 1), y = z x x, normalised;
    # as a pitch about y, then a roll about the new x.
    half_pitch = -np.arctan(a) / 2
    half_roll = np.arctan2(b, length_x) / 2
    half_yaw = geometry.yaw_rad(boxes) / 2
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


def _all_updated(n: int) -> np.ndarray:
    return np.full(n, GroundStatus.SUCCESSFUL_UPDATE.value)
