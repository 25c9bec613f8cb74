"""What readers of recorded scenes share: the local frame, tracks, lanes, files, errors.

A reader takes positions in the dataset's frame, picks `local_origin` from the ego's first
recorded position, and subtracts it from every point (`to_local`). There is no rotation, so
that headings stay as recorded. `dataset_to_local` is the exact way back.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from omniloop.core import geometry
from omniloop.core.errors import SceneError, nearest
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask, Times, Trajectory
from omniloop.core.scene import Actor, ActorClass, Track

STATIC_RADIUS_M = 0.5
"""An object that stays this close to its median position throughout does not move.

Boxes of parked cars jitter: in Argoverse 2 sensor logs half of them by 0.2 to 0.5 m.
"""

MAX_UNPACKED_BYTES = 512 << 20
"""Of a file, after it is unpacked: a gzipped one of a megabyte can hold a gigabyte of zeros."""

MAX_DOCUMENT_BYTES = 24 << 20
"""Of JSON and XML: parsed, they take up to 40 times the room of their text, and most is 4 MB."""

LARGEST = 1e30
"""Of all numbers in a file: no length or time is, and products of larger ones overflow."""

_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HALF = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")
_MOST_COMPARED = 1_000
"""Keys that a missing one is compared with: of millions it would take minutes."""

_COPY_AGAIN = "copy the file again from the dataset"


# ----------------------------------------------------------------------- local frame


def local_origin(first_position_m: ArrayLike) -> Array:
    """Origin of `local` in the dataset's frame ``(3,)``: a position rounded to 1 m.

    Args:
        first_position_m: ``(3,)`` ego's first recorded position in the dataset's frame.
    """
    return np.round(np.asarray(first_position_m, dtype=np.float64)[:3])


def to_local(points_m: ArrayLike, origin_m: Array) -> Array:
    """Move points ``(..., 3)`` or poses ``(..., 7)`` of the dataset's frame into `local`."""
    out = np.array(points_m, dtype=np.float64)
    out[..., :3] -= origin_m
    return out


def dataset_to_local(origin_m: Array) -> Array:
    """``(4, 4)`` pose of `local` in the dataset's frame, exact in float64."""
    out = np.eye(4)
    out[:3, 3] = origin_m
    return out


def recorded_ego(times_us: Times, local_to_rig: Array, where: str) -> Trajectory:
    """Recorded ego poses ``(N, 7)`` at times ``(N,)`` as a trajectory of at least two.

    Raises:
        SceneError: fewer than two, times not strictly increasing, a pose that is not finite
            or whose quaternion is no unit; it names `where`, the time and the value.
    """
    if len(times_us) < 2:
        raise SceneError(
            f"the ego has {len(times_us)} recorded poses", where=where, remedy="give at least two"
        )
    try:
        return Trajectory(times_us, local_to_rig)
    except ValueError as error:
        raise SceneError(
            f"the ego's poses cannot be used: {error}", where=where,
            remedy="sort them by time and drop the bad ones, or leave the scene out",
        ) from error  # fmt: skip


# ---------------------------------------------------------------------------- tracks


def never_moves(positions_m: Array) -> bool:
    """Whether positions ``(N, 3)`` all lie within `STATIC_RADIUS_M` of their median in the plane."""
    planar = positions_m[:, :2]
    away = np.linalg.norm(planar - np.median(planar, axis=0), axis=1)
    return bool(away.max() <= STATIC_RADIUS_M)


def make_track(
    actor_id: str,
    actor_class: ActorClass,
    *,
    label: str,
    size_m: ArrayLike,
    times_us: Times,
    local_to_aabb: Array,
    grid_us: Times,
    where: str,
    is_static: bool | None = None,
) -> Track:
    """Put one object's samples on shared times; what is missing in between is invalid.

    Args:
        actor_id: Unique in the scene.
        actor_class: Class of the wire protocols.
        label: The dataset's own class name.
        size_m: ``(3,)`` or ``(N, 3)`` length, width, height; of several the median counts.
        times_us: ``(N,)`` strictly increasing, each one of `grid_us`.
        local_to_aabb: ``(N, 7)`` poses of the box centre.
        grid_us: ``(G,)`` strictly increasing times at which the recording looked at all.
        where: The file, for errors.
        is_static: None decides: pedestrians and cyclists never are, as they turn, gesture and
            set off; the rest by `never_moves`.

    Returns:
        A track on the part of the grid from the first to the last sample.

    Raises:
        SceneError: no samples, times out of order or repeated, or not on the grid; a pose
            or size that is not finite; a size that is not positive.
    """
    where = f"{where}, track {actor_id}"
    times = np.asarray(times_us, dtype=np.int64)
    if len(times) == 0:
        raise SceneError("a track without samples", where=where, remedy="drop the track")
    if (np.diff(times) <= 0).any():
        at = int(np.argmax(np.diff(times) <= 0)) + 1
        raise SceneError(
            f"time {times[at]} us is not after {times[at - 1]} us", where=where,
            remedy="sort the samples by time and keep one per time",
        )  # fmt: skip
    sizes = np.asarray(size_m, dtype=np.float64).reshape(-1, 3)
    wrong = ~(np.isfinite(sizes) & (sizes > 0)).all(axis=1)
    if wrong.any():
        raise SceneError(
            f"box size {sizes[int(np.argmax(wrong))].tolist()} m is not positive", where=where,
            remedy="mend the sizes, or drop the track",
        )  # fmt: skip
    lo, hi = np.searchsorted(grid_us, times[[0, -1]])
    grid = np.asarray(grid_us[lo : hi + 1], dtype=np.int64)
    slots = np.minimum(np.searchsorted(grid, times), len(grid) - 1)
    if len(grid) == 0 or (grid[slots] != times).any():
        raise SceneError(
            f"times {times.tolist()[:3]} us ... are not among the recording's", where=where,
            remedy="give a grid that holds every time of every track",
        )  # fmt: skip
    finite = np.isfinite(local_to_aabb).all(axis=1)
    if not finite.all():
        at = int(np.argmin(finite))
        raise SceneError(
            f"pose {local_to_aabb[at].tolist()} at {times[at]} us is not finite",
            where=where,
            remedy="mark the sample as not valid, or drop the track",
        )
    poses = np.tile(geometry.IDENTITY, (len(grid), 1))
    poses[slots] = local_to_aabb
    valid: Mask = np.zeros(len(grid), dtype=bool)
    valid[slots] = True
    if is_static is None:
        alive = actor_class in (ActorClass.PEDESTRIAN, ActorClass.CYCLIST)
        is_static = not alive and never_moves(poses[valid])
    return Track(
        Actor(actor_id, actor_class, label, np.median(sizes, axis=0), is_static), grid, poses, valid
    )


# ----------------------------------------------------------------------------- lanes


def resampled(points: Array, count: int) -> Array:
    """`count` points ``(count, 3)``, evenly spaced along a polyline ``(N, 3)``."""
    return geometry.resample_polyline(points, np.linspace(0.0, _length_m(points), count))


def _length_m(points: Array) -> float:
    return float(geometry.arc_length_m(points[:, :2])[-1])


def centerline(left: Array, right: Array, spacing_m: float = 2.0) -> Array:
    """Mean of two boundaries ``(N, 3)``, ``(M, 3)`` that run the same way.

    Both are resampled at equal fractions of their lengths, at least 3 and as many as
    `spacing_m` asks for.
    """
    longer = max(_length_m(left), _length_m(right))
    count = max(3, int(np.ceil(longer / spacing_m)) + 1)
    return (resampled(left, count) + resampled(right, count)) / 2


def between_boundaries(left: Array, right: Array) -> Array:
    """Outline ``(P, 3)`` of the strip between two boundaries that run the same way."""
    return without_repeats(np.concatenate([right, left[::-1]]), closed=True)


def without_repeats(points: Array, *, closed: bool = False) -> Array:
    """Drop points that repeat the one before in the plane; of a ring the last as well."""
    pts = np.asarray(points, dtype=np.float64)
    keep = np.ones(len(pts), dtype=bool)
    keep[1:] = (np.diff(pts[:, :2], axis=0) != 0).any(axis=1)
    pts = pts[keep]
    if closed and len(pts) > 1 and (pts[0, :2] == pts[-1, :2]).all():
        pts = pts[:-1]
    return pts


# ------------------------------------------------------------------- files and errors


def existing(path: str | Path, expected: str) -> Path:
    """Return `path` if it exists.

    Args:
        path: What the user gave.
        expected: What a right path looks like, for the remedy.

    Raises:
        SceneError: it does not exist.
    """
    found = Path(path)
    if not os.path.exists(found):  # Path.exists raises where a name is too long or forbidden
        raise SceneError(f"there is nothing at '{path}'", where=str(path), remedy=expected)
    return found


def unknown_scene(
    scene_id: str, known: Iterable[str], path: str | Path, expected: str
) -> SceneError:
    """The error for a scene id that the source does not have; suggests the nearest."""
    names = sorted(known)
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return SceneError(
        f"no scene '{scene_id}'.{nearest(scene_id, names)}",
        where=str(path),
        remedy=f"its scenes: {shown}" if names else expected,
    )


def safe_id(name: str, where: str) -> str:
    """Return `name` if it can be a folder name anywhere.

    Raises:
        SceneError: it is empty, starts with a dot, or holds other than letters, digits,
            ``.``, ``_`` and ``-``.
    """
    if not _SAFE_ID.fullmatch(name):
        raise SceneError(
            f"scene id '{name}' cannot be a folder name", where=where,
            remedy="rename it with letters, digits, '.', '_' and '-', a letter or digit first",
        )  # fmt: skip
    return name


def damaged(what: str, where: str) -> SceneError:
    """The error for a file whose content cannot be right."""
    return SceneError(what, where=where, remedy=_COPY_AGAIN)


def read_bytes(path: Path, most: int = MAX_UNPACKED_BYTES) -> bytes:
    """Read a file, unpacked if its name ends in ``.gz``.

    Raises:
        SceneError: it cannot be read, is no regular file, is cut off, or has more than
            `most` bytes.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # opening a pipe would wait without end
        raise damaged("is no regular file", str(path))
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(f"cannot be read: {error}", str(path)) from error
    if len(data) > most:
        what = "unpacks to" if path.suffix == ".gz" else "has"
        raise SceneError(
            f"{what} more than {most >> 20} MiB", where=str(path),
            remedy="cut the recording or its map into smaller ones, or leave the scene out",
        )  # fmt: skip
    return data


def read_json(path: Path) -> Any:
    """Read a JSON file, gzipped if its name ends in ``.gz``.

    Raises:
        SceneError: as of `read_bytes`, more than `MAX_DOCUMENT_BYTES`, or it is not JSON.
    """
    data = read_bytes(path, MAX_DOCUMENT_BYTES)
    try:
        found = json.loads(data)
        refuse_half_characters(found, data)
    except (ValueError, RecursionError) as error:  # undecodable, no JSON, too deep, too many digits
        raise damaged(f"is not JSON: {error}", str(path)) from error
    return found


def refuse_half_characters(found: Any, data: bytes) -> None:
    """Refuse parsed JSON that holds half of a character's pair, which is no text elsewhere.

    Args:
        found: What was parsed.
        data: The file, which mostly tells that there is none.

    Raises:
        ValueError: there is one.
    """
    if _HALF.search(data) is None:
        return
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start].encode("ascii", "backslashreplace").decode()
        raise ValueError(f"it holds {half}, half of a character") from None


def member(mapping: Any, key: str, where: str) -> Any:
    """Return ``mapping[key]``.

    Raises:
        SceneError: `mapping` is no mapping or lacks the key.
    """
    if not isinstance(mapping, Mapping):
        raise damaged(f"holds a {type(mapping).__name__} where a mapping with '{key}' should be", where)  # fmt: skip
    if key not in mapping:
        first = itertools.islice(mapping, _MOST_COMPARED)
        raise damaged(f"lacks the key '{key}'.{nearest(key, map(str, first))}", where)
    return mapping[key]


def finite_array(values: Any, shape: tuple[int | None, ...], what: str, where: str) -> Array:
    """Return float64 values of a shape; None in `shape` fits any length.

    Raises:
        SceneError: not numbers, of another shape, not finite, or beyond `LARGEST`.
    """
    try:
        out = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise damaged(f"{what} is not an array of numbers: {str(error)[:200]}", where) from error
    fits = out.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape, out.shape, strict=True)
    )
    if not fits:
        want = "(" + ", ".join("N" if n is None else str(n) for n in shape) + ")"
        raise damaged(f"{what} has shape {out.shape}, not {want}", where)
    usable = np.abs(out) <= LARGEST
    if not usable.all():
        at = tuple(int(i) for i in np.argwhere(~usable)[0])
        raise damaged(f"{what} at index {at} is {out[at]}", where)
    return out
