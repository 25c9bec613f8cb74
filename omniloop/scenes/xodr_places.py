"""What stands at or lies on a road of OpenDRIVE: signals and objects.

ASAM OpenDRIVE 1.7, sections 13 (objects) and 14 (signals).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from xml.etree.ElementTree import Element

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.scene import Area, MapFeature, Polyline, TrafficLight, TrafficSign
from omniloop.scenes.xodr_roads import LaneKey, RoadLane, Section
from omniloop.scenes.xodr_xml import value

STOP_LINE_SIGNAL = "294"
"""The stop line in the German catalogue of signs, and with that in many maps."""

LIGHT_SIZE_M = (0.3, 0.35, 1.0)
SIGN_SIZE_M = (0.05, 0.6, 0.6)
"""Thickness, width and height where the file has none."""

_CONTROLLED = ("driving", "entry", "exit", "onRamp", "offRamp", "connectingRamp", "bidirectional", "bus", "taxi", "HOV", "biking", "slipLane", "mwyEntry", "mwyExit")  # fmt: skip
_FEATURES = {"pole": "pole", "trafficIsland": "road_island"}
_UNKNOWN = ("", "-1", "none")


@dataclass
class Places:
    """What was found; lanes by the ids that `name_of` gives them."""

    signs: list[TrafficSign] = field(default_factory=list)
    lights: list[TrafficLight] = field(default_factory=list)
    stop_lines: list[Polyline] = field(default_factory=list)
    crosswalks: list[Area] = field(default_factory=list)
    features: list[MapFeature] = field(default_factory=list)


def read_places(roads: Mapping[str, Sequence[Section]], name_of: Mapping[LaneKey, str]) -> Places:
    """Read the signals and objects of all roads.

    Args:
        roads: Lane sections by road.
        name_of: Lanes that are part of the map.

    Raises:
        SceneError: a number is missing or not finite.
    """
    out = Places()
    for sections in roads.values():
        if sections:
            for element in sections[0].road.element.findall("signals/signal"):
                _signal(element, sections, name_of, out)
            for element in sections[0].road.element.findall("objects/object"):
                _object(element, sections, name_of, out)
    referred = _referred(roads, name_of)
    out.signs = [replace(x, lanes=_and(x.lanes, referred.get(x.id, ()))) for x in out.signs]
    out.lights = [replace(x, lanes=_and(x.lanes, referred.get(x.id, ()))) for x in out.lights]
    return out


def _signal(
    element: Element, sections: Sequence[Section], name_of: Mapping[LaneKey, str], out: Places
) -> None:
    road = sections[0].road
    name = element.get("id", "")
    where = f"{road.where}, signal {name}"
    s, t = value(element, "s", where), value(element, "t", where)
    ruled = [lane for lane in _ruled(element, sections, s, where) if lane.key in name_of]
    lanes = tuple(name_of[lane.key] for lane in ruled)
    kind = element.get("type", "")
    if kind == STOP_LINE_SIGNAL or element.get("name", "").lower().replace(" ", "") == "stopline":
        if ruled:
            section = _section_at(sections, s)
            own = [i for i, lane in enumerate(section.lanes) if lane in ruled]
            across = section.borders_at(np.array([s]))[:, 0]
            out.stop_lines.append(Polyline(name, across[[own[0], own[-1] + 1]], lanes))
        return
    is_light = element.get("dynamic") == "yes"
    default = LIGHT_SIZE_M if is_light else SIGN_SIZE_M
    height = value(element, "height", where, 0.0) or default[2]
    width = value(element, "width", where, 0.0) or default[1]
    at = road.points(np.array([s]), np.array([t]))[0]
    at[2] += value(element, "zOffset", where, 0.0) + height / 2
    back = element.get("orientation") != "-"  # who drives along the road sees its face
    yaw = road.heading_rad(s) + value(element, "hOffset", where, 0.0) + (np.pi if back else 0.0)
    pose, size = geometry.poses_from_xyz_yaw(at, yaw), np.array([default[0], width, height])
    if is_light:
        out.lights.append(TrafficLight(name, pose, size, lanes))
        return
    words = [w for w in (kind, element.get("subtype", "")) if w.lower() not in _UNKNOWN]
    out.signs.append(
        TrafficSign(name, pose, size, ".".join(words) or element.get("name", "unknown"), lanes)
    )


def _ruled(
    element: Element, sections: Sequence[Section], s_m: float, where: str
) -> Iterator[RoadLane]:
    """Lanes that a signal is for: those of its direction and, if it says so, of its range."""
    ranges = [
        sorted((value(e, "fromLane", where), value(e, "toLane", where)))
        for e in element.findall("validity")
    ]
    for lane in _section_at(sections, s_m).lanes:
        fits = {"+": lane.forward, "-": not lane.forward}
        if lane.type not in _CONTROLLED or not fits.get(element.get("orientation", "none"), True):
            continue
        if not ranges or any(low <= lane.key[2] <= high for low, high in ranges):
            yield lane


def _referred(
    roads: Mapping[str, Sequence[Section]], name_of: Mapping[LaneKey, str]
) -> dict[str, tuple[str, ...]]:
    """Lanes of other roads by the id of the signal that these refer to."""
    out: dict[str, tuple[str, ...]] = {}
    for sections in roads.values():
        for element in (
            sections[0].road.element.findall("signals/signalReference") if sections else ()
        ):
            where = f"{sections[0].road.where}, signalReference {element.get('id', '')}"
            ruled = _ruled(element, sections, value(element, "s", where), where)
            lanes = tuple(name_of[lane.key] for lane in ruled if lane.key in name_of)
            name = element.get("id", "")
            out[name] = _and(out.get(name, ()), lanes)
    return out


def _and(some: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return (*some, *(x for x in more if x not in some))


def _section_at(sections: Sequence[Section], s_m: float) -> Section:
    starts = [section.start_m for section in sections]
    return sections[max(int(np.searchsorted(starts, s_m, side="right")) - 1, 0)]


def _object(
    element: Element, sections: Sequence[Section], name_of: Mapping[LaneKey, str], out: Places
) -> None:
    road = sections[0].road
    kind, title = element.get("type", "").strip(), element.get("name", "").lower()
    name = element.get("id", "")
    where = f"{road.where}, object {name}"
    is_stop = kind == "roadMark" and (
        element.get("subtype") == "signalLines" or "stop" in title or "yield" in title
    )
    if not is_stop and kind != "crosswalk" and kind not in _FEATURES:
        return
    s = value(element, "s", where)
    outline, t_range = _outline(element, sections, where)
    if kind == "crosswalk":
        out.crosswalks.append(Area(name, outline))
    elif kind == "pole":
        foot = outline.mean(axis=0)
        top = foot + [0.0, 0.0, value(element, "height", where, 0.0) or 3.0]
        out.features.append(MapFeature(name, "pole", np.stack([foot, top]), title))
    elif kind in _FEATURES:
        out.features.append(MapFeature(name, _FEATURES[kind], outline, title))
    else:
        section = _section_at(sections, s)
        borders = section.offsets(np.array([s]))[:, 0]
        low, high = t_range
        crossed = []
        for i, lane in enumerate(section.lanes):
            width = borders[i + 1] - borders[i]
            covered = min(high, borders[i + 1]) - max(low, borders[i])
            fits = {"+": lane.forward, "-": not lane.forward}
            if (
                lane.key in name_of
                and covered > width / 2
                and fits.get(element.get("orientation", ""), True)
            ):
                crossed.append(name_of[lane.key])
        ends = road.points(np.array([s, s]), np.array([low, high]))
        out.stop_lines.append(Polyline(name, ends, tuple(crossed)))


def _outline(
    element: Element, sections: Sequence[Section], where: str
) -> tuple[Array, tuple[float, float]]:
    """Corners ``(N, 3)`` of an object, N > 2, and how far it reaches to the right and left."""
    road = sections[0].road
    s, t = value(element, "s", where), value(element, "t", where)
    lift = value(element, "zOffset", where, 0.0)
    heading = value(element, "hdg", where, 0.0)
    along_road = element.findall(".//outline/cornerRoad")
    if len(along_road) > 2:
        st = np.array([[value(c, "s", where), value(c, "t", where)] for c in along_road])
        points = road.points(st[:, 0], st[:, 1])
        points[:, 2] += [value(c, "dz", where, 0.0) for c in along_road]
        return points, (float(st[:, 1].min()), float(st[:, 1].max()))
    corners = element.findall(".//outline/cornerLocal")
    if len(corners) > 2:
        local = np.array([
            [value(c, "u", where), value(c, "v", where), value(c, "z", where, 0.0)] for c in corners
        ])  # fmt: skip
    else:
        radius = value(element, "radius", where, 0.0)
        half_u = (value(element, "length", where, 0.0) or 2 * radius or 0.5) / 2
        half_v = (value(element, "width", where, 0.0) or 2 * radius or 0.5) / 2
        local = np.array([[u, v, 0.0] for u, v in ((-half_u, -half_v), (half_u, -half_v), (half_u, half_v), (-half_u, half_v))])  # fmt: skip
    lateral = t + local[:, 0] * np.sin(heading) + local[:, 1] * np.cos(heading)
    pose = geometry.poses_from_xyz_yaw(
        road.points(np.array([s]), np.array([t]))[0] + [0.0, 0.0, lift],
        road.heading_rad(s) + heading,
    )
    return geometry.transform_points(pose, local), (float(lateral.min()), float(lateral.max()))
