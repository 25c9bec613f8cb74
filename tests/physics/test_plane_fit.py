"""Planes under boxes: closed forms on slopes, the choice of surfaces, limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.contracts import GroundStatus
from omniloop.core.errors import ConfigError
from omniloop.physics.plane_fit import Limits, set_on_ground

UPDATED, INSUFFICIENT, HIGH_TRANSLATION, HIGH_ROTATION = (
    GroundStatus[name].value
    for name in (
        "SUCCESSFUL_UPDATE", "INSUFFICIENT_POINTS_FITPLANE", "HIGH_TRANSLATION", "HIGH_ROTATION",
    )
)  # fmt: skip
WIDE = Limits(max_shift_m=5.0, max_tilt_deg=80.0)
SIZES = {"car": (4.6, 1.9, 1.6), "truck": (12.0, 2.5, 3.5), "pedestrian": (0.5, 0.6, 1.8)}

sizes = st.sampled_from(sorted(SIZES)).map(lambda name: np.array(SIZES[name]))
angles = st.floats(-np.pi, np.pi)
gradients = st.floats(-0.15, 0.15)
places = st.floats(-1e4, 1e4)


def surfaces(*height_of_xy):
    """Heights of surfaces above each other; NaN from a function is a hole in its surface."""

    def heights(x, y):
        return np.stack([np.broadcast_to(f(x, y), x.shape) for f in height_of_xy], axis=-1)

    return heights


def plane(gx, gy, z=0.0):
    return lambda x, y: z + gx * x + gy * y


def set_one(heights, box, size=SIZES["car"], limits=Limits()):  # noqa: B008
    poses, status = set_on_ground(heights, np.atleast_2d(box), np.atleast_2d(size), limits)
    return poses[0], status[0]


def turned(box, axis, angle_rad):
    quat = np.append(np.sin(angle_rad / 2) * np.eye(3)[axis], np.cos(angle_rad / 2))
    return geometry.compose(box, np.append(np.zeros(3), quat))


# ------------------------------------------------------------------------- closed forms


@given(gradients, gradients, angles, places, places, sizes, st.floats(-1, 1))
def test_on_a_plane_height_pitch_and_roll_are_those_of_the_closed_form(gx, gy, yaw, x, y, size, up):
    standing = gx * x + gy * y + size[2] / 2 * np.sqrt(1 + gx**2 + gy**2)
    box, status = set_one(
        surfaces(plane(gx, gy)), geometry.pose(x, y, standing + up, yaw), size, WIDE
    )
    assert status == UPDATED
    ahead = gx * np.cos(yaw) + gy * np.sin(yaw)
    left = gy * np.cos(yaw) - gx * np.sin(yaw)
    rotation = geometry.matrix_from_pose(box)[:3, :3]
    pitch = -np.arcsin(rotation[2, 0])
    roll = np.arctan2(rotation[2, 1], rotation[2, 2])
    assert box[2] == pytest.approx(standing, abs=1e-8)
    assert pitch == pytest.approx(-np.arctan(ahead), abs=1e-9)
    assert roll == pytest.approx(np.arctan2(left, np.sqrt(1 + ahead**2)), abs=1e-9)
    normal = np.array([-gx, -gy, 1]) / np.sqrt(1 + gx**2 + gy**2)
    np.testing.assert_allclose(rotation[:, 2], normal, atol=1e-9)
    np.testing.assert_array_equal(box[:2], [x, y])
    assert geometry.wrap_rad(geometry.yaw_rad(box) - yaw) == pytest.approx(0, abs=1e-9)


def test_the_fit_is_that_of_least_squares_with_holes_and_without():
    rng = np.random.default_rng(3)
    length, width = SIZES["car"][:2]
    grid = np.linspace(-0.5, 0.5, 4)
    u, v = (g.ravel() for g in np.meshgrid(length * grid, width * grid, indexing="ij"))
    for holes in (0, 5, 10):
        heights = rng.uniform(-0.1, 0.1, 16)
        heights[rng.permutation(16)[:holes]] = np.nan
        known = np.isfinite(heights)
        basis = np.stack([np.ones(16), u, v], axis=1)[known]
        expected = np.linalg.lstsq(basis, heights[known], rcond=None)[0]
        box, status = set_one(
            lambda x, y, h=heights: h.reshape(1, 16, 1), geometry.pose(z=0.8), limits=WIDE
        )
        slope = np.hypot(1, np.hypot(*expected[1:]))
        assert status == UPDATED
        assert box[2] == pytest.approx(expected[0] + 0.8 * slope, abs=1e-12)
        np.testing.assert_allclose(
            geometry.matrix_from_pose(box)[:3, 2],
            np.array([*-expected[1:], 1]) / slope,
            atol=1e-12,
        )


def test_every_box_has_its_own_size():
    heights = surfaces(lambda x, y: np.where(x > 3, 0.2, 0.0))
    boxes = np.tile(geometry.pose(z=1.0), (2, 1))
    sizes_m = np.array([SIZES["car"], SIZES["truck"]])
    poses, status = set_on_ground(heights, boxes, sizes_m, WIDE)
    assert status.tolist() == [UPDATED, UPDATED]
    np.testing.assert_allclose(poses[0], geometry.pose(z=0.8), atol=1e-15)
    assert poses[1, 2] > 1.75 + 0.04


def test_a_box_does_not_depend_on_what_stands_beside_it():
    heights = surfaces(lambda x, y: np.where(x > 0, 0.02 * np.sin(x), np.nan))
    boxes = np.stack([geometry.pose(30.0, 1.0, 0.7, 0.3), geometry.pose(0.5, 0, 0.8)])
    both = set_on_ground(heights, boxes, np.tile(SIZES["car"], (2, 1)), Limits())[0]
    for box, alone in zip(both, boxes, strict=True):
        np.testing.assert_allclose(set_one(heights, alone)[0], box, atol=1e-14)


def test_a_box_without_length_and_width_stands_on_what_is_below_it():
    box, status = set_one(surfaces(plane(0.1, 0, 0.3)), geometry.pose(z=1.0), np.array([0, 0, 1.0]))
    assert status == UPDATED
    assert box[2] == pytest.approx(0.3 + 0.5 * np.hypot(1, 0.1))


# ------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(("degrees", "expected"), [(9.9, UPDATED), (12.0, HIGH_ROTATION)])
def test_a_ramp_beyond_ten_degrees_is_refused_in_every_direction(degrees, expected):
    ramp = surfaces(plane(np.tan(np.deg2rad(degrees)), 0))
    for yaw in np.linspace(-3, 3, 13):
        start = geometry.pose(0, 0, 0.8, yaw)
        box, status = set_one(ramp, start)
        assert status == expected
        assert np.array_equal(box, start) == (status != UPDATED)


@given(st.floats(0.5, 30), st.floats(-8, 8), st.sampled_from([0, 1]))
def test_the_gate_is_on_the_angle_between_the_attitudes_whatever_its_sign(limit, degrees, axis):
    # AlpaSim compares the largest signed component and lets every negative turn pass.
    start = turned(geometry.pose(z=0.8, yaw_rad=0.7), axis, np.deg2rad(degrees))
    status = set_one(surfaces(plane(0, 0)), start, limits=Limits(1.5, limit))[1]
    if abs(abs(degrees) - limit) > 1e-6:
        assert status == (UPDATED if abs(degrees) < limit else HIGH_ROTATION)


@pytest.mark.parametrize("sign", [-1, 1])
def test_ground_two_metres_off_is_refused_up_and_down(sign):
    start = geometry.pose(z=0.8)
    box, status = set_one(surfaces(plane(0, 0, sign * 2.0)), start)
    assert status == HIGH_TRANSLATION
    np.testing.assert_array_equal(box, start)
    assert set_one(surfaces(plane(0, 0, sign * 2.0)), start, limits=Limits(2.1))[1] == UPDATED


def test_over_the_edge_of_a_drop_the_ground_within_the_limit_decides():
    drop = surfaces(lambda x, y: np.where(x > 0.1, -2.0, 0.05 * x))
    box, status = set_one(drop, geometry.pose(z=0.8))
    assert status == UPDATED
    assert box[2] == pytest.approx(0.8 * np.hypot(1, 0.05))
    wall = surfaces(lambda x, y: np.where(x > 0.1, -2.0, 2.0))
    assert set_one(wall, geometry.pose(z=0.8))[1] == HIGH_TRANSLATION


def test_without_three_points_that_span_a_plane_the_pose_stays():
    start = geometry.pose(z=0.8)
    nowhere = surfaces(lambda x, y: np.full(x.shape, np.nan))
    line = surfaces(lambda x, y: np.where(x > 2, 0.0, np.nan))
    two_lines = surfaces(lambda x, y: np.where(x > 0, 0.0, np.nan))
    far = surfaces(plane(0, 0, -100.5))
    for heights, expected in (
        (nowhere, INSUFFICIENT), (line, INSUFFICIENT), (far, INSUFFICIENT), (two_lines, UPDATED)
    ):  # fmt: skip
        box, status = set_one(heights, start)
        assert status == expected
        np.testing.assert_array_equal(box, start)


@pytest.mark.parametrize("name", ["max_shift_m", "max_tilt_deg"])
@pytest.mark.parametrize("value", [0, -1, 1e6, float("nan"), "2", None, True])
def test_limits_that_cannot_be_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"{name} is ") as error:
        Limits(**{name: value})
    assert error.value.where.startswith(f"ground.{name}=")


# -------------------------------------------------------------- surfaces above each other


def test_of_surfaces_above_each_other_the_nearest_to_the_bottom_counts():
    road_and_bridge = surfaces(plane(0.05, 0), plane(0, 0.02, 5.0))
    assert set_one(road_and_bridge, geometry.pose(z=0.8))[0][2] == pytest.approx(0.801, abs=1e-4)
    assert set_one(road_and_bridge, geometry.pose(z=5.5))[0][2] == pytest.approx(5.8, abs=1e-3)
    # Under the bridge, its top reaching up to the deck: the bottom decides, not the centre.
    tall = np.array([8.0, 2.5, 4.2])
    assert set_one(road_and_bridge, geometry.pose(z=2.5), tall)[0][2] == pytest.approx(
        2.1, abs=0.01
    )
    assert set_one(road_and_bridge, geometry.pose(z=3.2))[1] == HIGH_TRANSLATION


@given(
    st.integers(0, 10_000), st.floats(0.1, 6.0), st.floats(-0.15, 0.15), st.floats(-0.15, 0.15),
    st.floats(0, 0.3),
)  # fmt: skip
def test_setting_twice_changes_nothing_on_bridges_and_among_holes(seed, gap, gx, gy, holes):
    rng = np.random.default_rng(seed)
    shape = rng.uniform(0.1, 0.5, 4)

    def road(x, y):
        return 0.4 * np.sin(shape[0] * x) + 0.3 * np.cos(shape[1] * y)

    def bridge(x, y):
        deck = gap + gx * x + gy * y + 0.1 * np.sin(shape[2] * x)
        return np.where(np.sin(shape[3] * x) > 1 - 2 * holes, np.nan, deck)

    heights = surfaces(bridge, road)
    n = 40
    boxes = geometry.poses_from_xyz_yaw(rng.uniform(-9, 9, (n, 3)), rng.uniform(-3, 3, n))
    boxes = turned(turned(boxes, 0, 0.1), 1, -0.1)
    boxes[:, 2] = rng.uniform(-1, 8, n)
    sizes_m = np.array(list(SIZES.values()))[rng.integers(0, 3, n)]
    once, first = set_on_ground(heights, boxes, sizes_m, Limits())
    twice, second = set_on_ground(heights, once, sizes_m, Limits())
    np.testing.assert_array_equal(second, first)
    np.testing.assert_allclose(twice, once, atol=1e-9)
    np.testing.assert_array_equal(once[first != UPDATED], boxes[first != UPDATED])
    if gap > 2 and holes < 0.1 and max(abs(gx), abs(gy)) < 0.1:
        assert (first == UPDATED).sum() > 5
