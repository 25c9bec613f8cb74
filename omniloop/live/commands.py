"""What a run is told over MQTT: read strictly, carried out once, always answered."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass

from pydantic import ValidationError

from omniloop.core.errors import OmniloopError
from omniloop.live.events import Control
from omniloop.live.schema import Command

LARGEST_BYTES = 4_096
_REMEMBERED = 1_000

_DONE = {
    "pause": "paused: no rollout begins, those under way go on to their ends",
    "resume": "resumed",
    "cancel": "cancelling: rollouts under way are ended, what is done stays",
}


@dataclass(frozen=True)
class Answer:
    """What became of a command; see `omniloop.live.schema.AckMessage`."""

    id: str | None
    ok: bool
    what: str


class Commands:
    """Carries out commands on a run; nothing that it is given makes it raise.

    Args:
        instance: That of the run; a command that names another one is that one's.
    """

    def __init__(self, control: Control, instance: str) -> None:
        self._control = control
        self._instance = instance
        self._seen: deque[str] = deque(maxlen=_REMEMBERED)

    def handle(
        self, payload: bytes, *, retained: bool = False, ended: bool = False, shared: str = ""
    ) -> Answer | None:
        """Carry out a command, or say why not; None if another run is to answer.

        Args:
            retained: The broker kept it from before: it was not meant for this moment.
            ended: The run does nothing any more.
            shared: The runs that are told by this run's name, if there are others: a command
                that does not say which it means has no effect then.
        """
        if len(payload) > LARGEST_BYTES:
            return Answer(
                None, False, f"{len(payload)} bytes; a command has at most {LARGEST_BYTES}"
            )
        try:
            command = Command.model_validate_json(payload)
        except ValidationError as error:
            return Answer(_id_of(payload), False, fault_of(error))
        if command.instance not in (None, self._instance):
            return None
        if retained:
            what = "a retained command is of an earlier time and ignored; publish without retain"
            return Answer(command.id, False, what)
        if shared and command.instance is None:
            what = f"several runs have this name: {shared}; say which by 'instance' (omniloop watch: --instance)"
            return None if ended else Answer(command.id, False, what)
        if command.id in self._seen:
            return Answer(
                command.id, False, "a command of this id was handled before; take a new id"
            )
        self._seen.append(command.id)
        if ended:
            return Answer(command.id, False, "the run has ended")
        if (command.value is None) == (command.command == "set_concurrency"):
            what = (
                "needs 'value', rollouts at once" if command.value is None else "takes no 'value'"
            )
            return Answer(command.id, False, f"{command.command} {what}")
        try:
            return Answer(command.id, True, self._do(command))
        except OmniloopError as error:
            return Answer(command.id, False, f"{error.what} {error.remedy}".strip())
        except Exception as error:  # whatever it is, the run and the other commands go on
            return Answer(command.id, False, f"it failed: {type(error).__name__}: {error}")

    def _do(self, command: Command) -> str:
        if command.value is not None:
            self._control.set_concurrency(command.value)
            return f"{command.value} rollouts at once, as far as services allow"
        {
            "pause": self._control.pause,
            "resume": self._control.resume,
            "cancel": self._control.cancel,
        }[command.command]()
        return _DONE[command.command]


def _id_of(payload: bytes) -> str | None:
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    found = document.get("id") if isinstance(document, dict) else None
    return found if isinstance(found, str) and 0 < len(found) <= 64 else None


def fault_of(error: ValidationError) -> str:
    """What is wrong with a command, in words."""
    first = error.errors(include_url=False, include_input=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    kind = first["type"]
    if kind == "json_invalid":
        return f"not JSON: {first.get('ctx', {}).get('error', first['msg'])}"
    if kind == "model_type" or not key:
        return 'not an object such as {"id": "1", "command": "pause"}'
    if kind == "missing":
        return f"'{key}' is missing"
    if kind == "extra_forbidden":
        return f"unknown key '{key}'; known are id, command, value, instance"
    return f"{key}: {first['msg']}"
