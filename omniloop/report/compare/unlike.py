"""Scores that do not mean the same in two runs, and so are not compared."""

from __future__ import annotations

from omniloop.core import registry
from omniloop.core.errors import PluginError
from omniloop.metrics.recorded import packages_that_differ, scores_that_differ
from omniloop.report.aggregate import parts_per_km, per_km_names
from omniloop.report.runs import Run
from omniloop.runlog.environment import differences


def unlike_scores(first: Run, second: Run) -> dict[str, str]:
    """Score to the reason why it is not compared.

    Reasons are other settings of its metric, another definition, and that one run lacks it. A
    score per km goes with its parts.
    """
    out = _other_settings(first, second)
    if first.recorded is not None and second.recorded is not None:
        out = scores_that_differ(first.recorded, second.recorded)
    names = [{name for r in run.results for name in r.metrics} for run in (first, second)]
    for name in sorted(names[0] ^ names[1]):
        out.setdefault(name, f"only in {(first if name in names[0] else second).name}")
    for name in per_km_names([*(names[0] | names[1])]):
        flag, distance, _ = parts_per_km(name)
        if reason := out.get(flag) or out.get(distance):
            out[name] = reason
    return out


def meaning_cautions(first: Run, second: Run) -> list[str]:
    """What is not known of what scores mean."""
    if first.recorded is not None and second.recorded is not None:
        return packages_that_differ(first.recorded, second.recorded)
    return [
        f"{run.name} does not say what its scores mean: they are taken as if they meant the same"
        f" (`omniloop score {run.path}` scores it anew)"
        for run in (first, second)
        if run.recorded is None
    ]


def _other_settings(first: Run, second: Run) -> dict[str, str]:
    """Scores of metrics to which other settings were given; defaults are not known."""
    out: dict[str, str] = {}
    before, now = (run.config.get("metrics") or {} for run in (first, second))
    for plugin in before:
        if plugin in now and (before[plugin] or {}) != (now[plugin] or {}):
            changed = "; ".join(differences(before[plugin] or {}, now[plugin] or {}))
            for name in _names_of(plugin):
                out[name] = f"settings of metric '{plugin}' differ ({changed})"
    return out


def _names_of(plugin: str) -> tuple[str, ...]:
    try:
        loaded = registry.load_class("metrics", plugin)
    except PluginError:
        return ()  # `Run.problems` has named it
    return tuple(getattr(loaded, "names", (loaded.__name__,)))
