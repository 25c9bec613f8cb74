from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from omniloop.core.errors import ConfigError
from omniloop.runner.batch.breaker import Backoff, Breaker
from omniloop.runner.batch.scheduler import Address, Assignment, Scheduler, Task

RENDERERS = {"r0": 1, "r1": 2, "r2": None}
POLICIES = {"p0": 2, "p1": 3}
SERVICES = {
    "all": {"renderer": ("r0", "r1", "r2"), "policy": ("p0", "p1")},
    "few": {"renderer": ("r0",), "policy": ("p0",)},
    "own": {"policy": ("p1",)},
    "none": {},
}
WEIGHTS = {"all": 1.0, "few": 2.0, "own": 0.5, "none": 1.0}
LIMITS = {"all": None, "few": None, "own": 2, "none": None}


def scheduler(addresses=(), workers=(("w0", 8),), services=None, **options):
    made = Scheduler(addresses, **options)
    for name, limit in workers:
        made.add_worker(name, limit)
    made.add_request("run", services)
    return made


def tasks(scenes, seeds, request="run"):
    return [Task(request, scene, seed) for scene in scenes for seed in range(seeds)]


def begin_all(made, now_s=0.0):
    begun = []
    while (assignment := made.next(now_s)) is not None:
        begun.append(assignment)
    return begun


class Anything(RuleBasedStateMachine):
    """Calls in any order, beside an account of what every task and slot must be."""

    def __init__(self):
        super().__init__()
        self.made = Scheduler(
            [
                *(Address("renderer", name, limit) for name, limit in RENDERERS.items()),
                *(Address("policy", name, limit) for name, limit in POLICIES.items()),
            ],
            attempts=2,
            scenes_kept=2,
        )  # fmt: skip
        for name, services in SERVICES.items():
            self.made.add_request(name, services, WEIGHTS[name], LIMITS[name])
        self.now_s = 0.0
        self.workers: dict[str, tuple[int, int]] = {}
        self.leaving: set[str] = set()
        self.ready: set[Task] = set()
        self.waiting: dict[Task, float] = {}
        self.simulating: list[Assignment] = []
        self.finishing: list[Assignment] = []
        self.over: list[Task] = []
        self.submitted = 0
        self.concurrency: int | None = None
        self.paused = False

    # --- what could begin, from the account alone but for which addresses are avoided

    def used(self, service, address):
        return sum(a.addresses.get(service) == address for a in self.simulating)

    def worker_has_room(self, name):
        limit, finishing = self.workers[name]
        simulating = sum(a.worker == name for a in self.simulating)
        ending = sum(a.worker == name for a in self.finishing)
        room = simulating < limit and simulating + ending < limit + finishing
        return name not in self.leaving and room and ending <= finishing

    def in_flight(self, request):
        return sum(a.task.request == request for a in self.simulating)

    def can_begin(self, request):
        avoided = {
            (s.service, s.address)
            for s in self.made.addresses()
            if s.state == "half_open" or (s.until_s is not None and s.until_s > self.now_s)
        }
        limits = {"renderer": RENDERERS, "policy": POLICIES}
        limit = LIMITS[request]
        return (
            any(task.request == request for task in self.ready)
            and (limit is None or self.in_flight(request) < limit)
            and (self.concurrency is None or len(self.simulating) < self.concurrency)
            and not self.paused
            and any(self.worker_has_room(name) for name in self.workers)
            and all(
                any(
                    (limits[kind][a] is None or self.used(kind, a) < limits[kind][a])
                    and (kind, a) not in avoided
                    for a in addresses
                )
                for kind, addresses in SERVICES[request].items()
            )
        )

    def wake(self):
        due = [task for task, until_s in self.waiting.items() if until_s <= self.now_s]
        for task in due:
            del self.waiting[task]
            self.ready.add(task)

    # --- calls

    @rule(
        request=st.sampled_from(sorted(SERVICES)),
        scene=st.sampled_from("abcdef"),
        count=st.integers(1, 4),
    )
    def submit(self, request, scene, count):
        new = [Task(request, scene, 100 * self.submitted + k) for k in range(count)]
        self.made.submit(new)
        self.submitted += count
        self.ready.update(new)

    @rule(limit=st.integers(1, 3), finishing=st.integers(0, 2))
    def add_worker(self, limit, finishing):
        name = f"w{len(self.workers)}-{len(self.leaving)}-{limit}"
        if name not in self.workers:
            self.made.add_worker(name, limit, finishing)
            self.workers[name] = (limit, finishing)

    @rule()
    def begin(self):
        self.wake()
        could = [r for r in SERVICES if self.can_begin(r)]
        assignment = self.made.next(self.now_s)
        if assignment is None:
            assert not could  # work-conserving
            return
        task = assignment.task
        assert task.request in could
        least = min(self.in_flight(r) / WEIGHTS[r] for r in could)
        assert self.in_flight(task.request) / WEIGHTS[task.request] == least
        assert set(assignment.addresses) == set(SERVICES[task.request])
        assert self.worker_has_room(assignment.worker)
        self.ready.remove(task)  # not twice
        self.simulating.append(assignment)

    @rule()
    def begin_as_many_as_can(self):
        while True:
            before = len(self.simulating)
            self.begin()
            if len(self.simulating) == before:
                return

    @precondition(lambda self: self.simulating)
    @rule(data=st.data())
    def simulated(self, data):
        assignment = data.draw(st.sampled_from(self.simulating))
        self.made.simulated(assignment, self.now_s)
        self.simulating.remove(assignment)
        self.finishing.append(assignment)

    @precondition(lambda self: self.simulating or self.finishing)
    @rule(data=st.data(), answered=st.booleans())
    def ended(self, data, answered):
        assignment = data.draw(st.sampled_from(self.simulating + self.finishing))
        self.forget(assignment)
        self.made.ended(assignment, self.now_s)
        assert not self.made.holds(assignment)
        self.over.append(assignment.task)
        if answered:
            for service, address in assignment.addresses.items():
                self.made.answered(service, address)

    @precondition(lambda self: self.simulating or self.finishing)
    @rule(data=st.data(), blame=st.sampled_from(["renderer", "policy"]))
    def failed(self, data, blame):
        assignment = data.draw(st.sampled_from(self.simulating + self.finishing))
        self.forget(assignment)
        if blame in assignment.addresses:
            self.made.failed(blame, assignment.addresses[blame], self.now_s)
        self.again(assignment)

    @precondition(lambda self: set(self.workers) - self.leaving)
    @rule(data=st.data())
    def lost(self, data):
        name = data.draw(st.sampled_from(sorted(set(self.workers) - self.leaving)))
        had = self.made.lost(name)
        assert {a.number for a in had} == {
            a.number for a in self.simulating + self.finishing if a.worker == name
        }
        self.leaving.add(name)
        for assignment in had:
            self.forget(assignment)
            self.again(assignment)

    @precondition(lambda self: len(set(self.workers) - self.leaving) > 1)
    @rule(data=st.data())
    def remove_worker(self, data):
        name = data.draw(st.sampled_from(sorted(set(self.workers) - self.leaving)))
        self.made.remove_worker(name)
        self.leaving.add(name)

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 7.0, 300.0]))
    def time_passes(self, seconds):
        self.now_s += seconds

    @rule(rollouts=st.one_of(st.none(), st.integers(1, 5)))
    def set_concurrency(self, rollouts):
        self.made.set_concurrency(rollouts)
        self.concurrency = rollouts

    @rule(paused=st.booleans())
    def pause(self, paused):
        self.paused = paused
        (self.made.pause if paused else self.made.resume)()

    def forget(self, assignment):
        for held in (self.simulating, self.finishing):
            if assignment in held:
                held.remove(assignment)

    def again(self, assignment):
        wait_s = self.made.retry(assignment, self.now_s)
        assert (wait_s is None) == (assignment.attempt == 2)
        if wait_s is None:
            self.over.append(assignment.task)
        else:
            self.waiting[assignment.task] = self.now_s + wait_s

    # --- what must hold after each of them

    @invariant()
    def limits_hold(self):
        for state in self.made.addresses():
            assert state.sessions == self.used(state.service, state.address)
            assert state.limit is None or state.sessions <= state.limit
        for state in self.made.workers():
            limit, finishing = self.workers[state.worker]
            assert state.simulating <= limit
            assert state.simulating + state.finishing <= limit + finishing

    @invariant()
    def every_task_is_somewhere_once(self):
        assert self.made.in_flight == len(self.simulating)
        assert all(self.made.holds(a) for a in self.simulating + self.finishing)
        assert self.made.finishing == len(self.finishing)
        assert self.made.queued == len(self.ready) + len(self.waiting)
        held = len(self.simulating) + len(self.finishing)
        assert self.submitted == self.made.queued + held + len(self.over)
        assert len(set(self.over)) == len(self.over)

    def teardown(self):
        """Whatever happened before, all of it ends, and by waiting only when told to."""
        self.set_concurrency(None)
        self.pause(paused=False)
        self.made.add_worker("last", 2)
        self.workers["last"] = (2, 2)
        for _ in range(10 * self.submitted + 10):
            self.begin_as_many_as_can()
            held = self.simulating + self.finishing
            if held:
                self.made.ended(held[0], self.now_s)
                self.forget(held[0])
                self.over.append(held[0].task)
            elif self.made.idle:
                break
            else:
                due_s = self.made.next_due_s()
                assert due_s is not None
                assert due_s > self.now_s
                self.now_s = due_s
        assert self.made.idle
        assert len(self.over) == self.submitted


TestAnything = Anything.TestCase


# ------------------------------------------------------------------------- fairness


def two_requests(weight, slots):
    made = Scheduler([Address("renderer", "r", slots)])
    made.add_worker("w", slots)
    for name, of in (("a", 1.0), ("b", float(weight))):
        made.add_request(name, {"renderer": ("r",)}, of)
        made.submit(tasks("st", 15, name))
    return made


@given(st.integers(1, 5), st.integers(1, 9), st.data())
def test_requests_share_slots_by_their_weights_up_to_one_rollout(weight, slots, data):
    made, held = two_requests(weight, slots), []
    while all(queued for queued, _ in made.requests().values()):
        held += begin_all(made)
        a, b = (in_flight for _, in_flight in made.requests().values())
        if all(queued for queued, _ in made.requests().values()):
            assert abs(a - b / weight) <= 1.0
        made.ended(held.pop(data.draw(st.integers(0, len(held) - 1))), 0.0)


@given(st.integers(1, 5))
def test_a_single_slot_goes_round_by_weight(weight):
    made, count = two_requests(weight, 1), {"a": 0, "b": 0}
    while all(queued for queued, _ in made.requests().values()):
        assignment = made.next(0.0)
        count[assignment.task.request] += 1
        made.ended(assignment, 0.0)
        assert abs(count["a"] - count["b"] / weight) <= 1.0


def test_a_request_that_comes_late_is_served_at_once_and_catches_nothing_up():
    made = Scheduler()
    made.add_worker("w", 1)
    made.add_request("early")
    made.submit(tasks("a", 100, "early"))
    for _ in range(50):
        made.ended(made.next(0.0), 0.0)
    made.add_request("late")
    made.submit(tasks("a", 20, "late"))
    names = []
    for _ in range(20):
        assignment = made.next(0.0)
        names.append(assignment.task.request)
        made.ended(assignment, 0.0)
    assert names.count("late") == 10
    assert "late" in names[:2]


def test_a_request_whose_services_are_full_lets_others_go():
    made = Scheduler([Address("renderer", "small", 1), Address("renderer", "large", 4)])
    made.add_worker("w", 8)
    made.add_request("first", {"renderer": ("small",)})
    made.add_request("second", {"renderer": ("large",)})
    made.submit([*tasks("ab", 2, "first"), *tasks("c", 4, "second")])
    begun = begin_all(made)
    assert [a.addresses["renderer"] for a in begun].count("small") == 1
    assert [a.addresses["renderer"] for a in begun].count("large") == 4


# ------------------------------------------------------------------------- affinity


def test_places_keep_their_scenes_while_these_last():
    renderers = [Address("renderer", f"r{k}", 2) for k in range(4)]
    made = scheduler(renderers, [("w", 8)], {"renderer": [r.address for r in renderers]})
    made.submit(tasks([f"s{k}" for k in range(40)], 6))
    seen: dict[str, set[str]] = {}
    loads = 0
    held = []
    while not made.idle:
        for a in begin_all(made):
            at = seen.setdefault(a.addresses["renderer"], set())
            loads += a.task.scene not in at
            at.add(a.task.scene)
            held.append(a)
        made.ended(held.pop((7 * len(held)) // 11 % len(held)), 0.0)
    assert loads <= 40 + 4  # each scene is loaded once, but for a few shared at the end


def test_a_place_without_its_scene_takes_another_rather_than_wait():
    made = scheduler([Address("renderer", "r", 2)], services={"renderer": ("r",)})
    made.submit(tasks("a", 1) + tasks("b", 1))
    assert [a.task.scene for a in begin_all(made)] == ["a", "b"]


def test_among_equally_empty_addresses_the_one_with_the_scene_is_taken():
    made = scheduler(
        [Address("renderer", "r0", 2), Address("renderer", "r1", 2)],
        services={"renderer": ("r0", "r1")},
    )
    made.submit(tasks("ab", 1))
    first, second = begin_all(made)
    assert (first.addresses["renderer"], second.addresses["renderer"]) == ("r0", "r1")
    made.ended(first, 0.0)
    made.ended(second, 0.0)
    made.submit([Task("run", "b", 7)])
    assert made.next(0.0).addresses["renderer"] == "r1"


def test_few_rollouts_are_spread_over_addresses_even_of_one_scene():
    made = scheduler(
        [Address("renderer", f"r{k}", 4) for k in range(2)], services={"renderer": ("r0", "r1")}
    )
    made.set_concurrency(4)
    made.submit(tasks("a", 8))
    used = [a.addresses["renderer"] for a in begin_all(made)]
    assert (used.count("r0"), used.count("r1")) == (2, 2)


def test_workers_without_services_keep_their_scenes_and_share_evenly():
    made = scheduler(workers=[("w0", 2), ("w1", 2)])
    made.submit(tasks("ab", 4))
    begun = begin_all(made)
    assert {(a.worker, a.task.scene) for a in begun} == {("w0", "a"), ("w1", "b")}
    made.ended(begun[1], 0.0)
    again = made.next(0.0)
    assert (again.worker, again.task.scene) == (begun[1].worker, begun[1].task.scene)


def test_scenes_are_remembered_up_to_a_number():
    made = scheduler([Address("renderer", "r", 1)], services={"renderer": ("r",)}, scenes_kept=2)
    made.submit(tasks("abc", 1))
    for _ in range(3):
        made.ended(made.next(0.0), 0.0)
    assert made.addresses()[0].scenes == ("b", "c")
    assert made.workers()[0].scenes == ("b", "c")


# --------------------------------------------------------- workers, scoring and loss


def test_services_are_free_while_a_rollout_is_scored_until_too_many_are():
    made = Scheduler([Address("renderer", "r", 1)])
    made.add_worker("w", 1, finishing=2)
    made.add_request("run", {"renderer": ("r",)})
    made.submit(tasks("a", 5))
    begun = []
    while (assignment := made.next(0.0)) is not None:
        begun.append(assignment)
        made.simulated(assignment, 0.0)
    assert len(begun) == made.finishing == 3
    assert made.in_flight == made.addresses()[0].sessions == 0
    made.ended(begun[1], 0.0)
    assert made.next(0.0) is not None


def test_a_lost_worker_gives_its_rollouts_and_their_sessions_back():
    made = scheduler(
        [Address("renderer", "r", 4)], [("w0", 2), ("w1", 2)], {"renderer": ("r",)}
    )  # fmt: skip
    made.submit(tasks("abcd", 1))
    begun = begin_all(made)
    made.simulated(next(a for a in begun if a.worker == "w0"), 0.0)
    had = made.lost("w0")
    assert sorted(a.number for a in had) == sorted(a.number for a in begun if a.worker == "w0")
    assert made.addresses()[0].sessions == 2
    assert [made.retry(a, 0.0) for a in had] == [1.0, 1.0]
    assert begin_all(made, 1.0) == []  # the other worker is full
    made.add_worker("w0", 2)
    assert {a.task for a in begin_all(made, 1.0)} == {a.task for a in had}


def test_a_worker_that_leaves_finishes_what_it_has():
    made = scheduler(workers=[("w0", 1), ("w1", 1)])
    made.submit(tasks("a", 4))
    begun = {a.worker: a for a in begin_all(made)}
    made.remove_worker("w0")
    made.ended(begun["w0"], 0.0)
    assert made.next(0.0) is None
    assert [w.worker for w in made.workers()] == ["w1"]


# ------------------------------------------------------------- retries and breakers


def test_waits_between_attempts_double_and_end():
    made = scheduler(attempts=4)
    made.submit(tasks("a", 1))
    now_s, waits = 0.0, []
    while True:
        assignment = made.next(now_s)
        wait_s = made.retry(assignment, now_s)
        waits.append(wait_s)
        if wait_s is None:
            break
        assert made.next(now_s + 0.9 * wait_s) is None
        assert made.next_due_s() == now_s + wait_s
        now_s += wait_s
    assert waits == [1.0, 2.0, 4.0, None]
    assert made.idle
    assert made.retries == 3


@given(st.integers(1, 12))
def test_waits_grow_to_the_longest(times):
    assert Backoff(1.0, 2.0, 60.0).after(times) == min(2.0 ** (times - 1), 60.0)


def test_a_task_that_waits_is_in_nobodys_way():
    made = scheduler(workers=[("w", 1)])
    made.submit(tasks("a", 2))
    first = made.next(0.0)
    made.retry(first, 0.0)
    assert made.next(0.0).task.seed == 1


def failing(made, times, now_s, service="renderer", address="r0"):
    for _ in range(times):
        made.failed(service, address, now_s)


def test_an_address_that_fails_three_times_in_a_row_gets_nothing_and_another_its_work():
    made = scheduler(
        [Address("renderer", "r0", 2), Address("renderer", "r1", 2)],
        services={"renderer": ("r0", "r1")},
    )
    made.submit(tasks("a", 9))
    failing(made, 2, 0.0)
    made.answered("renderer", "r0")
    failing(made, 2, 0.0)
    assert made.addresses()[0].state == "closed"
    failing(made, 1, 0.0)
    assert (made.addresses()[0].state, made.addresses()[0].until_s) == ("open", 5.0)
    assert {a.addresses["renderer"] for a in begin_all(made, 4.9)} == {"r1"}


def test_all_addresses_avoided_means_to_wait_for_the_first_that_may_be_tried():
    made = scheduler([Address("renderer", "r0", 4)], services={"renderer": ("r0",)})
    made.submit(tasks("a", 9))
    failing(made, 3, 10.0)
    assert made.next(10.0) is None
    assert made.next_due_s() == 15.0
    (trial,) = begin_all(made, 15.0)  # one session, though four have room
    assert made.addresses()[0].state == "half_open"
    assert made.next_due_s() is None
    made.failed("renderer", "r0", 16.0)
    made.retry(trial, 16.0)
    assert made.addresses()[0].until_s == 26.0
    (trial,) = begin_all(made, 26.0)
    made.answered("renderer", "r0")
    assert len(begin_all(made, 26.0)) == 3


@pytest.mark.parametrize("end_first", [False, True])
def test_a_trial_that_fails_is_not_followed_by_another_at_once(end_first):
    made = scheduler([Address("renderer", "r0", 1)], services={"renderer": ("r0",)})
    made.submit(tasks("a", 9))
    failing(made, 3, 0.0)
    trial = made.next(5.0)
    if end_first:
        made.ended(trial, 6.0)
    made.failed("renderer", "r0", 6.0)
    if not end_first:
        made.ended(trial, 6.0)
    assert made.next(6.0) is None
    assert made.next_due_s() == 16.0


def test_a_trial_without_a_verdict_is_followed_by_another():
    made = scheduler([Address("renderer", "r0", 1)], services={"renderer": ("r0",)})
    made.submit(tasks("a", 9))
    failing(made, 3, 0.0)
    assert made.next(5.0) is not None
    made.lost("w0")
    made.add_worker("w1", 1)
    assert made.next(5.0) is not None


def test_an_address_is_avoided_for_five_seconds_up_to_two_minutes():
    breaker, now_s, waits = Breaker(), 0.0, []
    for _ in range(3):
        breaker.failed(now_s)
    for _ in range(7):
        waits.append(breaker.until_s - now_s)
        breaker.failed(breaker.until_s - 0.1)  # of a session begun before
        now_s = breaker.until_s
        assert breaker.admits(now_s)
        assert breaker.begin()
        assert not breaker.admits(now_s)
        breaker.failed(now_s)
    assert waits == [5.0, 10.0, 20.0, 40.0, 80.0, 120.0, 120.0]


# ---------------------------------------------------------------- control, counters


def test_concurrency_pause_and_cancel():
    made = scheduler()
    made.submit(tasks("a", 9))
    made.set_concurrency(2)
    begun = begin_all(made)
    assert len(begun) == 2
    made.set_concurrency(None)
    made.pause()
    assert made.next(0.0) is None
    made.resume()
    assert made.next(0.0) is not None
    assert len(made.cancel()) == 6
    assert made.next(0.0) is None
    assert made.retry(begun[0], 0.0) is None
    assert (made.queued, made.in_flight) == (0, 2)
    with pytest.raises(ConfigError, match="nothing more is run"):
        made.submit(tasks("z", 1))


def test_a_removed_request_drops_what_waits_and_its_name_is_free_once_all_is_over():
    made = scheduler()
    made.submit(tasks("a", 10))
    begun = begin_all(made)
    made.retry(begun[0], 0.0)
    assert len(made.remove_request("run")) == 3
    with pytest.raises(ConfigError, match="already"):
        made.add_request("run")
    for assignment in begun[1:]:
        made.ended(assignment, 0.0)
    made.add_request("run")
    assert made.retry(begun[1], 0.0) is not None  # by name: the new one takes it
    assert made.requests() == {"run": (1, 0)}


def test_queueing_time_stands_under_what_was_full():
    made = scheduler(
        [Address("renderer", "r", 1), Address("policy", "p", 2)],
        [("w", 2)],
        {"renderer": ("r",), "policy": ("p",)},
    )
    made.submit(tasks("a", 3))
    first = begin_all(made, 0.0)
    made.ended(first[0], 10.0)
    second = begin_all(made, 10.0)
    made.set_concurrency(1)
    assert made.next(13.0) is None
    made.ended(second[0], 20.0)
    begin_all(made, 20.0)
    assert made.queueing_s == {"renderer": 13.0, "concurrency": 7.0}
    assert made.next(100.0) is None  # nothing is queued: nothing waits
    assert made.queueing_s == {"renderer": 13.0, "concurrency": 7.0}


def test_the_same_calls_have_the_same_answers():
    def run():
        made = scheduler(
            [Address("renderer", f"r{k}", 2) for k in range(3)],
            [("w0", 3), ("w1", 3)],
            {"renderer": ("r0", "r1", "r2")},
        )
        made.submit(tasks("abcdefg", 5))
        held, all_of_it = [], []
        while not made.idle:
            new = begin_all(made)
            held += new
            all_of_it += new
            made.ended(held.pop(len(held) // 2), 0.0)
        return all_of_it

    assert run() == run()


def test_addresses_of_a_request_of_its_own_are_not_shared_and_go_with_it():
    made = Scheduler()
    made.add_worker("w0", 8)
    for owner, limit in (("", 5), ("one", 1), ("two", 2)):
        made.add_address(Address("policy", "host:1", limit, owner))
    for name in ("one", "two", "three"):
        made.add_request(name, {"policy": ("host:1",)})
        made.submit(Task(name, "a", seed) for seed in range(9))
    begun = begin_all(made)
    sizes = [sum(b.task.request == name for b in begun) for name in ("one", "two", "three")]
    assert sizes == [1, 2, 5]
    assert {b.addresses["policy"] for b in begun} == {"host:1"}
    for _ in range(3):
        made.failed("policy", "host:1", 0.0, "two")
    assert [a.until_s is not None for a in made.addresses()] == [False, False, True]
    made.remove_request("two")
    made.remove_request("one")
    assert [a.limit for a in made.addresses()] == [5]
    for assignment in begun:  # what began ends as ever
        made.ended(assignment, 1.0)
    assert made.addresses()[0].sessions == 0
    made.add_address(Address("policy", "host:1", 7, "one"))  # another limit than before


def test_wrong_calls_say_what_is_wrong():
    made = scheduler([Address("renderer", "host:1", 1)])
    with pytest.raises(ConfigError, match="Did you mean 'host:1'"):
        made.add_request("x", {"renderer": ("host:2",)})
    with pytest.raises(ConfigError, match="1 sessions and 2"):
        made.add_address(Address("renderer", "host:1", 2))
    with pytest.raises(ConfigError, match="weight is 0"):
        made.add_request("x", weight=0)
    with pytest.raises(ConfigError, match="has no address"):
        made.add_request("x", {"renderer": ()})
    with pytest.raises(ConfigError, match=r"no request 'ruN'.*'run'"):
        made.submit([Task("ruN", "a", 0)])
    made.submit(tasks("a", 1))
    with pytest.raises(ConfigError, match="queued already"):
        made.submit(tasks("a", 1))
    with pytest.raises(ConfigError, match="concurrency: 0"):
        made.set_concurrency(0)
    with pytest.raises(ConfigError, match="no worker 'w9'"):
        made.lost("w9")
    with pytest.raises(ConfigError, match="a worker 'w0' already"):
        made.add_worker("w0", 1)
    begun = made.next(0.0)
    made.ended(begun, 0.0)
    with pytest.raises(ConfigError, match="over or unknown"):
        made.ended(begun, 0.0)
    with pytest.raises(ConfigError, match="a factor of 1 or more"):
        Backoff(1.0, 0.5)


def test_a_worker_that_falls_behind_with_scoring_gets_nothing_more_until_it_caught_up():
    made = Scheduler()
    made.add_request("run")
    made.add_worker("here", 64, finishing=2)
    made.set_concurrency(1)
    made.submit(Task("run", "curve", seed) for seed in range(6))
    begun = []
    for _ in range(3):
        begun.append(made.next(0.0))
        made.simulated(begun[-1], 0.0)
    assert made.next(0.0) is None  # three are being scored
    made.ended(begun[0], 1.0)
    assert made.next(1.0) is not None
