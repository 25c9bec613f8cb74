from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core.motion import EgoMotion
from omniloop.core.record import RolloutRecord
from omniloop.metrics.contacts import contacts
from omniloop.metrics.excursions import excursions
from omniloop.metrics.online import IncidentWatch
from tests.metrics.records import Body, moving, record, road, still
from tests.metrics.test_invariance import random_record


def ego_between(ego: EgoMotion, after_us: int, until_us: int) -> EgoMotion:
    lo, hi = np.searchsorted(ego.times_us, [after_us, until_us], side="right")
    return EgoMotion(ego.times_us[lo:hi], ego.local_to_rig[lo:hi], ego.dynamics[lo:hi])


def play(
    watch: IncidentWatch, made: RolloutRecord, cuts_us: list[int]
) -> list[tuple[int, tuple[str, ...]]]:
    """Give a record to a watch, cut at these times; return when it said what."""
    said = []
    for after, until in itertools.pairwise(cuts_us):
        new = watch.advance(ego_between(made.ego, after, until), made.actors.between(after, until))
        if new:
            said.append((until, new))
    return said


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    step_us=st.sampled_from([33_333, 66_666, 100_000]),
    per_interval=st.integers(1, 5),
)
def test_the_watch_finds_what_the_metrics_find_whatever_the_intervals(
    seed: int, step_us: int, per_interval: int
) -> None:
    made = random_record(seed, step_us=step_us, duration_s=2.03)
    times = made.ego.times_us
    cuts = [int(times[0]) - 1, *times[::per_interval].tolist(), int(times[-1])]
    watch = IncidentWatch(made.scene, made.schedule)
    said = play(watch, made, list(dict.fromkeys(cuts)))
    wanted = {}
    touched = contacts(made, 0.05, 0.3).contacts
    off = excursions(made, 0.3).excursions
    if touched:
        wanted["collision"] = touched[0].start_us
    if off:
        wanted["offroad"] = off[0].start_us
    assert watch.first_us == wanted
    assert sorted(kind for _, kinds in said for kind in kinds) == sorted(wanted)
    for until, kinds in said:
        for kind in kinds:
            # Its grid step ends in this interval.
            handover = made.schedule.handover_us
            step_end = handover - (handover - wanted[kind]) // 100_000 * 100_000
            assert until >= step_end


def from_handover(made: RolloutRecord) -> list[int]:
    schedule = made.schedule
    return [
        *range(schedule.handover_us, made.frontier_us, schedule.decision_period_us),
        made.frontier_us,
    ]


def test_states_may_begin_after_handover_where_the_recording_tells_the_first() -> None:
    made = record(moving(0, 0, 10), [Body(still(15, 0)), Body(still(1, 0), id="leaning")])
    whole, part = (IncidentWatch(made.scene, made.schedule) for _ in range(2))
    start = made.schedule.context_start_us - 1
    play(whole, made, [start, *from_handover(made)])
    play(part, made, from_handover(made))
    assert (
        part.first_us
        == whole.first_us
        == {"collision": contacts(made, 0.05, 0.3).contacts[0].start_us}
    )


def test_each_kind_is_told_once_and_in_the_order_of_time() -> None:
    made = record(
        lambda t: (10 * t, np.interp(t, [0.5, 1.0], [0, 12]), 0.0),
        [Body(still(20, 12))], recorded=moving(0, 0, 10), vector_map=road(),
    )  # fmt: skip
    said = play(IncidentWatch(made.scene, made.schedule), made, from_handover(made))
    assert [kinds for _, kinds in said] == [("offroad",), ("collision",)]
    at_once = play(
        IncidentWatch(made.scene, made.schedule), made,
        [made.schedule.context_start_us - 1, made.frontier_us],
    )  # fmt: skip
    assert [kinds for _, kinds in at_once] == [("offroad", "collision")]


def test_stop_on_answers_with_the_kinds_asked_for_alone() -> None:
    made = record(moving(0, 0, 10), [Body(still(15, 0))], vector_map=road())
    for kinds, wanted in ((["collision", "offroad"], "collision"), (["offroad"], "")):
        look = IncidentWatch(made.scene, made.schedule).stop_on(kinds)
        cuts = from_handover(made)
        answers = {
            look(ego_between(made.ego, a, b), made.actors.between(a, b))
            for a, b in itertools.pairwise(cuts)
        }
        assert answers - {""} == ({wanted} - {""})


@pytest.mark.parametrize("tolerance", [0.3, 2.0])
def test_the_watch_says_what_it_cannot_see_and_takes_the_thresholds_of_the_metrics(
    tolerance: float,
) -> None:
    blind = record(moving(0, 0, 10))
    assert "no drivable surface" in IncidentWatch(blind.scene, blind.schedule).blind["offroad"]
    made = record(
        lambda t: (10 * t, np.interp(t, [0.5, 1.0], [0, 4]), 0.0),
        recorded=moving(0, 0, 10), vector_map=road(),
    )  # fmt: skip
    watch = IncidentWatch(made.scene, made.schedule, offroad_tolerance_m=tolerance)
    assert watch.blind == {}
    play(watch, made, from_handover(made))
    assert ("offroad" in watch.first_us) == bool(excursions(made, tolerance).excursions)


def test_an_overlap_at_handover_stays_ignored_over_intervals_in_which_it_is_not_seen() -> None:
    blinking = Body(still(2, 0), present=lambda t: (t < 0.45) | (t > 0.95))
    made = record(still(0, 0), [blinking])
    watch = IncidentWatch(made.scene, made.schedule)
    assert play(watch, made, from_handover(made)) == []


def test_what_happens_in_warm_up_is_nothing() -> None:
    passing = Body(lambda t: (100 * (t + 0.3), 0.0, 0.0))
    made = record(still(0, 0), [passing])
    watch = IncidentWatch(made.scene, made.schedule)
    assert play(watch, made, [made.schedule.context_start_us - 1, *from_handover(made)]) == []
    assert watch.first_us == {}
