"""Runs that are told under one name: each hears of the others on the topic of its own status."""

from __future__ import annotations

from pydantic import ValidationError

from omniloop.live.board import clean
from omniloop.live.schema import ENDS, StatusMessage

_GONE_S = 45.0
"""Three times as long as between two statuses of a run that goes on."""
_LARGEST_BYTES = 64 * 1024
_MOST = 8
_LONGEST_INSTANCE = 64


class Namesakes:
    """The other runs that go on under this run's name.

    Args:
        instance: This run's.
        place: Machine and folder of this run.
    """

    def __init__(self, instance: str, place: tuple[str, str]) -> None:
        self._instance = instance
        self._place = place
        self._heard: dict[str, tuple[StatusMessage, float]] = {}

    def take(self, payload: bytes, *, retained: bool, now_s: float) -> StatusMessage | None:
        """Take note of what came on the status topic; return it if another run that counts sent it.

        One that ends, or ended, is none of `present` any more. What a broker kept of a run of the
        same folder does not count: a folder has one run at a time, so it is of an earlier start.

        Args:
            retained: The broker kept it from before.
            now_s: A clock that only grows, the same for all calls.
        """
        if len(payload) > _LARGEST_BYTES:
            return None
        try:
            status = StatusMessage.model_validate_json(payload)
        except ValidationError:
            return None  # the topic's other users, or a status that was removed
        if status.instance == self._instance:
            return None
        if retained and (status.host, status.run_dir) == self._place:
            return None
        self._heard.pop(status.instance, None)
        if status.state not in ENDS:
            self._heard[status.instance] = (status, now_s)
            if len(self._heard) > _MOST:
                del self._heard[next(iter(self._heard))]
        return status

    def present(self, now_s: float) -> list[StatusMessage]:
        """The newest status of each other run that is heard of."""
        return [status for status, at_s in self._heard.values() if now_s - at_s < _GONE_S]

    def instances(self, now_s: float) -> tuple[str, ...]:
        """The instances of `present`, in order; without any that none of ours could be."""
        names = (status.instance for status in self.present(now_s))
        return tuple(sorted(name for name in names if len(name) <= _LONGEST_INSTANCE))

    def shown(self, now_s: float) -> str:
        """Instances and places of all runs of the name; empty if this is the only one."""
        others = self.present(now_s)
        if not others:
            return ""
        all_of_them = [(self._instance, self._place)]
        all_of_them += [(other.instance, (other.host, other.run_dir)) for other in others]
        return ", ".join(f"{clean(who)} is {place_text(*place)}" for who, place in all_of_them)


def place_text(host: str, run_dir: str) -> str:
    """Machine and folder of a run, as a terminal may show them."""
    return clean(f"{host}:{run_dir}")
