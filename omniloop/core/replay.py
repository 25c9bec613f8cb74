"""The recording as motion: vectorised tables of what ego and actors did."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.kinematics import motion_at
from omniloop.core.motion import ActorMotion, EgoMotion, Times, Trajectory, grid_times_us
from omniloop.core.scene import Scene
from omniloop.core.time import MAX_STATE_STEP_US

_HALF_WINDOW_US = 50_000
"""Recorded motion is differenced over at least +-50 ms: poses at 170 Hz carry millimetres
of noise."""


def recorded_motion_at(local_to_rig: Trajectory, times_us: Times) -> EgoMotion:
    """`motion_at` of a recording: over +-50 ms, or +- its mean interval where that is longer.

    Inside one recorded interval motion is a straight line, without any acceleration.
    """
    intervals = max(len(local_to_rig) - 1, 1)
    mean_us = -(-(local_to_rig.end_us - local_to_rig.start_us) // intervals)
    return motion_at(local_to_rig, times_us, max(_HALF_WINDOW_US, mean_us))


class RecordedActors:
    """All actors' recorded motion as one table on shared times.

    The table's times are the union of the tracks' own, so that replay passes through
    the recorded poses; where tracks share few times it would grow large, and a 100 ms
    grid takes its place.
    """

    def __init__(self, scene: Scene) -> None:
        start, end = scene.start_us, scene.end_us
        union = np.array([start, end], dtype=np.int64)
        longest = 1
        for track in scene.tracks:
            longest = max(longest, len(track.times_us))
            union = np.union1d(union, track.times_us)
        if len(union) > 4 * longest + 2:
            last = max(int(union[-1]), end)
            union = np.append(np.arange(start, last, MAX_STATE_STEP_US, dtype=np.int64), last)
        self._table = scene.recorded_actors(union)
        self._static = np.array([a.is_static for a in scene.actors], dtype=bool)
        seen = self._table.valid
        self._first_seen = np.where(seen.any(axis=1), seen.argmax(axis=1), -1)
        last = len(union) - 1 - seen[:, ::-1].argmax(axis=1)
        self._last_seen = np.where(seen.any(axis=1), last, -1)

    def at(self, query_us: Times) -> ActorMotion:
        """Motion at times ``(K,)``; absent outside the recording, but for static actors,
        which stay where they were first and last seen."""
        query = np.asarray(query_us, dtype=np.int64)
        times = self._table.times_us
        out = self._table.sample(np.clip(query, times[0], times[-1]))
        outside = (query < times[0]) | (query > times[-1])
        if not outside.any():
            return ActorMotion(query, out.local_to_aabb, out.valid)
        valid = out.valid & ~outside
        poses = out.local_to_aabb.copy()
        for late, index in (
            (query > times[-1], self._last_seen),
            (query < times[0], self._first_seen),
        ):
            stays = np.ix_(np.flatnonzero(self._static & (index >= 0)), np.flatnonzero(late))
            valid[stays] = True
            poses[stays] = self._table.local_to_aabb[stays[0][:, 0], index[stays[0][:, 0]]][:, None]
        poses[~valid] = geometry.IDENTITY
        return ActorMotion(query, poses, valid)

    def between(self, after_us: int, until_us: int) -> ActorMotion:
        """Motion through ``(after_us, until_us]``: the recorded times inside, filled so
        that states are at most 100 ms apart, and exactly `until_us`."""
        times = self._table.times_us
        lo, hi = np.searchsorted(times, [after_us, until_us], side="right")
        inside = times[lo:hi]
        knots = np.concatenate([[after_us], inside, [until_us]])
        if (np.diff(knots) <= MAX_STATE_STEP_US).all():
            if len(inside) and inside[-1] == until_us:
                return self._table.between(after_us, until_us)
            return self.at(np.append(inside, until_us))
        return self.at(np.union1d(inside, grid_times_us(after_us, until_us, MAX_STATE_STEP_US)))


class RecordedEgo:
    """The ego's recorded states."""

    def __init__(self, scene: Scene) -> None:
        self.local_to_rig = scene.ego

    def span(self, start_us: int, until_us: int) -> EgoMotion:
        """States over ``[start_us, until_us]`` at the recorded times and at both ends."""
        clipped = self.local_to_rig.clip(start_us, until_us)
        return recorded_motion_at(self.local_to_rig, clipped.times_us)

    def between(self, after_us: int, until_us: int) -> EgoMotion:
        """States in ``(after_us, until_us]``, the last exactly at `until_us`."""
        whole = self.span(after_us, until_us)
        return EgoMotion(whole.times_us[1:], whole.local_to_rig[1:], whole.dynamics[1:])
