"""Scripted manoeuvres: cut in, brake hard, swerve."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from omniloop.core import geometry
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Times, Trajectory
from omniloop.core.scene import ActorClass, Scene, Track
from omniloop.core.time import US_PER_S, seconds_to_us
from omniloop.scenes.edits.actors import leaders
from omniloop.scenes.edits.frame import Drive, drive_of, ego_drive
from omniloop.scenes.edits.lanes_beside import LaneBeside, lane_beside
from omniloop.scenes.edits.places import front_m, gap_m, lead_time_s, paced
from omniloop.scenes.edits.profiles import braked, driven, quintic, speed_limits
from omniloop.scenes.edits.schema import CutIn, HardBrake, Swerve
from omniloop.scenes.edits.tracks import (
    Motion,
    add_or_swap,
    check_motion,
    check_time,
    find_track,
    grid_us,
    make_actor,
    moving,
    new_id,
    seconds,
    trimmed,
)

LEAD = "lead"
"""Who drives ahead of ego, whatever its id."""

_LEAD_REACH_M = 80.0
_LEAD_ASIDE_M = 1.5
_MOVES_MPS = 1.0
_LOOK_US = 250_000
_VEHICLES = (ActorClass.CAR, ActorClass.TRUCK, ActorClass.CYCLIST)


def cut_in(scene: Scene, edit: CutIn) -> tuple[Scene, str]:
    """A car moves in front of ego from a neighbouring lane; see `CutIn`.

    Until it is in front it drives ego's recorded speeds, ahead of ego in time: faster by
    `approach` before it moves over, as fast as ego at the end. Then it keeps that pace, or
    goes to `speed_mps`.

    Raises:
        SceneError: no lane to come from, or the manoeuvre cannot be driven or is off the map.
    """
    end_s = edit.at_s + edit.duration_s
    check_time(scene, edit.at_s, "at_s")
    check_time(scene, end_s, "at_s + duration_s")
    drive = ego_drive(scene)
    if drive.speed_at(end_s) < _MOVES_MPS:
        raise SceneError(
            f"recorded ego moves only {drive.speed_at(end_s):.1f} m/s at {end_s:.1f} s: nobody can"
            " cut in ahead of it", remedy="choose an at_s at which it drives",
        )  # fmt: skip
    actor = make_actor(new_id(scene, edit.id, "cut_in"), edit.actor_class)
    gap = gap_m(drive, end_s, edit.gap_s)
    s_end = float(drive.s_at(end_s)) + front_m(scene) + gap + float(actor.size_m[0]) / 2
    origin, lane = _origin(scene, edit, s_end)

    times = grid_us(scene)
    t = seconds(scene, times)
    # It plays ego's recorded speeds at a rate: it stops where ego stops, and bends fit.
    rate = edit.approach + (1.0 - edit.approach) * quintic((t - edit.at_s) / edit.duration_s)
    played = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(t))])
    played += end_s + lead_time_s(drive, gap, end_s) - float(np.interp(end_s, t, played))
    s = drive.s_at(played)
    s = s + s_end - float(np.interp(end_s, t, s))
    if edit.speed_mps is not None:
        s = _goes_on(scene, edit.speed_mps, actor.size_m, (times, s), end_s)
    d = lane.d_m * (1.0 - quintic((t - edit.at_s) / edit.duration_s))
    motion = Motion(times, s, d)
    window = (max(edit.at_s - 1.0, 0.0), end_s)
    check_motion(scene, drive.frame, motion, window, actor.id)
    track = trimmed(scene, moving(scene, actor, drive.frame, motion), window, edit.allow_off_map)
    made, notes = add_or_swap(scene, track, make_room=edit.make_room)
    then = "at ego's pace" if edit.speed_mps is None else f"at {edit.speed_mps:g} m/s"
    return made, (
        f"{actor.label} '{actor.id}' from the {origin} lane ({lane.d_m:+.1f} m), moves over from"
        f" {edit.at_s:g} to {end_s:g} s, gap {edit.gap_s:g} s ({gap:.1f} m), then {then}"
        + (f" ({notes})" if notes else "")
    )


def _origin(scene: Scene, edit: CutIn, s_m: float) -> tuple[str, LaneBeside]:
    drive = ego_drive(scene)
    s_start = s_m - float(drive.s_at(edit.at_s + edit.duration_s) - drive.s_at(edit.at_s))
    names: tuple[Literal["left", "right", "opposite"], ...] = ("left", "right", "opposite")
    for name in names if edit.from_lane == "auto" else (edit.from_lane,):
        found = lane_beside(scene, drive.frame, s_start, name)
        if found is not None:
            return name, found
    x, y = drive.frame.at(np.array([s_start]))[0, :2]
    have = [n for n in names if lane_beside(scene, drive.frame, s_start, n) is not None]
    raise SceneError(
        f"there is no {edit.from_lane if edit.from_lane != 'auto' else 'neighbouring'} lane to cut"
        f" in from at {edit.at_s:g} s (x {x:.1f}, y {y:.1f})",
        remedy=f"choose another at_s, or from: {have[0]}" if have else "choose another at_s or scene",
    )  # fmt: skip


def _goes_on(
    scene: Scene, speed_mps: float, size_m: Array, motion: tuple[Times, Array], from_s: float
) -> Array:
    """Replace what follows a time by driving on at a speed, with distance to those ahead."""
    times, s = motion
    t = seconds(scene, times)
    frame = ego_drive(scene).frame
    k = int(np.searchsorted(t, from_s, side="right")) - 1
    if k >= len(t) - 2:
        return s
    speed = float((s[k + 1] - s[k]) / (t[k + 1] - t[k]))
    actor = make_actor("", "car", (float(size_m[0]), float(size_m[1]), float(size_m[2])))
    ahead, ahead_mps = leaders(scene, frame, times[k:], actor, (float(s[k]), 0.0), True)
    limits = speed_limits(frame, speed_mps)
    rest = driven(t[k:], (float(s[k]), speed), limits, ahead, ahead_mps)
    return np.concatenate([s[:k], rest])


# --------------------------------------------------------------------- existing actors


def hard_brake(scene: Scene, edit: HardBrake) -> tuple[Scene, str]:
    """An actor brakes; see `HardBrake`.

    It stays on its recorded path and brakes from its recorded speed. It is there until
    the recording ends, even where recorded sensors lost it.

    Raises:
        SceneError: unknown actor or no lead, it stands already, or a time outside.
    """
    scene, track, added = _subject(scene, edit)
    at_s = _when(scene, edit, track)
    own = _own_drive(scene, track)
    speed = float(own.speed_at(at_s))
    if speed < max(edit.to_mps, _MOVES_MPS):
        raise SceneError(
            f"'{track.actor.id}' drives only {speed:.1f} m/s at {at_s:.1f} s: it cannot brake to"
            f" {edit.to_mps:g} m/s", remedy="choose another actor or time, or a lower to_mps",
        )  # fmt: skip
    times = _from_first(scene, track)
    t = seconds(scene, times)
    s = braked(t, own.s_at(t), at_s, edit.decel_mps2, edit.to_mps)
    changed = _rescripted(scene, track, own, Motion(times, s, np.zeros(len(s))), at_s)
    made, notes = add_or_swap(scene, changed, make_room=edit.make_room)
    return made, (
        f"'{track.actor.id}'{added} brakes at {at_s:.2f} s with {edit.decel_mps2:g} m/s2 from"
        f" {speed:.1f} to {edit.to_mps:g} m/s" + (f" ({notes})" if notes else "")
    )


def swerve(scene: Scene, edit: Swerve) -> tuple[Scene, str]:
    """An actor moves aside and comes back; see `Swerve`.

    Raises:
        SceneError: unknown actor or no lead, too slow to swerve, or no room on the map.
    """
    scene, track, added = _subject(scene, edit)
    at_s = _when(scene, edit, track)
    own = _own_drive(scene, track)
    times = _from_first(scene, track) if added else track.times_us[track.valid]
    t = seconds(scene, times)
    back_s = at_s + edit.duration_s + edit.hold_s
    share = quintic((t - at_s) / edit.duration_s)
    if edit.comes_back:
        share = share - quintic((t - back_s) / edit.duration_s)
    end_s = back_s + edit.duration_s if edit.comes_back else at_s + edit.duration_s
    sides: tuple[Literal["left", "right"], ...] = ("left", "right")
    for side in sides if edit.side == "auto" else (edit.side,):
        d = (edit.lateral_m if side == "left" else -edit.lateral_m) * share
        motion = Motion(times, own.s_at(t), d)
        check_motion(scene, own.frame, motion, (at_s, end_s), track.actor.id)
        changed = _rescripted(scene, track, own, motion, at_s)
        try:
            changed = trimmed(scene, changed, (at_s, end_s), edit.allow_off_map)
            made, notes = add_or_swap(scene, changed, make_room=edit.make_room)
            break
        except SceneError:
            if edit.side != "auto" or side == sides[-1]:
                raise
    return made, (
        f"'{track.actor.id}'{added} swerves {edit.lateral_m:g} m to the {side} at {at_s:.2f} s in"
        f" {edit.duration_s:g} s" + (f", back at {back_s:.2f} s" if edit.comes_back else "")
        + (f" ({notes})" if notes else "")
    )  # fmt: skip


def _own_drive(scene: Scene, track: Track) -> Drive:
    valid = track.valid
    return drive_of(scene, Trajectory(track.times_us[valid], track.local_to_aabb[valid]))


def _from_first(scene: Scene, track: Track) -> Times:
    """The grid from when an actor is first seen, and that time itself."""
    first = track.times_us[int(np.argmax(track.valid))]
    grid = grid_us(scene)
    return np.concatenate([[first], grid[grid > first]]).astype(np.int64)


def _rescripted(scene: Scene, track: Track, own: Drive, motion: Motion, from_s: float) -> Track:
    """An actor's track with its recorded poses until a time and a planned motion from then on."""
    actor = replace(track.actor, is_scripted=True, is_static=False)
    moved = moving(scene, actor, own.frame, motion, own_height=True)
    t = seconds(scene, moved.times_us)
    early = t <= from_s
    recorded, there = track.at(moved.times_us[early])
    poses, valid = np.array(moved.local_to_aabb), np.array(moved.valid)
    poses[np.flatnonzero(early)[there]] = recorded[there]
    valid[early] = there
    # The smoothed path is a few centimetres beside the recorded one: blend within a second.
    if there.any():
        last = int(np.flatnonzero(early)[there][-1])
        away = recorded[there][-1, :3] - moved.local_to_aabb[last, :3]
        late = ~early
        poses[late, :3] += (1 - quintic(t[late] - from_s))[:, None] * away
    return Track(actor, moved.times_us, poses, valid)


def _when(scene: Scene, edit: HardBrake | Swerve, track: Track) -> float:
    if edit.at_s is not None:
        at_s = edit.at_s
        check_time(scene, at_s, "at_s")
    else:
        times = grid_us(scene)
        poses, valid = track.at(times)
        gap = np.linalg.norm(poses[:, :2] - scene.ego.sample(times)[:, :2], axis=1)
        near = valid & (gap <= (edit.when_ego_within_m or 0.0))
        if not near.any():
            nearest_m = gap[valid].min() if valid.any() else float("inf")
            raise SceneError(
                f"recorded ego comes no nearer than {nearest_m:.1f} m to '{track.actor.id}'",
                remedy="raise when_ego_within_m, or give at_s",
            )
        at_s = float(seconds(scene, times)[int(np.argmax(near))])
    _, there = track.at(np.array([scene.start_us + seconds_to_us(at_s)]))
    if not there[0]:
        seen = seconds(scene, track.times_us[track.valid])
        raise SceneError(
            f"'{track.actor.id}' is not there at {at_s:g} s",
            remedy=f"it is seen from {seen[0]:.1f} to {seen[-1]:.1f} s" if len(seen) else "choose another",
        )  # fmt: skip
    return at_s


def _subject(scene: Scene, edit: HardBrake | Swerve) -> tuple[Scene, Track, str]:
    """The actor that an edit is about; a lead is looked for, or inserted."""
    if edit.actor != LEAD:
        return scene, find_track(scene, edit.actor), ""
    at_s = 0.0 if edit.at_s is None else edit.at_s
    check_time(scene, at_s, "at_s")
    found = lead_of(scene, at_s)
    if found is not None:
        return scene, found, " (lead)"
    if edit.insert_gap_s is None:
        raise SceneError(
            f"nobody drives ahead of ego at {at_s:g} s",
            remedy="give insert_gap_s to insert one who does, an actor's id, or another at_s",
        )
    drive = ego_drive(scene)
    actor = make_actor(new_id(scene, None, "lead"), "car")
    times = grid_us(scene)
    t = seconds(scene, times)
    body = front_m(scene) + float(actor.size_m[0]) / 2
    s = paced(drive, t, gap_m(drive, at_s, edit.insert_gap_s), at_s) + body
    track = moving(scene, actor, drive.frame, Motion(times, s, np.zeros(len(s))))
    made, _ = add_or_swap(scene, track, make_room=edit.make_room)
    gone = [a.id for a in scene.actors if all(b.id != a.id for b in made.actors)]
    note = f" (inserted {edit.insert_gap_s:g} s ahead of ego" + (f"; removed in its way: {', '.join(gone)})" if gone else ")")  # fmt: skip
    return made, track, note


def lead_of(scene: Scene, at_s: float) -> Track | None:
    """The vehicle that drives next ahead of recorded ego in its path, within 80 m."""
    drive = ego_drive(scene)
    now = scene.start_us + max(seconds_to_us(at_s), _LOOK_US)
    here = float(drive.s_at(at_s))
    best: tuple[float, Track] | None = None
    for track in scene.tracks:
        if track.actor.actor_class not in _VEHICLES or track.actor.is_static:
            continue
        poses, valid = track.at(np.array([now - _LOOK_US, now]))
        if not valid.all():
            continue
        s, d = drive.frame.project(poses[:, :2])
        turn = geometry.wrap_rad(geometry.yaw_rad(poses[1]) - drive.frame.heading_at(s[1:])[0])
        if (
            front_m(scene) < s[1] - here < _LEAD_REACH_M and abs(d[1]) < _LEAD_ASIDE_M
            and abs(float(turn)) < np.pi / 4 and (s[1] - s[0]) * US_PER_S / _LOOK_US > 2 * _MOVES_MPS
            and (best is None or s[1] < best[0])
        ):  # fmt: skip
            best = (float(s[1]), track)
    return None if best is None else best[1]
