"""Which rollouts of two runs can be compared, which cannot, and what a reader must know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omniloop.core.errors import ConfigError
from omniloop.report.compare.cautions import changes, fact_cautions, setting_cautions
from omniloop.report.compare.suites import suite_cautions
from omniloop.report.compare.unlike import meaning_cautions, unlike_scores
from omniloop.report.runs import Run
from omniloop.report.score_tables import listed
from omniloop.runlog.results import RolloutResult

Key = tuple[str, int]


@dataclass(frozen=True)
class Pair:
    """The same scene and seed in two runs."""

    first: RolloutResult
    second: RolloutResult

    @property
    def name(self) -> str:
        """``<scene>/<seed>``."""
        return self.first.session_id


@dataclass(frozen=True, eq=False)
class Pairing:
    """Two runs, rollout by rollout.

    Attributes:
        pairs: By scene and seed.
        left_out: Reason to names of rollouts that are in no pair.
        left_out_scores: Score to the reason why it is not compared.
        changes: What the settings of the second run change, the subject of the comparison.
        cautions: What else differs, so that differences of scores may have that cause.
    """

    first: Run
    second: Run
    pairs: tuple[Pair, ...]
    left_out: Mapping[str, tuple[str, ...]]
    left_out_scores: Mapping[str, str]
    changes: tuple[str, ...]
    cautions: tuple[str, ...]

    def notes(self) -> list[str]:
        """All that a reader must know, a line each, exclusions counted and named."""
        lines = [f"{self.second.name} changes {change}" for change in self.changes]
        lines += [f"caution: {caution}" for caution in self.cautions]
        lines += [
            f"left out, {reason}: {len(names)} rollout(s): {listed(names)}"
            for reason, names in self.left_out.items()
        ]
        reasons: dict[str, list[str]] = {}
        for name, reason in self.left_out_scores.items():
            reasons.setdefault(reason, []).append(name)
        lines += [
            f"not compared, {reason}: {len(names)} score(s): {listed(names)}"
            for reason, names in reasons.items()
        ]
        for run in (self.first, self.second):
            lines += [f"{run.name}: {line}" for line in (*run.problems, *run.damaged)]
        return lines


def pair_runs(first: Run, second: Run) -> Pairing:
    """Pair the rollouts of two runs by scene and seed.

    A scene that has other content in the second run is left out: its name alone is the same.
    Scores that do not mean the same are not compared. What may still be compared, but
    with care, is named.

    Raises:
        ConfigError: nothing is left to compare.
    """
    one = {result.key: result for result in first.results}
    two = {result.key: result for result in second.results}
    left_out = _unmatched(first, second, one, two)
    pairs: list[Key] = []
    other: list[Key] = []
    for key in sorted(one.keys() & two.keys()):
        known = {_hash(first, key), _hash(second, key)} - {""}
        (other if len(known) > 1 else pairs).append(key)
    if other:
        left_out["the scene is another one under the same name"] = tuple(map(_name, other))
    if not pairs:
        reasons = "; ".join(f"{r}: {listed(n, 3)}" for r, n in left_out.items())
        raise ConfigError(
            f"the runs have no rollout in common: {reasons}", where=f"{first.path} and {second.path}",
            remedy="compare runs of the same scenes and seeds",
        )  # fmt: skip
    found = tuple(Pair(one[key], two[key]) for key in pairs)
    return Pairing(
        first=first, second=second, pairs=found, left_out=left_out,
        left_out_scores=unlike_scores(first, second), changes=tuple(changes(first, second)),
        cautions=(
            *suite_cautions(first, second), *setting_cautions(first, second),
            *meaning_cautions(first, second),
            *fact_cautions([(pair.first, pair.second) for pair in found]),
        ),
    )  # fmt: skip


def _name(key: Key) -> str:
    return f"{key[0]}/{key[1]}"


def _hash(run: Run, key: Key) -> str:
    """SHA-256 of the scene's content; empty if the run does not know it."""
    return str((run.settings.get("scenes") or {}).get(key[0], ""))


def _unmatched(
    first: Run, second: Run, one: Mapping[Key, Any], two: Mapping[Key, Any]
) -> dict[str, tuple[str, ...]]:
    out: dict[str, tuple[str, ...]] = {}
    for here, there, mine, others in ((first, second, one, two), (second, first, two, one)):
        only = [key for key in sorted(mine) if key not in others]
        planned, excluded = set(there.missing), _exclusions(there)
        for key in only:
            reason = f"only in {here.name}"
            if _name(key) in planned:
                reason = f"without a valid result in {there.name}"
            elif key[0] in excluded:
                reason = f"excluded from {there.name} ({excluded[key[0]]})"
            out[reason] = (*out.get(reason, ()), _name(key))
    both = tuple(sorted(set(first.missing) & set(second.missing)))
    if both:
        out["without a valid result in either run"] = both
    return out


def _exclusions(run: Run) -> dict[str, str]:
    """Scenes that a run left out before its start, with the reason."""
    told = run.settings.get("exclusions")
    entries = [e for e in told if isinstance(e, Mapping)] if isinstance(told, list) else []
    return {str(e.get("scene")): str(e.get("reason")) for e in entries}
