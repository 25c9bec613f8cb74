"""Camera models, camera axes and the cameras of a rig.

Camera frames are optical: x right, y down, z forward. Pixel (0, 0) is the centre of the
top left pixel. Models follow the wire contracts: f-theta polynomials have their lowest
power first and map pixels to radians (or back) at the native resolution.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from omniloop.core import geometry
from omniloop.core.errors import ConfigError, nearest
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask

FLU_TO_OPTICAL: Array = np.array([0.0, 0.0, 0.0, 0.5, -0.5, 0.5, -0.5])
"""Pose of the optical frame in a body frame with x forward, y left, z up."""
FLU_TO_OPTICAL.setflags(write=False)


def optical_from_flu(rig_to_camera_flu: Array) -> Array:
    """Convert a camera pose with forward-left-up axes into one with optical axes."""
    return geometry.compose(rig_to_camera_flu, FLU_TO_OPTICAL)


def flu_from_optical(rig_to_camera: Array) -> Array:
    """Convert a camera pose with optical axes into one with forward-left-up axes."""
    return geometry.compose(rig_to_camera, geometry.inverse(FLU_TO_OPTICAL))


class CameraModel(Protocol):
    """Intrinsics: how directions in the camera frame become pixels."""

    @property
    def width(self) -> int:
        """Image width in pixels."""
        ...

    @property
    def height(self) -> int:
        """Image height in pixels."""
        ...

    @property
    def max_angle_rad(self) -> float:
        """Largest angle from the optical axis that the model maps."""
        ...

    def project(self, points_camera: Array) -> tuple[Array, Mask]:
        """Map points ``(..., 3)`` to pixels ``(..., 2)`` and whether the model covers them."""
        ...

    def unproject(self, pixels: Array) -> Array:
        """Map pixels ``(..., 2)`` to unit directions ``(..., 3)`` in the camera frame."""
        ...

    def resized(self, width: int, height: int) -> CameraModel:
        """Return the model of an image scaled to cover `width` x `height`, centre-cropped."""
        ...


def _cover(width: int, height: int, new_width: int, new_height: int) -> tuple[float, float, float]:
    """Scale that covers the new size, and the offsets cropped from left and top."""
    scale = max(new_width / width, new_height / height)
    return scale, (width * scale - new_width) / 2, (height * scale - new_height) / 2


@dataclass(frozen=True, eq=False)
class PinholeCamera:
    """OpenCV's pinhole model.

    Attributes:
        radial: k1..k6 (k4..k6 divide), missing ones are 0.
        tangential: p1, p2.
        max_angle_rad: Points farther from the axis are not covered. 1.4 rad (80
            degrees) by default; see also `fold_angle_rad`.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    radial: tuple[float, ...] = ()
    tangential: tuple[float, ...] = ()
    max_angle_rad: float = 1.4

    @functools.cached_property
    def fold_angle_rad(self) -> float:
        """Angle at which the radial distortion folds back, at most `max_angle_rad`.

        Points farther from the axis are not covered: the distortion would map what lies
        outside the image into it.
        """
        limit = min(self.max_angle_rad, 1.57)
        if not any(self.radial):
            return limit
        angle = np.linspace(0.0, limit, 2048)
        radius = np.tan(angle) * self._radial_ratio(np.tan(angle) ** 2)[0]
        folds = np.flatnonzero(np.diff(radius) <= 0)
        return float(angle[max(folds[0] - 1, 0)]) if len(folds) else limit

    def _radial_ratio(self, r2: Array) -> tuple[Array, Array]:
        """Distorted over undistorted radius, and its derivative by the squared radius."""
        k = (*self.radial, *(0.0,) * (6 - len(self.radial)))
        up = 1 + r2 * (k[0] + r2 * (k[1] + r2 * k[2]))
        down = 1 + r2 * (k[3] + r2 * (k[4] + r2 * k[5]))
        up_slope = k[0] + r2 * (2 * k[1] + r2 * 3 * k[2])
        down_slope = k[3] + r2 * (2 * k[4] + r2 * 3 * k[5])
        return up / down, (up_slope * down - up * down_slope) / (down * down)

    def _distort(self, x: Array, y: Array) -> tuple[Array, Array]:
        if not any(self.radial) and not any(self.tangential):
            return x, y
        p1, p2 = (*self.tangential, 0.0, 0.0)[:2]
        r2 = x * x + y * y
        ratio, _ = self._radial_ratio(r2)
        xd = x * ratio + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        yd = y * ratio + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        return xd, yd

    def project(self, points_camera: Array) -> tuple[Array, Mask]:
        """See `CameraModel.project`."""
        p = np.asarray(points_camera, dtype=np.float64)
        z = p[..., 2]
        radius = np.hypot(p[..., 0], p[..., 1])
        covered = (z > 1e-9) & (radius <= np.tan(self.fold_angle_rad) * z)
        safe = np.where(covered, z, 1.0)
        xd, yd = self._distort(p[..., 0] / safe, p[..., 1] / safe)
        out = np.empty((*p.shape[:-1], 2))
        out[..., 0] = self.fx * xd + self.cx
        out[..., 1] = self.fy * yd + self.cy
        return out, covered

    def unproject(self, pixels: Array) -> Array:
        """See `CameraModel.unproject`; inverts distortion by 12 Newton steps.

        Pixels that the model does not cover get a direction at its largest angle.
        """
        px = np.asarray(pixels, dtype=np.float64)
        xd, yd = (px[..., 0] - self.cx) / self.fx, (px[..., 1] - self.cy) / self.fy
        x, y = self._undistort(xd, yd)
        rays = np.stack([x, y, np.ones_like(x)], axis=-1)
        return np.asarray(rays / np.linalg.norm(rays, axis=-1, keepdims=True))

    def _undistort(self, xd: Array, yd: Array) -> tuple[Array, Array]:
        if not any(self.radial) and not any(self.tangential):
            return xd, yd
        p1, p2 = (*self.tangential, 0.0, 0.0)[:2]
        limit = np.tan(self.fold_angle_rad)
        x, y = xd, yd
        for _ in range(12):
            ratio, slope = self._radial_ratio(x * x + y * y)
            fx, fy = self._distort(x, y)
            xx = ratio + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x
            yy = ratio + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x
            xy = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y
            det = xx * yy - xy * xy
            det = np.where(np.abs(det) > 1e-9, det, 1e-9)
            ex, ey = xd - fx, yd - fy
            x, y = x + (yy * ex - xy * ey) / det, y + (xx * ey - xy * ex) / det
            shrink = np.minimum(limit / np.maximum(np.hypot(x, y), 1e-12), 1.0)
            x, y = x * shrink, y * shrink
        return x, y

    def resized(self, width: int, height: int) -> PinholeCamera:
        """See `CameraModel.resized`."""
        if (width, height) == (self.width, self.height):
            return self
        s, left, top = _cover(self.width, self.height, width, height)
        return replace(
            self, width=width, height=height, fx=self.fx * s, fy=self.fy * s,
            cx=(self.cx + 0.5) * s - 0.5 - left, cy=(self.cy + 0.5) * s - 0.5 - top,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class FThetaCamera:
    """The f-theta model: a polynomial between the angle from the axis and the radius.

    Attributes:
        angle_to_pixeldist: coefficients of radius [px] over angle [rad], lowest first.
        pixeldist_to_angle: coefficients of angle [rad] over radius [px], lowest first.
        max_angle_rad: Largest angle that the polynomials describe.
        linear_cde: c, d, e of ``[u; v] = [[c, d], [e, 1]] [x; y] + principal point``.
    """

    width: int
    height: int
    cx: float
    cy: float
    angle_to_pixeldist: tuple[float, ...]
    pixeldist_to_angle: tuple[float, ...]
    max_angle_rad: float
    linear_cde: tuple[float, float, float] = (1.0, 0.0, 0.0)

    @classmethod
    def equidistant(cls, width: int, height: int, horizontal_fov_rad: float) -> FThetaCamera:
        """An ideal f-theta camera (radius proportional to angle), principal point centred."""
        focal_px = width / horizontal_fov_rad
        corner_rad = float(np.hypot(width, height)) / 2 / focal_px
        return cls(
            width, height, (width - 1) / 2, (height - 1) / 2,
            (0.0, focal_px), (0.0, 1 / focal_px), max_angle_rad=min(corner_rad * 1.05, 3.1),
        )  # fmt: skip

    def project(self, points_camera: Array) -> tuple[Array, Mask]:
        """See `CameraModel.project`."""
        p = np.asarray(points_camera, dtype=np.float64)
        planar = np.hypot(p[..., 0], p[..., 1])
        angle = np.arctan2(planar, p[..., 2])
        covered = (angle <= self.max_angle_rad) & (planar + np.abs(p[..., 2]) > 1e-12)
        radius = np.polynomial.polynomial.polyval(
            np.minimum(angle, self.max_angle_rad), self.angle_to_pixeldist
        )
        scale = radius / np.where(planar > 1e-12, planar, 1.0)
        x, y = p[..., 0] * scale, p[..., 1] * scale
        c, d, e = self.linear_cde
        out = np.empty((*p.shape[:-1], 2))
        out[..., 0] = c * x + d * y + self.cx
        out[..., 1] = e * x + y + self.cy
        return out, covered

    def unproject(self, pixels: Array) -> Array:
        """See `CameraModel.unproject`."""
        px = np.asarray(pixels, dtype=np.float64)
        c, d, e = self.linear_cde
        u, v = px[..., 0] - self.cx, px[..., 1] - self.cy
        det = c - d * e
        x, y = (u - d * v) / det, (c * v - e * u) / det
        radius = np.hypot(x, y)
        angle = np.polynomial.polynomial.polyval(radius, self.pixeldist_to_angle)
        scale = np.sin(angle) / np.where(radius > 1e-12, radius, 1.0)
        return np.stack([x * scale, y * scale, np.cos(angle)], axis=-1)

    def resized(self, width: int, height: int) -> FThetaCamera:
        """See `CameraModel.resized`."""
        if (width, height) == (self.width, self.height):
            return self
        s, left, top = _cover(self.width, self.height, width, height)
        return replace(
            self, width=width, height=height,
            cx=(self.cx + 0.5) * s - 0.5 - left, cy=(self.cy + 0.5) * s - 0.5 - top,
            angle_to_pixeldist=tuple(k * s for k in self.angle_to_pixeldist),
            pixeldist_to_angle=tuple(k / s**i for i, k in enumerate(self.pixeldist_to_angle)),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera of a rig.

    Attributes:
        id: Logical name, such as ``camera_front_wide_120fov``.
        model: Intrinsics at native resolution.
        rig_to_camera: ``(7,)`` pose of the optical frame in the rig.
        first_frame_end_us: End of the shutter of the first recorded frame, if recorded.
        frame_interval_us: Time between frames, if recorded.
        shutter_us: From the start to the end of a frame's shutter.
    """

    id: str
    model: PinholeCamera | FThetaCamera
    rig_to_camera: Array
    first_frame_end_us: int | None = None
    frame_interval_us: int | None = None
    shutter_us: int = 0


def default_camera() -> Camera:
    """A forward f-theta camera of 120 degrees for scenes that come without any.

    It sits 1.6 m ahead of the rear axle and 1.5 m up, pitched 3 degrees down.
    """
    tilt = np.array([1.6, 0.0, 1.5, 0.0, np.sin(np.deg2rad(1.5)), 0.0, np.cos(np.deg2rad(1.5))])
    return Camera(
        id="camera_front_wide_120fov",
        model=FThetaCamera.equidistant(1280, 704, np.deg2rad(120.0)),
        rig_to_camera=optical_from_flu(tilt),
    )


_FORWARD_RAD = np.deg2rad(5.0)
"""Cameras within this angle of straight ahead count as forward."""


def select_cameras(
    cameras: tuple[Camera, ...], wanted: tuple[str, ...] | None, scene_id: str
) -> tuple[Camera, ...]:
    """Choose cameras of a scene by id, in the order wanted.

    Without a wish it is the first that looks forward, else the one most nearly so, or `default_camera`
    where the scene has none.

    Raises:
        ConfigError: the scene lacks a wanted camera, or one is wanted twice.
    """
    if wanted is None:
        if not cameras:
            return (default_camera(),)
        forward = [
            geometry.rotate(c.rig_to_camera[3:], np.array([0.0, 0.0, 1.0]))[0] for c in cameras
        ]
        ahead = np.array(forward) > np.cos(_FORWARD_RAD)
        # A rig lists its main camera first; a stereo pair points as straight ahead.
        return (cameras[int(np.argmax(ahead) if ahead.any() else np.argmax(forward))],)
    have = {c.id: c for c in cameras} or {default_camera().id: default_camera()}
    for name in wanted:
        if name not in have:
            raise ConfigError(
                f"camera '{name}' is not in the scene",
                where=f"scene {scene_id}",
                remedy=f"{nearest(name, have)} its cameras: {', '.join(have)}".strip(),
            )
        if wanted.count(name) > 1:
            raise ConfigError(
                f"camera '{name}' is wanted {wanted.count(name)} times",
                where=f"scene {scene_id}",
                remedy="name each camera once",
            )
    return tuple(have[name] for name in wanted)
