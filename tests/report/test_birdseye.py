from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.motion import Trajectory
from omniloop.core.scene import Scene, TrafficLight, VectorMap
from omniloop.report.birdseye import BirdsEye, View, boxes_meet
from omniloop.report.map_raster import MapRaster
from omniloop.report.moment import Moment, Playback
from omniloop.report.palette import DARK, LIGHT, Palette, mix
from tests.report.builders import START_US, make_record, make_scene


def near_color(
    image: np.ndarray, xy: tuple[float, float], color: tuple[int, int, int], reach: int = 1
) -> bool:
    """Whether a pixel within `reach` of `xy` (column, row) has about this colour."""
    x, y = round(xy[0]), round(xy[1])
    window = image[y - reach : y + reach + 1, x - reach : x + reach + 1].astype(int)
    return bool((np.abs(window - np.array(color)).max(axis=2) <= 6).any())


def pixel_of(view: View, moment: Moment, local_xy: tuple[float, float]) -> tuple[float, float]:
    affine = view.local_to_px(moment.local_to_rig)
    column, row = affine[:, :2] @ np.array(local_xy) + affine[:, 2]
    return float(column), float(row)


def still(scene: Scene, local_to_rig: np.ndarray, **changes: object) -> Moment:
    none = len(scene.tracks)
    moment = Moment(START_US, local_to_rig, 0.0, np.zeros((none, 7)), np.zeros(none, dtype=bool))
    return replace(moment, **changes)  # type: ignore[arg-type]


def moved(scene: Scene, local_to_new: np.ndarray) -> Scene:
    return replace(scene, ego=scene.ego.transform(local_to_new), tracks=(), map=VectorMap())


@pytest.mark.parametrize("palette", [DARK, LIGHT])
@pytest.mark.parametrize("heading_up", [True, False])
def test_ego_is_drawn_where_the_view_puts_it(palette: Palette, heading_up: bool) -> None:
    scene = make_scene()
    view = View(size=(320, 400), heading_up=heading_up, ego_at=(0.5, 0.75))
    pose = geometry.pose(20.0, 0.0, 0.0, yaw_rad=0.4)
    image = BirdsEye(scene, view, palette, legend=False, caption=False).draw(still(scene, pose))
    assert image.shape == (400, 320, 3)
    assert image.dtype == np.uint8
    assert near_color(image, (159.5, 299.5), palette.ego)


@given(yaw=st.floats(-3.1, 3.1), x=st.floats(-40.0, 40.0), y=st.floats(-40.0, 40.0))
def test_with_heading_up_what_is_ahead_of_ego_is_above_and_what_is_left_is_left(
    yaw: float, x: float, y: float
) -> None:
    view = View(size=(300, 300), height_m=60.0, ego_at=(0.5, 0.5))
    pose = geometry.pose(x, y, 0.0, yaw)
    affine = view.local_to_px(pose)
    ahead, left = geometry.transform_points(pose, [[10.0, 0.0, 0.0], [0.0, 10.0, 0.0]])[:, :2]
    np.testing.assert_allclose(affine[:, :2] @ ahead + affine[:, 2], [149.5, 99.5], atol=1e-6)
    np.testing.assert_allclose(affine[:, :2] @ left + affine[:, 2], [99.5, 149.5], atol=1e-6)


def test_with_north_up_local_y_points_up_whatever_ego_does() -> None:
    view = View(size=(300, 300), height_m=60.0, heading_up=False, ego_at=(0.5, 0.5))
    affine = view.local_to_px(geometry.pose(3.0, 4.0, 0.0, 1.234))
    np.testing.assert_allclose(affine[:, :2], [[5.0, 0.0], [0.0, -5.0]], atol=1e-12)


@pytest.mark.parametrize("yaw", [0.0, 1.0, -2.5])
def test_the_map_turns_with_ego_and_lies_under_it(yaw: float) -> None:
    scene = make_scene()
    view = View(size=(400, 400), height_m=50.0)
    moment = still(scene, geometry.pose(20.0, 0.0, 0.0, yaw))
    image = BirdsEye(scene, view, DARK, legend=False, caption=False).draw(moment)
    assert near_color(image, pixel_of(view, moment, (14.0, 3.5)), DARK.lane)
    assert near_color(image, pixel_of(view, moment, (20.0, -3.0)), DARK.drivable)
    assert near_color(image, pixel_of(view, moment, (20.0, -8.0)), DARK.background, reach=0)
    assert near_color(image, pixel_of(view, moment, (18.0, 5.43)), DARK.line_yellow, reach=2)


def test_every_actor_that_is_valid_is_drawn_in_the_colour_of_its_class() -> None:
    record = make_record()
    view = View(size=(640, 704))
    moment = Playback(record).at(START_US + 500_000)
    birdseye = BirdsEye(record.scene, view, DARK)
    shown = birdseye.draw(moment)
    hidden = birdseye.draw(
        replace(moment, actors_valid=np.zeros(len(moment.actors_valid), dtype=bool))
    )
    for k, actor in enumerate(record.scene.actors):
        centre = pixel_of(view, moment, tuple(moment.actors_local_to_aabb[k, :2]))
        color = DARK.actor(actor.actor_class)
        if actor.is_static:
            color = mix(color, DARK.drivable, 0.5)
        assert near_color(shown, centre, color), actor.id
        assert not near_color(hidden, centre, color), actor.id


def test_a_contact_is_red_and_an_almost_contact_is_not() -> None:
    record = make_record()
    view = View()
    birdseye = BirdsEye(record.scene, view, DARK)
    playback = Playback(record)
    for time_us, red in ((START_US + 4_500_000, False), (START_US + 5_000_000, True)):
        moment = playback.at(time_us)
        centre = pixel_of(view, moment, tuple(moment.actors_local_to_aabb[0, :2]))
        image = birdseye.draw(moment)
        assert near_color(image, centre, DARK.contact) is red
        assert bool((np.abs(image.astype(int) - DARK.contact).max(axis=2) < 6).sum() > 200) is red


def test_the_plan_runs_from_near_to_far_colour_and_is_grey_in_warm_up() -> None:
    scene = replace(make_scene(), tracks=())
    view = View(size=(400, 600), height_m=60.0)
    times = START_US + np.arange(0, 3_000_001, 500_000, dtype=np.int64)
    poses = geometry.poses_from_xyz_yaw(np.linspace([0.0, 0, 0], [30.0, 0, 0], len(times)), 0.0)
    moment = still(scene, geometry.pose(), plan=Trajectory(times, poses))
    birdseye = BirdsEye(scene, view, DARK, legend=False, caption=False)
    image = birdseye.draw(moment)
    assert near_color(image, pixel_of(view, moment, (29.5, 0.0)), DARK.plan_far)
    assert near_color(
        image,
        pixel_of(view, moment, (17.0, 0.0)),
        mix(DARK.plan_near, DARK.plan_far, 0.57),
        reach=2,
    )
    dropped = birdseye.draw(replace(moment, plan_dropped=True))
    assert near_color(dropped, pixel_of(view, moment, (17.0, 0.0)), DARK.plan_dropped)


def test_a_plan_that_stands_still_draws_nothing_and_fails_nothing() -> None:
    scene = replace(make_scene(), tracks=())
    birdseye = BirdsEye(scene, View(size=(200, 200)), DARK)
    times = START_US + np.array([0, 1_000_000, 2_000_000])
    stopped = Trajectory(times, np.repeat(geometry.pose()[None], 3, axis=0))
    moment = still(scene, geometry.pose())
    np.testing.assert_array_equal(
        birdseye.draw(moment), birdseye.draw(replace(moment, plan=stopped))
    )


def test_route_dots_are_drawn_along_the_route() -> None:
    scene = replace(make_scene(), tracks=())
    view = View(size=(400, 400), height_m=50.0)
    route = np.array([[0.0, 8.0, 0.0], [30.0, 8.0, 0.0]])
    moment = still(scene, geometry.pose(), route=route)
    image = BirdsEye(scene, view, DARK, legend=False, caption=False).draw(moment)
    assert near_color(image, pixel_of(view, moment, (12.0, 8.0)), DARK.route)
    assert not near_color(image, pixel_of(view, moment, (13.5, 8.0)), DARK.route)


def test_a_light_shows_its_state_at_the_time() -> None:
    lights = (
        TrafficLight(
            "l", geometry.pose(10.0, 7.0, 5.0), np.ones(3),
            times_us=np.array([START_US, START_US + 1_000_000]), states=("green", "red"),
        ),
    )  # fmt: skip
    scene = make_scene()
    scene = replace(scene, tracks=(), map=replace(scene.map, lights=lights))
    view = View(size=(400, 400), height_m=50.0)
    birdseye = BirdsEye(scene, view, DARK)
    moment = still(scene, geometry.pose())
    at = pixel_of(view, moment, (10.0, 7.0))
    assert near_color(birdseye.draw(moment), at, (70, 214, 110))
    assert near_color(
        birdseye.draw(replace(moment, time_us=START_US + 1_500_000)), at, (255, 64, 64)
    )
    before = birdseye.draw(replace(moment, time_us=START_US - 1))
    assert not near_color(before, at, (70, 214, 110))


def test_a_place_looks_the_same_in_any_order_of_visits() -> None:
    scene = make_scene()
    view = View(size=(160, 160))
    places = [
        still(scene, geometry.pose(x, 0.0)) for x in (0.0, 15.9, 40.0, 75.0, 120.0, 15.9, 0.0)
    ]
    birdseye = BirdsEye(scene, view, DARK)
    there_and_back = [birdseye.draw(moment) for moment in places]
    np.testing.assert_array_equal(there_and_back[0], there_and_back[6])
    np.testing.assert_array_equal(there_and_back[1], there_and_back[5])
    np.testing.assert_array_equal(BirdsEye(scene, view, DARK).draw(places[4]), there_and_back[4])


def test_the_view_is_never_wider_than_the_patch_under_it() -> None:
    # One drivable area everywhere: a hole at a picture's edge would show the background.
    from omniloop.core.scene import Area

    outline = np.array([[-900.0, -900, 0], [900, -900, 0], [900, 900, 0], [-900, 900, 0]])
    scene = replace(make_scene(), tracks=(), map=VectorMap(drivable_areas=(Area("all", outline),)))
    birdseye = BirdsEye(scene, View(size=(300, 200)), DARK, legend=False, caption=False)
    for x, y, yaw in ((15.99, 15.99, 0.3), (-15.99, 47.9, 2.0), (300.0, -16.01, -1.2)):
        image = birdseye.draw(still(scene, geometry.pose(x, y, 0.0, yaw)))
        assert not (image == DARK.background).all(axis=2).any()


def test_a_hole_of_a_drivable_area_is_not_filled() -> None:
    from omniloop.core.scene import Area

    ring = np.array([[-20.0, -20, 0], [20, -20, 0], [20, 20, 0], [-20, 20, 0]])
    area = Area("island", ring, holes=(ring / 4,))
    raster = MapRaster(VectorMap(drivable_areas=(area,)), DARK, px_per_m=4.0, half_m=30.0)
    patch, local_to_px = raster.patch_at(np.zeros(2))
    for xy, color in (((0.0, 0.0), DARK.background), ((10.0, 0.0), DARK.drivable)):
        column, row = local_to_px[:, :2] @ np.array(xy) + local_to_px[:, 2]
        assert tuple(patch[round(row), round(column)]) == color


def test_an_empty_map_and_no_actors_still_make_a_picture() -> None:
    scene = moved(make_scene(), geometry.pose(50_000.0, -80_000.0))
    moment = still(scene, scene.ego.poses[0], trail=scene.ego.poses[:1, :2])
    image = BirdsEye(scene, View(size=(320, 352)), DARK).draw(moment)
    assert near_color(image, (159.5, 0.66 * 352 - 0.5), DARK.ego)


@settings(max_examples=200)
@given(
    st.tuples(st.floats(-8, 8), st.floats(-8, 8), st.floats(-3.2, 3.2)),
    st.tuples(st.floats(0.5, 9), st.floats(0.5, 4)),
)
def test_boxes_meet_exactly_when_their_polygons_overlap(
    pose: tuple[float, float, float], size: tuple[float, float]
) -> None:
    ego = geometry.box_corners_xy(geometry.pose(), np.array([5.0, 2.0, 1.5]))
    other = geometry.box_corners_xy(
        geometry.pose(pose[0], pose[1], 0.0, pose[2]), np.array([*size, 1.0])
    )
    a, b = shapely.Polygon(ego), shapely.Polygon(other)
    if 0 < a.distance(b) < 1e-6 or 0 < a.intersection(b).area < 1e-6:
        return  # touching within rounding: either answer is right
    assert boxes_meet(ego, other[None])[0] == a.intersects(b)
