"""What a plugin needs from the machine, for `omniloop doctor`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Requirement:
    """One thing that a plugin needs; its ``requirements()`` yields them all.

    Attributes:
        good: Whether it is here.
        name: What it is.
        detail: What was found, or what to do.
    """

    good: bool
    name: str
    detail: str
