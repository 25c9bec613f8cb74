"""Motion over time: one body's trajectory, many actors' motion on shared times."""

from __future__ import annotations

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

    `times_us` is ``(N,)`` strictly increasing with N >= 1 and every query lies inside
    it. A query on a sample gives that sample twice and fraction 0.
    """
    hi = np.searchsorted(times_us, query_us, side="left")
    hi = np.minimum(hi, len(times_us) - 1)
    exact = times_us[hi] == query_us
    lo = np.where(exact, hi, np.maximum(hi - 1, 0))
    span = np.where(exact | (lo == hi), 1, times_us[hi] - times_us[lo])
    alpha = np.where(exact, 0.0, (query_us - times_us[lo]) / span)
    return lo, hi, alpha


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses of one body at strictly increasing times; may be empty.

    Attributes:
        times_us: ``(N,)`` int64.
        poses: ``(N, 7)`` float64, see `omniloop.core.geometry`; the frames are in the
            name of whatever holds the trajectory.
    """

    times_us: Times
    poses: Array

    def __post_init__(self) -> None:
        times = np.asarray(self.times_us, dtype=np.int64)
        poses = np.asarray(self.poses, dtype=np.float64)
        if times.ndim != 1 or poses.shape != (len(times), 7):
            raise ValueError(f"times {times.shape} and poses {poses.shape} do not match (N,), (N, 7)")
        if len(times) > 1 and not (times[1:] > times[:-1]).all():
            at = int(np.argmax(times[1:] <= times[:-1])) + 1
            raise ValueError(f"time {times[at]} us at index {at} is not after {times[at - 1]} us")
        finite = np.isfinite(poses)
        if not finite.all():
            at = int(np.argmin(finite.all(axis=1)))
            raise ValueError(f"pose {poses[at].tolist()} at {times[at]} us is not finite")
        norm2 = np.einsum("ij,ij->i", poses[:, 3:], poses[:, 3:])
        if len(norm2) and np.abs(norm2 - 1.0).max() > 2e-3:
            at = int(np.argmax(np.abs(norm2 - 1.0)))
            raise ValueError(f"quaternion {poses[at, 3:].tolist()} at {times[at]} us is not a unit")
        object.__setattr__(self, "times_us", times)
        object.__setattr__(self, "poses", poses)

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
        if len(query) == 0:
            return np.zeros((0, 7))
        if len(self) == 0:
            raise ValueError(f"cannot sample an empty trajectory at {query[0]} us")
        if query.min() < self.times_us[0] or query.max() > self.times_us[-1]:
            bad = query.min() if query.min() < self.times_us[0] else query.max()
            raise ValueError(f"{bad} us is outside [{self.start_us}, {self.end_us}] us")
        lo, hi, alpha = bracket(self.times_us, query)
        return geometry.interpolate_poses(self.poses[lo], self.poses[hi], alpha)

    def sample_clamped(self, query_us: object) -> Array:
        """Like `sample`, with times outside the range moved to its nearer end."""
        query = np.atleast_1d(np.asarray(query_us, dtype=np.int64))
        return self.sample(np.clip(query, self.times_us[0], self.times_us[-1]))

    def clip(self, start_us: int, end_us: int) -> Trajectory:
        """Return the part in ``[start_us, end_us]`` with exact samples at both ends.

        Raises:
            ValueError: either end lies outside the trajectory.
        """
        inner = self.times_us[(self.times_us > start_us) & (self.times_us < end_us)]
        ends = [start_us] if start_us == end_us else [start_us, end_us]
        times = np.unique(np.concatenate([inner, np.array(ends, dtype=np.int64)]))
        return Trajectory(times, self.sample(times))

    def between(self, after_us: int, until_us: int) -> Trajectory:
        """Return the samples in ``(after_us, until_us]``, nothing interpolated."""
        lo, hi = np.searchsorted(self.times_us, [after_us, until_us], side="right")
        return Trajectory(self.times_us[lo:hi], self.poses[lo:hi])

    def transform(self, a_to_b: Array) -> Trajectory:
        """Left-multiply: poses in frame `b` become poses in frame `a`."""
        return Trajectory(self.times_us, geometry.compose(a_to_b, self.poses))

    def shift_body(self, body_to_point: Array) -> Trajectory:
        """Right-multiply: follow another point fixed to the body."""
        return Trajectory(self.times_us, geometry.compose(self.poses, body_to_point))


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
        """The poses alone."""
        return Trajectory(self.times_us, self.local_to_rig)

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
        if len(query) and (
            len(self.times_us) == 0
            or query.min() < self.times_us[0]
            or query.max() > self.times_us[-1]
        ):
            held = "nothing" if len(self.times_us) == 0 else f"{self.times_us[[0, -1]].tolist()} us"
            raise ValueError(f"{query.min()}..{query.max()} us is outside {held}")
        lo, hi, alpha = bracket(self.times_us, query) if len(query) else (query, query, query / 1.0)
        poses = geometry.interpolate_poses(
            self.local_to_aabb[:, lo], self.local_to_aabb[:, hi], np.broadcast_to(alpha, (len(self.valid), len(query)))
        )
        valid = self.valid[:, lo] & self.valid[:, hi]
        poses[~valid] = geometry.IDENTITY
        return ActorMotion(query, poses, valid)

    def between(self, after_us: int, until_us: int) -> ActorMotion:
        """Return the samples in ``(after_us, until_us]``, nothing interpolated."""
        lo, hi = np.searchsorted(self.times_us, [after_us, until_us], side="right")
        return ActorMotion(self.times_us[lo:hi], self.local_to_aabb[:, lo:hi], self.valid[:, lo:hi])


def grid_times_us(after_us: int, until_us: int, step_us: int) -> Times:
    """Times ``after + step, after + 2 step, ...`` below `until_us`, then `until_us`."""
    inner = np.arange(after_us + step_us, until_us, step_us, dtype=np.int64)
    return np.append(inner, np.int64(until_us))
