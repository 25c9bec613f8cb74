from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import Polyline, TrafficLight
from omniloop.metrics.collision import CollisionMetric
from omniloop.metrics.collision_fault import CollisionFaultMetric
from omniloop.metrics.comfort import ComfortMetric
from omniloop.metrics.contacts import contacts
from omniloop.metrics.displacement import DisplacementMetric
from omniloop.metrics.driving_direction import DrivingDirectionMetric
from omniloop.metrics.fault_reaction import FaultReactionMetric
from omniloop.metrics.incidents import IncidentsMetric
from omniloop.metrics.obstacle_distance import ObstacleDistanceMetric
from omniloop.metrics.offroad import OffroadMetric
from omniloop.metrics.path_distance import PathDistanceMetric
from omniloop.metrics.plan_consistency import PlanConsistencyMetric
from omniloop.metrics.plan_error import PlanErrorMetric
from omniloop.metrics.progress import ProgressMetric
from omniloop.metrics.red_light import RedLightMetric
from omniloop.metrics.scoring import score
from omniloop.metrics.ttc import TtcMetric
from tests.metrics.records import Body, Path, decision, moving, record, road, transformed
from tests.metrics.test_lanes_under import straight

METRICS = (
    CollisionMetric(), OffroadMetric(), PathDistanceMetric(), ProgressMetric(), DisplacementMetric(),
    IncidentsMetric(), CollisionFaultMetric(), DrivingDirectionMetric(max_against_m=0.5),
    RedLightMetric(), TtcMetric(), ObstacleDistanceMetric(), ComfortMetric(), PlanErrorMetric(),
    PlanConsistencyMetric(horizon_s=1.0), FaultReactionMetric(horizon_s=1.0),
)  # fmt: skip

AHEAD, BACK = straight(-4, 0.3, "ahead"), straight(0.3, 4, "back")
MAP = replace(
    road(),
    lanes=(AHEAD, replace(BACK, centerline=BACK.centerline[::-1])),
    stop_lines=(Polyline("line", np.array([[9.0, -4, 0], [9.0, 4, 0]]), ("ahead",)),),
    lights=(
        TrafficLight(
            "light", geometry.pose(12, 4, 4), np.ones(3), ("ahead",),
            np.array([0, 2_000_000, 2_900_000]), ("green", "red", "green"),
        ),
    ),
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
    late = rng.choice([0.0, 0.1], 18)
    plans = [
        decision(
            0.1 * k, moving(0, rng.normal(0, 1), speed), 1.5, samples=[weaving], late_s=late[k]
        )
        for k in range(18)
    ]
    return record(  # type: ignore[misc]
        weaving, bodies, recorded=recorded, vector_map=MAP, decisions=plans, **kwargs
    )  # fmt: skip


def test_the_random_rollouts_below_show_all_kinds_of_outcome() -> None:
    values = [{v.name: v.value for v in score(random_record(i), METRICS)} for i in range(60)]
    for name in (
        "collision_front",
        "collision_rear",
        "collision_lateral",
        "offroad",
        "incident_in_tube",
        "collision_at_fault_nuplan",
        "collision_active_lateral_nuplan",
        "against_lane",
        "red_light",
        "stop_line_on_red",
        "comfort",
    ):
        assert {v[name] for v in values} >= {0.0, 1.0}, name
    for name in ("ttc_min_s", "plan_deviation_m", "fault_plan_deviation_m"):
        assert len({v[name] for v in values}) > 10, name


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


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), low=st.floats(0.0, 2.0), more=st.floats(0.0, 2.0))
def test_scores_are_monotone_in_their_tolerances(seed: int, low: float, more: float) -> None:
    made = random_record(seed)

    def values(tolerance: float) -> dict[str, float | None]:
        metrics = (
            OffroadMetric(tolerance_m=tolerance), DrivingDirectionMetric(max_against_m=tolerance),
            TtcMetric(bound_s=tolerance), IncidentsMetric(offroad_tolerance_m=tolerance),
        )  # fmt: skip
        return {v.name: v.value for v in score(made, metrics)}

    strict, lenient = values(low), values(low + more)
    for name in ("offroad", "against_lane", "incident", "incident_in_tube"):
        if strict[name] is not None and lenient[name] is not None:
            assert lenient[name] <= strict[name], name
    # A greater bound on time to collision finds more short ones.
    assert lenient["ttc_short_share"] >= strict["ttc_short_share"]
