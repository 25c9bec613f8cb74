"""Edits of actors as they are: insert, remove, replace, retime, offset."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omniloop.core import geometry
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Times, Trajectory
from omniloop.core.scene import Actor, Scene, Track
from omniloop.core.time import US_PER_S, seconds_to_us
from omniloop.scenes.edits.frame import PathFrame, drive_of, ego_drive
from omniloop.scenes.edits.places import front_m, paced, spot_of
from omniloop.scenes.edits.profiles import driven, speed_limits
from omniloop.scenes.edits.schema import Insert, Offset, Remove, Replace, Retime
from omniloop.scenes.edits.tracks import (
    CLASSES,
    MAX_DECEL_MPS2,
    Motion,
    add_or_swap,
    find_track,
    grid_us,
    make_actor,
    moving,
    new_id,
    seconds,
    standing,
    trimmed,
)

_CORRIDOR_M = 0.3
_GENTLE_MPS2 = 2.0
"""Who appears behind another is no faster than it can brake to the other's speed at this."""


def insert(scene: Scene, edit: Insert) -> tuple[Scene, str]:
    """Add an actor; see `Insert`.

    Raises:
        SceneError: the id is taken, or the place is off the map, inside another, or unknown.
    """
    name = new_id(scene, edit.id, edit.actor_class)
    stands = edit.motion == "stand"
    alive = edit.actor_class in ("pedestrian", "cyclist")
    actor = make_actor(
        name, edit.actor_class, edit.size_m, edit.label, is_static=stands and not alive
    )
    if edit.place.x_m is not None:
        track, where, key_s = _absolute(scene, edit, actor)
    else:
        track, where, key_s = _relative(scene, edit, actor)
    track = trimmed(scene, track, key_s, edit.allow_off_map)
    made, notes = add_or_swap(scene, track, make_room=edit.make_room)
    how = {"stand": "stands", "pace": "keeps ego's recorded pace"}.get(
        edit.motion, f"drives {edit.speed_mps or 0:g} m/s"
    )
    return made, _line(f"{actor.label} '{name}' {where}, {how}", notes)


def _line(text: str, notes: str) -> str:
    return f"{text} ({notes})" if notes else text


def _absolute(
    scene: Scene, edit: Insert, actor: Actor
) -> tuple[Track, str, tuple[float, float]]:  # fmt: skip
    place = edit.place
    assert place.x_m is not None
    assert place.y_m is not None
    assert place.yaw_deg is not None
    yaw = float(np.deg2rad(place.yaw_deg))
    height = ego_drive(scene).frame
    s, d = height.project(np.array([[place.x_m, place.y_m]]))
    ground = np.array([place.x_m, place.y_m, height.at(s, d)[0, 2]])
    where = f"at x {place.x_m:g}, y {place.y_m:g}, heading {place.yaw_deg:g} degrees"
    if edit.motion == "stand":
        return standing(scene, actor, ground, yaw), where, (0.0, 0.0)
    assert edit.speed_mps is not None
    pose = geometry.poses_from_xyz_yaw(ground, yaw)
    frame = drive_of(scene, Trajectory(np.array([scene.start_us]), pose[None])).frame
    return _driving(scene, actor, frame, (0.0, 0.0), edit.speed_mps, forward=True), where, (0, 0)


def _relative(scene: Scene, edit: Insert, actor: Actor) -> tuple[Track, str, tuple[float, float]]:
    place, drive = edit.place, ego_drive(scene)
    spot = spot_of(scene, place, actor.size_m)
    ahead = spot.s_m - float(drive.s_at(place.at_s))
    lane = f" in lane {place.lane}" if place.lane else ""
    where = f"{ahead:.1f} m ahead of ego's rear axle at {place.at_s:g} s{lane}, {spot.d_m:+.1f} m left of its path"
    key = (place.at_s, place.at_s)
    if edit.motion == "stand":
        at = np.array([spot.s_m])
        yaw = float(drive.frame.heading_at(at)[0]) + (np.pi if spot.against else 0.0)
        return standing(scene, actor, drive.frame.at(at, spot.d_m)[0], yaw), where, (0.0, 0.0)
    if edit.motion == "pace":
        times = grid_us(scene)
        t = seconds(scene, times)
        body = front_m(scene) + float(actor.size_m[0]) / 2
        s = paced(drive, t, ahead - body, place.at_s) + body
        motion = Motion(times, s, np.full(len(s), spot.d_m))
        return moving(scene, actor, drive.frame, motion), where, key
    assert edit.speed_mps is not None
    times = grid_us(scene)
    if place.at_s > 0:  # it appears where it is placed
        times = np.concatenate(
            [[scene.start_us + seconds_to_us(place.at_s)],
             times[times > scene.start_us + seconds_to_us(place.at_s)]]
        )  # fmt: skip
    forward = not spot.against
    start = (spot.s_m, spot.d_m)
    return _driving(scene, actor, drive.frame, start, edit.speed_mps, forward, times), where, key


def _driving(
    scene: Scene, actor: Actor, frame: PathFrame, start: tuple[float, float], speed_mps: float,
    forward: bool, times_us: Times | None = None,
) -> Track:  # fmt: skip
    """One who drives along a frame at an offset, and keeps its distance from recorded others."""
    times = grid_us(scene) if times_us is None else times_us
    t = seconds(scene, times)
    limits = speed_limits(frame, speed_mps)
    ahead, ahead_mps = leaders(scene, frame, times, actor, start, forward)
    room = max(float(ahead[0]) - (1.0 if forward else -1.0) * start[0], 0.0)
    follow = float(np.sqrt(ahead_mps[0] ** 2 + 2 * _GENTLE_MPS2 * room))
    v0 = min(speed_mps, follow, float(np.interp(start[0], *limits)))
    s = driven(t, (start[0], v0), limits, ahead, ahead_mps, forward)
    motion = Motion(times, s, np.full(len(s), start[1]))
    return moving(scene, actor, frame, motion, against=not forward)


def leaders(
    scene: Scene, frame: PathFrame, times_us: Times, actor: Actor, start: tuple[float, float],
    forward: bool,
) -> tuple[Array, Array]:  # fmt: skip
    """Where the next one's rear is at each time, less half of the actor's own length, and its speed.

    Who counts is ahead of the start when first seen, overlaps the actor's strip, and moves
    no faster than 2 m/s towards it: oncoming cars in its own strip are not followed.
    """
    sign = 1.0 if forward else -1.0
    ahead, speed = np.full(len(times_us), np.inf), np.zeros(len(times_us))
    t = seconds(scene, times_us)
    for track in scene.tracks:
        poses, valid = track.at(times_us)
        if track.actor.id == actor.id or not valid.any():
            continue
        s, d = frame.project(poses[:, :2])
        reach = (track.actor.size_m[1] + actor.size_m[1]) / 2 + _CORRIDOR_M
        v = sign * np.gradient(s, t) if len(t) > 1 else np.zeros(1)
        u = sign * (s - start[0])
        fits = valid & (np.abs(d - start[1]) < reach) & (v > -2.0)
        if not fits.any() or u[int(np.argmax(fits))] <= 0:
            continue
        rear = sign * s - (track.actor.size_m[0] + actor.size_m[0]) / 2
        nearer = fits & (rear < ahead)
        ahead[nearer], speed[nearer] = rear[nearer], np.maximum(v[nearer], 0.0)
    return ahead, speed


def remove(scene: Scene, edit: Remove) -> tuple[Scene, str]:
    """Take actors out; see `Remove`.

    Raises:
        SceneError: an id is unknown.
    """
    wanted = None if edit.actors is None else {find_track(scene, a).actor.id for a in edit.actors}
    kinds = None
    if edit.actor_class is not None:
        kinds = {CLASSES[name][0] for name in edit.actor_class}
    gone = []
    for track in scene.tracks:
        actor = track.actor
        if (
            (wanted is None or actor.id in wanted)
            and (kinds is None or actor.actor_class in kinds)
            and (edit.moving is None or actor.is_static != edit.moving)
            and (edit.within_m is None or _nearest_m(scene, track) <= edit.within_m)
        ):
            gone.append(actor.id)
    if not gone:
        return scene, "nobody fits"
    kept = tuple(track for track in scene.tracks if track.actor.id not in gone)
    return replace(scene, tracks=kept), ", ".join(gone)


def _nearest_m(scene: Scene, track: Track) -> float:
    """Smallest distance of the centres of ego's and an actor's box in the plane."""
    inside = (track.times_us >= scene.start_us) & (track.times_us <= scene.end_us) & track.valid
    if not inside.any():
        return float("inf")
    ego = geometry.compose(scene.ego.sample(track.times_us[inside]), scene.vehicle.rig_to_aabb)
    return float(
        np.linalg.norm(ego[:, :2] - track.local_to_aabb[inside, :2], axis=1).min()
    )  # fmt: skip


def replace_actor(scene: Scene, edit: Replace) -> tuple[Scene, str]:
    """Give an actor another class and size; see `Replace`.

    Raises:
        SceneError: the id is unknown, or the new box is inside ego or another where it appears.
    """
    old = find_track(scene, edit.actor)
    new = make_actor(edit.actor, edit.actor_class, edit.size_m, edit.label)
    actor = replace(new, is_static=old.actor.is_static, is_scripted=old.actor.is_scripted)
    up = np.array([0.0, 0.0, (actor.size_m[2] - old.actor.size_m[2]) / 2])
    track = replace(old, actor=actor, local_to_aabb=geometry.shift_body(old.local_to_aabb, up))
    made, notes = add_or_swap(scene, track, make_room=False)
    size = " x ".join(f"{x:g}" for x in actor.size_m)
    return made, _line(f"'{edit.actor}' ({old.actor.label}) is a {actor.label} of {size} m", notes)


def retime(scene: Scene, edit: Retime) -> tuple[Scene, str]:
    """Play an actor's motion at other times; see `Retime`.

    Raises:
        SceneError: the id is unknown, nothing of it is left, it appears inside another, or
            a speed-up asks for more acceleration than a vehicle has.
    """
    old = find_track(scene, edit.actor)
    times = grid_us(scene)
    first = int(old.times_us[int(np.argmax(old.valid))])
    shift = seconds_to_us(edit.shift_s)
    source = first + np.rint((times - shift - first) * edit.speed_factor).astype(np.int64)
    poses, valid = old.at(source)
    poses[~valid] = geometry.IDENTITY
    track = Track(replace(old.actor, is_scripted=True), times, poses, valid)
    if edit.speed_factor > 1 and valid.any():
        _check_sped_up(scene, old, track)
    made, notes = add_or_swap(scene, track, make_room=edit.make_room)
    how = [f"{edit.shift_s:+g} s"] if edit.shift_s else []
    how += [f"speed x {edit.speed_factor:g}"] if edit.speed_factor != 1 else []
    return made, _line(f"'{edit.actor}' {', '.join(how)}", notes)


def _check_sped_up(scene: Scene, old: Track, new: Track) -> None:
    """Refuse accelerations that neither a vehicle nor the recording has."""
    most = []
    for track in (old, new):
        seen = track.valid
        drive = drive_of(scene, Trajectory(track.times_us[seen], track.local_to_aabb[seen]))
        accel = np.gradient(drive.speed_mps, drive.times_s) if len(drive.times_s) > 1 else [0.0]
        most.append(float(np.abs(accel).max()))
    if most[1] > max(MAX_DECEL_MPS2, most[0]):
        raise SceneError(
            f"'{new.actor.id}' would speed up or brake with {most[1]:.1f} m/s2; vehicles can do"
            f" {MAX_DECEL_MPS2:g}", remedy="give a smaller speed_factor",
        )  # fmt: skip


def offset(scene: Scene, edit: Offset) -> tuple[Scene, str]:
    """Move an actor in its own frame; see `Offset`.

    Raises:
        SceneError: the id is unknown, or it would be off the map or inside another.
    """
    old = find_track(scene, edit.actor)
    by = np.array([edit.ahead_m, edit.left_m, 0.0])
    track = replace(
        old, actor=replace(old.actor, is_scripted=True),
        local_to_aabb=geometry.shift_body(old.local_to_aabb, by),
    )  # fmt: skip
    was = old.local_to_aabb[old.valid]
    whole = ((old.times_us[old.valid][[0, -1]] - scene.start_us) / US_PER_S).tolist()
    if len(was):
        track = trimmed(scene, track, (whole[0], whole[1]), edit.allow_off_map)
    made, notes = add_or_swap(scene, track, make_room=edit.make_room)
    return made, _line(f"'{edit.actor}' {edit.ahead_m:+g} m ahead, {edit.left_m:+g} m left", notes)
