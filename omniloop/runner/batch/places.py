"""Where tasks run: addresses of services and workers, with room, scenes and failures of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from omniloop.core.errors import ConfigError, nearest
from omniloop.runner.batch.breaker import AVOIDED, Backoff, Breaker
from omniloop.runner.batch.scene_queues import SceneQueues, Task

WORKER = "worker"


@dataclass(frozen=True)
class Address:
    """Where a service is.

    Attributes:
        service: "renderer", "policy", ...
        limit: Sessions at once; None for any number.
        owner: The request that alone has these sessions; empty where all share them.
    """

    service: str
    address: str
    limit: int | None = None
    owner: str = ""


@dataclass(frozen=True)
class Assignment:
    """A task that began.

    Attributes:
        number: Counts all starts from 0.
        addresses: Service to address.
        attempt: 1 for the first time.
    """

    number: int
    task: Task
    worker: str
    addresses: Mapping[str, str]
    attempt: int
    began_s: float


@dataclass(frozen=True)
class AddressState:
    """An address as it is now.

    Attributes:
        sessions: In use.
        state: One of `omniloop.runner.batch.breaker.STATES`.
        until_s: When it may be tried, if it is avoided.
        scenes: Those that it had lately, the last one last.
    """

    service: str
    address: str
    limit: int | None
    sessions: int
    state: str
    until_s: float | None
    scenes: tuple[str, ...]


@dataclass(frozen=True)
class WorkerState:
    """A worker as it is now.

    Attributes:
        simulating: Tasks that hold services.
        finishing: Tasks that are scored, drawn or written.
        leaving: Whether it gets no more.
    """

    worker: str
    limit: int
    simulating: int
    finishing: int
    leaving: bool
    scenes: tuple[str, ...]


@dataclass(eq=False)
class Place:
    """An address of a service, or a worker: room for so many sessions, and scenes it knows.

    Attributes:
        kind: The service, or "worker".
        limit: Sessions at once; None for any number.
        scenes: Those that it had lately, the last one last.
    """

    kind: str
    name: str
    limit: int | None
    order: int
    breaker: Breaker
    used: int = 0
    scenes: dict[str, None] = field(default_factory=dict)

    @property
    def has_room(self) -> bool:
        """Whether one session more fits."""
        return self.limit is None or self.used < self.limit

    @property
    def fill(self) -> float:
        """Share of its sessions that is in use; tiny where any number may be."""
        return self.used / (self.limit or 1_000_000)

    def rank(self, queues: SceneQueues | None) -> tuple[bool, float, bool, int]:
        """The least is taken: in use rather than on trial, emptiest, with a scene in `queues`."""
        warm = queues is not None and any(scene in queues for scene in self.scenes)
        return self.breaker.until_s is not None, self.fill, not warm, self.order


@dataclass(eq=False)
class Worker:
    """A worker: its place counts what it simulates.

    Attributes:
        finishing: While more tasks than these are scored, drawn or written, it gets no other.
        held: Tasks that it has, by number.
        leaving: Whether it gets no more.
    """

    place: Place
    limit: int
    finishing: int
    held: dict[int, Assignment] = field(default_factory=dict)
    leaving: bool = False

    @property
    def has_room(self) -> bool:
        """Whether it may get a task more."""
        room = self.place.has_room and len(self.held) < self.limit + self.finishing
        return room and len(self.held) - self.place.used <= self.finishing and not self.leaving


class Places:
    """All addresses and workers.

    Args:
        threshold: Failures in a row after which an address is avoided.
        avoided: For how long: the first time, the second time, ...
        scenes_kept: Scenes that an address or a worker is taken to have at hand.
    """

    def __init__(
        self,
        threshold: int = 3,
        avoided: Backoff = AVOIDED,
        scenes_kept: int = 4,
    ) -> None:
        at_least(threshold, "threshold")
        at_least(scenes_kept, "scenes_kept", 0)
        self._threshold, self._avoided, self._kept = threshold, avoided, scenes_kept
        self._addresses: dict[tuple[str, str, str], Place] = {}
        self._workers: dict[str, Worker] = {}
        self._made = 0
        self._having: dict[str, Counter[str]] = {}

    def add_address(self, address: Address) -> None:
        """Add an address; the same again changes nothing.

        Raises:
            ConfigError: it is there with another limit, or the limit is below 1.
        """
        if address.limit is not None:
            at_least(address.limit, f"sessions of {address.service} at {address.address}")
        if address.service == WORKER:
            raise ConfigError(f"'{WORKER}' is no name of a service", where=address.address)
        key = (address.service, address.address, address.owner)
        there = self._addresses.get(key)
        if there is None:
            self._addresses[key] = self._place(address.service, address.address, address.limit)
        elif there.limit != address.limit:
            raise ConfigError(
                f"{address.service} at {address.address} has {there.limit} sessions and "
                f"{address.limit}", remedy="give it one limit",
            )  # fmt: skip

    def address(self, service: str, address: str, owner: str = "") -> Place:
        """An address that was added: that of an owner, if it has its own, else the shared one.

        Raises:
            ConfigError: it was not.
        """
        place = self._addresses.get((service, address, owner))
        place = place or self._addresses.get((service, address, ""))
        if place is None:
            there = [name for kind, name, _ in self._addresses if kind == service]
            raise ConfigError(
                f"there is no {service} at '{address}'.{nearest(address, there)}",
                remedy=f"add it first; there are: {', '.join(there) or 'none'}",
            )
        return place

    def disown(self, owner: str) -> None:
        """Forget the addresses of an owner."""
        for key in [key for key in self._addresses if key[2] == owner]:
            place = self._addresses.pop(key)
            for scene in place.scenes:
                self._forget(place.kind, scene)
            place.scenes.clear()

    def add_worker(self, name: str, limit: int, finishing: int | None) -> None:
        """Add a worker; see `Worker`.

        Raises:
            ConfigError: it is there, or a number is too small.
        """
        finishing = limit if finishing is None else finishing
        at_least(limit, f"places of worker {name}")
        at_least(finishing, f"finishing of worker {name}", 0)
        if name in self._workers:
            raise ConfigError(f"there is a worker '{name}' already", where="add_worker")
        self._workers[name] = Worker(self._place(WORKER, name, limit), limit, finishing)

    def worker(self, name: str) -> Worker:
        """A worker that is there.

        Raises:
            ConfigError: it is not.
        """
        if name not in self._workers:
            raise ConfigError(f"there is no worker '{name}'.{nearest(name, self._workers)}")
        return self._workers[name]

    def let_go(self, worker: Worker) -> None:
        """Forget a worker that gets no more and has nothing."""
        if worker.leaving and not worker.held:
            self._workers.pop(worker.place.name, None)
            for scene in worker.place.scenes:
                self._forget(WORKER, scene)
            worker.place.scenes.clear()

    def free_workers(self) -> list[Worker]:
        """Those that may get a task."""
        return [worker for worker in self._workers.values() if worker.has_room]

    def having(self, kind: str) -> Counter[str]:
        """How many places of a kind have a scene at hand; it follows what happens."""
        return self._having.setdefault(kind, Counter())

    def remember(self, place: Place, scene: str) -> None:
        """Note that a place has a scene, and forget the one that it had longest ago."""
        if not self._kept:
            return
        if scene in place.scenes:
            del place.scenes[scene]
        else:
            self.having(place.kind)[scene] += 1
        place.scenes[scene] = None
        if len(place.scenes) > self._kept:
            oldest = next(iter(place.scenes))
            del place.scenes[oldest]
            self._forget(place.kind, oldest)

    def address_states(self) -> tuple[AddressState, ...]:
        """Every address, in the order in which they were added."""
        return tuple(
            AddressState(
                p.kind, p.name, p.limit, p.used, p.breaker.state, p.breaker.until_s, tuple(p.scenes)
            )
            for p in self._addresses.values()
        )  # fmt: skip

    def worker_states(self) -> tuple[WorkerState, ...]:
        """Every worker, in the order in which they were added."""
        return tuple(
            WorkerState(
                name, w.limit, w.place.used, len(w.held) - w.place.used, w.leaving,
                tuple(w.place.scenes),
            )
            for name, w in self._workers.items()
        )  # fmt: skip

    def _place(self, kind: str, name: str, limit: int | None) -> Place:
        self._made += 1
        return Place(kind, name, limit, self._made, Breaker(self._threshold, self._avoided))

    def _forget(self, kind: str, scene: str) -> None:
        having = self.having(kind)
        having[scene] -= 1
        if not having[scene]:
            del having[scene]


def choose_addresses(
    services: Mapping[str, Sequence[Place]], now_s: float, affine: str, ready: SceneQueues
) -> dict[str, Place | None]:
    """The address of each service that a task would get; None where there is no room.

    Args:
        affine: The service for which it matters which scenes are queued.
    """
    chosen: dict[str, Place | None] = {}
    for kind, places in services.items():
        free = [p for p in places if p.has_room and p.breaker.admits(now_s)]
        queues = ready if kind == affine else None
        if len(free) > 1:
            chosen[kind] = min(free, key=lambda p: p.rank(queues))
        else:
            chosen[kind] = free[0] if free else None
    return chosen


def choose_scene(ready: SceneQueues, place: Place, worker: Place) -> str:
    """The scene that a place gets: one that it had lately, and the worker too if it can be."""
    known = [scene for scene in reversed(place.scenes) if scene in ready]
    for scene in known:
        if scene in worker.scenes:
            return scene
    if known:
        return known[0]
    for scene in reversed(worker.scenes):
        if scene in ready and scene not in ready.having:
            return scene
    return ready.cold()


def choose_worker(workers: Sequence[Worker], scene: str) -> Worker:
    """The emptiest of some that have room; among equals, one that has the scene."""
    return min(workers, key=lambda w: (w.place.fill, scene not in w.place.scenes, w.place.order))


def at_least(number: int, what: str, least: int = 1) -> None:
    """Refuse a number that is too small.

    Raises:
        ConfigError: it is.
    """
    if number < least:
        raise ConfigError(f"{what}: {number}", remedy=f"give {least} or more")
