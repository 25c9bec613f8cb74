"""Motion of many objects as trajectory updates and back (alpasim.md 1.6).

Between Omniloop's own client and server one more update goes along, without a name and
without poses: it tells the times of the answer, of which an actor may be absent, and the time
from which a request asks.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion, Mask, Times
from omniloop.core.time import MAX_STATE_STEP_US
from omniloop.services.codec import LATEST_US, poses_from_wire, trajectory_to_wire
from omniloop.services.protos import traffic_pb2 as pb
from omniloop.services.protos.common_pb2 import PoseAtTime, Trajectory

EGO_ID = "EGO"
"""AlpaSim's name for ego among the objects."""

TIMES_ID = ""
"""The name of the update that holds times only."""


def times_to_wire(times_us: Sequence[int]) -> Any:
    """The update that holds times only."""
    states = [PoseAtTime(timestamp_us=t) for t in times_us]
    return pb.ObjectTrajectoryUpdate(object_id=TIMES_ID, trajectory=Trajectory(poses=states))


def motion_to_wire(ids: Sequence[str], motion: ActorMotion, absent_too: bool) -> list[Any]:
    """One update per actor with its valid samples.

    Args:
        absent_too: Name those without any as well.
    """
    updates = []
    samples = np.count_nonzero(motion.valid, axis=1)
    for row, (name, count) in enumerate(zip(ids, samples.tolist(), strict=True)):
        if not (count or absent_too):
            continue
        times, poses = motion.times_us, motion.local_to_aabb[row]
        if count < len(times):
            there = motion.valid[row]
            times, poses = times[there], poses[there]
        sent = trajectory_to_wire(times, poses)
        updates.append(pb.ObjectTrajectoryUpdate(object_id=name, trajectory=sent))
    return updates


@dataclass(frozen=True, eq=False)
class Updates:
    """What updates say of objects, each at times of its own.

    Attributes:
        times_us: Growing times of each object; may be empty.
        poses: ``(N, 7)`` of all objects, one after the other.
    """

    ids: list[str]
    times_us: list[list[int]]
    poses: Array


def read_updates(messages: Sequence[Any]) -> Updates:
    """Read updates.

    Raises:
        ValueError: an object comes twice, its times do not grow, or a pose is none.
    """
    ids, times_us, poses = [], [], []
    for message in messages:
        states = message.trajectory.poses
        ids.append(message.object_id)
        times_us.append([s.timestamp_us for s in states])
        poses += [s.pose for s in states]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise ValueError(f"object '{twice}' comes twice")
    for name, times in zip(ids, times_us, strict=True):
        if not _grow(times):
            raise ValueError(f"times of object '{name}' do not grow: {times} us")
    try:
        return Updates(ids, times_us, poses_from_wire(poses))
    except ValueError:
        for message in messages:
            try:
                poses_from_wire(s.pose for s in message.trajectory.poses)
            except ValueError as error:
                raise ValueError(f"object '{message.object_id}': {error}") from error
        raise


def _grow(times_us: list[int]) -> bool:
    if len(times_us) > 1 and any(b <= a for a, b in pairwise(times_us)):
        return False
    return not times_us or times_us[-1] <= LATEST_US


def rows_of(ids: Iterable[str], row_by_id: dict[str, int]) -> list[int]:
    """Rows of objects.

    Raises:
        ValueError: the scene has no such object.
    """
    try:
        return [row_by_id[name] for name in ids]
    except KeyError as error:
        raise ValueError(f"object {error} is unknown: the scene does not have it") from None


def motion_at_times(
    updates: Updates, rows: list[int], count: int, times_us: list[int], after_us: int, until_us: int
) -> ActorMotion:
    """Motion at the times of an answer, exactly as it holds it; absent where it has no pose.

    Args:
        rows: Which actor each object is.
        count: How many actors there are.
        times_us: All times of the answer.

    Raises:
        ValueError: they do not go from `after_us` to `until_us` in steps of at most 100 ms, or
            an object has a pose at another time.
    """
    steps = [b - a for a, b in pairwise([after_us, *times_us])]
    if not times_us or times_us[-1] != until_us or min(steps) <= 0:
        raise ValueError(f"times {times_us} us do not grow from {after_us} to {until_us} us")
    if max(steps) > MAX_STATE_STEP_US:
        raise ValueError(
            f"states are {max(steps)} us apart; at most {MAX_STATE_STEP_US} us is allowed"
        )
    times = np.array(times_us, dtype=np.int64)
    if rows == list(range(count)) and all(own == times_us for own in updates.times_us):
        shape = (count, len(times_us))
        return ActorMotion(times, updates.poses.reshape(*shape, 7), np.ones(shape, dtype=bool))
    columns = {t: column for column, t in enumerate(times_us)}
    at_row, at_column = [], []
    for name, row, own in zip(updates.ids, rows, updates.times_us, strict=True):
        for t in own:
            if t not in columns:
                raise ValueError(f"object '{name}' has a pose at {t} us, not one of {times_us} us")
            at_row.append(row)
            at_column.append(columns[t])
    return _placed(times, count, at_row, at_column, updates.poses)


def interpolated_motion(
    updates: Updates, rows: list[int], current: ActorMotion, times_us: Times
) -> ActorMotion:
    """Motion at `times_us`, which follow `current`, between what is committed and an answer.

    As AlpaSim does, an object that does not cover the last time is absent from the first on.
    One that was absent before appears with its first pose. Later poses are left out.

    Args:
        rows: Which actor each object is.
        current: Every actor at one time; where valid, what an answer says of it up to then is
            left out.
    """
    now_us, wanted, until_us = int(current.times_us[0]), times_us.tolist(), int(times_us[-1])
    present = current.valid[:, 0].tolist()
    knots = np.concatenate([current.local_to_aabb[:, 0], updates.poses])
    end = len(present)
    at_row, at_column = [], []
    first: list[int] = []
    second: list[int] = []
    fraction: list[float] = []
    for row, given in zip(rows, updates.times_us, strict=True):
        begin, end = end, end + len(given)
        if not given or not given[0] <= until_us <= given[-1]:
            continue
        own, index = given, list(range(begin, end))
        if present[row]:
            new = bisect_right(given, now_us)
            own, index = [now_us, *given[new:]], [row, *index[new:]]
        for column, t in enumerate(wanted):
            hi = bisect_left(own, t)
            exact = own[hi] == t
            if hi == 0 and not exact:
                continue
            lo = hi if exact else hi - 1
            at_row.append(row)
            at_column.append(column)
            first.append(index[lo])
            second.append(index[hi])
            fraction.append(0.0 if exact else (t - own[lo]) / (own[hi] - own[lo]))
    poses = knots[second]
    if first != second:
        poses = geometry.interpolate_poses(knots[first], poses, np.array(fraction))
    return _placed(times_us, len(present), at_row, at_column, poses)


def _placed(
    times_us: Times, count: int, at_row: list[int], at_column: list[int], poses: Array
) -> ActorMotion:
    out = np.tile(geometry.IDENTITY, (count, len(times_us), 1))
    valid: Mask = np.zeros((count, len(times_us)), dtype=bool)
    out[at_row, at_column] = poses
    valid[at_row, at_column] = True
    return ActorMotion(times_us, out, valid)
