"""The event queue: a total order over (time, phase, sequence)."""

from __future__ import annotations

import heapq
import itertools
from enum import IntEnum
from typing import NamedTuple


class Phase(IntEnum):
    """What happens first at one instant. The order is the specification.

    Sensors arrive before the decision taken at the same instant; the end comes after
    the frames captured at it and before any motion beyond it; traffic sees the ego
    motion that it must answer; nothing renders before it is committed.
    """

    FRAME = 0
    POLICY = 1
    END = 2
    VEHICLE = 3
    EGO_GROUND = 4
    TRAFFIC = 5
    ACTOR_GROUND = 6
    COMMIT = 7
    RENDER = 8


class Event(NamedTuple):
    """Something that happens at a simulated instant.

    Attributes:
        payload: What the phase's handler needs: a frame, or a decision's index.
    """

    time_us: int
    phase: Phase
    sequence: int
    payload: object


class EventQueue:
    """Events in order of time, then phase, then insertion.

    Time never goes back: an event that would come before the one popped last is refused.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, object]] = []
        self._sequence = itertools.count()
        self._last: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, time_us: int, phase: Phase, payload: object = None) -> None:
        """Add an event.

        Raises:
            ValueError: it lies before the event popped last.
        """
        if self._last is not None and (time_us, phase) < self._last:
            at, last_phase = self._last
            raise ValueError(
                f"event {phase.name} at {time_us} us is before {Phase(last_phase).name} at {at} us,"
                " which has happened"
            )
        heapq.heappush(self._heap, (time_us, int(phase), next(self._sequence), payload))

    def pop(self) -> Event:
        """Remove and return the next event.

        Raises:
            IndexError: the queue is empty.
        """
        time_us, phase, sequence, payload = heapq.heappop(self._heap)
        self._last = (time_us, phase)
        return Event(time_us, Phase(phase), sequence, payload)
