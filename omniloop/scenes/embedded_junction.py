"""The embedded scene of a four-way junction with traffic lights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.scene import Area, Polyline, Scene
from omniloop.core.time import US_PER_S
from omniloop.scenes.embedded_cast import CAR, TRUCK, VAN, Cast, beside, make_scene
from omniloop.scenes.embedded_paths import Drive, ReferenceLine, quarter_turn_knots, straight
from omniloop.scenes.embedded_roads import LANE_M, MapBuilder, facing, two_way

ARM_M = 130.0
BEFORE_M = 60.0
"""From where courses begin to the junction; who starts earlier starts before 0."""
ARMS = {"east": 0, "north": 1, "west": 2, "south": 3}
"""Arms by quarter turns of their outward direction from the x axis."""

States = tuple[tuple[int, str], ...]
_IN_M = LANE_M / 2


@dataclass(frozen=True)
class Crossroads:
    """A four-way junction of roads with one lane each way, with lights, stop lines, crosswalks.

    Attributes:
        center_xy: Its middle.
        turn_rad: By how much its arms are turned.
        half_m: From its middle to where its arms begin.
        edge_m: From the middle of a road to its kerb.
        limit_mps: Of all lanes.
        arm_m: Length of the arms.
    """

    center_xy: tuple[float, float]
    turn_rad: float = 0.0
    half_m: float = 10.0
    edge_m: float = 6.0
    limit_mps: float = 40 / 3.6
    arm_m: float = ARM_M

    def arm(self, quarter: int) -> ReferenceLine:
        """From the junction outward: incoming traffic is on its left."""
        heading = quarter * np.pi / 2 + self.turn_rad
        x = self.center_xy[0] + self.half_m * np.cos(heading)
        y = self.center_xy[1] + self.half_m * np.sin(heading)
        return straight(float(x), float(y), heading, self.arm_m)

    def course(self, origin: str, turn: str, before_m: float, after_m: float) -> ReferenceLine:
        """The line of who comes from an arm and goes "left", "right" or "straight"."""
        arm = self.arm(ARMS[origin])
        start = arm.points(np.array([before_m]), _IN_M)[0]
        heading = ARMS[origin] * np.pi / 2 + np.pi + self.turn_rad
        if turn == "straight":
            knots = [(0.0, 0.0), (2 * self.half_m, 0.0)]
        elif turn == "left":
            knots = quarter_turn_knots(self.half_m + _IN_M, 1)
        else:
            knots = quarter_turn_knots(self.half_m - _IN_M, -1)
        shifted = [(0.0, 0.0)] if before_m > 0 else []
        shifted += [(before_m + s, k) for s, k in knots]
        if after_m > 0:
            shifted.append((shifted[-1][0] + after_m, 0.0))
        return ReferenceLine.from_curvature(float(start[0]), float(start[1]), heading, shifted)

    def add_roads(self, roads: MapBuilder, main: States, across: States) -> None:
        """Add everything; `main` are the lights of north and south, `across` of the others."""
        section = two_way(1, self.edge_m - LANE_M, self.limit_mps)
        for name, quarter in ARMS.items():
            arm = self.arm(quarter)
            roads.road(name, arm, section, (0.0, 60.0, self.arm_m))
            edges = (-self.edge_m, self.edge_m)
            roads.crosswalk(f"{name}_crosswalk", arm, (2.0, 5.0), edges)
            roads.stop_line(f"{name}_stop", arm, 6.5, (0.0, LANE_M), (f"{name}_1_0",))
            inbound = arm.reversed()
            pose = facing(inbound, inbound.length_m - 5.8, -self.edge_m - 0.6, 3.2)
            states = main if quarter % 2 == 1 else across
            roads.light(f"{name}_light", pose, (f"{name}_1_0",), states)
        names = list(ARMS)
        for origin, quarter in ARMS.items():
            for turn, steps in (("right", 1), ("straight", 2), ("left", 3)):
                goal = names[(quarter + steps) % 4]
                course = self.course(origin, turn, 0.0, 0.0)
                ends = (f"{origin}_1_0", f"{goal}_0_0")
                roads.connector(f"{origin}_to_{goal}", course, ends, self.limit_mps)
        corners = [self._corner(quarter) for quarter in range(4)]
        roads.road_boundaries += [Polyline(f"corner_{k}", c) for k, c in enumerate(corners)]
        roads.drivable_areas.append(Area("junction_surface", np.concatenate(corners)))

    def _corner(self, quarter: int) -> Array:
        """The kerb from one arm to the next, counter-clockwise: an arc between their edges."""
        radius = self.half_m - self.edge_m
        angle = np.linspace(1.5 * np.pi, np.pi, 7)
        x, y = self.half_m + radius * np.cos(angle), self.half_m + radius * np.sin(angle)
        turn = quarter * np.pi / 2 + self.turn_rad
        c, s = np.cos(turn), np.sin(turn)
        xy = np.stack([c * x - s * y, s * x + c * y], axis=1) + np.array(self.center_xy)
        return np.concatenate([xy, np.zeros((len(xy), 1))], axis=1)


def junction() -> Scene:
    """Ego comes from the south on green, lets oncoming cars pass and turns left."""
    roads, cast = MapBuilder(), Cast(18 * US_PER_S)
    place = Crossroads((-2.0, 70.0))
    green = ((0, "green"), (15 * US_PER_S, "yellow"), (18 * US_PER_S, "red"))
    place.add_roads(roads, green, ((0, "red"),))
    for name, kind, way, start_s_m, speeds in (
        ("right_turner", CAR, "south right", 22.0, ((0.0, 9.5), (4.5, 4.2), (7.0, 4.2), (11.0, 10.0))),
        ("follower", CAR, "south straight", -28.0, ((4.0, 10.0), (9.0, 3.0), (11.5, 3.0), (16.0, 9.5))),
        ("oncoming_right", CAR, "north right", 48.0, ((0.0, 6.0), (2.0, 4.2), (4.0, 4.5), (8.0, 10.0))),
        ("oncoming_1", VAN, "north straight", 0.0, ((0.0, 10.0),)),
        ("oncoming_2", CAR, "north straight", -21.0, ((0.0, 10.0),)),
        ("oncoming_3", TRUCK, "north straight", -66.0, ((0.0, 8.0), (6.0, 8.0), (12.0, 3.5))),
        ("waiting_east", CAR, "east straight", 16.0, ((0.0, 7.0), (9.5, 0.0))),
        ("waiting_east_2", VAN, "east straight", -8.0, ((0.0, 9.0), (11.0, 0.0))),
        ("waiting_west", CAR, "west straight", 22.0, ((0.0, 7.0), (7.8, 0.0))),
    ):  # fmt: skip
        origin, turn = way.split()
        cast.drive(
            name, kind, Drive(place.course(origin, turn, BEFORE_M, 100.0), start_s_m, speeds)
        )
    x, y = place.center_xy
    cast.walk(
        "crossing_east",
        ((x + 13.5, y - 20.0), (x + 13.5, y + 40.0)),
        ((0.0, 1.2), (6.0, 1.2), (7.0, 1.5)),
    )
    cast.walk("crossing_west", ((x - 13.0, y + 5.0), (x - 13.0, y - 40.0)), ((0.0, 1.5),))
    cast.walk("walker", ((x + 7.5, y - 60.0), (x + 7.5, y - 20.0)), ((0.0, 1.3),))
    for k, (name, s, side) in enumerate(
        (("south", 28.0, 1), ("south", 35.0, 1), ("south", 42.0, -1), ("north", 30.0, -1), ("north", 37.0, 1),
         ("east", 26.0, 1), ("east", 33.0, -1), ("west", 27.0, -1), ("west", 34.0, -1), ("west", 30.0, 1))
    ):  # fmt: skip
        cast.park(f"parked_{k}", CAR, beside(place.arm(ARMS[name]), s, 4.85 * side, ahead=side < 0))
    ego = Drive(
        place.course("south", "left", BEFORE_M, 100.0), 0.0,
        ((0.0, 10.0), (3.0, 10.0), (7.5, 2.0), (9.0, 2.0), (12.5, 4.6), (14.0, 4.8), (18.0, 9.0)),
    )  # fmt: skip
    prompt = "A four-way city junction with traffic lights in the late afternoon, pedestrians at the crossings."
    return make_scene(
        "junction", roads, cast, ego, (prompt, ("urban", "junction", "traffic_light", "left_turn"))
    )
