"""Which image metrics a comparison uses: all that are installed, or those named."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import yaml

from omniloop.core import registry
from omniloop.core.errors import ConfigError, nearest
from omniloop.report.image_metrics.contract import ImageMetric

KIND = "image_metric"


def choose(
    names: Sequence[str] = (), weights: Sequence[str] = (), settings: Sequence[str] = ()
) -> tuple[dict[str, ImageMetric], list[str]]:
    """Make the image metrics of a comparison.

    Args:
        names: Of plugins, or ``module:Class``; empty for all that are installed.
        weights: ``NAME=PATH`` each: the setting `weights` of a metric.
        settings: ``NAME.KEY=VALUE`` each.

    Returns:
        Those that give scores, by name, and why others do not.

    Raises:
        ConfigError: a setting cannot be read or is of no metric used, or two metrics give scores
            of the same name.
        PluginError: a plugin is unknown, or refuses its settings.
    """
    chosen = list(dict.fromkeys(names)) or sorted(registry.available(KIND))
    given: dict[str, dict[str, Any]] = {name: {} for name in chosen}
    for text in weights:
        name, separator, path = text.partition("=")
        if not (name and separator and path):
            raise _unreadable("--weights", text, "inception=PATH")
        _of(given, name, f"--weights {text}")["weights"] = path
    for text in settings:
        key, separator, value = text.partition("=")
        name, dot, setting = key.rpartition(".")
        if not (name and separator and dot and setting):
            raise _unreadable("--set", text, "inception.batch=8")
        _of(given, name, f"--set {text}")[setting] = _read(text, value)
    made = {name: registry.create(KIND, name, arguments) for name, arguments in given.items()}
    used = {name: metric for name, metric in made.items() if not metric.absent}
    counts = collections.Counter(score.name for metric in used.values() for score in metric.scores)
    twice = sorted(name for name, count in counts.items() if count > 1)
    if twice:
        raise ConfigError(
            f"two image metrics give '{twice[0]}'", where=", ".join(used),
            remedy="name those wanted: --metric NAME",
        )  # fmt: skip
    if not used:
        raise ConfigError(
            "no image metric gives scores", where=", ".join(f"{n}: {m.absent}" for n, m in made.items()),
            remedy="leave --metric away, or give what they need",
        )  # fmt: skip
    absent = [
        f"{', '.join(score.heading for score in metric.scores)}: {metric.absent}"
        for metric in made.values()
        if metric.absent
    ]
    return used, absent


def _of(given: dict[str, dict[str, Any]], name: str, where: str) -> dict[str, Any]:
    if name not in given:
        raise ConfigError(
            f"'{name}' is no image metric that is used.{nearest(name, given)}", where=where,
            remedy=f"used: {', '.join(given)}",
        )  # fmt: skip
    return given[name]


def _read(text: str, value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise _unreadable("--set", text, "inception.batch=8") from None


def _unreadable(option: str, text: str, example: str) -> ConfigError:
    return ConfigError(
        f"'{text}' cannot be read", where=f"{option} {text}", remedy=f"write {option} {example}"
    )
