"""Which rollouts of two runs can be compared, which cannot, and what a reader must know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from omniloop.core import registry
from omniloop.core.errors import ConfigError, PluginError
from omniloop.report.runs import Run
from omniloop.report.score_tables import listed
from omniloop.runlog.environment import differences
from omniloop.runlog.results import RolloutResult

Key = tuple[str, int]

SIMULATED = ("policy", "traffic", "controller", "ground", "renderer", "imperfection")
"""Groups of settings that are what a comparison is usually about."""

_WHERE = ("address", "addresses", "timeout_s")


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
    Scores of metrics whose settings differ are not compared. What may still be compared, but
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
        left_out_scores=_unlike_metrics(first, second), changes=tuple(_changes(first, second)),
        cautions=(*_setting_cautions(first, second), *_pair_cautions(found)),
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
        planned = set(there.missing)
        lost = tuple(_name(key) for key in only if _name(key) in planned)
        absent = tuple(_name(key) for key in only if _name(key) not in planned)
        if lost:
            out[f"without a valid result in {there.name}"] = lost
        if absent:
            out[f"only in {here.name}"] = absent
    both = tuple(sorted(set(first.missing) & set(second.missing)))
    if both:
        out["without a valid result in either run"] = both
    return out


def _stable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _stable(v) for k, v in value.items() if k not in _WHERE}
    return value


def _changes(first: Run, second: Run) -> list[str]:
    """What differs in the simulated plugins; addresses are not what they do."""
    before, now = ({k: _stable(run.config.get(k)) for k in SIMULATED} for run in (first, second))
    return differences(before, now)


def _setting_cautions(first: Run, second: Run) -> list[str]:
    out = []
    for name in ("sync", "run"):
        before, now = (dict(run.config.get(name) or {}) for run in (first, second))
        if name == "run":
            keep = ("stop_on", "route", "wire_precision", "root_seed")
            before, now = ({k: s.get(k) for k in keep} for s in (before, now))
        out += [f"{name}.{line}" for line in differences(before, now)]
    versions = [
        {
            "omniloop": ((run.settings.get("environment") or {}).get("versions") or {}).get(
                "omniloop"
            )
        }
        for run in (first, second)
    ]
    out += [f"version of {line}" for line in differences(versions[0], versions[1])]
    for run in (first, second):
        if not run.settings.get("scenes"):
            out.append(f"{run.name} does not know the hashes of its scenes")
    return out


_FACTS: tuple[tuple[str, Callable[[RolloutResult], object]], ...] = (
    ("the handover", lambda r: r.handover_us),
    ("the decision period", lambda r: r.decision_period_us),
    ("the number of decisions", lambda r: r.decisions),
)


def _pair_cautions(pairs: Iterable[Pair]) -> list[str]:
    """Facts of rollouts that should be alike, with the first pair in which they are not."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        told = [
            (what, fact(pair.first), fact(pair.second))
            for what, fact in _FACTS
            if fact(pair.first) is not None and fact(pair.second) is not None
        ]
        whole = [
            r for r in (pair.first, pair.second) if r.outcome == "completed" and not r.stopped_by
        ]
        if len(whole) == 2:
            told.append(("the end", pair.first.end_us, pair.second.end_us))
        for what, before, now in told:
            if before != now:
                found.setdefault(what, []).append(f"{pair.name}: {before} -> {now}")
        seen = [", ".join(r.privileged) or "sensors only" for r in (pair.first, pair.second)]
        if seen[0] != seen[1]:
            found.setdefault("what the policy may see", []).append(
                f"{pair.name}: {seen[0]} -> {seen[1]}"
            )
    return [
        f"{what} differs in {len(at)} rollout(s), first in {at[0]}" for what, at in found.items()
    ]


def _unlike_metrics(first: Run, second: Run) -> dict[str, str]:
    """Scores of metrics whose settings differ, and scores that one run lacks."""
    out: dict[str, str] = {}
    before, now = (run.config.get("metrics") or {} for run in (first, second))
    for plugin in before:
        if plugin in now and (before[plugin] or {}) != (now[plugin] or {}):
            changed = "; ".join(differences(before[plugin] or {}, now[plugin] or {}))
            for name in _names_of(plugin):
                out[name] = f"settings of metric '{plugin}' differ ({changed})"
    names = [{name for r in run.results for name in r.metrics} for run in (first, second)]
    for name in sorted(names[0] ^ names[1]):
        out.setdefault(name, f"only in {(first if name in names[0] else second).name}")
    return out


def _names_of(plugin: str) -> tuple[str, ...]:
    try:
        loaded = registry.load_class("metrics", plugin)
    except PluginError:
        return ()  # `Run.problems` has named it
    return tuple(getattr(loaded, "names", (loaded.__name__,)))
