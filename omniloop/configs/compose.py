"""Composition of config groups and overrides by Hydra, and nothing but composition.

``suite=NAME`` brings what a suite pins (`omniloop.configs.suite`). Three things happen before
Hydra's grammar sees an override:

* a key whose value is a string (a path, an id, a name, a plugin's string argument) is
  taken verbatim, since the grammar rejects ``path=/a(1)/x`` and reads ``1e5`` as a number;
* ``policy=NAME`` of a plugin that has no file in the group is looked up in the registry;
* every other key may be new: the schema says what is unknown, and what was meant.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from omniloop.configs.schema import GROUP_NAMES, RunConfig, validate
from omniloop.core.errors import ConfigError, nearest
from omniloop.core.registry import GROUPS, load_class, parameters
from omniloop.runlog.redact import without_secret

if TYPE_CHECKING:
    from omniloop.configs.suite import Suite

_VERBATIM = {
    "scenes.path", "scenes.ids", "scenes.edit", "run.dir", "run.name", "run.mqtt", "run.ray_address",
}  # fmt: skip
_NULLS = {"null", "None", ""}


def options(group: str) -> list[str]:
    """Names of a group's files."""
    folder = resources.files("omniloop.configs") / group
    names = (entry.name for entry in folder.iterdir())
    return sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml"))


@functools.cache
def default_choices() -> dict[str, str]:
    """The file chosen in each group where nobody says otherwise."""
    from omegaconf import OmegaConf

    text = (resources.files("omniloop.configs") / "config.yaml").read_text()
    entries = OmegaConf.to_container(OmegaConf.create(text))["defaults"]  # type: ignore[index,call-overload]
    return {k: v for entry in entries if isinstance(entry, dict) for k, v in entry.items()}


def _split(override: str) -> tuple[str, str]:
    key, separator, value = override.partition("=")
    key = key.lstrip("+").strip()
    if not separator or not key or key.startswith("~"):
        raise ConfigError(
            f"'{override}' is not a setting", where="command line",
            remedy="write key=value, such as policy=constant_velocity or run.seeds=4",
        )  # fmt: skip
    return key, value


def _choose(group: str, value: str) -> tuple[str, str | None]:
    """The group's file for a value, and the plugin's name where the file has none."""
    if value in options(group) and value != "external":
        return value, None
    if group not in GROUPS or group == "metrics":
        raise ConfigError(
            f"unknown {group} '{value}'.{nearest(value, options(group))}",
            where=f"{group}={value}", remedy=f"known: {', '.join(options(group))}",
        )  # fmt: skip
    load_class(group, value)  # says what is known, and suggests the nearest
    return "external", value


def _is_text(kind: str, name: str, argument: str) -> bool:
    parameter = parameters(kind, name).get(argument)
    return parameter is not None and str(parameter.annotation).replace(" ", "") in (
        "str",
        "str|None",
        "<class'str'>",
    )


def is_verbatim(key: str, plugin: str) -> bool:
    """Whether a setting's value is taken as it is typed.

    Args:
        plugin: The name of the group's plugin; "none" if there is none.
    """
    group, _, argument = key.partition(".")
    return key in _VERBATIM or (
        group in GROUPS
        and group != "metrics"
        and plugin != "none"
        and _is_text(group, plugin, argument)
    )


def _suite(given: list[tuple[str, str]]) -> tuple[Suite | None, list[tuple[str, str]]]:
    """The suite asked for, and all other settings, the kinds that it chooses first."""
    wanted = [value for key, value in given if key == "suite"]
    if not wanted:
        return None, given
    if len(wanted) > 1:
        raise ConfigError(
            "a run is of one suite", where=" ".join(f"suite={name}" for name in wanted),
            remedy="give one; a suite of your own may hold the entries of both",
        )  # fmt: skip
    from omniloop.configs.suite import read_suite

    suite = read_suite(wanted[0])
    others = [(key, value) for key, value in given if key != "suite"]
    for key, value in others:
        suite.refuse(key, value)
    return suite, [*suite.choices.items(), *others]


@functools.lru_cache(maxsize=32)
def _by_hydra(overrides: tuple[str, ...]) -> dict[str, Any]:
    """What Hydra makes of the package's files and of settings; it takes it a tenth of a second."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    GlobalHydra.instance().clear()
    with initialize_config_module("omniloop.configs", version_base="1.3"):
        composed = hydra_compose("config", overrides=list(overrides))
    raw: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
    return raw


def compose(overrides: Sequence[str]) -> RunConfig:
    """Compose and validate the config of a run.

    Args:
        overrides: ``key=value`` as typed on the command line.

    Raises:
        ConfigError: an override cannot be read, a setting is unknown or unusable, or a suite
            pins it.
        SceneError: a suite is not right.
        PluginError: a plugin is unknown.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    groups: list[str] = []
    verbatim: dict[str, str | None] = {}
    rest: list[tuple[str, str]] = []
    plugin_names = dict(default_choices())
    suite, settings = _suite([_split(override) for override in overrides])
    for key, value in settings:
        if key in GROUP_NAMES:
            choice, plugin = _choose(key, value)
            groups.append(f"{key}={choice}")
            plugin_names[key] = plugin or choice
            if plugin is not None:
                verbatim[f"{key}.name"] = plugin
        else:
            rest.append((key, value))
    grammar: list[str] = []
    for key, value in rest:
        group = key.partition(".")[0]
        if group not in GROUP_NAMES:
            raise ConfigError(
                f"unknown setting '{key}'.{nearest(group, (*GROUP_NAMES, 'suite'))}",
                where=f"{key}={value}", remedy=f"groups: {', '.join(GROUP_NAMES)}; or suite=NAME",
            )  # fmt: skip
        if is_verbatim(key, plugin_names.get(group, "none")):
            verbatim[key] = None if value in _NULLS else value
        else:
            grammar.append(f"++{key}={value}")
    try:
        raw = copy.deepcopy(_by_hydra((*groups, *grammar)))
    except (HydraException, OmegaConfBaseException) as error:
        text = str(error).splitlines()[0]
        raise ConfigError(
            f"the settings cannot be read: {text}", where=" ".join(map(without_secret, overrides)),
            remedy="quote a value with commas, brackets or blanks: key='\"a, b\"'",
        ) from None  # fmt: skip
    for key, text_value in verbatim.items():
        group, _, argument = key.partition(".")
        raw[group][argument] = text_value
    if suite is None:
        return validate(raw)
    suite.apply(raw)
    try:
        return validate(raw)
    except ConfigError as error:
        raise suite.blamed(error) from error
