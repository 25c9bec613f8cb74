"""Roads of OpenDRIVE: lane sections, and the borders of their lanes as points.

ASAM OpenDRIVE 1.7, sections 8 (coordinates), 10 (roads) and 11 (lanes). Points are at most
`STEP_M` apart and off the true borders by at most `CHORD_M`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from xml.etree.ElementTree import Element

import numpy as np

from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.scenes.xodr_geometry import (
    Cubics,
    ReferenceLine,
    read_cubics,
    read_reference_line,
)
from omniloop.scenes.xodr_xml import value, whole

STEP_M = 2.0
CHORD_M = 0.05
MOST_SAMPLES = 300_000
"""Places along all roads together: 600 km of straight ones."""

FARTHEST_M = 1e8
"""No projection has larger coordinates."""

_SHORTEST_M = 0.05
_LEFT_OF_END_M = 1e-7
"""A function that jumps at the end of a section is taken this far before it."""

LaneKey = tuple[str, int, int]
"""Road, number of the lane section, and the lane's own id in it."""


@dataclass(frozen=True, eq=False)
class Road:
    """A road.

    Attributes:
        junction: Id of the junction it leads through; "-1" for none.
        right_hand: Traffic keeps to the right.
    """

    id: str
    element: Element
    junction: str
    right_hand: bool
    line: ReferenceLine
    elevation: Cubics
    superelevation: Cubics
    shape: Callable[[Array, Array], Array]
    lane_offset: Cubics
    where: str

    def points(self, s_m: Array, t_m: Array) -> Array:
        """Points ``(..., N, 3)`` on the road at ``(N,)`` along and ``(..., N)`` to the left."""
        x, y, heading = self.line(s_m)
        tilt = self.superelevation(s_m)
        across = t_m * np.cos(tilt)
        z = self.elevation(s_m) + t_m * np.sin(tilt) + self.shape(s_m, t_m)
        return np.stack([x - np.sin(heading) * across, y + np.cos(heading) * across, z], axis=-1)

    def heading_rad(self, s_m: float) -> float:
        """Direction of the reference line."""
        return float(self.line(np.array([s_m]))[2][0])


@dataclass(frozen=True, eq=False)
class RoadLane:
    """A lane of a lane section.

    Attributes:
        forward: Traffic drives along the reference line, not against it.
    """

    key: LaneKey
    element: Element
    type: str
    forward: bool


@dataclass(frozen=True, eq=False)
class Section:
    """A lane section.

    Attributes:
        lanes: From right to left along the reference line; without the centre lane.
        center: Its element, or None.
        offsets: ``(N,)`` distances along the road to ``(B, N)`` offsets to the left of the
            borders: lane i lies between borders i and i + 1.
    """

    road: Road
    index: int
    start_m: float
    end_m: float
    lanes: tuple[RoadLane, ...]
    center: Element | None
    offsets: Callable[[Array], Array]

    @property
    def center_border(self) -> int:
        """Number of the border at lane 0."""
        return sum(lane.key[2] < 0 for lane in self.lanes)

    def borders_at(self, s_m: Array) -> Array:
        """Borders ``(B, N, 3)`` at distances along the road."""
        return self.road.points(s_m, self.offsets(s_m))

    @cached_property
    def s_m(self) -> Array:
        """Places along the road at which its borders are sampled."""
        return _refined(self.borders_at, self._breaks(), self.road.where)

    @cached_property
    def borders(self) -> Array:
        """Borders ``(B, N, 3)`` at `s_m`."""
        return self.borders_at(self.s_m)

    def _breaks(self) -> Array:
        marks = [
            self.start_m + float(value(e, "sOffset", self.road.where, 0.0))
            for owner in (*(lane.element for lane in self.lanes), self.center)
            if owner is not None
            for tag in ("roadMark", "width", "border")
            for e in owner.findall(tag)
        ]
        road = self.road
        inner = np.concatenate(
            [marks, road.line.starts, road.elevation.starts, road.superelevation.starts, road.lane_offset.starts]
        )  # fmt: skip
        inside = (inner > self.start_m + 1e-3) & (inner < self.end_m - 1e-3)
        return np.unique(np.concatenate([[self.start_m], inner[inside], [self.end_m]]))


def read_road(element: Element, where: str) -> tuple[Road, tuple[Section, ...]]:
    """Read a road with its lane sections; one that has none is a road without lanes.

    Raises:
        SceneError: a number is missing, not finite or impossible, or geometry is unknown.
    """
    name = element.get("id") or ""
    place = f"{where}, road {name}"
    line = read_reference_line(element, place)
    lanes = element.find("lanes")
    road = Road(
        id=name, element=element, junction=element.get("junction", "-1"),
        right_hand=element.get("rule", "RHT").upper() != "LHT", line=line,
        elevation=read_cubics(element.findall("elevationProfile/elevation"), "s", place),
        superelevation=read_cubics(element.findall("lateralProfile/superelevation"), "s", place),
        shape=_shape(element, place),
        lane_offset=read_cubics([] if lanes is None else lanes.findall("laneOffset"), "s", place),
        where=place,
    )  # fmt: skip
    return road, tuple(_sections(road, [] if lanes is None else lanes.findall("laneSection")))


def check_size(roads: list[Road], where: str) -> None:
    """Refuse roads that are much too long to be sampled.

    Raises:
        SceneError: they are.
    """
    total = sum(road.line.length_m for road in roads)
    if not total / STEP_M <= MOST_SAMPLES:
        longest = max(roads, key=lambda road: road.line.length_m)
        raise SceneError(
            f"the roads are {total / 1000:g} km long together; road {longest.id} alone is"
            f" {longest.line.length_m / 1000:g} km",
            where=where, remedy=f"cut out a map of less than {MOST_SAMPLES * STEP_M / 1000:g} km",
        )  # fmt: skip


def _sections(road: Road, elements: list[Element]) -> Iterator[Section]:
    end = road.line.length_m
    starts = [value(e, "s", road.where, 0.0) for e in elements]
    order = np.argsort(starts, kind="stable").tolist()
    bounds = [min(max(starts[i], 0.0), end) for i in order] + [end]
    for index, i in enumerate(order):
        yield _section(road, elements[i], index, bounds[index], bounds[index + 1])


def _section(road: Road, element: Element, index: int, start_m: float, end_m: float) -> Section:
    place = f"{road.where}, lane section {index}"
    by_id: dict[int, RoadLane] = {}
    center = None
    for lane in element.findall("*/lane"):
        number = whole(lane, "id", place)
        if number == 0:
            center = lane
            continue
        if number in by_id:
            raise SceneError(
                f"lane {number} is there twice", where=place, remedy="export the map again"
            )
        along = (number < 0) == road.right_hand
        if lane.get("direction") == "reversed":
            along = not along
        kind = lane.get("type", "none")
        by_id[number] = RoadLane((road.id, index, number), lane, kind, along)
    ids = sorted(by_id)
    right, left = [i for i in ids if i < 0][::-1], [i for i in ids if i > 0]
    widths = {i: _width(by_id[i].element, start_m, f"{place}, lane {i}") for i in (*right, *left)}

    def offsets(s_m: Array) -> Array:
        s = np.minimum(s_m, max(end_m - _LEFT_OF_END_M, start_m))
        base = road.lane_offset(s)
        out = {0: base}
        for side, sign in ((right, -1), (left, 1)):
            inner = base
            for i in side:
                cubics, is_border = widths[i]
                beside = inner + sign * np.maximum(cubics(s), 0.0)
                inner = base + cubics(s) if is_border else beside
                out[i] = inner
        return np.stack([out[i] for i in sorted(out)])

    return Section(road, index, start_m, end_m, tuple(by_id[i] for i in ids), center, offsets)


def _width(lane: Element, start_m: float, where: str) -> tuple[Cubics, bool]:
    """The width of a lane or, where it has none, its border's offset to the left."""
    widths, borders = lane.findall("width"), lane.findall("border")
    is_border = not widths and bool(borders)
    return read_cubics(borders if is_border else widths, "sOffset", where, start_m), is_border


def _shape(road: Element, where: str) -> Callable[[Array, Array], Array]:
    """Heights of the cross section, linear along the road between its profiles."""
    profiles: dict[float, list[Element]] = {}
    for element in road.findall("lateralProfile/shape"):
        profiles.setdefault(value(element, "s", where), []).append(element)
    if not profiles:
        return lambda s_m, t_m: np.zeros(np.shape(t_m))
    stations = np.array(sorted(profiles))
    cubics = [read_cubics(profiles[s], "t", where) for s in stations.tolist()]

    def heights(s_m: Array, t_m: Array) -> Array:
        shape = np.shape(t_m)
        flat = np.ravel(t_m)
        at = np.array([c(flat).reshape(shape) for c in cubics])
        place = np.interp(s_m, stations, np.arange(len(stations), dtype=np.float64))
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, len(stations) - 1)
        columns = np.arange(shape[-1])
        below, above = at[low, ..., columns], at[high, ..., columns]
        part = (place - low).reshape(-1, *[1] * (len(shape) - 1))
        return np.asarray(np.moveaxis(below + part * (above - below), 0, -1))

    return heights


def _refined(borders_at: Callable[[Array], Array], breaks: Array, where: str) -> Array:
    """Places from the breaks on, close enough for chords between them to be borders."""
    counts = np.maximum(np.ceil(np.diff(breaks) / STEP_M - 1e-9), 1).astype(np.int64)
    parts = [
        np.linspace(a, b, n, endpoint=False)
        for a, b, n in zip(breaks[:-1], breaks[1:], counts.tolist(), strict=True)
    ]
    s = np.concatenate([*parts, breaks[-1:]])
    probes = np.array([0.25, 0.5, 0.75])[:, None]
    open_ = np.ones(len(s) - 1, dtype=bool)
    while open_.any():
        if len(s) > MOST_SAMPLES:
            raise SceneError(
                f"it winds so much that {MOST_SAMPLES} points do not draw it", where=where,
                remedy="export the map again",
            )  # fmt: skip
        a, b = s[:-1][open_], s[1:][open_]
        at = a + probes * (b - a)
        ends = borders_at(np.stack([a, b]).ravel())
        if not np.abs(ends).max(initial=0.0) < FARTHEST_M:
            raise SceneError(
                f"a border lies {np.abs(ends).max():g} m from the origin", where=where,
                remedy="export the map again",
            )  # fmt: skip
        ends = ends.reshape(len(ends), 2, 1, len(a), 3)
        true = borders_at(at.ravel()).reshape(len(ends), 3, len(a), 3)
        chord = ends[:, 0] + probes[..., None] * (ends[:, 1] - ends[:, 0])
        off = np.linalg.norm(true - chord, axis=-1).max(axis=(0, 1))
        split = (off > CHORD_M) & (b - a > _SHORTEST_M)
        bad = np.zeros(len(open_), dtype=bool)
        bad[np.flatnonzero(open_)[split]] = True
        s, open_ = _halved(s, bad)
    return s


def _halved(s: Array, bad: Array) -> tuple[Array, Array]:
    """Places with the middles of bad intervals, and which intervals are new."""
    middles = (s[:-1][bad] + s[1:][bad]) / 2
    where = np.flatnonzero(bad)
    new = np.zeros(len(s) - 1, dtype=bool)
    new[where] = True
    repeats = np.where(bad, 2, 1)
    return np.insert(s, where + 1, middles), np.repeat(new, repeats)
