"""Runs as a board shows them: messages in, rows out; nothing here waits or reads."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from omniloop.live.schema import (
    ENDS,
    AckMessage,
    IncidentMessage,
    ProgressMessage,
    RolloutMessage,
    ServicesMessage,
    SnapshotMessage,
    StatusMessage,
    WorkerMessage,
    decode,
)

LARGEST_BYTES = 1 << 20
_KEPT = 30
_SILENT_S = 30.0
_SINGLE = ("status", "progress", "incident", "services", "worker", "ack", "command")


@dataclass(frozen=True)
class Note:
    """Something that a watcher wants to know: an incident, a failure, a lost worker.

    Attributes:
        kind: "incident", "failure" or "worker".
        text: What happened, one line.
        sequence: Grows over all rows of a name, so that a reader tells what it has seen.
    """

    kind: str
    text: str
    sequence: int


@dataclass(frozen=True)
class Load:
    """How busy one address of a service is.

    Attributes:
        busy: Share of the time with a call under way, lately; None if not known.
        call_ms: Mean of what a call took.
    """

    service: str
    address: str
    calls: int
    busy: float | None
    call_ms: float | None
    queueing_s: float
    sessions: int
    limit: int | None
    avoided: bool


@dataclass(frozen=True)
class Row:
    """A run as it is shown; what is not known is None.

    Attributes:
        state: One of the states of `omniloop.live.schema.State`, or "unknown".
        left_s: How long the rest may take.
        silent_s: Since it was last heard of, if that is long.
        where: Its folder, with the machine's name.
        instance: Which of the runs of its name it is; empty of a run seen by its folder.
        shared: Whether the board shows others of its name.
    """

    name: str
    state: str
    what: str = ""
    planned: int | None = None
    done: int | None = None
    outcomes: dict[str, int] = field(default_factory=dict)
    in_flight: int | None = None
    queued: int | None = None
    retries: int | None = None
    concurrency: int | None = None
    workers: int | None = None
    elapsed_s: float | None = None
    left_s: float | None = None
    lag_ms: float | None = None
    memory_mib: float | None = None
    dropped: int = 0
    silent_s: float | None = None
    where: str = ""
    services: tuple[Load, ...] = ()
    notes: tuple[Note, ...] = ()
    instance: str = ""
    shared: bool = False

    @property
    def label(self) -> str:
        """The name, and what tells the run from others of that name."""
        return f"{self.name} ({self.instance})" if self.shared else self.name

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come of it."""
        return self.state in ENDS

    def document(self) -> dict[str, Any]:
        """The row as JSON takes it."""
        return asdict(self)


class RunView:
    """What is known of one run from its messages.

    Args:
        count: Numbers for its notes.
    """

    def __init__(self, name: str, count: Iterator[int] | None = None) -> None:
        self.name = name
        self._status: StatusMessage | None = None
        self._progress: ProgressMessage | None = None
        self._services: tuple[ServicesMessage | None, ServicesMessage | None] = (None, None)
        self._notes: deque[Note] = deque(maxlen=_KEPT)
        self._count = itertools.count(1) if count is None else count
        self._seen: deque[tuple[str, int]] = deque(maxlen=1_000)
        self._heard_s = 0.0

    @property
    def ended(self) -> bool:
        """Whether it said, or the broker did, that nothing more is to come."""
        return self._status is not None and self._status.state in ENDS

    @property
    def place(self) -> tuple[str, str] | None:
        """Machine and folder, once they are known."""
        return (self._status.host, self._status.run_dir) if self._status else None

    @property
    def namesakes(self) -> tuple[str, ...]:
        """Instances of the runs of its name that it said go on, too."""
        return () if self._status is None or self.ended else self._status.namesakes

    def begin_again(self) -> None:
        """Forget all but what was notable: another start of the run is told from now on."""
        self._status, self._progress, self._services = None, None, (None, None)

    def take(self, message: Any, now_s: float) -> None:
        """Take note of a message of this run.

        Args:
            now_s: A clock that only grows, the same for all calls.
        """
        self._heard_s = now_s
        if isinstance(message, SnapshotMessage):
            for part in (message.status, message.progress, message.services, *message.latest):
                if part is not None:
                    self.take(part, now_s)
        elif isinstance(message, StatusMessage):
            if self._progress and self._progress.instance != message.instance:
                self._progress, self._services = None, (None, None)
            before = self._status
            if message.state == "lost" and before and before.instance == message.instance:
                if before.state in ENDS:
                    return  # it ended well; its will came late
                kept = {"done": before.done, "outcomes": before.outcomes, "dropped": before.dropped}
                message = message.model_copy(update=kept)
            self._status = message
        elif isinstance(message, ProgressMessage):
            self._progress = message
        elif isinstance(message, ServicesMessage):
            last = self._services[1]
            if last is None or message.elapsed_s > last.elapsed_s:
                self._services = (last, message)
            elif message.instance != last.instance:
                self._services = (None, message)
        elif isinstance(message, RolloutMessage | IncidentMessage | WorkerMessage):
            self._note(message)

    def _note(self, message: RolloutMessage | IncidentMessage | WorkerMessage) -> None:
        key = (message.instance, message.sequence)
        if key in self._seen:  # delivered twice
            return
        self._seen.append(key)
        told = note_of(message)
        if told is not None:
            self.note(*told)

    def note(self, kind: str, text: str) -> None:
        """Add a note."""
        self._notes.append(Note(kind, clean(text), next(self._count)))

    def row(self, now_s: float) -> Row:
        """The run as it is shown."""
        status, progress = self._status, self._progress
        # The status is retained, but only as new as the last change; of both the newer counts.
        newer = progress if progress and (not status or _after(progress, status)) else status
        state = newer.state if newer else "unknown"
        if status and status.state in ENDS:
            state = status.state
        silent_s = now_s - self._heard_s
        done = newer.done if newer else None
        outcomes = newer.outcomes if newer else None
        if done is None and progress:
            done, outcomes = progress.done, progress.outcomes
        ended = state in ENDS
        return Row(
            name=clean(self.name),
            state=state,
            what=clean(status.what) if status else "",
            planned=newer.planned if newer else None,
            done=done,
            outcomes={str(key): n for key, n in (outcomes or {}).items()},
            in_flight=0 if ended else progress.in_flight if progress else None,
            queued=progress.queued if progress else None,
            retries=progress.retries if progress else None,
            concurrency=newer.concurrency if newer else None,
            workers=status.workers if status else None,
            elapsed_s=progress.elapsed_s if progress else None,
            left_s=None if ended or not progress else progress.left_s,
            lag_ms=progress.lag_ms if progress else None,
            memory_mib=progress.memory_mib if progress else None,
            dropped=status.dropped if status else 0,
            silent_s=None if ended or silent_s < _SILENT_S else silent_s,
            where=clean(f"{status.host}:{status.run_dir}") if status else "",
            services=_loads(*self._services),
            notes=tuple(self._notes),
        )


class _Name:
    """The runs that are told by one name: one, unless a name was chosen twice."""

    def __init__(self) -> None:
        self._views: dict[str, RunView] = {}  # by instance
        self._count = itertools.count(1)

    def take(self, message: Any, now_s: float) -> None:
        """Take note of a message of one of them."""
        view = self._views.get(message.instance)
        if view is None:
            will = isinstance(message, StatusMessage) and message.state == "lost"
            if will and not all(other.ended for other in self._views.values()):
                return  # it comes late, of a start in whose place another is
            view = self._taken_up(message) or RunView(message.run, self._count)
            self._views[message.instance] = view
        view.take(message, now_s)

    def rows(self, now_s: float) -> list[Row]:
        """Their rows."""
        shared = len(self._views) > 1
        return [
            replace(view.row(now_s), instance=clean(instance), shared=shared)
            for instance, view in self._views.items()
        ]

    def awaits(self) -> bool:
        """Whether one of them said that there is another, of which nothing was heard so far."""
        views = self._views
        return any(name not in views for view in views.values() for name in view.namesakes)

    def _taken_up(self, message: Any) -> RunView | None:
        """The run that ended, or that is of the same folder, and that this start goes on with."""
        place = (message.host, message.run_dir) if isinstance(message, StatusMessage) else ("", "")
        for instance, view in self._views.items():
            if view.ended or view.place == place:
                del self._views[instance]
                view.begin_again()
                return view
        return None


class Board:
    """All runs under a prefix.

    Attributes:
        ignored: Messages that are none of the schema.
        why: What is wrong with the last of them.
    """

    def __init__(self, prefix: str) -> None:
        self.ignored = 0
        self.why = ""
        self._levels = prefix.split("/")
        self._names: dict[str, _Name] = {}

    def take(self, topic: str, payload: bytes, now_s: float) -> None:
        """Take note of what a broker delivered, whatever it is."""
        levels = topic.split("/")
        if levels[: len(self._levels)] != self._levels:
            return
        rest = levels[len(self._levels) :]
        rollout = len(rest) == 4 and rest[1] == "rollout"
        if not rollout and not (len(rest) == 2 and rest[1] in _SINGLE):
            return  # a prefix may have other users
        if rest[1] in ("command", "ack"):
            return
        if not payload:  # how a retained status is removed
            if rest[1] == "status":
                self._names.pop(rest[0], None)
            return
        if len(payload) > LARGEST_BYTES:
            self._ignore(topic, f"{len(payload)} bytes")
            return
        try:
            message = decode(payload)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            self._ignore(topic, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
            return
        if isinstance(message, AckMessage | SnapshotMessage) or message.kind != rest[1]:
            self._ignore(topic, f"a message of kind '{message.kind}'")
            return
        self._names.setdefault(rest[0], _Name()).take(message, now_s)

    def rows(self, now_s: float) -> list[Row]:
        """All runs: those that go on first, then by name."""
        return in_order(row for name in self._names.values() for row in name.rows(now_s))

    def awaits(self) -> bool:
        """Whether a run is said to go on of which nothing was heard so far."""
        return any(name.awaits() for name in self._names.values())

    def _ignore(self, topic: str, why: str) -> None:
        self.ignored += 1
        self.why = clean(f"{topic}: {why}")


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows as they are shown: runs that go on first, then by name."""
    return sorted(rows, key=lambda row: (row.ended, row.name, row.instance))


def note_of(message: RolloutMessage | IncidentMessage | WorkerMessage) -> tuple[str, str] | None:
    """Kind and text of the note that a message is worth, if it is."""
    if isinstance(message, WorkerMessage):
        had = f", it had {', '.join(message.rollouts)}" if message.rollouts else ""
        return "worker", f"worker {message.worker} lost: {message.why}{had}"
    name = f"{message.scene}/{message.seed}"
    if isinstance(message, IncidentMessage):
        after = message.after_handover_s
        return "incident", incident_text(
            name, message.label, message.facts, after, message.at_fault
        )
    if message.outcome == "completed":
        return None
    again = "" if message.retry_in_s is None else f", again in {message.retry_in_s:.0f} s"
    what = message.error.what if message.error else ""
    return "failure", f"{name}: {message.outcome}, attempt {message.attempt}{again}: {what}"


def incident_text(name: str, label: str, facts: str, after_s: float | None, fault: bool) -> str:
    """An incident in a line."""
    when = "" if after_s is None else f" {after_s:.1f} s after handover"
    whose = ", at fault" if fault else ""
    return f"{name}:{when} {label} ({facts}{whose})"


def clean(text: str) -> str:
    """Text that does nothing to a terminal: control characters become a replacement."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _after(progress: ProgressMessage, status: StatusMessage) -> bool:
    return progress.instance == status.instance and progress.sequence > status.sequence


def _loads(before: ServicesMessage | None, now: ServicesMessage | None) -> tuple[Load, ...]:
    if now is None:
        return ()
    earlier = {(s.service, s.address): s for s in before.services} if before else {}
    passed_s = now.elapsed_s - (before.elapsed_s if before else 0.0)
    loads = []
    for times in now.services:
        past = earlier.get((times.service, times.address))
        busy_s = times.busy_s - (past.busy_s if past else 0.0)
        calls = times.calls - (past.calls if past else 0)
        waited_s = times.waiting_s - (past.waiting_s if past else 0.0)
        loads.append(
            Load(
                service=clean(times.service),
                address=clean(times.address),
                calls=times.calls,
                busy=min(busy_s / passed_s, 1.0) if passed_s > 0 else None,
                call_ms=1e3 * waited_s / calls if calls > 0 else None,
                queueing_s=times.queueing_s,
                sessions=times.sessions,
                limit=times.limit,
                avoided=times.avoided,
            )
        )
    return tuple(loads)
