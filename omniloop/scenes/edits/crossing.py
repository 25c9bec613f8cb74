"""Scripted hazards that meet recorded ego: a jaywalker, a car on the wrong side."""

from __future__ import annotations

from typing import Literal

import numpy as np

from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.scene import Scene
from omniloop.scenes.edits.frame import ego_drive
from omniloop.scenes.edits.lanes_beside import kerb_m, lane_beside
from omniloop.scenes.edits.places import front_m
from omniloop.scenes.edits.profiles import quintic, towards
from omniloop.scenes.edits.schema import Jaywalk, WrongWay
from omniloop.scenes.edits.tracks import (
    Motion,
    add_or_swap,
    check_motion,
    check_time,
    grid_us,
    make_actor,
    moving,
    new_id,
    seconds,
    trimmed,
)

_MOVES_MPS = 1.0
_RAMP_S = 0.5
_BESIDE_KERB_M = 0.6


def jaywalk(scene: Scene, edit: Jaywalk) -> tuple[Scene, str]:
    """A pedestrian crosses ego's path; see `Jaywalk`.

    It stands beside the kerb, walks straight across, and stops
    beside the other kerb.

    Raises:
        SceneError: recorded ego stands at that time, or a pedestrian would appear inside another.
    """
    check_time(scene, edit.at_s, "at_s")
    drive = ego_drive(scene)
    if drive.speed_at(edit.at_s) < _MOVES_MPS:
        raise SceneError(
            f"recorded ego moves only {drive.speed_at(edit.at_s):.1f} m/s at {edit.at_s:g} s",
            remedy="choose an at_s at which it drives: the pedestrian is timed to meet it",
        )
    s = float(drive.s_at(edit.at_s)) + front_m(scene)
    actor = make_actor(new_id(scene, edit.id, "jaywalker"), edit.actor_class)
    sides: tuple[Literal["left", "right"], ...] = ("right", "left")
    times = grid_us(scene)
    t = seconds(scene, times)
    for side in sides if edit.from_side == "auto" else (edit.from_side,):
        sign = 1.0 if side == "left" else -1.0
        start = edit.start_m or _beside(scene, s, side)
        goal = _beside(scene, s, "right" if side == "left" else "left")
        at_path_s = edit.at_s - edit.gap_s
        set_off_s = at_path_s - start / edit.speed_mps - _RAMP_S / 2
        d = sign * (start - np.minimum(_walked(t - set_off_s, edit.speed_mps), start + goal))
        yaw = float(drive.frame.heading_at(np.array([s]))[0]) - sign * np.pi / 2
        track = moving(
            scene, actor, drive.frame, Motion(times, np.full(len(t), s), d), heading_rad=yaw
        )
        try:
            if set_off_s < 0:
                raise SceneError(
                    f"the {actor.label} would have to set off {-set_off_s:.1f} s before the recording"
                    f" starts: it is {start:.1f} m from the {side} kerb to ego's path",
                    remedy="choose a later at_s, a higher speed_mps, a shorter start_m, or the other side",
                )
            track = trimmed(scene, track, (0.0, float(t[-1])), edit.allow_off_map)
            made, notes = add_or_swap(scene, track, make_room=edit.make_room)
            break
        except SceneError:
            if edit.from_side != "auto" or side == sides[-1]:
                raise
    return made, (
        f"{actor.label} '{actor.id}' from the {side}, {start:.1f} m beside ego's path, sets off at"
        f" {set_off_s:.1f} s with {edit.speed_mps:g} m/s, on ego's path at {at_path_s:.1f} s:"
        f" {edit.gap_s:g} s before recorded ego" + (f" ({notes})" if notes else "")
    )


def _walked(since_s: Array, speed_mps: float) -> Array:
    """Metres walked since setting off; the speed rises as ``3 u^2 - 2 u^3`` in half a second."""
    u = np.clip(since_s / _RAMP_S, 0.0, 1.0)
    steady = np.maximum(since_s - _RAMP_S, 0.0)
    return np.asarray(speed_mps * (_RAMP_S * (u**3 - u**4 / 2) + steady))


def _beside(scene: Scene, s_m: float, side: Literal["left", "right"]) -> float:
    return abs(kerb_m(scene, ego_drive(scene).frame, s_m, side)) + _BESIDE_KERB_M


def wrong_way(scene: Scene, edit: WrongWay) -> tuple[Scene, str]:
    """A car comes towards ego in ego's lane; see `WrongWay`.

    Raises:
        SceneError: no opposite lane to come from where one is asked for, or the manoeuvre
            cannot be driven or is off the map.
    """
    check_time(scene, edit.at_s, "at_s")
    drive = ego_drive(scene)
    actor = make_actor(new_id(scene, edit.id, "wrong_way"), edit.actor_class)
    meet = float(drive.s_at(edit.at_s)) + front_m(scene) + float(actor.size_m[0]) / 2
    times = grid_us(scene)
    t = seconds(scene, times)
    s = towards(drive.frame, t, (meet, edit.at_s), edit.speed_mps)
    over_s = edit.at_s - edit.early_s - edit.duration_s
    begins = float(np.interp(over_s, t, s)) if over_s > 0 else meet
    opposite = None
    if edit.from_lane != "same":
        opposite = lane_beside(scene, drive.frame, begins, "opposite")
        opposite = opposite or lane_beside(scene, drive.frame, meet, "opposite")
    if opposite is None and edit.from_lane == "opposite":
        raise SceneError(
            f"there is no opposite lane where it begins to move over ({over_s:.1f} s)",
            remedy="choose another at_s, or from: same for a car that is in ego's lane all along",
        )
    d = np.zeros(len(t))
    if opposite is not None:
        share = quintic((t - over_s) / edit.duration_s)
        if edit.return_s is not None:
            back_s = edit.at_s - edit.return_s
            share = share - quintic((t - back_s) / edit.duration_s)
        d = opposite.d_m * (1.0 - share)
    motion = Motion(times, s, d)
    window = (max(min(over_s, edit.at_s - 2.0), 0.0), edit.at_s)
    check_motion(scene, drive.frame, motion, window, actor.id)
    track = moving(scene, actor, drive.frame, motion, against=True)
    track = trimmed(scene, track, window, edit.allow_off_map)
    made, notes = add_or_swap(scene, track, make_room=edit.make_room)
    origin = "in ego's lane all along" if opposite is None else (
        f"from the opposite lane ({opposite.d_m:+.1f} m), in ego's lane from"
        f" {over_s + edit.duration_s:.1f} s"
        + ("" if edit.return_s is None else f", turns back at {edit.at_s - edit.return_s:.1f} s")
    )  # fmt: skip
    return made, (
        f"{actor.label} '{actor.id}' towards ego at {edit.speed_mps:g} m/s, {origin}, would meet"
        f" recorded ego at {edit.at_s:g} s" + (f" ({notes})" if notes else "")
    )
