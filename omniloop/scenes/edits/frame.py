"""Curvilinear frames along driven paths: arc length, offset to the left, and lanes beside."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.lanes import extend_along_lanes
from omniloop.core.motion import Trajectory
from omniloop.core.once import once_per_object
from omniloop.core.route import RouteLine, route_from_recording
from omniloop.core.scene import HeightRaster, Scene, VectorMap
from omniloop.core.time import US_PER_S

SPACING_M = 0.25
_SIGMA_M = 1.5
"""Paths are smoothed by a Gaussian of this width: a bend of 10 m radius moves by 11 cm."""

_BEHIND_M = 120.0
_CLOCK_S = 0.1
_SPEED_SIGMA = 3
"""Recorded speeds are smoothed by a Gaussian of 0.3 s."""


@dataclass(frozen=True, eq=False)
class PathFrame:
    """A smooth line; places are given by arc length `s` and offset `d` to its left.

    Attributes:
        s_m: ``(N,)`` every `SPACING_M`; 0 where the driven path begins.
        xyz_m: ``(N, 3)`` in `local`; z is that of the body whose path it is.
        heading_rad: ``(N,)`` without jumps.
        curvature: ``(N,)`` in 1/m, left positive.
    """

    s_m: Array
    xyz_m: Array
    heading_rad: Array
    curvature: Array

    def at(self, s_m: Array, d_m: Array | float = 0.0) -> Array:
        """Points ``(K, 3)`` at arc lengths ``(K,)`` and offsets; straight beyond both ends."""
        s = np.asarray(s_m, dtype=np.float64)
        held = np.clip(s, self.s_m[0], self.s_m[-1])
        out = np.stack([np.interp(held, self.s_m, c) for c in self.xyz_m.T], axis=-1)
        heading = np.interp(held, self.s_m, self.heading_rad)
        beyond, d = s - held, np.broadcast_to(np.asarray(d_m, dtype=np.float64), s.shape)
        out[..., 0] += beyond * np.cos(heading) - d * np.sin(heading)
        out[..., 1] += beyond * np.sin(heading) + d * np.cos(heading)
        return out

    def heading_at(self, s_m: Array) -> Array:
        """Headings ``(K,)`` of the line."""
        return np.interp(s_m, self.s_m, self.heading_rad)

    def curvature_at(self, s_m: Array) -> Array:
        """Curvatures ``(K,)`` of the line."""
        return np.interp(s_m, self.s_m, self.curvature)

    def project(self, xy_m: Array) -> tuple[Array, Array]:
        """Arc lengths and signed offsets, each ``(K,)``, of the nearest places of the line."""
        thin = slice(None, None, 4)
        s_line, xy_line = self.s_m[thin], self.xyz_m[thin, :2]
        s, _ = geometry.project_on_polyline(xy_m, xy_line)
        # Arc lengths of the thinned line differ by its sagittas: interpolate by index.
        s = np.interp(s, geometry.arc_length_m(xy_line), s_line)
        foot, heading = self.at(s), self.heading_at(s)
        rel = np.asarray(xy_m)[:, :2] - foot[:, :2]
        along = rel[:, 0] * np.cos(heading) + rel[:, 1] * np.sin(heading)
        d = -rel[:, 0] * np.sin(heading) + rel[:, 1] * np.cos(heading)
        return s + along, d


@dataclass(frozen=True, eq=False)
class Drive:
    """A recorded motion along its own path.

    Attributes:
        frame: The path, smoothed and extended.
        times_s: ``(N,)`` every 0.1 s over the recorded motion, from the scene's start on.
        s_m: ``(N,)`` arc length then, never falling.
        speed_mps: ``(N,)``.
    """

    frame: PathFrame
    times_s: Array
    s_m: Array
    speed_mps: Array

    def s_at(self, time_s: Array | float) -> Array:
        """Arc lengths at times; at constant speed outside the recording."""
        t = np.asarray(time_s, dtype=np.float64)
        held = np.clip(t, self.times_s[0], self.times_s[-1])
        early, late = np.minimum(t - held, 0.0), np.maximum(t - held, 0.0)
        return np.asarray(
            np.interp(held, self.times_s, self.s_m)
            + early * self.speed_mps[0]
            + late * self.speed_mps[-1]
        )

    def speed_at(self, time_s: Array | float) -> Array:
        """Speeds at times."""
        return np.asarray(np.interp(time_s, self.times_s, self.speed_mps))


def drive_of(scene: Scene, motion: Trajectory) -> Drive:
    """The path and the speeds of a recorded motion of at least one pose in a scene."""
    line = route_from_recording(motion, scene.map)
    assert line is not None  # the motion has poses
    frame = _frame(line, motion, scene.map)
    duration_s = (motion.end_us - motion.start_us) / US_PER_S
    ticks = np.append(np.arange(0.0, duration_s - 1e-6, _CLOCK_S), duration_s)
    times_us = np.minimum(motion.start_us + np.rint(ticks * 1e6).astype(np.int64), motion.end_us)
    route, s, near = RouteLine(frame.xyz_m[::2]), [], None
    for x, y in motion.sample(times_us)[:, :2].tolist():
        near = route.project(x, y, near if near is not None else -float(frame.s_m[0]))
        s.append(near)
    s_line = np.interp(np.array(s), route.s_m, frame.s_m[::2])
    s_line = np.maximum.accumulate(s_line)
    speed = np.zeros(len(ticks))
    if len(ticks) > 1:
        from scipy.ndimage import gaussian_filter1d

        speed = gaussian_filter1d(np.gradient(s_line, ticks), _SPEED_SIGMA, mode="nearest")
    offset_s = (motion.start_us - scene.start_us) / US_PER_S
    return Drive(frame, ticks + offset_s, s_line, np.maximum(speed, 0.0))


@once_per_object
def ego_drive(scene: Scene) -> Drive:
    """The recorded ego as path and speeds."""
    return drive_of(scene, scene.ego)


def _frame(line: RouteLine, motion: Trajectory, vector_map: VectorMap) -> PathFrame:
    """Smooth a route and go on behind its start, along the lanes there or straight."""
    start = motion.poses[0]
    heading = float(np.arctan2(*(line.points[1] - line.points[0])[1::-1]))
    if line.s_m[min(5, len(line.s_m) - 1)] < 2.0:  # a step of noise has no direction
        later = line.at(np.array([2.0]))[0] - line.points[0]
        heading = float(np.arctan2(later[1], later[0]))
    behind = np.zeros((0, 3))
    if vector_map.lanes:
        back = extend_along_lanes(_reversed(vector_map), start[:3], heading + np.pi, _BEHIND_M)
        behind = back[::-1]
    if not len(behind):
        away = np.array([np.cos(heading), np.sin(heading), 0.0])
        behind = line.points[:1] - away * np.linspace(_BEHIND_M, 1.0, int(_BEHIND_M))[:, None]
    whole = np.vstack([behind, line.points])
    length = geometry.arc_length_m(whole[:, :2])
    zero = float(length[len(behind)])
    count = int(length[-1] / SPACING_M)
    s: Array = SPACING_M * np.arange(count + 1, dtype=np.float64)
    xyz = _smoothed(geometry.resample_polyline(whole, s))
    step = np.gradient(xyz[:, :2], axis=0)
    turn = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
    curvature = np.gradient(turn, SPACING_M)
    return PathFrame(s - zero, xyz, turn, curvature)


def _smoothed(points: Array) -> Array:
    """Gaussian smoothing of evenly spaced points that keeps both ends where they are."""
    from scipy.ndimage import gaussian_filter1d

    sigma = _SIGMA_M / SPACING_M
    pad = min(int(4 * sigma), len(points) - 1)
    head, tail = 2 * points[0] - points[pad:0:-1], 2 * points[-1] - points[-2 : -2 - pad : -1]
    wide = gaussian_filter1d(np.vstack([head, points, tail]), sigma, axis=0)
    return np.asarray(wide[pad : pad + len(points)])


@once_per_object
def _reversed(vector_map: VectorMap) -> VectorMap:
    """Lanes the other way round, to go back along them."""
    return VectorMap(
        tuple(
            replace(lane, centerline=lane.centerline[::-1], successors=lane.predecessors)
            for lane in vector_map.lanes
        )
    )


def ground_height_m(ground: HeightRaster | None, points: Array) -> Array:
    """Heights ``(K,)`` under points ``(K, 3)``: of the raster, else the points' own z."""
    z = np.array(points[:, 2])
    if ground is None:
        return z
    affine = ground.local_xy_to_cell
    cell = np.rint(points[:, :2] @ affine[:, :2].T + affine[:, 2]).astype(np.int64)
    rows, columns = ground.heights_m.shape
    inside = (cell >= 0).all(axis=1) & (cell[:, 0] < columns) & (cell[:, 1] < rows)
    found = ground.heights_m[cell[inside, 1], cell[inside, 0]]
    z[inside] = np.where(np.isfinite(found), found, z[inside])
    return z
