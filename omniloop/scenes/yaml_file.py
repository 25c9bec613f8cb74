"""YAML that people write: parsed with the line of every place, checked by a strict schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from omniloop.core.errors import SceneError, nearest

Location = tuple[str | int, ...]

_MOST_PLACES = 1_000_000
"""Of a file, with what its anchors stand for: a few lines of them can stand for any number."""
_MOST_DEEP = 100


@dataclass(frozen=True, eq=False)
class YamlFile:
    """A parsed file.

    Attributes:
        where: Its path, or what it is called, for errors.
        raw: What it holds.
        lines: Line at which each place begins, from 1: ``("edits", 0, "gap_s")`` to 7.
    """

    where: str
    raw: Any
    lines: Mapping[Location, int]

    def place(self, location: Sequence[str | int]) -> str:
        """File, line and key of a place in the file."""
        key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in location).lstrip(".")
        for length in range(len(location), 0, -1):
            line = self.lines.get(tuple(location[:length]))
            if line is not None:
                return f"{self.where}, line {line}, {key}"
        return f"{self.where}, {key}" if key else self.where

    def unknown_key(self, location: Location, known: Sequence[str]) -> SceneError:
        """The error for a key that is not known; suggests the nearest."""
        key = str(location[-1])
        return SceneError(
            f"unknown key '{key}'.{nearest(key, known)}", where=self.place(location),
            remedy=f"known here: {', '.join(known)}",
        )  # fmt: skip

    def refused(
        self, error: ValidationError, model: type[BaseModel], at: Location = (), *, manual: str
    ) -> SceneError:
        """The error for what a schema refuses first, with its line.

        Args:
            model: The schema, or that of the items of a list which the location passes.
            at: Where in the file the schema was applied.
            manual: The page that has every key.
        """
        # A key with a typing error is unknown and leaves another missing: say the former.
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        location = (*at, *first["loc"])
        owner = model
        for part in first["loc"][:-1]:
            field = owner.model_fields.get(str(part))
            if field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):  # fmt: skip
                owner = field.annotation
        known = [field.alias or name for name, field in owner.model_fields.items()]
        if first["type"] == "extra_forbidden":
            return self.unknown_key(location, known)
        place = self.place(location)
        if first["type"] == "missing":
            return SceneError(
                f"'{location[-1]}' is missing", where=place,
                remedy=f"known here: {', '.join(known)}",
            )  # fmt: skip
        message = str(first["msg"]).removeprefix("Value error, ")
        value = first["input"]
        shown = "" if isinstance(value, Mapping) else f"{value!r} is not usable: "
        return SceneError(f"{shown}{message}", where=place, remedy=f"{manual} has every key")


def parse_yaml(text: str, where: str) -> YamlFile:
    """Parse YAML.

    Raises:
        SceneError: it is none, gives a key twice, or has values without end.
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
    lines: dict[Location, int] = {}
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
    return YamlFile(where, raw, lines)


def _line_numbers(node: Any, at: Location) -> Iterator[tuple[Location, int]]:
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
