"""Two runs compared: differences of scores, over all pairs and in groups, and partings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omniloop.report.aggregate import Definitions
from omniloop.report.compare.differences import Difference, differences_of
from omniloop.report.compare.divergence import Divergence, divergence
from omniloop.report.compare.pairing import Pair, Pairing
from omniloop.report.runs import labels_of
from omniloop.runlog.folder import LOG_NAME, rollout_dir


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two runs compared.

    Attributes:
        differences: By score.
        divergences: By ``<scene>/<seed>``; empty if logs were not looked at.
        tolerance_m: How far apart egos must be to have parted.
        by: What the pairs of a group share: "tag" or "scene"; empty without groups.
        groups: Differences by group.
    """

    pairing: Pairing
    differences: tuple[Difference, ...]
    divergences: Mapping[str, Divergence]
    tolerance_m: float
    by: str = ""
    groups: Mapping[str, tuple[Difference, ...]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The two runs, which tables call A and B."""
        return f"{self.pairing.second.name} (B) against {self.pairing.first.name} (A)"


@dataclass(frozen=True)
class Grouped:
    """What to compare in groups.

    Attributes:
        by: "tag" or "scene".
        names: Scores.
    """

    by: str
    names: tuple[str, ...]


def compare(
    pairing: Pairing,
    names: Sequence[str],
    tolerance_m: float,
    logs: bool,
    grouped: Grouped | None = None,
) -> Comparison:
    """Compare the scores wanted, with `logs` when the rollouts part, and if wanted in groups.

    Raises:
        ConfigError: neither run knows the tags of its scenes, and they are to be grouped by.
    """
    first, second = pairing.first, pairing.second
    definitions = {**first.definitions, **second.definitions}

    def log(run_dir: Path, pair: Pair) -> Path:
        return rollout_dir(run_dir, *pair.first.key) / LOG_NAME

    parted = {
        pair.name: divergence(log(first.path, pair), log(second.path, pair), tolerance_m)
        for pair in (pairing.pairs if logs else ())
    }
    found = differences_of(pairing.pairs, _comparable(pairing, names), definitions)
    groups = {} if grouped is None else _groups(pairing, grouped, definitions)
    by = "" if grouped is None else grouped.by
    return Comparison(pairing, tuple(found), parted, tolerance_m, by, groups)


def _comparable(pairing: Pairing, names: Sequence[str]) -> list[str]:
    return [name for name in names if name not in pairing.left_out_scores]


def _groups(
    pairing: Pairing, grouped: Grouped, definitions: Definitions
) -> dict[str, tuple[Difference, ...]]:
    """Differences within each group, by its name; a scene may be in several."""
    # The scenes of a pair are the same, so that either run may tell their tags.
    run = pairing.first if pairing.first.settings.get("tags") else pairing.second
    members: dict[str, list[Pair]] = {}
    for pair in pairing.pairs:
        for label in labels_of(run, pair.first, grouped.by):
            members.setdefault(label, []).append(pair)
    names = _comparable(pairing, grouped.names)
    return {
        label: tuple(differences_of(members[label], names, definitions))
        for label in sorted(members)
    }
