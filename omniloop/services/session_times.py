"""A rollout's times, which no protocol carries, for servers of this project."""

from __future__ import annotations

from omniloop.core.contracts import SessionInfo

TIMES_KEY = "omniloop-session-times"
"""With start_session: start, handover and end of the rollout in us, with commas between."""


def times_to_text(session: SessionInfo) -> str:
    """Start, handover and end of a rollout."""
    return f"{session.start_us},{session.handover_us},{session.end_us}"


def times_from_text(text: str) -> tuple[int, int, int]:
    """Start, handover and end of a rollout.

    Raises:
        ValueError: the text does not hold three whole numbers.
    """
    start_us, handover_us, end_us = (int(part) for part in text.split(","))
    return start_us, handover_us, end_us
