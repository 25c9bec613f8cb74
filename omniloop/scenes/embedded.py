"""Scenes that come with the package: written as code, the same on every machine.

Each lasts 15 to 20 s on flat ground (z = 0), with actors at 10 Hz, ego at 50 Hz and one
forward camera. Recorded ego keeps its lane, brakes gently and touches nobody.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from omniloop.core.errors import SceneError
from omniloop.core.scene import Scene
from omniloop.core.time import US_PER_S, seconds_to_us
from omniloop.scenes.build import unknown_scene
from omniloop.scenes.embedded_cast import BUS, CAR, CYCLIST, TRUCK, VAN, Cast, beside, make_scene
from omniloop.scenes.embedded_junction import junction
from omniloop.scenes.embedded_paths import Drive, ReferenceLine, straight
from omniloop.scenes.embedded_roads import LANE_M, MapBuilder, facing, one_way, two_way
from omniloop.scenes.embedded_urban import crossing_pedestrian, stopped_lead


def straight_road() -> Scene:
    """Two lanes each way, 50 km/h: ego follows a car, others pass and come towards it."""
    line = straight(-80.0, 5.0, 0.0, 420.0)
    roads, cast = MapBuilder(), Cast(16 * US_PER_S)
    roads.road("road", line, two_way(2, 2.5, 50 / 3.6), (0.0, 140.0, 280.0, 420.0))
    limit = facing(line, 125.0, -10.3, 2.3)
    roads.sign("limit_50", limit, "speed_limit_50_kph", ("road_0_0", "road_1_0"))
    right, left, back = ((0.0, -5.25),), ((0.0, -1.75),), line.reversed()
    cast.drive("lead", CAR, Drive(line, 112.0, ((0.0, 12.0), (6.0, 12.5), (10.0, 11.8)), right))
    cast.drive("passing_van", VAN, Drive(line, 58.0, ((0.0, 14.0),), left))
    cast.drive("slow_truck", TRUCK, Drive(line, 170.0, ((0.0, 11.0),), left))
    cast.drive("follower", CAR, Drive(line, 50.0, ((0.0, 11.0), (5.0, 12.0)), right))
    for name, kind, s, v, lane in (
        ("oncoming_1", CAR, 80.0, 13.0, left), ("oncoming_2", CAR, 145.0, 12.5, right),
        ("oncoming_bus", BUS, 190.0, 11.5, right), ("oncoming_3", VAN, 0.0, 13.0, left),
    ):  # fmt: skip
        cast.drive(name, kind, Drive(back, s, ((0.0, v),), lane))
    for k, s in enumerate((104.0, 111.0, 151.0, 158.0, 165.0, 211.0, 270.0, 278.0)):
        cast.park(f"parked_right_{k}", VAN if k % 4 == 2 else CAR, beside(line, s, -8.3))
    for k, s in enumerate((90.0, 126.0, 171.0, 178.0, 236.0, 260.0)):
        cast.park(f"parked_left_{k}", VAN if k == 3 else CAR, beside(line, s, 8.3, ahead=False))
    cast.walk("walker", ((62.0, -5.6), (110.0, -5.6)), ((0.0, 1.3),))
    ego = Drive(line, 80.0, ((0.0, 11.0), (5.0, 12.3), (12.0, 12.0)), right)
    prompt = "A wide straight city street in daylight, light traffic, cars parked along both sides."
    return make_scene("straight_road", roads, cast, ego, (prompt, ("urban", "straight")))


def curve() -> Scene:
    """One lane each way through a left bend of 55 m and a right bend of 80 m radius."""
    knots = (
        (0.0, 0.0), (60.0, 0.0), (85.0, 1 / 55), (130.0, 1 / 55), (155.0, 0.0), (175.0, 0.0),
        (200.0, -1 / 80), (250.0, -1 / 80), (275.0, 0.0), (340.0, 0.0),
    )  # fmt: skip
    line = ReferenceLine.from_curvature(-40.0, 2.0, 0.0, knots)
    roads, cast = MapBuilder(), Cast(17 * US_PER_S)
    roads.road("road", line, two_way(1, 2.5, 50 / 3.6), (0.0, 70.0, 165.0, 260.0, 340.0))
    bend = facing(line, 62.0, -6.8, 2.3)
    roads.sign("bend_ahead", bend, "warning_bend_left", ("road_0_0",))
    lane, back = ((0.0, -1.75),), line.reversed()
    cast.drive(
        "lead", CAR, Drive(line, 70.0, ((0.0, 12.0), (3.0, 9.3), (12.0, 9.6), (16.0, 12.0)), lane)
    )
    cast.drive("oncoming_1", CAR, Drive(back, 110.0, ((0.0, 9.5), (10.0, 9.5), (15.0, 12.0)), lane))
    cast.drive("oncoming_truck", TRUCK, Drive(back, 60.0, ((0.0, 9.0),), lane))
    cast.drive("oncoming_2", CAR, Drive(back, 10.0, ((0.0, 10.0), (4.0, 9.0)), lane))
    cast.drive("cyclist", CYCLIST, Drive(line, 150.0, ((0.0, 4.5),), ((0.0, -4.7),)))
    for k, (s, side) in enumerate(
        ((20.0, -1), (28.0, -1), (66.0, -1), (92.0, 1), (166.0, 1), (280.0, -1))
    ):
        cast.park(
            f"parked_{k}", VAN if k == 2 else CAR, beside(line, s, 4.85 * side, ahead=side < 0)
        )
    ego = Drive(line, 40.0, ((0.0, 12.5), (4.5, 9.2), (13.0, 9.5), (17.0, 12.0)), lane)
    prompt = "A winding two-lane suburban road in soft morning light, trees on both sides."
    return make_scene("curve", roads, cast, ego, (prompt, ("suburban", "curve")))


def cut_in() -> Scene:
    """Three lanes of a motorway: a car cuts in 6 m ahead of ego and slows; ego gives way."""
    line, other = straight(-150.0, -5.0, 0.0, 700.0), straight(550.0, 22.0, np.pi, 700.0)
    roads, cast = MapBuilder(), Cast(16 * US_PER_S)
    section = one_way(3, (3.0, 1.0), 100 / 3.6)
    for name, course in (("road", line), ("other", other)):
        roads.road(name, course, section, (0.0, 200.0, 400.0, 550.0, 700.0))
    right, middle, left = (((0.0, (k + 0.5) * LANE_M),) for k in range(3))
    change = ((192.0, left[0][1]), (262.0, middle[0][1]))
    cast.drive("cutting_in", CAR, Drive(line, 151.0, ((2.0, 25.5), (6.5, 18.5)), change))
    cast.drive("lead", VAN, Drive(line, 240.0, ((0.0, 20.0),), middle))
    cast.drive("follower", CAR, Drive(line, 112.0, ((4.2, 22.0), (8.5, 17.4)), middle))
    cast.drive("truck_1", TRUCK, Drive(line, 185.0, ((0.0, 19.5),), right))
    cast.drive("truck_2", TRUCK, Drive(line, 222.0, ((0.0, 19.5),), right))
    cast.drive("right_car", CAR, Drive(line, 128.0, ((0.0, 20.0),), right))
    cast.drive("left_car", CAR, Drive(line, 105.0, ((0.0, 25.0),), left))
    cast.drive("far_left", CAR, Drive(line, 260.0, ((0.0, 27.0),), left))
    cast.park("breakdown", VAN, beside(line, 390.0, -1.6))
    for k, (lane, s, v) in enumerate(
        ((middle, 60.0, 26.0), (right, 130.0, 22.0), (left, 190.0, 29.0), (middle, 260.0, 25.0),
         (right, 330.0, 21.0), (left, 20.0, 29.0), (right, 20.0, 22.5), (middle, 5.0, 26.0))
    ):  # fmt: skip
        kind = TRUCK if lane is right else CAR
        cast.drive(f"oncoming_{k}", kind, Drive(other, s, ((0.0, v),), lane))
    late = Drive(other, -75.0, ((0.0, 29.5),), left)
    cast.drive("oncoming_late", CAR, late, seen_us=(5 * US_PER_S, 16 * US_PER_S))
    ego = Drive(line, 150.0, ((2.8, 22.0), (7.5, 17.0), (11.0, 17.8), (15.0, 18.4)), middle)
    prompt = "A three-lane motorway at noon under a clear sky, moderate traffic and lorries."
    return make_scene("cut_in", roads, cast, ego, (prompt, ("motorway", "cut_in")))


def synthetic_scene(n_actors: int, duration_s: float) -> Scene:
    """A straight road of five lanes with `n_actors` moving cars, for measuring speed.

    All of a lane move at one speed, so that nobody meets anybody; ego is in the middle lane.

    Raises:
        SceneError: `n_actors` is negative or `duration_s` is not positive.
    """
    if n_actors < 0 or not duration_s > 0:
        raise SceneError(
            f"{n_actors} actors for {duration_s} s",
            where="synthetic_scene", remedy="give 0 or more actors and more than 0 s",
        )  # fmt: skip
    lanes, gap_m, cast = 5, 20.0, Cast(seconds_to_us(duration_s))
    rows = -(-n_actors // lanes) // 2 + 1
    behind_m = rows * gap_m + 50.0
    length_m = float(np.ceil((2 * behind_m + 16.0 * duration_s) / 100.0) * 100.0)
    line = straight(-behind_m, -2.5 * LANE_M, 0.0, length_m)
    roads = MapBuilder()
    cuts = np.arange(0.0, length_m + 1.0, 100.0).tolist()
    roads.road("road", line, one_way(lanes, (3.0, 1.0), 60 / 3.6), cuts)
    speeds = (13.0, 14.0, 15.0, 15.5, 16.0)
    slots = [
        (row, lane)
        for distance in range(rows + 1)
        for row in sorted({distance, -distance}, reverse=True)
        for lane in range(lanes)
        if (row, lane) != (0, 2)
    ]
    for k, (row, lane) in enumerate(slots[:n_actors]):
        offset = ((0.0, (lane + 0.5) * LANE_M),)
        cast.drive(
            f"car_{k}", CAR, Drive(line, behind_m + row * gap_m, ((0.0, speeds[lane]),), offset)
        )
    ego = Drive(line, behind_m, ((0.0, speeds[2]),), ((0.0, 2.5 * LANE_M),))
    name = f"synthetic_{n_actors}_actors"
    return make_scene(name, roads, cast, ego, ("A straight road in daylight.", ("synthetic",)))


_SCENES: dict[str, Callable[[], Scene]] = {
    "crossing_pedestrian": crossing_pedestrian,
    "curve": curve,
    "cut_in": cut_in,
    "junction": junction,
    "stopped_lead": stopped_lead,
    "straight_road": straight_road,
}


class EmbeddedScenes:
    """The scenes that come with the package.

    Args:
        path: Must be left out: they are on no disk.

    Raises:
        SceneError: a path is given.
    """

    def __init__(self, path: str | None = None) -> None:
        if path is not None:
            raise SceneError(
                "the embedded scenes are in the package and have no path",
                where=f"scenes.path={path}",
                remedy="leave scenes.path out, or choose the source of that data with scenes=NAME",
            )

    def ids(self) -> list[str]:
        """Names of the scenes, sorted."""
        return sorted(_SCENES)

    def load(self, scene_id: str) -> Scene:
        """Make one scene.

        Raises:
            SceneError: there is no such scene.
        """
        if scene_id not in _SCENES:
            raise unknown_scene(scene_id, _SCENES, "embedded scenes", "")
        return _SCENES[scene_id]()
