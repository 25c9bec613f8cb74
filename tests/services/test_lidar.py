"""The geometric lidar: hand-made rays against planes, slopes and boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.services.lidar import AT128, PANDAR128, LidarModel, scan

NONE = (np.zeros((0, 7)), np.zeros((0, 3)))
AHEAD = LidarModel((-45.0, 45.0), (-1.0, 1.0), 1, (0.5, 50.0), channels=3)
"""Three beams straight ahead: 45 degrees down, level, 45 degrees up."""


def flat(x: Array, y: Array) -> Array:
    return np.zeros(np.shape(x))


def unknown(x: Array, y: Array) -> Array:
    return np.full(np.shape(x), np.nan)


def boxes(
    *given: tuple[float, float, float, float, tuple[float, float, float]],
) -> tuple[Array, Array]:
    """Boxes as (x, y, z, yaw, size)."""
    poses = np.array([geometry.pose(*g[:3], g[3]) for g in given])
    return poses, np.array([g[4] for g in given])


def test_a_beam_45_degrees_down_meets_flat_ground_as_far_ahead_as_it_is_high() -> None:
    points, intensities = scan(AHEAD, geometry.pose(5.0, 1.0, 2.0), flat, *NONE)
    np.testing.assert_allclose(points, [[2.0, 0.0, -2.0]], atol=1e-9)
    np.testing.assert_allclose(intensities, [np.sqrt(0.5)])


def test_points_are_in_the_frame_of_a_sensor_that_is_turned() -> None:
    points, _ = scan(AHEAD, geometry.pose(5.0, 1.0, 2.0, np.pi / 2), flat, *NONE)
    np.testing.assert_allclose(points, [[2.0, 0.0, -2.0]], atol=1e-9)


def test_ground_that_rises_by_half_is_met_earlier_and_more_directly() -> None:
    points, intensities = scan(AHEAD, geometry.pose(0, 0, 3.0), lambda x, y: x / 2, *NONE)
    # Down: 3 - d = d / 2, d = 2. Level: 3 = d / 2, d = 6. Normal (-1, 0, 2) / sqrt 5.
    np.testing.assert_allclose(points, [[2.0, 0.0, -2.0], [6.0, 0.0, 0.0]], atol=1e-9)
    np.testing.assert_allclose(intensities, [3 / np.sqrt(10), 1 / np.sqrt(5)])


def test_a_box_hides_what_is_behind_it() -> None:
    # Its face is 4 m ahead, from 1 to 3 m high: level beam only; the other box is behind it.
    stage = boxes((5.0, 0, 2.0, 0, (2.0, 2.0, 2.0)), (20.0, 0, 2.0, 0, (2.0, 9.0, 4.0)))
    points, intensities = scan(AHEAD, geometry.pose(0, 0, 2.0), flat, *stage)
    np.testing.assert_allclose(points, [[2.0, 0.0, -2.0], [4.0, 0.0, 0.0]], atol=1e-9)
    np.testing.assert_allclose(intensities, [np.sqrt(0.5), 1.0])
    behind = boxes((20.0, 0, 2.0, 0, (2.0, 9.0, 4.0)))
    points, _ = scan(AHEAD, geometry.pose(0, 0, 2.0), flat, *behind)
    np.testing.assert_allclose(points[1], [19.0, 0.0, 0.0], atol=1e-9)


def test_a_box_that_is_turned_is_met_at_its_corner_or_oblique_face() -> None:
    # Turned by 45 degrees and moved aside by a quarter diagonal: the face runs at 45 degrees.
    stage = boxes((10.0, -0.5, 2.0, np.pi / 4, (2.0, 2.0, 2.0)))
    points, intensities = scan(AHEAD, geometry.pose(0, 0, 2.0), unknown, *stage)
    np.testing.assert_allclose(points, [[10.0 - np.sqrt(2) + 0.5, 0.0, 0.0]], atol=1e-9)
    np.testing.assert_allclose(intensities, [np.sqrt(0.5)])


def test_what_is_out_of_range_or_unknown_gives_no_point() -> None:
    sky = geometry.pose(0, 0, 2.0)
    assert len(scan(AHEAD, sky, unknown, *NONE)[0]) == 0
    assert len(scan(AHEAD, geometry.pose(0, 0, 40.0), flat, *NONE)[0]) == 0  # 56 m away
    far = boxes((60.0, 0, 2.0, 0, (2.0, 9.0, 4.0)))
    assert len(scan(AHEAD, sky, unknown, *far)[0]) == 0
    around = boxes((0.0, 0, 2.0, 0, (4.0, 4.0, 3.0)))  # the sensor is inside
    assert len(scan(AHEAD, sky, unknown, *around)[0]) == 0


def test_a_hole_in_the_known_ground_is_passed_over() -> None:
    def holed(x: Array, y: Array) -> Array:
        return np.where((x > 1.0) & (x < 3.0), np.nan, 0.0)

    assert len(scan(AHEAD, geometry.pose(0, 0, 2.0), holed, *NONE)[0]) == 0


@pytest.mark.parametrize(
    ("model", "beams", "azimuth_deg", "elevation_deg"),
    [(PANDAR128, 345_600, 180.0, (-24.8, 14.4)), (AT128, 153_600, 60.0, (-12.5, 12.9))],
)
def test_the_devices_have_their_fields_of_view_and_points_per_scan(
    model: LidarModel, beams: int, azimuth_deg: float, elevation_deg: tuple[float, float]
) -> None:
    directions = model.directions
    assert len(directions) == beams
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0)
    azimuth = np.rad2deg(np.arctan2(directions[:, 1], directions[:, 0]))
    elevation = np.rad2deg(np.arcsin(directions[:, 2]))
    assert -azimuth.min() == pytest.approx(azimuth.max())
    assert azimuth.max() == pytest.approx(azimuth_deg, abs=0.1)
    assert (elevation.min(), elevation.max()) == pytest.approx(elevation_deg)


def test_equal_scans_have_equal_bytes() -> None:
    stage = boxes(*((8.0 + 3 * k, 2.0 * k - 9, 0.8, 0.3 * k, (4.0, 2.0, 1.6)) for k in range(10)))
    one, other = (scan(AT128, geometry.pose(0, 0, 2.0), flat, *stage) for _ in range(2))
    assert [a.tobytes() for a in one] == [b.tobytes() for b in other]


SMALL = LidarModel((-60.0, 60.0), (-180.0, 180.0), 24, (0.2, 80.0), channels=9)


@given(
    st.floats(-8, 8), st.floats(-8, 8), st.floats(-3, 3), st.floats(-3, 3), st.floats(0.5, 4.0),
)  # fmt: skip
def test_every_point_lies_on_the_ground_or_on_the_box_and_nothing_is_before_it(
    x: float, y: float, yaw: float, turn: float, height: float
) -> None:
    size = np.array([3.0, 1.5, 1.0])
    (box,), sizes = boxes((x, y, 0.5, yaw, (3.0, 1.5, 1.0)))
    sensor = geometry.pose(0.0, 0.0, height, turn)
    points, intensities = scan(SMALL, sensor, flat, box[None], sizes)
    local = geometry.transform_points(sensor, points)
    in_box = np.abs(geometry.transform_points(geometry.inverse(box), local)) - size / 2
    on_box = np.abs(in_box.max(axis=1)) < 1e-6
    assert (on_box | (np.abs(local[:, 2]) < 1e-6)).all()
    assert (in_box.max(axis=1) > -1e-6).all()  # none is inside
    assert ((intensities >= 0) & (intensities <= 1)).all()
    # Half way to each point is nothing either: were a hit nearer, it would have been taken.
    for part in np.linspace(0.02, 0.98, 25):
        way = geometry.transform_points(
            geometry.inverse(box), geometry.transform_points(sensor, part * points)
        )
        inside = (np.abs(way) < size / 2 - 1e-6).all(axis=1)
        started_inside = (
            np.abs(geometry.transform_points(geometry.inverse(box), sensor[:3])) <= size / 2 + 1e-6
        ).all()
        assert started_inside or not inside.any()
