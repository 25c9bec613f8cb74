"""Suite files: scenes, seeds, edits, metrics and settings that are run as one.

A suite pins what it names. What it pins cannot be set beside it on the command line, so that
two results of a suite are results of the same thing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from omniloop.configs.schema import GROUP_NAMES
from omniloop.core import registry
from omniloop.core.errors import ConfigError, InputError, SceneError, nearest
from omniloop.runlog.run_yaml import SIMULATED_RUN
from omniloop.scenes.edits.files import RECIPE_PREFIX
from omniloop.scenes.edits.schema import Strict
from omniloop.scenes.joined import SceneEntry
from omniloop.scenes.yaml_file import YamlFile, parse_yaml

_MANUAL = "docs/suites.md"
_ALWAYS_PINNED = {"scenes": ("scenes",), "run.seeds": ("seeds",), "metrics": ("metrics",)}
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
_PINNABLE_GROUPS = tuple(g for g in GROUP_NAMES if g not in ("scenes", "metrics", "run"))


class SuiteHead(Strict):
    """What a suite file holds."""

    description: str = ""
    version: int = Field(default=1, ge=1)
    """Counted up by its author; the content hash says whether anything changed."""
    scenes: list[Any] = Field(min_length=1)
    """Entries; see `omniloop.scenes.joined.SceneEntry`."""
    seeds: int | list[int] = 1
    """A count or a list, as `run.seeds`."""
    metrics: str | dict[str, dict[str, Any] | None] = "default"
    """A file of the group `metrics`, or plugins with their settings."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings as on the command line: a group's name, or a dotted key."""


@dataclass(frozen=True, eq=False)
class Suite:
    """A suite file after its checks.

    Attributes:
        name: The file's stem.
        file: Its text's places, for errors.
        head: What it says.
        entries: Its scenes; paths are absolute.
        shipped: Whether it comes with the package.
    """

    name: str
    file: YamlFile
    head: SuiteHead
    entries: tuple[SceneEntry, ...]
    shipped: bool

    @property
    def pinned(self) -> dict[str, tuple[str, ...]]:
        """Keys that the command line may not set, with their places in the file."""
        return {**_ALWAYS_PINNED, **{key: ("settings", key) for key in self.head.settings}}

    @property
    def choices(self) -> dict[str, str]:
        """Groups whose kind the suite chooses."""
        chosen = {k: v for k, v in self.head.settings.items() if k in GROUP_NAMES}
        if isinstance(self.head.metrics, str):
            chosen["metrics"] = self.head.metrics
        return chosen

    def refuse(self, key: str, value: str) -> None:
        """Refuse a setting of the command line that the suite pins.

        Raises:
            ConfigError: it does; a group's name pins the whole group.
        """
        for pinned, location in self.pinned.items():
            covers = "." in key and pinned.startswith(f"{key}.")
            if key == pinned or key.startswith(f"{pinned}.") or covers:
                raise ConfigError(
                    f"'{key}' cannot be set: the suite '{self.name}' pins '{pinned}'",
                    where=f"{key}={value}; {self.file.place(location)}",
                    remedy="leave it out, or run a copy of the suite with it changed",
                )

    def apply(self, raw: dict[str, Any]) -> None:
        """Write what the suite pins, but for its `choices`, into composed settings."""
        raw["scenes"] = {
            "name": "joined",
            "entries": [
                entry.model_dump(mode="json", exclude_defaults=True) for entry in self.entries
            ],
            "places": [self.file.place(("scenes", k)) for k in range(len(self.entries))],
        }
        raw["run"]["seeds"] = self.head.seeds
        if not isinstance(self.head.metrics, str):
            raw["metrics"] = {name: dict(v or {}) for name, v in self.head.metrics.items()}
        for key, value in self.head.settings.items():
            if "." in key:
                _put(raw, key, value)
        raw["suite"] = {
            "name": self.name, "version": self.head.version,
            "file": None if self.shipped else self.file.where,
            "description": self.head.description, "settings": list(self.head.settings),
        }  # fmt: skip

    def blamed(self, error: ConfigError) -> ConfigError:
        """The same error with its place in the suite's file, if a pinned setting has caused it."""
        key = error.where.partition("=")[0]
        for pinned, location in self.pinned.items():
            if key == pinned or key.startswith(f"{pinned}."):
                where = f"{self.file.place(location)}: {error.where}"
                return ConfigError(error.what, where=where, remedy=error.remedy)
        return error


def suite_names() -> list[str]:
    """Names of the suites that come with the package, sorted."""
    folder = resources.files("omniloop") / "suites"
    names = (entry.name for entry in folder.iterdir())
    return sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml"))


def read_suite(name: str) -> Suite:
    """Read a suite of the package by its name, or a file by its path.

    Raises:
        ConfigError: there is none, or it names a metric or setting that is none.
        SceneError: it is no YAML or not right; it names line and key, and the nearest known.
    """
    text = suite_text(name)
    if name in suite_names():
        return parse_suite(text, name, f"omniloop/suites/{name}.yaml", None)
    path = Path(name)
    return parse_suite(text, path.stem, name, path.resolve().parent)


def suite_text(name: str) -> str:
    """The text of a suite of the package, or of a file.

    Raises:
        ConfigError: there is none.
    """
    names = suite_names()
    if name in names:
        entry = resources.files("omniloop") / "suites" / f"{name}.yaml"
        return entry.read_text(encoding="utf-8")
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"unknown suite '{name}'.{nearest(name, names)}", where=f"suite={name}",
            remedy=f"suites: {', '.join(names)}; or give the path of a .yaml file",
        )  # fmt: skip
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the suite cannot be read: {error}.{nearest(path.stem, names)}", where=f"suite={name}",
            remedy=f"give the path of a YAML file, or one of {', '.join(names)}",
        ) from error  # fmt: skip


def parse_suite(text: str, name: str, where: str, folder: Path | None) -> Suite:
    """Parse the text of a suite.

    Args:
        folder: What its relative paths are relative to; None for one of the package.

    Raises:
        InputError: as for `read_suite`.
    """
    file = parse_yaml(text, where)
    if not isinstance(file.raw, Mapping):
        raise SceneError(
            "a suite is a mapping with a list 'scenes'", where=where,
            remedy="write scenes: and below it one '- source: ...' for each",
        )  # fmt: skip
    try:
        head = SuiteHead.model_validate({str(k): v for k, v in file.raw.items()})
    except ValidationError as error:
        raise file.refused(error, SuiteHead, manual=_MANUAL) from None
    entries = tuple(_entry(file, k, raw, folder) for k, raw in enumerate(head.scenes))
    for key in head.settings:
        _check_setting(file, head, key)
    if not isinstance(head.metrics, str):
        if not head.metrics:
            raise _config_error(file, ("metrics",), "a suite without metrics measures nothing", "")
        for metric in head.metrics:
            _check_plugin(file, "metrics", metric, ("metrics", metric))
    return Suite(name, file, head, entries, shipped=folder is None)


def _entry(file: YamlFile, number: int, raw: Any, folder: Path | None) -> SceneEntry:
    at: tuple[str | int, ...] = ("scenes", number)
    try:
        entry = SceneEntry.model_validate(raw)
    except ValidationError as error:
        raise file.refused(error, SceneEntry, at, manual=_MANUAL) from None
    _check_plugin(file, "scenes", entry.source, (*at, "source"))
    changes: dict[str, Any] = {}
    if entry.path is not None:
        changes["path"] = _path(file, entry.path, (*at, "path"), folder)
    changes["edit"] = [
        name
        if name.startswith(RECIPE_PREFIX)
        else _path(file, name, (*at, "edit", k), folder)
        for k, name in enumerate(entry.edit)
    ]  # fmt: skip
    return entry.model_copy(update=changes)


def _path(file: YamlFile, text: str, at: tuple[str | int, ...], folder: Path | None) -> str:
    """An absolute path; `~`, `$NAME` and `${NAME}` are filled in."""
    for name in _VARIABLE.findall(text):
        if name not in os.environ:
            raise SceneError(
                f"the environment variable '{name}' of '{text}' is not set", where=file.place(at),
                remedy=f"set it: {name}=FOLDER omniloop ...",
            )  # fmt: skip
    filled = Path(os.path.expandvars(text)).expanduser()
    path = filled if folder is None else folder / filled
    if not path.exists():
        raise SceneError(
            f"there is nothing at '{text}'", where=f"{file.place(at)}: {path}",
            remedy="mend the path; it is relative to the suite's file",
        )  # fmt: skip
    return str(path)


def _check_plugin(file: YamlFile, kind: str, name: str, at: tuple[str | int, ...]) -> None:
    known = sorted(registry.available(kind))
    if name not in known and ":" not in name:
        what = f"unknown {kind} plugin '{name}'.{nearest(name, known)}"
        raise _config_error(file, at, what, f"known: {', '.join(known)}; or module:Class")


def _check_setting(file: YamlFile, head: SuiteHead, key: str) -> None:
    """Refuse settings that have a place of their own, or do not belong to what is evaluated."""
    at = ("settings", key)
    group, _, rest = key.partition(".")
    if group in ("scenes", "metrics") or key == "run.seeds":
        own = "seeds" if group == "run" else group
        raise _config_error(
            file,
            at,
            f"'{key}' is no setting of a suite",
            f"write it under the suite's own '{own}:'",
        )
    if group == "run":
        if rest not in SIMULATED_RUN:
            known = [f"run.{name}" for name in SIMULATED_RUN]
            what = f"'{key}' cannot be pinned.{nearest(key, known)}"
            raise _config_error(file, at, what, f"of run, a suite can pin: {', '.join(known)}")
        return
    if group not in _PINNABLE_GROUPS:
        what = f"unknown setting '{key}'.{nearest(group, _PINNABLE_GROUPS)}"
        raise _config_error(file, at, what, f"groups: {', '.join(_PINNABLE_GROUPS)}, run")
    if not rest and not isinstance(head.settings[key], str):
        what = f"{key}={head.settings[key]!r} names no {group}"
        raise _config_error(
            file, at, what, f"write {group}: NAME, and {group}.KEY: VALUE beside it"
        )
    if rest and group in registry.GROUPS and group not in head.settings:
        what = f"'{key}' is pinned, but not which {group} it is a setting of"
        raise _config_error(file, at, what, f"add {group}: NAME")


def _config_error(file: YamlFile, at: tuple[str | int, ...], what: str, remedy: str) -> InputError:
    return ConfigError(what, where=file.place(at), remedy=remedy or f"{_MANUAL} has every key")


def _put(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of nested settings."""
    *parents, last = key.split(".")
    for part in parents:
        inner = raw.get(part)
        raw[part] = raw = dict(inner) if isinstance(inner, dict) else {}
    raw[last] = value
