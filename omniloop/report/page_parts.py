"""The tables of a run's page, computed from results and ``run.yaml``."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omniloop.imperfection.service import FACTS
from omniloop.report.summary import Column, cell, mean_of
from omniloop.runlog.results import RolloutResult
from omniloop.runlog.run_yaml import RUN_YAML

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
        tiles.append((f"{count} of {incident.valid}", "scored rollouts with an incident"))
    progress = mean_of(results, "progress_rel")
    if progress.value is not None:
        caption = f"mean progress ({progress.valid} of {progress.total})"
        tiles.append((f"{progress.value * 100:.0f} %", caption))
    tube = mean_of(results, "distance_in_tube_m")
    if tube.value is not None:
        tiles.append((f"{tube.summed / 1000:.2f} km", "driven within the tube"))
    return tiles


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
            settings = [
                f"{key}={value}"
                for key, value in values.items()
                if key != "name" and value is not None
            ]
            head = [str(values["name"])] if values.get("name") else []
            lines.append((str(group), ", ".join(head + settings)))
        elif values is not None:
            lines.append((str(group), str(values)))
    if root_seed is not None:
        lines.append(("root seed", str(root_seed)))
    return lines


def rerun_command(config: Mapping[str, Any], name: str) -> str:
    """A command that runs the same again beside the run; empty if the settings are not known.

    Scores do not change what is simulated and stand in the configuration alone.
    """
    words = []
    suite = config.get("suite") or {}
    for group, values in config.items():
        if group in ("metrics", "suite") or not isinstance(values, Mapping):
            continue
        if group != "run" and values.get("name"):
            words.append(f"{group}={values['name']}")
        words += _flat(group, {k: v for k, v in values.items() if k not in ("name", "resume")})
    if suite:
        pinned = ("scenes", "run.seeds", *(suite.get("settings") or ()))
        free = [w for w in words if not _is_of(w.partition("=")[0], pinned)]
        words = [f"suite={suite.get('file') or suite.get('name')}", *free]
    if not words:
        return ""
    return " ".join(shlex.quote(word) for word in ["omniloop", "run", *words, f"run.name={name}_2"])


def _is_of(key: str, groups: Iterable[str]) -> bool:
    """Whether a key is one of these, or below one."""
    return any(key == group or key.startswith(f"{group}.") for group in groups)


def _flat(prefix: str, value: object) -> Iterator[str]:
    """``KEY=VALUE`` of what is set, as the command line takes it."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}", inner)
    elif value not in (None, []):
        yield f"{prefix}={str(value).lower() if isinstance(value, bool) else value}"


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
