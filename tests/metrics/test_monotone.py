"""More tolerance never makes more of an offence, whatever the rollout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core.record import RolloutRecord
from omniloop.metrics.alpasim_metric import AlpasimMetric
from omniloop.metrics.collision import CollisionMetric
from omniloop.metrics.contacts import find_overlaps
from omniloop.metrics.samples import score_samples
from omniloop.metrics.scoring import score
from omniloop.metrics.ttc import TtcMetric
from tests.metrics.test_alpasim_series import weaving_record
from tests.metrics.test_invariance import random_record

seeds = st.integers(0, 10_000)


def values(metric: object, made: RolloutRecord) -> dict[str, float | None]:
    return {v.name: v.value for v in score(made, [metric])}  # type: ignore[list-item]


@settings(max_examples=40)
@given(seed=seeds, low=st.floats(0.0, 3.0), more=st.floats(0.0, 3.0))
def test_contacts_grow_with_the_vertical_tolerance(seed: int, low: float, more: float) -> None:
    """Actors are lifted by up to 4 m."""
    made = random_record(seed)
    poses = made.actors.local_to_aabb.copy()
    poses[..., 2] += np.random.default_rng(seed).uniform(0, 4, len(poses))[:, None]
    lifted = replace(made, actors=replace(made.actors, local_to_aabb=poses))
    samples = score_samples(lifted)
    assert samples is not None
    small, great = (
        find_overlaps(
            lifted.ego, lifted.actors, lifted.scene.vehicle, lifted.scene.actor_sizes_m,
            samples.times_us, vertical_tolerance_m=tolerance,
        ).overlapping
        for tolerance in (low, low + more)
    )  # fmt: skip
    assert (great >= small).all()


@settings(max_examples=40)
@given(seed=seeds, low=st.floats(0.0, 6.0), more=st.floats(0.0, 6.0))
def test_fault_falls_with_the_speed_up_to_which_ego_stands(
    seed: int, low: float, more: float
) -> None:
    made = random_record(seed)
    strict, lenient = (values(CollisionMetric(stopped_mps=v), made) for v in (low, low + more))
    for name in ("collision_front", "collision_rear", "collision_lateral", "collision_at_fault"):
        assert lenient[name] <= strict[name], name  # type: ignore[operator]
    assert lenient["collision_ego_stopped"] >= strict["collision_ego_stopped"]  # type: ignore[operator]
    for name in ("collision", "contacts"):
        assert lenient[name] == strict[name], name


@settings(max_examples=40)
@given(seed=seeds, low=st.floats(0.1, 4.0), more=st.floats(0.0, 4.0))
def test_a_longer_horizon_finds_no_later_time_to_collision(
    seed: int, low: float, more: float
) -> None:
    made = random_record(seed)
    near, far = (values(TtcMetric(horizon_s=h), made) for h in (low, low + more))
    if near["ttc_min_s"] is not None:
        assert far["ttc_min_s"] == near["ttc_min_s"]
    assert far["ttc_short_share"] >= near["ttc_short_share"]  # type: ignore[operator]


@settings(max_examples=30)
@given(seed=seeds, low=st.floats(0.0, 0.4), more=st.floats(0.0, 0.4))
def test_smaller_shapes_collide_less_and_keep_further_away(
    seed: int, low: float, more: float
) -> None:
    """The tube is wide: a row that is cut off says nothing."""
    made = weaving_record(seed)
    large, small = (
        values(AlpasimMetric(vehicle_shrink_factor=s, max_dist_to_gt_trajectory=1e6), made)
        for s in (low, low + more)
    )
    assert small["alpasim_collision_any"] <= large["alpasim_collision_any"]  # type: ignore[operator]
    for name in ("alpasim_offroad_or_collision", "alpasim_offroad"):
        if small[name] is not None and large["alpasim_collision_any"] == 0:
            assert small[name] <= large[name], name  # type: ignore[operator]


@settings(max_examples=30)
@given(seed=seeds, low=st.floats(0.0, 6.0), more=st.floats(0.0, 6.0))
def test_a_wider_tube_hides_no_incident_and_no_distance(seed: int, low: float, more: float) -> None:
    made = weaving_record(seed)
    narrow, wide = (
        values(AlpasimMetric(max_dist_to_gt_trajectory=r), made) for r in (low, low + more)
    )
    for name in ("offroad_or_collision", "collision_any", "offroad", "dist_traveled_m",
                 "duration_frac_20s", "dist_to_gt_trajectory"):  # fmt: skip
        assert wide[f"alpasim_{name}"] >= narrow[f"alpasim_{name}"], name  # type: ignore[operator]
