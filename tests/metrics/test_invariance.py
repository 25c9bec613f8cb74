from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.record import RolloutRecord
from omniloop.metrics.collision import CollisionMetric
from omniloop.metrics.contacts import contacts
from omniloop.metrics.displacement import DisplacementMetric
from omniloop.metrics.incidents import IncidentsMetric
from omniloop.metrics.offroad import OffroadMetric
from omniloop.metrics.path_distance import PathDistanceMetric
from omniloop.metrics.progress import ProgressMetric
from omniloop.metrics.scoring import score
from tests.metrics.records import Body, Path, moving, record, road, transformed

METRICS = (
    CollisionMetric(), OffroadMetric(), PathDistanceMetric(), ProgressMetric(), DisplacementMetric(),
    IncidentsMetric(),
)  # fmt: skip


def random_record(seed: int, **kwargs: object) -> RolloutRecord:
    """An ego that weaves along a road among four cars, some of which it meets."""
    rng = np.random.default_rng(seed)
    sway, rate, speed = rng.uniform(0, 5), rng.uniform(0.3, 2), rng.uniform(0, 12)

    def weaving(t: np.ndarray) -> tuple[object, object, object]:
        slope = np.arctan2(sway * rate * np.cos(rate * t), max(speed, 1.0))
        return speed * t, sway * np.sin(rate * t), slope

    def body() -> Body:
        path: Path = moving(
            rng.uniform(-12, 25), rng.uniform(-5, 5), rng.uniform(0, 12), rng.normal(0, 0.4)
        )
        start, stop = rng.uniform(-1, 0.5), rng.uniform(1, 3)
        return Body(path, present=lambda t: (t > start) & (t < stop))

    recorded = moving(0, rng.normal(0, 0.5), rng.uniform(0.5, 12), rng.normal(0, 0.05))
    bodies = [body() for _ in range(4)]
    return record(weaving, bodies, recorded=recorded, vector_map=road(), **kwargs)  # type: ignore[arg-type]


def test_the_random_rollouts_below_show_all_kinds_of_outcome() -> None:
    values = [{v.name: v.value for v in score(random_record(i), METRICS)} for i in range(60)]
    for name in (
        "collision_front",
        "collision_rear",
        "collision_lateral",
        "offroad",
        "incident_in_tube",
    ):
        assert {v[name] for v in values} >= {0.0, 1.0}, name


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    yaw=st.floats(-np.pi, np.pi),
    x=st.floats(-1e4, 1e4),
    y=st.floats(-1e4, 1e4),
    shift_us=st.integers(-1_000_000, 2_000_000_000_000_000),
)
def test_no_score_depends_on_the_frame_or_on_the_clock(
    seed: int, yaw: float, x: float, y: float, shift_us: int
) -> None:
    made = random_record(seed)
    moved = transformed(made, geometry.pose(x, y, 3.0, yaw), shift_us)
    for here, there in zip(score(made, METRICS), score(moved, METRICS), strict=True):
        assert here.name == there.name
        assert here.reason == there.reason
        if here.value is not None:
            assert here.value == pytest.approx(there.value, rel=1e-6, abs=1e-6), here.name
    before, after = (contacts(r, 0.05, 0.3).contacts for r in (made, moved))
    for one, other in zip(before, after, strict=True):
        assert (one.actor_id, one.kind) == (other.actor_id, other.kind)
        assert (one.start_us + shift_us, one.end_us + shift_us) == (other.start_us, other.end_us)
