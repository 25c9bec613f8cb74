"""What a run's events come to over time: busy and waiting times, lag, memory, efficiency."""

from __future__ import annotations

import math
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from omniloop.core.calls import CONTRACT_METHODS
from omniloop.live.efficiency import Observed, Paths, efficiency_of
from omniloop.live.events import (
    Event,
    Progress,
    RolloutEnded,
    RunEnded,
    RunStarted,
    ServiceLoad,
    WorkerLoad,
)
from omniloop.runlog.budget import AddressTimes, MethodTimes, Sitting, WorkerTimes
from omniloop.runlog.timings import calls_of, seconds


@dataclass
class _Growing:
    """A sum over workers that stays when a worker is lost and its part of it with it."""

    kept: float = 0.0
    last: float = 0.0

    def take(self, value: float) -> None:
        if value < self.last:
            self.kept += self.last - value
        self.last = value

    @property
    def value(self) -> float:
        return self.kept + self.last


@dataclass
class _Address:
    limit: int | None
    calls: _Growing = field(default_factory=_Growing)
    busy_s: _Growing = field(default_factory=_Growing)
    waiting_s: _Growing = field(default_factory=_Growing)
    longest_s: float = 0.0

    def take(self, load: ServiceLoad) -> None:
        self.limit = load.limit
        self.calls.take(load.calls)
        self.busy_s.take(load.busy_s)
        self.waiting_s.take(load.waiting_s)
        self.longest_s = max(self.longest_s, load.longest_s)


class Totals:
    """Takes a run's events in its thread, and is read in any.

    Attributes:
        began: The run's start; None before it is told.
        progress: The newest, if any was told.
    """

    def __init__(self) -> None:
        self.began: RunStarted | None = None
        self.progress: Progress | None = None
        self._lock = threading.Lock()
        self._started = ""
        self._state = "running"
        self._rollouts = self._retries = 0
        self._outcomes: Counter[str] = Counter()
        self._filled_s = 0.0
        self._slots_s = 0.0
        self._paths = Paths()
        self._addresses: dict[tuple[str, str], _Address] = {}
        self._methods: dict[tuple[str, str], MethodTimes] = {}
        self._workers: dict[str, WorkerTimes] = {}
        self._lags_ms: list[float] = []
        self._memory_mib = self._run_mib = 0.0

    def take(self, event: Event) -> None:
        """Take note of an event."""
        with self._lock:
            if isinstance(event, RunStarted):
                self.began = event
                self._started = datetime.now(UTC).isoformat(timespec="seconds")
            elif isinstance(event, Progress):
                self._progress(event)
            elif isinstance(event, RolloutEnded):
                self._rollout(event)
            elif isinstance(event, RunEnded):
                self._state = event.state

    def sitting(self) -> Sitting | None:
        """All of it; None before the run's start is told."""
        with self._lock:
            return None if self.began is None else self._sitting(self.began)

    def _progress(self, event: Progress) -> None:
        before_s = self.progress.elapsed_s if self.progress else 0.0
        self._slots_s += event.slots * max(event.elapsed_s - before_s, 0.0)
        self.progress = event
        for load in event.services:
            key = (load.service, load.address)
            self._addresses.setdefault(key, _Address(load.limit)).take(load)
        for worker in event.workers:
            self._workers[worker.worker] = _higher(self._workers.get(worker.worker), worker)
        self._lags_ms.append(event.lag_ms)
        self._memory_mib = max(self._memory_mib, event.memory_mib)
        others_mib = sum(w.memory_mib for w in event.workers) if self._has_workers else 0.0
        self._run_mib = max(self._run_mib, event.memory_mib - others_mib)

    def _rollout(self, event: RolloutEnded) -> None:
        result = event.result
        self._rollouts += 1
        if event.retry_in_s is None:
            self._outcomes[result.outcome] += 1
        else:
            self._retries += 1
        simulated_s = seconds(result.timings.get("rollout_s"))
        calls = calls_of(result)
        for (service, method), (count, total_s, longest_s) in calls.items():
            old = self._methods.get((service, method), MethodTimes(service, method, 0, 0.0, 0.0))
            self._methods[service, method] = MethodTimes(
                service, method, old.calls + count, old.total_s + total_s,
                max(old.longest_s, longest_s),
            )  # fmt: skip
        if simulated_s is None:
            return
        self._filled_s += simulated_s
        if result.outcome == "completed" and result.decisions:
            timed = {
                f"{service}.{method}": (count, total_s)
                for (service, method), (count, total_s, _) in calls.items()
                if method in CONTRACT_METHODS
            }
            own_s = simulated_s - sum(total_s for _, total_s in timed.values())
            self._paths.add(result.decisions, timed, own_s)

    @property
    def _has_workers(self) -> bool:
        return self.began is not None and self.began.executor != "inline"

    def _sitting(self, began: RunStarted) -> Sitting:
        last = self.progress
        wall_s = last.elapsed_s if last else 0.0
        addresses = tuple(
            AddressTimes(
                service, address, int(found.calls.value), round(found.busy_s.value, 3),
                round(found.waiting_s.value, 3), found.longest_s, found.limit,
            )
            for (service, address), found in sorted(self._addresses.items())
        )  # fmt: skip
        workers = tuple(self._workers[name] for name in sorted(self._workers))
        at_once = max(began.workers, 1)
        seen = Observed(
            wall_s=wall_s, addresses=addresses,
            # A worker that was lost and the one in its place are one of `at_once`.
            loops_s=[sum(w.loop_s for w in workers) / at_once] if workers else [],
            cpu_s=sum(w.cpu_s for w in workers), cores=last.cores if last else None,
            slots=self._slots_s / wall_s if wall_s else 0.0, filled_s=self._filled_s,
            paths=self._paths,
        )  # fmt: skip
        filled = seen.slots_filled
        return Sitting(
            started=self._started,
            state=self._state,
            executor=began.executor,
            worker_count=began.workers,
            wall_s=wall_s,
            rollouts=self._rollouts,
            retries=self._retries,
            slots=round(seen.slots, 3),
            slots_filled=None if filled is None else round(filled, 4),
            lag_longest_ms=round(max(self._lags_ms, default=0.0), 3),
            lag_p99_ms=round(percentile(self._lags_ms, 0.99), 3),
            memory_mib=round(self._memory_mib, 1),
            run_memory_mib=round(self._run_mib, 1),
            worker_memory_mib=max((w.memory_mib for w in workers), default=None)
            if self._has_workers
            else None,
            efficiency=efficiency_of(seen),
            outcomes=dict(sorted(self._outcomes.items())),
            queueing_s=dict(last.queueing_s) if last else {},
            services=addresses,
            methods=tuple(
                MethodTimes(m.service, m.method, m.calls, round(m.total_s, 3), m.longest_s)
                for _, m in sorted(self._methods.items())
            ),
            workers=workers,
        )


def percentile(values: list[float], share: float) -> float:
    """The least of the values that such a share of them does not exceed; 0 if there is none."""
    if not values:
        return 0.0
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def _higher(old: WorkerTimes | None, now: WorkerLoad) -> WorkerTimes:
    """The newest times of a worker with its highest lag and memory."""
    return WorkerTimes(
        worker=now.worker,
        loop_s=max(now.loop_s, old.loop_s if old else 0.0),
        cpu_s=max(now.cpu_s, old.cpu_s if old else 0.0),
        lag_ms=max(now.lag_ms, old.lag_ms if old else 0.0),
        memory_mib=max(now.memory_mib, old.memory_mib if old else 0.0),
    )
