from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from omniloop.core import geometry
from omniloop.core.geometry import IDENTITY
from tests.kinematics import finite_difference_motion

EPOCH_US = 1_600_000_000_123_457

coordinates = st.floats(-500, 500, allow_nan=False, width=32)
unit = st.floats(-1, 1, allow_nan=False)


@st.composite
def quaternions(draw):
    quat = np.array(draw(st.tuples(unit, unit, unit, unit)))
    length = np.linalg.norm(quat)
    assume(length > 1e-3)
    return quat / length


@st.composite
def poses(draw):
    return np.concatenate(
        [draw(st.tuples(coordinates, coordinates, coordinates)), draw(quaternions())]
    )


def random_poses(*shape, seed=0):
    rng = np.random.default_rng(seed)
    out = rng.normal(scale=20, size=(*shape, 7))
    out[..., 3:] = rng.normal(size=(*shape, 4))
    return geometry.normalise(out)


def angle_between(q0, q1):
    return 2 * np.arccos(np.clip(np.abs(np.sum(q0 * q1, axis=-1)), 0, 1))


# ------------------------------------------------------------------- poses and rotations


@given(quaternions(), st.tuples(coordinates, coordinates, coordinates))
def test_rotate_agrees_with_scipy(quat, vector):
    expected = Rotation.from_quat(quat).apply(vector)
    np.testing.assert_allclose(geometry.rotate(quat, vector), expected, atol=1e-11)


@given(quaternions(), quaternions())
def test_quat_multiply_agrees_with_scipy(a, b):
    expected = (Rotation.from_quat(a) * Rotation.from_quat(b)).as_matrix()
    product = Rotation.from_quat(geometry.quat_multiply(a, b)).as_matrix()
    np.testing.assert_allclose(product, expected, atol=1e-13)


@given(poses(), poses())
def test_compose_is_the_product_of_matrices(a_to_b, b_to_c):
    expected = geometry.matrix_from_pose(a_to_b) @ geometry.matrix_from_pose(b_to_c)
    product = geometry.matrix_from_pose(geometry.compose(a_to_b, b_to_c))
    np.testing.assert_allclose(product, expected, atol=1e-10)


@given(poses())
def test_a_pose_composed_with_its_inverse_is_the_identity(a_to_b):
    for product in (
        geometry.compose(a_to_b, geometry.inverse(a_to_b)),
        geometry.compose(geometry.inverse(a_to_b), a_to_b),
    ):
        np.testing.assert_allclose(product, IDENTITY, atol=1e-10)


@given(poses(), poses(), st.tuples(coordinates, coordinates, coordinates))
def test_transforming_through_two_frames_is_transforming_once(a_to_b, b_to_c, point):
    twice = geometry.transform_points(a_to_b, geometry.transform_points(b_to_c, point))
    once = geometry.transform_points(geometry.compose(a_to_b, b_to_c), point)
    np.testing.assert_allclose(twice, once, atol=1e-9)


@given(poses())
def test_matrices_bring_the_pose_back(a_to_b):
    back = geometry.pose_from_matrix(geometry.matrix_from_pose(a_to_b))
    np.testing.assert_array_equal(back[:3], a_to_b[:3])
    assert angle_between(back[3:], a_to_b[3:]) < 1e-7
    expected = Rotation.from_quat(a_to_b[3:]).as_matrix()
    np.testing.assert_allclose(geometry.matrix_from_pose(a_to_b)[:3, :3], expected, atol=1e-14)


def test_pose_from_matrix_takes_3x4_matrices_of_any_leading_shape():
    poses = random_poses(2, 5)
    matrices = geometry.matrix_from_pose(poses)[..., :3, :]
    back = geometry.pose_from_matrix(matrices)
    assert back.shape == (2, 5, 7)
    np.testing.assert_allclose(geometry.matrix_from_pose(back)[..., :3, :], matrices, atol=1e-13)
    assert geometry.pose_from_matrix(np.zeros((0, 4, 4))).shape == (0, 7)


def test_a_to_b_is_where_b_is_in_a():
    local_to_rig = geometry.pose(10.0, 5.0, 0.0, yaw_rad=np.pi / 2)
    ahead_of_rig = geometry.transform_points(local_to_rig, [2.0, 0.0, 0.0])
    np.testing.assert_allclose(ahead_of_rig, [10.0, 7.0, 0.0], atol=1e-15)


def test_functions_broadcast_over_leading_axes():
    one, many, grid = random_poses(), random_poses(5), random_poses(3, 1)
    np.testing.assert_array_equal(geometry.compose(one, many)[2], geometry.compose(one, many[2]))
    out = geometry.compose(grid, many)
    assert out.shape == (3, 5, 7)
    np.testing.assert_array_equal(out[1, 4], geometry.compose(grid[1, 0], many[4]))
    points = geometry.transform_points(grid, np.ones((5, 3)))
    np.testing.assert_array_equal(points[2, 3], geometry.transform_points(grid[2, 0], np.ones(3)))
    assert geometry.inverse(grid).shape == (3, 1, 7)


def test_inverse_leaves_its_argument_alone():
    pose = random_poses()
    before = pose.copy()
    geometry.inverse(pose)
    np.testing.assert_array_equal(pose, before)


@given(st.floats(-3.1, 3.1), st.floats(-1.2, 1.2), st.floats(-1.2, 1.2))
def test_yaw_is_the_heading_of_the_x_axis(yaw, pitch, roll):
    quat = Rotation.from_euler("ZYX", [yaw, pitch, roll]).as_quat()
    pose = np.concatenate([[0, 0, 0], quat])
    assert geometry.yaw_rad(pose) == pytest.approx(yaw, abs=1e-12)


@given(st.floats(-np.pi, np.pi, exclude_min=True))
def test_pose_and_poses_from_xyz_yaw_hold_the_yaw(yaw):
    pose = geometry.pose(1.0, 2.0, 3.0, yaw)
    assert geometry.yaw_rad(pose) == pytest.approx(yaw, abs=1e-14)
    many = geometry.poses_from_xyz_yaw([[1.0, 2.0, 3.0]], [yaw, yaw])
    np.testing.assert_array_equal(many, [pose, pose])


@example(-np.pi)
@example(np.pi)
@example(-np.pi - 4.5e-16)
@given(st.floats(-1e4, 1e4))
def test_wrapped_angles_are_the_same_direction_in_one_turn(angle):
    wrapped = float(geometry.wrap_rad(angle))
    assert -np.pi <= wrapped <= np.pi
    assert np.cos(wrapped) == pytest.approx(np.cos(angle), abs=1e-11)
    assert np.sin(wrapped) == pytest.approx(np.sin(angle), abs=1e-11)


def test_pi_wraps_to_minus_pi():
    assert geometry.wrap_rad(np.pi) == -np.pi


@given(quaternions())
def test_rotation_vectors_agree_with_scipy_and_ignore_the_sign(quat):
    expected = Rotation.from_quat(quat).as_rotvec()
    assume(np.linalg.norm(expected) < np.pi - 1e-6)
    np.testing.assert_allclose(geometry.rotation_vectors(quat), expected, atol=1e-12)
    np.testing.assert_allclose(geometry.rotation_vectors(-quat), expected, atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-30, 1e-12, 1e-9, 3e-9, 1e-5, 3.1])
def test_rotation_vectors_are_exact_down_to_no_rotation(angle):
    quat = np.array([0.0, np.sin(angle / 2), 0.0, np.cos(angle / 2)])
    np.testing.assert_allclose(geometry.rotation_vectors(quat), [0.0, angle, 0.0], rtol=1e-14)


# ----------------------------------------------------------------------- interpolation


@given(quaternions(), quaternions(), st.floats(0, 1))
def test_slerp_agrees_with_scipy(q0, q1, alpha):
    assume(abs(q0 @ q1) > 1e-6)  # half a turn apart there are two shortest arcs
    expected = Slerp([0, 1], Rotation.from_quat([q0, q1]))(alpha).as_quat()
    out = geometry.slerp(q0, q1, alpha)
    assert np.linalg.norm(out) == pytest.approx(1, abs=1e-15)
    assert min(np.abs(out - expected).max(), np.abs(out + expected).max()) < 1e-11


@pytest.mark.parametrize("angle", [0.0, 1e-16, 1e-12, 1e-8, 1e-5, 1.9e-4, 2.1e-4, 1e-3, 0.1, 3.0])
def test_slerp_turns_by_the_fraction_of_the_angle_however_small(angle):
    q0 = np.array([0.0, 0.0, 0.0, 1.0])
    q1 = np.array([0.0, 0.0, np.sin(angle / 2), np.cos(angle / 2)])
    for alpha in (0.1, 0.5, 0.9):
        for sign in (1, -1):  # the negative quaternion is the same rotation
            out = geometry.slerp(q0, sign * q1, alpha)
            assert 2 * np.arctan2(out[2], out[3]) == pytest.approx(alpha * angle, abs=2e-13)


def test_slerp_between_half_a_turn_stays_on_an_arc_between_them():
    q0, q1 = np.array([0.0, 0.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0, 0.0])
    out = geometry.slerp(q0, q1, 0.5)
    assert angle_between(out, q0) == pytest.approx(np.pi / 2)
    assert angle_between(out, q1) == pytest.approx(np.pi / 2)


@given(poses(), poses())
def test_the_ends_of_an_interpolation_come_back_exactly(a, b):
    np.testing.assert_array_equal(geometry.interpolate_poses(a, b, 0.0), a)
    np.testing.assert_array_equal(geometry.interpolate_poses(a, b, 1.0), b)
    np.testing.assert_array_equal(geometry.slerp(a[3:], b[3:], 0.0), a[3:])
    np.testing.assert_array_equal(geometry.slerp(a[3:], b[3:], 1.0), b[3:])


def test_positions_are_interpolated_linearly():
    a, b = geometry.pose(1.0, 2.0, 3.0), geometry.pose(3.0, 2.0, -1.0, yaw_rad=0.4)
    out = geometry.interpolate_poses(a, b, 0.25)
    np.testing.assert_allclose(out, geometry.pose(1.5, 2.0, 2.0, yaw_rad=0.1), atol=1e-15)


def test_an_interpolated_pose_does_not_depend_on_its_neighbours():
    a, b = random_poses(6, 4), random_poses(6, 4, seed=1)
    a[2] = b[2]
    alpha = np.random.default_rng(2).random((6, 4))
    alpha[3, 1], alpha[4, 2] = 0.0, 1.0
    whole = geometry.interpolate_poses(a, b, alpha)
    for i, j in np.ndindex(6, 4):
        alone = geometry.interpolate_poses(a[i, j], b[i, j], alpha[i, j])
        assert whole[i, j].tobytes() == alone.tobytes()


def test_one_fraction_per_column_broadcasts():
    a, b, alpha = random_poses(3, 4), random_poses(3, 4, seed=1), np.array([0.0, 0.3, 0.7, 1.0])
    out = geometry.interpolate_poses(a, b, alpha)
    full = geometry.interpolate_poses(a, b, np.tile(alpha, (3, 1)))
    assert out.tobytes() == full.tobytes()
    assert geometry.interpolate_poses(a[0, 0], b[0], alpha).shape == (4, 7)
    assert geometry.interpolate_poses(a[:0, 0], b[:0, 0], alpha[:0]).shape == (0, 7)


# ------------------------------------------------------------------ finite differences


@pytest.mark.parametrize("start_us", [0, EPOCH_US])
@pytest.mark.parametrize("step_us", [5_000, 33_333, 100_000])
def test_motion_on_a_circle_is_found_at_any_clock(start_us, step_us):
    speed, rate, radius = 12.0, 0.4, 30.0
    times = start_us + step_us * np.arange(40, dtype=np.int64)
    phase = rate * (times - start_us) / 1e6
    xyz = radius * np.stack([np.sin(phase), 1 - np.cos(phase), np.zeros(40)], axis=1)
    motion = finite_difference_motion(times, geometry.poses_from_xyz_yaw(xyz, phase))
    inner = motion[2:-2]
    # A chord of the angle 2a is shorter than its arc by sin(a) / a.
    half = rate * step_us / 1e6
    np.testing.assert_allclose(inner[:, 0], speed * np.sinc(half / np.pi), rtol=1e-8)
    np.testing.assert_allclose(inner[:, 1:3], 0, atol=1e-6)
    np.testing.assert_allclose(inner[:, 3:5], 0, atol=1e-12)
    np.testing.assert_allclose(inner[:, 5], rate, rtol=1e-9)
    np.testing.assert_allclose(inner[:, 7], speed * rate * np.sinc(half / np.pi) ** 2, rtol=1e-5)
    np.testing.assert_allclose(inner[:, [6, 8]], 0, atol=1e-4)
    np.testing.assert_allclose(inner[:, 9:], 0, atol=1e-6)
    ends = motion[[0, -1]]
    np.testing.assert_allclose(ends[:, 5], rate, rtol=1e-9)
    np.testing.assert_allclose(ends[:, 0], speed, rtol=1e-3)


def test_motion_is_given_in_the_body_frame():
    times = np.arange(5, dtype=np.int64) * 100_000
    xyz = np.stack([np.zeros(5), 3.0 * times / 1e6, np.zeros(5)], axis=1)
    sideways = finite_difference_motion(times, geometry.poses_from_xyz_yaw(xyz, 0.0))
    np.testing.assert_allclose(sideways[:, :3], [[0, 3, 0]] * 5, atol=1e-12)
    ahead = finite_difference_motion(times, geometry.poses_from_xyz_yaw(xyz, np.pi / 2))
    np.testing.assert_allclose(ahead[:, :3], [[3, 0, 0]] * 5, atol=1e-12)


def test_acceleration_along_a_line_is_exact_inside():
    times = EPOCH_US + np.arange(9, dtype=np.int64) * 50_000
    t = (times - times[0]) / 1e6
    xyz = np.stack([2.0 * t + 0.5 * 3.0 * t**2, 0 * t, 0 * t], axis=1)
    motion = finite_difference_motion(times, geometry.poses_from_xyz_yaw(xyz, 0.0))
    np.testing.assert_allclose(motion[1:-1, 0], 2.0 + 3.0 * t[1:-1], rtol=1e-12)
    np.testing.assert_allclose(motion[2:-2, 6], 3.0, rtol=1e-10)


def test_a_single_pose_has_no_motion():
    assert not finite_difference_motion(np.array([7]), geometry.pose()[None]).any()
    assert finite_difference_motion(np.zeros(0, np.int64), np.zeros((0, 7))).shape == (
        0,
        12,
    )


# ----------------------------------------------------------------- boxes and polylines


@given(coordinates, coordinates, st.floats(-4, 4), st.floats(0.1, 20), st.floats(0.1, 5))
def test_box_corners_are_the_rotated_box(x, y, yaw, length, width):
    corners = geometry.box_corners_xy(geometry.pose(x, y, 0, yaw), np.array([length, width, 1.0]))
    box = shapely.box(-length / 2, -width / 2, length / 2, width / 2)
    expected = shapely.affinity.translate(
        shapely.affinity.rotate(box, yaw, origin=(0, 0), use_radians=True), x, y
    )
    ours = shapely.Polygon(corners)
    assert ours.exterior.is_ccw
    assert ours.symmetric_difference(expected).area < 1e-9 * max(length * width, 1) + 1e-9
    front_left = geometry.transform_points(geometry.pose(x, y, 0, yaw), [length / 2, width / 2, 0])
    np.testing.assert_allclose(corners[0], front_left[:2], atol=1e-10)


def test_box_corners_broadcast_sizes_over_times():
    poses, sizes = random_poses(3, 4), np.array([[4.0, 2.0, 1.0], [5.0, 2.0, 1.0], [1.0, 1.0, 2.0]])
    corners = geometry.box_corners_xy(poses, sizes[:, None])
    assert corners.shape == (3, 4, 4, 2)
    np.testing.assert_array_equal(corners[1, 2], geometry.box_corners_xy(poses[1, 2], sizes[1]))


lines = st.lists(st.tuples(coordinates, coordinates), min_size=2, max_size=8)


@given(lines, st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=5))
def test_projection_on_a_polyline_agrees_with_shapely(line, points):
    assume(len(set(line)) > 1)
    polyline = np.array(line)
    s, distance = geometry.project_on_polyline(np.array(points), polyline)
    expected = shapely.LineString(line)
    for point, s_m, distance_m in zip(points, s, distance, strict=True):
        assert distance_m == pytest.approx(expected.distance(shapely.Point(point)), abs=1e-9)
        # Where several points of the line are nearest, shapely may name another of them.
        foot = expected.interpolate(s_m)
        assert foot.distance(shapely.Point(point)) == pytest.approx(distance_m, abs=1e-6)
        assert 0 <= s_m <= expected.length + 1e-9


def test_projection_by_hand():
    line = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 5.0]])
    points = np.array([[3.0, 2.0], [-3.0, 4.0], [12.0, 4.0], [10.0, 9.0]])
    s, distance = geometry.project_on_polyline(points, line)
    np.testing.assert_allclose(s, [3.0, 0.0, 14.0, 15.0])
    np.testing.assert_allclose(distance, [2.0, 5.0, 2.0, 4.0])


def test_projection_takes_the_first_of_equally_near_points():
    there_and_back = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 0.0]])
    s, _ = geometry.project_on_polyline(np.array([[4.0, 1.0]]), there_and_back)
    assert s[0] == 4.0


def test_projection_survives_repeated_points_and_a_single_point():
    s, distance = geometry.project_on_polyline(
        np.array([[1.0, 1.0]]), np.array([[0.0, 0.0], [0.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
    )
    assert (s[0], distance[0]) == (1.0, 1.0)
    s, distance = geometry.project_on_polyline(np.array([[3.0, 4.0]]), np.zeros((1, 2)))
    assert (s[0], distance[0]) == (0.0, 5.0)


@given(lines, st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_resampled_points_agree_with_shapely(line, fractions):
    assume(len(set(line)) > 1)
    expected = shapely.LineString(line)
    s = np.array(fractions) * expected.length
    points = geometry.resample_polyline(np.array(line), s)
    for point, s_m in zip(points, s, strict=True):
        assert expected.interpolate(s_m).distance(shapely.Point(point)) < 1e-6


def test_resampling_clamps_and_carries_further_columns():
    line = np.array([[0.0, 0.0, 1.0], [3.0, 4.0, 2.0], [3.0, 4.0, 2.0], [3.0, 9.0, 4.0]])
    out = geometry.resample_polyline(line, [-1.0, 2.5, 5.0, 7.5, 99.0])
    expected = [[0, 0, 1], [1.5, 2, 1.5], [3, 4, 2], [3, 6.5, 3], [3, 9, 4]]
    np.testing.assert_allclose(out, expected)


def test_arc_length_starts_at_zero():
    np.testing.assert_allclose(
        geometry.arc_length_m(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 10.0]])), [0.0, 5.0, 11.0]
    )
    assert geometry.arc_length_m(np.zeros((1, 3))).tolist() == [0.0]


def test_normalise_gives_unit_quaternions_and_keeps_positions():
    raw = random_poses(4)
    raw[:, 3:] *= 2.5
    out = geometry.normalise(raw)
    np.testing.assert_allclose(np.linalg.norm(out[:, 3:], axis=1), 1, atol=1e-15)
    np.testing.assert_array_equal(out[:, :3], raw[:, :3])


@given(st.lists(st.floats(-1e160, 1e160), min_size=64, max_size=64), st.integers(1, 3))
def test_few_rows_give_the_bits_that_many_rows_give(numbers, n):
    values = np.array(numbers).reshape(8, 8)
    with np.errstate(all="ignore"):
        for operation, width in ((geometry.rotate, 3), (geometry.quat_multiply, 4)):
            a, b = values[:, :4], np.ascontiguousarray(values[:, 4 : 4 + width])
            many = operation(a, b)
            assert operation(a[:n], b[:n]).tobytes() == many[:n].tobytes()
            assert operation(a[0], b[0]).tobytes() == many[0].tobytes()
            one = operation(np.tile(a[0], (8, 1)), b)
            assert operation(a[0], b[:n]).tobytes() == one[:n].tobytes()
            assert operation(a[:1], b[:n]).tobytes() == one[:n].tobytes()


def test_rows_that_do_not_broadcast_are_refused():
    with pytest.raises(ValueError, match="broadcast"):
        geometry.rotate(np.zeros((2, 4)), np.zeros((3, 3)))
