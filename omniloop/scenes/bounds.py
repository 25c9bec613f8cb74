"""What a recording may hold at most: a file of a stranger may claim anything.

A scene that loads must also be checked, drawn and simulated with the memory of a laptop, so
that numbers, names and counts are bounded where they are read.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.time import SCORE_STEP_US, US_PER_S

LARGEST = 1e9
"""No length in metres, angle, or coefficient is larger."""

LATEST_S = 1e12
"""No time is later: as microseconds it still is an int64."""

MAX_DURATION_S = 100_000
MAX_TRACKS = 2_000
MAX_POSES = 5_000_000
"""Of all tracks together, as recorded or every 100 ms: 500 cars for a quarter of an hour."""

MAX_MAP_ELEMENTS = 20_000
"""Maps of whole districts have some thousand lanes, and signs and lines to them."""

MAX_LANES_M = 1e6
"""Length of all lanes together: a city's."""

MAX_CROSSINGS = 200
"""Of an outline with itself; those of datasets have none, edited ones few."""

_MAX_NAME = 200
_MEND = "mend the file, or leave the scene out"

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 2, 4, 2


def shown(value: Any) -> str:
    """A value of a file for an error message: its repr, cut short if it is long."""
    return _SHORT.repr(value)


def name_of(value: Any, what: str, where: str) -> str:
    """Return an id or a word of a file as text.

    Raises:
        SceneError: it is neither a text nor a whole number, or very long.
    """
    known = isinstance(value, str | int) and not isinstance(value, bool)
    if not known or len(str(value)) > _MAX_NAME:
        raise SceneError(
            f"{what} is {shown(value)}, not a text of {_MAX_NAME} characters at most",
            where=where, remedy=_MEND,
        )  # fmt: skip
    return str(value)


def names_of(values: Any, what: str, where: str) -> list[str]:
    """Return a list of ids; none if it is missing.

    Raises:
        SceneError: it is no list, or holds something else.
    """
    if values is None:
        return []
    if not isinstance(values, list):
        raise SceneError(f"{what} is {shown(values)}, not a list", where=where, remedy=_MEND)
    return [name_of(value, f"an entry of {what}", where) for value in values]


def check_names(mapping: Mapping[str, Any], where: str) -> None:
    """Refuse keys that are no ids.

    Raises:
        SceneError: one is very long.
    """
    for name in mapping:
        name_of(name, "an id", where)


def check_numbers(values: Array, what: str, where: str) -> Array:
    """Return the values if they are finite and none is beyond `LARGEST`.

    Raises:
        SceneError: one is not.
    """
    usable = np.abs(values) <= LARGEST
    if not usable.all():
        at = tuple(int(i) for i in np.argwhere(~usable)[0])
        raise SceneError(
            f"{what} at index {at} is {values[at]}: not finite, or beyond {LARGEST:g}",
            where=where, remedy=_MEND,
        )  # fmt: skip
    return values


def check_count(count: int, most: int, what: str, where: str) -> None:
    """Refuse more of something than a scene can have.

    Raises:
        SceneError: there are more than `most`.
    """
    if count > most:
        raise SceneError(
            f"holds {count} {what}, and {most} may be", where=where,
            remedy="cut the recording or its map into smaller ones",
        )  # fmt: skip


def check_lanes_length(sides: Iterable[Array], where: str) -> None:
    """Refuse lanes so long that their centre lines, a point every 2 m, fill the memory.

    Args:
        sides: ``(N, 3)``: the left and right side of every lane.

    Raises:
        SceneError: they are longer than `MAX_LANES_M` in all.
    """
    steps = (np.diff(side[:, :2], axis=0) for side in sides)
    length_m = sum(float(np.linalg.norm(step, axis=1).sum()) for step in steps) / 2
    if length_m > MAX_LANES_M:
        raise SceneError(
            f"its lanes are {length_m:.0f} m long in all, and {MAX_LANES_M:.0f} m may be",
            where=where, remedy="mend the points that lie far off, or cut the map",
        )  # fmt: skip


def check_tangled(outline_xy: Array, where: str) -> None:
    """Refuse a closed outline that crosses itself very often: work on it grows with the square.

    Args:
        outline_xy: ``(N, 2)`` corners, the last one joined with the first.

    Raises:
        SceneError: it does so more than `MAX_CROSSINGS` times.
    """
    import shapely

    pairs = np.stack([outline_xy, np.roll(outline_xy, -1, axis=0)], axis=1)
    sides = [shapely.LineString(pair) for pair in pairs]
    tree = shapely.STRtree(sides)
    meetings = -3 * len(sides)  # each meets itself and its neighbours
    for start in range(0, len(sides), 64):  # all pairs at once would take gigabytes
        meetings += tree.query(sides[start : start + 64], "intersects").shape[1]
        if meetings > 2 * MAX_CROSSINGS:
            raise SceneError(
                f"its outline crosses itself more than {MAX_CROSSINGS} times", where=where,
                remedy=_MEND,
            )  # fmt: skip


def check_extent(
    ego_us: tuple[int, int], tracks_us: Iterable[tuple[int, int]], poses: int, where: str
) -> None:
    """Refuse a recording that is too long, or has more motion than can be simulated.

    Args:
        ego_us: Ego's first and last time.
        tracks_us: Likewise of every track.
        poses: How many poses the tracks have in all.

    Raises:
        SceneError: it does.
    """
    for time_us in ego_us:
        if abs(time_us) > LATEST_S * US_PER_S:
            raise SceneError(f"a time of {time_us / US_PER_S:g} s", where=where, remedy=_MEND)
    duration_s = (ego_us[1] - ego_us[0]) / US_PER_S
    if duration_s > MAX_DURATION_S:
        raise SceneError(
            f"ego is recorded for {duration_s:.0f} s, and {MAX_DURATION_S} s may be", where=where,
            remedy="mend the recording's times, or cut it",
        )  # fmt: skip
    spans = [(last - first) // SCORE_STEP_US + 1 for first, last in tracks_us]
    check_count(len(spans), MAX_TRACKS, "tracks", where)
    check_count(max(poses, sum(spans)), MAX_POSES, "poses of tracks at 10 Hz or more", where)
