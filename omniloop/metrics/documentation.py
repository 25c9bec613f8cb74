"""The reference of scores, made from the definitions and docstrings of metric plugins."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from omniloop.core import registry
from omniloop.metrics.definition import MetricDefinition

_INTRO = """Written by `omniloop metrics docs` from the definitions in the code; do not edit it.
[README.md](README.md) says what all metrics share. Families: {families}.
"""


def registered() -> dict[str, type[Any]]:
    """Metric plugins by name, sorted; those of other packages too.

    Raises:
        PluginError: one cannot be imported.
    """
    return {n: registry.load_class("metrics", n) for n in sorted(registry.available("metrics"))}


def definitions_of(plugin: type[Any]) -> tuple[MetricDefinition, ...]:
    """What a plugin says of its scores; empty if it does not."""
    return tuple(getattr(plugin, "definitions", ()))


def pages(plugins: Mapping[str, type[Any]]) -> dict[str, str]:
    """One page of Markdown for each family of the plugins that define their scores."""
    families: dict[str, list[str]] = {}
    for name, plugin in plugins.items():
        if definitions_of(plugin):
            families.setdefault(definitions_of(plugin)[0].family, []).append(name)
    links = ", ".join(f"[{family}]({family}.md)" for family in sorted(families))
    out = {}
    for family, names in sorted(families.items()):
        parts = [f"# Scores of the family `{family}`\n", _INTRO.format(families=links)]
        parts.append(_index({name: plugins[name] for name in names}))
        parts += [_section(name, plugins[name]) for name in names]
        out[family] = "\n".join(parts)
    return out


def _index(plugins: Mapping[str, type[Any]]) -> str:
    rows = [
        (f"[`{name}`](#{name})", ", ".join(f"`{d.name}`" for d in definitions_of(plugin)))
        for name, plugin in plugins.items()
    ]
    return _table(("metric", "scores"), rows)


def _section(name: str, plugin: type[Any]) -> str:
    found = definitions_of(plugin)
    prose, settings = _docstring(plugin)
    rows = [
        (f"`{d.name}`", d.unit, d.formula, d.over_time, d.over_rollouts, d.better) for d in found
    ]
    head = ("score", "unit", "formula", "over time", "over rollouts", "better")
    parts = [f"## {name}\n", prose + "\n", _table(head, rows)]
    parts.append(_grouped("Undefined", [(d.name, d.undefined or "never") for d in found]))
    parts.append(_grouped("Source", [(d.name, d.source) for d in found]))
    later = [(d.name, str(d.version)) for d in found if d.version != 1]
    if later:
        parts.append(_grouped("Version", later))
    defaults = {key: value for d in found for key, value in d.settings}
    if defaults:
        rows_of = [(f"`{k}`", _plain(v), settings.get(k, "")) for k, v in defaults.items()]
        parts.append(_table(("setting", "default", "meaning"), rows_of))
    return "\n".join(parts)


def _docstring(plugin: type[Any]) -> tuple[str, dict[str, str]]:
    """A class's docstring without its arguments, and what it says of each of them."""
    text = inspect.getdoc(plugin) or ""
    prose, _, arguments = text.partition("\nArgs:\n")
    found: dict[str, str] = {}
    for match in re.finditer(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", arguments, re.MULTILINE):
        found[match[1]] = re.sub(r"\s+", " ", match[2])
    return prose.strip(), found


def _grouped(title: str, values: list[tuple[str, str]]) -> str:
    """One line if all scores have the same text, else one for each text."""
    by_text: dict[str, list[str]] = {}
    for name, text in values:
        by_text.setdefault(text, []).append(f"`{name}`")
    if len(by_text) == 1:
        return f"*{title}*: {next(iter(by_text))}.\n"
    lines = [f"- {', '.join(names)}: {text}." for text, names in by_text.items()]
    return "\n".join([f"*{title}*:\n", *lines, ""])


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(_cell(c) for c in line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"
