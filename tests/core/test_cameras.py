from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.cameras import (
    FLU_TO_OPTICAL,
    Camera,
    FThetaCamera,
    PinholeCamera,
    default_camera,
    flu_from_optical,
    optical_from_flu,
    select_cameras,
)
from omniloop.core.errors import ConfigError

PLAIN = PinholeCamera(1280, 720, 900.0, 910.0, 640.5, 355.25)
# The size of distortion and focal length of a ring camera of Argoverse 2.
RING = PinholeCamera(
    2048, 1550, 1687.5, 1687.5, 1031.4, 768.3, radial=(-0.2818, -0.0373, 0.1046)
)  # fmt: skip
RATIONAL = PinholeCamera(
    1920, 1080, 1000.0, 1000.0, 960.0, 540.0,
    radial=(0.2, 0.05, 0.01, 0.5, 0.08, 0.02), tangential=(1e-3, -7e-4),
)  # fmt: skip


def wide_ftheta(width=1920, height=1208):
    """A 120 degree camera with 5th-degree polynomials that invert each other to 0.001 px."""
    forward = (0.0, 930.0, -8.0, -38.0, 4.5, 3.0)
    angle = np.linspace(0.0, 1.15, 4000)
    radius = np.polynomial.polynomial.polyval(angle, forward)
    # Fitted without a constant term: the axis is at radius 0.
    powers = radius[:, None] ** np.arange(1, 6)
    scale = np.abs(powers).max(axis=0)
    back = np.linalg.lstsq(powers / scale, angle, rcond=None)[0] / scale
    return FThetaCamera(
        width, height, 958.7, 605.2, forward, (0.0, *back.tolist()),
        max_angle_rad=1.15, linear_cde=(1.0002, 1e-4, -3e-4),
    )  # fmt: skip


FTHETA = wide_ftheta()
MODELS = {"plain": PLAIN, "ring": RING, "rational": RATIONAL, "ftheta": FTHETA,
          "equidistant": FThetaCamera.equidistant(1280, 704, np.deg2rad(120.0))}  # fmt: skip


def pixel_grid(model, n=25):
    u, v = np.meshgrid(np.linspace(0, model.width - 1, n), np.linspace(0, model.height - 1, n))
    return np.stack([u, v], axis=-1)


# ------------------------------------------------------------------------------- models


@pytest.mark.parametrize("name", MODELS)
def test_pixels_come_back_through_their_rays(name):
    model = MODELS[name]
    pixels = pixel_grid(model)
    rays = model.unproject(pixels)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1, atol=1e-12)
    back, covered = model.project(7.3 * rays)
    inside = covered if name == "ftheta" else np.full_like(covered, True)
    assert covered.mean() > 0.9
    # Fitted inverse polynomials leave thousandths of a pixel, as real calibrations do.
    np.testing.assert_allclose(
        back[inside], pixels[inside], atol=0.05 if name == "ftheta" else 1e-7
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_optical_axis_hits_the_principal_point(name):
    model = MODELS[name]
    pixel, covered = model.project(np.array([0.0, 0.0, 5.0]))
    assert covered
    np.testing.assert_allclose(pixel, [model.cx, model.cy], atol=1e-9)
    np.testing.assert_allclose(model.unproject(pixel), [0, 0, 1], atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_right_is_right_and_down_is_down(name):
    pixel, _ = MODELS[name].project(np.array([1.0, 0.5, 10.0]))
    assert pixel[0] > MODELS[name].cx
    assert pixel[1] > MODELS[name].cy


@pytest.mark.parametrize("name", MODELS)
def test_points_behind_the_camera_are_not_covered(name):
    points = np.array([[0.0, 0.0, -5.0], [3.0, 1.0, -0.1], [0.0, 0.0, 0.0]])
    pixels, covered = MODELS[name].project(points)
    assert not covered.any()
    assert np.isfinite(pixels).all()


@pytest.mark.parametrize("name", MODELS)
def test_arrays_of_any_shape_are_mapped_point_by_point(name):
    model = MODELS[name]
    points = np.random.default_rng(0).normal(size=(3, 4, 3)) + np.array([0.0, 0.0, 4.0])
    pixels, covered = model.project(points)
    assert pixels.shape == (3, 4, 2)
    assert covered.shape == (3, 4)
    np.testing.assert_array_equal(pixels[2, 1], model.project(points[2, 1])[0])
    rays = model.unproject(pixels)
    np.testing.assert_array_equal(rays[1, 3], model.unproject(pixels[1, 3]))


def test_the_pinhole_formula_by_hand():
    pixel, _ = PLAIN.project(np.array([2.0, -1.0, 4.0]))
    np.testing.assert_allclose(pixel, [900 * 0.5 + 640.5, 910 * -0.25 + 355.25])
    camera = dataclasses.replace(PLAIN, radial=(0.1, 0.01, 0.001), tangential=(0.002, -0.003))
    x, y, r2 = 0.5, -0.25, 0.3125
    ratio = 1 + 0.1 * r2 + 0.01 * r2**2 + 0.001 * r2**3
    xd = x * ratio + 2 * 0.002 * x * y - 0.003 * (r2 + 2 * x * x)
    yd = y * ratio + 0.002 * (r2 + 2 * y * y) + 2 * -0.003 * x * y
    pixel, _ = camera.project(np.array([2.0, -1.0, 4.0]))
    np.testing.assert_allclose(pixel, [900 * xd + 640.5, 910 * yd + 355.25], rtol=1e-14)


def test_distortion_agrees_with_opencv():
    cv2 = pytest.importorskip("cv2")
    points = np.random.default_rng(1).uniform(-1, 1, size=(50, 3)) * [2, 1.2, 0.5] + [0, 0, 3]
    for model in (RING, RATIONAL):
        k = (*model.radial, 0.0, 0.0, 0.0)[:6]
        coefficients = np.array([*k[:2], *(model.tangential or (0.0, 0.0)), *k[2:]])
        matrix = np.array([[model.fx, 0, model.cx], [0, model.fy, model.cy], [0, 0, 1]])
        expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, coefficients)
        np.testing.assert_allclose(model.project(points)[0], expected[:, 0], atol=1e-9)


def test_the_ftheta_formula_by_hand():
    angle = np.arctan2(np.hypot(1.0, 2.0), 4.0)
    radius = 930 * angle - 8 * angle**2 - 38 * angle**3 + 4.5 * angle**4 + 3 * angle**5
    x, y = radius * np.array([1.0, 2.0]) / np.hypot(1.0, 2.0)
    expected = [1.0002 * x + 1e-4 * y + 958.7, -3e-4 * x + y + 605.2]
    np.testing.assert_allclose(FTHETA.project(np.array([1.0, 2.0, 4.0]))[0], expected, rtol=1e-13)


def test_an_equidistant_camera_spreads_its_field_of_view_over_the_width():
    model = FThetaCamera.equidistant(1280, 704, np.deg2rad(120.0))
    for half_px, angle_deg in ((640.0, 60.0), (320.0, 30.0)):
        ray = model.unproject(np.array([639.5 + half_px, 351.5]))
        assert np.rad2deg(np.arctan2(ray[0], ray[2])) == pytest.approx(angle_deg)


def test_a_fisheye_sees_beyond_a_right_angle():
    model = FThetaCamera.equidistant(1000, 1000, np.deg2rad(200.0))
    beside = np.array([np.sin(1.6), 0.0, np.cos(1.6)])
    pixel, covered = model.project(beside)
    assert covered
    np.testing.assert_allclose(model.unproject(pixel), beside, atol=1e-12)


def test_points_beyond_the_fold_of_a_distortion_are_not_mapped_into_the_image():
    barrel = PinholeCamera(1920, 1080, 1000.0, 1000.0, 959.5, 539.5, radial=(-0.3,))
    # r (1 - 0.3 r^2) grows up to r = 1 / sqrt(0.9), 46.5 degrees off the axis.
    assert barrel.fold_angle_rad == pytest.approx(np.arctan(1 / np.sqrt(0.9)), abs=2e-3)
    before, after = (np.array([np.tan(np.deg2rad(a)), 0.0, 1.0]) for a in (45.0, 60.0))
    assert barrel.project(before)[1]
    assert not barrel.project(after)[1]
    assert PLAIN.fold_angle_rad == PLAIN.max_angle_rad
    assert RING.fold_angle_rad == RING.max_angle_rad


@pytest.mark.filterwarnings("error::RuntimeWarning")  # numpy's
def test_pixels_that_no_ray_reaches_still_give_unit_directions():
    barrel = PinholeCamera(1920, 1080, 1000.0, 1000.0, 959.5, 539.5, radial=(-0.3,))
    rays = barrel.unproject(np.array([[0.0, 0.0], [1919.0, 1079.0], [9999.0, -5000.0]]))
    assert np.isfinite(rays).all()
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1)


# --------------------------------------------------------------------------- resizing


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(640, 360), (1280, 704), (512, 512), (3000, 800), (97, 201)])
def test_a_resized_camera_sees_the_same_rays_at_scaled_pixels(name, size):
    model = MODELS[name]
    small = model.resized(*size)
    assert (small.width, small.height) == size
    scale = max(size[0] / model.width, size[1] / model.height)
    corners = np.array([[0, 0], [size[0], 0], [0, size[1]], size]) - 0.5
    middle = (np.array(size) - 1) / 2
    native = (corners - middle) / scale + (np.array([model.width, model.height]) - 1) / 2
    assert (native > -0.5 - 1e-6).all()
    assert (native < np.array([model.width, model.height]) - 0.5 + 1e-6).all()
    pixels = pixel_grid(small, 9)
    native = (pixels - middle) / scale + (np.array([model.width, model.height]) - 1) / 2
    np.testing.assert_allclose(small.unproject(pixels), model.unproject(native), atol=1e-9)
    rays = small.unproject(pixels)
    small_px, small_covered = small.project(rays)
    native_px, native_covered = model.project(rays)
    np.testing.assert_array_equal(small_covered, native_covered)
    expected = (native_px - (np.array([model.width, model.height]) - 1) / 2) * scale + middle
    np.testing.assert_allclose(small_px[small_covered], expected[small_covered], atol=1e-6)


def test_the_native_size_is_the_same_camera():
    for model in MODELS.values():
        assert model.resized(model.width, model.height) is model


# -------------------------------------------------------------------------- axes and rigs


def test_camera_axes_in_a_rig_that_it_looks_ahead_from():
    rig_to_camera = optical_from_flu(geometry.pose(1.5, 0.0, 1.2))
    axes = geometry.rotate(rig_to_camera[3:], np.eye(3))
    np.testing.assert_allclose(axes[2], [1, 0, 0], atol=1e-15)  # camera z is rig x: forward
    np.testing.assert_allclose(axes[0], [0, -1, 0], atol=1e-15)  # camera x is rig -y: right
    np.testing.assert_allclose(axes[1], [0, 0, -1], atol=1e-15)  # camera y is rig -z: down
    np.testing.assert_allclose(rig_to_camera[:3], [1.5, 0.0, 1.2])


def test_flu_to_optical_is_the_quaternion_of_that_rotation():
    expected = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(geometry.matrix_from_pose(FLU_TO_OPTICAL), expected, atol=1e-15)
    assert not FLU_TO_OPTICAL.flags.writeable


@given(st.floats(-3, 3), st.floats(-5, 5), st.floats(0, 3))
def test_the_two_conventions_undo_each_other(yaw, y, z):
    flu = geometry.pose(1.0, y, z, yaw)
    np.testing.assert_allclose(flu_from_optical(optical_from_flu(flu)), flu, atol=1e-14)


def test_the_default_camera_looks_forward_and_slightly_down():
    camera = default_camera()
    forward = geometry.rotate(camera.rig_to_camera[3:], np.array([0.0, 0.0, 1.0]))
    expected = [np.cos(np.deg2rad(3)), 0.0, -np.sin(np.deg2rad(3))]
    np.testing.assert_allclose(forward, expected, atol=1e-15)
    right = geometry.rotate(camera.rig_to_camera[3:], np.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(right, [0, -1, 0], atol=1e-15)
    np.testing.assert_allclose(camera.rig_to_camera[:3], [1.6, 0.0, 1.5])
    assert camera.model.width % 16 == 0
    assert camera.model.height % 16 == 0


def rig_camera(name, yaw_deg):
    return Camera(name, PLAIN, optical_from_flu(geometry.pose(yaw_rad=np.deg2rad(yaw_deg))))


def test_without_a_wish_the_most_forward_camera_is_chosen():
    cameras = (rig_camera("rear", 180), rig_camera("left", 40), rig_camera("front", 3))
    assert [c.id for c in select_cameras(cameras, None, "s")] == ["front"]
    assert [c.id for c in select_cameras((), None, "s")] == ["camera_front_wide_120fov"]


def test_wanted_cameras_come_in_the_order_wanted():
    cameras = (rig_camera("a", 0), rig_camera("b", 0), rig_camera("c", 0))
    assert [c.id for c in select_cameras(cameras, ("c", "a"), "s")] == ["c", "a"]
    default = select_cameras((), ("camera_front_wide_120fov",), "s")
    assert default[0].id == "camera_front_wide_120fov"


def test_a_camera_that_the_scene_lacks_is_named_with_those_it_has():
    with pytest.raises(ConfigError) as caught:
        select_cameras((rig_camera("front", 0), rig_camera("rear", 180)), ("frnt",), "town-7")
    text = str(caught.value)
    assert "'frnt'" in text
    assert "town-7" in text
    assert "front, rear" in text
    with pytest.raises(ConfigError, match="'other'"):
        select_cameras((), ("other",), "s")


def test_a_camera_wanted_twice_is_refused():
    with pytest.raises(ConfigError, match="'a' is wanted 2 times"):
        select_cameras((rig_camera("a", 0),), ("a", "a"), "s")
