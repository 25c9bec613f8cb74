"""The table of nuPlan for single contacts, its ties, and what decides a lateral one."""

from __future__ import annotations

import numpy as np
import pytest

from omniloop.core.scene import VectorMap
from omniloop.metrics.collision import CollisionMetric
from omniloop.metrics.collision_fault import CollisionFaultMetric
from omniloop.metrics.nuplan_faults import KINDS
from tests.metrics.records import SIZE, Body, Path, by_name, moving, record, still
from tests.metrics.test_collision import SHORT, drifting
from tests.metrics.test_lanes_under import straight

WIDE = VectorMap(lanes=(straight(-6, 6, "wide"),))
THIN = (4.0, 0.4, 1.5)


def beside(bearing_deg: float) -> Path:
    """A thin box level with ego, its centre at a bearing from the rig origin.

    It drifts slowly into ego's left flank: they touch when its axis is 1.2 m beside ego's.
    """
    x = 1.2 / np.tan(np.deg2rad(bearing_deg))
    return lambda t: (x + t, 1.205 - 0.01 * t, 0.0)


# Ego's box is 4 x 2 m and reaches from x = -1 to x = 3 while its rig origin is at 0.
CASES: dict[str, tuple[Path, Body, str, bool]] = {
    "drives into a standing car": (moving(0, 0, 10), Body(still(15, 0)), "stopped_track", True),
    "drives into a car at exactly 0.05 m/s": (
        moving(0, 0, 10), Body(moving(15, 0, 0.05)), "stopped_track", True,
    ),
    "drives into a car just above 0.05 m/s": (
        moving(0, 0, 10), Body(moving(15, 0, 0.0501)), "active_front", True,
    ),
    "is hit while it stands": (still(0, 0), Body(moving(14, 0, 10, np.pi)), "stopped_ego", False),
    "is hit at exactly 0.05 m/s": (
        moving(0, 0, 0.05), Body(moving(14, 0, 10, np.pi)), "stopped_ego", False,
    ),
    "is hit just above 0.05 m/s": (
        moving(0, 0, 0.0501), Body(moving(14, 0, 10, np.pi)), "active_front", True,
    ),
    "reverses into a standing car: it stands, which comes before that it is behind": (
        lambda t: (-4 * t, 0, 0), Body(still(-6, 0)), "stopped_track", True,
    ),
    "is rear-ended on the move": (moving(0, 0, 5), Body(moving(-12, 0, 15)), "active_rear", False),
    "meets a car head-on": (moving(0, 0, 10), Body(moving(25, 0.5, 5, np.pi)), "active_front", True),
    "touches with its front corner": (
        moving(0, 0, 10), Body(moving(10, 1.99, 1)), "active_front", True,
    ),
    "is hit in its flank": (
        moving(0, 0, 2), Body(drifting(2.5, -8, 0, 8, np.pi / 2), size=SHORT), "active_lateral", False,
    ),
    "is touched in its flank, the centre 149.9 degrees off": (
        moving(0, 0, 1), Body(beside(149.9), size=THIN), "active_lateral", False,
    ),
    "is touched in its flank, the centre 150.1 degrees off": (
        moving(0, 0, 1), Body(beside(150.1), size=THIN), "active_rear", False,
    ),
    "is touched in its flank by one that reaches its front edge": (
        moving(0, 0, 1), Body(beside(50), size=THIN), "active_front", True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_contact_is_classified_by_the_table(case: str) -> None:
    ego, body, kind, fault = CASES[case]
    values = by_name(CollisionFaultMetric(), record(ego, [body], vector_map=WIDE))
    on = [k for k in KINDS if values[f"collision_{k}_nuplan"].value]
    assert on == [kind]
    assert values["collision_at_fault_nuplan"].value == float(fault)


def side_swipe(y: float, vector_map: VectorMap | None) -> float | None:
    """Ego at offset y, hit in its flank by a short car that crosses."""
    body = Body(drifting(2.5, -8 + y, 0, 8, np.pi / 2), size=SHORT)
    made = record(moving(0, y, 2), [body], vector_map=vector_map)
    values = by_name(CollisionFaultMetric(), made)
    assert values["collision_active_lateral_nuplan"].value == 1.0
    return values["collision_at_fault_nuplan"].value


def test_a_lateral_contact_is_at_fault_only_out_of_one_lane() -> None:
    two = VectorMap(lanes=(straight(-2, 2, "right"), straight(2, 6, "left")))
    assert side_swipe(0, two) == 0.0
    assert side_swipe(1.5, two) == 1.0
    assert side_swipe(5.5, two) == 1.0
    assert side_swipe(20, two) == 1.0
    assert side_swipe(0, None) is None


def test_a_lateral_contact_of_unknown_fault_does_not_hide_one_that_is_at_fault() -> None:
    crossing = Body(drifting(2.5, -8, 0, 8, np.pi / 2), size=SHORT)
    ahead = Body(still(8, 0))
    values = by_name(CollisionFaultMetric(), record(moving(0, 0, 4), [crossing, ahead]))
    assert values["collision_at_fault_nuplan"].value == 1.0


def test_each_actor_counts_once_at_its_first_contact() -> None:
    # Rear-ended first; then the same car is ahead of ego and stands in its way.
    def overtakes(t: np.ndarray) -> tuple[object, object, object]:
        x = np.where(t < 1, -8 + 10 * t, np.where(t < 1.5, 30.0, 12.0))
        return x, 0.0, 0.0

    made = record(moving(0, 0, 4), [Body(overtakes, size=SIZE)], duration_s=3, vector_map=WIDE)
    assert by_name(CollisionMetric(), made)["contacts"].value == 2.0
    values = by_name(CollisionFaultMetric(), made)
    assert values["collision_at_fault_nuplan"].value == 0.0
    assert values["collision_active_rear_nuplan"].value == 1.0
    assert values["collision_stopped_track_nuplan"].value == 0.0
    assert len(values["collision_at_fault_nuplan"].details["contacts"]) == 1
