"""Embedded scenes in which recorded ego stops: behind a queue, and for a pedestrian."""

from __future__ import annotations

from omniloop.core.scene import Scene
from omniloop.core.time import US_PER_S
from omniloop.scenes.embedded_cast import CAR, TRUCK, VAN, Cast, beside, make_scene
from omniloop.scenes.embedded_paths import Drive, straight
from omniloop.scenes.embedded_roads import MapBuilder, facing, two_way


def stopped_lead() -> Scene:
    """A queue at a red light: ego stops 5 m behind it and sets off after it at the end."""
    line = straight(-60.0, 5.0, 0.0, 320.0)
    roads, cast = MapBuilder(), Cast(20 * US_PER_S)
    roads.road("road", line, two_way(2, 2.5, 50 / 3.6), (0.0, 95.0, 189.0, 260.0, 320.0))
    back = line.reversed()
    roads.crosswalk("crosswalk", line, (191.0, 194.5), (-9.5, 9.5))
    ahead, against = ("road_0_1", "road_1_1"), ("road_2_2", "road_3_2")
    roads.stop_line("stop_ahead", line, 189.0, (-7.0, 0.0), ahead)
    roads.stop_line("stop_against", back, back.length_m - 196.5, (-7.0, 0.0), against)
    states = ((0, "red"), (13 * US_PER_S, "red_yellow"), (14 * US_PER_S, "green"))
    roads.light("light_ahead", facing(line, 190.0, -10.0, 3.2), ahead, states)
    roads.light("light_against", facing(back, back.length_m - 195.5, -10.0, 3.2), against, states)
    right, left = ((0.0, -5.25),), ((0.0, -1.75),)
    cast.drive("lead", CAR, Drive(line, 172.5, ((16.0, 0.0), (20.0, 6.5)), right))
    cast.drive("first_truck", TRUCK, Drive(line, 180.8, ((14.8, 0.0), (20.0, 7.0)), right))
    cast.drive("left_lane", CAR, Drive(line, 184.3, ((14.5, 0.0), (20.0, 10.0)), left))
    cast.drive(
        "left_arriving",
        VAN,
        Drive(line, 126.8, ((0.0, 10.0), (10.0, 0.0), (16.0, 0.0), (20.0, 6.0)), left),
    )
    cast.drive("oncoming_1", CAR, Drive(back, 119.3, ((14.6, 0.0), (20.0, 10.0)), right))
    cast.drive(
        "oncoming_2",
        CAR,
        Drive(back, 70.0, ((0.0, 12.0), (8.0, 0.0), (15.5, 0.0), (20.0, 8.0)), left),
    )
    cast.drive(
        "oncoming_3",
        VAN,
        Drive(back, 18.0, ((0.0, 13.0), (3.0, 13.0), (10.5, 0.0), (16.0, 0.0), (20.0, 6.0)), right),
    )
    cast.walk("crossing_1", ((133.4, -6.5), (133.4, 32.0)), ((0.0, 0.6), (1.0, 1.7)))
    cast.walk("crossing_2", ((131.8, 12.0), (131.8, -24.0)), ((0.0, 1.45),))
    cast.walk("walker", ((40.0, -6.0), (70.0, -6.0)), ((0.0, 1.3),))
    for k, s in enumerate((75.0, 82.0, 89.0, 120.0, 127.0, 150.0)):
        cast.park(f"parked_right_{k}", VAN if k == 1 else CAR, beside(line, s, -8.3))
    for k, s in enumerate((80.0, 111.0, 118.0, 160.0, 230.0)):
        cast.park(f"parked_left_{k}", CAR, beside(line, s, 8.3, ahead=False))
    cruise_s = (102.3 - 43.75) / 12.5
    speeds = ((cruise_s, 12.5), (cruise_s + 7.0, 0.0), (17.5, 0.0), (20.0, 3.5))
    ego = Drive(line, 60.0, speeds, right)
    prompt = (
        "A city street with a queue at a red traffic light, pedestrians crossing, overcast sky."
    )
    return make_scene(
        "stopped_lead", roads, cast, ego, (prompt, ("urban", "stopped_lead", "traffic_light"))
    )


def crossing_pedestrian() -> Scene:
    """A zebra crossing: a pedestrian steps out from behind a van; ego stops and waits."""
    line = straight(-60.0, 2.0, 0.0, 400.0)
    roads, cast = MapBuilder(), Cast(18 * US_PER_S)
    roads.road("street", line, two_way(1, 2.5, 40 / 3.6), (0.0, 70.0, 137.0, 260.0, 400.0))
    back = line.reversed()
    roads.crosswalk("crosswalk", line, (135.0, 139.0), (-6.0, 6.0))
    roads.stop_line("stop_ahead", line, 133.5, (-3.5, 0.0), ("street_0_1",))
    roads.stop_line("stop_against", back, back.length_m - 140.5, (-3.5, 0.0), ("street_1_2",))
    zebra = facing(line, 134.5, -6.6, 2.3)
    roads.sign("zebra", zebra, "pedestrian_crossing", ("street_0_1",))
    lane = ((0.0, -1.75),)
    cast.walk(
        "crossing", ((70.0, -4.9), (77.0, -4.9), (77.0, 30.0)), ((0.0, 1.1), (6.0, 1.1), (7.0, 1.4))
    )
    cast.walk("crossing_before", ((75.6, 8.4), (75.6, -30.0)), ((0.0, 1.5),))
    cast.walk("walker", ((60.0, 9.0), (20.0, 9.0)), ((0.0, 1.3),))
    cast.drive(
        "oncoming_1",
        CAR,
        Drive(back, 199.2, ((0.0, 9.0), (3.0, 9.0), (9.0, 0.0), (14.5, 0.0), (18.0, 6.5)), lane),
    )
    cast.drive(
        "oncoming_2",
        VAN,
        Drive(back, 167.0, ((0.0, 9.0), (3.0, 9.0), (10.5, 0.0), (16.0, 0.0), (18.0, 2.5)), lane),
    )
    cast.drive("gone_before", CAR, Drive(line, 150.0, ((0.0, 10.0),), lane))
    cast.drive(
        "follower",
        CAR,
        Drive(line, 36.0, ((0.0, 10.5), (3.5, 10.5), (10.0, 0.0), (13.5, 0.0), (18.0, 7.0)), lane),
    )
    cast.park("hiding_van", VAN, beside(line, 125.5, -4.85))
    for k, s in enumerate((66.0, 73.0, 98.0, 105.0, 118.0, 150.0, 157.0, 190.0)):
        cast.park(f"parked_right_{k}", CAR, beside(line, s, -4.85))
    for k, s in enumerate((80.0, 87.0, 94.0, 128.0, 148.0, 155.0, 176.0)):
        cast.park(f"parked_left_{k}", VAN if k == 5 else CAR, beside(line, s, 4.85, ahead=False))
    cruise_s = (68.4 - 31.9) / 11.0
    speeds = ((cruise_s, 11.0), (cruise_s + 5.8, 0.0), (12.6, 0.0), (17.6, 9.0))
    ego = Drive(line, 60.0, speeds, lane)
    prompt = (
        "A narrow residential street with parked cars and a zebra crossing on a sunny afternoon."
    )
    return make_scene("crossing_pedestrian", roads, cast, ego, (prompt, ("urban", "pedestrian")))
