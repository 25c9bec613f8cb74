"""Scenes: what was recorded or authored, as immutable data.

Everything is in the scene's `local` frame: metric, z up, its origin at the ego's first
recorded pose rounded to 1 m. `Scene.dataset_to_local` keeps the exact way back.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion, Mask, Times, Trajectory


class ActorClass(Enum):
    """Classes of actors; the values are those of the video model's wire protocol."""

    CAR = 1
    TRUCK = 2
    PEDESTRIAN = 3
    CYCLIST = 4
    OTHER = 5


@dataclass(frozen=True, eq=False)
class Actor:
    """What stays the same about an actor.

    Attributes:
        id: Unique in the scene.
        actor_class: Class of the wire protocols.
        label: The dataset's own class name.
        size_m: ``(3,)`` length, width, height of its box.
        is_static: It never moves in the recording; chunked video renderers skip it.
        is_scripted: Its motion was authored; reactive traffic leaves it as it is.
    """

    id: str
    actor_class: ActorClass
    label: str
    size_m: Array
    is_static: bool = False
    is_scripted: bool = False


@dataclass(frozen=True)
class Vehicle:
    """The ego vehicle's box and wheelbase.

    The defaults are AlpaSim's ego: box 5.393 x 2.109 x 1.503 m whose rear face lies
    1.3 m behind the rig origin (AlpaSim's x_offset), wheelbase 2.85 m.
    """

    length_m: float = 5.393
    width_m: float = 2.109
    height_m: float = 1.503
    rear_axle_to_center_m: float = 1.3965
    wheelbase_m: float = 2.85

    @property
    def size_m(self) -> Array:
        """``(3,)`` length, width, height."""
        return np.array([self.length_m, self.width_m, self.height_m])

    @property
    def rig_to_aabb(self) -> Array:
        """``(7,)`` pose of the box centre in the rig."""
        return geometry.pose(self.rear_axle_to_center_m, 0.0, self.height_m / 2)


@dataclass(frozen=True, eq=False)
class Track:
    """The recorded motion of an actor, gaps included.

    Attributes:
        times_us: ``(N,)`` strictly increasing.
        local_to_aabb: ``(N, 7)`` poses of the box centre.
        valid: ``(N,)``; where False the actor was not observed. Between two samples the
            actor exists only if both are valid.
    """

    actor: Actor
    times_us: Times
    local_to_aabb: Array
    valid: Mask

    def __post_init__(self) -> None:
        try:
            Trajectory(
                self.times_us, np.where(self.valid[:, None], self.local_to_aabb, geometry.IDENTITY)
            )
        except ValueError as error:
            raise SceneError(
                f"track cannot be used: {error}", where=f"track {self.actor.id}",
                remedy="mend the recording, or drop the track",
            ) from error  # fmt: skip

    @property
    def motion(self) -> ActorMotion:
        """The track as motion of one actor."""
        return ActorMotion(self.times_us, self.local_to_aabb[None], self.valid[None])

    def at(self, query_us: Times) -> tuple[Array, Mask]:
        """Poses ``(K, 7)`` and validity ``(K,)`` at any times; absent outside the track."""
        query = np.atleast_1d(np.asarray(query_us, dtype=np.int64))
        if len(self.times_us) == 0:
            return np.tile(geometry.IDENTITY, (len(query), 1)), np.zeros(len(query), dtype=bool)
        inside = (query >= self.times_us[0]) & (query <= self.times_us[-1])
        out = self.motion.sample(np.clip(query, self.times_us[0], self.times_us[-1]))
        return out.local_to_aabb[0], out.valid[0] & inside


class MarkStyle(Enum):
    """Line styles of ClipGT lane lines and of the world-scenario map."""

    SOLID_SINGLE = "SOLID_SINGLE"
    SOLID_GROUP = "SOLID_GROUP"
    DASHED_SINGLE = "DASHED_SINGLE"
    LONG_DASHED_SINGLE = "LONG_DASHED_SINGLE"
    SHORT_DASHED_SINGLE = "SHORT_DASHED_SINGLE"
    DASHED_GROUP = "DASHED_GROUP"
    SOLID_DASHED = "SOLID_DASHED"
    DASHED_SOLID = "DASHED_SOLID"
    NONE = "NONE"


class MarkColor(Enum):
    """Colours of lane lines."""

    WHITE = "WHITE"
    YELLOW = "YELLOW"
    BLUE = "BLUE"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, eq=False)
class LaneLine:
    """A painted line: ``(N, 3)`` points, style and colour."""

    id: str
    points: Array
    style: MarkStyle = MarkStyle.SOLID_SINGLE
    color: MarkColor = MarkColor.WHITE


@dataclass(frozen=True, eq=False)
class Lane:
    """A lane.

    Attributes:
        centerline: ``(N, 3)`` along the driving direction.
        left: ``(M, 3)`` left boundary along the driving direction, or None if unknown.
        right: Likewise.
        polygon: ``(P, 3)`` outline without a repeated end, or None if the map has none.
        kind: "vehicle", "bus", "bike" or the dataset's own word.
        in_intersection: Whether it lies in an intersection.
        speed_limit_mps: None if unknown.
        left_line, right_line: Ids of lane lines, None if unmarked or unknown.
        left_lane, right_lane: Neighbours in the same direction.
    """

    id: str
    centerline: Array
    left: Array | None = None
    right: Array | None = None
    polygon: Array | None = None
    kind: str = "vehicle"
    in_intersection: bool = False
    speed_limit_mps: float | None = None
    successors: tuple[str, ...] = ()
    predecessors: tuple[str, ...] = ()
    left_lane: str | None = None
    right_lane: str | None = None
    left_line: str | None = None
    right_line: str | None = None


@dataclass(frozen=True, eq=False)
class Polyline:
    """An element of the map that is a line ``(N, 3)``: a road boundary, a stop line."""

    id: str
    points: Array
    lanes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Area:
    """An element of the map that is a polygon ``(N, 3)`` with holes; no repeated end."""

    id: str
    outline: Array
    holes: tuple[Array, ...] = ()


@dataclass(frozen=True, eq=False)
class TrafficSign:
    """A sign: pose of its face's centre, size ``(3,)``, kind and the lanes it rules."""

    id: str
    local_to_sign: Array
    size_m: Array
    kind: str
    lanes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TrafficLight:
    """A traffic light with its states over time, if known.

    Attributes:
        times_us: ``(N,)`` instants from which `states` hold; empty if unknown.
        states: "red", "yellow", "green", "red_yellow" or "off", one per time.
    """

    id: str
    local_to_light: Array
    size_m: Array
    lanes: tuple[str, ...] = ()
    times_us: Times = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    states: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class MapFeature:
    """An element that other parts of the map have no place for.

    Attributes:
        kind: The name of its ClipGT table: "pole", "road_marking", "intersection_area",
            "road_island", "gore_area" or "buffer_zone".
        points: ``(N, 3)``; the outline of an area has no repeated end, a pole is one point
            on the ground or a line up.
        category: The dataset's own word; may be empty.
    """

    id: str
    kind: str
    points: Array
    category: str = ""


@dataclass(frozen=True, eq=False)
class VectorMap:
    """A vector map; every part may be empty."""

    lanes: tuple[Lane, ...] = ()
    lane_lines: tuple[LaneLine, ...] = ()
    road_boundaries: tuple[Polyline, ...] = ()
    drivable_areas: tuple[Area, ...] = ()
    crosswalks: tuple[Area, ...] = ()
    stop_lines: tuple[Polyline, ...] = ()
    signs: tuple[TrafficSign, ...] = ()
    lights: tuple[TrafficLight, ...] = ()
    features: tuple[MapFeature, ...] = ()

    @functools.cached_property
    def lane_by_id(self) -> dict[str, Lane]:
        """Lanes by their ids."""
        return {lane.id: lane for lane in self.lanes}


@dataclass(frozen=True, eq=False)
class HeightRaster:
    """Ground heights on a grid.

    Attributes:
        heights_m: ``(H, W)`` height (local z) at each cell's centre; NaN where unknown.
        local_xy_to_cell: ``(2, 3)`` affine map of ``[x, y, 1]`` to ``[column, row]``,
            integer at the cell's centre.
    """

    heights_m: Array
    local_xy_to_cell: Array


@dataclass(frozen=True, eq=False)
class FirstFrame:
    """A recorded image of a camera: the seed of a video model."""

    camera_id: str
    capture_us: int
    image: bytes


@dataclass(frozen=True, eq=False)
class Scene:
    """What was recorded or authored.

    Attributes:
        id: Unique among the scenes of a run; used as a folder name.
        source: The reader's name: "embedded", "av2", "nuscenes", ...
        ego: Recorded ``local_to_rig`` poses; its range is the scene's time range.
        vehicle: The ego vehicle.
        tracks: Other actors, in a fixed order.
        map: The vector map.
        cameras: The rig's cameras; may be empty.
        first_frames: Recorded images to start a video model from.
        prompt: Text for a video model.
        ground: Ground heights, if known.
        dataset_to_local: ``(4, 4)`` exact float64 pose of `local` in the dataset's frame.
        may_run_on: Whether a rollout may go on after the recording ends.
        tags: Words to filter by.
        edits: What was changed since the recording, one line each, in order.
    """

    id: str
    source: str
    ego: Trajectory
    vehicle: Vehicle = Vehicle()
    tracks: tuple[Track, ...] = ()
    map: VectorMap = VectorMap()
    cameras: tuple[Camera, ...] = ()
    first_frames: tuple[FirstFrame, ...] = ()
    prompt: str = ""
    ground: HeightRaster | None = None
    dataset_to_local: Array = field(default_factory=lambda: np.eye(4))
    may_run_on: bool = False
    tags: tuple[str, ...] = ()
    edits: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Scene({self.id!r}, {self.source!r}, {len(self.tracks)} tracks)"

    @property
    def start_us(self) -> int:
        """Context start: the first recorded ego pose."""
        return self.ego.start_us

    @property
    def end_us(self) -> int:
        """The last recorded ego pose."""
        return self.ego.end_us

    @functools.cached_property
    def actors(self) -> tuple[Actor, ...]:
        """Who the other actors are, in the order of `tracks`."""
        return tuple(track.actor for track in self.tracks)

    @functools.cached_property
    def actor_sizes_m(self) -> Array:
        """``(A, 3)`` box sizes in the order of `tracks`."""
        return np.array([a.size_m for a in self.actors], dtype=np.float64).reshape(-1, 3)

    def recorded_actors(self, query_us: Times) -> ActorMotion:
        """Recorded motion of all actors at any times ``(K,)``."""
        query = np.atleast_1d(np.asarray(query_us, dtype=np.int64))
        poses = np.zeros((len(self.tracks), len(query), 7))
        valid = np.zeros((len(self.tracks), len(query)), dtype=bool)
        for i, track in enumerate(self.tracks):
            poses[i], valid[i] = track.at(query)
        poses[~valid] = geometry.IDENTITY
        return ActorMotion(query, poses, valid)
