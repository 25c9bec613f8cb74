from __future__ import annotations

import numpy as np
import pytest

from omniloop.core.errors import ConfigError
from omniloop.core.motion import as_times
from omniloop.metrics.collision import CollisionMetric
from omniloop.metrics.contacts import Contact, contacts, find_overlaps
from omniloop.metrics.samples import score_samples
from tests.metrics.records import SIZE, Body, Path, by_name, moving, record, still

HANDOVER_US = 1_500_000


def contacts_of(ego: Path, *bodies: Body, **kwargs: object) -> tuple[Contact, ...]:
    return contacts(record(ego, bodies, **kwargs), 0.05, 0.3).contacts  # type: ignore[arg-type]


def drifting(x: float, y: float, along: float, across: float, yaw: float = 0.0) -> Path:
    return lambda t: (x + along * t, y + across * t, yaw)


SHORT = (2.0, 2.0, 1.5)

# Ego's box is 4 x 2 m and reaches from x = -1 to x = 3 while its rig origin is at 0.
CASES: dict[str, tuple[Path, Body, str]] = {
    "drives into a standing car": (moving(0, 0, 10), Body(still(15, 0)), "front"),
    "head-on": (moving(0, 0, 10), Body(moving(25, 0.5, 5, np.pi)), "front"),
    "T-bone: drives into the side of a crossing car": (
        moving(0, 0, 10), Body(drifting(12, -4, 0, 3, np.pi / 2)), "front",
    ),
    "is hit in the side by a crossing car": (
        moving(0, 0, 2), Body(drifting(2.5, -8, 0, 8, np.pi / 2), size=SHORT), "lateral",
    ),
    "is rear-ended on the move": (moving(0, 0, 5), Body(moving(-12, 0, 15)), "rear"),
    "is rear-ended while it stands": (still(0, 0), Body(moving(-12, 0, 10)), "ego_stopped"),
    "is hit head-on while it stands": (still(0, 0), Body(moving(14, 0, 10, np.pi)), "ego_stopped"),
    "creeps so slowly that it counts as standing": (
        moving(0, 0, 0.0499), Body(moving(14, 0, 10, np.pi)), "ego_stopped",
    ),
    "creeps a little faster": (moving(0, 0, 0.0501), Body(moving(14, 0, 10, np.pi)), "front"),
    "a shorter car beside it drifts into its flank": (
        moving(0, 0, 10), Body(drifting(1, 3, 10, -1), size=SHORT), "lateral",
    ),
    "a car of its own length, level with it, drifts into its flank": (
        moving(0, 0, 10), Body(drifting(1, 3, 10, -1)), "front",
    ),
    "a long lorry beside it touches front and rear edges at once": (
        moving(0, 0, 10), Body(drifting(1, 3.2, 10, -1), size=(12.0, 2.0, 3.5)), "front",
    ),
    "scrapes along a slower car, 1 cm deep": (moving(0, 0, 10), Body(moving(8, 1.99, 5)), "front"),
    "a faster car scrapes along it, 1 cm deep": (moving(0, 0, 5), Body(moving(-8, 1.99, 10)), "rear"),
    "clips a corner with its front corner, 1 cm deep": (
        moving(0, 0, 10), Body(still(14, 1.99)), "front",
    ),
    "reverses into a standing car": (
        lambda t: (-4 * t, 0, 0), Body(still(-6, 0)), "rear",
    ),
    "runs into a pedestrian": (
        moving(0, 0, 8), Body(drifting(12, -2, 0, 1.4), size=(0.6, 0.6, 1.8), z=0.9), "front",
    ),
    "turns its tail into a car beside it": (
        lambda t: (0.2 * t, 0, -0.4 * t), Body(still(-1.0, 2.1), size=(1.0, 2.0, 1.5)), "rear",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_contact_is_classified_at_its_first_sample(case: str) -> None:
    ego, body, kind = CASES[case]
    found = contacts_of(ego, body)
    assert [c.kind for c in found] == [kind]
    assert found[0].at_fault == (kind in ("front", "lateral"))


def test_ego_stands_at_exactly_the_threshold_too() -> None:
    made = record(still(0, 0), [Body(moving(14, 0, 10, np.pi))])
    assert contacts(made, 0.0, 0.3).contacts[0].kind == "ego_stopped"


NO_CONTACT = {
    "passes a parallel car at 1 cm": (moving(0, 0, 10), Body(moving(8, 2.01, 5))),
    "passes with its edge on the other's": (moving(0, 0, 10), Body(moving(8, 2.0, 5))),
    "stops with its corner on another's": (
        lambda t: (np.minimum(10 * t, 10), 0, 0), Body(still(15, 2)),
    ),
    "stops with its bumper on another's": (
        lambda t: (np.minimum(10 * t, 10), 0, 0), Body(still(15, 0)),
    ),
    "passes below a bridge": (moving(0, 0, 10), Body(moving(20, 0, 0), z=6.0)),
    "an absent actor is nowhere": (
        moving(0, 0, 10), Body(still(10, 0), present=lambda t: np.zeros(len(t), dtype=bool)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_CONTACT)
def test_what_does_not_overlap_is_no_contact(case: str) -> None:
    ego, body = NO_CONTACT[case]
    values = by_name(CollisionMetric(), record(ego, [body]))
    assert {v.value for v in values.values()} == {0.0}


@pytest.mark.parametrize(("gap", "hit"), [(0.29, 1.0), (0.31, 0.0)])
def test_boxes_meet_vertically_up_to_the_tolerance(gap: float, hit: float) -> None:
    above = Body(still(10, 0), z=1.5 + gap + SIZE[2] / 2)
    made = record(moving(0, 0, 10), [above])
    assert by_name(CollisionMetric(), made)["collision"].value == hit
    assert by_name(CollisionMetric(vertical_tolerance_m=1.0), made)["collision"].value == 1.0


def test_every_contact_of_every_actor_is_kept_and_classified_on_its_own() -> None:
    hit, beside, behind = (
        Body(still(15, 0), id="ahead"),
        Body(drifting(1, 3, 10, -1), size=SHORT, id="beside"),
        Body(moving(-10, 0, 16), id="behind"),
    )
    made = record(moving(0, 0, 10), [behind, hit, beside])
    values = by_name(CollisionMetric(), made)
    facts = values["collision"].details["contacts"]
    assert isinstance(facts, list)
    assert {f["actor_id"]: f["kind"] for f in facts} == {
        "ahead": "front", "beside": "lateral", "behind": "rear",
    }  # fmt: skip
    assert [f["start_us"] for f in facts] == sorted(f["start_us"] for f in facts)
    assert [facts[0]["actor_class"], facts[0]["at_fault"]] == ["CAR", True]
    assert {n: v.value for n, v in values.items()} == {
        "collision": 1.0, "collision_front": 1.0, "collision_rear": 1.0, "collision_lateral": 1.0,
        "collision_ego_stopped": 0.0, "collision_at_fault": 1.0, "contacts": 3.0,
    }  # fmt: skip


def test_a_rear_hit_alone_is_a_collision_that_is_not_at_fault() -> None:
    values = by_name(CollisionMetric(), record(moving(0, 0, 5), [Body(moving(-12, 0, 15))]))
    assert values["collision"].value == 1.0
    assert values["collision_at_fault"].value == 0.0


def test_a_pair_that_parts_and_meets_again_makes_two_contacts() -> None:
    def swinging(t: np.ndarray) -> tuple[object, object, object]:
        return 1.0, 2.5 + np.cos(2 * np.pi * t), 0.0

    found = contacts_of(still(0, 0), Body(swinging), duration_s=2.0)
    # 2.5 + cos(2 pi t) < 2 for 1/3 < t < 2/3 and again one second later.
    first, second = ((c.start_us - HANDOVER_US, c.end_us - HANDOVER_US) for c in found)
    assert first[0] == pytest.approx(333_000, abs=25_000)
    assert first[1] == pytest.approx(667_000, abs=25_000)
    assert [t - 1_000_000 for t in second] == list(first)
    assert found[0].depth_m == pytest.approx(0.5, abs=0.01)


def test_an_actor_that_is_not_seen_for_a_while_has_not_parted() -> None:
    blinking = Body(still(2, 0), present=lambda t: (t > 0.25) & ((t < 0.75) | (t > 1.25)))
    found = contacts_of(still(0, 0), blinking)
    assert [(c.start_us - HANDOVER_US, c.end_us - HANDOVER_US) for c in found] == [
        (300_000, 2_000_000)
    ]


def test_speeds_of_a_contact_are_those_of_ego_and_actor_at_its_start() -> None:
    (contact,) = contacts_of(moving(0, 0, 10), Body(moving(25, 0, 5, np.pi)))
    assert contact.ego_speed_mps == pytest.approx(10)
    assert contact.actor_speed_mps == pytest.approx(5)
    assert contact.relative_speed_mps == pytest.approx(15)


def test_the_speed_of_an_actor_is_that_over_the_grid_step_of_the_contact() -> None:
    # It stands 7 m ahead of ego's bumper until 0.5 s and then comes at 130 m/s.
    bolting = Body(lambda t: (12 - 130 * np.maximum(t - 0.5, 0), 0.0, 0.0))
    (contact,) = contacts_of(moving(0, 0, 0.1), bolting)
    assert 500_000 < contact.start_us - HANDOVER_US < 600_000
    assert contact.actor_speed_mps == pytest.approx(130)


def test_the_speed_of_an_actor_that_appears_in_contact_is_that_of_the_step_that_follows() -> None:
    dropping_in = Body(moving(-4, 0, 6), present=lambda t: t > 0.95)
    (contact,) = contacts_of(moving(0, 0, 1), dropping_in)
    assert contact.start_us == HANDOVER_US + 1_000_000
    assert contact.actor_speed_mps == pytest.approx(6)


def test_the_speed_of_an_actor_that_is_seen_once_is_not_known() -> None:
    once = Body(still(2, 0), present=lambda t: np.abs(t - 0.5) < 0.01)
    (contact,) = contacts_of(moving(0, 0, 1), once)
    assert contact.start_us == contact.end_us == HANDOVER_US + 500_000
    assert contact.actor_speed_mps is None
    assert contact.relative_speed_mps is None


def test_a_contact_between_two_score_samples_is_found() -> None:
    # It crosses ego's 2 m in 83 ms, from 0.508 s to 0.592 s after handover.
    fast = Body(lambda t: (1.0, 1.25 - 30 * (t - 0.508), 0.0), size=(0.5, 0.5, 1.5))
    made = record(moving(0, 0, 1), [fast])
    (contact,) = contacts(made, 0.05, 0.3).contacts
    assert (contact.start_us - HANDOVER_US, contact.end_us - HANDOVER_US) == (520_000, 580_000)
    assert contact.kind == "lateral"
    samples = score_samples(made)
    assert samples is not None
    near_grid = find_overlaps(
        made.ego, made.actors, made.scene.vehicle, made.scene.actor_sizes_m, samples.times_us
    )
    assert not near_grid.overlapping[:, ::5].any()


def test_pairs_that_are_far_apart_are_looked_at_on_the_score_grid_alone() -> None:
    made = record(still(0, 0), [Body(still(20, 0)), Body(still(8, 0))])
    grid_us = as_times(HANDOVER_US + 100_000 * np.arange(3))
    seen = find_overlaps(
        made.ego, made.actors, made.scene.vehicle, made.scene.actor_sizes_m, grid_us
    ).seen
    assert np.flatnonzero(seen[0]).tolist() == [0, 5, 10]
    assert seen[1].all()


def test_an_overlap_at_handover_is_listed_and_ignored_until_it_parts() -> None:
    def away_and_back(t: np.ndarray) -> tuple[object, object, object]:
        return 1.0, np.interp(t, [0, 0.5, 1.0, 1.5], [1.0, 1.0, 3.0, 1.0]), 0.0

    made = record(
        moving(0, 0, 0.2), [Body(away_and_back, id="leaning"), Body(still(2, 0), id="stuck")]
    )
    found = contacts(made, 0.05, 0.3)
    assert [c.actor_id for c in found.contacts] == ["leaning"]
    # It leaves 2 m at 0.75 s and is back within them at 1.25 s.
    assert found.contacts[0].start_us - HANDOVER_US == pytest.approx(1_250_000, abs=20_001)
    parted = {o.actor_id: o.parted_us for o in found.ignored}
    assert parted["stuck"] is None
    assert parted["leaning"] == HANDOVER_US + 760_000
    details = by_name(CollisionMetric(), made)["collision"].details
    assert len(details["ignored_since_handover"]) == 2  # type: ignore[arg-type]


def test_an_overlap_at_handover_that_is_not_seen_for_a_while_stays_ignored() -> None:
    blinking = Body(still(2, 0), present=lambda t: (t < 0.45) | (t > 0.95))
    found = contacts(record(still(0, 0), [blinking]), 0.05, 0.3)
    assert found.contacts == ()
    assert [o.parted_us for o in found.ignored] == [None]


def test_an_overlap_in_warm_up_that_has_parted_by_handover_is_nothing() -> None:
    leaving = Body(lambda t: (1.0, np.where(t < -0.05, 0.0, 5.0), 0.0))
    found = contacts(record(still(0, 0), [leaving]), 0.05, 0.3)
    assert found.contacts == ()
    assert found.ignored == ()


@pytest.mark.parametrize("driven_s", [-0.3, 0.0, 0.05])
def test_without_two_score_samples_nothing_is_defined(driven_s: float) -> None:
    made = record(moving(0, 0, 10), [Body(still(2, 0))], driven_s=driven_s)
    for value in CollisionMetric().compute(made):
        assert value.value is None
        assert "handover" in value.reason


def test_a_rollout_without_actors_has_no_collision() -> None:
    values = by_name(CollisionMetric(), record(moving(0, 0, 10)))
    assert {v.value for v in values.values()} == {0.0}


@pytest.mark.parametrize("bad", [-1.0, float("nan"), "fast", True])
def test_a_threshold_that_makes_no_sense_is_refused(bad: object) -> None:
    with pytest.raises(ConfigError, match=r"metrics\.collision\.stopped_mps"):
        CollisionMetric(stopped_mps=bad)  # type: ignore[arg-type]
