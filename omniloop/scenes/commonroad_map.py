"""Lanelets, signs, lights and intersections of a CommonRoad scenario as a vector map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from omniloop.core import geometry
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.scene import (
    Area,
    Lane,
    LaneLine,
    MarkColor,
    MarkStyle,
    Polyline,
    TrafficLight,
    TrafficSign,
    VectorMap,
)
from omniloop.scenes.build import between_boundaries, centerline, to_local
from omniloop.scenes.commonroad_xml import child, number, point, points

MAX_SPEED_SIGNS = ("274", "274.1", "R2-1", "r301")
"""Speed limits of Germany (and Zamunda), the USA and Spain; their values are in m/s."""

LIGHT_HEIGHT_M = 5.0
SIGN_HEIGHT_M = 2.3
"""Of the centres of lights and signs above their points: the format has no heights."""

_STYLES = {
    "solid": MarkStyle.SOLID_SINGLE,
    "broad_solid": MarkStyle.SOLID_SINGLE,
    "solid_solid": MarkStyle.SOLID_GROUP,
    "dashed": MarkStyle.DASHED_SINGLE,
    "broad_dashed": MarkStyle.DASHED_SINGLE,
    "dashed_dashed": MarkStyle.DASHED_GROUP,
    "solid_dashed": MarkStyle.SOLID_DASHED,
    "dashed_solid": MarkStyle.DASHED_SOLID,
}
"""Painted line markings; curbs, "no_marking" and "unknown" are not paint."""

_KINDS = {"busLane": "bus", "bicycleLane": "bike"}
_ROAD_WORDS = (
    "urban",
    "interstate",
    "country",
    "highway",
    "mainCarriageWay",
    "intersection",
    "unknown",
)
_NOT_LANES = ("sidewalk", "crosswalk")
_STATES = {
    "red": "red",
    "redYellow": "red_yellow",
    "green": "green",
    "yellow": "yellow",
    "inactive": "off",
}


@dataclass(frozen=True, eq=False)
class _Lanelet:
    element: Element
    left: Array
    right: Array
    types: tuple[str, ...]

    def refs(self, tag: str) -> tuple[str, ...]:
        return tuple(str(e.get("ref")) for e in self.element.findall(tag))

    def adjacent(self, side: str) -> tuple[str, bool] | None:
        found = self.element.find("adjacentLeft" if side == "left" else "adjacentRight")
        return None if found is None else (str(found.get("ref")), found.get("drivingDir") == "same")


def read_map(
    root: Element, origin_m: Array, span_steps: tuple[int, int], step_us: int, where: str
) -> VectorMap:
    """Read the map in `local`.

    Args:
        root: A ``commonRoad`` element.
        origin_m: ``(3,)`` origin of `local` in the file's frame.
        span_steps: First and last time step of the recording, for states of lights.
        step_us: Length of a time step.
        where: The file's name for errors.

    Raises:
        SceneError: a lanelet has fewer than two points on a side, or a value is wrong.
    """
    from omniloop.scenes.road_edges import road_edges  # shapely and scipy: only when used

    lanelets = {str(e.get("id")): _lanelet(e, origin_m, where) for e in root.findall("lanelet")}
    drivable = {k: v for k, v in lanelets.items() if not set(v.types) & set(_NOT_LANES)}
    lines, line_of = _lane_lines(drivable)
    limits = _speed_limits(root, where)
    crossed = _in_intersections(root)
    lanes = tuple(_lane(k, v, line_of, limits, k in crossed) for k, v in drivable.items())
    surfaces = tuple(Area(lane.id, lane.polygon) for lane in lanes if lane.polygon is not None)
    return VectorMap(
        lanes=lanes,
        lane_lines=lines,
        road_boundaries=road_edges(surfaces, lanes),
        crosswalks=tuple(
            Area(k, between_boundaries(v.left, v.right)) for k, v in lanelets.items() if "crosswalk" in v.types
        ),
        stop_lines=tuple(
            stop for k, v in drivable.items() if (stop := _stop_line(k, v, origin_m, where)) is not None
        ),
        signs=_signs(root, drivable, origin_m, where),
        lights=_lights(root, drivable, origin_m, (span_steps, step_us), where),
    )  # fmt: skip


def _lanelet(element: Element, origin_m: Array, where: str) -> _Lanelet:
    place = f"{where}, lanelet {element.get('id')}"
    sides = []
    for tag in ("leftBound", "rightBound"):
        bound = to_local(points(child(element, tag, place), place), origin_m)
        if len(bound) < 2:
            raise SceneError(
                f"<{tag}> has {len(bound)} points",
                where=place, remedy="give two points or more, or leave the lanelet out",
            )  # fmt: skip
        sides.append(bound)
    types = tuple(e.text or "unknown" for e in element.findall("laneletType"))
    return _Lanelet(element, sides[0], sides[1], types)


def _lane(
    name: str,
    lanelet: _Lanelet,
    line_of: Mapping[tuple[str, str], str],
    limits: Mapping[str, float],
    in_intersection: bool,
) -> Lane:
    left, right = lanelet.left, lanelet.right
    adjacent = {side: lanelet.adjacent(side) for side in ("left", "right")}
    beside = {side: a[0] for side, a in adjacent.items() if a is not None and a[1]}
    special = [_KINDS.get(t, t) for t in lanelet.types if t not in _ROAD_WORDS]
    known = [limits[sign] for sign in lanelet.refs("trafficSignRef") if sign in limits]
    return Lane(
        id=name,
        # The format's own centreline: vertices pair up.
        centerline=(left + right) / 2 if len(left) == len(right) else centerline(left, right),
        left=left, right=right, polygon=between_boundaries(left, right),
        kind=special[0] if special else "vehicle",
        in_intersection=in_intersection or "intersection" in lanelet.types,
        speed_limit_mps=min(known, default=None),
        successors=lanelet.refs("successor"), predecessors=lanelet.refs("predecessor"),
        left_lane=beside.get("left"), right_lane=beside.get("right"),
        left_line=line_of.get((name, "left")), right_line=line_of.get((name, "right")),
    )  # fmt: skip


def _lane_lines(
    lanelets: Mapping[str, _Lanelet],
) -> tuple[tuple[LaneLine, ...], dict[tuple[str, str], str]]:
    """Painted lines, and the line at each ``(lanelet, side)``.

    Neighbours describe the line between them twice; where both state the same marking,
    it becomes one line.
    """
    marking = {
        (name, side): _STYLES.get(lanelet.element.findtext(f"{side}Bound/lineMarking", ""))
        for name, lanelet in lanelets.items()
        for side in ("left", "right")
    }
    lines: list[LaneLine] = []
    line_of: dict[tuple[str, str], str] = {}
    for (name, side), style in marking.items():
        if style is None:
            continue
        beyond = lanelets[name].adjacent(side)
        if beyond is not None:
            same_side = {"left": "right", "right": "left"}[side] if beyond[1] else side
            shared = (beyond[0], same_side)
            if shared in line_of and marking[shared] == style:
                line_of[name, side] = line_of[shared]
                continue
        line_of[name, side] = f"{name}_{side}"
        bound = lanelets[name].left if side == "left" else lanelets[name].right
        lines.append(LaneLine(f"{name}_{side}", bound, style, MarkColor.UNKNOWN))
    return tuple(lines), line_of


def _stop_line(name: str, lanelet: _Lanelet, origin_m: Array, where: str) -> Polyline | None:
    """At its own points, or across the lanelet's end, where the format puts it without."""
    element = lanelet.element.find("stopLine")
    if element is None:
        return None
    ends = to_local(points(element, f"{where}, lanelet {name}"), origin_m)
    if len(ends) < 2:
        ends = np.stack([lanelet.left[-1], lanelet.right[-1]])
    return Polyline(f"{name}_stop", ends, (name,))


def _speed_limits(root: Element, where: str) -> dict[str, float]:
    """Speed limits by the ids of their signs."""
    limits: dict[str, float] = {}
    for sign in root.findall("trafficSign"):
        for part in sign.findall("trafficSignElement"):
            value = part.findtext("additionalValue")
            if part.findtext("trafficSignID") in MAX_SPEED_SIGNS and value is not None:
                name = str(sign.get("id"))
                limits[name] = number(value, "additionalValue", f"{where}, trafficSign {name}")
    return limits


def _in_intersections(root: Element) -> frozenset[str]:
    """Ids of the lanelets that cross an intersection: the successors of its incomings."""
    tags = ("successorsRight", "successorsStraight", "successorsLeft")
    return frozenset(
        str(e.get("ref")) for tag in tags for e in root.findall(f"intersection/incoming/{tag}")
    )


def _referring(lanelets: Mapping[str, _Lanelet], tag: str, name: str | None) -> tuple[str, ...]:
    return tuple(k for k, v in lanelets.items() if name in v.refs(tag))


def _facing(lanelets: Mapping[str, _Lanelet], lanes: tuple[str, ...]) -> float:
    """Heading of a face that looks at who drives on the first of the lanes."""
    if not lanes:
        return 0.0
    left = lanelets[lanes[0]].left
    step = left[-1] - left[-2]
    return float(np.arctan2(-step[1], -step[0]))


def _upright(xyz: Array, height_m: float, yaw_rad: float) -> Array:
    return geometry.poses_from_xyz_yaw(xyz + np.array([0.0, 0.0, height_m]), yaw_rad)


def _signs(
    root: Element, lanelets: Mapping[str, _Lanelet], origin_m: Array, where: str
) -> tuple[TrafficSign, ...]:
    """Signs that stand somewhere: not virtual, and with a position."""
    signs = []
    for sign in root.findall("trafficSign"):
        at = sign.find("position/point")
        if at is None or sign.findtext("virtual") == "true":
            continue
        name = str(sign.get("id"))
        xyz = to_local(np.array(point(at, f"{where}, trafficSign {name}")), origin_m)
        lanes = _referring(lanelets, "trafficSignRef", name)
        pose = _upright(xyz, SIGN_HEIGHT_M, _facing(lanelets, lanes))
        kinds = [part.findtext("trafficSignID", "") for part in sign.findall("trafficSignElement")]
        signs.append(TrafficSign(name, pose, np.array([0.05, 0.6, 0.6]), "+".join(kinds), lanes))
    return tuple(signs)


def _lights(
    root: Element, lanelets: Mapping[str, _Lanelet], origin_m: Array,
    clock: tuple[tuple[int, int], int], where: str,
) -> tuple[TrafficLight, ...]:  # fmt: skip
    """Lights with their states; one without a position stands at the end of its first lanelet."""
    lights = []
    for light in root.findall("trafficLight"):
        name = str(light.get("id"))
        place = f"{where}, trafficLight {name}"
        lanes = _referring(lanelets, "trafficLightRef", name)
        at = light.find("position/point")
        if at is not None:
            xyz = to_local(np.array(point(at, place)), origin_m)
        elif lanes:
            xyz = lanelets[lanes[0]].right[-1]
        else:
            continue
        pose = _upright(xyz, LIGHT_HEIGHT_M, _facing(lanelets, lanes))
        steps, states = _cycle(light, clock[0], place)
        lights.append(
            TrafficLight(
                name,
                pose,
                np.array([0.3, 0.35, 1.0]),
                lanes,
                np.array(steps, dtype=np.int64) * clock[1],
                states,
            )
        )
    return tuple(lights)


def _cycle(
    light: Element, span_steps: tuple[int, int], where: str
) -> tuple[list[int], tuple[str, ...]]:
    """Time steps from which states hold, over the recording.

    At step t the cycle is ``(t - timeOffset) mod its length`` steps old, as in
    ``TrafficLightCycle.get_state_at_time_step`` of commonroad-io.
    """
    first, last = span_steps
    if light.findtext("active") == "false":
        return [first], ("off",)
    parts = light.findall("cycle/cycleElement")
    durations = [int(number(p.findtext("duration"), "duration", where)) for p in parts]
    if not parts or min(durations) <= 0:
        return [], ()
    colors = [p.findtext("color", "") for p in parts]
    for color in colors:
        if color not in _STATES:
            raise SceneError(
                f"colour '{color}' is unknown",
                where=where,
                remedy=f"use one of {', '.join(_STATES)}",
            )
    offset = int(number(light.findtext("cycle/timeOffset", "0"), "timeOffset", where))
    total = sum(durations)
    starts = np.concatenate([[0], np.cumsum(durations)[:-1]])
    begin = first - (first - offset) % total
    steps, states = [], []
    while begin <= last:
        for start, duration, color in zip(starts, durations, colors, strict=True):
            at = begin + int(start)
            if at + duration > first and at <= last:
                steps.append(max(at, first))
                states.append(_STATES[color])
        begin += total
    return steps, tuple(states)
