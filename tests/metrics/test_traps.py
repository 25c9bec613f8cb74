"""One word, another meaning in each family: rollouts that tell them apart.

The table of reference/metrics.md C.8: "at fault", "off-road", "time to collision", "progress" and
"comfort".
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omniloop.core.motion import EgoMotion
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import Area, VectorMap
from omniloop.metrics.alpasim_metric import AlpasimMetric
from omniloop.metrics.collision import CollisionMetric
from omniloop.metrics.comfort import ComfortMetric
from omniloop.metrics.navsim_driven import NavsimDrivenMetric
from omniloop.metrics.nuplan_cls import NuplanClsMetric
from omniloop.metrics.nuplan_collisions import NuplanCollisionsMetric
from omniloop.metrics.nuplan_comfort import NuplanComfortMetric
from omniloop.metrics.nuplan_drivable_area import NuplanDrivableAreaMetric
from omniloop.metrics.nuplan_progress import NuplanProgressMetric
from omniloop.metrics.nuplan_ttc import NuplanTtcMetric
from omniloop.metrics.offroad import OffroadMetric
from omniloop.metrics.scoring import score
from tests.metrics.nuplan_records import TWO_LANES, straight
from tests.metrics.records import Body, Path, moving, record, rectangle, still

METRICS = (
    CollisionMetric(), OffroadMetric(), ComfortMetric(), NuplanClsMetric(), NuplanCollisionsMetric(),
    NuplanDrivableAreaMetric(), NuplanProgressMetric(), NuplanTtcMetric(), NuplanComfortMetric(),
    NavsimDrivenMetric(), AlpasimMetric(),
)  # fmt: skip


def scores(made: RolloutRecord) -> dict[str, float | None]:
    return {value.name: value.value for value in score(made, METRICS)}


def test_at_fault() -> None:
    """Hit in the flank within its lane; reversing into a car that stands."""
    side = Body(lambda t: (1 + 5 * t, 3.0 - 2 * t, 0.0), (2.0, 1.0, 1.5))
    found = scores(record(moving(0, 0, 5), [side], vector_map=TWO_LANES))
    assert found["nuplan_no_ego_at_fault_collisions"] == 1.0
    assert found["navsim_nc_driven"] == 1.0
    assert found["alpasim_collision_at_fault"] == 1.0
    assert found["collision_at_fault"] == 1.0
    back: Path = lambda t: (-5 * t, 0.0, 0.0)  # noqa: E731
    made = record(back, [Body(still(-6, 0))], recorded=still(0, 0), vector_map=TWO_LANES)
    found = scores(made)
    assert found["nuplan_no_ego_at_fault_collisions"] == 0.0
    assert found["navsim_nc_driven"] == 0.0
    assert found["alpasim_collision_at_fault"] == 0.0
    assert found["collision_at_fault"] == 0.0
    assert found["alpasim_collision_any"] == found["collision"] == 1.0


def test_off_road() -> None:
    """A corner is 0.2 m off the drivable area, whose outline is the only road edge."""
    road = VectorMap(
        lanes=(straight("lane", 0.0),), drivable_areas=(Area("a", rectangle(-100, -2, 200, 2)),)
    )
    leaving: Path = lambda t: (10 * t, 1.2 * np.clip(2 * t - 1, 0, 1), 0.0)  # noqa: E731
    found = scores(record(leaving, recorded=moving(0, 0, 10), vector_map=road))
    assert found["nuplan_drivable_area_compliance"] == 1.0
    assert found["navsim_dac_driven"] == 0.0
    assert found["alpasim_offroad"] == 1.0
    assert found["offroad"] == 0.0


def test_time_to_collision() -> None:
    """The car ahead drives on just in time: its box would have been met, it is not."""
    bolting = Body(lambda t: (12.0 + 40.0 * np.maximum(t - 0.35, 0.0), 0.0, 0.0))
    found = scores(record(moving(0, 0, 10), [bolting], vector_map=TWO_LANES, duration_s=1.5))
    assert found["nuplan_time_to_collision_within_bound"] == 0.0
    assert found["navsim_ttc_driven"] == 1.0
    assert found["alpasim_collision_any"] == 0.0


def test_progress() -> None:
    """Half as fast as the recording; AlpaSim counts the way in warm-up too, and cuts at 4 m."""
    slow: Path = lambda t: (np.where(t < 0, 10 * t, 5 * t), 0.0, 0.0)  # noqa: E731
    found = scores(record(slow, recorded=moving(0, 0, 10), vector_map=TWO_LANES))
    assert found["nuplan_ego_progress_along_expert_route"] == 0.5
    assert found["alpasim_progress_clipped_rel"] == 15 / 25
    assert found["navsim_ep_driven"] is None
    beside: Path = lambda t: (10 * t, np.where(t > 0.95, 4.0, 0.0), 0.0)  # noqa: E731
    found = scores(record(beside, recorded=moving(0, 0, 10), vector_map=TWO_LANES))
    assert found["nuplan_ego_progress_along_expert_route"] == 1.0
    assert found["alpasim_progress_clipped_rel"] == 15 / 25  # at 1.0 s, after 5 + 10 of 25 m


def test_comfort() -> None:
    """A kick before handover is history to NAVSIM and nobody's driving to nuPlan."""
    made = record(moving(0, 0, 10), vector_map=TWO_LANES, duration_s=3)
    made = replace(made, schedule=replace(made.schedule, n_warmup=15))
    dynamics = np.zeros_like(made.ego.dynamics)
    dynamics[:, 0] = 10.0
    dynamics[8, 0] = 12.0  # 0.7 s before handover
    ego = EgoMotion(made.ego.times_us, made.ego.local_to_rig, dynamics)
    found = scores(replace(made, ego=ego))
    assert found["nuplan_ego_is_comfortable"] == found["comfort"] == 1.0
    assert found["navsim_hc_driven"] == 0.0
