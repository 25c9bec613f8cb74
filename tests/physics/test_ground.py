import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.contracts import GroundRequest, GroundStatus, SessionInfo
from omniloop.core.errors import ConfigError, SceneError
from omniloop.core.motion import Trajectory
from omniloop.core.registry import create
from omniloop.core.scene import HeightRaster, Scene
from omniloop.physics.ground import sample_heights

CELL_M = 0.5
SIZE = np.array([4.6, 1.9, 1.6])


def raster(height_of_xy, noise_m: float = 0.0, seed: int = 0) -> HeightRaster:
    """Cells every 0.5 m over +-50 m; columns along x, rows along -y."""
    column, row = np.meshgrid(np.arange(201), np.arange(201))
    heights = np.asarray(height_of_xy(column * CELL_M - 50, 50 - row * CELL_M), dtype=np.float64)
    heights = heights + noise_m * np.random.default_rng(seed).standard_normal((201, 201))
    return HeightRaster(heights, np.array([[1 / CELL_M, 0, 100.0], [0, -1 / CELL_M, 100.0]]))


def correct(name: str, boxes, ground=None, sizes=None, ego_z=0.0, **settings):
    ego = Trajectory(np.array([0, 1]), np.tile(geometry.pose(z=ego_z), (2, 1)))
    scene = Scene("s", "test", ego, ground=ground)
    session = create("ground", name, settings).open(
        SessionInfo("s/0", scene, 0, scene.vehicle, 0, 0, 1)
    )
    boxes = np.atleast_2d(boxes)
    sizes = np.tile(SIZE, (len(boxes), 1)) if sizes is None else sizes
    result = session.correct(
        GroundRequest(boxes, sizes, np.zeros(len(boxes), dtype=np.int64), 0, 1, is_ego=False)
    )
    assert result.local_to_aabb.shape == boxes.shape
    assert result.status.shape == (len(boxes),)
    return result


def bottom_points(box, size=SIZE):
    corners = np.array([[sx, sy, -1] for sx in (-1, 1) for sy in (-1, 1)]) / 2 * size
    return geometry.transform_points(box, corners)


# ---------------------------------------------------------------------------------- flat


def test_flat_sets_boxes_upright_on_the_plane():
    tilted = geometry.compose(
        geometry.pose(3, 4, 9, 0.8), np.array([0, 0, 0, 0.1, 0.2, 0, 0.97468])
    )
    result = correct("flat", tilted, height_m=2.0)
    np.testing.assert_allclose(result.local_to_aabb[0, :3], [3, 4, 2.8])
    assert geometry.yaw_rad(result.local_to_aabb)[0] == pytest.approx(
        float(geometry.yaw_rad(tilted))
    )
    np.testing.assert_allclose(bottom_points(result.local_to_aabb[0])[:, 2], 2.0, atol=1e-12)
    assert result.status.tolist() == [0]


def test_flat_takes_the_recorded_egos_height_by_default():
    result = correct("flat", geometry.pose(z=5.0), ego_z=-1.5)
    assert result.local_to_aabb[0, 2] == pytest.approx(-1.5 + 0.8)


def test_flat_refuses_a_height_that_is_not_finite():
    with pytest.raises(ConfigError, match="height_m is nan"):
        create("ground", "flat", {"height_m": float("nan")})


# -------------------------------------------------------------------------------- raster


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-0.12, 0.12), st.floats(-0.12, 0.12), st.floats(-3, 3),
    st.floats(-40, 40), st.floats(-40, 40), st.floats(-0.05, 0.05), st.floats(-1.2, 1.2),
)  # fmt: skip
def test_on_a_slope_the_whole_bottom_face_lies_on_the_ground(gx, gy, yaw, x, y, roll, lift):
    start = geometry.pose(x, y, gx * x + gy * y + SIZE[2] / 2 + lift, yaw)
    tilt = np.array([0, 0, 0, np.sin(roll / 2), 0, 0, np.cos(roll / 2)])
    start = geometry.compose(start, tilt)
    result = correct("raster", start, raster(lambda x, y: gx * x + gy * y))
    if result.status[0] == GroundStatus.HIGH_ROTATION.value:
        assert np.hypot(gx, gy) + abs(roll) > 0.15
        return
    assert result.status[0] == 0
    box = result.local_to_aabb[0]
    np.testing.assert_allclose(box[:2], start[:2], atol=1e-12)
    assert geometry.wrap_rad(geometry.yaw_rad(box) - geometry.yaw_rad(start)) == pytest.approx(
        0, abs=1e-9
    )
    points = bottom_points(box)
    np.testing.assert_allclose(points[:, 2], gx * points[:, 0] + gy * points[:, 1], atol=1e-9)
    assert np.linalg.norm(box[3:]) == pytest.approx(1.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.0, 0.05))
def test_correcting_twice_changes_nothing(seed, noise):
    ground = raster(lambda x, y: 0.5 * np.sin(x / 9) + 0.3 * np.cos(y / 7), noise, seed)
    rng = np.random.default_rng(seed)
    boxes = geometry.poses_from_xyz_yaw(rng.uniform(-40, 40, (30, 3)), rng.uniform(-3, 3, 30))
    boxes[:, 2] = sample_heights(ground, boxes[:, 0], boxes[:, 1]) + 0.8
    once = correct("raster", boxes, ground)
    twice = correct("raster", once.local_to_aabb, ground)
    assert (once.status == 0).sum() > 20
    np.testing.assert_allclose(twice.local_to_aabb, once.local_to_aabb, atol=1e-9)
    np.testing.assert_array_equal(twice.status, once.status)


def test_too_far_from_the_ground_or_too_steep_the_pose_stays():
    ground = raster(lambda x, y: np.where(x > 0, 0.3 * x, 0.0))
    boxes = np.stack(
        [
            geometry.pose(-20, 0, 0.8 + 1.4),
            geometry.pose(-20, 0, 0.8 + 1.6),
            geometry.pose(20, 0, 6.8),
        ]
    )
    result = correct("raster", boxes, ground)
    assert result.status.tolist() == [
        0,
        GroundStatus.HIGH_TRANSLATION.value,
        GroundStatus.HIGH_ROTATION.value,
    ]
    assert result.local_to_aabb[0, 2] == pytest.approx(0.8)
    np.testing.assert_array_equal(result.local_to_aabb[1:], boxes[1:])


def test_unknown_ground_leaves_the_pose_with_a_status():
    def heights(x, y):
        return np.where(x < 0, 0.05 * x, np.nan)

    boxes = np.stack([
        geometry.pose(-20, 0, -0.2), geometry.pose(20, 0, 0.8),
        geometry.pose(500, 0, 0.8), geometry.pose(0.2, 0, 0.8), geometry.pose(1.0, 0, 0.8, np.pi / 2),
    ])  # fmt: skip
    result = correct("raster", boxes, raster(heights))
    missing = GroundStatus.INSUFFICIENT_POINTS_FITPLANE.value
    assert result.status.tolist() == [0, missing, missing, 0, missing]
    np.testing.assert_array_equal(result.local_to_aabb[[1, 2, 4]], boxes[[1, 2, 4]])
    # Half of this box lies over known ground, and that half decides.
    points = bottom_points(result.local_to_aabb[3])
    np.testing.assert_allclose(points[:, 2], 0.05 * points[:, 0], atol=1e-9)


def test_heights_are_bilinear_and_a_hole_spoils_only_what_touches_it():
    heights = np.array([[0.0, 1.0, 2.0], [3.0, 5.0, np.nan]])
    ground = HeightRaster(heights, np.array([[1.0, 0, 0], [0, 1.0, 0]]))
    x = np.array([0.0, 0.5, 1.0, 2.0, 1.5, 1.0, 0.5, -0.1, 2.1, 1.0])
    y = np.array([0.0, 0.0, 0.5, 0.0, 0.5, 1.0, 0.5, 0.0, 0.0, 1.1])
    expected = [0, 0.5, 3, 2, np.nan, 5, 2.25, np.nan, np.nan, np.nan]
    np.testing.assert_allclose(sample_heights(ground, x, y), expected)


def test_raster_without_heights_says_what_to_use_instead():
    with pytest.raises(SceneError, match="no raster") as error:
        correct("raster", geometry.pose())
    assert "ground=flat" in error.value.remedy


# --------------------------------------------------------------------------------- scene


def test_scene_uses_the_raster_where_there_is_one():
    ground = raster(lambda x, y: 0.1 * x)
    box = geometry.pose(10, 0, 2.0)
    np.testing.assert_array_equal(
        correct("scene", box, ground).local_to_aabb, correct("raster", box, ground).local_to_aabb
    )


def test_scene_without_a_raster_returns_the_very_poses_it_got():
    boxes = geometry.poses_from_xyz_yaw(np.arange(9).reshape(3, 3), np.arange(3))
    result = correct("scene", boxes)
    assert result.local_to_aabb is boxes
    assert result.status.tolist() == [0, 0, 0]


def test_no_boxes_are_no_problem():
    for name in ("flat", "scene", "raster"):
        result = correct(name, np.zeros((0, 7)), raster(lambda x, y: 0 * x), np.zeros((0, 3)))
        assert len(result.status) == 0
