"""What a check of a scene found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""From the worst: cannot be simulated soundly; scores may suffer; good to know."""


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        severity: One of `SEVERITIES`.
        where: The part of the scene: "ego", "track 17", "map, lane 3".
        what: What is so, with values, times in seconds from the scene's start.
        remedy: What to do about it.
    """

    severity: Severity
    where: str
    what: str
    remedy: str


def some(names: list[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
