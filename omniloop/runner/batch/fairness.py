"""Whose turn it is: requests with their queues, and tasks that wait to be tried again."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omniloop.core.errors import ConfigError, nearest
from omniloop.runner.batch.places import Place
from omniloop.runner.batch.scene_queues import SceneQueues, Task


@dataclass(eq=False)
class Request:
    """A batch of tasks that need the same services.

    Attributes:
        services: Addresses of each service that its tasks need a session of.
        weight: Share of what is scarce, against others.
        limit: Tasks in flight at most.
        ready: Tasks that could begin.
        in_flight: Tasks that hold services.
        held: Tasks that began and are not over.
        delayed: Tasks that wait to be tried again.
        virtual: Its virtual time.
        removed: Whether it takes no more.
    """

    name: str
    services: Mapping[str, Sequence[Place]]
    weight: float
    limit: int | None
    order: int
    ready: SceneQueues
    in_flight: int = 0
    held: int = 0
    delayed: int = 0
    virtual: float = 0.0
    removed: bool = False

    @property
    def may_begin(self) -> bool:
        """Whether its own limit lets a task begin."""
        return self.limit is None or self.in_flight < self.limit

    @property
    def rank(self) -> tuple[float, float, int]:
        """The least goes first."""
        return self.in_flight / self.weight, self.virtual, self.order


class Requests:
    """All requests.

    Turns: the fewest tasks in flight for its weight, then the least virtual time, then the
    order of arrival. A start moves a request's virtual time on by 1/weight; one that had nothing
    queued begins where the last one served was (start-time fair queueing, P. Goyal et al.,
    SIGCOMM 1996), so that even a single slot goes round.
    """

    def __init__(self) -> None:
        self._requests: dict[str, Request] = {}
        self._delayed: list[tuple[float, int, Task, int]] = []
        self._arrivals = self._delays = 0
        self._virtual = 0.0

    def __getitem__(self, name: str) -> Request:
        if name not in self._requests:
            raise ConfigError(f"there is no request '{name}'.{nearest(name, self._requests)}")
        return self._requests[name]

    def get(self, name: str) -> Request | None:
        """A request, None if there is none of that name."""
        return self._requests.get(name)

    def all(self) -> list[Request]:
        """Every request, in order of arrival."""
        return list(self._requests.values())

    def add(
        self,
        name: str,
        services: Mapping[str, Sequence[Place]],
        weight: float,
        limit: int | None,
        ready: SceneQueues,
    ) -> None:
        """Add a request.

        Raises:
            ConfigError: there is one of that name.
        """
        if name in self._requests:
            raise ConfigError(f"there is a request '{name}' already", where="add_request")
        self._requests[name] = Request(name, services, weight, limit, self._arrivals, ready)
        self._arrivals += 1

    def remove(self, request: Request) -> list[Task]:
        """Take no more of a request; return what it had queued."""
        request.removed = True
        dropped = request.ready.clear()
        mine = [entry for entry in self._delayed if entry[2].request == request.name]
        self._delayed = [entry for entry in self._delayed if entry[2].request != request.name]
        heapq.heapify(self._delayed)
        request.delayed = 0
        self.let_go(request)
        return dropped + [entry[2] for entry in sorted(mine, key=lambda entry: entry[:2])]

    def let_go(self, request: Request) -> None:
        """Forget a removed request of which nothing is left."""
        if request.removed and not request.held:
            self._requests.pop(request.name, None)

    def queue(self, task: Task, attempt: int) -> None:
        """Let a task wait for its turn."""
        request = self[task.request]
        if not request.ready.count:  # turns that were not asked for are not saved up
            request.virtual = max(request.virtual, self._virtual)
        request.ready.push(task, attempt)

    def delay(self, task: Task, attempt: int, until_s: float) -> None:
        """Queue a task at a later time."""
        self[task.request].delayed += 1
        heapq.heappush(self._delayed, (until_s, self._delays, task, attempt))
        self._delays += 1

    def wake(self, now_s: float) -> None:
        """Queue the tasks whose waits are over."""
        while self._delayed and self._delayed[0][0] <= now_s:
            _, _, task, attempt = heapq.heappop(self._delayed)
            self[task.request].delayed -= 1
            self.queue(task, attempt)

    def turns(self) -> list[Request]:
        """Requests that have something to begin, the next one first."""
        waiting = [r for r in self._requests.values() if r.ready.count]
        return sorted(waiting, key=lambda r: r.rank) if len(waiting) > 1 else waiting

    def took(self, request: Request) -> None:
        """A request had its turn."""
        self._virtual = request.virtual
        request.virtual += 1.0 / request.weight

    @property
    def next_wake_s(self) -> float | None:
        """When the next wait is over."""
        return self._delayed[0][0] if self._delayed else None

    @property
    def delayed(self) -> int:
        """Tasks that wait to be tried again."""
        return len(self._delayed)

    @property
    def queued(self) -> int:
        """Tasks that have not begun, these included."""
        return len(self._delayed) + sum(r.ready.count for r in self._requests.values())
