from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core.errors import ConfigError
from omniloop.metrics.alpasim_settings import Settings
from omniloop.metrics.alpasim_shapes import (
    bumpers,
    distance_m,
    outline,
    placed,
    rounded_sizes,
    touch,
)

SIZES = np.array([[5.393, 2.109, 1.5], [0.6, 0.6, 1.8], [12.0, 2.5, 3.0], [0.5, 0.9, 1.0]])


def test_a_box_is_shrunk_then_rounded_by_half_of_half_its_shorter_side() -> None:
    sizes = rounded_sizes(np.array([[5.0, 2.0, 1.5]]), Settings())
    assert sizes.half_m[0] == pytest.approx([2.45, 0.98])
    assert sizes.radius_m[0] == pytest.approx(0.49)
    shape = outline(sizes.half_m[0], float(sizes.radius_m[0]))
    assert shapely.bounds(shape) == pytest.approx([-2.45, -0.98, 2.45, 0.98])
    area_m2 = 4.9 * 1.96 - (4 - np.pi) * 0.49**2
    assert shapely.area(shape) == pytest.approx(area_m2, rel=1e-3)


def test_the_outline_is_the_opening_of_the_shrunk_box() -> None:
    for size in SIZES:
        sizes = rounded_sizes(size[None], Settings())
        length, width = sizes.half_m[0]
        radius = float(sizes.radius_m[0])
        opened = shapely.box(-length, -width, length, width).buffer(-radius).buffer(radius)
        ours = outline(sizes.half_m[0], radius)
        assert shapely.area(shapely.symmetric_difference(ours, opened)) < 1e-9


@pytest.mark.parametrize("roundness", [0.0, 0.5, 1.0])
def test_bumpers_lie_in_the_shape_at_its_ends(roundness: float) -> None:
    sizes = rounded_sizes(SIZES[:1], Settings(vehicle_corner_roundness=roundness))
    radius = float(sizes.radius_m[0])
    shape = outline(sizes.half_m[0], radius)
    front, rear = bumpers(sizes.half_m[0], radius)
    assert shapely.covers(shape, front)
    assert shapely.bounds(front)[[0, 2]] == pytest.approx(
        [sizes.half_m[0, 0] - radius, sizes.half_m[0, 0]]
    )
    assert shapely.bounds(rear)[[0, 2]] == pytest.approx(-shapely.bounds(front)[[2, 0]])


@settings(max_examples=100)
@given(
    seed=st.integers(0, 10_000), roundness=st.sampled_from([0.0, 0.5, 1.0]), spread=st.floats(0, 30)
)
def test_distances_are_those_of_the_polygons(seed: int, roundness: float, spread: float) -> None:
    rng = np.random.default_rng(seed)
    sizes = rounded_sizes(SIZES, Settings(vehicle_corner_roundness=roundness))
    a, b = rng.integers(0, len(SIZES), (2, 30))
    xy, yaw = rng.normal(0, spread + 0.1, (2, 30, 2)), rng.uniform(-7, 7, (2, 30))
    found = distance_m(xy[0], yaw[0], sizes.take(a), xy[1], yaw[1], sizes.take(b))
    for i in range(30):
        one, other = (
            placed(outline(sizes.half_m[k], float(sizes.radius_m[k])), xy[j, i : i + 1], yaw[j, i : i + 1])[0]
            for j, k in ((0, a[i]), (1, b[i]))
        )  # fmt: skip
        assert max(found[i], 0.0) == pytest.approx(shapely.distance(one, other), abs=6e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"compat": "alpasim"},
        {"vehicle_shrink_factor": 1.0},
        {"vehicle_corner_roundness": 1.1},
        {"vehicle_corner_roundness": -0.1},
        {"progress_saturation": 0.0},
        {"max_dist_to_gt_trajectory": float("nan")},
        {"plan_min_timesteps": 0},
        {"plan_min_timesteps": 2.5},
        {"plan_decay": "fast"},
    ],
)
def test_settings_that_cannot_be_used_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Settings(**wrong).checked()  # type: ignore[arg-type]


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), roundness=st.sampled_from([0.0, 0.3, 1.0]))
def test_shapes_touch_where_their_distance_is_nothing(seed: int, roundness: float) -> None:
    rng = np.random.default_rng(seed)
    wanted = Settings(vehicle_corner_roundness=roundness)
    a, b = (rounded_sizes(SIZES[rng.integers(0, len(SIZES), 200)], wanted) for _ in range(2))
    xy_a, xy_b = rng.uniform(-5, 5, (2, 200, 2))
    yaw_a, yaw_b = rng.uniform(-np.pi, np.pi, (2, 200))
    xy_a[:20], yaw_a[:20] = xy_b[:20], yaw_b[:20]
    pairs = (xy_a, yaw_a, a, xy_b, yaw_b, b)
    assert np.array_equal(touch(*pairs), distance_m(*pairs) <= 0.0)
