"""Obstacles of a CommonRoad scenario: boxes, classes and recorded states.

States are at the box's centre. Headings are taken as recorded; in the NGSIM scenarios they
are the direction from each position to the next, so they carry the noise of positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from omniloop.core import geometry
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Times
from omniloop.core.scene import ActorClass, Track
from omniloop.scenes.bounds import name_of
from omniloop.scenes.build import make_track, to_local
from omniloop.scenes.commonroad_xml import child, exact_or_middle, id_of, number, point, points

_KINDS: dict[str, tuple[ActorClass, float]] = {
    "car": (ActorClass.CAR, 1.5),
    "taxi": (ActorClass.CAR, 1.5),
    "priorityVehicle": (ActorClass.CAR, 2.2),
    "parkedVehicle": (ActorClass.CAR, 1.5),
    "truck": (ActorClass.TRUCK, 3.5),
    "bus": (ActorClass.TRUCK, 3.2),
    "train": (ActorClass.OTHER, 3.8),
    "motorcycle": (ActorClass.CYCLIST, 1.6),
    "bicycle": (ActorClass.CYCLIST, 1.7),
    "pedestrian": (ActorClass.PEDESTRIAN, 1.75),
}
"""CommonRoad's type to class and height [m]; the format has no heights."""

_OTHER = (ActorClass.OTHER, 1.5)
_RIDDEN = ("car", "taxi", "priorityVehicle", "truck", "bus")


@dataclass(frozen=True, eq=False)
class Obstacle:
    """An obstacle with its states.

    Attributes:
        id: The file's number.
        label: CommonRoad's type.
        size_m: ``(3,)``.
        steps: ``(N,)`` time steps, as in the file.
        aabb: ``(N, 7)`` box centres in the file's frame, half a height above its ground.
        moves: Whether it is a dynamic obstacle.
    """

    id: str
    label: str
    size_m: Array
    steps: Times
    aabb: Array
    moves: bool

    @property
    def actor_class(self) -> ActorClass:
        """Class of the wire protocols."""
        return _KINDS.get(self.label, _OTHER)[0]

    @property
    def can_be_ego(self) -> bool:
        """Whether it is a car, a truck or a bus that was recorded moving."""
        return self.moves and self.label in _RIDDEN

    @property
    def lifetime_steps(self) -> int:
        """From its first to its last state."""
        return int(self.steps.max() - self.steps.min())


def read_obstacle(element: Element, where: str) -> Obstacle:
    """Read a ``dynamicObstacle`` or ``staticObstacle``.

    Of an occupancy set, which has no states, the initial state alone is used.

    Raises:
        SceneError: the shape or a state lacks something or is not finite.
    """
    name = id_of(element, where)
    place = f"{where}, {element.tag} {name}"
    label = name_of(child(element, "type", place).text or "unknown", "type", place)
    height_m = _KINDS.get(label, _OTHER)[1]
    length_m, width_m, center = _box(child(element, "shape", place), place)
    states = [child(element, "initialState", place), *element.findall("trajectory/state")]
    rows = np.array([_state(state, place) for state in states])
    poses = geometry.poses_from_xyz_yaw(rows[:, 1:4], rows[:, 4])
    box = geometry.compose(poses, geometry.pose(center[0], center[1], height_m / 2))
    if rows[:, 0].min() < 0:
        raise SceneError(
            f"a time step is {rows[:, 0].min():g}", where=place, remedy="count them from 0"
        )
    steps = np.floor(rows[:, 0]).astype(np.int64)
    size = np.array([length_m, width_m, height_m])
    return Obstacle(name, label, size, steps, box, element.tag == "dynamicObstacle")


def as_track(obstacle: Obstacle, clock: tuple[int, int], origin_m: Array, where: str) -> Track:
    """The obstacle's track in `local`; a static one stands from step 0 to the last.

    Args:
        clock: Length of a time step [us], and the last step of the scenario.
        origin_m: ``(3,)`` origin of `local` in the file's frame.

    Raises:
        SceneError: its steps are not increasing, or its box has no size.
    """
    step_us, last_step = clock
    steps, poses = obstacle.steps, to_local(obstacle.aabb, origin_m)
    if not obstacle.moves:
        steps = np.arange(0, last_step + 1)
        poses = np.tile(poses[0], (len(steps), 1))
    times = steps * step_us
    grid = np.arange(int(times.min()), int(times.max()) + 1, step_us, dtype=np.int64)
    return make_track(
        obstacle.id, obstacle.actor_class, label=obstacle.label, size_m=obstacle.size_m,
        times_us=times, local_to_aabb=poses, grid_us=grid, where=where,
        is_static=None if obstacle.moves else True,
    )  # fmt: skip


def _state(state: Element, where: str) -> tuple[float, ...]:
    """Step, x, y, z, heading of a state."""
    step = exact_or_middle(state, "time", where)
    place = f"{where}, time step {step:g}"
    at = state.find("position/point")
    xyz = (
        point(at, place)
        if at is not None
        else _region_center(child(state, "position", place), place)
    )
    return (step, *xyz, exact_or_middle(state, "orientation", place))


def _region_center(position: Element, where: str) -> tuple[float, float, float]:
    """Middle of an uncertain position."""
    region = next(iter(position), None)
    if region is not None and region.find("center") is not None:
        return point(child(region, "center", where), where)
    corners = points(region, where) if region is not None else np.zeros((0, 3))
    if len(corners) == 0:
        raise SceneError(
            "position is neither a point nor a rectangle, circle or polygon with a place",
            where=where, remedy="give exact positions",
        )  # fmt: skip
    x, y, z = corners.mean(axis=0)
    return float(x), float(y), float(z)


def _extent(part: Element, name: str, where: str) -> float:
    found = number(part.findtext(name), name, where)
    if found < 0:
        raise SceneError(f"{name} is {found:g}", where=where, remedy="give a positive one")
    return found


def _box(shape: Element, where: str) -> tuple[float, float, tuple[float, float]]:
    """Length, width and centre, in the obstacle's frame, of the box around a shape."""
    corners = []
    for part in shape:
        middle = part.find("center")
        x, y, _ = point(middle, where) if middle is not None else (0.0, 0.0, 0.0)
        if part.tag == "rectangle":
            half_length = _extent(part, "length", where) / 2
            half_width = _extent(part, "width", where) / 2
            turn = number(part.findtext("orientation", "0"), "orientation", where)
            c, s = math.cos(turn), math.sin(turn)
            for u, v in ((half_length, half_width), (half_length, -half_width)):
                corners += [
                    (x + c * u - s * v, y + s * u + c * v),
                    (x - c * u + s * v, y - s * u - c * v),
                ]
        elif part.tag == "circle":
            radius = _extent(part, "radius", where)
            corners += [(x - radius, y - radius), (x + radius, y + radius)]
        elif part.tag == "polygon":
            corners += [(float(p[0]), float(p[1])) for p in points(part, where)]
    if not corners:
        raise SceneError(
            "shape has no rectangle, circle or polygon", where=where, remedy="mend the file"
        )
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    (length_m, width_m), (cx, cy) = high - low, (high + low) / 2
    return float(length_m), float(width_m), (float(cx), float(cy))
