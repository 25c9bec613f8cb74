"""Families on one road: straight, curve, s_bend, stopped_lead, cut_in and crossing."""

from __future__ import annotations

import numpy as np

from omniloop.core.scene import Scene
from omniloop.scenes.embedded_cast import CYCLIST
from omniloop.scenes.embedded_paths import ReferenceLine
from omniloop.scenes.embedded_roads import one_way, two_way
from omniloop.scenes.families_draw import BEHIND_M, DURATION_S, EGO, Draw, Stage, placed
from omniloop.scenes.families_motion import Driver, Stop, Stream

Knots = list[tuple[float, float]]
_FRONT_M = 4.1
"""From ego's rear axle to its front bumper."""


def _bends(
    draw: Draw, count: int, radius_m: tuple[float, float], angle: tuple[float, float]
) -> Knots:
    """A straight, then bends of alternating direction with clothoids, from ego's start on."""
    s = BEHIND_M + draw.between(5.0, 60.0)
    knots: Knots = [(0.0, 0.0), (s, 0.0)]
    side = draw.sign()
    for _ in range(count):
        radius = draw.between(*radius_m)
        ramp = min(max(radius * 0.35, 15.0), 45.0)
        arc = max(radius * np.deg2rad(draw.between(*angle)) - ramp, 5.0)
        knots += [
            (s + ramp, side / radius),
            (s + ramp + arc, side / radius),
            (s + 2 * ramp + arc, 0.0),
        ]
        s += 2 * ramp + arc
        if draw.chance(0.5):
            s += draw.between(8.0, 50.0)
            knots.append((s, 0.0))
        side = -side
    return knots


def _until(knots: Knots, length_m: float) -> Knots:
    """The line goes straight on to a length of at least `length_m`."""
    return [*knots, (max(length_m, knots[-1][0] + 120.0), 0.0)]


def _road(
    draw: Draw, knots: Knots, cruise_mps: float, lanes: int, *, busy: tuple[float, float],
    lead_m: float | None = None, parked: float | None = None,
) -> tuple[Stage, int]:  # fmt: skip
    """A road both ways with ego and its traffic, and ego's lane.

    Args:
        draw: Where everything is drawn from.
        knots: Its curvature.
        cruise_mps: Ego's speed where nothing holds it.
        lanes: Each way.
        busy: From and to of the distance between vehicles.
        lead_m: Nobody starts in ego's lane nearer ahead than this.
        parked: Share of the kerb's places that are taken; drawn if None.
    """
    lane_m = draw.between(3.1, 3.7)
    limit = 5.0 * round(cruise_mps * 3.6 * 1.1 / 5.0) / 3.6
    has_parking = draw.chance(0.55)
    verge = draw.between(2.6, 3.2) if has_parking else draw.between(0.5, 1.8)
    lanes_m = tuple(-(lanes - k - 0.5) * lane_m for k in range(lanes))
    lane = draw.whole(0, lanes - 1)
    side = draw.between(-0.15, 0.15)
    line = placed(draw, knots, lanes_m[lane] + side)
    ahead = Stream(line, lanes_m, DURATION_S)
    back = Stream(line.reversed(), lanes_m, DURATION_S)
    stage = Stage(draw, ahead, [back])
    cuts = np.linspace(0.0, line.length_m, max(round(line.length_m / 90.0), 2) + 1).tolist()
    stage.roads.road("road", line, two_way(lanes, verge, limit, lane_m), cuts)
    ahead.drivers.append(Driver(EGO, BEHIND_M, ((0.0, cruise_mps),), lane, side_m=side))
    clear = 12.0 + 0.9 * cruise_mps if lead_m is None else lead_m
    if draw.chance(0.85):
        keep = [(lane, BEHIND_M - 12.0 - cruise_mps, BEHIND_M + clear)]
        stage.fill(ahead, cruise_mps, busy, keep)
    if draw.chance(0.85):
        stage.fill(back, cruise_mps, busy)
    half = lanes * lane_m
    if has_parking:
        for at in (-1, 1):
            stage.park(line, half, draw.between(0.0, 0.8) if parked is None else parked, at)
    stage.walkers(line, half + verge, draw.whole(0, 3))
    return stage, lane


def _busy(draw: Draw) -> tuple[float, float]:
    low = draw.between(30.0, 110.0)
    return low, low * draw.between(1.3, 2.5)


def straight(draw: Draw) -> Scene:
    """A straight road of one to three lanes each way; sometimes somebody slow is ahead."""
    cruise = draw.between(7.0, 18.0)
    knots = _until([(0.0, 0.0)], BEHIND_M + cruise * DURATION_S + 200.0)
    stage, lane = _road(draw, knots, cruise, draw.whole(1, 3), busy=_busy(draw), lead_m=90.0)
    if draw.chance(0.6):
        kind = CYCLIST if draw.chance(0.2) else draw.vehicle()
        slow = draw.between(3.5, 6.0) if kind is CYCLIST else cruise * draw.between(0.55, 1.05)
        at = BEHIND_M + 10.0 + cruise * draw.between(0.8, 3.0)
        stage.ahead.drivers.append(Driver(kind, at, ((0.0, slow),), lane))
    return stage.done("A straight city street in daylight.", ("family", "straight"))


def curve(draw: Draw) -> Scene:
    """One bend of 30 to 250 m radius to either side."""
    cruise = draw.between(7.0, 16.0)
    knots = _bends(draw, 1, (30.0, 250.0), (25.0, 110.0))
    knots = _until(knots, BEHIND_M + cruise * DURATION_S + 200.0)
    stage, _ = _road(draw, knots, cruise, draw.whole(1, 2), busy=_busy(draw))
    return stage.done("A bend of a two-way road in daylight.", ("family", "curve"))


def s_bend(draw: Draw) -> Scene:
    """Two to four bends of alternating direction."""
    cruise = draw.between(7.0, 15.0)
    knots = _bends(draw, draw.whole(2, 4), (35.0, 160.0), (15.0, 60.0))
    knots = _until(knots, BEHIND_M + cruise * DURATION_S + 200.0)
    stage, _ = _road(draw, knots, cruise, draw.whole(1, 2), busy=_busy(draw))
    return stage.done("A winding road in soft light.", ("family", "s_bend"))


def stopped_lead(draw: Draw) -> Scene:
    """A queue stands ahead, or who drives ahead brakes to a crawl or a stop."""
    cruise = draw.between(7.0, 14.5)
    gentle = draw.chance(0.4)
    base = _bends(draw, 1, (90.0, 300.0), (10.0, 40.0)) if gentle else [(0.0, 0.0)]
    knots = _until(base, BEHIND_M + cruise * DURATION_S + 220.0)
    stage, lane = _road(draw, knots, cruise, draw.whole(1, 2), busy=_busy(draw), lead_m=220.0)
    drivers = stage.ahead.drivers
    if draw.chance(0.5):
        at = BEHIND_M + _FRONT_M + cruise * draw.between(3.0, 6.5) + 15.0
        go_s = draw.between(8.0, 20.0)
        for _ in range(draw.whole(1, 4)):
            kind = draw.vehicle()
            rear = kind[2][0] * 0.24
            drivers.append(
                Driver(kind, at + rear, ((0.0, 0.0), (go_s, 0.0), (go_s + 1.0, cruise)), lane)
            )
            at += kind[2][0] + draw.between(2.0, 4.0)
    else:
        kind = draw.vehicle()
        at = BEHIND_M + _FRONT_M + kind[2][0] * 0.24 + cruise * draw.between(1.2, 2.5)
        brake_s, low = draw.between(1.5, 6.0), draw.one_of((0.0, 0.0, 2.0, 4.0))
        low_s = brake_s + (cruise - low) / draw.between(1.5, 3.5)
        again_s = low_s + draw.between(1.0, 6.0)
        speeds = ((brake_s, cruise), (low_s, low), (again_s, low), (again_s + 5.0, cruise))
        drivers.append(Driver(kind, at, speeds, lane))
    return stage.done("Traffic comes to a stop on a city street.", ("family", "stopped_lead"))


def cut_in(draw: Draw) -> Scene:
    """A carriageway of two to four lanes: somebody changes into ego's lane ahead of it."""
    cruise = draw.between(12.0, 26.0)
    lanes, lane_m = draw.whole(2, 4), draw.between(3.4, 3.75)
    knots: Knots = [(0.0, 0.0)]
    if draw.chance(0.5):
        knots = _bends(draw, 1, (350.0, 900.0), (8.0, 25.0))
    knots = _until(knots, BEHIND_M + 1.15 * cruise * DURATION_S + 260.0)
    lanes_m = tuple((k + 0.5) * lane_m for k in range(lanes))
    lane = draw.whole(0, lanes - 1)
    side = draw.between(-0.15, 0.15)
    line = placed(draw, knots, lanes_m[lane] + side)
    stage = Stage(draw, Stream(line, lanes_m, DURATION_S))
    shoulders = (draw.between(1.5, 3.2), draw.between(0.6, 1.2))
    cuts = np.linspace(0.0, line.length_m, max(round(line.length_m / 150.0), 2) + 1).tolist()
    stage.roads.road("road", line, one_way(lanes, shoulders, cruise * 1.1, lane_m), cuts)
    drivers = stage.ahead.drivers
    drivers.append(Driver(EGO, BEHIND_M, ((0.0, cruise),), lane, side_m=side))
    beside = [k for k in (lane - 1, lane + 1) if 0 <= k < lanes]
    origin, kind, at_s = draw.one_of(beside), draw.vehicle(), draw.between(1.5, 6.0)
    first = cruise * draw.between(0.95, 1.08)
    later = cruise * draw.between(0.6, 1.0)
    gap = draw.between(6.0, 0.9 * cruise)
    at = BEHIND_M + _FRONT_M + kind[2][0] * 0.24 + gap + (cruise - first) * at_s
    speeds = ((at_s + 1.0, first), (at_s + 6.0, later))
    takes = draw.between(2.5, 5.0)
    if draw.chance(0.85):
        drivers.append(Driver(kind, at, speeds, origin, lane, at_s, takes, speed_mps=first))
    keep = [(lane, BEHIND_M - 20.0 - cruise, BEHIND_M + 110.0)]
    keep.append((origin, at - 25.0 - 0.8 * cruise, at + 60.0))
    low = draw.between(35.0, 90.0)
    stage.fill(stage.ahead, cruise, (low, low * 2.0), keep)
    return stage.done("A motorway in daylight, moderate traffic.", ("family", "cut_in"))


def crossing(draw: Draw) -> Scene:
    """A crosswalk; mostly somebody crosses, and ego waits until the road is clear."""
    cruise = draw.between(6.5, 12.5)
    knots = _until([(0.0, 0.0)], BEHIND_M + cruise * DURATION_S + 180.0)
    lanes = draw.whole(1, 2)
    stage, _ = _road(draw, knots, cruise, lanes, busy=_busy(draw), parked=draw.between(0.0, 0.5))
    line = stage.ahead.line
    arrive_s = draw.between(5.0, 9.5)
    s = BEHIND_M + _FRONT_M + 5.0 + cruise * arrive_s
    edge = _edge_m(stage)
    stage.roads.crosswalk("crosswalk", line, (s - 1.8, s + 1.8), (-edge, edge))
    if draw.chance(0.8):
        start_s, speed = arrive_s - draw.between(1.5, 4.0), draw.between(1.1, 1.9)
        side = draw.sign()
        way = [_point(line, s, side * (edge + 0.8)), _point(line, s, -side * (edge + 40.0))]
        clear_s = start_s + (2 * edge + 1.0) / speed
        stage.cast.walk("crossing", way, ((start_s, 0.0), (start_s + 0.6, speed)))
        every = frozenset(range(lanes))
        stage.ahead.stops.append(Stop(s - 3.5, max(start_s - 1.5, 0.0), clear_s, every))
        back = stage.others[0]
        stop = Stop(line.length_m - s - 3.5, max(start_s - 1.5, 0.0), clear_s, every)
        back.stops.append(stop)
    return stage.done("A city street with a crosswalk.", ("family", "crossing", "pedestrian"))


def _edge_m(stage: Stage) -> float:
    """From the reference line to the end of the surface."""
    boundary = stage.roads.road_boundaries[0].points
    return float(np.linalg.norm(boundary[0, :2] - stage.ahead.line.xy_m[0]))


def _point(line: ReferenceLine, s_m: float, offset_m: float) -> tuple[float, float]:
    x, y, _ = line.points(np.array([s_m]), offset_m)[0]
    return float(x), float(y)
