"""Messages as named values, and the first value in which two of them differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from numbers import Integral
from typing import Any

import numpy as np

from omniloop.core.motion import Trajectory

_POSE = ("x_m", "y_m", "z_m", "qx", "qy", "qz", "qw")
_DYNAMICS = tuple(
    f"{what}_{axis}_{unit}"
    for what, unit in (
        ("velocity", "mps"), ("turn_rate", "radps"), ("acceleration", "mps2"), ("turn_acceleration", "radps2"),
    )
    for axis in "xyz"
)  # fmt: skip
_COLUMNS = {7: _POSE, 12: _DYNAMICS, 3: ("x_m", "y_m", "z_m")}
_BODIES = ("local_to", "poses", "dynamics", "plan_local", "sizes_m", "waypoints", "ego_local")


@dataclass(frozen=True)
class Unlike:
    """A value that is not the same.

    Attributes:
        field: Its name in the message, such as ``request.plan_local_to_rig[3].x_m``.
        found, recorded: The two values, as text.
    """

    field: str
    found: str
    recorded: str


def first_unlike(found: Any, recorded: Any, tolerance: float = 0.0) -> Unlike | None:
    """The first value in which two messages of one type differ; None if they are the same.

    Args:
        found, recorded: Dataclasses, arrays, texts, numbers, and tuples and mappings of them.
        tolerance: Numbers that are no further apart are the same; times, counts, texts and images
            are compared exactly. With 0, numbers must have the same bits.
    """
    ours, theirs = dict(_leaves("", found)), dict(_leaves("", recorded))
    for name in dict.fromkeys([*ours, *theirs]):
        if name not in ours or name not in theirs:
            parts = (_brief(side[name]) if name in side else "absent" for side in (ours, theirs))
            return Unlike(name, *parts)
        unlike = _compared(name, ours[name], theirs[name], tolerance)
        if unlike is not None:
            return unlike
    return None


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of all that a message holds."""
    if isinstance(value, Trajectory):  # a plan's own poses need no further name
        yield f"{name}.times_us", value.times_us
        yield name, value.poses
    elif is_dataclass(value) and not isinstance(value, type):
        for part in fields(value):
            yield from _leaves(_below(name, part.name), getattr(value, part.name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(_below(name, str(key)), item)
    elif isinstance(value, tuple | list):
        yield f"len({name})", len(value)
        for number, item in enumerate(value):
            yield from _leaves(f"{name}[{number}]", item)
    else:
        yield name, value


def _below(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part


def _compared(name: str, found: Any, recorded: Any, tolerance: float) -> Unlike | None:
    if isinstance(found, bytes) and isinstance(recorded, bytes):
        return _bytes(name, found, recorded)
    if isinstance(found, np.ndarray) and isinstance(recorded, np.ndarray):
        return _arrays(name, found, recorded, tolerance)
    if isinstance(found, float) and isinstance(recorded, float):
        return _arrays(name, np.array(found), np.array(recorded), tolerance)
    whole = isinstance(found, Integral) and isinstance(recorded, Integral)
    if (whole or type(found) is type(recorded)) and found == recorded:
        return None
    return Unlike(name, _brief(found), _brief(recorded))


def _arrays(name: str, found: np.ndarray, recorded: np.ndarray, tolerance: float) -> Unlike | None:
    if found.shape != recorded.shape:
        if found.ndim == recorded.ndim and found.shape[1:] == recorded.shape[1:]:
            return Unlike(f"len({name})", str(len(found)), str(len(recorded)))
        return Unlike(f"{name}.shape", str(found.shape), str(recorded.shape))
    if "f" in (found.dtype.kind, recorded.dtype.kind):
        ours, theirs = (np.asarray(a, dtype=np.float64) for a in (found, recorded))
        if tolerance == 0:
            unlike = ours.view(np.int64) != theirs.view(np.int64)
        else:
            near = np.abs(ours - theirs) <= tolerance  # never of a NaN
            unlike = ~near & (ours.view(np.int64) != theirs.view(np.int64))
    else:
        unlike = found != recorded
    if not np.any(unlike):
        return None
    at = np.unravel_index(int(np.argmax(unlike)), found.shape)
    return Unlike(_place(name, at, found.shape), repr(found[at].item()), repr(recorded[at].item()))


def _place(name: str, at: tuple[Any, ...], shape: tuple[int, ...]) -> str:
    """Name of one number of an array: columns of poses and motion have names of their own."""
    last = name.rpartition(".")[2].partition("[")[0]
    columns = _COLUMNS.get(shape[-1], ()) if shape and last.startswith(_BODIES) else ()
    if not columns:
        return name + "".join(f"[{index}]" for index in at)
    return name + "".join(f"[{index}]" for index in at[:-1]) + f".{columns[int(at[-1])]}"


def _bytes(name: str, found: bytes, recorded: bytes) -> Unlike | None:
    if found == recorded:
        return None
    if len(found) != len(recorded):
        return Unlike(f"len({name})", f"{len(found)}", f"{len(recorded)}")
    ours, theirs = (np.frombuffer(data, dtype=np.uint8) for data in (found, recorded))
    return _arrays(name, ours, theirs, 0.0)


def _brief(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
