"""The header of a PLY file: byte order, elements and their properties."""

from __future__ import annotations

from dataclasses import dataclass

from omniloop.core.errors import SceneError

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_MAX_HEADER_BYTES = 1 << 20
_REMEDY = "export the mesh again as PLY, ascii or binary, with vertices x, y, z and faces"


@dataclass(frozen=True)
class Property:
    """A value of each row, or with `count_kind` a list of values.

    Attributes:
        kind: numpy's name of the type, byte order first.
        count_kind: Likewise of the list's length; empty for a single value.
    """

    name: str
    kind: str
    count_kind: str = ""

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return bool(self.count_kind)


@dataclass(frozen=True)
class Element:
    """A table of `count` rows."""

    name: str
    count: int
    properties: tuple[Property, ...]


def broken(what: str, where: str) -> SceneError:
    """The error of a file that cannot be used, with its remedy."""
    return SceneError(what, where=where, remedy=_REMEDY)


def read_header(data: bytes, where: str) -> tuple[str, tuple[Element, ...], int]:
    """Read the header at the beginning of a file.

    Returns:
        Byte order ("=" for ascii), elements, and the first byte after the header.

    Raises:
        SceneError: it is no header of a PLY file, or a line of it cannot be used.
    """
    if data[:3] != b"ply" or data[3:4] not in (b"\n", b"\r"):
        raise broken("this is no PLY file: it does not begin with the line 'ply'", where)
    end = data.find(b"\nend_header", 0, _MAX_HEADER_BYTES)
    if end < 0:
        raise broken("the header has no end: the line 'end_header' is missing", where)
    at = end + len(b"\nend_header")
    at += 2 if data[at : at + 2] == b"\r\n" else 1
    order, elements = "", []
    for number, line in enumerate(data[:end].decode("latin-1").splitlines()[1:], 2):
        words, place = line.split(), f"{where}, line {number}"
        try:
            match words:
                case [] | ["comment" | "obj_info", *_]:
                    pass
                case ["format", name, "1.0"]:
                    order = _ORDERS[name]
                case ["element", name, count]:
                    elements.append(Element(name, int(count), ()))
                    if int(count) < 0:
                        raise ValueError
                case ["property", "list", count_kind, kind, name]:
                    _add(elements, Property(name, _TYPES[kind], _TYPES[count_kind]))
                    if _TYPES[count_kind][0] == "f":
                        raise ValueError
                case ["property", kind, name]:
                    _add(elements, Property(name, _TYPES[kind]))
                case _:
                    raise ValueError
        except (KeyError, ValueError, IndexError):
            raise broken(f"the header's line '{line[:80]}' cannot be used", place) from None
    if not order:
        raise broken("the header does not say its format", where)
    kinds = tuple(
        Element(e.name, e.count, tuple(_ordered(p, order) for p in e.properties)) for e in elements
    )
    return order, kinds, at


def _add(elements: list[Element], added: Property) -> None:
    last = elements[-1]
    elements[-1] = Element(last.name, last.count, (*last.properties, added))


def _ordered(p: Property, order: str) -> Property:
    return Property(p.name, order + p.kind, p.is_list * (order + p.count_kind))
