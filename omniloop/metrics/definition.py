"""What a score means, as data: the documentation of metrics is made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reduction = Literal["mean", "rate", "sum", "min", "max", "none"]
"""How a score is brought together over rollouts: "rate" is the share of rollouts in which it is 1."""

Better = Literal["lower", "higher", "neither"]


@dataclass(frozen=True)
class MetricDefinition:
    """The definition of one score.

    Attributes:
        name: Of the score, unique over all families.
        family: "omniloop", "alpasim", "nuplan", "navsim", or a plugin's own word.
        unit: "m", "m/s", "1", ...; "0 or 1" for a flag.
        formula: What it is, in a sentence or a formula, with its symbols.
        over_time: How samples of a rollout become one value, in words.
        over_rollouts: How rollouts become one value.
        better: Which direction is good.
        undefined: When it has no value; empty if it always has.
        source: Paper, section or code that the definition comes from.
        settings: Thresholds by the name of the setting, with their defaults.
        version: Raised when the same log gives another value than before; values of two
            versions are not compared.
    """

    name: str
    family: str
    unit: str
    formula: str
    over_time: str
    over_rollouts: Reduction
    better: Better
    undefined: str
    source: str
    settings: tuple[tuple[str, float | str], ...] = ()
    version: int = 1
