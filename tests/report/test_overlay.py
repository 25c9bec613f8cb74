from __future__ import annotations

from dataclasses import replace

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera, PinholeCamera, default_camera, optical_from_flu
from omniloop.core.motion import Trajectory
from omniloop.report.moment import Moment
from omniloop.report.overlay import PlanOverlay, camera_of
from omniloop.report.palette import DARK
from tests.report.builders import START_US, make_scene

LEVEL = Camera(
    "level",
    PinholeCamera(640, 360, 300.0, 300.0, 319.5, 179.5),
    optical_from_flu(geometry.pose(1.5, 0.0, 1.5)),
)


def straight_on(length_m: float = 40.0) -> Moment:
    times = START_US + np.arange(0, 4_000_001, 500_000, dtype=np.int64)
    xyz = np.linspace([5.0, 2.0, 0.0], [5.0 + length_m, 2.0, 0.0], len(times))
    plan = Trajectory(times, geometry.poses_from_xyz_yaw(xyz, 0.0))
    return Moment(
        START_US, geometry.pose(5.0, 2.0), 10.0, np.zeros((0, 7)), np.zeros(0, dtype=bool), plan
    )


def test_edges_are_projected_as_the_pinhole_formula_says() -> None:
    overlay = PlanOverlay(LEVEL, (640, 360), DARK, width_m=2.0)
    left, right, covered = overlay.ribbon(straight_on())
    assert covered[-1]
    # The end lies 40 m ahead of the rig, so 38.5 m ahead of the camera and 1.5 m below it.
    np.testing.assert_allclose(
        left[-1], [319.5 - 300 * 1.0 / 38.5, 179.5 + 300 * 1.5 / 38.5], atol=1e-6
    )
    np.testing.assert_allclose(
        right[-1], [319.5 + 300 * 1.0 / 38.5, 179.5 + 300 * 1.5 / 38.5], atol=1e-6
    )


def test_what_lies_behind_the_camera_is_not_covered() -> None:
    _, _, covered = PlanOverlay(LEVEL, (640, 360), DARK, width_m=2.0).ribbon(straight_on())
    assert not covered[0]  # half a metre ahead of the rear axle, a metre behind the camera
    assert covered[3:].all()


def test_only_the_ground_ahead_is_painted() -> None:
    image = np.zeros((360, 640, 3), dtype=np.uint8)
    PlanOverlay(LEVEL, (640, 360), DARK, width_m=2.0).draw(image, straight_on())
    assert not image[:180].any()
    assert image[250, 319].any()
    np.testing.assert_allclose(image.astype(int), image[:, ::-1].astype(int), atol=8)


def test_samples_are_drawn_beside_the_plan() -> None:
    moment = straight_on()
    aside = moment.plan.transform(geometry.pose(0.0, 4.0))
    image = np.zeros((360, 640, 3), dtype=np.uint8)
    PlanOverlay(LEVEL, (640, 360), DARK, width_m=2.0).draw(image, replace(moment, samples=(aside,)))
    # 20 m ahead and 4 m to the left of the ribbon's middle.
    at = (round(179.5 + 300 * 1.5 / 18.5), round(319.5 - 300 * 4.0 / 18.5))
    assert image[at[0] - 1 : at[0] + 2, at[1] - 2 : at[1] + 3].any()
    mirrored = 639 - at[1]
    assert not image[at[0], mirrored - 2 : mirrored + 3].any()


def test_a_smaller_picture_gets_the_same_ribbon_in_small() -> None:
    large, _, _ = PlanOverlay(LEVEL, (640, 360), DARK, 2.0).ribbon(straight_on())
    small, _, _ = PlanOverlay(LEVEL, (320, 180), DARK, 2.0).ribbon(straight_on())
    np.testing.assert_allclose(small[5:] + 0.5, (large[5:] + 0.5) / 2, atol=1e-9)


def test_no_plan_or_one_that_stands_still_leaves_the_picture_alone() -> None:
    image = np.full((360, 640, 3), 77, dtype=np.uint8)
    overlay = PlanOverlay(LEVEL, (640, 360), DARK, 2.0)
    overlay.draw(
        image,
        replace(straight_on(), plan=Trajectory(np.zeros(0, dtype=np.int64), np.zeros((0, 7)))),
    )
    overlay.draw(image, straight_on(length_m=0.0))
    assert (image == 77).all()


def test_a_plan_out_of_sight_leaves_the_picture_alone() -> None:
    backwards = replace(LEVEL, rig_to_camera=optical_from_flu(geometry.pose(0.0, 0.0, 1.5, np.pi)))
    image = np.zeros((360, 640, 3), dtype=np.uint8)
    PlanOverlay(backwards, (640, 360), DARK, 2.0).draw(image, straight_on())
    assert not image.any()


def test_a_camera_is_found_in_the_scene_or_is_the_default_one() -> None:
    scene = replace(make_scene(), cameras=(LEVEL,))
    assert camera_of(scene, "level") is LEVEL
    found = camera_of(scene, default_camera().id)
    assert found is not None
    assert found.id == default_camera().id
    assert camera_of(scene, "unknown") is None
