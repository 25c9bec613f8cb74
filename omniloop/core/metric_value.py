"""A score with its validity."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class MetricValue:
    """A score with its validity: an undefined score is a reason, never 0.

    Attributes:
        name: Name of the score, with its unit where it has one.
        value: The score; None if and only if not valid.
        reason: Why it is not valid; empty if it is.
        details: JSON-able facts behind the value, such as the list of contacts.
    """

    name: str
    value: float | None
    reason: str = ""
    details: dict[str, object] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        """Whether there is a value."""
        return self.value is not None
