"""One registry for plugins, built in and external alike.

A plugin is one class. It is found by name through an entry-point group
(``omniloop.policies`` and so on; the built-ins are entry points of this package) or as
``module:Class``. Its constructor arguments are its config.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from omniloop.core.errors import OmniloopError, PluginError, nearest

GROUPS: dict[str, str] = {
    "policy": "omniloop.policies",
    "renderer": "omniloop.renderers",
    "traffic": "omniloop.traffic",
    "controller": "omniloop.controllers",
    "ground": "omniloop.grounds",
    "metrics": "omniloop.metrics",
    "scenes": "omniloop.scenes",
    "image_metric": "omniloop.image_metrics",
}
"""Kind of plugin to entry-point group."""

RUN_KINDS = tuple(kind for kind in GROUPS if kind != "image_metric")
"""Kinds that a run is made of; their names are those of its config groups."""


@functools.cache
def _entry_points(kind: str) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUPS[kind]), key=lambda p: (p.name, p.value)):
        other = found.get(point.name)
        if other is not None and other.value != point.value:
            raise PluginError(
                f"two {kind} plugins are called '{point.name}'",
                where=f"{other.value} and {point.value}",
                remedy=f"name one by its class: {kind}={point.value}",
            )
        found[point.name] = point
    return found


def available(kind: str) -> dict[str, str]:
    """Return plugin names of a kind with the ``module:Class`` that each stands for."""
    return {name: point.value for name, point in _entry_points(kind).items()}


@functools.cache
def package_of(kind: str, name: str) -> str:
    """Return name and version of the package that a plugin comes with; empty if of none."""
    point = _entry_points(kind).get(name)
    return "" if point is None or point.dist is None else f"{point.dist.name} {point.dist.version}"


def load_class(kind: str, name: str) -> type[Any]:
    """Return the plugin class called `name` or written ``module:Class``.

    Raises:
        PluginError: the name is unknown (the nearest is suggested), its module cannot
            be imported, or it is no class.
    """
    point = _entry_points(kind).get(name)
    if point is None and ":" not in name:
        known = sorted(_entry_points(kind))
        raise PluginError(
            f"unknown {kind} plugin '{name}'.{nearest(name, known)}",
            where=f"{kind}={name}",
            remedy=f"known: {', '.join(known) or 'none'}; or give module:Class of your own",
        )
    target = point.value if point else name
    module_name, _, attribute = target.partition(":")
    if point is None and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # `policy=my_file:MyPolicy` beside the user's work
    try:
        loaded = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # a plugin's module may fail in any way while it is imported
        raise PluginError(
            f"{kind} plugin '{name}' cannot be imported: {type(error).__name__}: {error}",
            where=target,
            remedy="install the package that holds it, or mend the path module:Class",
        ) from error
    if not inspect.isclass(loaded):
        raise PluginError(
            f"{kind} plugin '{name}' is not a class but a {type(loaded).__name__}",
            where=target,
            remedy="name the plugin's class: module:Class",
        )
    return loaded


def parameters(kind: str, name: str) -> dict[str, inspect.Parameter]:
    """Return the constructor parameters of a plugin: its config keys.

    ``**settings`` that a constructor hands on stands for the parameters of its base class.
    """
    plugin_class = load_class(kind, name)
    found: dict[str, inspect.Parameter] = {}
    constructors = [c for c in plugin_class.__mro__[:-1] if "__init__" in vars(c)]
    for number, owner in enumerate(constructors):
        own = dict(inspect.signature(owner).parameters)
        hands_on = [p.name for p in own.values() if p.kind is inspect.Parameter.VAR_KEYWORD]
        if hands_on and number + 1 < len(constructors):
            del own[hands_on[0]]
        found = {**found, **{k: v for k, v in own.items() if k not in found}}
        if not hands_on:
            break
    return found


def create(kind: str, name: str, arguments: Mapping[str, Any]) -> Any:
    """Construct a plugin from its config.

    Raises:
        PluginError: unknown plugin, unknown argument (the nearest is suggested), or the
            constructor refuses a value.
    """
    known = parameters(kind, name)
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
    many = kind in ("metrics", "image_metric")  # where a run or a comparison has several
    group = f"{kind}.{name}" if many else kind
    for key in arguments:
        if key not in known and not takes_any:
            raise PluginError(
                f"{kind} '{name}' has no setting '{key}'.{nearest(key, known)}",
                where=f"{group}.{key}={arguments[key]!r}",
                remedy=f"its settings: {', '.join(known) or 'none'}",
            )
    for key, parameter in known.items():
        if (
            key not in arguments
            and parameter.default is parameter.empty
            and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        ):
            raise PluginError(
                f"{kind} '{name}' needs the setting '{key}'", where=f"{group}.{key}",
                remedy=f"add {group}.{key}=...",
            )  # fmt: skip
    plugin_class = load_class(kind, name)
    try:
        return plugin_class(**arguments)
    except OmniloopError:
        raise
    except (TypeError, ValueError) as error:
        raise PluginError(
            f"{kind} '{name}' refuses its settings: {error}",
            where=", ".join(f"{group}.{k}={v!r}" for k, v in arguments.items()) or f"{kind}={name}",
            remedy=f"its settings: {', '.join(str(p) for p in known.values()) or 'none'}",
        ) from error
