"""``budget.json``: where the time of a run went, one entry for each time it was at work.

Schema ``omniloop-budget``, version 1; ``docs/time_budget.md`` says what each number means. It is
written beside the results and holds wall-clock times: nothing that is simulated depends on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from omniloop.core.errors import RunFolderError
from omniloop.runlog.files import usable, write_atomic

SCHEMA = "omniloop-budget"
VERSION = 1
BUDGET_NAME = "budget.json"

_REMEDY = "remove it; only times are lost"


@dataclass(frozen=True)
class AddressTimes:
    """One address of a service.

    Attributes:
        address: Where it is; empty in the workers' own processes.
        calls: Calls that ended.
        busy_s: Time with at least one call on its way; of several workers the longest that one saw.
        waiting_s: Time that rollouts waited for its answers, over all rollouts.
        longest_s: The longest call.
        limit: Sessions at once; None for any number.
    """

    service: str
    address: str
    calls: int
    busy_s: float
    waiting_s: float
    longest_s: float
    limit: int | None


@dataclass(frozen=True)
class MethodTimes:
    """One method of a service, over the rollouts that ended."""

    service: str
    method: str
    calls: int
    total_s: float
    longest_s: float


@dataclass(frozen=True)
class WorkerTimes:
    """One worker.

    Attributes:
        loop_s: CPU time of its event loop's thread.
        cpu_s: CPU time of all its threads.
        lag_ms: The longest that its event loop was late.
        memory_mib: Its highest resident memory.
    """

    worker: str
    loop_s: float
    cpu_s: float
    lag_ms: float
    memory_mib: float


@dataclass(frozen=True)
class Efficiency:
    """How near the run was to the least time that it could have taken.

    Attributes:
        at_most: The largest of `terms_s` over the wall time; None if it is not known.
        reason: Why it is not.
        terms_s: What no run with these services, workers and places can go below, by its reason.
        bottleneck: What held the run up, in words.
    """

    at_most: float | None
    reason: str
    terms_s: Mapping[str, float]
    bottleneck: str


@dataclass(frozen=True)
class Sitting:
    """A run at work, from its start or its being taken up to its end.

    Attributes:
        started: UTC, ISO 8601.
        state: "running" until it ends; one that was killed stays so.
        rollouts: Attempts that ended, those that are tried again included.
        outcomes: How many by outcome, of those that are kept.
        slots: Rollouts that could be simulated at once, on average.
        slots_filled: Share of their time in which they were taken; None if not known.
        queueing_s: Time in which a rollout was queued and could not begin, by what was full.
        lag_p99_ms: In 99 of 100 seconds no event loop was later than this.
        lag_longest_ms: The longest that an event loop was late.
        memory_mib: Highest resident memory of run and workers together.
        run_memory_mib: Of the run's own process, in which the rollouts are if there is no other.
        worker_memory_mib: Of a worker process; None if there is none.
    """

    started: str
    state: str
    executor: str
    worker_count: int
    wall_s: float
    rollouts: int
    retries: int
    slots: float
    slots_filled: float | None
    lag_longest_ms: float
    lag_p99_ms: float
    memory_mib: float
    run_memory_mib: float
    worker_memory_mib: float | None
    efficiency: Efficiency
    outcomes: Mapping[str, int] = field(default_factory=dict)
    queueing_s: Mapping[str, float] = field(default_factory=dict)
    services: tuple[AddressTimes, ...] = ()
    methods: tuple[MethodTimes, ...] = ()
    workers: tuple[WorkerTimes, ...] = ()


_SITTINGS = TypeAdapter(tuple[Sitting, ...])


def write_budget(run_dir: Path, sittings: Sequence[Sitting]) -> Path:
    """Write a run's ``budget.json`` atomically; return its path.

    Raises:
        RunFolderError: it cannot be written.
    """
    document = {"schema": SCHEMA, "version": VERSION, "sittings": [asdict(s) for s in sittings]}
    path = run_dir / BUDGET_NAME
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(path, (text + "\n").encode("utf-8", "backslashreplace"))
    return path


def read_budget(run_dir: Path) -> tuple[Sitting, ...] | None:
    """Read a run's sittings, in order; None if it has no ``budget.json``.

    Raises:
        RunFolderError: it cannot be read, or is not valid.
    """
    path = run_dir / BUDGET_NAME
    if not path.exists():
        return None
    with usable(path, "read", _REMEDY):
        data = path.read_bytes()
    try:
        document = json.loads(data)
        if (document["schema"], document["version"]) != (SCHEMA, VERSION):
            what = f"{document['schema']!r:.40} version {document['version']!r:.20}"
            raise ValueError(f"it is {what}, not '{SCHEMA}' version {VERSION}")
        return _SITTINGS.validate_python(document["sittings"])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        fault = f"sittings.{place}: {first['msg']}"
    except (ValueError, KeyError, TypeError) as error:
        fault = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
    raise RunFolderError(f"{BUDGET_NAME} is not valid: {fault}", where=str(path), remedy=_REMEDY)
