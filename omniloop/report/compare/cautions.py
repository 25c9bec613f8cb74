"""What else differs between two runs, so that differences of scores may have that cause."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from omniloop.report.runs import Run
from omniloop.runlog.environment import differences
from omniloop.runlog.results import RolloutResult

SIMULATED = ("policy", "traffic", "controller", "ground", "renderer", "imperfection")
"""Groups of settings that are what a comparison is usually about."""

_WHERE = ("address", "addresses", "timeout_s")


def _stable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _stable(v) for k, v in value.items() if k not in _WHERE}
    return value


def changes(first: Run, second: Run) -> list[str]:
    """What differs in the simulated plugins; addresses are not what they do."""
    before, now = ({k: _stable(run.config.get(k)) for k in SIMULATED} for run in (first, second))
    return differences(before, now)


def setting_cautions(first: Run, second: Run) -> list[str]:
    """What differs in the loop, the run and the version of Omniloop, a line each."""
    out = []
    for name in ("sync", "run"):
        before, now = (dict(run.config.get(name) or {}) for run in (first, second))
        if name == "run":
            keep = ("stop_on", "route", "wire_precision", "root_seed")
            before, now = ({k: s.get(k) for k in keep} for s in (before, now))
        out += [f"{name}.{line}" for line in differences(before, now)]
    before, now = ({"omniloop": _version(run)} for run in (first, second))
    out += [f"version of {line}" for line in differences(before, now)]
    for run in (first, second):
        if not run.settings.get("scenes"):
            out.append(f"{run.name} does not know the hashes of its scenes")
    return out


def _version(run: Run) -> object:
    versions = (run.settings.get("environment") or {}).get("versions")
    return versions.get("omniloop") if isinstance(versions, Mapping) else None


_FACTS: tuple[tuple[str, Callable[[RolloutResult], object]], ...] = (
    ("the handover", lambda r: r.handover_us),
    ("the decision period", lambda r: r.decision_period_us),
    ("the number of decisions", lambda r: r.decisions),
)


def fact_cautions(pairs: Iterable[tuple[RolloutResult, RolloutResult]]) -> list[str]:
    """Facts of rollouts that should be alike, with the first pair in which they are not."""
    found: dict[str, list[str]] = {}
    for first, second in pairs:
        told = [
            (what, fact(first), fact(second))
            for what, fact in _FACTS
            if fact(first) is not None and fact(second) is not None
        ]
        if all(r.outcome == "completed" and not r.stopped_by for r in (first, second)):
            told.append(("the end", first.end_us, second.end_us))
        for what, before, now in told:
            if before != now:
                found.setdefault(what, []).append(f"{first.session_id}: {before} -> {now}")
        seen = [", ".join(r.privileged) or "sensors only" for r in (first, second)]
        if seen[0] != seen[1]:
            found.setdefault("what the policy may see", []).append(
                f"{first.session_id}: {seen[0]} -> {seen[1]}"
            )
    return [
        f"{what} differs in {len(at)} rollout(s), first in {at[0]}" for what, at in found.items()
    ]
