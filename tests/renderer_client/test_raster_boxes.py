"""Boxes have the reference's colours and hide what is behind them."""

from __future__ import annotations

import numpy as np
import pytest

from omniloop.core import geometry
from omniloop.core.cameras import FThetaCamera, PinholeCamera
from omniloop.core.scene import ActorClass, MarkStyle
from omniloop.renderer_client.draw_world import ActorLooks
from omniloop.renderer_client.palette import CUBOID_RGB, WIREFRAME_RGB
from tests.renderer_client.stage import (
    FISHEYE,
    MODELS,
    boundary,
    box,
    draw,
    lane_line,
    pixel_of,
    rgb_at,
)

CAR_SIZE = (4.5, 1.9, 1.6)
TURNED = np.pi


def test_the_back_and_the_front_have_their_colours() -> None:
    for kind, (front, back) in CUBOID_RGB.items():
        ahead = draw(None, box(kind, 15.0, 0.0, CAR_SIZE))
        towards = draw(None, box(kind, 15.0, 0.0, CAR_SIZE, TURNED))
        face = pixel_of((12.75, 0.0, 0.8))
        assert rgb_at(ahead, face) == back
        assert rgb_at(towards, face) == front


def test_every_class_has_colours() -> None:
    assert set(CUBOID_RGB) == set(ActorClass)


def test_the_side_changes_evenly_from_front_to_back() -> None:
    image = draw(None, box(ActorClass.CAR, 10.0, 0.0, (6.0, 2.0, 1.6), np.pi / 2))
    left, right = pixel_of((9.0, 2.9, 0.8))[0], pixel_of((9.0, -2.9, 0.8))[0]
    row = round(pixel_of((9.0, 0.0, 0.8))[1])
    line = image[row, round(left) + 2 : round(right) - 2].astype(int)
    front, back = (np.array(c) for c in CUBOID_RGB[ActorClass.CAR])
    assert np.abs(line[0] - front).max() < 12
    assert np.abs(line[-1] - back).max() < 12
    assert (np.diff(line, axis=0) >= 0).all()
    part = (np.arange(len(line)) + 2) / (right - left)
    assert np.abs(line - (front + (back - front) * part[:, None])).max() < 12


def test_a_box_lies_where_the_formula_says() -> None:
    image = draw(None, box(ActorClass.CAR, 12.0, 1.0, (4.0, 2.0, 1.6)))
    rows, columns = np.nonzero(image.any(axis=2))
    left, top = pixel_of((10.0, 2.0, 1.6))
    right, bottom = pixel_of((10.0, 0.0, 0.0))
    assert columns.min() == pytest.approx(left, abs=2)
    assert columns.max() == pytest.approx(right, abs=2)
    assert rows.max() == pytest.approx(bottom, abs=2)
    assert rows.min() == pytest.approx(min(top, pixel_of((14.0, 0.0, 1.6))[1]), abs=2)


def test_edges_are_drawn_in_light_grey() -> None:
    image = draw(None, box(ActorClass.TRUCK, 12.0, 0.0, (4.0, 2.0, 2.5)))
    column = image[100:300, round(pixel_of((10.0, 1.0, 0.0))[0])].astype(int)
    assert (np.abs(column - WIREFRAME_RGB).max(axis=1) < 40).sum() > 20


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_box_hides_the_line_behind_it(model: PinholeCamera | FThetaCamera) -> None:
    line = boundary((5.0, 0.3, 0.0), (60.0, 0.3, 0.0))
    car = box(ActorClass.CAR, 20.0, 0.0, CAR_SIZE)
    pixel = model.project(np.array([-0.3, 1.5, 40.0]))[0]
    assert rgb_at(draw(line, model=model), tuple(pixel)) == (253, 1, 232)
    assert rgb_at(draw(line, car, model=model), tuple(pixel)) == CUBOID_RGB[ActorClass.CAR][1]
    before = model.project(np.array([-0.3, 1.5, 12.0]))[0]
    assert rgb_at(draw(line, car, model=model), tuple(before)) == (253, 1, 232)


@pytest.mark.parametrize("nearer_first", [True, False])
def test_a_nearer_box_hides_a_farther_one(nearer_first: bool) -> None:
    near = box(ActorClass.CAR, 12.0, 0.0, CAR_SIZE)
    far = box(ActorClass.TRUCK, 30.0, 0.0, (9.0, 2.5, 3.5))
    image = draw(None, *((near, far) if nearer_first else (far, near)))
    assert rgb_at(image, pixel_of((9.75, 0.0, 1.2))) == CUBOID_RGB[ActorClass.CAR][1]
    assert rgb_at(image, pixel_of((25.5, 0.0, 3.0))) == CUBOID_RGB[ActorClass.TRUCK][1]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(("walker_y", "hidden"), [(1.0, False), (5.0, True)])
def test_a_walker_beside_a_long_truck_is_hidden_only_behind_it(
    order: tuple[int, int], walker_y: float, hidden: bool
) -> None:
    # The truck reaches nearer to the camera than the walker does, on either side.
    truck = box(ActorClass.TRUCK, 15.0, 3.0, (18.0, 2.5, 3.5))
    walker = box(ActorClass.PEDESTRIAN, 14.0, walker_y, (0.6, 0.6, 1.8))
    boxes = (truck, walker)
    image = draw(None, *(boxes[i] for i in order))
    colour = rgb_at(image, pixel_of((13.7, walker_y, 1.0)))
    assert (colour != CUBOID_RGB[ActorClass.PEDESTRIAN][1]) == hidden


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_box_that_reaches_past_the_camera_is_cut_not_dropped(
    model: PinholeCamera | FThetaCamera,
) -> None:
    image = draw(None, box(ActorClass.TRUCK, 0.0, 3.0, (20.0, 2.0, 4.0)), model=model)
    for x in (3.0, 6.0, 9.0):
        pixel, _ = model.project(np.array([-2.0, 0.3, x]))
        if 0 <= pixel[0] < 640:
            assert rgb_at(image, tuple(pixel)) != (0, 0, 0)
    assert not image[:, 330:].any()
    tall = np.count_nonzero(image.any(axis=2)[:, 5])
    assert tall > 300


def test_boxes_slide_out_of_view_without_jumps() -> None:
    covered = []
    for x in np.arange(4.0, -6.0, -0.05):
        image = draw(None, box(ActorClass.CAR, float(x), 2.5, CAR_SIZE), model=MODELS["ftheta"])
        covered.append(np.count_nonzero(image.any(axis=2)) / image[..., 0].size)
    steps = np.abs(np.diff(covered))
    assert max(covered) > 0.1
    assert covered[-1] == 0
    assert steps.max() < 0.02


def test_a_camera_inside_a_box_sees_no_face_of_it() -> None:
    assert not draw(None, box(ActorClass.CAR, 0.0, 0.0, (6.0, 3.0, 3.0))).any()


def test_a_box_beside_a_fisheye_ends_at_the_image_plane() -> None:
    image = draw(None, box(ActorClass.CAR, 0.0, 3.0, (4.0, 2.0, 2.0)), model=FISHEYE)
    beside = FISHEYE.project(np.array([-2.0, 0.2, 0.3]))[0]
    assert rgb_at(image, tuple(beside)) != (0, 0, 0)
    assert not image[:, 330:].any()


def test_absent_actors_are_not_drawn() -> None:
    kinds = (ActorClass.CAR, ActorClass.CAR)
    actors = tuple(box(k, 10.0, 0.0, CAR_SIZE)[0] for k in kinds)
    poses = np.stack([geometry.pose(10.0, 3.0, 0.8), geometry.pose(10.0, -3.0, 0.8)])[:, None]
    boxes, instant = ActorLooks.of(actors).cuboids(
        np.repeat(poses, 3, axis=1), np.array([[True, False, False], [True, False, True]])
    )
    assert instant.tolist() == [0, 0, 2]
    assert boxes.centers[:, 1].tolist() == [3.0, -3.0, -3.0]


def test_a_box_covers_a_lane_line_under_it() -> None:
    line = lane_line(MarkStyle.SOLID_SINGLE, (5.0, 0.0, 0.0), (60.0, 0.0, 0.0))
    image = draw(line, box(ActorClass.CAR, 10.0, 0.0, CAR_SIZE))
    face = image[round(pixel_of((7.75, 0.0, 1.3))[1]) : round(pixel_of((7.75, 0.0, 0.3))[1]), 320]
    assert (face == CUBOID_RGB[ActorClass.CAR][1]).all()
