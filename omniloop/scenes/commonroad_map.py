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
from omniloop.scenes.bounds import (
    MAX_MAP_ELEMENTS,
    check_count,
    check_lanes_length,
    name_of,
    shown,
)
from omniloop.scenes.build import between_boundaries, centerline, to_local
from omniloop.scenes.commonroad_xml import (
    check_unique,
    child,
    id_of,
    number,
    point,
    points,
)

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
_MAX_LANELETS = 5_000
"""So many take seconds to join to a road; scenarios have hundreds."""

_MAX_STATES = 1_000_000
"""Of all traffic lights together."""

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
    outline: Array
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

    for tag in ("lanelet", "trafficSign", "trafficLight"):
        elements = root.findall(tag)
        most = _MAX_LANELETS if tag == "lanelet" else MAX_MAP_ELEMENTS
        check_count(len(elements), most, f"<{tag}> elements", where)
        check_unique(elements, where)
    lanelets = {id_of(e, where): _lanelet(e, origin_m, where) for e in root.findall("lanelet")}
    check_lanes_length([side for x in lanelets.values() for side in (x.left, x.right)], where)
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
            Area(k, v.outline) for k, v in lanelets.items() if "crosswalk" in v.types
        ),
        stop_lines=tuple(
            stop for k, v in drivable.items() if (stop := _stop_line(k, v, origin_m, where)) is not None
        ),
        signs=_signs(root, drivable, origin_m, where),
        lights=_lights(root, drivable, origin_m, (span_steps, step_us), where),
    )  # fmt: skip


def _lanelet(element: Element, origin_m: Array, where: str) -> _Lanelet:
    place = f"{where}, lanelet {id_of(element, where)}"
    sides = []
    for tag in ("leftBound", "rightBound"):
        bound = to_local(points(child(element, tag, place), place), origin_m)
        if len(bound) < 2:
            raise SceneError(
                f"<{tag}> has {len(bound)} points",
                where=place, remedy="give two points or more, or leave the lanelet out",
            )  # fmt: skip
        sides.append(bound)
    outline = between_boundaries(*sides)
    if len(outline) < 3:
        raise SceneError(
            f"its sides have {len(outline)} different points in all, and no area between them",
            where=place, remedy="mend the lanelet, or leave it out",
        )  # fmt: skip
    kinds = [
        name_of(e.text or "unknown", "laneletType", place) for e in element.findall("laneletType")
    ]
    return _Lanelet(element, sides[0], sides[1], outline, tuple(kinds))


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
        left=left, right=right, polygon=lanelet.outline,
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
                name = id_of(sign, where)
                place = f"{where}, trafficSign {name}"
                limits[name] = number(value, "additionalValue", place)
                if limits[name] <= 0:
                    raise SceneError(
                        f"a speed limit of {limits[name]:g} m/s",
                        where=place, remedy="give a positive one, or leave the sign out",
                    )  # fmt: skip
    return limits


def _in_intersections(root: Element) -> frozenset[str]:
    """Ids of the lanelets that cross an intersection: the successors of its incomings."""
    tags = ("successorsRight", "successorsStraight", "successorsLeft")
    return frozenset(
        str(e.get("ref")) for tag in tags for e in root.findall(f"intersection/incoming/{tag}")
    )


def _referring(lanelets: Mapping[str, _Lanelet], tag: str) -> dict[str, tuple[str, ...]]:
    """Lanelets that refer to each element by a tag, in their order."""
    found: dict[str, dict[str, None]] = {}
    for name, lanelet in lanelets.items():
        for ref in lanelet.refs(tag):
            found.setdefault(ref, {})[name] = None
    return {ref: tuple(names) for ref, names in found.items()}


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
    lanes_of = _referring(lanelets, "trafficSignRef")
    for sign in root.findall("trafficSign"):
        at = sign.find("position/point")
        if at is None or sign.findtext("virtual") == "true":
            continue
        name = id_of(sign, where)
        xyz = to_local(np.array(point(at, f"{where}, trafficSign {name}")), origin_m)
        lanes = lanes_of.get(name, ())
        pose = _upright(xyz, SIGN_HEIGHT_M, _facing(lanelets, lanes))
        kinds = [part.findtext("trafficSignID", "") for part in sign.findall("trafficSignElement")]
        kind = name_of("+".join(kinds), "trafficSignID", f"{where}, trafficSign {name}")
        signs.append(TrafficSign(name, pose, np.array([0.05, 0.6, 0.6]), kind, lanes))
    return tuple(signs)


def _lights(
    root: Element, lanelets: Mapping[str, _Lanelet], origin_m: Array,
    clock: tuple[tuple[int, int], int], where: str,
) -> tuple[TrafficLight, ...]:  # fmt: skip
    """Lights with their states; one without a position stands at the end of its first lanelet."""
    lights = []
    lanes_of = _referring(lanelets, "trafficLightRef")
    room = _MAX_STATES
    for light in root.findall("trafficLight"):
        name = id_of(light, where)
        place = f"{where}, trafficLight {name}"
        lanes = lanes_of.get(name, ())
        at = light.find("position/point")
        if at is not None:
            xyz = to_local(np.array(point(at, place)), origin_m)
        elif lanes:
            xyz = lanelets[lanes[0]].right[-1]
        else:
            continue
        pose = _upright(xyz, LIGHT_HEIGHT_M, _facing(lanelets, lanes))
        steps, states = _cycle(light, clock[0], room, place)
        room -= len(steps)
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
    light: Element, span_steps: tuple[int, int], most: int, where: str
) -> tuple[list[int], tuple[str, ...]]:
    """Time steps from which states hold, over the recording.

    At step t the cycle is ``(t - timeOffset) mod its length`` steps old, as in
    ``TrafficLightCycle.get_state_at_time_step`` of commonroad-io.

    Raises:
        SceneError: a value is wrong, or there are more than `most` states.
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
                f"colour {shown(color)} is unknown",
                where=where,
                remedy=f"use one of {', '.join(_STATES)}",
            )
    offset = int(number(light.findtext("cycle/timeOffset", "0"), "timeOffset", where))
    total = sum(durations)
    count = ((last - first) // total + 2) * len(parts)
    if count > most:
        raise SceneError(
            f"its cycle makes {count} states in the recording, and all lights may have {_MAX_STATES}",
            where=where, remedy="give durations in time steps",
        )  # fmt: skip
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
