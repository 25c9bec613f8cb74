from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.metrics.boxes import Rectangles, distance_m
from omniloop.metrics.obstacle_distance import ObstacleDistanceMetric
from omniloop.metrics.samples import score_samples
from tests.metrics.records import Body, Path, by_name, moving, record, still


def nearest(ego: Path, *bodies: Body) -> float | None:
    return by_name(ObstacleDistanceMetric(), record(ego, bodies))["obstacle_distance_min_m"].value


def test_the_gap_between_boxes_is_what_counts() -> None:
    # Ego's box reaches from x = -1 to 3 and 1 m to both sides.
    assert nearest(still(0, 0), Body(still(10, 0))) == pytest.approx(5.0)
    assert nearest(still(0, 0), Body(still(1, 5))) == pytest.approx(3.0)
    assert nearest(still(0, 0), Body(still(8, 6))) == pytest.approx(5.0)  # 3 m and 4 m
    assert nearest(moving(0, 0, 10), Body(still(10, 3.5))) == pytest.approx(1.5)


def test_the_details_say_who_was_nearest_and_when() -> None:
    bodies = [Body(still(60, 0), id="far"), Body(still(12, 4), id="near")]
    made = record(moving(0, 0, 10), bodies, duration_s=2)
    value = by_name(ObstacleDistanceMetric(), made)["obstacle_distance_min_m"]
    assert value.details["actor_id"] == "near"
    assert value.details["at_us"] == 1_500_000 + 700_000


def test_touching_and_overlapping_are_no_distance() -> None:
    assert nearest(moving(0, 0, 10), Body(still(15, 0))) == 0.0
    assert nearest(still(0, 0), Body(still(5, 0)), Body(still(30, 0))) == 0.0


def test_who_overlaps_at_handover_does_not_count_until_it_has_parted() -> None:
    assert nearest(still(0, 0), Body(still(2, 0)), Body(still(20, 0))) == pytest.approx(15.0)
    assert nearest(still(0, 0), Body(still(2, 0))) is None
    leaves = Body(moving(2, 0, 8))
    assert 0 <= nearest(still(0, 0), leaves) < 0.9  # type: ignore[operator]


def test_bridges_and_absent_actors_do_not_count() -> None:
    assert nearest(still(0, 0), Body(still(10, 0), z=6.0)) is None
    assert nearest(still(0, 0), Body(still(10, 0), z=6.0), Body(still(20, 0))) == pytest.approx(15)
    assert nearest(still(0, 0), Body(still(10, 0), z=6.0), Body(still(60, 0))) == pytest.approx(55)
    assert nearest(still(0, 0), Body(still(10, 0), present=lambda t: t > 99)) is None
    assert nearest(still(0, 0)) is None


@settings(max_examples=60)
@given(seed=st.integers(0, 100_000))
def test_distances_are_those_of_polygons(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def some() -> tuple[Rectangles, list[shapely.Polygon]]:
        xy, yaw = rng.uniform(-6, 6, (20, 2)), rng.uniform(-np.pi, np.pi, 20)
        half = rng.uniform(0.1, 3, (20, 2))
        poses = geometry.poses_from_xyz_yaw(np.column_stack([xy, np.zeros(20)]), yaw)
        sizes = np.column_stack([2 * half, np.ones(20)])
        corners = geometry.box_corners_xy(poses, sizes)
        return Rectangles(xy, yaw, half), [shapely.Polygon(c) for c in corners]

    (a, polygons_a), (b, polygons_b) = some(), some()
    assert distance_m(a, b) == pytest.approx(shapely.distance(polygons_a, polygons_b), abs=1e-9)


@settings(max_examples=30)
@given(seed=st.integers(0, 100_000))
def test_leaving_out_far_pairs_does_not_change_the_least_distance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bodies = [
        Body(
            moving(rng.uniform(-30, 40), rng.uniform(4, 20) * rng.choice([-1, 1]), rng.uniform(0, 9)),
            size=(rng.uniform(0.5, 12), rng.uniform(0.5, 3), 1.5),
        )
        for _ in range(8)
    ]  # fmt: skip
    made = record(moving(0, 0, 6, rng.normal(0, 0.1)), bodies)
    samples = score_samples(made)
    assert samples is not None
    boxes = geometry.box_corners_xy(samples.actors.local_to_aabb, made.scene.actor_sizes_m[:, None])
    least = min(
        shapely.distance(shapely.Polygon(ego), shapely.Polygon(box))
        for k, ego in enumerate(samples.ego.corners_xy)
        for box in boxes[:, k]
    )
    value = by_name(ObstacleDistanceMetric(), made)["obstacle_distance_min_m"].value
    if value is not None:
        assert value == pytest.approx(least, abs=1e-6)
