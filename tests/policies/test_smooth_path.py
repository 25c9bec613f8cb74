import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.policies.smooth_path import pitch_roll_rad, quat_from_yaw_pitch_roll, smooth_path


def circle_waypoints(radius_m: float, count: int = 20, spacing_m: float = 80 / 19) -> np.ndarray:
    angle = spacing_m * np.arange(count) / radius_m
    return np.stack([radius_m * np.sin(angle), radius_m * (1 - np.cos(angle)), 0 * angle], axis=1)


@pytest.mark.parametrize("radius_m", [8.0, 15.0, 40.0, 1000.0])
def test_through_waypoints_of_a_circle_it_is_that_circle(radius_m):
    path = smooth_path(circle_waypoints(radius_m), np.zeros(3), np.array([1.0, 0, 0]), 8.0)
    s = np.linspace(0, path.route_end_m, 200)
    poses = path.poses(s, 0.0)
    radius = np.hypot(poses[:, 0], poses[:, 1] - radius_m)
    np.testing.assert_allclose(radius, radius_m, atol=0.15 / radius_m)
    gap = np.linalg.norm(poses[:, :2] - circle_waypoints(radius_m, 200, s[1])[:, :2], axis=1)
    assert gap[s < 20].max() < 0.6 / radius_m
    turned = geometry.wrap_rad(geometry.yaw_rad(poses) - s / radius_m)
    assert np.abs(turned[s < 20]).max() < 0.02
    assert np.median(path.curvature_1pm[:-1]) == pytest.approx(1 / radius_m, rel=0.05)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-2, 2), st.floats(-0.6, 0.6), st.floats(-0.1, 0.1), st.floats(5, 30), st.floats(-3, 3)
)
def test_it_starts_at_egos_place_and_heading_and_joins_the_route(aside, turn, slope, join_m, yaw):
    world = geometry.pose(100.0, -50.0, 3.0, yaw)
    way = np.stack([80 / 19 * np.arange(20), np.zeros(20), np.zeros(20)], axis=1)
    start = geometry.transform_points(world, np.array([0.0, aside, 0.5]))
    forward = np.array([np.cos(yaw + turn), np.sin(yaw + turn), slope])
    path = smooth_path(geometry.transform_points(world, way), start, forward, join_m)
    assert (np.diff(path.s_m) > 0).all()
    poses = path.poses(np.array([0.0, 1e-3, join_m * 1.5 + 5.0]), 0.1)
    np.testing.assert_allclose(poses[0, :3], start, atol=1e-9)
    assert geometry.wrap_rad(geometry.yaw_rad(poses[0]) - yaw - turn) == pytest.approx(0, abs=1e-9)
    pitch, roll = pitch_roll_rad(poses[0])
    assert pitch == pytest.approx(-np.arctan(slope), abs=1e-9)
    assert roll == pytest.approx(0.1, abs=1e-9)
    direction = (poses[1, :3] - poses[0, :3]) / 1e-3
    np.testing.assert_allclose(direction, forward, atol=5e-3)
    joined = geometry.transform_points(geometry.inverse(world), poses[2, :3])
    np.testing.assert_allclose(joined[1:], 0, atol=1e-9)


def test_uneven_waypoints_make_no_loops():
    x = np.array([0.0, 0.3, 6.0, 6.5, 7.0, 20.0, 21.0, 40.0])
    way = np.stack([x, 0.02 * x**1.5, 0 * x], axis=1)
    path = smooth_path(way, np.zeros(3), np.array([1.0, 0, 0]), 8.0)
    poses = path.poses(np.linspace(0, 38, 100), 0.0)
    assert (np.diff(poses[:, 0]) > 0).all()
    gap = geometry.project_on_polyline(poses[:, :2], way)[1]
    assert gap.max() < 0.5


def test_many_waypoints_and_ones_that_turn_back_give_a_finite_path():
    many = np.stack([0.5 * np.arange(1000), np.zeros(1000), np.zeros(1000)], axis=1)
    back = np.array([[0.0, 0, 0], [4, 0, 0], [0.1, 0, 0], [4.1, 0, 0]])
    for way in (many, back):
        path = smooth_path(way, np.zeros(3), np.array([1.0, 0, 0]), 8.0)
        assert len(path.s_m) < 200
        assert np.isfinite(path.poses(np.linspace(0, 50, 99), 0.0)).all()
    assert smooth_path(many, np.zeros(3), np.array([1.0, 0, 0]), 8.0).route_end_m > 100


def test_two_waypoints_are_a_straight_line_that_goes_on():
    path = smooth_path(
        np.array([[0.0, 0, 0], [4.0, 0, 0.4]]), np.zeros(3), np.array([1.0, 0, 0.1]), 5.0
    )
    poses = path.poses(np.array([0.0, 2.0, 4.0, 104.0]), 0.0)
    np.testing.assert_allclose(
        poses[:, :3], [[0, 0, 0], [2, 0, 0.2], [4, 0, 0.4], [104, 0, 10.4]], atol=1e-9
    )


@given(st.floats(-3, 3), st.floats(-1.4, 1.4), st.floats(-1.4, 1.4))
def test_angles_and_quaternions_agree(yaw, pitch, roll):
    def about(axis, angle):
        out = geometry.IDENTITY.copy()
        out[3 + axis], out[6] = np.sin(angle / 2), np.cos(angle / 2)
        return out

    turned = geometry.compose(geometry.compose(about(2, yaw), about(1, pitch)), about(0, roll))
    quat = quat_from_yaw_pitch_roll(np.array([yaw]), np.array([pitch]), np.array([roll]))[0]
    assert abs(quat @ turned[3:]) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(pitch_roll_rad(turned), [pitch, roll], atol=1e-9)
