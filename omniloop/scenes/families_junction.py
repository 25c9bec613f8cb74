"""The family of junctions: ego goes left, right or straight on, with the right of way or after it."""

from __future__ import annotations

import numpy as np

from omniloop.core.scene import Scene
from omniloop.scenes.embedded_junction import ARMS, Crossroads
from omniloop.scenes.embedded_roads import LANE_M
from omniloop.scenes.families_draw import DURATION_S, EGO, Draw, Stage
from omniloop.scenes.families_motion import Driven, Driver, Stop, Stream

_STOP_M = 7.0
"""From the beginning of an arm to where fronts wait."""


def junction(draw: Draw) -> Scene:
    """Ego comes from the south on green; who turns left lets oncoming vehicles pass first."""
    turn = draw.one_of(("left", "right", "straight"))
    cruise = draw.between(6.5, 12.0)
    before_m = draw.between(35.0, 90.0)
    place = _place(draw, before_m, cruise)
    stage = Stage(draw, Stream(place.course("south", turn, before_m, 140.0), (0.0,), DURATION_S))
    place.add_roads(stage.roads, ((0, "green"),), ((0, "red"),))
    stage.ahead.drivers.append(Driver(EGO, 0.0, ((0.0, cruise),)))
    if draw.chance(0.5):
        kind, gap = draw.vehicle(), draw.between(18.0, 40.0)
        if gap + 12.0 < before_m:
            pace = ((0.0, cruise * draw.between(0.8, 1.1)),)
            stage.ahead.drivers.append(Driver(kind, gap, pace))
    oncoming = Stream(place.course("north", "straight", 100.0, 120.0), (0.0,), DURATION_S)
    _add_oncoming(draw, oncoming, cruise, turn)
    stage.others.append(oncoming)
    if turn == "left" and oncoming.drivers:
        clear_s = _clear_s(oncoming.simulate(), 100.0 + 2 * place.half_m + 6.0)
        stage.ahead.stops.append(Stop(before_m - 0.5, 0.0, clear_s, frozenset({0})))
    for origin in ("east", "west"):
        _add_waiting(draw, stage, place, origin)
    _add_still(draw, stage, place, pedestrian=turn != "right")
    prompt = "A four-way city junction with traffic lights in daylight."
    return stage.done(prompt, ("family", "junction", turn))


def _place(draw: Draw, before_m: float, cruise_mps: float) -> Crossroads:
    """Where the junction lies if ego starts at the origin."""
    turn_rad, half_m = draw.between(-np.pi, np.pi), draw.between(9.0, 14.0)
    edge_m, limit = draw.between(5.9, 6.6), 5.0 * round(cruise_mps * 3.6 * 1.1 / 5.0) / 3.6
    probe = Crossroads((0.0, 0.0), turn_rad, half_m, edge_m, limit, 150.0)
    x, y = probe.course("south", "straight", before_m, 10.0).xy_m[0]
    return Crossroads((-float(x), -float(y)), turn_rad, half_m, edge_m, limit, 150.0)


def _add_oncoming(draw: Draw, stream: Stream, cruise_mps: float, turn: str) -> None:
    """Vehicles from the north that go straight on; those of a left turn pass early."""
    s = 100.0 - draw.between(0.0, 60.0)
    for _ in range(draw.whole(0, 3 if turn == "left" else 5)):
        if s < -40.0:
            break
        stream.drivers.append(Driver(draw.vehicle(), s, ((0.0, cruise_mps),)))
        s -= draw.between(22.0, 40.0)


def _clear_s(drives: list[Driven], past_m: float) -> float:
    """When the last of them has passed a place."""
    passed = [np.flatnonzero(d.s_m > past_m) for d in drives]
    return max(float(p[0]) * 0.1 if len(p) else DURATION_S for p in passed)


def _add_waiting(draw: Draw, stage: Stage, place: Crossroads, origin: str) -> None:
    """A queue in front of a red light, or vehicles that come to it."""
    stream = Stream(place.course(origin, "straight", 100.0, 60.0), (0.0,), DURATION_S)
    stream.stops.append(Stop(100.0 - _STOP_M, 0.0, 1e6, frozenset({0})))
    s = 100.0 - _STOP_M - draw.between(6.0, 70.0)
    for _ in range(draw.whole(0, 3)):
        if s < 5.0:
            break
        kind = draw.vehicle()
        pace = draw.between(6.0, 10.0)
        room = 100.0 - _STOP_M - s - kind[2][0]
        start = min(pace, float(np.sqrt(max(2 * 1.5 * room, 0.0)))) if room > 3.0 else 0.0
        stream.drivers.append(Driver(kind, s, ((0.0, pace),), speed_mps=start))
        s -= kind[2][0] + draw.between(12.0, 25.0)
    stage.others.append(stream)


def _add_still(draw: Draw, stage: Stage, place: Crossroads, *, pedestrian: bool) -> None:
    """Parked vehicles along the arms, away from the junction, and who walks."""
    if draw.chance(0.6):
        for quarter in ARMS.values():
            arm = place.arm(quarter)
            share = draw.between(0.0, 0.6)
            for side in (-1, 1):
                stage.park(arm, LANE_M, share, side, from_m=22.0)
    stage.walkers(place.arm(draw.whole(0, 3)), place.edge_m, draw.whole(0, 2))
    if pedestrian and draw.chance(0.5):
        x, y = place.center_xy
        c, s = np.cos(place.turn_rad), np.sin(place.turn_rad)
        # Over the east arm, whose light is red; ego comes there only if it turns right.
        e, n = place.half_m + 3.5, place.edge_m + 4.0
        way = [(x + c * e - s * k, y + s * e + c * k) for k in (-n, n + 40.0)]
        start_s = draw.between(0.0, 3.0)
        stage.cast.walk("crossing_east", way, ((start_s, 0.0), (start_s + 0.5, 1.4)))
