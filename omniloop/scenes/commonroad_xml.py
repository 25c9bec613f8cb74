"""CommonRoad XML files: safe parsing, values with their errors, points.

The format is CommonRoad 2020a (XML_commonRoad_XSD.xsd of commonroad-io).
"""

from __future__ import annotations

import codecs
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.parsers import expat

import numpy as np

from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.scenes.bounds import name_of, shown
from omniloop.scenes.build import MAX_DOCUMENT_BYTES, read_bytes

VERSION = "2020a"

LARGEST = 1e12
"""No number is larger, of whatever unit."""

_ASCII = bytes(range(128))


class _RootReached(Exception):
    """The root element starts: there was no document type before it."""


def read_root(path: Path) -> Element:
    """Return the root of a ``.xml`` or ``.xml.gz`` file.

    A document type is refused: with it a file of a few lines can expand to gigabytes or
    name other files, and CommonRoad has none.

    Raises:
        SceneError: unreadable, cut off, too large, not XML, with a document type, or not
            CommonRoad 2020a.
    """
    root = parse_xml(read_bytes(path, MAX_DOCUMENT_BYTES), str(path))
    version = root.get("commonRoadVersion")
    if root.tag != "commonRoad" or version != VERSION:
        known = f"CommonRoad version {shown(version)}"
        found = known if root.tag == "commonRoad" else f"<{shown(root.tag)[1:-1]}>"
        raise SceneError(
            f"holds {found}, not CommonRoad {VERSION}",
            where=str(path),
            remedy="convert it with commonroad-io: CommonRoadFileReader reads it, CommonRoadFileWriter writes 2020a",
        )
    return root


def parse_xml(data: bytes, where: str) -> Element:
    """Return the root of a document without a document type.

    Raises:
        SceneError: cut off, not XML, with a document type, or in an encoding in which ASCII
            does not stand for itself.
    """
    try:
        _check_prolog(data, where)
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, expat.ExpatError, ValueError, LookupError) as error:
        raise SceneError(
            f"is not well-formed XML: {str(error)[:200]}",
            where=where,
            remedy="copy the file again from its source",
        ) from error


def _check_prolog(data: bytes, where: str) -> None:
    """Look at what comes before the root element."""

    def refuse(*_: object) -> NoReturn:
        raise SceneError(
            "has a document type (<!DOCTYPE ...>)",
            where=where,
            remedy="remove it: no such file needs one",
        )

    def stop(*_: object) -> NoReturn:
        raise _RootReached

    def check_encoding(_version: str, encoding: str | None, _standalone: int) -> None:
        # Python's codecs are more than encodings of text: "unicode_escape" is one.
        if encoding is None or codecs.lookup(encoding).name in ("utf-8", "utf-16"):
            return
        if _ASCII.decode().encode(encoding) != _ASCII:
            raise LookupError(f"its encoding is {shown(encoding)}")

    parser = expat.ParserCreate()
    parser.XmlDeclHandler = check_encoding
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = stop
    try:
        parser.Parse(data, True)
    except _RootReached:
        return


def id_of(element: Element, where: str) -> str:
    """Return an element's id.

    Raises:
        SceneError: it has none, or it is very long.
    """
    if element.get("id") is None:
        raise SceneError(f"a <{element.tag}> has no id", where=where, remedy="give it one")
    return name_of(element.get("id"), f"the id of a <{element.tag}>", where)


def check_unique(elements: Sequence[Element], where: str) -> None:
    """Refuse elements of which two have one id.

    Raises:
        SceneError: there are two, or one has no id.
    """
    counts = Counter(id_of(element, where) for element in elements)
    name, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        kind = next(e.tag for e in elements if e.get("id") == name)
        raise SceneError(
            f"{count} elements, a <{kind}> first, have the id {name}",
            where=where, remedy="give every element its own id, or drop the repeated ones",
        )  # fmt: skip


def child(element: Element, path: str, where: str) -> Element:
    """Return the first element at a path below `element`.

    Raises:
        SceneError: there is none.
    """
    found = element.find(path)
    if found is None:
        raise SceneError(
            f"<{element.tag}> lacks <{path}>",
            where=where,
            remedy="mend the file: CommonRoad requires it",
        )
    return found


def number(text: str | None, what: str, where: str) -> float:
    """Return a finite number.

    Raises:
        SceneError: `text` is not one, or one beyond `LARGEST`.
    """
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SceneError(
            f"{what} is {shown(text)}, not a finite number", where=where, remedy="mend the file"
        )
    if abs(value) > LARGEST:
        raise SceneError(
            f"{what} is {value:g}, which cannot be", where=where, remedy="mend the file"
        )
    return value


def exact_or_middle(element: Element, name: str, where: str) -> float:
    """Return the value of ``<name>``: exact, or the middle of its interval.

    Raises:
        SceneError: it is missing or not a number.
    """
    exact = element.findtext(f"{name}/exact")
    if exact is not None:
        return number(exact, name, where)
    interval = child(element, name, where)
    start = number(interval.findtext("intervalStart"), f"{name}/intervalStart", where)
    end = number(interval.findtext("intervalEnd"), f"{name}/intervalEnd", where)
    return (start + end) / 2


def point(element: Element, where: str) -> tuple[float, float, float]:
    """Return the x, y and z (0 where absent) of a ``<point>`` or ``<center>``."""
    z = element.findtext("z")
    return (
        number(element.findtext("x"), "x", where),
        number(element.findtext("y"), "y", where),
        0.0 if z is None else number(z, "z", where),
    )


def points(element: Element, where: str) -> Array:
    """Return the ``(N, 3)`` points that are children of an element.

    Raises:
        SceneError: a coordinate is not a number.
    """
    found = [point(p, where) for p in element.findall("point")]
    return np.array(found, dtype=np.float64).reshape(-1, 3)
