"""Whether two runs are of the same suite, and what differs in short."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omniloop.report.runs import Run
from omniloop.report.score_tables import listed
from omniloop.runlog.environment import differences

_DIGITS = 12
_MOST_NAMED = 4
_UNKNOWN = "in what is not known"


def suite_cautions(first: Run, second: Run) -> list[str]:
    """A line if the runs are of suites with other content, or only one is of a suite."""
    one, two = (_suite(run) for run in (first, second))
    if one.get("sha256") == two.get("sha256"):
        return []
    sides = [
        f"{run.name} is of {_told(suite)}"
        for run, suite in ((first, one), (second, two))
    ]  # fmt: skip
    what = "only one run is of a suite"
    if one and two:
        parts = _parts(one.get("content"), two.get("content"))
        what = f"the suites differ ({'; '.join(parts)})"
    return [f"{what}: {', '.join(sides)}"]


def _suite(run: Run) -> Mapping[str, Any]:
    """Of ``run.yaml``, else of the first result; empty if it is of none."""
    told = run.settings.get("suite") or run.results[0].suite
    return told if isinstance(told, Mapping) and told.get("sha256") else {}


def _told(suite: Mapping[str, Any]) -> str:
    if not suite:
        return "none"
    version = f" version {suite['version']}" if "version" in suite else ""
    return f"{suite.get('name')}{version} ({str(suite['sha256'])[:_DIGITS]})"


def _parts(old: Any, new: Any) -> list[str]:
    """What differs in the content of two suites, in short; `omniloop suite diff` tells all."""
    if not all(isinstance(s, Mapping) and isinstance(s.get("scenes"), Mapping) for s in (old, new)):
        return [_UNKNOWN]
    scenes = [side["scenes"] for side in (old, new)]
    both = [name for name in scenes[0] if name in scenes[1]]
    changed = [name for name in both if scenes[0][name] != scenes[1][name]]
    lines = [
        f"{len(names)} scene(s) {how}: {listed(names, _MOST_NAMED)}"
        for how, names in (
            ("only in the first", sorted(scenes[0].keys() - scenes[1].keys())),
            ("only in the second", sorted(scenes[1].keys() - scenes[0].keys())),
            ("with other content", changed),
        )
        if names
    ]
    for part in ("seeds", "metrics", "settings"):
        found = differences({part: old.get(part)}, {part: new.get(part)})
        lines += found[:_MOST_NAMED]
        if len(found) > _MOST_NAMED:
            lines.append(f"{len(found) - _MOST_NAMED} more differences of {part}")
    return lines or [_UNKNOWN]
