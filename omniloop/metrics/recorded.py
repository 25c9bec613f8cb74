"""What scores mean, as a run keeps it: a later version may define them otherwise."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any, get_args

from omniloop.core import registry
from omniloop.metrics.definition import MetricDefinition, Reduction
from omniloop.metrics.documentation import definitions_of

Recorded = Mapping[str, Mapping[str, Any]]
"""Metric plugin to its "package", "settings" (defaults too) and "scores": name to definition."""

_DECIDING = ("version", "unit", "formula", "over_time", "over_rollouts", "better", "undefined")
"""Parts of a definition without which a value does not mean the same."""


def recorded(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Describe the metrics of a run, as JSON holds it.

    Args:
        metrics: Plugin to the settings given to it.

    Raises:
        PluginError: a plugin is not there.
    """
    out: dict[str, dict[str, Any]] = {}
    for plugin, given in metrics.items():
        loaded = registry.load_class("metrics", plugin)
        parameters = registry.parameters("metrics", plugin)
        defaults = {k: p.default for k, p in parameters.items() if p.default is not p.empty}
        known = {d.name: asdict(d) for d in definitions_of(loaded)}
        names = dict.fromkeys([*known, *getattr(loaded, "names", (loaded.__name__,))])
        out[plugin] = {
            "package": registry.package_of("metrics", plugin),
            "settings": dict(sorted({**defaults, **given}.items())),
            "scores": {name: known.get(name) for name in names},
        }
    plain: dict[str, dict[str, Any]] = json.loads(json.dumps(_finite(out), default=_type_name))
    return plain


def definitions_in(metrics: Recorded) -> dict[str, MetricDefinition]:
    """The definitions that a run keeps, by score; parts that this version does not know are passed over.

    Raises:
        ValueError: one is not as `recorded` writes it.
    """
    parts = {field.name for field in fields(MetricDefinition)}
    found: dict[str, MetricDefinition] = {}
    try:
        for plugin in metrics.values():
            dict(plugin["settings"])
            for name, told in plugin["scores"].items():
                if told is None:
                    continue
                settings = tuple((key, value) for key, value in told.get("settings", ()))
                known = {key: value for key, value in told.items() if key in parts}
                found[name] = MetricDefinition(**{**known, "settings": settings})
                if told["over_rollouts"] not in get_args(Reduction):
                    raise ValueError(f"{name}: over_rollouts is {told['over_rollouts']!r}")
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return found


def scores_that_differ(before: Recorded, now: Recorded) -> dict[str, str]:
    """Scores that do not mean the same in two records, with what differs.

    Only scores that both hold are looked at. Settings count with their defaults. Two plugins that
    give a score of one name give the same if both define it alike.
    """
    old, new = _by_score(before), _by_score(now)
    out: dict[str, str] = {}
    for name in old.keys() & new.keys():
        (plugin, settings, told), (other, given, meant) = old[name], new[name]
        changed = _differences(settings, given, sorted({*settings, *given}))
        parts = _differences(told or {}, meant or {}, _DECIDING)
        if plugin != other and not (told and meant):
            out[name] = f"it is of another metric ({plugin} -> {other})"
        elif changed:
            out[name] = f"settings of metric '{plugin}' differ ({changed})"
        elif parts:
            out[name] = f"it is defined otherwise ({parts})"
    return dict(sorted(out.items()))


def _by_score(metrics: Recorded) -> dict[str, tuple[str, Mapping[str, Any], Any]]:
    """Score to its plugin, the settings of that, and its definition."""
    return {
        name: (plugin, of.get("settings") or {}, told)
        for plugin, of in metrics.items()
        for name, told in of["scores"].items()
    }


def packages_that_differ(before: Recorded, now: Recorded) -> list[str]:
    """Metric plugins of other packages than Omniloop that changed their version, a line each."""
    lines = []
    for plugin in before:
        old, new = (str(side.get(plugin, {}).get("package", "")) for side in (before, now))
        if plugin in now and old != new and not old.startswith("omniloop "):
            lines.append(f"package of metric '{plugin}': {old or 'none'} -> {new or 'none'}")
    return lines


_MOST_LETTERS = 60


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], keys: Iterable[str]) -> str:
    changed = [key for key in keys if before.get(key) != now.get(key)]
    parts = []
    for key in changed:
        old, new = (str(side[key]) if key in side else "absent" for side in (before, now))
        alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False))
        start = sum(1 for _ in alike) if len(old + new) > _MOST_LETTERS else 0
        parts.append(f"{key}: {_part(old, start)} -> {_part(new, start)}")
    return "; ".join(parts)


def _part(text: str, start: int) -> str:
    """The part of a long text in which it differs from another."""
    start = max(start - 10, 0)
    part = text[start : start + _MOST_LETTERS]
    return ("..." if start else "") + part + ("..." if start + len(part) < len(text) else "")


def _finite(value: Any) -> Any:
    """A copy in which numbers that JSON cannot hold are words."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _type_name(value: object) -> str:
    """For a plugin's own default, such as an object."""
    return f"{type(value).__module__}.{type(value).__qualname__}"
