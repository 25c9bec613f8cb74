"""Edit files: YAML with parameters, checked against the schema; recipes of the package."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from omniloop.core.errors import ConfigError, SceneError, nearest
from omniloop.scenes.edits.schema import EDITS, Head, Parameter, Strict

RECIPE_PREFIX = "recipe:"
_PLACEHOLDER = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_KEYS = ("description", "parameters", "edits")
_MOST_PLACES = 1_000_000
"""Of a file, with what its anchors stand for: a few lines of them can stand for any number."""
_MOST_DEEP = 100


@dataclass(frozen=True, eq=False)
class EditFile:
    """An edit file before its parameters are filled in.

    Attributes:
        name: Its stem, or the recipe's name.
        where: Its path or ``recipe:NAME``, for errors.
        description: One line.
        parameters: What may be set from outside.
        edits: Raw edits, with placeholders.
        lines: Line of the file at which each place begins: ``("edits", 0, "gap_s")`` to 1, 2, ...
    """

    name: str
    where: str
    description: str
    parameters: Mapping[str, Parameter]
    edits: tuple[Any, ...]
    lines: Mapping[tuple[str | int, ...], int]

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

    def place(self, location: Sequence[str | int]) -> str:
        """File, line and key of a place in the file."""
        key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in location).lstrip(".")
        for length in range(len(location), 0, -1):
            line = self.lines.get(tuple(location[:length]))
            if line is not None:
                return f"{self.where}, line {line}, {key}"
        return f"{self.where}, {key}" if key else self.where

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
                    f"unknown parameter '${{{name}}}'.{nearest(name, values)}", where=self.place(at),
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
                "an edit is a mapping with a 'kind'", where=self.place(at),
                remedy=f"kinds: {', '.join(EDITS)}",
            )  # fmt: skip
        kind = str(raw["kind"])
        if kind not in EDITS:
            raise SceneError(
                f"unknown kind of edit '{kind}'.{nearest(kind, EDITS)}", where=self.place((*at, "kind")),
                remedy=f"kinds: {', '.join(EDITS)}",
            )  # fmt: skip
        try:
            return EDITS[kind].model_validate(dict(raw))
        except ValidationError as error:
            raise _refused(error, EDITS[kind], at, self) from None


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
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date 2001-99-99
        problem = " ".join(str(error).split())
        raise SceneError(
            f"is not YAML: {problem}", where=where, remedy="mend the line; indent with blanks"
        ) from error
    lines: dict[tuple[str | int, ...], int] = {}
    for place, line in _line_numbers(node, ()):
        if place in lines:
            raise SceneError(
                f"'{place[-1]}' is given twice", where=f"{where}, line {line}",
                remedy="give each key once",
            )  # fmt: skip
        if len(place) > _MOST_DEEP or len(lines) == _MOST_PLACES:
            raise SceneError(
                "the file has too many values, or values inside values without end",
                where=f"{where}, line {line}", remedy="look at its anchors and aliases",
            )  # fmt: skip
        lines[place] = line
    if not isinstance(raw, Mapping) or not isinstance(raw.get("edits"), list):
        raise SceneError(
            "an edit file is a mapping with a list 'edits'", where=where,
            remedy="write edits: and below it one '- kind: ...' for each",
        )  # fmt: skip
    file = EditFile(name, where, "", {}, tuple(raw["edits"]), lines)
    for key in raw:
        if key not in _KEYS:
            raise SceneError(
                f"unknown key '{key}'.{nearest(str(key), _KEYS)}", where=file.place((str(key),)),
                remedy=f"known here: {', '.join(_KEYS)}",
            )  # fmt: skip
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
        raise _refused(error, Parameter, (), file) from None
    return EditFile(name, where, head.description, head.parameters, file.edits, lines)


def _refused(
    error: ValidationError, model: type[BaseModel], at: tuple[str | int, ...], file: EditFile
) -> SceneError:
    # A key with a typing error is unknown and leaves another missing: say the former.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    location = (*at, *first["loc"])
    place = file.place(location)
    owner = model
    for part in first["loc"][:-1]:
        field = owner.model_fields.get(str(part))
        if field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):  # fmt: skip
            owner = field.annotation
    known = [field.alias or name for name, field in owner.model_fields.items()]
    if first["type"] == "extra_forbidden":
        key = str(location[-1])
        return SceneError(
            f"unknown key '{key}'.{nearest(key, known)}", where=place,
            remedy=f"known here: {', '.join(known)}",
        )  # fmt: skip
    if first["type"] == "missing":
        return SceneError(
            f"'{location[-1]}' is missing", where=place, remedy=f"known here: {', '.join(known)}"
        )
    message = str(first["msg"]).removeprefix("Value error, ")
    value = first["input"]
    shown = "" if isinstance(value, Mapping) else f"{value!r} is not usable: "
    return SceneError(f"{shown}{message}", where=place, remedy="docs/editing.md has every key")


def _line_numbers(
    node: Any, at: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], int]]:
    """Places of a composed YAML document with their lines, counted from 1."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*at, str(key.value))
            yield place, key.start_mark.line + 1
            yield from _line_numbers(value, place)
    elif isinstance(node, yaml.SequenceNode):
        for k, value in enumerate(node.value):
            yield (*at, k), value.start_mark.line + 1
            yield from _line_numbers(value, (*at, k))


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
