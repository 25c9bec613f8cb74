"""From places along paths to poses, without a jump where one way of placing follows another."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.traffic.drive import State
from omniloop.traffic.paths import Index
from omniloop.traffic.stage import Stage

_FADE_M = 8.0
"""An offset from the path fades out over about this distance."""

_NOTHING = 1e-4


class Placing:
    """Poses of all actors, each with an offset from its path that fades as it drives on.

    On time an actor is exactly where it was recorded, late it is on its path: the two differ by
    centimetres. Whatever differs when an actor changes from one to the other stays as an offset.

    Args:
        grid_poses: ``(A, T, 7)`` recorded poses at the timetable's times.
    """

    def __init__(self, grid_poses: Array) -> None:
        self._grid = grid_poses
        self._offset = np.zeros((len(grid_poses), 4))

    def own(self, stage: Stage, state: State, who: Index) -> Array:
        """Poses ``(N, 7)`` on their own paths, or at their own instants of the recording."""
        out = stage.table.poses(who, state.s_m[who])
        kept = ~stage.cast.driven[who]
        if kept.any():
            rows = who[kept]
            low, high, f = stage.cast.timetable.columns(state.own_us[rows])
            first, last = stage.cast.entry[rows], stage.cast.last[rows]
            low, high = np.clip(low, first, last), np.clip(high, first, last)
            out[kept] = geometry.interpolate_poses(self._grid[rows, low], self._grid[rows, high], f)
        return out

    def entry(self, stage: Stage, who: Index) -> Array:
        """Poses ``(N, 7)`` at which actors were first recorded."""
        return np.asarray(self._grid[who, stage.cast.entry[who]])

    def rebase(self, stage: Stage, state: State, who: Index, poses: Array) -> None:
        """Let actors, late from now on, start from poses ``(N, 7)`` rather than from their paths."""
        if len(who):
            self._offset[who] = _difference(poses, self.own(stage, state, who))

    def forget(self, who: Index | int) -> None:
        """Drop offsets."""
        self._offset[who] = 0.0

    def move(
        self, stage: Stage, was: State, now: State, before: Array, recorded: Array, there: Mask
    ) -> Array:
        """Poses ``(A, 7)`` after a step.

        Args:
            before: ``(A, 7)`` poses before it.
            recorded: ``(A, 7)`` recorded poses at its end.
        """
        late_now = np.flatnonzero(was.on_time & ~now.on_time & there)
        self.rebase(stage, was, late_now, before[late_now])
        self._offset *= np.exp(-np.abs(now.s_m - was.s_m) / _FADE_M)[:, None]
        poses = recorded.copy()
        late = np.flatnonzero((~was.on_time | ~now.on_time) & there)
        if len(late):
            poses[late] = _shifted(self.own(stage, now, late), self._offset[late])
        back = np.flatnonzero(~was.on_time & now.on_time & there)
        if len(back):
            self._offset[back] = _difference(poses[back], recorded[back])
        shifted = np.abs(self._offset).max(axis=1, initial=0.0) > _NOTHING
        held = np.flatnonzero(was.on_time & now.on_time & there & shifted)
        if len(held):
            poses[held] = _shifted(recorded[held], self._offset[held])
        return poses


def _difference(poses: Array, base: Array) -> Array:
    """Offsets ``(N, 4)``: x, y, z and yaw of poses from base poses."""
    yaw = geometry.wrap_rad(geometry.yaw_rad(poses) - geometry.yaw_rad(base))
    return np.column_stack([poses[:, :3] - base[:, :3], yaw])


def _shifted(base: Array, offset: Array) -> Array:
    """Base poses moved and turned by offsets ``(N, 4)``."""
    out = base.copy()
    out[:, :3] += offset[:, :3]
    # A turn about z before the pose's own: (0, 0, sin, cos) times its quaternion.
    sin, cos = np.sin(offset[:, 3] / 2), np.cos(offset[:, 3] / 2)
    x, y, z, w = base[:, 3:].T
    out[:, 3] = cos * x - sin * y
    out[:, 4] = cos * y + sin * x
    out[:, 5] = cos * z + sin * w
    out[:, 6] = cos * w - sin * z
    return out
