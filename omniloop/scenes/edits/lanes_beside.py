"""Lanes and kerbs beside a path, by geometry alone: maps differ in what they link."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from omniloop.core import geometry
from omniloop.core.scene import Lane, Scene
from omniloop.scenes.edits.frame import PathFrame
from omniloop.scenes.surface import NOT_DRIVABLE, drivable_surface

Which = Literal["same", "left", "right", "opposite"]

_PARALLEL_RAD = np.deg2rad(30.0)
_SAME_M = 2.0
_BESIDE_M = 6.0
_OPPOSITE_M = 12.0
_KERB_STEP_M, _KERB_MOST_M = 0.25, 15.0
_NOT_FOR_CARS = NOT_DRIVABLE | {"bike", "bicycle"}
LANE_WIDTH_M = 3.5
"""Of a lane whose sides are unknown."""


@dataclass(frozen=True)
class LaneBeside:
    """A lane at a place of a path.

    Attributes:
        lane: The lane of the map; None if the map has none there.
        d_m: Offset of its centre line to the left of the path.
        width_m: Across.
        against: Whether its traffic comes towards the path's.
    """

    lane: Lane | None
    d_m: float
    width_m: float
    against: bool


def lane_beside(scene: Scene, frame: PathFrame, s_m: float, which: Which) -> LaneBeside | None:
    """The lane at an arc length of a path: the path's own or the next one beside it.

    Of several lanes the nearest counts; "left" and "right" have traffic in the same
    direction, "opposite" is on either side. A map without lanes has "same" only.
    """
    here = frame.at(np.array([s_m]))[0]
    heading = float(frame.heading_at(np.array([s_m]))[0])
    found: list[tuple[float, str, LaneBeside]] = []
    for lane in scene.map.lanes:
        line = lane.centerline[:, :2]
        if len(line) < 2 or not _NOT_FOR_CARS.isdisjoint(lane.kind.lower().split("_")):
            continue
        reach = _OPPOSITE_M
        if (line.max(axis=0) < here[:2] - reach).any() or (line.min(axis=0) > here[:2] + reach).any():  # fmt: skip
            continue
        s, distance = (v[0] for v in geometry.project_on_polyline(here[None, :2], line))
        length = geometry.arc_length_m(line)
        at = int(np.clip(np.searchsorted(length, s, side="right") - 1, 0, len(line) - 2))
        step = line[at + 1] - line[at]
        turn = abs(float(geometry.wrap_rad(np.arctan2(step[1], step[0]) - heading)))
        against = turn > np.pi - _PARALLEL_RAD
        if distance > reach or not (turn < _PARALLEL_RAD or against):
            continue
        foot = geometry.resample_polyline(line, [s])[0] - here[:2]
        d = float(-foot[0] * np.sin(heading) + foot[1] * np.cos(heading))
        if float(distance) > abs(d) + 1.0:  # it begins or ends before this place
            continue
        if _fits(which, d, against):
            beside = LaneBeside(lane, d, _width_m(lane, float(s / max(length[-1], 1e-9))), against)
            found.append((abs(d), lane.id, beside))
    if found:
        return min(found, key=lambda f: f[:2])[2]
    if which == "same" and not scene.map.lanes:
        return LaneBeside(None, 0.0, LANE_WIDTH_M, False)
    return None


def _fits(which: Which, d_m: float, against: bool) -> bool:
    if which == "opposite":
        return against and abs(d_m) > _SAME_M
    if against:
        return False
    if which == "same":
        return abs(d_m) <= _SAME_M
    side = 1.0 if which == "left" else -1.0
    return _SAME_M < side * d_m <= _BESIDE_M


def _width_m(lane: Lane, share: float) -> float:
    if lane.left is None or lane.right is None or min(len(lane.left), len(lane.right)) < 2:
        return LANE_WIDTH_M
    left, right = (
        geometry.resample_polyline(side, [share * geometry.arc_length_m(side[:, :2])[-1]])[0, :2]
        for side in (lane.left, lane.right)
    )
    width = float(np.linalg.norm(left - right))
    return width if 2.0 <= width <= 6.0 else LANE_WIDTH_M


def kerb_m(scene: Scene, frame: PathFrame, s_m: float, side: Literal["left", "right"]) -> float:
    """Offset to the left of the path at which the drivable surface ends on one side.

    Without a surface it is 5.25 m, one and a half lanes; beyond 15 m it is not looked for.
    """
    sign = 1.0 if side == "left" else -1.0
    surface = drivable_surface(scene.map)
    if surface is None:
        return sign * 1.5 * LANE_WIDTH_M
    d = sign * np.arange(0.0, _KERB_MOST_M + _KERB_STEP_M, _KERB_STEP_M)
    outside = surface.depth_m(frame.at(np.full(len(d), s_m), d)[:, :2]) > 0
    return float(d[int(np.argmax(outside))]) if outside.any() else float(d[-1])
