import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.cameras import default_camera
from omniloop.core.contracts import Route
from omniloop.core.errors import PolicyError
from omniloop.core.motion import EgoMotion, Trajectory
from omniloop.policies.wam import inputs


def ego(speed_mps=5.0, pose=None, until_us=2_000_000, from_us=0):
    times = np.arange(from_us, until_us + 1, 50_000)
    offset = np.tile(geometry.IDENTITY, (len(times), 1))
    offset[:, 0] = speed_mps * (times - until_us) / 1e6
    dynamics = np.zeros((len(times), 12))
    dynamics[:, 0] = speed_mps
    now = geometry.pose(3, 4, 0, 0.7) if pose is None else pose
    return EgoMotion(times, geometry.compose(now, offset), dynamics)


def test_history_is_in_the_rig_frame_at_the_decision_oldest_first():
    rows = inputs.history_of(ego(5.0), 2_000_000)
    np.testing.assert_allclose(rows[:, 0], 0.5 * np.arange(-16, 0), atol=1e-6)
    np.testing.assert_allclose(rows[:, 1:], np.tile([0, 1, 0, 5], (16, 1)), atol=1e-6)


def test_history_before_the_first_state_repeats_it():
    rows = inputs.history_of(ego(5.0, from_us=1_500_000), 2_000_000)
    np.testing.assert_allclose(rows[:12, 0], -2.5, atol=1e-6)


@given(
    st.floats(-50, 50), st.floats(-50, 50), st.floats(-3, 3), st.floats(-0.05, 0.05),
    st.integers(0, 1000),
)  # fmt: skip
def test_a_plan_made_of_waypoints_gives_these_back(x, y, yaw, tilt, seed):
    rng = np.random.default_rng(seed)
    way = np.cumsum(rng.normal(0.3, 0.2, (64, 3)), axis=0) * [1, 0.2, 0.02]
    lean = np.array([0, 0, 0, np.sin(tilt), 0, 0, np.cos(tilt)])
    now = geometry.compose(geometry.pose(x, y, 0.3, yaw), lean)
    plan = inputs.plan_of(way, now, 7_000)
    np.testing.assert_array_equal(plan.poses[0], now)
    assert plan.times_us[-1] == 7_000 + 6_400_000
    back, reaches = inputs.target_of(plan, now, 7_000)
    assert reaches
    np.testing.assert_allclose(back, way, atol=1e-4)


def test_a_plan_that_ends_early_is_no_target():
    plan = Trajectory(np.array([0, 6_300_000]), np.tile(geometry.IDENTITY, (2, 1)))
    target, reaches = inputs.target_of(plan, geometry.IDENTITY, 0)
    assert not reaches
    assert not target.any()


def test_a_waypoint_that_is_not_finite_is_an_error_of_the_policy():
    way = np.zeros((64, 3))
    way[5, 1] = np.nan
    with pytest.raises(PolicyError, match="not finite"):
        inputs.plan_of(way, geometry.IDENTITY, 0)


def test_a_route_is_sampled_every_five_metres_and_repeats_its_end():
    points, there = inputs.route_of(Route(0, np.array([[0.0, 0, 0], [30.0, 0, 0]])))
    assert there
    np.testing.assert_allclose(points[:, 0], np.minimum(5.0 * np.arange(1, 17), 30.0))
    assert not inputs.route_of(None)[1]


@pytest.mark.parametrize(("width", "height"), [(256, 128), (1280, 704), (640, 480), (64, 64)])
def test_an_image_of_any_size_shows_what_the_camera_of_256_by_128_sees(width, height):
    model = default_camera().model.resized(width, height)
    small = model.resized(256, 128)
    point = np.array([-0.3, -0.05, 1.0])
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    centre = tuple(int(v) for v in np.rint(model.project(point)[0]))
    cv2.circle(picture, centre, max(width // 40, 3), (0, 0, 255), -1)  # red in OpenCV's order
    image = inputs.image_of(cv2.imencode(".png", picture)[1].tobytes())
    assert image.shape == (128, 256, 3)
    rows, columns = np.nonzero(image[..., 0] > 100)
    wanted = small.project(point)[0]
    assert np.hypot(columns.mean() - wanted[0], rows.mean() - wanted[1]) < 2.5
    assert image[..., 2].max() < 50


@pytest.mark.parametrize("data", [b"", b"no image"])
def test_bytes_that_are_no_image_are_refused_with_their_place(data):
    with pytest.raises(PolicyError, match=r"no JPEG or PNG[\s\S]*camera front at 5 us"):
        inputs.image_of(data, "camera front at 5 us")
