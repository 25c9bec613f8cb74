"""OpenDRIVE maps (``map.xodr``), versions 1.4 to 1.8, as vector maps.

Lanes that vehicles use become lanes; what is paved beside them (shoulders, parking) belongs
to the drivable areas with them. A lane's id is ``road_section_lane``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from xml.etree.ElementTree import Element

import numpy as np
import shapely

from omniloop.core import geometry
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.scene import Area, Lane, LaneLine, VectorMap
from omniloop.scenes.build import between_boundaries
from omniloop.scenes.map_points import with_points
from omniloop.scenes.surface import GAP_M, SEAM_M
from omniloop.scenes.xodr_geo import earth_from_degrees, read_projection
from omniloop.scenes.xodr_links import LaneLinks, link_lanes
from omniloop.scenes.xodr_paint import lane_lines
from omniloop.scenes.xodr_places import read_places
from omniloop.scenes.xodr_roads import LaneKey, Section, check_size, read_road
from omniloop.scenes.xodr_xml import read_root, value

KINDS = {
    "driving": "vehicle", "entry": "vehicle", "exit": "vehicle", "onRamp": "vehicle",
    "offRamp": "vehicle", "connectingRamp": "vehicle", "bidirectional": "vehicle",
    "slipLane": "vehicle", "mwyEntry": "vehicle", "mwyExit": "vehicle", "HOV": "vehicle",
    "taxi": "taxi", "bus": "bus", "biking": "bike",
}  # fmt: skip
"""Kinds of lanes by OpenDRIVE's types; lanes of other types are no lanes of the map."""

PAVED = frozenset((*KINDS, "shoulder", "stop", "parking", "restricted", "border", "shared"))
"""Types that are part of the carriageway."""

FARTHEST_M = 10_000.0
"""A map farther from the scene than this is that of another place (AlpaSim's own bound)."""

_MPS = {"m/s": 1.0, "mph": 0.44704, "km/h": 1 / 3.6}
_THINNEST_M = 0.01
_WIDEST_M = 3_000_000.0
"""Krueger's series is good for this far from the central meridian."""


def xodr_to_map(
    data: bytes, T_world_base: Array | None = None, where: str = "map.xodr"
) -> tuple[VectorMap, tuple[str, ...]]:
    """Read an OpenDRIVE map.

    Args:
        T_world_base: ``(4, 4)`` pose of `local` in the Earth's frame (ECEF), which with the
            map's own geo reference says where it lies in `local`. None or an identity: the
            map is in `local` already.
        where: The file's name, for errors.

    Returns:
        The map in `local`, and one line about each thing that was left out or taken as is.

    Raises:
        SceneError: it is not OpenDRIVE, a number is missing, not finite or impossible, its
            roads are much too long, or it cannot be placed in `local`.
    """
    root = read_root(data, where)
    read = [read_road(e, where) for e in root.findall("road")]
    if not read:
        raise SceneError("the map has no roads", where=where, remedy="give a map with roads")
    check_size([road for road, _ in read], where)
    roads = {road.id: sections for road, sections in read}
    if len(roads) < len(read):
        raise SceneError("two roads have the same id", where=where, remedy="export the map again")
    notes = _notes(root, roads)
    links = link_lanes(root, roads, where)
    if links.lost:
        notes.append(f"{links.lost} links lead to roads or lanes that are not in the map")
    vector_map = _build(roads, links)
    if T_world_base is not None and not np.array_equal(T_world_base, np.eye(4)):
        vector_map = _moved(vector_map, _into_local(root, T_world_base, notes, where), where)
    return vector_map, tuple(notes)


def _notes(root: Element, roads: Mapping[str, Sequence[Section]]) -> list[str]:
    notes = []
    bare = [name for name, sections in roads.items() if not sections]
    if bare:
        notes.append(f"{len(bare)} roads have no lane sections")
    for path, what in (
        ("road/lanes/laneSection[@singleSide='true']", "lane sections of one side are taken for both"),
        ("road/lateralProfile/crossfall", "crossfalls are left out"),
    ):  # fmt: skip
        found = len(root.findall(path))
        if found:
            notes.append(f"{found} {what}")
    vendor = root.find("header[@vendor]")
    deepmap = vendor is not None and "deepmap" in vendor.get("vendor", "").lower()
    if deepmap and root.find(".//speed[@unit='mph']") is not None:
        notes.append(
            "speed limits are taken as stated in mph; where limits are in km/h, this exporter"
            " is known to state km/h as mph"
        )
    return notes


# ---------------------------------------------------------------------------- lanes


def _build(roads: Mapping[str, Sequence[Section]], links: LaneLinks) -> VectorMap:
    from omniloop.scenes.road_edges import road_edges  # scipy: only when used

    name_of = {
        lane.key: f"{lane.key[0]}_{lane.key[1]}_{lane.key[2]}"
        for sections in roads.values()
        for section in sections
        for i, lane in enumerate(section.lanes)
        if lane.type in KINDS and len(section.s_m) > 1 and _width_m(section, i) > _THINNEST_M
    }
    lanes: list[Lane] = []
    lines: list[LaneLine] = []
    paved: list[Array] = []
    crossing: list[Array] = []
    for sections in roads.values():
        for section in sections:
            if len(section.s_m) < 2:
                continue
            painted, at_border = lane_lines(section)
            lines += painted
            lanes += _lanes(section, name_of, links, at_border)
            strips = [
                ring
                for i, lane in enumerate(section.lanes)
                if lane.type in PAVED and _width_m(section, i) > _THINNEST_M
                if (ring := _ring(section.borders[i + 1], section.borders[i])) is not None
            ]
            paved += strips
            crossing += strips if section.road.junction != "-1" else []
    areas = _areas(paved, crossing)
    places = read_places(roads, name_of)
    return VectorMap(
        lanes=tuple(lanes), lane_lines=tuple(lines),
        road_boundaries=road_edges(areas, tuple(lanes)), drivable_areas=areas,
        crosswalks=tuple(places.crosswalks), stop_lines=tuple(places.stop_lines),
        signs=tuple(places.signs), lights=tuple(places.lights), features=tuple(places.features),
    )  # fmt: skip


def _width_m(section: Section, lane: int) -> float:
    across = section.borders[lane + 1] - section.borders[lane]
    return float(np.linalg.norm(across, axis=1).max())


def _lanes(
    section: Section, name_of: Mapping[LaneKey, str], links: LaneLinks, at_border: dict[int, str]
) -> list[Lane]:
    own = section.lanes
    out = []
    for i, lane in enumerate(own):
        if lane.key not in name_of:
            continue
        step = 1 if lane.forward else -1
        sides = [section.borders[i + 1], section.borders[i]][::step]
        left, right = (side[::step] for side in sides)
        beside = {
            offset: name_of.get(own[i + offset].key)
            for offset in (-1, 1)
            if 0 <= i + offset < len(own) and own[i + offset].forward == lane.forward
        }
        marks = (at_border.get(i + 1), at_border.get(i))[::step]
        out.append(
            Lane(
                name_of[lane.key], (left + right) / 2, left=left, right=right,
                polygon=_ring(left, right), kind=KINDS[lane.type],
                in_intersection=section.road.junction != "-1",
                speed_limit_mps=_limit_mps(section, lane.element),
                successors=_names(links.after.get(lane.key, ()), name_of),
                predecessors=_names(links.before.get(lane.key, ()), name_of),
                left_lane=beside.get(step), right_lane=beside.get(-step),
                left_line=marks[0], right_line=marks[1],
            )
        )  # fmt: skip
    return out


def _ring(left: Array, right: Array) -> Array | None:
    ring = between_boundaries(left, right)
    return ring if len(ring) > 2 else None


def _names(keys: Sequence[LaneKey], name_of: Mapping[LaneKey, str]) -> tuple[str, ...]:
    return tuple(name_of[key] for key in keys if key in name_of)


def _limit_mps(section: Section, lane: Element) -> float | None:
    """The lane's own limit, else the road's at the section's start."""
    road = section.road
    types = [
        kind
        for kind in road.element.findall("type")
        if value(kind, "s", road.where, 0.0) <= section.start_m + 1e-6
    ]
    for element in (lane.find("speed"), types[-1].find("speed") if types else None):
        if element is None or element.get("max") in (None, "no limit", "undefined"):
            continue
        unit = element.get("unit", "m/s")
        if unit not in _MPS:
            raise SceneError(
                f"speed unit '{unit}' is unknown", where=road.where, remedy=f"use {', '.join(_MPS)}"
            )
        limit = value(element, "max", road.where)
        return limit * _MPS[unit] if limit > 0 else None
    return None


def _areas(paved: list[Array], crossing: list[Array]) -> tuple[Area, ...]:
    """What is paved, as few areas; inside junctions also the gaps between their roads."""
    from scipy.spatial import cKDTree

    if not paved:
        return ()
    union = _joined(paved)
    if crossing:
        closed = shapely.buffer(_joined(crossing), GAP_M / 2, join_style="mitre")
        union = shapely.union(union, shapely.buffer(closed, -GAP_M / 2, join_style="mitre"))
    vertices = np.concatenate(paved)
    tree = cKDTree(vertices[:, :2])

    def ring(coordinates: shapely.Geometry) -> Array:
        xy = shapely.get_coordinates(coordinates)[:-1]
        return np.column_stack([xy, vertices[tree.query(xy)[1], 2]])

    parts = [p for p in shapely.get_parts(union) if p.geom_type == "Polygon" and p.area > 0.01]
    return tuple(
        Area(
            f"paved-{i}",
            ring(p.exterior),
            tuple(ring(hole) for hole in p.interiors if shapely.Polygon(hole).area > 0.01),
        )
        for i, p in enumerate(parts)
    )


def _joined(strips: list[Array]) -> shapely.Geometry:
    polygons = np.array([shapely.Polygon(strip[:, :2]) for strip in strips], dtype=object)
    grown = shapely.buffer(shapely.make_valid(polygons), SEAM_M, join_style="mitre")
    return shapely.buffer(shapely.union_all(grown), -SEAM_M, join_style="mitre")


# ------------------------------------------------------------------------- into local


def _into_local(
    root: Element, T_world_base: Array, notes: list[str], where: str
) -> Callable[[Array], Array]:
    """The way of points ``(N, 3)`` from the map's frame into `local`."""
    base = np.asarray(T_world_base, dtype=np.float64)
    turned = base[:3, :3] if base.shape == (4, 4) else np.zeros((3, 3))
    if not np.isfinite(base).all() or not np.allclose(turned @ turned.T, np.eye(3), atol=1e-3):
        raise SceneError(
            "T_world_base is not a finite 4 x 4 pose",
            where=where,
            remedy="mend rig_trajectories.json",
        )
    if abs(np.linalg.norm(base[:3, 3]) - 6_371_000.0) > 100_000.0:
        raise SceneError(
            f"T_world_base is {np.linalg.norm(base[:3, 3]) / 1000:.0f} km from the Earth's centre, not at its surface",
            where=where, remedy="give local's pose in ECEF, or an identity for a map in local",
        )  # fmt: skip
    header = root.find("header")
    text = "" if header is None else header.findtext("geoReference") or ""
    if not text.strip():
        raise SceneError(
            "the map has no geoReference, so T_world_base cannot place it", where=where,
            remedy="add one to its header, or give an identity for a map in local",
        )  # fmt: skip
    projection = read_projection(text, where)
    if "geoidgrids" in text:
        notes.append("the geoid grid of geoReference is passed over: heights are ellipsoidal")
    element = root.find("header/offset")
    offset = [0.0] * 4 if element is None else [value(element, k, where, 0.0) for k in ("x", "y", "z", "hdg")]  # fmt: skip
    moved = geometry.pose(*offset)

    def into_local(points: Array) -> Array:
        mapped = geometry.transform_points(moved, points)
        aside = np.abs(mapped[:, 0] - projection.east_m).max()
        if aside > _WIDEST_M:
            raise SceneError(
                f"the map reaches {aside / 1000:g} km from the meridian of its geoReference",
                where=where, remedy="give a projection whose middle is near the map",
            )  # fmt: skip
        latitude, longitude = projection.inverse(mapped[:, :2])
        height = mapped[:, 2] + projection.height_m
        earth = earth_from_degrees(latitude, longitude, height)
        return np.asarray((earth - base[:3, 3]) @ turned)

    return into_local


def _moved(vector_map: VectorMap, into_local: Callable[[Array], Array], where: str) -> VectorMap:
    """A map in another frame."""

    def pose(x: Array) -> Array:
        yaw = geometry.yaw_rad(x)
        ahead = x[:3] + [np.cos(yaw), np.sin(yaw), 0.0]
        at, there = into_local(np.stack([x[:3], ahead]))
        step = there - at
        return geometry.poses_from_xyz_yaw(at, np.arctan2(step[1], step[0]))

    out = with_points(vector_map, into_local)
    nearest = min((np.linalg.norm(x.centerline, axis=1).min() for x in out.lanes), default=0.0)
    if nearest > FARTHEST_M:
        raise SceneError(
            f"the map's nearest lane is {nearest / 1000:.1f} km from the scene", where=where,
            remedy="check that T_world_base and the map's geoReference are of one place",
        )  # fmt: skip
    return replace(
        out,
        signs=tuple(replace(x, local_to_sign=pose(x.local_to_sign)) for x in out.signs),
        lights=tuple(replace(x, local_to_light=pose(x.local_to_light)) for x in out.lights),
    )
