"""A run's events put into messages."""

from __future__ import annotations

import math
import os
import secrets
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from omniloop.live.events import (
    Event,
    Progress,
    RolloutEnded,
    RolloutStarted,
    RunEnded,
    RunStarted,
    WorkerLost,
)
from omniloop.live.schema import (
    ENDS,
    LONGEST_TEXT,
    AckMessage,
    Fault,
    IncidentMessage,
    InFlight,
    Notable,
    Outcome,
    Outcomes,
    ProgressMessage,
    RolloutMessage,
    ServicesMessage,
    ServiceTimes,
    SnapshotMessage,
    State,
    StatusMessage,
    WorkerMessage,
)
from omniloop.report.incidents import incidents_from_metrics
from omniloop.report.summary import KEY_COLUMNS
from omniloop.runlog.results import RolloutResult

SCORES = (*(column.name for column in KEY_COLUMNS), "nuplan_cls", "alpasim_scene_score")
"""Scores that a rollout's message holds."""

_MOST_RUNNING = 16


class Telling:
    """What is known of a run from its events; of one thread.

    Attributes:
        instance: See `omniloop.live.schema`.
        started: The run's start; None before it is told.
        dropped: Messages given up so far; whoever gives them up counts.
        cpu_s: CPU time that telling them has taken.
        namesakes: Instances of the other runs of this name, as far as is known.
    """

    def __init__(self) -> None:
        self.started: RunStarted | None = None
        self.dropped = 0
        self.cpu_s = 0.0
        self.namesakes: tuple[str, ...] = ()
        self._state: State = "running"
        self._what = ""
        self._progress: Progress | None = None
        self._running: dict[tuple[str, int], tuple[RolloutStarted, float]] = {}
        self._sequence = 0
        self.instance = secrets.token_hex(8)
        self._began = _now()
        self._host = socket.gethostname()
        self._run_dir = ""

    @property
    def state(self) -> State:
        """What the run does."""
        return self._state

    @property
    def place(self) -> tuple[str, str]:
        """The machine and the run's folder."""
        return self._host, self._run_dir

    @property
    def concurrency(self) -> int:
        """Rollouts at once, over all workers."""
        return self._progress.concurrency if self._progress else self._start().concurrency

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come."""
        return self._state in ENDS

    def take(self, event: Event) -> list[Notable]:
        """Take note of an event; return the messages that are about it alone."""
        if isinstance(event, RunStarted):
            self.started, self._state = event, "running"
            self._run_dir = os.path.abspath(event.run_dir)
        elif isinstance(event, Progress):
            self._progress = event
            if not self.ended:
                self._state = _state(event.state)
        elif isinstance(event, RunEnded):
            self._state, self._what = _state(event.state), _short(event.what)
            self._running.clear()
        elif isinstance(event, RolloutStarted):
            self._running[event.scene, event.seed] = (event, time.monotonic())
        elif isinstance(event, RolloutEnded):
            self._running.pop(event.result.key, None)
            return self._rollout(event)
        elif isinstance(event, WorkerLost):
            for name in event.rollouts:
                scene, _, seed = name.rpartition("/")
                if seed.isdecimal():
                    self._running.pop((scene, int(seed)), None)
            return [
                WorkerMessage(
                    **self._head(), worker=event.worker, why=_short(event.why),
                    rollouts=list(event.rollouts),
                )
            ]  # fmt: skip
        return []

    def end(self, what: str) -> None:
        """Have it lost, if its end was not told."""
        if not self.ended:
            self._state, self._what = "lost", what

    def status(self) -> StatusMessage:
        """The run's status now."""
        progress, began = self._progress, self._start()
        return StatusMessage(
            **self._about(), state=self._state, what=self._what, dropped=self.dropped,
            publisher_cpu_s=round(self.cpu_s, 4), namesakes=self.namesakes,
            done=progress.done if progress else began.done,
            outcomes=_counts(progress.outcomes) if progress else {},
            concurrency=self.concurrency,
        )  # fmt: skip

    def lost(self) -> StatusMessage:
        """The status that a broker tells once it no longer hears of this process."""
        return StatusMessage(
            **self._about(), state="lost", done=None, outcomes=None,
            what="the process that ran it is gone or cannot be reached",
            concurrency=self.concurrency,
        )  # fmt: skip

    def progress(self) -> ProgressMessage | None:
        """The newest progress, if any was told."""
        told = self._progress
        if told is None:
            return None
        now = time.monotonic()
        oldest = sorted(self._running.values(), key=lambda item: item[1])[:_MOST_RUNNING]
        running = [
            InFlight(
                scene=event.scene, seed=event.seed, attempt=event.attempt, worker=event.worker,
                for_s=round(now - since, 1),
            )
            for event, since in oldest
        ]  # fmt: skip
        return ProgressMessage(
            **self._head(), state=self._state, planned=told.planned, done=told.done,
            outcomes=_counts(told.outcomes), in_flight=told.in_flight, queued=told.queued,
            retries=told.retries, concurrency=told.concurrency, elapsed_s=round(told.elapsed_s, 3),
            left_s=_finite(told.left_s), lag_ms=round(told.lag_ms, 3),
            memory_mib=round(told.memory_mib, 1), running=running,
        )  # fmt: skip

    def services(self) -> ServicesMessage | None:
        """The newest timings of services, if any were told."""
        if self._progress is None or not self._progress.services:
            return None
        loads = [
            ServiceTimes(
                service=load.service, address=load.address, calls=load.calls,
                busy_s=round(load.busy_s, 3), waiting_s=round(load.waiting_s, 3),
                queueing_s=round(load.queueing_s, 3), sessions=load.sessions, limit=load.limit,
                avoided=load.avoided,
            )
            for load in self._progress.services
        ]  # fmt: skip
        elapsed_s = round(self._progress.elapsed_s, 3)
        return ServicesMessage(**self._head(), elapsed_s=elapsed_s, services=loads)

    def ack(self, id: str | None, ok: bool, what: str) -> AckMessage:
        """What became of a command."""
        return AckMessage(**self._head(), id=id, ok=ok, what=_short(what))

    def snapshot(self, latest: list[Notable]) -> SnapshotMessage:
        """All of it as one document."""
        return SnapshotMessage(
            **self._head(), status=self.status(), progress=self.progress(),
            services=self.services(), latest=latest,
        )  # fmt: skip

    def _rollout(self, event: RolloutEnded) -> list[Notable]:
        result = event.result
        kept = event.retry_in_s is None
        incidents = self._incidents(result) if kept else []
        fault = {key: _short(str(value)) for key, value in (result.error or {}).items()}
        names = ("type", "what", "where", "remedy")
        rollout = RolloutMessage(
            **self._head(), scene=result.scene, seed=result.seed, outcome=_outcome(result.outcome),
            error=Fault(**{name: fault.get(name, "") for name in names}) if result.error else None,
            scores={n: _finite(result.metrics[n].value) for n in SCORES if n in result.metrics},
            attempt=event.attempt, worker=event.worker, retry_in_s=_finite(event.retry_in_s),
            wall_s=_finite(result.timings.get("wall_s")), incidents=len(incidents),
        )  # fmt: skip
        return [rollout, *incidents]

    def _incidents(self, result: RolloutResult) -> list[IncidentMessage]:
        handover_us = result.handover_us
        return [
            IncidentMessage(
                **self._head(), scene=result.scene, seed=result.seed,
                type="collision" if found.kind == "collision" else "offroad",
                label=found.label, facts=_short(found.facts), start_us=found.start_us,
                end_us=found.end_us, at_fault=found.at_fault,
                after_handover_s=None if handover_us is None
                else round((found.start_us - handover_us) / 1e6, 6),
            )
            for found in incidents_from_metrics(result.metrics)
        ]  # fmt: skip

    def _head(self) -> dict[str, Any]:
        self._sequence += 1
        return {
            "run": self._start().run,
            "instance": self.instance,
            "sequence": self._sequence,
            "sent": _now(),
        }

    def _about(self) -> dict[str, Any]:
        began = self._start()
        return {
            **self._head(), "planned": began.planned, "executor": began.executor,
            "workers": began.workers, "run_dir": self._run_dir, "host": self._host,
            "process": os.getpid(), "started": self._began,
        }  # fmt: skip

    def _start(self) -> RunStarted:
        assert self.started is not None, "a run's start is told first"
        return self.started


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _counts(outcomes: Mapping[str, int]) -> Outcomes:
    return cast(Outcomes, dict(outcomes))


def _state(state: str) -> State:
    return cast(State, state)  # messages check it


def _outcome(outcome: str) -> Outcome:
    return cast(Outcome, outcome)  # messages check it
