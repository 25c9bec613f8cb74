"""OpenCV's fisheye model as an f-theta camera."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core.camera_fit import MAX_ERROR_PX, as_ftheta
from omniloop.core.cameras import Camera, FThetaCamera
from omniloop.core.errors import ConfigError
from omniloop.core.fisheye import fisheye_from_ftheta, ftheta_from_fisheye
from omniloop.core.geometry import IDENTITY

SIZE, FOCAL, CENTRE = (1280, 800), (501.0, 500.0), (640.3, 398.1)
RADIAL = (-0.03, 0.005, -0.002, 0.0002)


def fisheye(radial: tuple[float, ...] = RADIAL, max_angle_rad: float = 1.4) -> FThetaCamera:
    return ftheta_from_fisheye(SIZE, FOCAL, CENTRE, radial, max_angle_rad)


def test_points_are_projected_as_opencv_does() -> None:
    points = np.random.default_rng(1).uniform([-3, -3, 0.6], [3, 3, 2], (200, 3))
    pixels, covered = fisheye().project(points)
    matrix = np.array([[FOCAL[0], 0, CENTRE[0]], [0, FOCAL[1], CENTRE[1]], [0, 0, 1]])
    truth = cv2.fisheye.projectPoints(points[:, None], np.zeros(3), np.zeros(3), matrix, np.array(RADIAL))[0]  # fmt: skip
    assert covered.sum() > 100
    np.testing.assert_allclose(pixels[covered], truth[covered, 0], atol=1e-9)


@settings(max_examples=30)
@given(
    st.tuples(st.floats(-0.05, 0.05), st.floats(-0.01, 0.02), st.floats(-3e-3, 3e-3)),
    st.floats(0.8, 1.6),
)
def test_every_pixel_of_the_image_goes_out_and_back(
    radial: tuple[float, ...], max_angle_rad: float
) -> None:
    model = fisheye(radial, max_angle_rad)
    u, v = np.meshgrid(np.linspace(0, SIZE[0] - 1, 17), np.linspace(0, SIZE[1] - 1, 11))
    pixels = np.stack([u.ravel(), v.ravel()], axis=1)
    rays = model.unproject(pixels)
    seen = np.arccos(rays[:, 2]) < 0.999 * model.max_angle_rad
    np.testing.assert_allclose(model.project(rays[seen])[0], pixels[seen], atol=MAX_ERROR_PX)
    focal, back = fisheye_from_ftheta(model) or pytest.fail("it is a fisheye")
    np.testing.assert_allclose(focal, FOCAL, rtol=1e-12)
    np.testing.assert_allclose(back, (*radial, 0.0), atol=1e-12)


def test_a_mild_one_has_an_f_theta_camera_of_six_coefficients_and_a_strong_one_none() -> None:
    short = as_ftheta(Camera("mild", fisheye(), IDENTITY)).model
    assert isinstance(short, FThetaCamera)
    assert len(short.angle_to_pixeldist) == len(short.pixeldist_to_angle) == 6
    strong = fisheye((-0.0078, 0.0435, -0.0411, 0.0072), 1.5)
    with pytest.raises(ConfigError, match=r"camera 'strong' .* best of 6 is off by"):
        as_ftheta(Camera("strong", strong, IDENTITY))


def test_it_ends_behind_the_corners_and_before_it_folds_back() -> None:
    corner = np.hypot(640.8 * FOCAL[1] / FOCAL[0], 401.4) * 1.05
    reached = np.polynomial.polynomial.polyval(fisheye((), 3.0).max_angle_rad, (0, FOCAL[1]))
    assert reached == pytest.approx(corner, abs=2.0)
    folding = fisheye((-0.2,), 1.5)  # its slope is 1 - 0.6 t^2
    assert folding.max_angle_rad == pytest.approx(np.sqrt(0.7 / 0.6), abs=2e-3)


@pytest.mark.parametrize(
    ("focal_px", "radial", "max_angle_rad"),
    [((0.0, 500.0), RADIAL, 1.4), (FOCAL, (*RADIAL, 0.1), 1.4), (FOCAL, RADIAL, 0.0)],
)
def test_numbers_of_no_camera_are_refused(
    focal_px: tuple[float, float], radial: tuple[float, ...], max_angle_rad: float
) -> None:
    with pytest.raises(ConfigError, match="a fisheye camera has the focal lengths"):
        ftheta_from_fisheye(SIZE, focal_px, CENTRE, radial, max_angle_rad)


def test_an_inverse_that_no_polynomial_follows_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"inverse is off by \d\.\d\d px"):
        fisheye((-0.1398, -0.044, 0.0266, 0.0037), 1.6)


@pytest.mark.parametrize(
    "changes",
    [
        {"angle_to_pixeldist": (0.0, 500.0, 1.0)},
        {"angle_to_pixeldist": (0.0, 500.0, *(0.0,) * 9, 1e-3)},
        {"angle_to_pixeldist": (0.0, -500.0)},
        {"linear_cde": (1.0, 1e-3, 0.0)},
    ],
)
def test_other_f_theta_cameras_are_no_fisheyes(changes: dict[str, tuple[float, ...]]) -> None:
    given = {"angle_to_pixeldist": (0.0, 500.0), "linear_cde": (1.0, 0.0, 0.0)} | changes
    made = FThetaCamera(*SIZE, *CENTRE, pixeldist_to_angle=(0.0, 0.002), max_angle_rad=1.0, **given)  # type: ignore[arg-type]
    assert fisheye_from_ftheta(made) is None
