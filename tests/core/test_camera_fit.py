"""Pinhole cameras as f-theta cameras: how close the fit is, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.camera_fit import (
    MAX_ERROR_PX,
    MAX_ERROR_RAD,
    as_ftheta,
    fit_error_rad,
    ftheta_from_pinhole,
    inverse_polynomial,
    inverse_within_px,
)
from omniloop.core.cameras import Camera, FThetaCamera, PinholeCamera
from omniloop.core.errors import ConfigError

WIDTH, HEIGHT = 1280, 704


def pinhole(fov_deg: float, aspect: float = 1.0, **distortion: tuple[float, ...]) -> PinholeCamera:
    """A camera whose undistorted field of view across the image is `fov_deg`."""
    fx = WIDTH / 2 / np.tan(np.deg2rad(fov_deg) / 2)
    return PinholeCamera(
        WIDTH, HEIGHT, fx, fx * aspect, (WIDTH - 1) / 2, (HEIGHT - 1) / 2, **distortion
    )


def angles_off(model: PinholeCamera, fitted: FThetaCamera) -> np.ndarray:
    """Angles between the directions of the same pixels, on a grid of its own."""
    u, v = np.meshgrid(np.linspace(0, WIDTH - 1, 41), np.linspace(0, HEIGHT - 1, 23))
    pixels = np.stack([u.ravel(), v.ravel()], axis=1)
    cosine = np.sum(model.unproject(pixels) * fitted.unproject(pixels), axis=1)
    return np.arccos(np.minimum(cosine, 1.0))


@given(
    fov_deg=st.floats(20, 110), aspect=st.floats(0.8, 1.25),
    k1=st.floats(-0.05, 0.05), k2=st.floats(-0.01, 0.01),
)  # fmt: skip
def test_a_fit_is_within_a_thousandth_of_a_radian_over_the_whole_image_or_refused(
    fov_deg: float, aspect: float, k1: float, k2: float
) -> None:
    model = pinhole(fov_deg, aspect, radial=(k1, k2))
    try:
        fitted = ftheta_from_pinhole(model, "front")
    except ConfigError:
        assert fov_deg > 90  # what is narrower than that is always fitted
        return
    assert angles_off(model, fitted).max() <= MAX_ERROR_RAD + 1e-7
    rays = model.unproject(np.array([[0.0, 0.0], [300.0, 650.0], [1279.0, 351.0]]))
    pixels, covered = fitted.project(rays)
    assert covered.all()
    moved = np.linalg.norm(model.unproject(pixels) - rays, axis=1)
    assert moved.max() <= MAX_ERROR_RAD + 1e-7
    for polynomial in (fitted.angle_to_pixeldist, fitted.pixeldist_to_angle):
        assert len(polynomial) <= 6
        assert polynomial[0] == 0.0


def test_a_camera_of_120_degrees_is_fitted_and_one_of_130_is_refused_with_the_error_reached() -> (
    None
):
    assert 1e-4 < fit_error_rad(pinhole(120), ftheta_from_pinhole(pinhole(120))) <= 1e-3
    with pytest.raises(ConfigError, match=r"camera 'front'.*off by 1\.\d\de-03 rad") as caught:
        ftheta_from_pinhole(pinhole(130), "front")
    assert caught.value.where == "camera front"


def test_a_distortion_that_is_not_symmetric_is_refused() -> None:
    ftheta_from_pinhole(pinhole(60, tangential=(1e-5, 0.0)))
    with pytest.raises(ConfigError, match="cannot be turned into an f-theta camera"):
        ftheta_from_pinhole(pinhole(60, tangential=(5e-3, 0.0)), "skewed")


def test_a_distortion_that_folds_back_within_the_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="f-theta"):
        ftheta_from_pinhole(pinhole(90, radial=(-0.6,)), "folded")


def test_unequal_focal_lengths_go_through_the_linear_part() -> None:
    model = PinholeCamera(400, 300, 500.0, 250.0, 199.5, 149.5)
    fitted = ftheta_from_pinhole(model)
    assert fitted.linear_cde == (2.0, 0.0, 0.0)
    # tan = 0.1 to the right is 500 * 0.1 px there, and 250 * 0.1 px downwards.
    pixels, _ = fitted.project(np.array([[0.1, 0.0, 1.0], [0.0, 0.1, 1.0]]))
    np.testing.assert_allclose(pixels, [[249.5, 149.5], [199.5, 174.5]], atol=0.02)


def test_the_image_is_covered_to_its_corners_and_a_little_beyond() -> None:
    model = pinhole(90)
    corner = model.unproject(np.array([-0.5, -0.5]))
    assert np.arccos(corner[2]) < ftheta_from_pinhole(model).max_angle_rad < 1.1


def test_an_f_theta_polynomial_that_is_too_long_is_fitted_within_a_tenth_of_a_pixel() -> None:
    forward = (0, 300, 0, -9, 0, 1.5, 0, -0.6)
    long = FThetaCamera(
        640, 352, 319.5, 175.5, forward, inverse_within_px(forward, 1.25, 12)[0], 1.4
    )
    fitted = as_ftheta(Camera("long", long, geometry.IDENTITY)).model
    assert max(len(fitted.angle_to_pixeldist), len(fitted.pixeldist_to_angle)) == 6
    u, v = np.meshgrid(np.linspace(0, 639, 33), np.linspace(0, 351, 21))
    pixels = np.stack([u.ravel(), v.ravel()], axis=1)
    for one, other in ((long, fitted), (fitted, long)):
        moved, covered = one.project(other.unproject(pixels))
        assert covered.all()
        assert np.linalg.norm(moved - pixels, axis=1).max() <= MAX_ERROR_PX


def test_one_that_cannot_be_fitted_is_refused_with_the_error_reached() -> None:
    forward = (0, 300, 0, 0, 0, 0, 0, 0, 0, 12)
    long = FThetaCamera(
        640, 352, 319.5, 175.5, forward, inverse_within_px(forward, 1.1, 12)[0], 1.1
    )
    with pytest.raises(
        ConfigError, match=r"camera 'long' has .* 12 coeff.* best of 6 is off by 0\.\d+ px"
    ):
        as_ftheta(Camera("long", long, geometry.IDENTITY))


def test_an_f_theta_camera_of_six_coefficients_stays_as_it_is() -> None:
    good = Camera("good", FThetaCamera.equidistant(640, 352, 2.0), geometry.IDENTITY)
    assert as_ftheta(good) is good
    padded = FThetaCamera(64, 32, 31.5, 15.5, (0, 30, 0, 0, 0, 0, 0), (0, 1 / 30), 1.0)
    as_ftheta(Camera("padded", padded, geometry.IDENTITY))


def test_a_pinhole_camera_keeps_its_name_and_its_place() -> None:
    camera = Camera("CAM_FRONT", pinhole(70), geometry.pose(1.0, 2.0, 3.0, 0.4), shutter_us=7)
    fitted = as_ftheta(camera)
    assert isinstance(fitted.model, FThetaCamera)
    assert (fitted.id, fitted.shutter_us) == ("CAM_FRONT", 7)
    assert fitted.rig_to_camera is camera.rig_to_camera


def test_an_inverse_polynomial_undoes_its_polynomial() -> None:
    forward = (0.0, 600.0, -20.0, 5.0)
    backward = inverse_polynomial(forward, 1.1)
    angle = np.linspace(0, 1.1, 50)
    radius = np.polynomial.polynomial.polyval(angle, forward)
    np.testing.assert_allclose(np.polynomial.polynomial.polyval(radius, backward), angle, atol=1e-4)
