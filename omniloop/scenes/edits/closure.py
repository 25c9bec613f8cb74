"""A lane closed by cones."""

from __future__ import annotations

from typing import Literal

import numpy as np

from omniloop.core.errors import SceneError
from omniloop.core.scene import Scene
from omniloop.scenes.edits.frame import ego_drive
from omniloop.scenes.edits.lanes_beside import LANE_WIDTH_M, lane_beside
from omniloop.scenes.edits.places import front_m
from omniloop.scenes.edits.schema import CloseLane
from omniloop.scenes.edits.tracks import (
    add_or_swap,
    check_time,
    make_actor,
    new_id,
    standing,
    trimmed,
)

_INSIDE_M = 0.3
"""From the lane's edge to the middle of a cone."""
_TRUCK_M = (7.0, 1.9, 2.8)


def close_lane(scene: Scene, edit: CloseLane) -> tuple[Scene, str]:
    """Cones close a lane; see `CloseLane`.

    The taper leads from the lane's far edge to its open side; cones follow that side to
    `to_m`, where a row across ends the closure.

    Raises:
        SceneError: no such lane, nowhere to pass, or the closure begins behind ego's front.
    """
    check_time(scene, edit.at_s, "at_s")
    if edit.from_m <= 0:
        raise SceneError(
            f"from_m is {edit.from_m:g} m: the closure would begin at ego or behind",
            remedy="give a from_m above 0: metres ahead of ego's front at at_s",
        )
    frame = ego_drive(scene).frame
    base = float(ego_drive(scene).s_at(edit.at_s)) + front_m(scene)
    first = base + edit.from_m
    lane = lane_beside(scene, frame, first, edit.lane)
    if lane is None and edit.lane != "same":
        raise SceneError(
            f"there is no {edit.lane} lane {edit.from_m:g} m ahead of ego",
            remedy="close another lane, or choose another from_m or at_s",
        )
    centre, width = (lane.d_m, lane.width_m) if lane else (0.0, LANE_WIDTH_M)
    side = _open_side(scene, edit, first)
    sign = 1.0 if side == "left" else -1.0
    half = width / 2 - _INSIDE_M
    count = max(int(np.ceil((edit.to_m - edit.from_m) / edit.spacing_m)), 2)
    along = np.linspace(0.0, edit.to_m - edit.from_m, count + 1)
    across = -half + 2 * half * np.minimum(along / edit.taper_m, 1.0)
    places = [(first + a, centre + sign * c) for a, c in zip(along.tolist(), across.tolist(), strict=True)]  # fmt: skip
    end = first + edit.to_m - edit.from_m
    places += [(end, centre + sign * c) for c in (half - 1.2, half - 2.4) if c > -half]
    bodies: list[tuple[float, float, str, tuple[float, float, float] | None, str | None, str]]
    bodies = [(s, d, "cone", None, None, edit.id) for s, d in places]
    if edit.truck_m is not None:
        bodies.append((base + edit.truck_m, centre, "truck", _TRUCK_M, "works_truck", "works_truck"))  # fmt: skip
    made, notes = scene, []
    for s, d, kind, size, label, stem in bodies:
        actor = make_actor(new_id(made, None, stem), kind, size, label, is_static=True)
        at = np.array([s])
        track = standing(made, actor, frame.at(at, d)[0], float(frame.heading_at(at)[0]))
        track = trimmed(made, track, (0.0, 0.0), edit.allow_off_map)
        made, note = add_or_swap(made, track, make_room=edit.make_room)
        notes += [n for n in note.split("; ") if n and n not in notes]
    notes = _merged(notes)
    return made, (
        f"{len(places)} cones close {edit.lane} lane from {edit.from_m:g} to {edit.to_m:g} m ahead of"
        f" ego's place at {edit.at_s:g} s, taper {edit.taper_m:g} m, pass on the {side}"
        + ("" if edit.truck_m is None else f", works truck at {edit.truck_m:g} m")
        + (f" ({'; '.join(notes)})" if notes else "")
    )


def _merged(notes: list[str]) -> list[str]:
    """One note of those taken out, and only the first of each meeting with a cone."""
    removed = [n.removeprefix("removed in its way: ") for n in notes if n.startswith("removed")]
    rest: dict[str, str] = {}
    for note in notes:
        if not note.startswith("removed"):
            rest.setdefault(note.split(" at ")[0], note)
    merged = [f"removed in their way: {', '.join(removed)}"] if removed else []
    return merged + list(rest.values())


def _open_side(scene: Scene, edit: CloseLane, s_m: float) -> Literal["left", "right"]:
    """The side on which one may pass: a lane of the same direction, else an opposite one."""
    if edit.open_side != "auto":
        return edit.open_side
    if edit.lane != "same":
        return "right" if edit.lane == "left" else "left"
    frame = ego_drive(scene).frame
    if lane_beside(scene, frame, s_m, "left") is not None:
        return "left"
    if lane_beside(scene, frame, s_m, "right") is not None:
        return "right"
    opposite = lane_beside(scene, frame, s_m, "opposite")
    if opposite is None:
        raise SceneError(
            f"there is no lane to pass the closure on, {edit.from_m:g} m ahead of ego",
            remedy="choose another place, or say which side is open: open_side: left",
        )
    return "left" if opposite.d_m > 0 else "right"
