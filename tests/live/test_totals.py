"""What events come to: workers that are lost, sums over rollouts, lag and memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from omniloop.live.events import Progress, RolloutEnded, RunEnded, ServiceLoad, WorkerLoad
from omniloop.live.totals import Totals, percentile
from tests.live.made_run import progress, result_of, started

LOAD = ServiceLoad("policy", "host:1", 10, 4.0, 6.0, 1.0, 2, 4, longest_s=0.7)
TIMES = {
    "rollout_s": 2.0, "wall_s": 2.5, "scoring_s": 0.1, "queued_s": 1.0,
    "services": {"policy.plan": {"calls": 10, "total_s": 1.0, "longest_s": 0.3}},
}  # fmt: skip


def at(elapsed_s: float, **changes: object) -> Progress:
    return replace(progress(elapsed_s=elapsed_s), **{"services": (LOAD,), "slots": 2, **changes})  # type: ignore[arg-type]


def test_nothing_is_known_before_the_start() -> None:
    assert Totals().sitting() is None


def test_rollouts_add_up_and_those_tried_again_count_as_attempts() -> None:
    totals = Totals()
    totals.take(started())
    kept = replace(result_of(), timings=TIMES, decisions=10)
    failed = replace(kept, outcome="infrastructure_failed")
    totals.take(RolloutEnded(kept, 1, "w"))
    totals.take(RolloutEnded(failed, 1, "w", retry_in_s=1.0))
    totals.take(at(4.0))
    totals.take(RunEnded("completed"))
    found = totals.sitting()
    assert found is not None
    assert (found.state, found.rollouts, found.retries) == ("completed", 2, 1)
    assert found.outcomes == {"completed": 1}
    assert (found.slots, found.slots_filled) == (2.0, 0.5)  # 4 s of rollouts in 4 s of 2 places
    plan = found.methods[0]
    assert (plan.service, plan.method, plan.calls, plan.total_s) == ("policy", "plan", 20, 2.0)
    assert found.efficiency.terms_s["rollouts of one place"] == 2.0  # of the one that completed


def test_places_are_those_that_there_were_over_time() -> None:
    totals = Totals()
    totals.take(started())
    totals.take(at(1.0, slots=2))
    totals.take(at(4.0, slots=6))
    assert totals.sitting().slots == pytest.approx((2 * 1 + 6 * 3) / 4)  # type: ignore[union-attr]


def test_what_a_lost_worker_had_done_is_not_lost() -> None:
    totals = Totals()
    totals.take(started())
    two = (WorkerLoad("a", 1, 3.0, 100.0, 2.0, 5.0), WorkerLoad("b", 1, 1.0, 90.0, 1.0, 1.0))
    totals.take(at(1.0, workers=two))
    left = replace(LOAD, calls=4, busy_s=1.0, waiting_s=2.0, longest_s=0.2)
    totals.take(at(2.0, services=(left,), workers=two[1:]))
    totals.take(at(3.0, services=(replace(left, calls=6, busy_s=1.5),), workers=two[1:]))
    found = totals.sitting()
    assert found is not None
    service = found.services[0]
    assert (service.calls, service.busy_s, service.waiting_s) == (12, 4.5, 6.0)
    assert service.longest_s == 0.7
    assert [(w.worker, w.cpu_s, w.memory_mib) for w in found.workers] == [
        ("a", 5.0, 100.0), ("b", 1.0, 90.0),
    ]  # fmt: skip


def test_lag_and_memory_are_the_highest_and_the_runs_own_process_stands_apart() -> None:
    totals = Totals()
    totals.take(replace(started(), executor="local", workers=2))
    workers = (WorkerLoad("a", 1, 3.0, 100.0, 2.0, 5.0), WorkerLoad("b", 1, 1.0, 120.0, 1.0, 1.0))
    totals.take(at(1.0, workers=workers, memory_mib=300.0, lag_ms=3.0))
    totals.take(at(2.0, workers=workers, memory_mib=290.0, lag_ms=70.0))
    found = totals.sitting()
    assert found is not None
    assert (found.memory_mib, found.run_memory_mib, found.worker_memory_mib) == (300.0, 80.0, 120.0)
    assert (found.lag_longest_ms, found.lag_p99_ms) == (70.0, 70.0)


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(k) for k in range(1, 201)]
    assert percentile(values, 0.99) == 198.0
    assert percentile([5.0], 0.99) == 5.0
    assert percentile([], 0.99) == 0.0
