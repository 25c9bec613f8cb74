"""Motion over time: one body's trajectory, many actors' motion on shared times."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omniloop.core import geometry
from omniloop.core.geometry import Array

Times = NDArray[np.int64]
Mask = NDArray[np.bool_]


def as_times(values: object) -> Times:
    """Return a read-only int64 copy ``(N,)``."""
    out = np.array(values, dtype=np.int64).reshape(-1)
    out.setflags(write=False)
    return out


def bracket(times_us: Times, query_us: Times) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """Indices of the samples around each query and the fraction between them.

    `times_us` is ``(N,)`` strictly increasing. A query on a sample gives that sample
    twice and fraction 0; other fractions lie inside (0, 1).

    Raises:
        ValueError: a query lies outside ``[times_us[0], times_us[-1]]``.
    """
    hi = times_us.searchsorted(query_us)
    try:
        after = times_us[hi]
    except IndexError:
        raise ValueError(_outside(times_us, query_us)) from None
    between = after != query_us
    if not np.count_nonzero(between):
        return hi, hi, np.zeros(len(hi))
    lo = hi - between
    if np.count_nonzero(lo < 0):
        raise ValueError(_outside(times_us, query_us))
    before = times_us[lo]
    return lo, hi, (query_us - before) / np.maximum(after - before, 1)


def _outside(times_us: Times, query_us: Times) -> str:
    if len(times_us) == 0:
        return f"nothing is held to sample at {query_us[0]} us"
    early, late = query_us.min(), query_us.max()
    bad = early if early < times_us[0] else late
    return f"{bad} us is outside [{times_us[0]}, {times_us[-1]}] us"


UNIT_TOLERANCE = 2e-3
"""How far the squared norm of a quaternion may be from 1: float32 on the wire needs some."""


def _whole_us(values: object) -> Times:
    """Times as int64; float64 seconds-times-1e6 of an author are rounded, not cut off."""
    out = np.asarray(values)
    if out.dtype.kind == "f":
        if not np.isfinite(out).all():
            raise ValueError(f"times {out.tolist()} are not finite")
        out = np.rint(out)
    return out.astype(np.int64, copy=False)


def _frozen(values: np.ndarray) -> np.ndarray:
    """The array itself if it is read-only, else a read-only copy."""
    if values.flags.writeable:
        values = values.copy()
        values.setflags(write=False)
    return values


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses of one body at strictly increasing times; may be empty.

    The arrays are read-only: those given are copied unless they are read-only already,
    so that an author may go on using a buffer.

    Attributes:
        times_us: ``(N,)`` int64.
        poses: ``(N, 7)`` float64, see `omniloop.core.geometry`; the frames are in the
            name of whatever holds the trajectory.
    """

    times_us: Times
    poses: Array

    def __post_init__(self) -> None:
        times = _whole_us(self.times_us)
        poses = np.asarray(self.poses, dtype=np.float64)
        if times.ndim != 1 or poses.shape != (len(times), 7):
            raise ValueError(
                f"times {times.shape} and poses {poses.shape} do not match (N,), (N, 7)"
            )
        if len(times):
            _check(times, poses)
        object.__setattr__(self, "times_us", _frozen(times))
        object.__setattr__(self, "poses", _frozen(poses))

    @classmethod
    def unchecked(cls, times_us: Times, poses: Array) -> Trajectory:
        """Hold arrays that follow from checked ones: no check, no copy, on the hot path."""
        out = object.__new__(cls)
        object.__setattr__(out, "times_us", times_us)
        object.__setattr__(out, "poses", poses)
        return out

    def __len__(self) -> int:
        return len(self.times_us)

    @property
    def start_us(self) -> int:
        """First time; the trajectory must not be empty."""
        return int(self.times_us[0])

    @property
    def end_us(self) -> int:
        """Last time; the trajectory must not be empty."""
        return int(self.times_us[-1])

    def sample(self, query_us: object) -> Array:
        """Interpolate poses ``(K, 7)`` at times ``(K,)`` inside the range.

        Raises:
            ValueError: a query lies outside ``[start_us, end_us]``.
        """
        query = np.atleast_1d(np.asarray(query_us, dtype=np.int64))
        lo, hi, alpha = bracket(self.times_us, query)
        if lo is hi:
            return np.asarray(self.poses[hi])
        return geometry.interpolate_poses(self.poses[lo], self.poses[hi], alpha)

    def sample_clamped(self, query_us: object) -> Array:
        """Like `sample`, with times outside the range moved to its nearer end."""
        query = np.atleast_1d(np.asarray(query_us, dtype=np.int64))
        return self.sample(np.clip(query, self.times_us[0], self.times_us[-1]))

    def clip(self, start_us: int, end_us: int) -> Trajectory:
        """Return the part in ``[start_us, end_us]`` with exact samples at both ends.

        Raises:
            ValueError: either end lies outside the trajectory, or the start is later.
        """
        if start_us > end_us:
            raise ValueError(
                f"cannot clip to [{start_us}, {end_us}] us: the start is after the end"
            )
        ends = [start_us] if start_us == end_us else [start_us, end_us]
        lo = self.times_us.searchsorted(start_us, side="right")
        hi = max(lo, self.times_us.searchsorted(end_us, side="left"))
        times = np.concatenate([ends[:1], self.times_us[lo:hi], ends[1:]])
        poses = self.sample(ends)
        inner = np.concatenate([poses[:1], self.poses[lo:hi], poses[1:]])
        return Trajectory.unchecked(times, inner)

    def between(self, after_us: int, until_us: int) -> Trajectory:
        """Return the samples in ``(after_us, until_us]``, nothing interpolated."""
        lo, hi = np.searchsorted(self.times_us, [after_us, until_us], side="right")
        return Trajectory.unchecked(self.times_us[lo:hi], self.poses[lo:hi])

    def transform(self, a_to_b: Array) -> Trajectory:
        """Left-multiply: poses in frame `b` become poses in frame `a`."""
        return Trajectory.unchecked(self.times_us, geometry.compose(a_to_b, self.poses))

    def shift_body(self, body_to_point: Array) -> Trajectory:
        """Right-multiply: follow another point fixed to the body."""
        return Trajectory.unchecked(self.times_us, geometry.compose(self.poses, body_to_point))


def _check(times: Times, poses: Array) -> None:
    """Raise a ValueError that names the first time or pose that cannot be used."""
    step = times[1:] > times[:-1]
    if not step.all():
        at = int(np.argmin(step)) + 1
        raise ValueError(f"time {times[at]} us at index {at} is not after {times[at - 1]} us")
    if not math.isfinite(poses.sum()) and not np.isfinite(poses).all():
        at = int(np.argmin(np.isfinite(poses).all(axis=1)))
        raise ValueError(f"pose {poses[at].tolist()} at {times[at]} us is not finite")
    quat = poses[:, 3:]
    off = np.abs(np.einsum("ij,ij->i", quat, quat) - 1.0)
    if off.max() > UNIT_TOLERANCE:
        at = int(np.argmax(off))
        raise ValueError(f"quaternion {quat[at].tolist()} at {times[at]} us is not a unit")


EMPTY_TRAJECTORY = Trajectory(np.zeros(0, dtype=np.int64), np.zeros((0, 7)))


@dataclass(frozen=True, eq=False)
class EgoMotion:
    """States of ego: poses of the rig in `local` and motion in the rig frame.

    Attributes:
        times_us: ``(N,)`` strictly increasing.
        local_to_rig: ``(N, 7)``.
        dynamics: ``(N, 12)``: linear velocity, angular velocity, linear acceleration,
            angular acceleration, all in the rig frame, SI units.
    """

    times_us: Times
    local_to_rig: Array
    dynamics: Array

    @property
    def trajectory(self) -> Trajectory:
        """The poses alone; states are checked as they are committed."""
        return Trajectory.unchecked(self.times_us, self.local_to_rig)

    def __len__(self) -> int:
        return len(self.times_us)


@dataclass(frozen=True, eq=False)
class ActorMotion:
    """Poses of many actors on shared times, with validity.

    Attributes:
        times_us: ``(T,)`` strictly increasing.
        local_to_aabb: ``(A, T, 7)`` poses of box centres; identity where not valid.
        valid: ``(A, T)``; where False the actor is absent and its pose means nothing.
    """

    times_us: Times
    local_to_aabb: Array
    valid: Mask

    def sample(self, query_us: object) -> ActorMotion:
        """Interpolate at times ``(K,)`` inside the range.

        An actor is valid at a query when it is valid at both samples around it (at the
        one sample, when the query falls on it).

        Raises:
            ValueError: a query lies outside the times held.
        """
        query = np.atleast_1d(np.asarray(query_us, dtype=np.int64))
        lo, hi, alpha = bracket(self.times_us, query)
        if lo is hi:
            valid = self.valid[:, hi]
            poses = np.ascontiguousarray(self.local_to_aabb[:, hi])
            if not valid.all():
                poses[~valid] = geometry.IDENTITY
            return ActorMotion(query, poses, valid)
        # One gather, then rows of components whose last axis is all actors at all times:
        # numpy is quick on long rows and slow on many short ones.
        ends = np.concatenate([lo, hi]).reshape(2, -1)
        gathered = self.local_to_aabb[:, ends].transpose(1, 3, 2, 0)
        rows = np.ascontiguousarray(gathered).reshape(2, 7, -1)
        seen = self.valid[:, ends]
        valid = seen[:, 0] & seen[:, 1]
        if np.count_nonzero(valid) < valid.size:  # the poses of an absent actor may be anything
            np.copyto(rows, geometry.IDENTITY[:, None], where=~valid.T.reshape(-1))
        out = geometry.blend_rows(rows[0], rows[1], np.repeat(alpha, len(valid)))
        poses = np.ascontiguousarray(out.reshape(7, len(query), -1).transpose(2, 1, 0))
        return ActorMotion(query, poses, valid)

    def between(self, after_us: int, until_us: int) -> ActorMotion:
        """Return the samples in ``(after_us, until_us]``, nothing interpolated."""
        lo, hi = np.searchsorted(self.times_us, [after_us, until_us], side="right")
        return ActorMotion(self.times_us[lo:hi], self.local_to_aabb[:, lo:hi], self.valid[:, lo:hi])


def grid_times_us(after_us: int, until_us: int, step_us: int) -> Times:
    """Times ``after + step, after + 2 step, ...`` below `until_us`, then `until_us`."""
    inner = np.arange(after_us + step_us, until_us, step_us, dtype=np.int64)
    return np.append(inner, np.int64(until_us))
