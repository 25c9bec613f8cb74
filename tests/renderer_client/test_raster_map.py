"""Lines and areas of the map appear where and how the reference says."""

from __future__ import annotations

import numpy as np
import pytest

from omniloop.core import geometry
from omniloop.core.cameras import FThetaCamera, PinholeCamera, optical_from_flu
from omniloop.core.geometry import Array
from omniloop.core.scene import (
    ActorClass,
    Area,
    LaneLine,
    MarkColor,
    MarkStyle,
    Polyline,
    TrafficLight,
    TrafficSign,
    VectorMap,
)
from omniloop.renderer_client.palette import STYLE_STROKES, Stroke
from omniloop.renderer_client.world_geometry import build_geometry, cut_dashes, offset_left
from tests.renderer_client.stage import (
    FISHEYE,
    FTHETA,
    HEIGHT_M,
    LOCAL_TO_CAMERA,
    LOOKING_DOWN,
    MODELS,
    PINHOLE,
    boundary,
    box,
    crosswalk,
    draw,
    lane_line,
    pixel_of,
    rgb_at,
)

MAGENTA = (253, 1, 232)
PURPLE = (139, 93, 255)


def ink_centre(row: Array) -> float:
    """Mean column of a row's ink."""
    weight = row.astype(float).max(axis=1)
    return float((weight * np.arange(len(weight))).sum() / weight.sum())


def runs(ink: Array) -> list[int]:
    """Lengths of the runs of inked pixels in a row."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (ink > 127).astype(int), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


def test_a_straight_line_lies_where_the_pinhole_formula_says() -> None:
    image = draw(boundary((4.0, -2.0, 0.0), (80.0, -2.0, 0.0)))
    for row in (270, 300, 330, 360):
        x = 400.0 * HEIGHT_M / (row - 239.5)
        assert ink_centre(image[row]) == pytest.approx(pixel_of((x, -2.0, 0.0))[0], abs=0.5)
        assert rgb_at(image, (pixel_of((x, -2.0, 0.0))[0], row)) == MAGENTA


def test_a_line_on_a_slope_lies_where_the_formula_says() -> None:
    image = draw(boundary((5.0, 1.0, 0.2), (40.0, 3.0, 4.0)))
    for part in (0.1, 0.4, 0.8):
        point = (5.0 + 35.0 * part, 1.0 + 2.0 * part, 0.2 + 3.8 * part)
        assert rgb_at(image, pixel_of(point)) == MAGENTA


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_line_through_the_camera_plane_is_cut_not_dropped(
    model: PinholeCamera | FThetaCamera,
) -> None:
    image = draw(boundary((-30.0, -1.0, 0.0), (30.0, -1.0, 0.0)), model=model)
    for x in (2.7, 3.5, 6.0, 20.0):
        pixel, covered = model.project(np.array([1.0, HEIGHT_M, x]))
        assert covered
        assert rgb_at(image, (pixel[0], pixel[1])) == MAGENTA
    assert image[-1].any()
    assert not image[:238].any()


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_line_across_the_view_with_both_ends_outside_is_drawn(
    model: PinholeCamera | FThetaCamera,
) -> None:
    image = draw(boundary((3.0, -400.0, 0.0), (3.0, 400.0, 0.0)), model=model)
    assert all(image[:, column].any() for column in range(0, 640, 40))


def test_a_fisheye_sees_lines_beside_and_behind_the_image_plane() -> None:
    ahead = draw(boundary((0.5, 3.0, 1.5), (0.1, 3.0, 1.5)), model=FISHEYE)
    beside = draw(boundary((-0.2, 3.0, 1.5), (-0.1, 3.0, 1.5)), model=FISHEYE)
    behind = draw(boundary((-3.0, 0.2, 1.5), (-3.0, -0.2, 1.5)), model=FISHEYE)
    assert ahead.any()
    assert beside.any()
    assert not behind.any()


def test_a_line_past_the_back_of_a_fisheye_does_not_cross_the_image() -> None:
    image = draw(boundary((-1.0, 30.0, 1.5), (-1.0, -30.0, 1.5)), model=FISHEYE)
    assert image[:, :40].any()
    assert image[:, -40:].any()
    assert not image[:, 60:-60].any()


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_nothing_behind_the_camera_appears(model: PinholeCamera | FThetaCamera) -> None:
    ring = np.array(
        [(-1.0, -40.0, 0.0), (-1.0, 40.0, 0.0), (-60.0, 40.0, 0.0), (-60.0, -40.0, 0.0)]
    )
    wall = np.array([(-4.0, -9.0, -5.0), (-4.0, 9.0, -5.0), (-4.0, 9.0, 9.0), (-4.0, -9.0, 9.0)])
    line = np.array([(-0.5, -3.0, 0.0), (-50.0, 3.0, 0.0)])
    behind = geometry.pose(-8.0, 0.0, 1.5)
    world = VectorMap(
        lane_lines=(LaneLine("l", line, MarkStyle.SOLID_GROUP, MarkColor.YELLOW),),
        road_boundaries=(Polyline("b", line + [0.0, 2.0, 0.0]),),
        stop_lines=(Polyline("s", line),),
        crosswalks=(Area("c", ring), Area("w", wall)),
        signs=(TrafficSign("sign", behind, np.array([0.1, 0.8, 0.8]), "stop"),),
        lights=(TrafficLight("light", behind, np.array([0.3, 0.3, 1.0])),),
    )
    boxes = (
        box(ActorClass.CAR, -6.0, 0.0, (4.0, 2.0, 1.6)),
        box(ActorClass.TRUCK, -20.0, 3.0, (9.0, 2.5, 3.0)),
    )
    assert not draw(world, *boxes, model=model).any()
    turned = optical_from_flu(geometry.pose(0.0, 0.0, HEIGHT_M, np.pi))
    assert draw(world, *boxes, model=model, pose=turned).any()


def test_lines_thin_out_with_depth() -> None:
    image = draw(boundary((30.0, -60.0, 0.0), (30.0, 60.0, 0.0)))
    far = draw(boundary((150.0, -60.0, 0.0), (150.0, 60.0, 0.0)))
    near = draw(boundary((5.0, -60.0, 1.0), (5.0, 60.0, 1.0)))
    ink = [float(i[:, 320].max(axis=1).sum()) / 253 for i in (near, image, far)]
    assert ink[0] > ink[1] > ink[2] > 0
    assert ink[0] * 1280 / 640 == pytest.approx(7.0, abs=1.5)


def test_line_widths_grow_with_the_image() -> None:
    big = PINHOLE.resized(1280, 960)
    image = draw(boundary((5.0, -60.0, 1.0), (5.0, 60.0, 1.0)), model=big)
    assert float(image[:, 640].max(axis=1).sum()) / 253 == pytest.approx(6.8, abs=1.25)


def test_nothing_is_drawn_beyond_the_depth_limit() -> None:
    world = VectorMap(
        road_boundaries=(Polyline("b", np.array([(210.0, -50.0, 0.0), (210.0, 50.0, 0.0)])),),
        crosswalks=(
            Area("c", np.array([(220.0, -9.0, 0.0), (240.0, -9.0, 0.0), (240.0, 9.0, 0.0)])),
        ),
    )
    far = box(ActorClass.CAR, 205.0, 0.0, (4.0, 20.0, 15.0))
    assert not draw(world, far).any()
    assert draw(world, far, depth_max_m=300.0).any()


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_crosswalk_is_filled_also_where_the_camera_stands_on_it(
    model: PinholeCamera | FThetaCamera,
) -> None:
    image = draw(crosswalk((-5.0, -8.0), (12.0, -8.0), (12.0, 8.0), (-5.0, 8.0)), model=model)
    end = model.project(np.array([0.0, HEIGHT_M, 12.0]))[0][1]
    below, above = image[int(np.ceil(end)) + 2 :, 320], image[: int(end) - 2, 320]
    assert (below == PURPLE).all()
    assert not above.any()
    bottom = image[-1, [1, 160, 480, 638]]
    assert (bottom == PURPLE).all()


def test_a_crosswalk_beside_the_camera_stays_on_its_side() -> None:
    image = draw(crosswalk((-20.0, 4.0), (30.0, 4.0), (30.0, 9.0), (-20.0, 9.0)), model=FTHETA)
    assert image[:, :200].any()
    assert not image[:, 322:].any()


def test_holes_of_an_area_stay_black() -> None:
    hole = ((10.0, -1.0), (14.0, -1.0), (14.0, 1.0), (10.0, 1.0))
    image = draw(crosswalk((6.0, -4.0), (20.0, -4.0), (20.0, 4.0), (6.0, 4.0), holes=(hole,)))
    assert rgb_at(image, pixel_of((12.0, 0.0, 0.0))) == (0, 0, 0)
    assert rgb_at(image, pixel_of((8.0, 0.0, 0.0))) == PURPLE
    assert rgb_at(image, pixel_of((12.0, 2.5, 0.0))) == PURPLE


def test_areas_that_overlap_are_both_filled() -> None:
    one = np.array([(6.0, -4.0, 0.0), (20.0, -4.0, 0.0), (20.0, 4.0, 0.0), (6.0, 4.0, 0.0)])
    image = draw(VectorMap(crosswalks=(Area("a", one), Area("b", one + [3.0, 1.0, 0.0]))))
    assert rgb_at(image, pixel_of((12.0, 0.0, 0.0))) == PURPLE


def test_dashes_and_gaps_have_their_metric_lengths() -> None:
    px_per_m = 400.0 / 20.0
    for style, dash_m, gap_m in (
        (MarkStyle.LONG_DASHED_SINGLE, 3.0, 9.0), (MarkStyle.SHORT_DASHED_SINGLE, 1.0, 1.0),
    ):  # fmt: skip
        image = draw(lane_line(style, (-16.0, 0.0, 0.0), (16.0, 0.0, 0.0)), pose=LOOKING_DOWN)
        row = image[239:241].max(axis=(0, 2))
        dashes = runs(row)[1:-1]
        gaps = runs(255 - row)[1:-1]
        assert len(dashes) >= 1
        # Round caps lengthen each dash by its width, about 3.5 px.
        assert np.allclose(dashes, dash_m * px_per_m + 3.5, atol=2)
        assert np.allclose(np.add(dashes[:1], gaps[:1]), (dash_m + gap_m) * px_per_m, atol=1)


def test_mixed_lines_have_the_dashed_line_on_the_reference_side() -> None:
    solid_dashed, dashed_solid = (
        STYLE_STROKES[s] for s in (MarkStyle.SOLID_DASHED, MarkStyle.DASHED_SOLID)
    )
    assert [(s.offset_m > 0, s.dash_m) for s in solid_dashed] == [(True, 3.0), (False, 0.0)]
    assert [(s.offset_m > 0, s.dash_m) for s in dashed_solid] == [(True, 0.0), (False, 3.0)]


def test_double_lines_are_fifteen_centimetres_apart() -> None:
    close = np.array([0.0, 0.0, 2.0, 1.0, 0.0, 0.0, 0.0])
    image = draw(lane_line(MarkStyle.SOLID_GROUP, (-4.0, 0.0, 0.0), (4.0, 0.0, 0.0)), pose=close)
    column = image[:, 320].max(axis=1)
    rows = np.flatnonzero(column > 200)
    upper, lower = rows[rows < 239.5].mean(), rows[rows > 239.5].mean()
    assert lower - upper == pytest.approx(0.15 * 400 / 2.0, abs=0.6)
    assert column[239] == 0


def test_lines_without_paint_are_not_drawn() -> None:
    assert not draw(lane_line(MarkStyle.NONE, (5.0, 0.0, 0.0), (30.0, 0.0, 0.0))).any()


def test_every_style_has_strokes() -> None:
    assert set(STYLE_STROKES) == set(MarkStyle)


def test_dashes_follow_a_bend_and_begin_at_its_start() -> None:
    corner = np.array([(0.0, 0.0, 0.0), (2.0, 0.0, 0.0), (2.0, 12.0, 0.0)])
    dashes = cut_dashes(corner, Stroke(0.0, 3.0, 9.0))
    assert [d.tolist() for d in dashes] == [
        [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [2.0, 1.0, 0.0]],
        [[2.0, 10.0, 0.0], [2.0, 12.0, 0.0]],
    ]


def test_a_line_shorter_than_half_a_dash_stays() -> None:
    stub = np.array([(0.0, 0.0, 0.0), (1.2, 0.0, 0.0)])
    assert [d.tolist() for d in cut_dashes(stub, Stroke(0.0, 3.0, 9.0))] == [stub.tolist()]


def test_offset_goes_to_the_left() -> None:
    line = np.array([(0.0, 0.0, 1.0), (5.0, 0.0, 1.0), (5.0, 5.0, 1.0)])
    moved = offset_left(line, 0.5)
    assert moved[0].tolist() == [0.0, 0.5, 1.0]
    assert moved[2].tolist() == [4.5, 5.0, 1.0]


def test_drivable_areas_bound_a_map_without_road_boundaries() -> None:
    area = Area(
        "a", np.array([(5.0, -3.0, 0.0), (30.0, -3.0, 0.0), (30.0, 3.0, 0.0), (5.0, 3.0, 0.0)])
    )
    assert rgb_at(draw(VectorMap(drivable_areas=(area,))), pixel_of((15.0, 3.0, 0.0))) == MAGENTA
    edge = Polyline("e", np.array([(5.0, -8.0, 0.0), (30.0, -8.0, 0.0)]))
    both = draw(VectorMap(drivable_areas=(area,), road_boundaries=(edge,)))
    assert rgb_at(both, pixel_of((15.0, 3.0, 0.0))) == (0, 0, 0)


def test_colours_of_lines_signs_and_lights() -> None:
    across = [np.array([(x, -5.0, 0.0), (x, 5.0, 0.0)]) for x in (10.0, 12.0, 14.0, 16.0)]
    world = VectorMap(
        lane_lines=(
            LaneLine("w", across[0], MarkStyle.SOLID_SINGLE, MarkColor.WHITE),
            LaneLine("y", across[1], MarkStyle.SOLID_SINGLE, MarkColor.YELLOW),
            LaneLine("u", across[2], MarkStyle.SOLID_SINGLE, MarkColor.UNKNOWN),
        ),
        stop_lines=(Polyline("s", across[3]),),
        signs=(
            TrafficSign("sign", geometry.pose(20.0, 4.0, 3.0), np.array([0.1, 1.0, 1.0]), "stop"),
        ),
        lights=(TrafficLight("light", geometry.pose(20.0, -4.0, 5.0), np.array([0.4, 0.4, 1.2])),),
    )
    image = draw(world)
    for x, colour in (
        (10.0, (255,) * 3),
        (12.0, (255, 255, 0)),
        (14.0, (255,) * 3),
        (16.0, (108, 179, 59)),
    ):
        assert rgb_at(image, pixel_of((x, 0.0, 0.0))) == colour
    assert rgb_at(image, pixel_of((20.0, 4.0, 3.0))) == (8, 2, 255)
    assert rgb_at(image, pixel_of((20.0, -4.0, 5.0))) == (100, 100, 100)


def test_an_empty_map_and_degenerate_elements_draw_nothing() -> None:
    point = np.array([(5.0, 0.0, 0.0)])
    world = VectorMap(
        lane_lines=(
            LaneLine("l", point, MarkStyle.SOLID_GROUP),
            LaneLine("m", point, MarkStyle.DASHED_SINGLE),
        ),
        road_boundaries=(Polyline("b", np.zeros((0, 3))),),
        crosswalks=(Area("c", point),),
    )
    assert not draw(VectorMap()).any()
    assert not draw(world).any()


def test_a_curved_image_of_a_straight_line_follows_the_camera() -> None:
    image = draw(boundary((2.0, -30.0, 0.0), (2.0, 30.0, 0.0)), model=FTHETA)
    for y in np.linspace(-2.5, 2.5, 21):
        u, v = FTHETA.project(np.array([-y, HEIGHT_M, 2.0]))[0]
        assert rgb_at(image, (u, v)) == MAGENTA


def test_pieces_keep_the_vertices_of_a_line() -> None:
    line = np.array([(0.0, 0.0, 0.0), (1.5, 0.0, 0.0), (1.5, 11.0, 0.5), (30.0, 11.0, 0.5)])
    pieces = build_geometry(boundary(*map(tuple, line))).line_points.transpose(1, 2, 0)
    assert (pieces[1:, 0] == pieces[:-1, -1]).all()
    gaps = np.linalg.norm(np.diff(pieces, axis=1), axis=2)
    assert gaps.max() <= 4.0 + 1e-9
    assert gaps.sum() == pytest.approx(geometry.arc_length_m(line)[-1], rel=1e-3)
    for vertex in line:
        assert np.abs(pieces - vertex).sum(axis=2).min() < 1e-12


def test_the_pose_is_that_of_the_optical_frame() -> None:
    raised = optical_from_flu(geometry.pose(0.0, 0.0, 5.0))
    low = draw(boundary((10.0, -2.0, 0.0), (11.0, -2.0, 0.0)))
    high = draw(boundary((10.0, -2.0, 3.5), (11.0, -2.0, 3.5)), pose=raised)
    assert low.any()
    assert (low == high).all()
    assert LOCAL_TO_CAMERA[2] == HEIGHT_M
