"""OpenCV's fisheye model as an f-theta camera, and back.

With the angle t from the axis the radius over the focal length is t + k1 t^3 + k2 t^5 +
k3 t^7 + k4 t^9 (Kannala and Brandt 2006, equation 6; OpenCV, calib3d, fisheye): an f-theta
polynomial of ten coefficients, without error. Only its inverse has to be fitted.
"""

from __future__ import annotations

import numpy as np

from omniloop.core.camera_fit import MAX_ERROR_PX, inverse_within_px
from omniloop.core.cameras import FThetaCamera
from omniloop.core.errors import ConfigError
from omniloop.core.geometry import Array

_POWERS = 4
_STEEP_ENOUGH = 0.3
"""The model ends where the radius grows by less than this part of what it does at the axis:
shortly behind, it folds back."""

_BEYOND = 1.05
"""It goes on this far beyond the corner, so that what leaves the image is drawn to its border."""

_ENOUGH_PX = 0.01
_COEFFICIENTS = (6, 8, 10, 12, 14)


def ftheta_from_fisheye(
    size: tuple[int, int],
    focal_px: tuple[float, float],
    centre_px: tuple[float, float],
    radial: tuple[float, ...],
    max_angle_rad: float,
) -> FThetaCamera:
    """An f-theta camera that projects as OpenCV's fisheye model does.

    The inverse has as few coefficients as keep it within 0.01 px, at most 14.

    Args:
        size: Width and height.
        focal_px: fx and fy.
        centre_px: cx and cy.
        radial: k1 to k4, missing ones are 0.
        max_angle_rad: Largest angle; it ends earlier behind the image's corners, and where
            the radius stops growing.

    Raises:
        ConfigError: there are more coefficients, a focal length or the angle is not
            positive, or the inverse is off by more than 0.1 px.
    """
    fx, fy = focal_px
    if len(radial) > _POWERS or not (fx > 0 and fy > 0 and max_angle_rad > 0):
        raise ConfigError(
            f"a fisheye camera has the focal lengths {fx}, {fy}, the largest angle {max_angle_rad}"
            f" and {len(radial)} coefficients",
            remedy=f"give positive numbers, and at most {_POWERS} coefficients",
        )
    forward = np.zeros(2 * _POWERS + 2)
    forward[1] = fy
    forward[3 : 3 + 2 * len(radial) : 2] = fy * np.asarray(radial, dtype=np.float64)
    corner_px = np.hypot(
        max(centre_px[0] + 0.5, size[0] - 0.5 - centre_px[0]) * fy / fx,
        max(centre_px[1] + 0.5, size[1] - 0.5 - centre_px[1]),
    )
    reach = _end_rad(forward, min(max_angle_rad, np.pi), _BEYOND * float(corner_px))
    polynomial = tuple(np.trim_zeros(forward, "b").tolist())
    backward: tuple[float, ...] = ()
    error_px = np.inf
    for count in _COEFFICIENTS:
        tried, off_px = inverse_within_px(polynomial, reach, count)
        if off_px < error_px:
            backward, error_px = tried, off_px
        if error_px <= _ENOUGH_PX:
            break
    if not error_px <= MAX_ERROR_PX:
        raise ConfigError(
            f"a fisheye camera's inverse is off by {error_px:.2f} px, and {MAX_ERROR_PX} is allowed",
            remedy="calibrate it again: its radius hardly grows with the angle",
        )
    return FThetaCamera(
        *size, *centre_px, polynomial, backward, reach, linear_cde=(fx / fy, 0.0, 0.0)
    )


def fisheye_from_ftheta(
    model: FThetaCamera,
) -> tuple[tuple[float, float], tuple[float, ...]] | None:
    """Focal lengths and k1 to k4 of an f-theta camera that is a fisheye; None if it is not."""
    forward = np.zeros(max(len(model.angle_to_pixeldist), 2 * _POWERS + 2))
    forward[: len(model.angle_to_pixeldist)] = model.angle_to_pixeldist
    c, d, e = model.linear_cde
    even, beyond = forward[::2], forward[2 * _POWERS + 2 :]
    if even.any() or beyond.any() or d or e or not (forward[1] > 0 and c > 0):
        return None
    fy = float(forward[1])
    return (c * fy, fy), tuple((forward[3 : 2 * _POWERS + 2 : 2] / fy).tolist())


def _end_rad(forward: Array, limit_rad: float, corner_px: float) -> float:
    angle = np.linspace(0.0, limit_rad, 2001)
    radius = np.polynomial.polynomial.polyval(angle, forward)
    slope = np.polynomial.polynomial.polyval(angle, np.polynomial.polynomial.polyder(forward))
    ends = np.flatnonzero((slope < _STEEP_ENOUGH * forward[1]) | (radius > corner_px))
    return float(angle[ends[0]] if len(ends) else limit_rad)
