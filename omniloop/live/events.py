"""What happens in a run, as its listeners are told, and what a run can be told.

Events are told in the run's own thread, one after the other. A listener returns at once and
raises nothing; what takes time is done elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from omniloop.runlog.results import RolloutResult

STATES = ("running", "paused", "cancelling", "completed", "cancelled", "failed")
"""What a run can be doing; the last three are ends."""


@dataclass(frozen=True)
class RunStarted:
    """A run begins, or goes on.

    Attributes:
        run: The run's name: that of its folder.
        run_dir: The folder as it was given.
        planned: Rollouts in all.
        done: How many of them were there before.
        executor: "inline", "local" or "ray".
        workers: Worker processes; 1 when inline.
        concurrency: Rollouts at once over all workers.
    """

    run: str
    run_dir: str
    planned: int
    done: int
    executor: str
    workers: int
    concurrency: int


@dataclass(frozen=True)
class RolloutStarted:
    """A rollout begins.

    Attributes:
        attempt: 1 for the first time in this run.
        worker: Which worker has it.
        addresses: Service name to the address that it was given, of services elsewhere.
    """

    scene: str
    seed: int
    attempt: int
    worker: str
    addresses: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RolloutEnded:
    """A rollout ended.

    Attributes:
        attempt: See `RolloutStarted`.
        retry_in_s: When it will be tried again, if it will; its result is then not kept.
    """

    result: RolloutResult
    attempt: int
    worker: str
    retry_in_s: float | None = None


@dataclass(frozen=True)
class WorkerLost:
    """A worker process ended by itself, or was killed because it hung; another takes its place.

    Attributes:
        rollouts: ``<scene>/<seed>`` of those that it had.
    """

    worker: str
    why: str
    rollouts: tuple[str, ...]


@dataclass(frozen=True)
class ServiceLoad:
    """How busy one address of a service is, since the run's start.

    Attributes:
        service: "policy", "renderer", ...
        address: Where it is; empty in the workers' own processes.
        calls: Calls answered.
        busy_s: Time in which at least one call was on its way.
        waiting_s: Time that rollouts waited for answers, over all rollouts.
        queueing_s: Time in which a rollout was queued and the service had no free session, at
            whichever address.
        sessions: Sessions at present; `limit` of them may be, None for any number.
        avoided: Whether it lately failed and gets no rollouts for now.
        longest_s: The longest call.
    """

    service: str
    address: str
    calls: int
    busy_s: float
    waiting_s: float
    queueing_s: float
    sessions: int
    limit: int | None
    avoided: bool = False
    longest_s: float = 0.0


@dataclass(frozen=True)
class WorkerLoad:
    """How busy a worker is.

    Attributes:
        running: Rollouts that it has.
        lag_ms: The longest that its event loop was late since the last time.
        loop_s: CPU time of its event loop's thread since its start.
        cpu_s: CPU time of all its threads since then.
    """

    worker: str
    running: int
    lag_ms: float
    memory_mib: float
    loop_s: float
    cpu_s: float


@dataclass(frozen=True)
class Progress:
    """Where a run stands; told about once a second and at every change of state.

    Attributes:
        state: One of `STATES`.
        done: Rollouts with a result, those of before included.
        outcomes: How many by outcome, of this run.
        in_flight: Rollouts that are simulated now.
        retries: Attempts made again so far.
        elapsed_s: Since the run's start.
        left_s: How long the rest may take by the pace so far; None if not known.
        lag_ms: The longest that the event loops were late since the last time.
        memory_mib: Resident memory of run and workers.
        services: See `ServiceLoad`.
        workers: See `WorkerLoad`.
        slots: Rollouts at once that concurrency, workers and sessions allow.
        cores: Cores that this machine has for the workers; None if they are elsewhere.
        queueing_s: Time in which a rollout was queued and could not begin, by what was full:
            "concurrency", services and "worker", joined by "+".
    """

    state: str
    planned: int
    done: int
    outcomes: Mapping[str, int]
    in_flight: int
    queued: int
    retries: int
    concurrency: int
    elapsed_s: float
    left_s: float | None
    lag_ms: float
    memory_mib: float
    services: tuple[ServiceLoad, ...] = ()
    workers: tuple[WorkerLoad, ...] = ()
    slots: int = 1
    cores: int | None = None
    queueing_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunEnded:
    """A run ends.

    Attributes:
        state: "completed", "cancelled" or "failed".
        what: Why, if it failed.
    """

    state: str
    what: str = ""


Event = RunStarted | RolloutStarted | RolloutEnded | WorkerLost | Progress | RunEnded


class Listener(Protocol):
    """Is told of a run's events."""

    def tell(self, event: Event) -> None:
        """Take note of an event; returns at once and raises nothing."""
        ...


class Control(Protocol):
    """What a run can be told while it goes; may be called from any thread."""

    def pause(self) -> None:
        """Begin no rollout; those that are under way go on to their ends."""
        ...

    def resume(self) -> None:
        """Begin rollouts again."""
        ...

    def cancel(self) -> None:
        """Begin no rollout and end those that are under way; what is done stays."""
        ...

    def set_concurrency(self, rollouts: int) -> None:
        """Have so many rollouts at once, as far as services allow.

        Raises:
            ConfigError: fewer than 1.
        """
        ...
