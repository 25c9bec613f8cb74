"""Poles, markings, islands and areas in pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.scene import MapFeature, Scene
from omniloop.report.birdseye import BirdsEye, View, draw_legend
from omniloop.report.map_features import drawn_features, hatch
from omniloop.report.moment import Moment
from omniloop.report.palette import DARK, LIGHT, Palette
from omniloop.report.scene_picture import scene_image
from tests.report.builders import START_US, make_scene
from tests.report.test_birdseye import near_color, pixel_of


def feature(kind: str, *xy: tuple[float, float]) -> MapFeature:
    return MapFeature(f"{kind}{xy[0]}", kind, np.array([[x, y, 0.1] for x, y in xy]))


def box(kind: str, x: float, y: float, side: float = 3.0) -> MapFeature:
    return feature(kind, (x, y), (x + side, y), (x + side, y + side), (x, y + side))


# Beside the road of `make_scene`, which is 4 m to the right and 5.5 m to the left of ego.
FEATURES = (
    box("intersection_area", 0.0, -9.0),
    box("road_island", 5.0, -9.0),
    box("gore_area", 10.0, -9.0),
    box("road_marking", 0.0, 9.0),
    feature("road_marking", (5.0, 10.0), (8.0, 10.0)),
    box("speed_bump", 10.0, 9.0),
    feature("pole", (-4.0, -8.0), (-4.0, -8.0)),
)


def with_features() -> Scene:
    scene = make_scene()
    return replace(scene, tracks=(), map=replace(scene.map, features=FEATURES))


@pytest.mark.parametrize("palette", [DARK, LIGHT], ids=["dark", "light"])
def test_each_kind_is_drawn_where_it_is_in_its_colour(palette: Palette) -> None:
    view, scene = View(size=(480, 480), height_m=40.0, ego_at=(0.5, 0.5)), with_features()
    moment = Moment(START_US, geometry.pose(4.0), 0.0, np.zeros((0, 7)), np.zeros(0, dtype=bool))
    image = BirdsEye(scene, view, palette, legend=False, caption=False).draw(moment)
    for xy, color in (
        ((1.5, -7.5), palette.junction),
        ((6.5, -7.5), palette.island),
        ((10.0, -8.0), palette.line_white),
        ((1.5, 10.5), palette.line_white),
        ((6.5, 10.0), palette.line_white),
        ((10.0, 10.5), palette.faint),
        ((-4.0, -8.0), palette.pole),
    ):
        assert near_color(image, pixel_of(view, moment, xy), color), xy
    assert near_color(image, pixel_of(view, moment, (11.5, 10.5)), palette.background)


def test_the_legend_names_the_looks_that_occur_once_each() -> None:
    looks = [drawn.look.label for drawn in drawn_features((*FEATURES, box("buffer_zone", 0, 0)))]
    assert looks == ["intersection", "island", "gore or buffer", "marking", "other feature", "pole"]
    plain, named = (draw_legend(s, LIGHT, 900) for s in (make_scene(), with_features()))
    assert named.shape[0] > plain.shape[0] or named.shape[1] > plain.shape[1]


def test_all_but_the_features_and_the_legend_stays_as_it_was() -> None:
    without, with_them = scene_image(replace(make_scene(), tracks=())), scene_image(with_features())
    changed = np.argwhere((without != with_them).any(axis=2))
    rows = changed[changed[:, 0] < without.shape[0] - 60, 0]
    assert 1000 < len(rows) < 20_000


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=3, max_size=7))
def test_hatches_lie_inside_their_area_whatever_its_shape(
    corners: list[tuple[float, float]],
) -> None:
    area = shapely.buffer(shapely.make_valid(shapely.Polygon(corners)), 1e-3)
    for line in hatch(np.array(corners)):
        assert shapely.covers(area, shapely.linestrings(line))


def test_hatches_are_slanted_and_evenly_apart_and_not_more_than_can_be_seen() -> None:
    lines = hatch(np.array([[0.0, 0], [20, 0], [20, 3], [0, 3]]))
    steps = np.array([line[-1] - line[0] for line in lines])
    np.testing.assert_allclose(np.abs(steps[:, 0]), np.abs(steps[:, 1]), atol=1e-3)
    assert len(lines) == 10
    assert len(hatch(np.array([[0.0, 0], [1e9, 0], [1e9, 1e9], [0, 1e9]]))) <= 401


@pytest.mark.parametrize("kind", ["gore_area", "road_island", "road_marking", "pole", "bench"])
def test_features_of_too_few_points_are_no_trouble(kind: str) -> None:
    made = MapFeature("x", kind, np.zeros((0, 3)))
    assert drawn_features((made,)) == []
    drawn_features((feature(kind, (1.0, 1.0)), feature(kind, (2.0, 2.0), (2.0, 2.0)), feature(kind, *((3.0, 3.0),) * 3)))  # fmt: skip
