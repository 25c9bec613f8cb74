"""Where each actor drives: its recorded way as stations of one flat table, and lanes beyond it.

Path and pace are kept apart: a path says where the box is after so many metres, `Timetable`
how many metres the recording had done at a time.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask, Times
from omniloop.traffic.lane_index import Line, tangents_rad

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

Index = NDArray[np.intp]

_MIN_STEP_M = 0.3
"""Recorded positions closer than this are one station: annotations of standing cars tremble."""

_MAX_STEP_M = 1.5
FAR_M = 1e6
"""Longer than any path: paths one behind the other are told apart by multiples of it."""
_SAMPLE_M, _SAMPLE_RAD = 3.0, 0.1
_MAX_SWING_M = 1.0
_SIDEWAYS_MPS2 = 2.5
"""Curves off the recording are driven with at most so much lateral acceleration."""
_BACK_M, _AHEAD_M = 5.0, 25.0
"""The pace of a place is the fastest that was driven from 5 m before to 25 m after it."""


@dataclass(frozen=True, eq=False)
class Path:
    """The way of one actor.

    Attributes:
        s_m: ``(M,)`` distance of its stations from the start, strictly increasing.
        local_to_aabb: ``(M, 7)`` box centres there, headings as recorded.
        tangent_rad: ``(M,)`` direction of travel.
        pace_mps: ``(M,)`` the fastest recorded speed around.
        when_s: ``(M,)`` recorded arrival, seconds after the timetable's zero; inf beyond.
        recorded_m: Where the recording ends.
        end_m: Where the actor leaves; the path beyond is what it looks along.
        done_m: ``(T,)`` metres done at the timetable's times.
    """

    s_m: Array
    local_to_aabb: Array
    tangent_rad: Array
    pace_mps: Array
    when_s: Array
    recorded_m: float
    end_m: float
    done_m: Array

    @functools.cached_property
    def line(self) -> Line:
        """Its stations, to project points on; there must be two at least."""
        return Line(self.local_to_aabb[:, :3])


def recorded_path(times_s: Array, local_to_aabb: Array, valid: Mask) -> Path:
    """The path that one actor drove.

    Args:
        times_s: ``(T,)`` times of the grid.
        local_to_aabb: ``(T, 7)``.
        valid: ``(T,)``; at least one.
    """
    seen = np.flatnonzero(valid)
    poses = local_to_aabb[seen]
    xy = poses[:, :2].tolist()
    kept, (x, y) = [0], xy[0]
    for i, (px, py) in enumerate(xy):
        if (px - x) ** 2 + (py - y) ** 2 >= _MIN_STEP_M**2:
            kept.append(i)
            x, y = px, py
    points = poses[kept, :2]
    at = geometry.arc_length_m(points)
    done = np.maximum.accumulate(_progress(poses[:, :2], np.array(kept), points, at))
    if done[-1] > at[-1] + 1e-3:  # the last samples go less than a step beyond
        kept.append(len(xy) - 1)
        at = np.append(at, done[-1])
    s, fraction_of = _refined(at)
    stations = _poses_at(poses[kept], fraction_of)
    whole = np.interp(times_s, times_s[seen], done)
    speed = np.gradient(done, times_s[seen]) if len(seen) > 1 else np.zeros(1)
    when = times_s[seen[np.minimum(np.searchsorted(done, s - 1e-9), len(seen) - 1)]]
    around = (done[None] >= s[:, None] - _BACK_M) & (done[None] <= s[:, None] + _AHEAD_M)
    pace = np.where(around, speed[None], 0.0).max(axis=1)
    tangent = tangents_rad(stations[:, :2]) if len(s) > 1 else geometry.yaw_rad(stations)
    return Path(s, stations, tangent, pace, when, float(at[-1]), float(at[-1]), whole)


def _progress(xy: Array, kept: Index, points: Array, at: Array) -> Array:
    """Arc length of every sample: its projection on the chord of the stations around it."""
    if len(kept) == 1:
        return np.zeros(len(xy))
    before = np.clip(np.searchsorted(kept, np.arange(len(xy)), side="right") - 1, 0, None)
    chord = np.minimum(before, len(kept) - 2)
    step = points[chord + 1] - points[chord]
    length = np.linalg.norm(step, axis=1)
    along = np.sum((xy - points[chord]) * step, axis=1) / length
    last = before == len(kept) - 1
    low, high = np.where(last, length, 0.0), np.where(last, np.inf, length)
    return np.asarray(at[chord] + np.clip(along, low, high))


def _refined(at: Array) -> tuple[Array, Array]:
    """Arc lengths at most 1.5 m apart that hold `at`, and their fractional index into it."""
    if len(at) == 1:
        return at, np.zeros(1)
    parts = np.maximum(np.ceil(np.diff(at) / _MAX_STEP_M).astype(np.int64), 1)
    within = ranges(np.zeros_like(parts), parts) / np.repeat(parts, parts)
    index = np.append(np.repeat(np.arange(len(parts)), parts) + within, len(at) - 1.0)
    return np.interp(index, np.arange(len(at)), at), index


def _poses_at(poses: Array, index: Array) -> Array:
    low = np.floor(index).astype(np.int64)
    high = np.minimum(low + 1, len(poses) - 1)
    return geometry.interpolate_poses(poses[low], poses[high], index - low)


def continued(path: Path, points: Array, from_m: float, blend_m: float = 0.0) -> Path:
    """Leave a path at `from_m` and go on through points ``(K, 3)``.

    Headings turn from the path's to the new line's tangents within `blend_m`; roll and pitch
    end. The pace there is the path's greatest, less in curves.
    """
    keep = path.s_m <= from_m + 1e-9
    line = np.vstack([path.local_to_aabb[keep, :3], points])
    base = int(np.count_nonzero(keep)) - 1
    gap = np.linalg.norm(np.diff(line[base:, :2], axis=0), axis=1)
    fresh = np.append(True, gap > 0.05)
    line = np.vstack([line[:base], line[base:][fresh]])
    at = path.s_m[base] + geometry.arc_length_m(line[base:, :2])
    s, index = _refined(at)
    xyz = np.stack(
        [np.interp(index, np.arange(len(at)), line[base:, axis]) for axis in range(3)], axis=1
    )
    tangent = tangents_rad(xyz[:, :2])
    start = float(geometry.yaw_rad(path.local_to_aabb[base]))
    turn = geometry.wrap_rad(start - tangent)
    fade = np.clip(1.0 - (s - s[0]) / max(blend_m, 1e-6), 0.0, 1.0)
    yaw = tangent + turn * fade
    new = geometry.poses_from_xyz_yaw(xyz, yaw)
    new[0] = path.local_to_aabb[base]
    if np.dot(new[min(1, len(new) - 1), 3:], new[0, 3:]) < 0:
        new[1:, 3:] *= -1
    tangent[0] = path.tangent_rad[base]
    grown = np.zeros(len(s) - 1)
    bend = np.abs(geometry.wrap_rad(np.diff(tangent))) / np.diff(s)
    pace = np.minimum(path.pace_mps.max(), np.sqrt(_SIDEWAYS_MPS2 / np.maximum(bend, 1e-6)))
    return Path(
        np.concatenate([path.s_m[: base + 1], s[1:]]),
        np.vstack([path.local_to_aabb[: base + 1], new[1:]]),
        np.concatenate([path.tangent_rad[: base + 1], tangent[1:]]),
        np.concatenate([path.pace_mps[: base + 1], pace]),
        np.concatenate([path.when_s[: base + 1], grown + np.inf]),
        min(path.recorded_m, from_m),
        float(s[-1]),
        path.done_m,
    )


_COLUMNS = ("s_m", "local_to_aabb", "tangent_rad", "pace_mps", "when_s")


class PathTable:
    """Paths of all actors, one behind the other, so that all are looked up at once.

    Args:
        paths: Of A actors.
        sizes_m: ``(A, 3)`` their boxes.

    Attributes:
        start: ``(A + 1,)`` first station of each actor.
        s_m, local_to_aabb, tangent_rad, pace_mps, when_s: ``(S, ...)`` as of `Path`.
        x_m, y_m: ``(S,)`` columns of `local_to_aabb`.
        half_w_m: ``(S,)`` half the width that the actor needs there.
        sampled: ``(S,)`` stations at most 3 m apart, a station more or less, or a bend of 0.1 rad,
            and both ends of each path.
        owner: ``(S,)`` whose station it is.
        key: ``(S,)`` increasing: the owner's number times `FAR_M`, and the place on its path.
        length_m: ``(A,)`` of whole paths, and `end_m` where actors leave.
        low, high: ``(A, 2)`` bounds of each path.
        widest_m: ``(A,)`` the greatest of `half_w_m` on each path.
    """

    def __init__(self, paths: list[Path], sizes_m: Array) -> None:
        shapes = ((0,), (0, 7), (0,), (0,), (0,))
        for name, shape in zip(_COLUMNS, shapes, strict=True):
            parts = [getattr(p, name) for p in paths] or [np.zeros(shape)]
            setattr(self, name, np.concatenate(parts))
        counts = [len(p.s_m) for p in paths]
        self.start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._index(paths, sizes_m)
        self.low, self.high = np.zeros((2, len(paths), 2))
        self.half_w_m = swept_m(self.local_to_aabb, self.tangent_rad, sizes_m[self.owner])
        self.widest_m = np.zeros(len(paths))
        if len(paths):
            xy = self.local_to_aabb[:, :2]
            self.low = np.minimum.reduceat(xy, self.start[:-1])
            self.high = np.maximum.reduceat(xy, self.start[:-1])
            self.widest_m = np.maximum.reduceat(self.half_w_m, self.start[:-1])
        no_path = np.zeros(0, dtype=bool)
        self.sampled = np.concatenate([no_path, *map(_sampled, paths)])
        self._trees: dict[int, cKDTree] = {}

    s_m: Array
    local_to_aabb: Array
    tangent_rad: Array
    pace_mps: Array
    when_s: Array

    def _index(self, paths: list[Path], sizes_m: Array) -> None:
        self.paths, self._sizes_m = paths, sizes_m
        self.owner = np.repeat(np.arange(len(paths)), np.diff(self.start))
        self.length_m = np.array([p.s_m[-1] for p in paths])
        self.end_m = np.array([p.end_m for p in paths])
        self.key = self.owner * FAR_M + self.s_m
        self.x_m, self.y_m = self.local_to_aabb[:, 0].copy(), self.local_to_aabb[:, 1].copy()
        self._base = np.arange(len(paths)) * FAR_M
        self._last = self.start[1:] - 1

    def with_path(self, who: int, path: Path) -> PathTable:
        """The table with another path for one actor."""
        out = object.__new__(PathTable)
        lo, hi = int(self.start[who]), int(self.start[who + 1])

        def put(column: Any, values: Any) -> Any:
            return np.concatenate([column[:lo], values, column[hi:]])

        for name in _COLUMNS:
            setattr(out, name, put(getattr(self, name), getattr(path, name)))
        n = len(path.s_m)
        out.start = self.start.copy()
        out.start[who + 1 :] += n - (hi - lo)
        size = np.broadcast_to(self._sizes_m[who], (n, 3))
        half_w_m = swept_m(path.local_to_aabb, path.tangent_rad, size)
        out.half_w_m = put(self.half_w_m, half_w_m)
        out.low, out.high, out.widest_m = self.low.copy(), self.high.copy(), self.widest_m.copy()
        out.low[who] = path.local_to_aabb[:, :2].min(axis=0)
        out.high[who] = path.local_to_aabb[:, :2].max(axis=0)
        out.widest_m[who] = half_w_m.max()
        out.sampled = put(self.sampled, _sampled(path))
        paths = list(self.paths)
        paths[who] = path
        out._index(paths, self._sizes_m)
        out._trees = dict(self._trees)
        out._trees.pop(who, None)
        return out

    def tree(self, who: int) -> cKDTree:
        """The stations of one path, by place."""
        found = self._trees.get(who)
        if found is None:
            from scipy.spatial import cKDTree

            own = slice(int(self.start[who]), int(self.start[who + 1]))
            found = self._trees[who] = cKDTree(self.local_to_aabb[own, :2])
        return found

    def between(self, who: Index, from_m: Array, until_m: Array) -> Index:
        """All stations of paths `who` ``(N,)`` between places ``(N,)`` on them, ends left out."""
        lo = np.searchsorted(self.key, self._base[who] + from_m, side="right")
        hi = np.searchsorted(self.key, self._base[who] + until_m, side="left")
        return ranges(np.maximum(lo, self.start[who]), np.minimum(hi, self.start[who + 1]))

    def station(self, s_m: Array) -> Index:
        """The last station ``(A,)`` at or before each actor's place ``(A,)``."""
        found = np.searchsorted(self.key, self._base + s_m, side="right") - 1
        return np.asarray(np.maximum(found, self.start[:-1]))

    def station_of(self, who: Index, s_m: Array) -> Index:
        """The last station ``(N,)`` at or before places ``(N,)`` of actors ``(N,)``."""
        found = np.searchsorted(self.key, self._base[who] + s_m, side="right") - 1
        return np.asarray(np.clip(found, self.start[who], self._last[who]))

    def poses(self, who: Index, s_m: Array) -> Array:
        """Poses ``(N, 7)`` of actors ``(N,)`` at places ``(N,)`` on their paths."""
        station = self.station_of(who, s_m)
        after = np.minimum(station + 1, self._last[who])
        step = self.s_m[after] - self.s_m[station]
        f = (s_m - self.s_m[station]) / np.where(step > 0, step, 1.0)
        f = np.minimum(np.maximum(f, 0.0), 1.0)
        a, b = self.local_to_aabb[station], self.local_to_aabb[after]
        sign = np.copysign(1.0, np.einsum("ij,ij->i", a[:, 3:], b[:, 3:]))
        out = np.empty(a.shape)
        out[:, :3] = a[:, :3] + f[:, None] * (b[:, :3] - a[:, :3])
        quat = a[:, 3:] + f[:, None] * (sign[:, None] * b[:, 3:] - a[:, 3:])
        out[:, 3:] = quat / np.sqrt(np.einsum("ij,ij->i", quat, quat))[:, None]
        return out


def ranges(lo: Index, hi: Index) -> Index:
    """``lo[0] .. hi[0] - 1, lo[1] .. hi[1] - 1, ...`` as one array."""
    n = np.maximum(hi - lo, 0)
    ends = np.cumsum(n)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.arange(total) + np.repeat(lo - ends + n, n))


def swept_m(poses: Array, tangent_rad: Array, sizes_m: Array) -> Array:
    """Half widths ``(M,)`` that boxes need along their paths, headings beside them included."""
    turn = geometry.yaw_rad(poses) - tangent_rad
    across = np.abs(np.sin(turn)) * sizes_m[:, 0] + np.abs(np.cos(turn)) * sizes_m[:, 1]
    return np.asarray(np.minimum(across, sizes_m[:, 1] + _MAX_SWING_M) / 2)


def _sampled(path: Path) -> Mask:
    """See `PathTable.sampled`: a station wherever the way from sample to sample is used up."""
    out = np.zeros(len(path.s_m), dtype=bool)
    turn = np.abs(geometry.wrap_rad(np.diff(geometry.yaw_rad(path.local_to_aabb))))
    turn += np.abs(geometry.wrap_rad(np.diff(path.tangent_rad)))
    used = np.append(0.0, np.diff(path.s_m) / _SAMPLE_M + turn / (2 * _SAMPLE_RAD))
    out[1:] = np.diff(np.floor(np.cumsum(used))) > 0
    out[[0, -1]] = True
    return out


class Timetable:
    """How far along its path each actor was recorded to be.

    Args:
        times_us: ``(T,)`` the grid, strictly increasing.
        done_m: ``(A, T)``.
        valid: ``(A, T)``.
    """

    def __init__(self, times_us: Times, done_m: Array, valid: Mask) -> None:
        self.times_us, self.done_m, self.valid = times_us, done_m, valid
        self.speed_mps = _smooth_speed(done_m, valid, int(times_us[1] - times_us[0]) / 1e6)
        self._columns = np.ascontiguousarray(done_m.T)
        self._speeds = np.ascontiguousarray(self.speed_mps.T)

    def at(self, time_us: int) -> tuple[Array, Array]:
        """Metres done and smoothed speeds, each ``(A,)``, at one time; outside the grid those
        of its ends."""
        times = self.times_us
        clamped = min(max(time_us, int(times[0])), int(times[-1]))
        hi = int(np.searchsorted(times, clamped))
        done, speed = self._columns, self._speeds
        if times[hi] == clamped:
            return done[hi], speed[hi]
        f = (clamped - int(times[hi - 1])) / int(times[hi] - times[hi - 1])
        return (
            done[hi - 1] + f * (done[hi] - done[hi - 1]),
            speed[hi - 1] + f * (speed[hi] - speed[hi - 1]),
        )

    def columns(self, time_us: Array) -> tuple[Index, Index, Array]:
        """Columns before and after times ``(N,)`` and the fraction between them."""
        step = int(self.times_us[1] - self.times_us[0])
        place = np.clip((time_us - self.times_us[0]) / step, 0, len(self.times_us) - 1)
        low = np.minimum(place.astype(np.int64), len(self.times_us) - 2)
        return low, low + 1, place - low


_SMOOTH = 3
"""Recorded speeds are differences over +-0.3 s: positions of a few centimetres of noise."""


def _smooth_speed(done_m: Array, valid: Mask, step_s: float) -> Array:
    """Speeds ``(A, T)`` by central differences inside each actor's first to last column."""
    n_times = done_m.shape[1]
    out = np.zeros(done_m.shape)
    if n_times == 0 or not valid.any():
        return out
    first, last = valid.argmax(axis=1), n_times - 1 - valid[:, ::-1].argmax(axis=1)
    columns = np.arange(n_times)
    # As far to either side as the track allows, at most 0.3 s, and equally far.
    room = np.minimum(columns - first[:, None], last[:, None] - columns)
    reach = np.clip(room, 0, _SMOOTH)
    low = np.where(reach > 0, columns - reach, np.maximum(columns - 1, first[:, None]))
    high = np.where(reach > 0, columns + reach, np.minimum(columns + 1, last[:, None]))
    low, high = np.clip(low, 0, n_times - 1), np.clip(high, 0, n_times - 1)
    rows = np.arange(len(done_m))[:, None]
    gone = done_m[rows, high] - done_m[rows, low]
    return np.where(high > low, gone / (np.maximum(high - low, 1) * step_s), 0.0)
