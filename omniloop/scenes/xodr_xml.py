"""OpenDRIVE documents: safe parsing, and values with their errors."""

from __future__ import annotations

import math
from xml.etree.ElementTree import Element

from omniloop.core.errors import SceneError
from omniloop.scenes.commonroad_xml import number, parse_xml

VERSIONS = ("1.4", "1.5", "1.6", "1.7", "1.8")

LARGEST = 1e12
"""No number of a map is larger."""

_MEND = "export the map again"


def read_root(data: bytes, where: str) -> Element:
    """Return the root of an OpenDRIVE document, its tags without namespaces.

    Raises:
        SceneError: not XML, with a document type, or not OpenDRIVE 1.
    """
    root = parse_xml(data, where)
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]
    header = root.find("header")
    major = "1" if header is None else header.get("revMajor", "1")
    if root.tag != "OpenDRIVE" or major != "1":
        found = f"<{root.tag}>" if root.tag != "OpenDRIVE" else f"OpenDRIVE {major}"
        raise SceneError(
            f"holds {found}, not OpenDRIVE {VERSIONS[0]} to {VERSIONS[-1]}", where=where,
            remedy="export the map as OpenDRIVE (.xodr) of one of these versions",
        )  # fmt: skip
    return root


def value(element: Element, name: str, where: str, default: float | None = None) -> float:
    """Return a number of an attribute.

    Args:
        default: Stands for a missing attribute; None if it may not be missing.

    Raises:
        SceneError: it is missing, not a finite number, or larger than any of a map.
    """
    text = element.get(name)
    if text is None and default is not None:
        return default
    found = number(text, f"{name} of <{element.tag}>", where)
    if abs(found) > LARGEST:
        raise SceneError(
            f"{name} of <{element.tag}> is {found:g}, which cannot be", where=where, remedy=_MEND
        )
    return found


def not_negative(element: Element, name: str, where: str, default: float | None = None) -> float:
    """Return a number of an attribute that is not negative.

    Raises:
        SceneError: it is missing, not a finite number, or negative.
    """
    found = value(element, name, where, default)
    if found < 0:
        raise SceneError(
            f"{name} of <{element.tag}> is {found:g}, which is negative", where=where, remedy=_MEND
        )
    return found


def whole(element: Element, name: str, where: str) -> int:
    """Return a whole number of an attribute.

    Raises:
        SceneError: it is missing, or not a whole number.
    """
    found = value(element, name, where)
    if found != math.floor(found):
        raise SceneError(
            f"{name} of <{element.tag}> is {found:g}, not a whole number",
            where=where, remedy=_MEND,
        )  # fmt: skip
    return int(found)
