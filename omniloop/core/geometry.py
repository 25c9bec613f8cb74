"""Rigid poses as float64 arrays; the one geometry module.

A pose is ``[x, y, z, qx, qy, qz, qw]``: a position in metres and a unit quaternion in
scipy's order. ``a_to_b`` is the pose of frame `b` expressed in frame `a`, so it maps
coordinates in `b` to coordinates in `a`, and ``local_to_camera = compose(local_to_rig,
rig_to_camera)``. All functions broadcast over leading axes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

IDENTITY: Array = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
IDENTITY.setflags(write=False)


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


def quat_multiply(a: Array, b: Array) -> Array:
    """Hamilton product of quaternions ``(..., 4)`` in x, y, z, w order."""
    ax, ay, az, aw = a[..., 0], a[..., 1], a[..., 2], a[..., 3]
    bx, by, bz, bw = b[..., 0], b[..., 1], b[..., 2], b[..., 3]
    out = np.empty(np.broadcast_shapes(a.shape, b.shape))
    out[..., 0] = aw * bx + ax * bw + ay * bz - az * by
    out[..., 1] = aw * by - ax * bz + ay * bw + az * bx
    out[..., 2] = aw * bz + ax * by - ay * bx + az * bw
    out[..., 3] = aw * bw - ax * bx - ay * by - az * bz
    return out


def _cross(a: Array, b: Array) -> Array:
    out = np.empty(np.broadcast_shapes(a.shape, b.shape))
    out[..., 0] = a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1]
    out[..., 1] = a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2]
    out[..., 2] = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return out


def rotate(quat: Array, vectors: ArrayLike) -> Array:
    """Rotate vectors ``(..., 3)`` by quaternions ``(..., 4)``."""
    v = np.asarray(vectors, dtype=np.float64)
    u = quat[..., :3]
    t = 2.0 * _cross(u, v)
    return v + quat[..., 3:4] * t + _cross(u, t)


def compose(a_to_b: Array, b_to_c: Array) -> Array:
    """Return ``a_to_c``; shapes ``(..., 7)`` broadcast."""
    out = np.empty(np.broadcast_shapes(a_to_b.shape, b_to_c.shape))
    out[..., :3] = a_to_b[..., :3] + rotate(a_to_b[..., 3:], b_to_c[..., :3])
    out[..., 3:] = quat_multiply(a_to_b[..., 3:], b_to_c[..., 3:])
    return out


def inverse(a_to_b: Array) -> Array:
    """Return ``b_to_a``; shape ``(..., 7)``."""
    out = np.array(a_to_b, dtype=np.float64)
    out[..., 3:6] *= -1.0
    out[..., :3] = -rotate(out[..., 3:], a_to_b[..., :3])
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
    """Wrap angles into [-pi, pi)."""
    return np.asarray((np.asarray(angle_rad) + np.pi) % (2 * np.pi) - np.pi)


def slerp(q0: Array, q1: Array, alpha: Array) -> Array:
    """Spherical interpolation along the shorter arc; ``(..., 4)``, alpha ``(...)``.

    At alpha 0 and 1 the ends come back exactly. Below 1e-4 rad it interpolates
    linearly and normalises: the error there is under 1e-12 rad.
    """
    dot = np.sum(q0 * q1, axis=-1)
    q1 = np.where((dot < 0)[..., None], -q1, q1)
    dot = np.minimum(np.abs(dot), 1.0)
    theta = np.arccos(dot)
    near = theta < 1e-4
    sin_theta = np.where(near, 1.0, np.sin(theta))
    w0 = np.where(near, 1.0 - alpha, np.sin((1.0 - alpha) * theta) / sin_theta)
    w1 = np.where(near, alpha, np.sin(alpha * theta) / sin_theta)
    out = w0[..., None] * q0 + w1[..., None] * q1
    out /= np.linalg.norm(out, axis=-1, keepdims=True)
    out = np.where((alpha == 0)[..., None], q0, out)
    return np.where((alpha == 1)[..., None], q1, out)


def interpolate_poses(a: Array, b: Array, alpha: Array) -> Array:
    """Blend poses ``(..., 7)``: positions linearly, rotations by slerp."""
    out = np.empty(np.broadcast_shapes(a.shape, b.shape))
    frac = alpha[..., None]
    out[..., :3] = np.where(frac == 1, b[..., :3], a[..., :3] + frac * (b[..., :3] - a[..., :3]))
    out[..., 3:] = slerp(a[..., 3:], b[..., 3:], alpha)
    return out


def finite_difference_motion(times_us: NDArray[np.int64], poses: Array) -> Array:
    """Estimate body-frame motion from poses by central differences.

    Args:
        times_us: ``(N,)`` strictly increasing.
        poses: ``(N, 7)``.

    Returns:
        ``(N, 12)``: linear velocity [m/s], angular velocity [rad/s], linear
        acceleration [m/s^2] and angular acceleration [rad/s^2], each in the body frame.
        Zeros where N < 2. Times are subtracted as integers before any float division,
        so that epoch-sized timestamps lose nothing.
    """
    n = len(times_us)
    out = np.zeros((n, 12))
    if n < 2:
        return out
    lo = np.maximum(np.arange(n) - 1, 0)
    hi = np.minimum(np.arange(n) + 1, n - 1)
    dt_s = ((times_us[hi] - times_us[lo]) / 1e6)[:, None]
    to_body = poses[:, 3:] * np.array([-1.0, -1.0, -1.0, 1.0])
    out[:, 0:3] = rotate(to_body, (poses[hi, :3] - poses[lo, :3]) / dt_s)
    delta = compose(inverse(poses[lo]), poses[hi])[:, 3:]
    delta = np.where(delta[:, 3:] < 0, -delta, delta)
    out[:, 3:6] = 2.0 * delta[:, :3] / dt_s
    for source, target in ((0, 6), (3, 9)):
        rates = out[:, source : source + 3]
        out[:, target : target + 3] = (rates[hi] - rates[lo]) / dt_s
    return out


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
    rel = points[:, None, :] - start[None]
    t = np.clip(np.sum(rel * step, axis=2) / length2, 0.0, 1.0)
    gap2 = np.sum((rel - t[..., None] * step) ** 2, axis=2)
    best = np.argmin(gap2, axis=1)
    rows = np.arange(len(points))
    s = arc_length_m(line)[best] + t[rows, best] * np.sqrt(length2[best])
    return s, np.sqrt(gap2[rows, best])


def resample_polyline(points: Array, s_m: ArrayLike) -> Array:
    """Points ``(K, D)`` at arc lengths `s_m` ``(K,)`` (clamped) on a polyline ``(N, D)``."""
    s = arc_length_m(points[:, :2])
    query = np.asarray(s_m, dtype=np.float64)
    return np.stack([np.interp(query, s, points[:, i]) for i in range(points.shape[1])], axis=-1)
