from __future__ import annotations

import itertools

import numpy as np
import pytest

from omniloop.core.scene import ActorClass, VectorMap
from omniloop.metrics.contacts import STOPPED_MPS, VERTICAL_TOLERANCE_M, contacts
from omniloop.metrics.nuplan_collisions import NAME, NuplanCollisionsMetric, score_of
from omniloop.metrics.nuplan_faults import (
    ACTIVE_FRONT,
    ACTIVE_LATERAL,
    ACTIVE_REAR,
    KINDS,
    OBJECT,
    STOPPED_EGO,
    STOPPED_TRACK,
    VEHICLE,
    VRU,
    collisions,
    delta_v_mps,
    kinds,
)
from tests.metrics.nuplan_records import TWO_LANES, straight, with_class
from tests.metrics.records import Body, Path, by_name, moving, record, still

SMALL = (2.0, 1.0, 1.5)


def drifting(y: float) -> Path:
    """Beside ego at its speed of 5 m/s, and to the right by 2 m/s."""
    return lambda t: (1 + 5 * t, y - 2 * t, 0.0)


def along(y: float) -> Path:
    return lambda t: (5 * t, y, 0.0)


# Ego's box reaches from 1 m behind its rear axle to 3 m ahead, actors' 2 m either way.
CASES: dict[str, tuple[Path, Body, str, bool]] = {
    "ego stands and is hit": (still(0, 0), Body(moving(-8, 0, 10)), STOPPED_EGO, False),
    "both creep: ego's speed is asked first": (
        moving(0, 0, 0.04), Body(still(5.05, 0)), STOPPED_EGO, False,
    ),
    "ego creeps a little faster": (moving(0, 0, 0.06), Body(still(5.05, 0)), STOPPED_TRACK, True),
    "into a standing car": (moving(0, 0, 5), Body(still(9, 0)), STOPPED_TRACK, True),
    "backwards into a standing car: standing is asked before behind": (
        lambda t: (-5 * t, 0, 0), Body(still(-8, 0)), STOPPED_TRACK, True,
    ),
    "from behind": (moving(0, 0, 5), Body(moving(-8, 0, 10)), ACTIVE_REAR, False),
    "from behind, centre 150.3 degrees aside": (
        moving(0, 0, 5), Body(moving(-3.2, 1.7, 6)), ACTIVE_REAR, False,
    ),
    "from behind, centre 148.9 degrees aside": (
        moving(0, 0, 5), Body(moving(-3.2, 1.8, 6)), ACTIVE_LATERAL, False,
    ),
    "into a slower car": (moving(0, 0, 10), Body(moving(9, 0, 5)), ACTIVE_FRONT, True),
    "a crossing car meets the front edge": (
        moving(0, 0, 0.1), Body(moving(3.5, 8, 5, -np.pi / 2)), ACTIVE_FRONT, True,
    ),
    "a neighbour drifts into ego in its lane": (
        along(0), Body(drifting(4), SMALL), ACTIVE_LATERAL, False,
    ),
    "a neighbour drifts into ego between two lanes": (
        along(2), Body(drifting(6), SMALL), ACTIVE_LATERAL, True,
    ),
    "a neighbour drifts into ego half off the road": (
        along(-1.5), Body(drifting(2.5), SMALL), ACTIVE_LATERAL, True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_kind_and_fault_of_two_boxes(case: str) -> None:
    ego, body, kind, at_fault = CASES[case]
    made = record(ego, [body], vector_map=TWO_LANES)
    value = by_name(NuplanCollisionsMetric(), made)[NAME]
    (one,) = value.details["collisions"]  # type: ignore[misc]
    assert (one["kind"], one["at_fault"]) == (kind, at_fault)
    assert value.value == (0.0 if at_fault else 1.0)


def test_the_first_test_that_holds_names_a_contact() -> None:
    for stands, stopped, behind, front in itertools.product((True, False), repeat=4):
        found = kinds(
            np.array([0.05 if stands else 0.051]),
            np.array([stopped]), np.array([behind]), np.array([front]),
        )  # fmt: skip
        tests = [stands, stopped, behind, front, True]
        assert found.tolist() == [KINDS[tests.index(True)]]


@pytest.mark.parametrize(
    ("step_m", "speed_mps", "kind"),
    [((0.003, 0.004), 0.05, STOPPED_TRACK), ((0.003, 0.00401), 0.05008, ACTIVE_FRONT)],
)
def test_an_actor_at_exactly_0_05_mps_stands(
    step_m: tuple[float, float], speed_mps: float, kind: str
) -> None:
    """It moves aside by 5 mm in the 0.1 s in which ego meets it: 3, 4, 5, bit for bit."""
    aside: Path = lambda t: (*np.where(t > 0.55, np.array(step_m)[:, None], 0.0), 0.0)  # noqa: E731
    made = record(moving(-10.5, 0, 10), [Body(aside)], vector_map=TWO_LANES)
    (one,) = collisions(made)
    assert one.actor_speed_mps == pytest.approx(speed_mps, rel=1e-4)
    assert (one.actor_speed_mps == 0.05) == (kind == STOPPED_TRACK)
    assert one.kind == kind


def test_an_actor_that_the_recording_never_moves_stands_whatever_its_boxes_do() -> None:
    made = record(moving(0, 0, 5), [Body(moving(-8, 0, 10))], vector_map=TWO_LANES)
    assert collisions(made)[0].kind == ACTIVE_REAR
    (one,) = collisions(with_class(made, ActorClass.CAR, is_static=True))
    assert (one.kind, one.group, one.at_fault(None)) == (STOPPED_TRACK, VEHICLE, True)


def test_a_lateral_contact_between_a_lane_and_its_successor_is_not_at_fault() -> None:
    lanes = (straight("a", 0, -100, 4.6, successors=("b",)), straight("b", 0, 4.6, 200))
    made = record(along(0), [Body(drifting(3), SMALL)], vector_map=VectorMap(lanes=lanes))
    assert collisions(made)[0].kind == ACTIVE_LATERAL
    assert by_name(NuplanCollisionsMetric(), made)[NAME].value == 1.0
    apart = VectorMap(lanes=(straight("a", 0, -100, 4.6), straight("b", 0, 4.6, 200)))
    made = record(along(0), [Body(drifting(3), SMALL)], vector_map=apart)
    assert by_name(NuplanCollisionsMetric(), made)[NAME].value == 0.0


def test_an_actor_counts_once() -> None:
    again: Path = lambda t: (9 + 5 * t + 4.5 * np.sin(3 * t), 0, 0)  # noqa: E731
    made = record(moving(0, 0, 5), [Body(again)], vector_map=TWO_LANES, duration_s=6)
    made = with_class(made, ActorClass.OTHER)
    assert len(contacts(made, STOPPED_MPS, VERTICAL_TOLERANCE_M).contacts) > 1
    assert len(collisions(made)) == 1
    assert by_name(NuplanCollisionsMetric(), made)[NAME].value == 0.5


@pytest.mark.parametrize(
    ("actor_class", "hits", "expected"),
    [
        (ActorClass.CAR, 1, 0.0), (ActorClass.TRUCK, 1, 0.0), (ActorClass.PEDESTRIAN, 1, 0.0),
        (ActorClass.CYCLIST, 1, 0.0), (ActorClass.OTHER, 1, 0.5), (ActorClass.OTHER, 2, 0.0),
    ],
)  # fmt: skip
def test_objects_may_be_hit_once(actor_class: ActorClass, hits: int, expected: float) -> None:
    bodies = [Body(still(8 + 3 * i, 0), SMALL) for i in range(hits)]
    made = with_class(record(moving(0, 0, 8), bodies, vector_map=TWO_LANES), actor_class)
    assert by_name(NuplanCollisionsMetric(), made)[NAME].value == expected


def test_objects_stand_whatever_their_boxes_do() -> None:
    made = record(moving(0, 0, 5), [Body(moving(-8, 0, 10))], vector_map=TWO_LANES)
    made = with_class(made, ActorClass.OTHER)
    (one,) = collisions(made)
    assert (one.kind, one.actor_speed_mps, one.delta_v_mps) == (STOPPED_TRACK, 0.0, 2.5)


def test_the_score_is_a_product_over_groups() -> None:
    assert score_of([]) == 1.0
    assert score_of([OBJECT]) == 0.5
    assert score_of([OBJECT] * 3) == 0.0
    assert score_of([OBJECT, VRU]) == 0.0
    assert score_of([VEHICLE]) == 0.0


def test_the_energy_of_an_impact() -> None:
    """Masses are equal: half of the difference of the velocities."""
    assert delta_v_mps(10.0, 4.0, 0.0) == pytest.approx(3.0)
    assert delta_v_mps(10.0, 4.0, np.pi) == pytest.approx(7.0)
    assert delta_v_mps(3.0, 4.0, np.pi / 2) == pytest.approx(2.5)
    made = record(moving(0, 0, 10), [Body(moving(9, 0, 4))], vector_map=TWO_LANES)
    assert collisions(made)[0].delta_v_mps == pytest.approx(3.0)


def test_without_lanes_a_lateral_contact_leaves_the_score_undefined_if_it_decides() -> None:
    side = Body(drifting(4), SMALL)
    value = by_name(NuplanCollisionsMetric(), record(along(0), [side]))[NAME]
    assert value.value is None
    assert "the map has no lanes" in value.reason
    ahead = Body(still(11, 0))
    assert by_name(NuplanCollisionsMetric(), record(along(0), [side, ahead]))[NAME].value == 0.0
    assert by_name(NuplanCollisionsMetric(), record(along(0)))[NAME].value == 1.0


def test_an_overlap_since_handover_does_not_count() -> None:
    made = record(moving(0, 0, 5), [Body(moving(1, 0, 5))], vector_map=TWO_LANES)
    assert by_name(NuplanCollisionsMetric(), made)[NAME].value == 1.0


def test_nothing_driven_is_undefined() -> None:
    made = record(still(0, 0), driven_s=0.0)
    assert by_name(NuplanCollisionsMetric(), made)[NAME].value is None
