"""What a run can be told while it goes, from any thread; and what it tells of itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping

from omniloop.core.errors import ConfigError
from omniloop.live.events import Progress, ServiceLoad, WorkerLoad
from omniloop.runner.batch.engine import Batch, Request
from omniloop.runner.batch.executor import limits_of
from omniloop.runner.batch.machine import cores, resident_mib
from omniloop.runner.batch.rollouts import Beat, ServiceUse
from omniloop.runner.batch.sizing import is_memory_short


class RunControl:
    """Pauses, goes on with, or ends the one request of a run; see `omniloop.live.events.Control`.

    Attributes:
        state: What the run is doing.
    """

    def __init__(self, batch: Batch, request: Request, concurrency: int) -> None:
        self.state = "running"
        self.concurrency = concurrency
        self._batch = batch
        self._request = request
        self._loop = asyncio.get_running_loop()

    def pause(self) -> None:
        """See `omniloop.live.events.Control`."""
        self._soon(self._pause)

    def resume(self) -> None:
        """See `omniloop.live.events.Control`."""
        self._soon(self._resume)

    def cancel(self) -> None:
        """See `omniloop.live.events.Control`."""
        self._soon(self._cancel)

    def set_concurrency(self, rollouts: int) -> None:
        """See `omniloop.live.events.Control`."""
        if isinstance(rollouts, bool) or not isinstance(rollouts, int) or rollouts < 1:
            raise ConfigError(f"concurrency is {rollouts!r}", remedy="give 1 or more")
        self._soon(lambda: self._set(rollouts))

    def mind_memory(self) -> None:
        """Begin nothing more while memory is short; one rollout always may run."""
        mind_memory(self._batch, self.concurrency)

    def _soon(self, do: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(do)

    def _pause(self) -> None:
        if self.state == "running":
            self.state = "paused"
            self._batch.scheduler.pause()

    def _resume(self) -> None:
        if self.state == "paused":
            self.state = "running"
            self._batch.scheduler.resume()
            self._batch.poke()

    def _cancel(self) -> None:
        self.state = "cancelling"
        self._batch.cancel(self._request)

    def _set(self, rollouts: int) -> None:
        self.concurrency = rollouts
        self._batch.scheduler.set_concurrency(rollouts)
        self._batch.poke()


def mind_memory(batch: Batch, concurrency: int) -> None:
    """Begin nothing more while memory is short; one rollout always may run."""
    scheduler = batch.scheduler
    cap = max(scheduler.in_flight, 1) if is_memory_short() else concurrency
    if scheduler.concurrency != min(cap, concurrency):
        scheduler.set_concurrency(min(cap, concurrency))
        batch.poke()


def failing(batch: Batch, request: Request) -> str:
    """Services elsewhere of which every address is avoided, in words; empty if there is none."""
    states = batch.scheduler.addresses()
    found = []
    for service, limits in limits_of(request.source).items():
        here = [s for s in states if s.service == service and s.address in limits]
        if here and all(s.until_s is not None for s in here):
            found.append(f"{service} at {', '.join(s.address for s in here)}")
    return " and ".join(found)


def progress_of(batch: Batch, request: Request, control: RunControl, done_before: int) -> Progress:
    """Where a run stands."""
    now_s = time.monotonic()
    elapsed_s = now_s - request.started_s
    beats = batch.executor.beats()
    done = request.outcomes.total()
    rest = len(request.jobs) - done
    return Progress(
        state=control.state,
        planned=done_before + len(request.jobs),
        done=done_before + done,
        outcomes=dict(sorted(request.outcomes.items())),
        in_flight=batch.scheduler.in_flight,
        queued=batch.scheduler.queued,
        retries=request.retries,
        concurrency=control.concurrency,
        elapsed_s=round(elapsed_s, 3),
        left_s=round(rest * elapsed_s / done, 1) if done else None,
        lag_ms=max((beat.lag_ms for beat in beats.values()), default=0.0),
        memory_mib=round(
            resident_mib()
            + sum(b.memory_mib for b in beats.values()) * (batch.executor.kind != "inline"),
            1,
        ),
        services=tuple(service_loads(batch, request, beats)),
        workers=tuple(
            WorkerLoad(name, b.running, b.lag_ms, b.memory_mib, b.loop_s, b.cpu_s)
            for name, b in sorted(beats.items())
        ),
        slots=slots_of(batch, request, control.concurrency),
        cores=None if batch.executor.kind == "ray" else cores(),
        queueing_s={k: round(s, 3) for k, s in sorted(batch.scheduler.queueing_s.items())},
    )


def slots_of(batch: Batch, request: Request, concurrency: int) -> int:
    """Rollouts at once that concurrency, workers and sessions of services allow."""
    allowed = [concurrency, sum(w.limit for w in batch.scheduler.workers() if not w.leaving)]
    for limits in limits_of(request.source).values():
        sessions = [limit for limit in limits.values() if limit is not None]
        if len(sessions) == len(limits):
            allowed.append(sum(sessions))
    return max(min(allowed), 1)


def service_loads(
    batch: Batch, request: Request, beats: Mapping[str, Beat]
) -> Iterator[ServiceLoad]:
    """How busy each service is at each of its addresses, over all workers.

    Busy time of an address is the longest that any one worker saw: what several see overlaps.
    """
    used: dict[tuple[str, str], list[ServiceUse]] = {}
    for beat in beats.values():
        for use in beat.services:
            used.setdefault((use.service, use.address), []).append(use)
    elsewhere = limits_of(request.source)
    states = {(s.service, s.address): s for s in batch.scheduler.addresses()}
    places = set(used) | {k for k in states if k[0] in elsewhere}
    for service, address in sorted(places):
        uses, state = used.get((service, address), []), states.get((service, address))
        yield ServiceLoad(
            service=service,
            address=address,
            calls=sum(use.calls for use in uses),
            busy_s=round(max((use.busy_s for use in uses), default=0.0), 3),
            waiting_s=round(sum(use.waiting_s for use in uses), 3),
            queueing_s=round(_queueing_s(batch, service), 3) if state is not None else 0.0,
            sessions=batch.scheduler.in_flight if state is None else state.sessions,
            limit=None if state is None else state.limit,
            avoided=state is not None and state.until_s is not None,
            longest_s=round(max((use.longest_s for use in uses), default=0.0), 6),
        )


def _queueing_s(batch: Batch, service: str) -> float:
    """Time in which rollouts waited for a session of a service, whatever else they waited for."""
    waited = batch.scheduler.queueing_s.items()
    return sum(seconds for what, seconds in waited if service in what.split("+"))
