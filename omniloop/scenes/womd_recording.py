"""A scenario of the Waymo Open Motion Dataset, whichever form it was read from.

All positions are in the dataset's frame: metric, z up.
"""

from __future__ import annotations

from dataclasses import dataclass

from omniloop.core.geometry import Array
from omniloop.core.motion import Mask, Times
from omniloop.core.scene import Area, LaneLine, MarkColor, MarkStyle, Polyline

LINE_TYPES = (
    (MarkStyle.SOLID_SINGLE, MarkColor.UNKNOWN),
    (MarkStyle.DASHED_SINGLE, MarkColor.WHITE),
    (MarkStyle.SOLID_SINGLE, MarkColor.WHITE),
    (MarkStyle.SOLID_GROUP, MarkColor.WHITE),
    (MarkStyle.DASHED_SINGLE, MarkColor.YELLOW),
    (MarkStyle.DASHED_GROUP, MarkColor.YELLOW),
    (MarkStyle.SOLID_SINGLE, MarkColor.YELLOW),
    (MarkStyle.SOLID_GROUP, MarkColor.YELLOW),
    (MarkStyle.SOLID_DASHED, MarkColor.YELLOW),
)
"""By the number of the dataset's RoadLineType, from TYPE_UNKNOWN to TYPE_PASSING_DOUBLE_YELLOW."""

BIKE_LANE = 3
"""Of the dataset's LaneType; undefined, freeway and surface street are driven by vehicles."""


@dataclass(frozen=True, eq=False)
class RecordedObject:
    """An object with its states at the recording's times.

    Attributes:
        id: Unique in the scenario.
        kind: "vehicle", "pedestrian", "cyclist", "other", "unset".
        size_m: ``(T, 3)`` length, width, height; height 0 where it is not recorded.
        centers: ``(T, 3)`` box centres; z is 0 throughout in a recording without heights.
        heading_rad: ``(T,)``.
        valid: ``(T,)``; where False the other arrays hold anything.
    """

    id: str
    kind: str
    size_m: Array
    centers: Array
    heading_rad: Array
    valid: Mask


@dataclass(frozen=True)
class Stretch:
    """What is beside a lane from one of its points to another, both included."""

    start: int
    end: int
    feature: str


@dataclass(frozen=True, eq=False)
class LaneFeature:
    """A lane's centre line ``(N, 3)`` and what the dataset says of it.

    Attributes:
        entries, exits: Ids of the lanes before and after it; None if the form has none.
        left_boundaries, right_boundaries: Road lines and road edges along its sides.
        left_neighbors, right_neighbors: Lanes of the same direction beside it.
    """

    id: str
    points: Array
    is_bike_lane: bool = False
    speed_limit_mps: float | None = None
    interpolating: bool = False
    entries: tuple[str, ...] | None = None
    exits: tuple[str, ...] | None = None
    left_boundaries: tuple[Stretch, ...] = ()
    right_boundaries: tuple[Stretch, ...] = ()
    left_neighbors: tuple[Stretch, ...] = ()
    right_neighbors: tuple[Stretch, ...] = ()


@dataclass(frozen=True, eq=False)
class StopSignFeature:
    """A stop sign: position ``(3,)`` and the lanes it rules."""

    id: str
    position: Array
    lanes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SignalState:
    """What the signal of a lane showed at one step.

    Attributes:
        step: Index into the recording's times.
        state: A light's state of `omniloop.core.scene.TrafficLight`; "off" if it is flashing
            or was not made out.
        stop: ``(3,)`` where vehicles must stop; None if it is not recorded.
    """

    step: int
    lane: str
    state: str
    stop: Array | None


@dataclass(frozen=True, eq=False)
class MapFeatures:
    """The static map; every part may be empty."""

    lanes: tuple[LaneFeature, ...] = ()
    lines: tuple[LaneLine, ...] = ()
    edges: tuple[Polyline, ...] = ()
    crosswalks: tuple[Area, ...] = ()
    stop_signs: tuple[StopSignFeature, ...] = ()


@dataclass(frozen=True, eq=False)
class Recording:
    """A scenario.

    Attributes:
        where: File and record, for errors.
        times_us: ``(T,)`` strictly increasing.
        ego: Index into `objects`; None if the form does not say who recorded.
        planar: It has no heights: everything lies at z = 0.
        notes: Words on how it was read, for the scene's tags.
    """

    where: str
    times_us: Times
    objects: tuple[RecordedObject, ...]
    ego: int | None
    map: MapFeatures
    signals: tuple[SignalState, ...]
    planar: bool = False
    notes: tuple[str, ...] = ()
