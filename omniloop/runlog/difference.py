"""Where two logs of a rollout part: the first message that is not the same, and its field.

Compared is what a digest is over, message by message in the logs' own order: time, then phase.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from omniloop.core.errors import RunFolderError
from omniloop.core.record import Decision
from omniloop.runlog import messages as topics
from omniloop.runlog.codec import decode, decode_plan
from omniloop.runlog.leaves import Unlike, first_unlike
from omniloop.runlog.messages import LogHeader
from omniloop.runlog.reader import LogMessage, LogReader
from omniloop.runlog.views import decode_image

IMAGE = "image"
"""What a message on a camera's topic is called in a `Difference`."""

_ROLES = {
    topics.HEADER: ("loop", "the rollout's header", "the rollout began otherwise"),
    topics.OBSERVATION: ("policy", "an observation", "the policy was told something else"),
    topics.PLAN: ("policy", "the policy's answer", "the policy answered something else"),
    topics.VEHICLE: ("controller", "the controller's answer", "the controller answered something else"),
    topics.GROUND: ("ground", "the ground's answer", "the ground answered something else"),
    topics.TRAFFIC: ("traffic", "traffic's answer", "traffic answered something else"),
    topics.COMMIT: ("loop", "a commit", "something else was committed"),
    topics.RENDER_REQUEST: ("renderer", "a request to the renderer", "the renderer was asked something else"),
    topics.FRAME: ("renderer", "a frame", "a frame arrived otherwise"),
    topics.LOST_FRAME: ("renderer", "a lost frame", "a frame was lost otherwise"),
    topics.NOTICE: ("loop", "a notice", "something else was noted"),
    topics.END: ("loop", "the end", "the rollout ended otherwise"),
}  # fmt: skip
_IMAGE_ROLE = ("renderer", "an image", "the renderer drew something else")
_REQUESTED = "the controller was asked something else"
_PHASES = {
    topics.FRAME: 0, topics.LOST_FRAME: 0, topics.OBSERVATION: 1, topics.PLAN: 1, topics.END: 2,
    topics.VEHICLE: 3, topics.GROUND: 4, topics.TRAFFIC: 5, topics.COMMIT: 7, topics.RENDER_REQUEST: 8,
}  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """The first thing in which a log differs from the recorded one.

    Attributes:
        session_id: ``<scene>/<seed>``.
        time_us: Simulated time of the message.
        service: Whose it is: "policy", "controller", ..., or "loop" for the orchestrator's own.
        message: Its kind: "plan", "vehicle", "image", ...
        what: What happened, as words.
        field: Name of the value in the message; empty if there is another message altogether.
        found, recorded: The two values, or messages, as text.
    """

    session_id: str
    time_us: int
    service: str
    message: str
    what: str
    field: str
    found: str
    recorded: str

    def __str__(self) -> str:
        where = f"{self.session_id}: at {self.time_us} us"
        if not self.field:
            return f"{where} {self.what}: {self.found}, recorded {self.recorded}"
        return f"{where} {self.what}: {self.field} is {self.found}, recorded {self.recorded}"


def first_difference(
    found: Path, recorded: Path, *, tolerance: float = 0.0, observations: bool = True
) -> Difference | None:
    """Find the first message of a log that differs from the recorded one; None if none does.

    Not compared are settings and names of plugins, and what only serves a viewer. What a recorded
    log that was cut off or interrupted does not hold is no difference.

    Args:
        found: The log to judge.
        tolerance: Numbers that are no further apart are the same, see `first_unlike`.
        observations: Compare also what the policy was told.

    Raises:
        RunFolderError: a log cannot be read.
    """
    ours, theirs = LogReader(found), LogReader(recorded)
    session_id = theirs.header().session_id
    told: tuple[bytes | None, bytes | None] = (None, None)
    last: LogMessage | None = None
    for mine, other in zip_longest(
        _simulated(ours, observations), _simulated(theirs, observations)
    ):
        if other is None and not _is_end(last):
            return None
        if (
            mine is None
            or other is None
            or (mine.topic, mine.time_us) != (other.topic, other.time_us)
        ):
            return _gone_otherwise(session_id, mine, other)
        if mine.topic == topics.OBSERVATION:
            told = (mine.data, other.data)
        if mine.data != other.data:
            value, wanted = _value(ours, mine, told[0]), _value(theirs, other, told[1])
            if not observations:
                value, wanted = _untold(value), _untold(wanted)
            unlike = first_unlike(value, wanted, tolerance)
            if unlike is not None:
                return _told(session_id, mine, unlike)
        last = other
    return None


def is_failure(message: LogMessage) -> bool:
    """Whether a log's last message says why the rollout failed: ``PolicyError: ...``."""
    if message.topic != topics.NOTICE:
        return False
    kind, colon, _ = decode(topics.NOTICE, message.data).text.partition(": ")
    return bool(colon) and kind.isidentifier()


def _is_end(message: LogMessage | None) -> bool:
    """Whether a rollout that is over leaves this as its last message."""
    return message is not None and (message.topic == topics.END or is_failure(message))


def _simulated(reader: LogReader, observations: bool) -> Iterator[LogMessage]:
    for message in reader.messages():
        if message.topic == topics.OBSERVATION and not observations:
            continue
        if message.topic.startswith((topics.PREFIX, topics.CAMERA_PREFIX)):
            yield message


def _untold(value: Any) -> Any:
    """A message without what it repeats of the policy's inputs."""
    if isinstance(value, LogHeader):
        return replace(value, privileged=())
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if key != "route"}
    return value


def _value(reader: LogReader, message: LogMessage, observation: bytes | None) -> Any:
    """A message as values with names.

    Raises:
        RunFolderError: it cannot be read.
    """
    topic, data = message.topic, message.data
    try:
        if topic.startswith(topics.CAMERA_PREFIX):
            return {topic.removeprefix(topics.CAMERA_PREFIX): decode_image(data)}
        if topic == topics.PLAN:
            told = None if observation is None else decode(topics.OBSERVATION, observation).route
            decision: Decision = decode_plan(data, told)
            return {"available_us": decision.available_us, "dropped": decision.dropped,
                    "plan": decision.plan, "route": decision.route}  # fmt: skip
        value = decode(topic, data)
    except (DecodeError, ValueError, KeyError, IndexError) as error:
        raise RunFolderError(
            f"a message on {topic} at {message.time_us} us cannot be read: {error}",
            where=str(reader.path),
            remedy="read it with the version of omniloop that wrote it",
        ) from error
    if isinstance(value, LogHeader):
        return replace(value, config={}, plugins={})
    if topic == topics.VEHICLE:
        return {"request": value[0], "answer": value[1]}
    if topic == topics.GROUND:
        return {"subject": value[1], "answer": value[2]}
    return {"answer": value[1]} if topic == topics.TRAFFIC else value


def _role(topic: str) -> tuple[str, str, str]:
    return _ROLES.get(topic, _IMAGE_ROLE)


def _kind(topic: str) -> str:
    return IMAGE if topic.startswith(topics.CAMERA_PREFIX) else topic.removeprefix(topics.PREFIX)


def _told(session_id: str, message: LogMessage, unlike: Unlike) -> Difference:
    service, _, what = _role(message.topic)
    if message.topic == topics.VEHICLE and unlike.field.startswith("request."):
        what = _REQUESTED
    return Difference(
        session_id, message.time_us, service, _kind(message.topic), what,
        unlike.field, unlike.found, unlike.recorded,
    )  # fmt: skip


def _gone_otherwise(
    session_id: str, mine: LogMessage | None, other: LogMessage | None
) -> Difference:
    """One rollout went on otherwise; the difference is the earlier of the two messages."""
    there = [m for m in (mine, other) if m is not None]
    # A failure is noted at the schedule's end, however early it was.
    timed = [m for m in there if not is_failure(m)] or there
    first = min(timed, key=lambda m: (m.time_us, _phase(m)))
    return Difference(
        session_id, first.time_us, _role(first.topic)[0], _kind(first.topic),
        "the rollout went on otherwise", "", _named(mine), _named(other),
    )  # fmt: skip


def _phase(message: LogMessage) -> int:
    if message.topic == topics.GROUND and decode(topics.GROUND, message.data)[1] == "actors":
        return _PHASES[topics.COMMIT] - 1
    return _PHASES.get(message.topic, 0)


def _named(message: LogMessage | None) -> str:
    if message is None:
        return "the end of the log"
    if is_failure(message):
        return f"a failure ({decode(topics.NOTICE, message.data).text})"
    return f"{_role(message.topic)[1]} at {message.time_us} us"
