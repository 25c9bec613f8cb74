"""A simulation of a batch, call by call, under the scheduler that runs use.

Time passes from one end of a call to the next. Every address has a queue, first come first
served, and works on `at_once` groups of up to `batch` calls; a group begins with what is there and
waits for nobody. Every worker has a queue for its own time.
Service times are fixed numbers, so the same batch has the same answer.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

from omniloop.runner.batch.scheduler import Address, Assignment, Scheduler, Task
from omniloop.runner.planning.plan import MOST_IN_FLIGHT, WORKERS, Workload

EVENTS = 300_000
"""Calls that are simulated one by one; well below a second."""
_WAVES = 8
"""So many times as many rollouts as are at once are simulated at least."""

_SIMULATED, _OVER = -1, -2


@dataclass(frozen=True)
class Simulated:
    """What a simulation found.

    Attributes:
        wall_s: From the first start to the last end, of the whole batch.
        rollouts: That were simulated.
        busy: Share of its capacity in use, by service and for the workers.
        queueing_s: See `omniloop.runner.batch.scheduler.Scheduler.queueing_s`.
        drift: How much the pace of what was simulated still changed, as a share; 0 if it was all.
    """

    wall_s: float
    rollouts: int
    busy: dict[str, float]
    queueing_s: dict[str, float]
    drift: float


class _Station:
    """An address of a service, or a worker's one thread."""

    __slots__ = ("at_once", "batch", "busy_s", "queue", "working")

    def __init__(self, at_once: int, batch: int) -> None:
        self.at_once, self.batch = at_once, batch
        self.queue: deque[tuple[_Rollout, float]] = deque()
        self.working = 0
        self.busy_s = 0.0


class _Rollout:
    __slots__ = ("assignment", "at", "stations")

    def __init__(self, assignment: Assignment, stations: tuple[_Station, ...]) -> None:
        self.assignment, self.stations = assignment, stations
        self.at = 0


def simulate(batch: Workload, events: int | None = EVENTS) -> Simulated:
    """Simulate a batch.

    Of a batch of more calls than `events`, fewer rollouts are simulated: at least eight times as
    many as are at once, and so many that the last wave is as full as the batch's. The rest is
    taken to go on at the pace of the last quarter of these, the last wave left out: at first all
    rollouts are at the same step, and it may take a while until they are spread.

    Args:
        events: About how many calls are simulated; None for all.
    """
    count = batch.rollouts if events is None else _sample(batch, events)
    run = _Run(batch)
    ends_s = run.go(count)
    wall_s, drift = ends_s[-1], 0.0
    if count < batch.rollouts:
        wave = batch.at_once
        last = count // wave - 1
        third, half = last - max(last // 4, 1), last - 2 * max(last // 4, 1)
        late_s, early_s = _pace_s(ends_s, wave, third, last), _pace_s(ends_s, wave, half, third)
        wall_s += late_s * (batch.rollouts - count)
        drift = abs(late_s / early_s - 1.0) if early_s else 0.0
    return Simulated(wall_s, count, run.busy(ends_s[-1]), run.scheduler.queueing_s, drift)


def _pace_s(ends_s: list[float], wave: int, first: int, last: int) -> float:
    """Time from one end to the next, between the ends of two waves [s]."""
    return (ends_s[last * wave - 1] - ends_s[first * wave - 1]) / ((last - first) * wave)


def _sample(batch: Workload, events: int) -> int:
    of_one = 3 + batch.steps * (1 + sum(s.calls for s in batch.services))
    wave = batch.at_once
    least = max(events // of_one, _WAVES * wave)
    if least >= batch.rollouts:
        return batch.rollouts
    return min(batch.rollouts, least + (batch.rollouts - least) % wave)


class _Run:
    def __init__(self, batch: Workload) -> None:
        self._batch = batch
        self.scheduler = Scheduler()
        self._stations: dict[tuple[str, str], _Station] = {}
        services = {}
        for service in batch.services:
            names = tuple(str(k) for k in range(service.addresses))
            for name in names:
                self.scheduler.add_address(Address(service.name, name, service.sessions))
                station = _Station(service.at_once, service.batch)
                self._stations[service.name, name] = station
            services[service.name] = names
        for k in range(batch.workers):
            self.scheduler.add_worker(str(k), MOST_IN_FLIGHT)
            self._stations[WORKERS, str(k)] = _Station(1, 1)
        self.scheduler.set_concurrency(batch.cap)
        self.scheduler.add_request("batch", services)
        self._program = _program(batch)
        self._waits = _Station(batch.rollouts, 1)
        self._ends_s: list[float] = []
        self._heap: list[tuple[float, int, _Station, list[_Rollout]]] = []
        self._pushed = 0
        self._asked: list[_Station] = []

    def go(self, count: int) -> list[float]:
        """Simulate so many rollouts; return when each was over [s], in order."""
        self.scheduler.submit(Task("batch", "", seed) for seed in range(count))
        self._begin(0.0)
        self._serve(0.0)
        heap, advance, asked = self._heap, self._advance, self._asked
        while heap:
            now_s = heap[0][0]
            while heap and heap[0][0] == now_s:  # all that happens at once, then who is served
                _, _, station, group = heapq.heappop(heap)
                station.working -= 1
                asked.append(station)
                for rollout in group:
                    advance(rollout, now_s)
            self._serve(now_s)
        return self._ends_s

    def busy(self, wall_s: float) -> dict[str, float]:
        """Share of capacity in use, by service and for the workers."""
        shares: dict[str, list[float]] = {}
        for (kind, _), station in self._stations.items():
            shares.setdefault(kind, []).append(station.busy_s / station.at_once / wall_s)
        return {kind: sum(each) / len(each) for kind, each in shares.items()}

    def _begin(self, now_s: float) -> None:
        """Begin what can begin."""
        while (assignment := self.scheduler.next(now_s)) is not None:
            stations = [self._stations[WORKERS, assignment.worker]]
            stations += [self._stations[kind, at] for kind, at in assignment.addresses.items()]
            self._advance(_Rollout(assignment, (*stations, self._waits)), now_s)

    def _advance(self, rollout: _Rollout, now_s: float) -> None:
        """Go on with a rollout until it waits for something."""
        slot, seconds = self._program[rollout.at]
        rollout.at += 1
        if slot >= 0:
            station = rollout.stations[slot]
            station.queue.append((rollout, seconds))
            self._asked.append(station)
        elif slot == _SIMULATED:
            self.scheduler.simulated(rollout.assignment, now_s)
            self._advance(rollout, now_s)
            self._begin(now_s)
        else:
            self.scheduler.ended(rollout.assignment, now_s)
            self._ends_s.append(now_s)
            self._begin(now_s)

    def _serve(self, now_s: float) -> None:
        """Work on what is queued where something was asked or ended, as far as there is room."""
        for station in self._asked:
            queue = station.queue
            while queue and station.working < station.at_once:
                rollout, seconds = queue.popleft()
                group = [rollout]
                while queue and len(group) < station.batch:
                    group.append(queue.popleft()[0])
                station.working += 1
                station.busy_s += seconds
                self._pushed += 1
                heapq.heappush(self._heap, (now_s + seconds, self._pushed, station, group))
        self._asked.clear()


def _program(batch: Workload) -> list[tuple[int, float]]:
    """What a rollout does: which of its stations it needs, and for how long [s].

    The first is its worker, the last one where nobody is in anybody's way.
    """
    slow = batch.slowdown
    first = [(k, s.call_s) for k, s in enumerate(batch.services, 1) if s.name == "renderer"]
    step = [(k, s.call_s) for k, s in enumerate(batch.services, 1) for _ in range(s.calls)]
    whole = [
        (len(batch.services) + 1, batch.start_s),
        *first,
        *([*step, (0, batch.loop_s * slow)] * batch.steps),
        (_SIMULATED, 1.0),
        (0, batch.scoring_s * slow),
        (_OVER, 1.0),
    ]
    return [(slot, seconds) for slot, seconds in whole if seconds]
