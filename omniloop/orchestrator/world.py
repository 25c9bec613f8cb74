"""The world: append-only timelines of ego and actors up to one frontier."""

from __future__ import annotations

import math

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.motion import UNIT_TOLERANCE, ActorMotion, EgoMotion, Mask, Times
from omniloop.core.time import MAX_STATE_STEP_US


class Columns:
    """Growing arrays whose last but `axis`-th dimensions are fixed; views never change."""

    def __init__(self, shape: tuple[int, ...], axis: int, dtype: type) -> None:
        self._axis = axis
        self._shape = shape
        self._dtype = dtype
        self._data: np.ndarray = np.zeros(self._sized(64), dtype=dtype)
        self._length = 0

    def _sized(self, length: int) -> tuple[int, ...]:
        shape = list(self._shape)
        shape.insert(self._axis, length)
        return tuple(shape)

    def append(self, values: np.ndarray) -> None:
        """Add values behind what is held."""
        count = values.shape[self._axis]
        need = self._length + count
        if need > self._data.shape[self._axis]:
            # Views handed out keep the old block, so what they show stays as it was.
            bigger: np.ndarray = np.zeros(
                self._sized(max(need, 2 * self._length)), dtype=self._dtype
            )
            bigger[self._index(0, self._length)] = self._data[self._index(0, self._length)]
            self._data = bigger
        self._data[self._index(self._length, need)] = values
        self._length = need

    def _index(self, start: int, stop: int) -> tuple[slice, ...]:
        return (*(slice(None) for _ in range(self._axis)), slice(start, stop))

    def view(self) -> np.ndarray:
        """What is held, read-only."""
        out = self._data[self._index(0, self._length)]
        out.flags.writeable = False
        return out


def _check_extends(times_us: Times, frontier_us: int | None, until_us: int, what: str) -> None:
    if len(times_us) == 0 or times_us[-1] != until_us:
        last = "nothing" if len(times_us) == 0 else f"{times_us[-1]} us"
        raise ValueError(f"{what} ends at {last}, not at {until_us} us")
    if frontier_us is None:
        return
    last_us = frontier_us
    for time_us in times_us.tolist():
        if time_us <= last_us:
            raise ValueError(
                f"{what} times {times_us.tolist()} do not grow from the frontier {frontier_us} us"
            )
        if time_us - last_us > MAX_STATE_STEP_US:
            raise ValueError(
                f"{what} states are {time_us - last_us} us apart;"
                f" at most {MAX_STATE_STEP_US} us is allowed"
            )
        last_us = time_us


def _check_finite(values: Array, what: str, until_us: int) -> None:
    # A sum is finite if all its terms are, and costs less to look at.
    if not math.isfinite(values.sum()) and not np.isfinite(values).all():
        raise ValueError(f"{what} up to {until_us} us is not finite")


def _check_poses(poses: Array, what: str, until_us: int) -> None:
    _check_finite(poses, what, until_us)
    quat = poses[..., 3:]
    norms2 = np.einsum("...i,...i->...", quat, quat)
    if norms2.size and max(norms2.max() - 1.0, 1.0 - norms2.min()) > UNIT_TOLERANCE:
        raise ValueError(f"{what} up to {until_us} us has a quaternion that is not a unit")


class World:
    """Committed states; the frontier is the last committed time.

    What is committed never changes: the arrays returned are read-only and stay valid.
    """

    def __init__(self, n_actors: int) -> None:
        self._ego_times = Columns((), 0, np.int64)
        self._true = Columns((19,), 0, np.float64)
        self._estimated: Columns | None = None  # as long as the estimate is the truth
        self._actor_times = Columns((), 0, np.int64)
        self._actor_poses = Columns((n_actors, 7), 1, np.float64)
        self._actor_valid = Columns((n_actors,), 1, np.bool_)
        self._frontier_us: int | None = None
        self._show()

    @property
    def frontier_us(self) -> int:
        """The last committed time.

        Raises:
            ValueError: nothing is committed yet.
        """
        if self._frontier_us is None:
            raise ValueError("nothing is committed yet")
        return self._frontier_us

    def commit(
        self, ego_true: EgoMotion, ego_estimated: EgoMotion, actors: ActorMotion, until_us: int
    ) -> None:
        """Move the frontier to `until_us`.

        Raises:
            ValueError: motion does not reach `until_us` exactly, goes back, leaves more
                than 100 ms between states, is not finite, or has no unit quaternions.
        """
        frontier = self._frontier_us
        _check_extends(ego_true.times_us, frontier, until_us, "ego motion")
        _check_extends(actors.times_us, frontier, until_us, "actor motion")
        same = ego_estimated is ego_true
        if not same and not np.array_equal(ego_true.times_us, ego_estimated.times_us):
            raise ValueError("true and estimated ego motion have different times")
        _check_poses(ego_true.local_to_rig, "ego motion", until_us)
        _check_finite(ego_true.dynamics, "ego motion", until_us)
        _check_poses(actors.local_to_aabb, "actor motion", until_us)
        if not same:
            _check_poses(ego_estimated.local_to_rig, "estimated ego motion", until_us)
            _check_finite(ego_estimated.dynamics, "estimated ego motion", until_us)
        self._ego_times.append(ego_true.times_us)
        states = np.hstack([ego_true.local_to_rig, ego_true.dynamics])
        if not same and self._estimated is None:
            self._estimated = Columns((19,), 0, np.float64)
            self._estimated.append(self._true.view())
        self._true.append(states)
        if self._estimated is not None:
            if not same:
                states = np.hstack([ego_estimated.local_to_rig, ego_estimated.dynamics])
            self._estimated.append(states)
        self._actor_times.append(actors.times_us)
        self._actor_poses.append(actors.local_to_aabb)
        self._actor_valid.append(actors.valid)
        self._frontier_us = until_us
        self._show()

    def _show(self) -> None:
        """Make the views of what is committed, which are looked at several times a step."""
        times = self._ego_times.view()
        self._ego_true = self._ego_estimated = _ego(times, self._true)
        if self._estimated is not None:
            self._ego_estimated = _ego(times, self._estimated)
        valid: Mask = self._actor_valid.view()
        self._actors = ActorMotion(self._actor_times.view(), self._actor_poses.view(), valid)

    @property
    def ego_true(self) -> EgoMotion:
        """True ego states: what renderer, traffic and scores see."""
        return self._ego_true

    @property
    def ego_estimated(self) -> EgoMotion:
        """Estimated ego states: what the policy sees."""
        return self._ego_estimated

    @property
    def actors(self) -> ActorMotion:
        """Actors' states."""
        return self._actors


def _ego(times_us: Times, columns: Columns) -> EgoMotion:
    states: Array = columns.view()
    return EgoMotion(times_us, states[:, :7], states[:, 7:])
