"""Edits of the recorded ego: another start speed or start place, on its own path."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omniloop.core import geometry
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Times, Trajectory
from omniloop.core.scene import Scene
from omniloop.core.time import US_PER_S
from omniloop.scenes.edits.frame import Drive, ego_drive
from omniloop.scenes.edits.profiles import quintic
from omniloop.scenes.edits.schema import EgoStart
from omniloop.scenes.edits.tracks import MAX_ACCEL_MPS2, OFF_MAP_M
from omniloop.scenes.surface import drivable_surface
from omniloop.scenes.validate_motion import MIN_DEPTH_M, overlap_m, sample_times_us

_FINE_S = 0.02
_STEEPEST = 0.35
"""Sideways per metre ahead: 20 degrees of crab would be no driving."""


def ego_start(scene: Scene, edit: EgoStart) -> tuple[Scene, str]:
    """Let recorded ego start at another speed or place; see `EgoStart`.

    Speed: recorded speeds plus the change, which fades out over `over_s` (quintic). `ahead_m`
    starts further along the path for good. `left_m` is beside the path and fades out over
    `over_m` of driving. Where ego comes beyond its recorded path, it goes on along the lanes.

    Raises:
        SceneError: the speed would be negative or cannot be reached, the sideways move is too
            steep, or ego would start off the map or inside an actor.
    """
    drive = ego_drive(scene)
    recorded = float(drive.speed_at(0.0))
    start = recorded
    if edit.speed_mps is not None:
        start = edit.speed_mps
    elif edit.speed_change_mps is not None:
        start = recorded + edit.speed_change_mps
    if start < 0:
        raise SceneError(
            f"ego would start at {start:.1f} m/s: it starts at {recorded:.1f} in the recording",
            remedy=f"give speed_change_mps of at least {-recorded:.1f}, or speed_mps",
        )
    peak = 1.875 * abs(start - recorded) / edit.over_s
    if peak > MAX_ACCEL_MPS2:
        raise SceneError(
            f"from {start:.1f} to the recorded {recorded:.1f} m/s in {edit.over_s:g} s needs"
            f" {peak:.1f} m/s2 and vehicles have {MAX_ACCEL_MPS2:g}",
            remedy="give a longer over_s or a smaller change",
        )
    if 1.875 * abs(edit.left_m) / edit.over_m > _STEEPEST:
        raise SceneError(
            f"{edit.left_m:g} m aside within {edit.over_m:g} m is too steep",
            remedy=f"give over_m of at least {1.875 * abs(edit.left_m) / _STEEPEST:.0f}",
        )
    times = scene.ego.times_us
    s = _arc_lengths(drive, times, scene, start - recorded, edit)
    share = 1.0 - quintic((s - edit.ahead_m) / edit.over_m)
    made = replace(scene, ego=Trajectory(times, _poses(scene, drive, s, edit.left_m * share)))
    meets = _check(scene, made, edit)
    parts = []
    if start != recorded:
        parts.append(
            f"starts at {start:.1f} m/s instead of {recorded:.1f}, as recorded after {edit.over_s:g} s"
        )
    if edit.ahead_m:
        parts.append(f"starts {edit.ahead_m:+g} m along its path")
    if edit.left_m:
        parts.append(f"starts {edit.left_m:+g} m left of its path, on it after {edit.over_m:g} m")
    moved = np.linalg.norm(made.ego.poses[0, :3] - scene.ego.poses[0, :3])
    if scene.first_frames and moved > 0.1:
        meets.append("first images show the recorded place")
    return made, f"recorded ego {', '.join(parts)}" + (f" ({'; '.join(meets)})" if meets else "")


def _arc_lengths(
    drive: Drive, times_us: Times, scene: Scene, change_mps: float, edit: EgoStart
) -> Array:
    """Where ego is along its path at its recorded times."""
    t = (times_us - scene.start_us) / US_PER_S
    fine = np.arange(0.0, t[-1] + _FINE_S, _FINE_S)
    extra = change_mps * (1.0 - quintic(fine / edit.over_s))
    # A slower start stands still rather than rolling back where the recording is slow too.
    v = np.maximum(drive.speed_at(fine) + extra, 0.0) if change_mps else None
    if v is None:
        return np.asarray(drive.s_at(t) + edit.ahead_m)
    gone = np.concatenate([[0.0], np.cumsum((v[1:] + v[:-1]) / 2 * _FINE_S)])
    return np.asarray(float(drive.s_at(0.0)) + np.interp(t, fine, gone) + edit.ahead_m)


def _poses(scene: Scene, drive: Drive, s: Array, d: Array) -> Array:
    """Recorded poses at arc lengths, moved to their left; of the path outside the recording."""
    first, last = float(drive.s_m[0]), float(drive.s_m[-1])
    rising = np.concatenate([[True], np.diff(drive.s_m) > 1e-6])
    clock = np.interp(s, drive.s_m[rising], drive.times_s[rising])
    clock_us = scene.start_us + np.rint(clock * US_PER_S).astype(np.int64)
    out = np.array(scene.ego.sample_clamped(clock_us))
    beyond = (s < first) | (s > last)
    if beyond.any():
        heading = geometry.wrap_rad(drive.frame.heading_at(s[beyond]))
        out[beyond] = geometry.poses_from_xyz_yaw(drive.frame.at(s[beyond]), heading)
        for edge, mask in ((first, s < first), (last, s > last)):
            at_edge = scene.ego.poses[0 if edge == first else -1, :3]
            out[mask, :3] += at_edge - drive.frame.at(np.array([edge]))[0]
    if not d.any():
        return out
    yaw = geometry.yaw_rad(out)
    out[:, 0] -= d * np.sin(yaw)
    out[:, 1] += d * np.cos(yaw)
    order = np.concatenate([[True], np.diff(s) > 1e-6])
    slope = np.zeros(len(s))
    if order.sum() > 2:
        slope = np.interp(s, s[order], np.gradient(d[order], s[order]))
    turn = geometry.poses_from_xyz_yaw(np.zeros((len(s), 3)), np.arctan(slope))
    return geometry.compose(out, turn)


def _check(before: Scene, after: Scene, edit: EgoStart) -> list[str]:
    """Refuse a start off the map or inside an actor; say whom ego meets later on."""
    times = sample_times_us(after)
    boxes = geometry.compose(after.ego.sample(times), after.vehicle.rig_to_aabb)
    surface = drivable_surface(after.map)
    if surface is not None and not edit.allow_off_map:
        depth, was = (
            float(surface.depth_m(geometry.compose(s.ego.poses[0], s.vehicle.rig_to_aabb)[:2]))
            for s in (after, before)
        )
        if depth > max(OFF_MAP_M, was + 0.1):
            x, y = boxes[0, :2]
            raise SceneError(
                f"ego would start {depth:.1f} m off the map's {surface.kind} at x {x:.1f}, y {y:.1f}",
                remedy="give a smaller left_m or ahead_m, or allow_off_map: true",
            )
    meets = []
    for track in after.tracks:
        at, there = track.at(times)
        hit = there & (overlap_m(boxes, after.vehicle.size_m, at, track.actor.size_m) > MIN_DEPTH_M)
        if hit[0]:
            raise SceneError(
                f"ego would start inside '{track.actor.id}'",
                remedy="give a smaller left_m or ahead_m, or remove that actor first",
            )
        if hit.any():
            at_s = (times[int(np.argmax(hit))] - after.start_us) / US_PER_S
            meets.append(f"meets {track.actor.id} at {at_s:.1f} s")
    return meets
