"""What a run says over MQTT and in ``status.json``: topics and JSON documents.

Schema ``omniloop-live``, version 1; ``docs/live.md`` describes every topic and key. Within a
version keys may be added: who reads ignores those that it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import PydanticSerializationError

SCHEMA = "omniloop-live"
VERSION = 1

LONGEST_TEXT = 2_000
"""Characters of a text of a message; a broker may refuse messages that are large."""

# What MQTT 3.1.1 (sections 1.5.3 and 4.7) gives a meaning or refuses is not in here, nor is
# anything outside ASCII: of that, brokers refuse different parts.
_PLAIN = " !\"$&'()*,:;<=>?@[\\]^`{|}~"

State = Literal["running", "paused", "cancelling", "completed", "cancelled", "failed", "lost"]
Outcome = Literal["completed", "policy_failed", "infrastructure_failed"]
Outcomes = dict[Outcome, int]
ENDS = ("completed", "cancelled", "failed", "lost")
"""States of a run that does nothing any more."""


def to_level(name: str) -> str:
    """A name as one level of a topic: ``+``, ``#``, ``/``, ``%`` and the like percent-encoded."""
    return quote(name, safe=_PLAIN, errors="surrogatepass")


def from_level(level: str) -> str:
    """The name that `to_level` made a level of."""
    return unquote(level, errors="replace")


def topic(prefix: str, run: str, *levels: str) -> str:
    """``<prefix>/<run>/<levels>``, names encoded; the prefix is taken as it is."""
    return "/".join([prefix, *(to_level(level) for level in (run, *levels))])


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Message(_Part):
    """What every message begins with.

    Attributes:
        run: The run's name.
        instance: Random letters of the process that publishes; another one after a resume.
        sequence: Counts what an instance says, from 1; a number that comes twice is the same
            message delivered twice.
        sent: UTC time at which it was made, ISO 8601.
    """

    schema_: Literal["omniloop-live"] = Field(default="omniloop-live", alias="schema")
    version: Literal[1] = 1
    run: str
    instance: str
    sequence: int
    sent: str


class StatusMessage(_Message):
    """``<prefix>/<run>/status``, retained: what the run is and what it does.

    Attributes:
        done: Rollouts with a result, those of an earlier start included; null if "lost".
        outcomes: How many by outcome since this start; null if "lost".
        what: Why it failed or is lost.
        run_dir: The folder's absolute path on `host`.
        publisher_cpu_s: What publishing has cost so far.
        dropped: Rollout, incident and worker messages given up since the broker was away too long.
        namesakes: Instances of other runs that go on under this name, up to 8: the broker
            retains the status of only one of them.
    """

    kind: Literal["status"] = "status"
    state: State
    planned: int
    done: int | None
    outcomes: Outcomes | None
    executor: str
    workers: int
    concurrency: int
    run_dir: str
    host: str
    process: int
    started: str
    what: str = ""
    dropped: int = 0
    publisher_cpu_s: float = 0.0
    namesakes: tuple[str, ...] = ()


class InFlight(_Part):
    """A rollout that is simulated now, and for how long."""

    scene: str
    seed: int
    attempt: int
    worker: str
    for_s: float


class ProgressMessage(_Message):
    """``<prefix>/<run>/progress``: where the run stands, about once a second.

    Attributes:
        running: Up to 16 rollouts in flight, the longest first.
    """

    kind: Literal["progress"] = "progress"
    state: State
    planned: int
    done: int
    outcomes: Outcomes
    in_flight: int
    queued: int
    retries: int
    concurrency: int
    elapsed_s: float
    left_s: float | None
    lag_ms: float
    memory_mib: float
    running: list[InFlight]


class Fault(_Part):
    """Why a rollout failed."""

    type: str
    what: str
    where: str
    remedy: str


class RolloutMessage(_Message):
    """``<prefix>/<run>/rollout/<scene>/<seed>``: how a rollout ended.

    Attributes:
        scores: The scores of a score table; null where undefined.
        attempt: 1 for the first in this start of the run.
        retry_in_s: When it is tried again, if it will be: this result is then not kept.
        incidents: How many incident messages follow.
    """

    kind: Literal["rollout"] = "rollout"
    scene: str
    seed: int
    outcome: Outcome
    error: Fault | None
    scores: dict[str, float | None]
    attempt: int
    worker: str
    retry_in_s: float | None
    wall_s: float | None
    incidents: int


class IncidentMessage(_Message):
    """``<prefix>/<run>/incident``: a collision or an excursion off the road.

    Attributes:
        start_us: Simulated time, on the recording's clock.
        after_handover_s: `start_us` since ego and traffic left the recording.
    """

    kind: Literal["incident"] = "incident"
    scene: str
    seed: int
    type: Literal["collision", "offroad"]
    label: str
    facts: str
    start_us: int
    end_us: int
    after_handover_s: float | None
    at_fault: bool


class ServiceTimes(_Part):
    """How busy one address of a service is since the run's start; see `ServiceLoad`."""

    service: str
    address: str
    calls: int
    busy_s: float
    waiting_s: float
    queueing_s: float
    sessions: int
    limit: int | None
    avoided: bool


class ServicesMessage(_Message):
    """``<prefix>/<run>/services``: timings per service address, with `progress`."""

    kind: Literal["services"] = "services"
    elapsed_s: float
    services: list[ServiceTimes]


class WorkerMessage(_Message):
    """``<prefix>/<run>/worker``: a worker process was lost and is replaced."""

    kind: Literal["worker"] = "worker"
    worker: str
    event: Literal["lost"] = "lost"
    why: str
    rollouts: list[str]


class AckMessage(_Message):
    """``<prefix>/<run>/ack``: what became of a command.

    Attributes:
        id: The command's; null if it had none that can be read.
        ok: Whether it was carried out.
        what: What was done, or what is wrong.
    """

    kind: Literal["ack"] = "ack"
    id: str | None
    ok: bool
    what: str


Notable = Annotated[RolloutMessage | IncidentMessage | WorkerMessage, Field(discriminator="kind")]


class SnapshotMessage(_Message):
    """``status.json`` in the run's folder: the newest of each, and what was notable lately."""

    kind: Literal["snapshot"] = "snapshot"
    status: StatusMessage
    progress: ProgressMessage | None
    services: ServicesMessage | None
    latest: list[Notable]


Message = Annotated[
    StatusMessage | ProgressMessage | RolloutMessage | IncidentMessage
    | ServicesMessage | WorkerMessage | AckMessage | SnapshotMessage,
    Field(discriminator="kind"),
]  # fmt: skip


class Command(BaseModel):
    """``<prefix>/<run>/command``: what a run is told.

    Attributes:
        id: Any text, new for each command; the acknowledgement has it.
        value: Rollouts at once, of "set_concurrency"; absent or null of the others.
        instance: Which run is meant; needed while several are told by one name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str = Field(min_length=1, max_length=64)
    command: Literal["pause", "resume", "cancel", "set_concurrency"]
    value: int | None = Field(default=None, ge=1, le=100_000)
    instance: str | None = Field(default=None, min_length=1, max_length=64)


_MESSAGE: TypeAdapter[Any] = TypeAdapter(Message)


def encode(message: BaseModel) -> bytes:
    """A message as UTF-8 JSON; what is no Unicode in it becomes ``?``."""
    try:
        return message.model_dump_json(by_alias=True).encode()
    except PydanticSerializationError:  # half a surrogate pair, as of a file name that is no UTF-8
        text = json.dumps(message.model_dump(by_alias=True), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8", "replace")


def decode(payload: bytes) -> Any:
    """Read a message.

    Raises:
        pydantic.ValidationError: it is none of this schema and version.
    """
    return _MESSAGE.validate_json(payload)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of every message, and of a command under ``$defs``."""
    schema = _MESSAGE.json_schema(by_alias=True, mode="serialization")
    command: Mapping[str, Any] = Command.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{SCHEMA}, version {VERSION}",
        **schema,
        "$defs": {**schema["$defs"], "Command": command},
    }
