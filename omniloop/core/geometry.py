"""Rigid poses as float64 arrays; the one geometry module.

A pose is ``[x, y, z, qx, qy, qz, qw]``: a position in metres and a unit quaternion in
scipy's order. ``a_to_b`` is the pose of frame `b` expressed in frame `a`, so it maps
coordinates in `b` to coordinates in `a`, and ``local_to_camera = compose(local_to_rig,
rig_to_camera)``. All functions broadcast over leading axes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omniloop.core.line_pieces import near_pieces

Array = NDArray[np.float64]

IDENTITY: Array = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
IDENTITY.setflags(write=False)

_CONJUGATE: Array = np.array([-1.0, -1.0, -1.0, 1.0])


def pose(x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw_rad: float = 0.0) -> Array:
    """Return one pose ``(7,)`` from a position and a yaw about +z."""
    return np.array([x, y, z, 0.0, 0.0, np.sin(yaw_rad / 2), np.cos(yaw_rad / 2)])


def poses_from_xyz_yaw(xyz_m: ArrayLike, yaw_rad: ArrayLike) -> Array:
    """Return poses ``(..., 7)`` from positions ``(..., 3)`` and yaws ``(...)``."""
    xyz = np.asarray(xyz_m, dtype=np.float64)
    half = np.asarray(yaw_rad, dtype=np.float64) / 2
    out = np.zeros((*np.broadcast_shapes(xyz.shape[:-1], half.shape), 7))
    out[..., :3] = xyz
    out[..., 5] = np.sin(half)
    out[..., 6] = np.cos(half)
    return out


def normalise(poses: ArrayLike) -> Array:
    """Return a copy with unit quaternions; ``(..., 7)`` to ``(..., 7)``."""
    out = np.array(poses, dtype=np.float64)
    out[..., 3:] /= np.linalg.norm(out[..., 3:], axis=-1, keepdims=True)
    return out


_FEW = 3
"""Up to so many rows Python's floats are quicker than numpy; the results are the same bits."""


def _few_rows(a: Array, b: Array) -> tuple[list[list[float]], list[list[float]]] | None:
    """Rows of two arrays that broadcast, if both have few; else None."""
    if (
        a.ndim > 2
        or b.ndim > 2
        or (a.ndim == 2 and len(a) > _FEW)
        or (b.ndim == 2 and len(b) > _FEW)
    ):
        return None
    rows_a: list[list[float]] = a.tolist() if a.ndim == 2 else [a.tolist()]
    rows_b: list[list[float]] = b.tolist() if b.ndim == 2 else [b.tolist()]
    if len(rows_a) != len(rows_b):
        if len(rows_a) == 1:
            rows_a *= len(rows_b)
        elif len(rows_b) == 1:
            rows_b *= len(rows_a)
        else:
            return None  # numpy says what is wrong
    return (rows_a, rows_b) if rows_a and rows_b else None


def quat_multiply(a: Array, b: Array) -> Array:
    """Hamilton product of quaternions ``(..., 4)`` in x, y, z, w order."""
    few = _few_rows(a, b)
    if few is not None:
        rows = [_multiplied(*p, *q) for p, q in zip(*few, strict=True)]
        return np.array(rows if a.ndim == 2 or b.ndim == 2 else rows[0], dtype=np.float64)
    ax, ay, az, aw = a[..., 0], a[..., 1], a[..., 2], a[..., 3]
    bx, by, bz, bw = b[..., 0], b[..., 1], b[..., 2], b[..., 3]
    out = np.empty(np.broadcast_shapes(a.shape, b.shape))
    out[..., 0], out[..., 1], out[..., 2], out[..., 3] = _multiplied(ax, ay, az, aw, bx, by, bz, bw)
    return out


def _multiplied(
    ax: Any, ay: Any, az: Any, aw: Any, bx: Any, by: Any, bz: Any, bw: Any
) -> tuple[Any, Any, Any, Any]:
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def rotate(quat: Array, vectors: ArrayLike) -> Array:
    """Rotate vectors ``(..., 3)`` by quaternions ``(..., 4)``."""
    v = np.asarray(vectors, dtype=np.float64)
    few = _few_rows(quat, v)
    if few is not None:
        rows = [_rotated(*q, *p) for q, p in zip(*few, strict=True)]
        return np.array(rows if quat.ndim == 2 or v.ndim == 2 else rows[0], dtype=np.float64)
    ux, uy, uz, w = quat[..., 0], quat[..., 1], quat[..., 2], quat[..., 3]
    out = np.empty((*np.broadcast_shapes(quat.shape[:-1], v.shape[:-1]), 3))
    rotated = _rotated(ux, uy, uz, w, v[..., 0], v[..., 1], v[..., 2])
    out[..., 0], out[..., 1], out[..., 2] = rotated
    return out


def _rotated(ux: Any, uy: Any, uz: Any, w: Any, vx: Any, vy: Any, vz: Any) -> tuple[Any, Any, Any]:
    # t = 2 u x v; the result is v + w t + u x t.
    tx, ty, tz = 2.0 * (uy * vz - uz * vy), 2.0 * (uz * vx - ux * vz), 2.0 * (ux * vy - uy * vx)
    return (
        vx + w * tx + (uy * tz - uz * ty),
        vy + w * ty + (uz * tx - ux * tz),
        vz + w * tz + (ux * ty - uy * tx),
    )


def rotation_vectors(quat: Array) -> Array:
    """Axis times angle [rad] ``(..., 3)`` of unit quaternions ``(..., 4)``.

    The angle lies in [0, pi]; a quaternion and its negative give the same.
    """
    v, w = quat[..., :3], quat[..., 3:]
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    turned = length > 1e-9  # below, the ratio of angle to length is 2 to 1e-18
    angle = 2.0 * np.arctan2(length, np.abs(w))
    ratio = np.where(turned, angle / np.where(turned, length, 1.0), 2.0)
    return np.asarray(v * np.copysign(ratio, w))


def compose(a_to_b: Array, b_to_c: Array) -> Array:
    """Return ``a_to_c``; shapes ``(..., 7)`` broadcast."""
    out = np.empty(np.broadcast_shapes(a_to_b.shape, b_to_c.shape))
    out[..., :3] = a_to_b[..., :3] + rotate(a_to_b[..., 3:], b_to_c[..., :3])
    out[..., 3:] = quat_multiply(a_to_b[..., 3:], b_to_c[..., 3:])
    return out


def shift_body(local_to_body: Array, offset_body_m: Array) -> Array:
    """Poses ``(..., 7)`` of the point at `offset_body_m` ``(3,)`` of a body, axes unchanged.

    The same as `compose` with a pose that does not rotate, at a third of its cost.
    """
    out = np.array(local_to_body, dtype=np.float64)
    out[..., :3] += rotate(local_to_body[..., 3:], offset_body_m)
    return out


def conjugate(quat: Array) -> Array:
    """Inverse rotations: conjugates of unit quaternions ``(..., 4)``."""
    return np.asarray(quat * _CONJUGATE)


def inverse(a_to_b: Array) -> Array:
    """Return ``b_to_a``; shape ``(..., 7)``."""
    out = np.empty(a_to_b.shape)
    out[..., 3:] = conjugate(a_to_b[..., 3:])
    out[..., :3] = rotate(out[..., 3:], -a_to_b[..., :3])
    return out


def transform_points(a_to_b: Array, points_b: ArrayLike) -> Array:
    """Map points ``(..., 3)`` from frame `b` to frame `a`; one pose or one per point."""
    return np.asarray(a_to_b[..., :3] + rotate(a_to_b[..., 3:], points_b))


def matrix_from_pose(poses: Array) -> Array:
    """Return homogeneous matrices ``(..., 4, 4)``."""
    x, y, z, w = (poses[..., i] for i in range(3, 7))
    out = np.zeros((*poses.shape[:-1], 4, 4))
    out[..., 0, 0] = 1 - 2 * (y * y + z * z)
    out[..., 0, 1] = 2 * (x * y - z * w)
    out[..., 0, 2] = 2 * (x * z + y * w)
    out[..., 1, 0] = 2 * (x * y + z * w)
    out[..., 1, 1] = 1 - 2 * (x * x + z * z)
    out[..., 1, 2] = 2 * (y * z - x * w)
    out[..., 2, 0] = 2 * (x * z - y * w)
    out[..., 2, 1] = 2 * (y * z + x * w)
    out[..., 2, 2] = 1 - 2 * (x * x + y * y)
    out[..., :3, 3] = poses[..., :3]
    out[..., 3, 3] = 1.0
    return out


def pose_from_matrix(matrices: ArrayLike) -> Array:
    """Return poses ``(..., 7)`` from homogeneous or 3x4 matrices."""
    from scipy.spatial.transform import Rotation

    m = np.asarray(matrices, dtype=np.float64)
    flat = m.reshape(-1, *m.shape[-2:])
    out = np.empty((len(flat), 7))
    out[:, :3] = flat[:, :3, 3]
    out[:, 3:] = Rotation.from_matrix(flat[:, :3, :3]).as_quat()
    return out.reshape(*m.shape[:-2], 7)


def yaw_rad(poses: Array) -> Array:
    """Return the heading of the x axis in the xy plane, in (-pi, pi]."""
    x, y, z, w = (poses[..., i] for i in range(3, 7))
    return np.asarray(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))


def wrap_rad(angle_rad: ArrayLike) -> Array:
    """Wrap angles into [-pi, pi), up to the rounding of its ends."""
    return np.asarray((np.asarray(angle_rad) + np.pi) % (2 * np.pi) - np.pi)


_COS_LEAST = float(np.cos(1e-4))


def slerp(q0: Array, q1: Array, alpha: ArrayLike) -> Array:
    """Spherical interpolation along the shorter arc; ``(..., 4)``, alpha ``(...)`` in [0, 1].

    At alpha 0 and 1 the ends come back exactly, each with its own sign. Elsewhere the
    result is normalised, and right to 1e-13 rad for ends however close or far.
    """
    return _over_rows(slerp_rows, q0, q1, alpha)


def interpolate_poses(a: Array, b: Array, alpha: ArrayLike) -> Array:
    """Blend poses ``(..., 7)``: positions linearly, rotations by `slerp`.

    At alpha 0 and 1 the ends come back exactly.
    """
    return _over_rows(blend_rows, a, b, alpha)


def blend_rows(a: Array, b: Array, alpha: Array) -> Array:
    """`interpolate_poses` of component rows ``(7, ...)``, the layout in which it is quick."""
    out = np.empty(a.shape)
    np.subtract(b[:3], a[:3], out=out[:3])
    out[:3] *= alpha
    out[:3] += a[:3]
    _slerp_inside(a[3:], b[3:], alpha, out=out[3:])
    _put_ends(out, a, b, alpha)
    return out


def slerp_rows(q0: Array, q1: Array, alpha: Array) -> Array:
    """`slerp` of component rows ``(4, ...)``."""
    out = _slerp_inside(q0, q1, alpha, out=np.empty(q0.shape))
    _put_ends(out, q0, q1, alpha)
    return out


def _over_rows(
    blend: Callable[[Array, Array, Array], Array], a: Array, b: Array, alpha: ArrayLike
) -> Array:
    """Call a function of component rows with arrays that hold components last."""
    fraction = np.asarray(alpha, dtype=np.float64)
    if not a.shape[:-1] == b.shape[:-1] == fraction.shape:
        shape = np.broadcast_shapes(a.shape[:-1], b.shape[:-1], fraction.shape)
        a, b = (np.broadcast_to(x, (*shape, x.shape[-1])) for x in (a, b))
        fraction = np.broadcast_to(fraction, shape)
    axes = range(fraction.ndim)
    rows_a, rows_b = (x.transpose(fraction.ndim, *axes) for x in (a, b))
    out = blend(rows_a, rows_b, fraction)
    return np.ascontiguousarray(out.transpose(*(i + 1 for i in axes), 0))


def _slerp_inside(q0: Array, q1: Array, alpha: Array, out: Array) -> Array:
    # The weights need only their ratio, since the result is normalised. Quaternions
    # closer than 1e-4 rad get the weights of that angle: in their ratio it is off by
    # 2e-9, in the result by 4e-14 rad, and arccos is never asked where it is inexact.
    dot = _sum_rows(q0 * q1)
    theta = np.arccos(np.minimum(np.abs(dot), _COS_LEAST))
    part = alpha * theta
    np.multiply(np.sin(theta - part), q0, out=out)
    out += np.copysign(np.sin(part), dot) * q1
    out /= np.sqrt(_sum_rows(out * out))
    return out


def _sum_rows(rows: Array) -> Array:
    """Sum over a short first axis, term by term: the bits do not depend on the layout."""
    out = rows[0] + rows[1]
    for row in rows[2:]:
        out += row
    return np.asarray(out)


def _put_ends(out: Array, start: Array, end: Array, alpha: Array) -> None:
    """Put the ends themselves where alpha is 0 or 1."""
    for value, source in ((0.0, start), (1.0, end)):
        at = alpha == value
        if np.count_nonzero(at):  # on short arrays a fifth of the time of any()
            np.copyto(out, source, where=at)


def box_corners_xy(poses: Array, sizes_m: Array) -> Array:
    """Footprint corners of boxes in the plane.

    Args:
        poses: ``(..., 7)`` poses of box centres.
        sizes_m: ``(..., 3)`` length, width, height.

    Returns:
        ``(..., 4, 2)``: front left, rear left, rear right, front right (counter-clockwise).
    """
    yaw = yaw_rad(poses)
    c, s = np.cos(yaw), np.sin(yaw)
    half = sizes_m[..., :2] / 2
    sx = np.array([1.0, -1.0, -1.0, 1.0])
    sy = np.array([1.0, 1.0, -1.0, -1.0])
    dx = half[..., 0:1] * sx
    dy = half[..., 1:2] * sy
    out = np.empty((*np.broadcast_shapes(yaw.shape, half.shape[:-1]), 4, 2))
    out[..., 0] = poses[..., 0:1] + c[..., None] * dx - s[..., None] * dy
    out[..., 1] = poses[..., 1:2] + s[..., None] * dx + c[..., None] * dy
    return out


def arc_length_m(points: Array) -> Array:
    """Cumulative length ``(N,)`` along a polyline ``(N, 2 or 3)``, from 0."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def project_on_polyline(points_xy: Array, polyline_xy: Array) -> tuple[Array, Array]:
    """Project points on a polyline in the plane.

    Args:
        points_xy: ``(N, 2)``.
        polyline_xy: ``(M, 2)`` with M >= 1.

    Returns:
        ``(s_m, distance_m)``, each ``(N,)``: arc length of the nearest point (the
        smallest on a tie) and the distance to it.
    """
    points = np.asarray(points_xy, dtype=np.float64).reshape(-1, 2)
    line = np.asarray(polyline_xy, dtype=np.float64)[:, :2]
    if len(line) == 1:
        return np.zeros(len(points)), np.linalg.norm(points - line[0], axis=1)
    start, step = line[:-1], np.diff(line, axis=0)
    length2 = np.maximum(np.sum(step * step, axis=1), 1e-30)
    arc_m, rows = arc_length_m(line), np.arange(len(points))
    near = near_pieces(points, line, arc_m)
    if near is None:
        t, gap2 = _on_segments(
            points[:, :1] - start[:, 0], points[:, 1:] - start[:, 1], step[:, 0], step[:, 1], length2
        )  # fmt: skip
        segment = np.argmin(gap2, axis=1)
        t, gap2 = t[rows, segment], gap2[rows, segment]
    else:
        row, segments = near
        rel, along = points[row, None] - start[segments], step[segments]
        t, gap2 = _on_segments(
            rel[..., 0], rel[..., 1], along[..., 0], along[..., 1], length2[segments]
        )
        pair, at = np.arange(len(row)), np.argmin(gap2, axis=1)
        segment, t, gap2 = segments[pair, at], t[pair, at], gap2[pair, at]
        # Pairs are by point, then along the line: of equal gaps the first counts.
        least = np.minimum.reduceat(gap2, np.searchsorted(row, rows))
        best = np.flatnonzero(gap2 == least[row])
        best = best[np.searchsorted(row[best], rows)]
        segment, t, gap2 = segment[best], t[best], gap2[best]
    return arc_m[segment] + t * np.sqrt(length2[segment]), np.sqrt(gap2)


def _on_segments(
    rel_x: Array, rel_y: Array, step_x: Array, step_y: Array, length2: Array
) -> tuple[Array, Array]:
    """How far along segments points lie (0 to 1), and their squared distances.

    Args:
        rel_x, rel_y: From the segments' starts to the points; overwritten.
        step_x, step_y, length2: Of the segments; all broadcast.
    """
    # Component by component and in place: a tenth of the time of (N, M, 2) arrays.
    t = rel_x * step_x
    t += rel_y * step_y
    t /= length2
    np.clip(t, 0.0, 1.0, out=t)
    rel_x -= t * step_x
    rel_y -= t * step_y
    gap2 = np.square(rel_x, out=rel_x)
    gap2 += np.square(rel_y, out=rel_y)
    return t, gap2


def resample_polyline(points: Array, s_m: ArrayLike) -> Array:
    """Points ``(K, D)`` at arc lengths `s_m` ``(K,)`` on a polyline ``(N, D)``.

    Arc lengths are measured in the plane and clamped to the line.
    """
    s = arc_length_m(points[:, :2])
    query = np.asarray(s_m, dtype=np.float64)
    return np.stack([np.interp(query, s, points[:, i]) for i in range(points.shape[1])], axis=-1)
