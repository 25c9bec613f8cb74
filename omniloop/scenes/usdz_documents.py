"""Texts in a USDZ archive: JSON and YAML of strangers, and numbers within them.

Numbers may be texts (alpasim.md 6.4). NaN, infinities, nesting without end, YAML's anchors
and texts that are no UTF-8 are refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from omniloop.core import geometry
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Times
from omniloop.scenes.build import damaged, finite_array, member, refuse_half_characters

MAX_JSON_BYTES = 64 << 20
"""As Python objects it takes some twenty times as much; 300 tracks of 200 samples have 8 MB."""

_MAX_YAML_BYTES = 64 << 10
_MOST_BRACKETS = 200
_DEEPEST = 50
_LATEST_US = 1 << 62
_LARGEST = 1e9
"""No length in metres or pixels and no coefficient is larger."""

_RIGID_TOLERANCE = 1e-3
"""Rotations of float32 are off by 1e-6."""


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        SceneError: it is none, no UTF-8, nested too deeply, or holds NaN or an infinity.
    """
    try:
        found = json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant)
        refuse_half_characters(found, data)
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise damaged(f"is not JSON that can be used: {what}", where) from error
    if not isinstance(found, dict):
        raise damaged(f"holds a {type(found).__name__}, not an object", where)
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"it holds {name}")


def parse_yaml(data: bytes, where: str) -> dict[str, Any]:
    """Parse a YAML mapping without anchors.

    Raises:
        SceneError: it is none, no UTF-8, too large, nested too deeply, or has anchors.
    """
    import yaml

    if len(data) > _MAX_YAML_BYTES:
        raise damaged(f"has {len(data)} bytes, and {_MAX_YAML_BYTES} may be read", where)
    # The time of PyYAML's scanner grows with the square of open brackets.
    if data.count(b"[") + data.count(b"{") > _MOST_BRACKETS:
        raise damaged(f"has more than {_MOST_BRACKETS} brackets", where)
    depth = 0
    try:
        text = data.decode("utf-8-sig")
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise damaged("is nested too deeply", where)
            anchor = getattr(event, "anchor", None)
            if anchor is not None:
                raise damaged(f"has the anchor or alias '{anchor}'", where)
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        what = " ".join(str(error).split())
        raise damaged(f"is not YAML that can be used: {what}", where) from error
    if not isinstance(found, dict):
        raise damaged(f"holds a {type(found).__name__}, not a mapping", where)
    return {str(key): value for key, value in found.items()}


def json_bytes(document: Any) -> bytes:
    """JSON in UTF-8 with Python's shortest texts of floats, which read back to the same."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return (text + "\n").encode()


def items(values: Any, count: int | None, what: str, where: str) -> list[Any]:
    """A list, of a length if that is given.

    Raises:
        SceneError: it is no list, or of another length.
    """
    if not isinstance(values, list):
        raise damaged(f"{what} is a {type(values).__name__}, not a list", where)
    if count is not None and len(values) != count:
        raise damaged(f"{what} has {len(values)} entries where there should be {count}", where)
    return values


def mapping(values: Any, key: str, where: str) -> Mapping[str, Any]:
    """The object under a key.

    Raises:
        SceneError: it is missing or no object.
    """
    found = member(values, key, where)
    if not isinstance(found, Mapping):
        raise damaged(f"'{key}' is a {type(found).__name__}, not an object", where)
    return found


def times(values: Any, what: str, where: str) -> Times:
    """Microseconds ``(N,)``, or ``(N, M)`` of a list of lists, from whole numbers or texts.

    Raises:
        SceneError: one is no whole number, or the lists differ in length.
    """

    def whole(value: Any) -> Any:
        if isinstance(value, list):
            return [whole(v) for v in value]
        if isinstance(value, str):
            value = int(value) if value.strip().lstrip("+-").isdigit() else float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{value!r:.60} is no number")
        if not math.isfinite(value) or value != int(value) or abs(value) > _LATEST_US:
            raise ValueError(f"{value} is no whole number of microseconds")
        return int(value)

    try:
        return np.array([whole(v) for v in items(values, None, what, where)], dtype=np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise damaged(f"{what}: {error}", where) from error


def increasing(stamps: Times, what: str, where: str) -> None:
    """Refuse times ``(N,)`` that stand still or go back.

    Raises:
        SceneError: it names the first time that is not after the one before.
    """
    wrong = np.diff(stamps) <= 0
    if wrong.any():
        at = int(np.argmax(wrong)) + 1
        raise SceneError(
            f"{what}: time {stamps[at]} us at index {at} is not after {stamps[at - 1]} us",
            where=where, remedy="sort the samples by time and keep one per time",
        )  # fmt: skip


def numbers(values: Any, shape: tuple[int | None, ...], what: str, where: str) -> Array:
    """Finite float64 values of a shape; None in `shape` fits any length, texts are numbers too.

    Raises:
        SceneError: not numbers, of another shape, not finite, or beyond `_LARGEST`.
    """
    if values == [] and shape[:1] == (None,):
        return np.zeros([n or 0 for n in shape])
    try:
        found = finite_array(values, shape, what, where)
    except OverflowError as error:
        raise damaged(f"{what}: {error}", where) from error
    if (np.abs(found) > _LARGEST).any():
        raise damaged(f"{what} has the value {np.abs(found).max():g}", where)
    return found


def rigid(matrices: Any, shape: tuple[int | None, ...], what: str, where: str) -> Array:
    """Poses ``(..., 7)`` from matrices ``(..., 4, 4)``.

    Raises:
        SceneError: one is no rotation with a translation.
    """
    found = numbers(matrices, (*shape, 4, 4), what, where)
    turns = np.clip(found[..., :3, :3], -2.0, 2.0)  # what is wrong stays wrong
    off = np.abs(turns @ np.swapaxes(turns, -1, -2) - np.eye(3)).max(axis=(-1, -2), initial=0.0)
    mirrored = np.linalg.det(turns) < 0
    bottom = np.abs(found[..., 3, :] - [0.0, 0.0, 0.0, 1.0]).max(axis=-1, initial=0.0)
    wrong = np.atleast_1d((off > _RIGID_TOLERANCE) | mirrored | (bottom > _RIGID_TOLERANCE))
    if wrong.any():
        at = int(np.argmax(wrong))
        shown = found.reshape(-1, 4, 4)[at].tolist()
        raise damaged(f"{what} at index {at} is no rotation with a translation: {shown}", where)
    return geometry.pose_from_matrix(found) if found.size else np.zeros((0, 7))
