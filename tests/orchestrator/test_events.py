from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.orchestrator.events import EventQueue, Phase

keys = st.tuples(st.integers(0, 50), st.sampled_from(list(Phase)))


@given(st.lists(keys, max_size=60))
def test_events_come_out_by_time_then_phase_then_insertion(pushed):
    queue = EventQueue()
    for number, (time_us, phase) in enumerate(pushed):
        queue.push(time_us, phase, number)
    popped = [queue.pop() for _ in pushed]
    expected = sorted(range(len(pushed)), key=lambda i: (pushed[i][0], pushed[i][1], i))
    assert [event.payload for event in popped] == expected


@given(st.lists(keys, min_size=1, max_size=30), keys)
def test_time_never_goes_back(pushed, late):
    queue = EventQueue()
    for time_us, phase in pushed:
        queue.push(time_us, phase)
    last = queue.pop()
    if late < (last.time_us, last.phase):
        with pytest.raises(ValueError, match="which has happened"):
            queue.push(*late)
    else:
        queue.push(*late)
        assert queue.pop().time_us >= last.time_us


def test_phases_run_in_the_specified_order():
    queue = EventQueue()
    for phase in reversed(Phase):
        queue.push(7, phase)
    assert [queue.pop().phase.name for _ in Phase] == [
        "FRAME", "POLICY", "END", "VEHICLE", "EGO_GROUND", "TRAFFIC", "ACTOR_GROUND", "COMMIT", "RENDER",
    ]  # fmt: skip


def test_an_empty_queue_says_so():
    with pytest.raises(IndexError):
        EventQueue().pop()
