"""Which rollout begins next, on which worker and at which addresses of its services.

Pure and synchronous: it reads no clock, draws no random number and waits for nothing. Time is
a number of seconds that the caller gives; the same calls have the same answers. The driver of a
run and the planner's simulation use the same object.

Rules:
- A task begins only when it gets everything at once: a place at one worker, and one session of
  each service that its request needs. So nothing is held while waiting for something else.
- Work-conserving: `Scheduler.next` finds a task wherever one could begin. Neither a request whose
  services are full nor a task that waits to be tried again stands in the way of another.
- Fair: see `omniloop.runner.batch.fairness.Requests`.
- The address with the largest share of free sessions is taken; among equals, one that lately had
  a scene that is queued. It then gets such a scene before others; else one that no address
  has; else the one with the most tasks left. Nothing waits for a better match. So with workers.
- An address that fails again and again is avoided: see `omniloop.runner.batch.breaker.Breaker`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from omniloop.core.errors import ConfigError
from omniloop.runner.batch.begun import Begun
from omniloop.runner.batch.breaker import AVOIDED, Backoff
from omniloop.runner.batch.fairness import Request, Requests
from omniloop.runner.batch.places import (
    WORKER,
    Address,
    AddressState,
    Assignment,
    Place,
    Places,
    Worker,
    WorkerState,
    at_least,
    choose_addresses,
    choose_scene,
    choose_worker,
)
from omniloop.runner.batch.scene_queues import SceneQueues, Task

__all__ = ["Address", "AddressState", "Assignment", "Backoff", "Scheduler", "Task", "WorkerState"]

CONCURRENCY = "concurrency"


class Scheduler:
    """Gives tasks to workers and services; see this module for its rules.

    Args:
        addresses: Of services elsewhere.
        attempts: How often a task is tried.
        backoff: Waits between attempts.
        threshold: Failures in a row after which an address is avoided.
        avoided: For how long: the first time, the second time, ...
        scenes_kept: Scenes that an address or a worker is taken to have at hand.
        affine: The service that has scenes at hand.

    Raises:
        ConfigError: a number is too small, or an address comes with two limits.
    """

    def __init__(
        self,
        addresses: Iterable[Address] = (),
        *,
        attempts: int = 3,
        backoff: Backoff = Backoff(),  # noqa: B008  # frozen
        threshold: int = 3,
        avoided: Backoff = AVOIDED,
        scenes_kept: int = 4,
        affine: str = "renderer",
    ) -> None:
        at_least(attempts, "attempts")
        self.queueing_s: dict[str, float] = {}
        """Time in which something was queued and nothing could begin, by what was full.

        Keys are "concurrency", or the services without a free session and "worker", joined by
        "+" where several were: under "renderer" stands the time in which renderers alone
        were missing. It is of the request whose turn it was, and counted from a `next` that found
        nothing to the one after it.
        """
        self.retries = 0
        """How often `retry` queued a task again."""
        self._attempts, self._backoff, self._affine = attempts, backoff, affine
        self._places = Places(threshold, avoided, scenes_kept)
        self._requests = Requests()
        self._begun = Begun()
        self._tasks: set[Task] = set()
        self._concurrency: int | None = None
        self._paused = self._cancelled = False
        self._now_s = float("-inf")
        self._full: tuple[str, float] | None = None
        for address in addresses:
            self.add_address(address)

    def add_address(self, address: Address) -> None:
        """Add an address; the same again changes nothing.

        Raises:
            ConfigError: it is there with another limit, or the limit is below 1.
        """
        self._places.add_address(address)

    def add_worker(self, worker: str, limit: int, finishing: int | None = None) -> None:
        """Add a worker.

        Args:
            limit: Tasks that it simulates at once.
            finishing: How many more it has at most, which are scored, drawn or written. While
                there are more of these than that, it gets no other. `limit` if None.

        Raises:
            ConfigError: it is there, or a number is too small.
        """
        self._places.add_worker(worker, limit, finishing)

    def remove_worker(self, worker: str) -> None:
        """Give a worker nothing more; it is gone once it has nothing.

        Raises:
            ConfigError: there is none of that name.
        """
        found = self._places.worker(worker)
        found.leaving = True
        self._places.let_go(found)

    def lost(self, worker: str) -> list[Assignment]:
        """A worker is gone at once; return what it had, in order of start.

        Its tasks are queued again only by `retry`.

        Raises:
            ConfigError: there is none of that name.
        """
        found = self._places.worker(worker)
        had = list(found.held.values())
        found.leaving = True
        for assignment in had:
            self._end(assignment)
        self._places.let_go(found)
        return had

    def add_request(
        self,
        name: str,
        services: Mapping[str, Sequence[str]] | None = None,
        weight: float = 1.0,
        limit: int | None = None,
    ) -> None:
        """Add a request; services are shared with others by kind and address.

        Args:
            services: Addresses of each service that its tasks need a session of; its own go with it.
            weight: Share of what is scarce, against others.
            limit: Tasks in flight at most.

        Raises:
            ConfigError: it is there, an address is unknown, or a number is not above 0.
        """
        if not 0 < weight < float("inf"):
            raise ConfigError(f"the weight is {weight}", where=name, remedy="give more than 0")
        if limit is not None:
            at_least(limit, f"limit of {name}")
        used = {
            kind: tuple(self._places.address(kind, address, name) for address in addresses)
            for kind, addresses in (services or {}).items()
        }
        for kind, places in used.items():
            if not places:
                raise ConfigError(f"{kind} has no address", where=name, remedy="leave it out")
        having = self._places.having(self._affine if self._affine in used else WORKER)
        self._requests.add(name, used, weight, limit, SceneQueues(having))

    def remove_request(self, name: str) -> list[Task]:
        """Drop what a request has queued; return it. What began goes on to its end.

        Raises:
            ConfigError: there is none of that name.
        """
        dropped = self._requests.remove(self._requests[name])
        self._places.disown(name)
        self._tasks.difference_update(dropped)
        return dropped

    def submit(self, tasks: Iterable[Task]) -> None:
        """Queue tasks; those of a scene stay in order.

        Raises:
            ConfigError: a request is unknown or removed, a task is queued or held already, or
                all was cancelled; tasks before it are queued.
        """
        for task in tasks:
            if self._requests[task.request].removed or self._cancelled:
                raise ConfigError(f"nothing more is run of '{task.request}'", where=task.name)
            if task in self._tasks:
                raise ConfigError(f"{task.name} is queued already", where=task.request)
            self._tasks.add(task)
            self._requests.queue(task, 1)

    def next(self, now_s: float) -> Assignment | None:
        """Begin the next task; None if none can begin now."""
        now_s = self._at(now_s)
        if self._full is not None:
            what, since_s = self._full
            self.queueing_s[what] = self.queueing_s.get(what, 0.0) + now_s - since_s
            self._full = None
        self._requests.wake(now_s)
        waiting = [] if self._paused else self._requests.turns()
        if not waiting:
            return None
        turns = [request for request in waiting if request.may_begin]
        if not turns or (
            self._concurrency is not None and self._begun.in_flight >= self._concurrency
        ):
            self._full = (CONCURRENCY, now_s)
            return None
        workers = self._places.free_workers()
        for request in turns:
            chosen = choose_addresses(request.services, now_s, self._affine, request.ready)
            full = [kind for kind, place in chosen.items() if place is None]
            if not workers:
                full.append(WORKER)
            if not full:
                self._full = None
                found = {kind: place for kind, place in chosen.items() if place is not None}
                return self._begin(request, found, workers, now_s)
            if self._full is None:
                self._full = ("+".join(full), now_s)
        return None

    def simulated(self, assignment: Assignment, now_s: float) -> None:
        """A task needs its services no more; its worker goes on with it.

        Raises:
            ConfigError: it is over, or was never begun.
        """
        self._at(now_s)
        self._begun.release(assignment)

    def ended(self, assignment: Assignment, now_s: float) -> None:
        """A task is over, however it ended.

        Raises:
            ConfigError: it was over before, or was never begun.
        """
        self._at(now_s)
        self._end(assignment)

    def holds(self, assignment: Assignment) -> bool:
        """Whether a task is in flight, or finished at its worker."""
        return assignment in self._begun

    def retry(self, assignment: Assignment, now_s: float) -> float | None:
        """Queue a task again, after a wait; end it before if that was not done.

        Returns:
            The wait [s]; None if it has been tried often enough, or its request was removed, or
            all was cancelled.

        Raises:
            ConfigError: it is queued or held again already.
        """
        now_s = self._at(now_s)
        if assignment in self._begun:
            self._end(assignment)
        task = assignment.task
        request = self._requests.get(task.request)
        if request is None or request.removed or self._cancelled:
            return None
        if task in self._tasks:
            raise ConfigError(f"{task.name} is queued already", where=task.request)
        if assignment.attempt >= self._attempts:
            return None
        wait_s = self._backoff.after(assignment.attempt)
        self._tasks.add(task)
        self._requests.delay(task, assignment.attempt + 1, now_s + wait_s)
        self.retries += 1
        return wait_s

    def next_due_s(self) -> float | None:
        """When to ask `next` again if nothing else happens; None if nothing comes of waiting.

        It is when a task's wait ends, or when an avoided address may be tried for something
        that is queued. It is later than the last `next`.
        """
        wake_s = self._requests.next_wake_s
        due = [] if wake_s is None else [wake_s]
        for request in self._requests.all():
            if request.ready.count and not self._paused:
                for places in request.services.values():
                    due += [p.breaker.until_s for p in places if p.breaker.until_s is not None]
        return min((at for at in due if at > self._now_s), default=None)

    def failed(self, service: str, address: str, now_s: float, request: str = "") -> None:
        """An address failed a request's rollout; after some in a row it is avoided for a while.

        Raises:
            ConfigError: the address is unknown.
        """
        self._places.address(service, address, request).breaker.failed(self._at(now_s))

    def answered(self, service: str, address: str, request: str = "") -> None:
        """An address served a request's rollout.

        Raises:
            ConfigError: the address is unknown.
        """
        self._places.address(service, address, request).breaker.answered()

    def set_concurrency(self, rollouts: int | None) -> None:
        """Have at most so many tasks in flight; None for as many as have room.

        Raises:
            ConfigError: fewer than 1.
        """
        if rollouts is not None:
            at_least(rollouts, "concurrency")
        self._concurrency = rollouts

    def pause(self) -> None:
        """Begin nothing."""
        self._paused = True

    def resume(self) -> None:
        """Begin again."""
        self._paused = False

    def cancel(self) -> list[Task]:
        """Drop all that is queued and take nothing more; return what was dropped."""
        self._cancelled = True
        return [task for request in self._requests.all() for task in self.remove_request(request.name)]  # fmt: skip

    @property
    def in_flight(self) -> int:
        """Tasks that hold services."""
        return self._begun.in_flight

    @property
    def finishing(self) -> int:
        """Tasks that are simulated and not over."""
        return len(self._begun) - self._begun.in_flight

    @property
    def queued(self) -> int:
        """Tasks that have not begun, or wait to be tried again."""
        return self._requests.queued

    @property
    def delayed(self) -> int:
        """Those of them that wait to be tried again."""
        return self._requests.delayed

    @property
    def concurrency(self) -> int | None:
        """See `set_concurrency`."""
        return self._concurrency

    @property
    def idle(self) -> bool:
        """Whether nothing is queued and nothing began that is not over."""
        return not self._tasks

    def requests(self) -> dict[str, tuple[int, int]]:
        """Tasks queued and in flight, by request."""
        return {r.name: (r.ready.count + r.delayed, r.in_flight) for r in self._requests.all()}

    def addresses(self) -> tuple[AddressState, ...]:
        """Every address, in the order in which they were added."""
        return self._places.address_states()

    def workers(self) -> tuple[WorkerState, ...]:
        """Every worker, in the order in which they were added."""
        return self._places.worker_states()

    def _begin(
        self, request: Request, chosen: dict[str, Place], workers: Sequence[Worker], now_s: float
    ) -> Assignment:
        """Take one task of a request; `chosen` and `workers` have room."""
        affine = chosen.get(self._affine)
        first = min(workers, key=lambda w: w.place.rank(request.ready)).place
        scene = choose_scene(request.ready, affine or first, first)
        task, attempt = request.ready.pop(scene)
        worker = choose_worker(workers, scene)
        for place in (worker.place, *([affine] if affine else ())):
            self._places.remember(place, scene)
        self._requests.took(request)
        return self._begun.begin(task, attempt, request, worker, chosen, now_s)

    def _end(self, assignment: Assignment) -> None:
        request, worker = self._begun.end(assignment)
        self._tasks.discard(assignment.task)
        self._requests.let_go(request)
        self._places.let_go(worker)

    def _at(self, now_s: float) -> float:
        self._now_s = max(self._now_s, now_s)  # time does not go back
        return self._now_s
