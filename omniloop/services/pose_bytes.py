"""Many poses at once: the bytes of pose messages written and read by numpy.

A message of seven floats costs Python more than a microsecond a piece to build or to look
into; a step of a rollout has dozens. The layout is that of ``common.Pose``: tags and lengths
are the same for every pose as long as the same fields are there, so they are a template.
Protobuf leaves out fields that are exactly 0; what is written here holds them all, which every
reader accepts, and what is read is looked into one by one where poses differ in layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.motion import Times

POSE_BYTES = 39
"""Bytes of a pose with all its fields: vec (2 + 3 x 5) and quat (2 + 4 x 5)."""

_TEMPLATE = np.zeros(POSE_BYTES, dtype=np.uint8)
_TEMPLATE[[0, 1, 2, 7, 12]] = [0x0A, 15, 0x0D, 0x15, 0x1D]  # vec: x, y, z
_TEMPLATE[[17, 18, 19, 24, 29, 34]] = [0x12, 20, 0x0D, 0x15, 0x1D, 0x25]  # quat: w, x, y, z
_POSE = np.dtype(
    {
        "names": ["x", "y", "z", "qx", "qy", "qz", "qw"],
        "formats": ["<f4"] * 7,
        "offsets": [3, 8, 13, 25, 30, 35, 20],
        "itemsize": POSE_BYTES,
    }
)

_AT_BYTES = 2 + 2 + POSE_BYTES + 9
"""Bytes of a PoseAtTime in a trajectory: header, pose, time."""

_COLUMNS = {(0, 0x0D): 0, (0, 0x15): 1, (0, 0x1D): 2,
            (1, 0x0D): 6, (1, 0x15): 3, (1, 0x1D): 4, (1, 0x25): 5}  # fmt: skip
"""Column of a pose by sub-message (vec, quat) and tag."""


def pose_bytes(poses: Array) -> np.ndarray:
    """Poses ``(N, 7)`` as serialised ``common.Pose``, ``(N, 39)`` bytes."""
    out = np.empty((len(poses), POSE_BYTES), dtype=np.uint8)
    out[:] = _TEMPLATE
    fields = out.view(_POSE)[:, 0]
    for column, name in enumerate(_POSE.names or ()):
        fields[name] = poses[:, column]
    return out


PAIR_BYTES = 2 * (2 + POSE_BYTES)
"""Bytes of a PosePair: start_pose and end_pose."""


def pose_pair_bytes(starts: Array, ends: Array) -> list[bytes]:
    """Poses ``(N, 7)`` at the start and the end of a shutter as serialised PosePairs."""
    pairs = np.empty((len(starts), 2, 2 + POSE_BYTES), dtype=np.uint8)
    pairs[:, 0, :2] = (0x0A, POSE_BYTES)
    pairs[:, 1, :2] = (0x12, POSE_BYTES)
    pairs[:, 1, 2:] = pose_bytes(ends)
    pairs[:, 0, 2:] = pairs[:, 1, 2:] if starts is ends else pose_bytes(starts)
    data = pairs.tobytes()
    return [data[at : at + PAIR_BYTES] for at in range(0, len(data), PAIR_BYTES)]


def trajectory_bytes(times_us: Times, poses: Array) -> bytes:
    """Poses ``(N, 7)`` at times ``(N,)``, none of them negative, as a ``common.Trajectory``."""
    rows = np.empty((len(poses), _AT_BYTES), dtype=np.uint8)
    rows[:, :4] = (0x0A, _AT_BYTES - 2, 0x0A, POSE_BYTES)
    rows[:, 4 : 4 + POSE_BYTES] = pose_bytes(poses)
    rows[:, 4 + POSE_BYTES] = 0x11
    times = np.ascontiguousarray(times_us, dtype="<i8").view(np.uint8)
    rows[:, 5 + POSE_BYTES :] = times.reshape(-1, 8)
    return rows.tobytes()


def read_trajectory(message: Any) -> tuple[Times, Array] | None:
    """Times ``(N,)`` and poses ``(N, 7)`` of a ``common.Trajectory``, not checked.

    None if its poses differ in layout, or have an unusual one.
    """
    count = len(message.poses)
    data = np.frombuffer(message.SerializeToString(), dtype=np.uint8)
    if count == 0 or len(data) % count:
        return None
    rows = data.reshape(count, -1)
    layout = _known.get(rows.shape[1])
    if layout is None or not layout.fits(rows):
        layout = _layout(rows[0])
        if layout is None or not layout.fits(rows):
            return None
        _known[rows.shape[1]] = layout
    fields = rows.view(layout.fields)[:, 0]
    poses = np.zeros((count, 7))
    for column, name in layout.columns:
        poses[:, column] = fields[name]
    return fields["time_us"].astype(np.int64), poses


@dataclass(frozen=True)
class _Layout:
    """Where a PoseAtTime has its numbers.

    Attributes:
        fixed: Indices of the bytes that are tags and lengths, and `tags` what they are.
        fields: The time and the floats that are there.
        columns: Which column of a pose each float is.
    """

    fixed: np.ndarray
    tags: np.ndarray
    fields: np.dtype[Any]
    columns: tuple[tuple[int, str], ...]

    def fits(self, rows: np.ndarray) -> bool:
        """Whether all rows have this layout."""
        return bool((rows[:, self.fixed] == self.tags).all())


_known: dict[int, _Layout] = {}
"""The layout that was last seen for a length of a row: a driver answers alike every time."""


def _layout(row: np.ndarray) -> _Layout | None:
    """The layout of a row; None if it is none that protobuf writes for poses."""
    time_at = len(row) - 9
    if not 13 <= len(row) <= 127 or row[0] != 0x0A or row[1] != len(row) - 2:
        return None
    if row[2] != 0x0A or time_at != 4 + int(row[3]) or row[time_at] != 0x11:
        return None
    fixed, columns, at = [0, 1, 2, 3, time_at], [], 4
    for part, tag in ((0, 0x0A), (1, 0x12)):
        if at >= time_at or row[at] != tag:
            return None
        end = at + 2 + int(row[at + 1])
        fixed += [at, at + 1]
        at += 2
        while at < end:
            column = _COLUMNS.get((part, int(row[at])))
            if column is None or at + 5 > time_at:
                return None
            fixed.append(at)
            columns.append((column, at + 1))
            at += 5
        if at != end:
            return None
    if at != time_at:
        return None
    fields = np.dtype(
        {
            "names": [f"f{column}" for column, _ in columns] + ["time_us"],
            "formats": ["<f4"] * len(columns) + ["<i8"],
            "offsets": [offset for _, offset in columns] + [time_at + 1],
            "itemsize": len(row),
        }
    )
    where = np.array(fixed)
    return _Layout(where, row[where].copy(), fields, tuple((c, f"f{c}") for c, _ in columns))
