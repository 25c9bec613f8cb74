from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from omniloop.core.batching import padded
from omniloop.core.contracts import PolicySpec
from omniloop.core.errors import PluginError
from omniloop.core.local import as_service


class Doubler:
    """Answers twice what it is asked; notes who shared a batch."""

    spec = PolicySpec()
    batch_size = 4
    batch_wait_ms = 40.0

    def __init__(self):
        self.batches = []
        self.threads = set()

    def plan_batch(self, observations):
        self.batches.append(list(observations))
        self.threads.add(threading.get_ident())
        return [ValueError("no") if o < 0 else 2 * o for o in observations]


class Counting(Doubler):
    """Has sessions that count their own plans."""

    def open(self, session, cameras):
        return {"name": session, "plans": 0}

    def plan_batch(self, observations, sessions):
        for session in sessions:
            session["plans"] += 1
        return [(s["name"], s["plans"], o) for o, s in zip(observations, sessions, strict=True)]


async def together(policy, requests):
    service = as_service("policy", policy)
    sessions = [await service.open(f"s{k}", ()) for k in range(len(requests))]
    asked = (s.plan(o) for s, o in zip(sessions, requests, strict=True))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    for session in sessions:
        await session.close()
    return answers


def test_concurrent_requests_share_a_batch_up_to_its_size():
    policy = Doubler()
    assert asyncio.run(together(policy, [1, 2, 3, 4, 5, 6])) == [2, 4, 6, 8, 10, 12]
    assert policy.batches == [[1, 2, 3, 4], [5, 6]]


def never_wait_out(monkeypatch, seconds):
    """In the running loop, a timer of so many seconds does not fire."""
    loop = asyncio.get_running_loop()
    later = loop.call_later

    def call_later(delay, *arguments, **keywords):
        return later(1e6 if delay == seconds else delay, *arguments, **keywords)

    monkeypatch.setattr(loop, "call_later", call_later)


def test_nobody_waits_when_no_other_session_is_open(monkeypatch):
    policy = Doubler()
    policy.batch_wait_ms = 10_000.0

    async def use():
        never_wait_out(monkeypatch, 10.0)
        session = await as_service("policy", policy).open("a", ())
        return [await session.plan(k) for k in range(3)]

    assert asyncio.run(asyncio.wait_for(use(), 60)) == [0, 2, 4]


def test_the_end_of_the_last_other_session_starts_the_batch(monkeypatch):
    policy = Doubler()
    policy.batch_wait_ms = 10_000.0

    async def use():
        never_wait_out(monkeypatch, 10.0)
        service = as_service("policy", policy)
        first, second = await service.open("a", ()), await service.open("b", ())
        asked = asyncio.create_task(first.plan(7))
        await asyncio.sleep(0)
        await second.close()
        return await asyncio.wait_for(asked, 60)

    assert asyncio.run(use()) == 14


def test_the_wait_ends_though_a_session_stays_silent():
    policy = Doubler()

    async def use():
        service = as_service("policy", policy)
        first, _ = await service.open("a", ()), await service.open("b", ())
        return await asyncio.wait_for(first.plan(7), 60)

    assert asyncio.run(use()) == 14


def test_batches_run_in_one_thread_beside_the_event_loop():
    policy = Doubler()
    asyncio.run(together(policy, list(range(9))))
    assert len(policy.threads) == 1
    assert threading.get_ident() not in policy.threads


def test_an_exception_in_place_of_a_plan_fails_that_request_alone():
    answers = asyncio.run(together(Doubler(), [1, -1, 3]))
    assert answers[::2] == [2, 6]
    assert isinstance(answers[1], ValueError)


def test_a_batch_that_raises_fails_all_of_it_and_the_next_goes_on():
    class Fragile(Doubler):
        def plan_batch(self, observations):
            if 0 in observations:
                raise RuntimeError("zero")
            return super().plan_batch(observations)

    answers = asyncio.run(together(Fragile(), [0, 1, 2, 3, 4]))
    assert [type(a) for a in answers[:4]] == [RuntimeError] * 4
    assert answers[4] == 8


@pytest.mark.parametrize("answer", [[1], None, 3])
def test_another_number_of_plans_is_refused(answer):
    class Short(Doubler):
        def plan_batch(self, observations):
            return answer

    for error in asyncio.run(together(Short(), [1, 2])):
        assert isinstance(error, PluginError)
        assert "for 2 observations" in str(error)


def test_sessions_come_with_their_observations():
    answers = asyncio.run(together(Counting(), ["x", "y"]))
    assert answers == [("s0", 1, "x"), ("s1", 1, "y")]


def test_who_is_cancelled_is_not_planned_for():
    begun, told = threading.Event(), threading.Event()

    class Slow(Doubler):
        def plan_batch(self, observations):
            begun.set()
            assert told.wait(120)
            return super().plan_batch(observations)

    policy = Slow()

    async def use():
        service = as_service("policy", policy)
        sessions = [await service.open(k, ()) for k in range(6)]
        tasks = [asyncio.create_task(s.plan(k)) for k, s in enumerate(sessions)]
        assert await asyncio.to_thread(begun.wait, 120)  # four are being planned, two wait
        tasks[4].cancel()
        await asyncio.sleep(0)
        told.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(use())
    assert policy.batches == [[0, 1, 2, 3], [5]]
    assert isinstance(answers[4], asyncio.CancelledError)
    assert answers[5] == 10


def test_a_batcher_serves_one_event_loop_after_another():
    policy = Doubler()
    service = as_service("policy", policy)

    async def use(request):
        session = await service.open("a", ())
        answer = await session.plan(request)
        await session.close()
        return answer

    assert [asyncio.run(use(k)) for k in (1, 2)] == [2, 4]


@pytest.mark.parametrize(("size", "wait_ms"), [(0, 5.0), (2.5, 5.0), (4, -1.0), (4, 1e9)])
def test_settings_that_make_no_sense_are_refused(size, wait_ms):
    policy = Doubler()
    policy.batch_size, policy.batch_wait_ms = size, wait_ms
    with pytest.raises(PluginError, match="batch_size"):
        as_service("policy", policy)


def test_padding_repeats_the_first_row_and_refuses_too_many():
    rows = [np.array([1.0, 2.0]), np.array([3.0, 4.0])]
    np.testing.assert_array_equal(padded(rows, 3), [[1, 2], [3, 4], [1, 2]])
    for wrong in ([], rows * 2):
        with pytest.raises(ValueError, match="batch of 3"):
            padded(wrong, 3)
