"""The tables of a run's page, computed from results and ``run.yaml``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omniloop.imperfection.service import FACTS
from omniloop.report.intervals import Interval
from omniloop.report.summary import KEY_COLUMNS, Column, cell, mean_of
from omniloop.runlog.results import RolloutResult
from omniloop.runlog.run_yaml import RUN_YAML

_LONGEST_SETTING = 160
_TIMED_PARTS = {"rollout_s": "simulating", "scoring_s": "scoring", "wall_s": "all of it"}


@dataclass(frozen=True)
class Timing:
    """Wall-clock time in one method, over all rollouts."""

    name: str
    calls: int
    total_s: float
    longest_s: float

    @property
    def mean_ms(self) -> float:
        """Of one call."""
        return self.total_s / self.calls * 1e3 if self.calls else 0.0


def tiles_of(results: Sequence[RolloutResult]) -> list[tuple[str, str]]:
    """Numbers for the top of the page, each with its caption."""
    tiles = []
    incident = mean_of(results, "incident")
    if incident.value is not None:
        count = round(incident.summed)
        caption = f"scored rollouts with an incident{_between('incident', incident.interval)}"
        tiles.append((f"{count} of {incident.valid}", caption))
    progress = mean_of(results, "progress_rel")
    if progress.value is not None:
        between = _between("progress_rel", progress.interval)
        caption = f"mean progress ({progress.valid} of {progress.total}){between}"
        tiles.append((f"{progress.value * 100:.0f} %", caption))
    tube = mean_of(results, "distance_in_tube_m")
    if tube.value is not None:
        tiles.append((f"{tube.summed / 1000:.2f} km", "driven within the tube"))
    return tiles


def _between(name: str, interval: Interval) -> str:
    """The interval of a key score's mean, as a caption ends; empty if it is undefined."""
    column = next(c for c in KEY_COLUMNS if c.name == name)
    told = column.interval_text(interval)
    return f"; 95 %: {told}".replace(" %", "\N{NO-BREAK SPACE}%") if told else ""


def undefined_scores(
    results: Sequence[RolloutResult], columns: Sequence[Column]
) -> list[tuple[str, str, list[str]]]:
    """Scores that are undefined: their labels, the reason, the rollouts' names."""
    found: dict[tuple[str, str], list[str]] = {}
    for result in results:
        reasons: dict[str, list[str]] = {}
        for column in columns:
            shown = cell(result, column)
            if shown.value is None:
                reasons.setdefault(shown.reason, []).append(column.label)
        for reason, labels in reasons.items():
            found.setdefault((", ".join(labels), reason), []).append(result.session_id)
    return [(labels, reason, where) for (labels, reason), where in found.items()]


def service_timings(results: Sequence[RolloutResult]) -> list[Timing]:
    """Calls of services, the costliest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        services = result.timings.get("services")
        for name, facts in services.items() if isinstance(services, dict) else ():
            found.setdefault(str(name), []).append(facts)
    out = [
        Timing(
            name,
            sum(int(f.get("calls", 0)) for f in facts),
            sum(float(f.get("total_s", 0.0)) for f in facts),
            max(float(f.get("longest_s", 0.0)) for f in facts),
        )
        for name, facts in found.items()
    ]
    return sorted(out, key=lambda t: (-t.total_s, t.name))


def rollout_timings(results: Sequence[RolloutResult]) -> list[tuple[str, float, float]]:
    """Wall-clock time of rollouts by part: sum and longest."""
    out = []
    for key, label in _TIMED_PARTS.items():
        values = [
            float(r.timings[key]) for r in results if isinstance(r.timings.get(key), int | float)
        ]
        if values:
            out.append((label, sum(values), max(values)))
    return out


def settings_lines(config: Mapping[str, Any], root_seed: object) -> list[tuple[str, str]]:
    """A line for each group of settings: its name and what it is given."""
    lines = []
    for group, values in config.items():
        if isinstance(values, Mapping):
            unset: tuple[Any, ...] = (None, []) if group == "metrics" else (None, [], {})
            settings = [_setting(k, v) for k, v in values.items() if k != "name" and v not in unset]
            head = [str(values["name"])] if values.get("name") else []
            lines.append((str(group), ", ".join(head + settings)))
        elif values is not None:
            lines.append((str(group), str(values)))
    if root_seed is not None:
        lines.append(("root seed", str(root_seed)))
    return lines


def _setting(key: str, value: Any) -> str:
    """A setting on one line; a metric without settings is its name, a long list its length."""
    if value == {}:
        return key
    told = f"{key}={value}"
    if isinstance(value, list | Mapping) and len(told) > _LONGEST_SETTING:
        return f"{key}: {len(value)} entries, in the YAML below"
    return told


def rerun_command(settings: Mapping[str, Any], name: str) -> str:
    """A command that makes the same run again beside it; empty if ``run.yaml`` names none.

    Args:
        settings: The run's ``run.yaml``.
        name: The run's folder.
    """
    words = settings.get("command")
    if not isinstance(words, list) or not words:
        return ""
    where = [f"run.name={name}_2"]
    if settings.get("rerendered"):
        run = (settings.get("config") or {}).get("run") or {}
        where = ["--out", f"{run.get('dir', '.')}/{name}_2"]
    return shlex.join([*map(str, words), *where])


def machine_lines(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What ran it: versions and the processor."""
    versions, cpu = environment.get("versions") or {}, environment.get("cpu") or {}
    lines = [("omniloop", versions.get("omniloop")), ("Python", environment.get("python"))]
    lines += [
        ("processor", cpu.get("model") or cpu.get("machine")),
        ("numpy", versions.get("numpy")),
    ]
    blas = environment.get("blas") or {}
    lines += [("BLAS", f"{blas.get('name', '')} {blas.get('version', '')}".strip())]
    lines += [("packages", ", ".join(f"{k} {v}" for k, v in versions.items() if k != "omniloop"))]
    return [(label, str(value)) for label, value in lines if value]


def exclusions_of(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Scenes that were not run, and why."""
    listed = settings.get("exclusions") or []
    return [
        (str(e.get("scene", "")), str(e.get("reason", "")))
        for e in listed
        if isinstance(e, Mapping)
    ]


def missing_rollouts(settings: Mapping[str, Any], results: Sequence[RolloutResult]) -> list[str]:
    """Planned rollouts without a result."""
    seeds = ((settings.get("config") or {}).get("run") or {}).get("seeds")
    scenes = settings.get("scenes")
    if not isinstance(seeds, list) or not isinstance(scenes, Mapping):
        return []
    have = {result.key for result in results}
    return [
        f"{scene}/{seed}" for scene in scenes for seed in seeds if (str(scene), seed) not in have
    ]


def warnings_of(settings: Mapping[str, Any], results: Sequence[RolloutResult]) -> Iterator[str]:
    """What a reader of the scores should know."""
    if not settings:
        yield f"{RUN_YAML} is missing: settings and exclusions are not known"
    environment = settings.get("environment") or {}
    if environment.get("resumed_on"):
        yield "the run was resumed on another machine: results may differ in bits"
    for result in results:
        if result.throttled:
            declared, actual = (
                result.throttled.get("declared_hz"),
                result.throttled.get("actual_hz"),
            )
            yield (
                f"{result.plugins.get('policy') or 'the policy'} declares {declared:g} Hz and decided"
                f" at {actual:g} Hz"
            )
        if result.attempts > 1:
            yield f"{result.session_id}: took {result.attempts} attempts"


def facts_of(result: RolloutResult) -> tuple[tuple[str, str], ...]:
    """What else is known of a rollout: its error, its warm-up, what services told."""
    facts = []
    if result.error is not None:
        facts += [(key, text) for key, text in result.error.items() if text]
    if result.stopped_by:
        facts.append(("stopped by", result.stopped_by))
    if result.warmup_s is not None:
        facts.append(("warm-up", f"{result.warmup_s:.2f} s"))
    if result.decisions is not None and result.decision_period_us is not None:
        facts.append(
            ("decisions", f"{result.decisions} every {result.decision_period_us / 1000:g} ms")
        )
    facts += [(name, in_words(told)) for name, told in result.facts.items() if name != FACTS]
    facts += [("notice", notice) for notice in result.notices[:8]]
    return tuple((label, text) for label, text in facts if text)


def in_words(told: Mapping[str, Any]) -> str:
    """What a service told of a rollout, on one line; what was injected has a table of its own."""
    parts = []
    for name, value in told.items():
        if name == FACTS or value in ({}, [], None):
            continue
        if isinstance(value, Mapping):
            parts.append(f"{name} ({in_words(value)})")
        elif isinstance(value, list | tuple):
            shown = ", ".join(str(v) for v in value[:8])
            more = f" and {len(value) - 8} more" if len(value) > 8 else ""
            parts.append(f"{name} {shown}{more}")
        else:
            parts.append(f"{name} {value}")
    return "; ".join(parts).replace("_", " ")
