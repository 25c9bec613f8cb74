"""Cameras as f-theta cameras of six coefficients, for renderers that know no other model.

The radius of a pinhole image over the angle from the axis is no polynomial. A polynomial of
six coefficients follows it to 1e-3 rad up to about 120 degrees across a 1280 x 704 image.
F-theta polynomials that are longer, such as those of fisheyes, are fitted to 0.1 px.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from omniloop.core.cameras import Camera, CameraModel, FThetaCamera, PinholeCamera
from omniloop.core.errors import ConfigError
from omniloop.core.geometry import Array

MAX_COEFFICIENTS = 6
"""Coefficients of an f-theta polynomial that OmniDreams' server reads (contracts.md 2.4)."""

MAX_ERROR_RAD = 1e-3
MAX_ERROR_PX = 0.1

_SAMPLES = 400
_ROUNDS = 40
_BEYOND = 1.05
"""The fitted model goes on this far beyond the corner, so that what leaves the image is
drawn to its border."""


def as_ftheta(camera: Camera) -> Camera:
    """The same camera with an f-theta model of at most six coefficients a polynomial.

    Raises:
        ConfigError: a pinhole camera cannot be fitted, or an f-theta polynomial is longer and
            its fit off by more than `MAX_ERROR_PX`.
    """
    model = camera.model
    if isinstance(model, PinholeCamera):
        return replace(camera, model=ftheta_from_pinhole(model, camera.id))
    return replace(camera, model=_shortened(model, camera.id)) if is_long(model) else camera


def is_long(model: FThetaCamera) -> bool:
    """Whether one of its polynomials has more than `MAX_COEFFICIENTS`."""
    both = (model.angle_to_pixeldist, model.pixeldist_to_angle)
    return any(any(polynomial[MAX_COEFFICIENTS:]) for polynomial in both)


def _shortened(model: FThetaCamera, name: str) -> FThetaCamera:
    """The camera with polynomials fitted to what the image shows of it, and a little more."""
    corner_rad = float(np.arccos(np.clip(_on_border(model)[:, 2], -1.0, 1.0)).max())
    reach = min(corner_rad * _BEYOND, model.max_angle_rad)
    forward = model.angle_to_pixeldist
    angle = np.linspace(0.0, reach, _SAMPLES)
    radius = np.asarray(np.polynomial.polynomial.polyval(angle, forward), dtype=np.float64)
    fitted = _minimax(angle, radius, np.ones(_SAMPLES))
    off = np.polynomial.polynomial.polyval(angle, fitted) - radius
    backward, backward_px = inverse_within_px(forward, reach)
    error_px = max(float(np.abs(off).max()), backward_px)
    if not error_px <= MAX_ERROR_PX:
        raise ConfigError(
            f"camera '{name}' has an f-theta polynomial of"
            f" {max(len(forward), len(model.pixeldist_to_angle))} coefficients, and the best of"
            f" {MAX_COEFFICIENTS} is off by {error_px:.3f} px, where {MAX_ERROR_PX} is allowed",
            where=f"camera {name}", remedy=f"give at most {MAX_COEFFICIENTS} coefficients",
        )  # fmt: skip
    return replace(
        model, angle_to_pixeldist=fitted, pixeldist_to_angle=backward, max_angle_rad=reach
    )


@functools.lru_cache(maxsize=256)
def ftheta_from_pinhole(model: PinholeCamera, name: str = "") -> FThetaCamera:
    """Fit an f-theta camera to a pinhole camera, distortion included.

    The polynomials are in units of `fy`; ``fx / fy`` is the c of `linear_cde`. Both are
    fitted by Lawson's reweighted least squares, which comes near the smallest largest error
    in angle (C. L. Lawson, 1961); plain least squares is 2.5 times as far off at 120 degrees.

    Args:
        name: The camera's id, for messages.

    Raises:
        ConfigError: somewhere on the image the fit is off by more than `MAX_ERROR_RAD`, such
            as for a wide field of view, or a distortion that is not symmetric.
    """
    corner_rad = float(np.arccos(_on_border(model)[:, 2]).max())
    angle: Array = corner_rad * np.linspace(0.0, 1.0, _SAMPLES)
    radius = _radius_px(model, angle)
    slope = np.maximum(np.gradient(radius, angle), 1e-3 * model.fy)
    fitted = FThetaCamera(
        model.width, model.height, model.cx, model.cy,
        angle_to_pixeldist=_minimax(angle, radius, 1.0 / slope),
        pixeldist_to_angle=_minimax(radius, angle, np.ones(_SAMPLES)),
        max_angle_rad=min(corner_rad * _BEYOND, model.fold_angle_rad),
        linear_cde=(model.fx / model.fy, 0.0, 0.0),
    )  # fmt: skip
    error_rad = fit_error_rad(model, fitted)
    if not error_rad <= MAX_ERROR_RAD:
        raise ConfigError(
            f"camera '{name}' cannot be turned into an f-theta camera: the best fit is off by"
            f" {error_rad:.2e} rad, and {MAX_ERROR_RAD:.0e} is allowed",
            where=f"camera {name}",
            remedy="choose a camera of less than 120 degrees or without tangential distortion,"
            " or one that is f-theta already",
        )
    return fitted


def inverse_polynomial(coefficients: tuple[float, ...], reach: float) -> tuple[float, ...]:
    """Fit the inverse of an f-theta polynomial that grows over [0, `reach`]."""
    x = np.linspace(0.0, reach, _SAMPLES)
    y = np.asarray(np.polynomial.polynomial.polyval(x, coefficients), dtype=np.float64)
    return _minimax(y, x, np.ones(_SAMPLES))


def inverse_within_px(
    forward: tuple[float, ...], reach_rad: float, count: int = MAX_COEFFICIENTS
) -> tuple[tuple[float, ...], float]:
    """Fit `pixeldist_to_angle` of `count` coefficients to `angle_to_pixeldist`.

    Returns:
        The coefficients, and how many pixels they and then `forward` move a radius up to
        that of `reach_rad` at most.
    """
    angle = np.linspace(0.0, reach_rad, 2 * _SAMPLES)
    radius = np.asarray(np.polynomial.polynomial.polyval(angle, forward), dtype=np.float64)
    # An error in angle moves a pixel by the slope.
    fitted = _minimax(radius, angle, np.gradient(radius, angle), count)
    there = np.polynomial.polynomial.polyval(radius, fitted)
    off = np.polynomial.polynomial.polyval(there, forward) - radius
    return fitted, float(np.abs(off).max())


def fit_error_rad(model: CameraModel, fitted: CameraModel) -> float:
    """Largest angle between two models of an image, over the whole of it, both ways.

    Forwards it is the angle between a direction and the one that `model` sees where `fitted`
    projects it; backwards the angle between the directions of one pixel.
    """
    across = np.linspace(-0.5, model.width - 0.5, 65)
    down = np.linspace(-0.5, model.height - 0.5, 37)
    pixels = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)
    rays = model.unproject(pixels)
    projected, covered = fitted.project(rays)
    if not covered.all():
        return float("inf")
    off = np.concatenate([model.unproject(projected) - rays, fitted.unproject(pixels) - rays])
    return float(2 * np.arcsin(np.minimum(np.linalg.norm(off, axis=1).max() / 2, 1.0)))


def _on_border(model: CameraModel) -> Array:
    """Directions ``(N, 3)`` along the image's border."""
    right, bottom = model.width - 0.5, model.height - 0.5
    steps = np.linspace(0.0, 1.0, 33)[:, None]
    corners = np.array([[-0.5, -0.5], [right, -0.5], [right, bottom], [-0.5, bottom]])
    sides = [
        a + steps * (b - a) for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)
    ]
    return model.unproject(np.concatenate(sides))


def _radius_px(model: PinholeCamera, angle_rad: Array) -> Array:
    """Radius in the image, in units of `fy`, by the angle from the axis; radial part only."""
    radial = replace(model, fx=model.fy, cx=0.0, cy=0.0, tangential=())
    rays = np.stack([np.sin(angle_rad), np.zeros_like(angle_rad), np.cos(angle_rad)], axis=-1)
    return np.asarray(radial.project(rays)[0][:, 0])


def _minimax(x: Array, y: Array, weight: Array, count: int = MAX_COEFFICIENTS) -> tuple[float, ...]:
    """Coefficients, lowest first, the first 0, of a polynomial close to ``(N,)`` samples.

    Args:
        weight: ``(N,)`` what an error counts.
        count: Coefficients, the first included.
    """
    scale = float(x[-1]) or 1.0
    powers = np.arange(1, count)
    basis = (x / scale)[:, None] ** powers
    share = np.full(len(x), 1.0 / len(x))
    best, least = np.zeros(len(powers)), np.inf
    for _ in range(_ROUNDS):
        root = np.sqrt(share) * weight
        solved = np.linalg.lstsq(basis * root[:, None], y * root, rcond=None)[0]
        error = np.abs(basis @ solved - y) * weight
        if error.max() < least:
            best, least = solved, float(error.max())
        share = share * error
        if not share.sum() > 0:
            break
        share /= share.sum()
    return (0.0, *(best / scale**powers).tolist())
