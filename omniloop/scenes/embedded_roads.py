"""Roads of the embedded scenes: a cross-section swept along a line becomes a vector map.

Traffic keeps to the right. Offsets are metres to the left of the reference line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from omniloop.core import geometry
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
from omniloop.scenes.build import between_boundaries
from omniloop.scenes.embedded_paths import ReferenceLine

LANE_M = 3.5
SPACING_M = 2.0
"""Between points of curved lines; an arc of radius 60 m is then met within 1 cm."""


@dataclass(frozen=True)
class Mark:
    """A painted line at an offset."""

    offset_m: float
    style: MarkStyle
    color: MarkColor = MarkColor.WHITE


@dataclass(frozen=True)
class Strip:
    """A lane between two offsets; `ahead` if traffic moves along the reference line."""

    low_m: float
    high_m: float
    ahead: bool = True


@dataclass(frozen=True)
class CrossSection:
    """What a road looks like across.

    Attributes:
        strips: Lanes, from right to left.
        marks: Painted lines.
        edges_m: Offsets of the right and left ends of the drivable surface.
        speed_limit_mps: Of all its lanes.
    """

    strips: tuple[Strip, ...]
    marks: tuple[Mark, ...]
    edges_m: tuple[float, float]
    speed_limit_mps: float


def two_way(
    lanes_each_way: int, verge_m: float, speed_limit_mps: float, lane_m: float = LANE_M
) -> CrossSection:
    """A road with a double yellow line in the middle, dashes between lanes, solid edges."""
    n = lanes_each_way
    half = n * lane_m
    ahead = [Strip(-(k + 1) * lane_m, -k * lane_m, ahead=True) for k in reversed(range(n))]
    back = [Strip(k * lane_m, (k + 1) * lane_m, ahead=False) for k in range(n)]
    dashes = [
        Mark(side * k * lane_m, MarkStyle.DASHED_SINGLE) for k in range(1, n) for side in (-1, 1)
    ]
    marks = (
        Mark(0.0, MarkStyle.SOLID_GROUP, MarkColor.YELLOW), *dashes,
        Mark(-half, MarkStyle.SOLID_SINGLE), Mark(half, MarkStyle.SOLID_SINGLE),
    )  # fmt: skip
    edges = (-half - verge_m, half + verge_m)
    return CrossSection((*ahead, *back), marks, edges, speed_limit_mps)


def one_way(
    lanes: int, shoulders_m: tuple[float, float], speed_limit_mps: float, lane_m: float = LANE_M
) -> CrossSection:
    """A carriageway with its right edge line at offset 0; shoulders right and left."""
    strips = tuple(Strip(k * lane_m, (k + 1) * lane_m) for k in range(lanes))
    marks = (
        Mark(0.0, MarkStyle.SOLID_SINGLE),
        *(Mark(k * lane_m, MarkStyle.LONG_DASHED_SINGLE) for k in range(1, lanes)),
        Mark(lanes * lane_m, MarkStyle.SOLID_SINGLE, MarkColor.YELLOW),
    )
    edges = (-shoulders_m[0], lanes * lane_m + shoulders_m[1])
    return CrossSection(strips, marks, edges, speed_limit_mps)


@dataclass
class MapBuilder:
    """Collects the elements of a map; `done` returns it."""

    lanes: dict[str, Lane] = field(default_factory=dict)
    lane_lines: list[LaneLine] = field(default_factory=list)
    road_boundaries: list[Polyline] = field(default_factory=list)
    drivable_areas: list[Area] = field(default_factory=list)
    crosswalks: list[Area] = field(default_factory=list)
    stop_lines: list[Polyline] = field(default_factory=list)
    signs: list[TrafficSign] = field(default_factory=list)
    lights: list[TrafficLight] = field(default_factory=list)

    def road(
        self, name: str, line: ReferenceLine, section: CrossSection, cuts_m: Sequence[float]
    ) -> None:
        """Add a road along `line` whose lanes are cut into pieces at the arc lengths `cuts_m`.

        Lane ids are ``<name>_<strip>_<piece>``, strips counted from the right and pieces
        along the line, both from 0.
        """
        along = _samples(line, cuts_m[0], cuts_m[-1])
        for k, mark in enumerate(section.marks):
            self.lane_lines.append(
                LaneLine(
                    f"{name}_mark_{k}", line.points(along, mark.offset_m), mark.style, mark.color
                )
            )
        right, left = (line.points(along, edge) for edge in section.edges_m)
        self.road_boundaries += [Polyline(f"{name}_right", right), Polyline(f"{name}_left", left)]
        self.drivable_areas.append(Area(f"{name}_surface", between_boundaries(left, right)))
        for k, strip in enumerate(section.strips):
            for piece in range(len(cuts_m) - 1):
                self._lane(name, line, section, (k, strip), (piece, cuts_m))

    def _lane(
        self, name: str, line: ReferenceLine, section: CrossSection,
        place: tuple[int, Strip], piece: tuple[int, Sequence[float]],
    ) -> None:  # fmt: skip
        (k, strip), (i, cuts_m) = place, piece
        along = _samples(line, cuts_m[i], cuts_m[i + 1])
        if not strip.ahead:
            along = along[::-1]
        ends = (strip.high_m, strip.low_m) if strip.ahead else (strip.low_m, strip.high_m)
        left, right = (line.points(along, d) for d in ends)
        marks = {m.offset_m: f"{name}_mark_{j}" for j, m in enumerate(section.marks)}
        step = 1 if strip.ahead else -1

        def neighbour(to_left: int) -> str | None:
            j = k + to_left * step
            same = 0 <= j < len(section.strips) and section.strips[j].ahead == strip.ahead
            return f"{name}_{j}_{i}" if same else None

        def piece_id(j: int) -> tuple[str, ...]:
            return (f"{name}_{k}_{j}",) if 0 <= j < len(cuts_m) - 1 else ()

        lane_id = f"{name}_{k}_{i}"
        self.lanes[lane_id] = Lane(
            id=lane_id, left=left, right=right, polygon=between_boundaries(left, right),
            centerline=line.points(along, (strip.low_m + strip.high_m) / 2),
            speed_limit_mps=section.speed_limit_mps,
            successors=piece_id(i + step), predecessors=piece_id(i - step),
            left_lane=neighbour(1), right_lane=neighbour(-1),
            left_line=marks.get(ends[0]), right_line=marks.get(ends[1]),
        )  # fmt: skip

    def connector(
        self, lane_id: str, line: ReferenceLine, ends: tuple[str, str], speed_limit_mps: float
    ) -> None:
        """Add a lane through a junction, its centre on `line`, between two lanes."""
        along = _samples(line, 0.0, line.length_m)
        left, right = line.points(along, LANE_M / 2), line.points(along, -LANE_M / 2)
        self.lanes[lane_id] = Lane(
            id=lane_id, centerline=line.points(along, 0.0), left=left, right=right,
            polygon=between_boundaries(left, right), in_intersection=True,
            speed_limit_mps=speed_limit_mps, predecessors=(ends[0],), successors=(ends[1],),
        )  # fmt: skip
        self.link(ends[0], successor=lane_id)
        self.link(ends[1], predecessor=lane_id)

    def link(
        self, lane_id: str, *, successor: str | None = None, predecessor: str | None = None
    ) -> None:
        """Add a successor or a predecessor to a lane."""
        lane = self.lanes[lane_id]
        self.lanes[lane_id] = replace(
            lane,
            successors=lane.successors + ((successor,) if successor else ()),
            predecessors=lane.predecessors + ((predecessor,) if predecessor else ()),
        )

    def crosswalk(
        self, name: str, line: ReferenceLine, s_m: tuple[float, float], edges_m: tuple[float, float]
    ) -> None:
        """Add a crosswalk over the road from edge to edge."""
        right, left = (line.points(np.array(s_m), edge) for edge in edges_m)
        self.crosswalks.append(Area(name, np.array([right[0], right[1], left[1], left[0]])))

    def stop_line(
        self,
        name: str,
        line: ReferenceLine,
        s_m: float,
        ends_m: tuple[float, float],
        lanes: tuple[str, ...],
    ) -> None:
        """Add a stop line across a road between two offsets."""
        points = np.concatenate([line.points(np.array([s_m]), d) for d in ends_m])
        self.stop_lines.append(Polyline(name, points, lanes))

    def sign(self, name: str, local_to_sign: Array, kind: str, lanes: tuple[str, ...]) -> None:
        """Add a sign of 0.6 x 0.75 m."""
        size = np.array([0.05, 0.6, 0.75])
        self.signs.append(TrafficSign(name, local_to_sign, size, kind, lanes))

    def light(
        self,
        name: str,
        local_to_light: Array,
        lanes: tuple[str, ...],
        states: Sequence[tuple[int, str]],
    ) -> None:
        """Add a traffic light with its states ``(from_us, state)``."""
        self.lights.append(
            TrafficLight(
                name, local_to_light, np.array([0.3, 0.35, 1.0]), lanes,
                np.array([s[0] for s in states], dtype=np.int64), tuple(s[1] for s in states),
            )
        )  # fmt: skip

    def done(self) -> VectorMap:
        """The map."""
        return VectorMap(
            tuple(self.lanes.values()), tuple(self.lane_lines), tuple(self.road_boundaries),
            tuple(self.drivable_areas), tuple(self.crosswalks), tuple(self.stop_lines),
            tuple(self.signs), tuple(self.lights),
        )  # fmt: skip


def facing(line: ReferenceLine, s_m: float, offset_m: float, z_m: float) -> Array:
    """Pose of a sign or light whose x axis points against the line's direction."""
    xyz = line.points(np.array([s_m]), offset_m, z_m)[0]
    heading = float(line.at(np.array([s_m]))[1][0])
    return geometry.poses_from_xyz_yaw(xyz, geometry.wrap_rad(heading + np.pi))


def _samples(line: ReferenceLine, from_m: float, to_m: float) -> Array:
    """Arc lengths for drawing: every `SPACING_M`, sparser where the line is straight."""
    s = np.linspace(from_m, to_m, max(int(np.ceil((to_m - from_m) / SPACING_M)), 1) + 1)
    _, heading, _ = line.at(s)
    bends = np.abs(np.diff(heading)) > 1e-9
    keep = np.ones(len(s), dtype=bool)
    keep[1:-1] = bends[:-1] | bends[1:] | (np.arange(1, len(s) - 1) % 5 == 0)
    return s[keep]
