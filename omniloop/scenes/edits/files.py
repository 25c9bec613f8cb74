"""Edit files: YAML with parameters, checked against the schema; recipes of the package."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from omniloop.core.errors import ConfigError, SceneError, nearest
from omniloop.scenes.edits.schema import EDITS, Head, Parameter, Strict
from omniloop.scenes.yaml_file import YamlFile, parse_yaml

RECIPE_PREFIX = "recipe:"
_PLACEHOLDER = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_KEYS = ("description", "parameters", "edits")
_MANUAL = "docs/editing.md"


@dataclass(frozen=True, eq=False)
class EditFile:
    """An edit file before its parameters are filled in.

    Attributes:
        name: Its stem, or the recipe's name.
        file: Its path or ``recipe:NAME``, and its lines, for errors.
        description: One line.
        parameters: What may be set from outside.
        edits: Raw edits, with placeholders.
    """

    name: str
    file: YamlFile
    description: str
    parameters: Mapping[str, Parameter]
    edits: tuple[Any, ...]

    @property
    def where(self) -> str:
        """Its path or ``recipe:NAME``."""
        return self.file.where

    def resolve(self, values: Mapping[str, Any] | None = None) -> tuple[Strict, ...]:
        """Fill in parameters and check every edit.

        Args:
            values: Values by parameter; the defaults where there are none.

        Raises:
            ConfigError: an unknown parameter, or a value that is none of its choices.
            SceneError: an edit is not right; it names file, line and key.
        """
        filled = {name: p.default for name, p in self.parameters.items()}
        for name, value in (values or {}).items():
            if name not in self.parameters:
                raise ConfigError(
                    f"'{self.where}' has no parameter '{name}'.{nearest(name, self.parameters)}",
                    where=f"scenes.set.{name}={value}",
                    remedy=f"its parameters: {', '.join(self.parameters) or 'none'}",
                )
            check_choice(self.parameters[name], name, value, self.where)
            filled[name] = value
        return tuple(
            self._edit(k, self._filled(raw, filled, ("edits", k)))
            for k, raw in enumerate(self.edits)
        )

    def _filled(self, raw: Any, values: Mapping[str, Any], at: tuple[str | int, ...]) -> Any:
        if isinstance(raw, Mapping):
            return {str(k): self._filled(v, values, (*at, str(k))) for k, v in raw.items()}
        if isinstance(raw, list):
            return [self._filled(v, values, (*at, k)) for k, v in enumerate(raw)]
        if not isinstance(raw, str):
            return raw
        for name in _PLACEHOLDER.findall(raw):
            if name not in values:
                raise SceneError(
                    f"unknown parameter '${{{name}}}'.{nearest(name, values)}", where=self.file.place(at),
                    remedy=f"declare it under parameters; there are: {', '.join(values) or 'none'}",
                )  # fmt: skip
        whole = _PLACEHOLDER.fullmatch(raw)
        if whole:
            return values[whole[1]]
        return _PLACEHOLDER.sub(lambda m: str(values[m[1]]), raw)

    def _edit(self, number: int, raw: Any) -> Strict:
        at: tuple[str | int, ...] = ("edits", number)
        if not isinstance(raw, Mapping) or "kind" not in raw:
            raise SceneError(
                "an edit is a mapping with a 'kind'", where=self.file.place(at),
                remedy=f"kinds: {', '.join(EDITS)}",
            )  # fmt: skip
        kind = str(raw["kind"])
        if kind not in EDITS:
            raise SceneError(
                f"unknown kind of edit '{kind}'.{nearest(kind, EDITS)}", where=self.file.place((*at, "kind")),
                remedy=f"kinds: {', '.join(EDITS)}",
            )  # fmt: skip
        try:
            return EDITS[kind].model_validate(dict(raw))
        except ValidationError as error:
            raise self.file.refused(error, EDITS[kind], at, manual=_MANUAL) from None


def check_choice(parameter: Parameter, name: str, value: Any, where: str) -> None:
    """Refuse a value that is none of a parameter's choices.

    Raises:
        ConfigError: it is not.
    """
    if parameter.choices is not None and value not in parameter.choices:
        raise ConfigError(
            f"{name}={value!r} is none of its choices", where=f"scenes.set.{name}={value}, {where}",
            remedy=f"give one of {', '.join(map(str, parameter.choices))}",
        )  # fmt: skip


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    folder = resources.files("omniloop.scenes") / "recipes"
    names = (entry.name for entry in folder.iterdir())
    return sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml"))


def read_edit_file(name: str) -> EditFile:
    """Read an edit file by its path, or a recipe as ``recipe:NAME``.

    Raises:
        SceneError: there is none, it is no YAML, or its head is not right; it names the
            line and the nearest known key.
    """
    if name.startswith(RECIPE_PREFIX):
        stem = name.removeprefix(RECIPE_PREFIX)
        names = recipe_names()
        if stem not in names:
            raise SceneError(
                f"unknown recipe '{stem}'.{nearest(stem, names)}", where=f"scenes.edit={name}",
                remedy=f"recipes: {', '.join(names)}",
            )  # fmt: skip
        entry = resources.files("omniloop.scenes") / "recipes" / f"{stem}.yaml"
        return parse_edit_file(entry.read_text(encoding="utf-8"), stem, name)
    path = Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        hint = nearest(path.stem, recipe_names()).replace("'", f"'{RECIPE_PREFIX}", 1)
        raise SceneError(
            f"the edit file cannot be read: {error}.{hint}", where=f"scenes.edit={name}",
            remedy=f"give the path of a YAML file, or {RECIPE_PREFIX}NAME of a shipped one",
        ) from error  # fmt: skip
    return parse_edit_file(text, path.stem, name)


def parse_edit_file(text: str, name: str, where: str) -> EditFile:
    """Parse the text of an edit file.

    Raises:
        SceneError: as for `read_edit_file`.
    """
    file = parse_yaml(text, where)
    raw = file.raw
    if not isinstance(raw, Mapping) or not isinstance(raw.get("edits"), list):
        raise SceneError(
            "an edit file is a mapping with a list 'edits'", where=where,
            remedy="write edits: and below it one '- kind: ...' for each",
        )  # fmt: skip
    for key in raw:
        if key not in _KEYS:
            raise file.unknown_key((str(key),), _KEYS)
    declared = raw.get("parameters") or {}
    if isinstance(declared, Mapping):  # `gap_s: 0.8` is short for `gap_s: {default: 0.8}`
        declared = {
            str(k): v if isinstance(v, Mapping) else {"default": v} for k, v in declared.items()
        }
    try:
        head = Head.model_validate(
            {"description": raw.get("description", ""), "parameters": declared}
        )
    except ValidationError as error:
        raise file.refused(error, Parameter, manual=_MANUAL) from None
    return EditFile(name, file, head.description, head.parameters, tuple(raw["edits"]))


@dataclass(frozen=True, eq=False)
class EditList:
    """Edits of one or more files in order, with their parameters filled in."""

    parts: tuple[tuple[str, tuple[Strict, ...]], ...]


def load_edits(names: Sequence[str], values: Mapping[str, Any] | None = None) -> EditList:
    """Read edit files and fill in parameters; a value goes to every file that declares it.

    Args:
        names: Paths or ``recipe:NAME``, in the order in which they apply.
        values: Parameters by name.

    Raises:
        ConfigError: no file declares a parameter, or its value is none of its choices.
        SceneError: a file is not right.
    """
    files = [read_edit_file(name) for name in names]
    given = dict(values or {})
    known = [name for file in files for name in file.parameters]
    for name, value in given.items():
        if name not in known:
            raise ConfigError(
                f"no edit file has a parameter '{name}'.{nearest(name, known)}",
                where=f"scenes.set.{name}={value}",
                remedy=f"their parameters: {', '.join(known) or 'none'}",
            )
    return EditList(
        tuple(
            (file.where, file.resolve({k: v for k, v in given.items() if k in file.parameters}))
            for file in files
        )
    )
