"""Who is driven how: by the law along lanes, along its own recorded path, or as recorded."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from omniloop.core import geometry
from omniloop.core.motion import Mask, Times
from omniloop.core.scene import Actor, ActorClass, Scene
from omniloop.core.time import MAX_STATE_STEP_US, US_PER_S
from omniloop.traffic.lane_index import LaneIndex
from omniloop.traffic.paths import Path, Timetable, continued, recorded_path

_STANDS_M = 2.0
"""A vehicle that was recorded to go no further than this stays with its recorded path."""

_LANE_SHARE = 0.5
"""So much of a vehicle's recorded way must lie on lanes for it to be driven."""

_MOTOR_WORDS = ("motor", "bus", "vehicle", "truck", "car", "van", "trailer")
_LOOK_M = 40.0
"""Actors look so far beyond the end of their track."""

_ENDS_WITH_SCENE_US = 250_000


@dataclass(frozen=True, eq=False)
class Cast:
    """The actors of a scene and their ways.

    Attributes:
        driven: ``(A,)`` vehicles that follow the law along lanes.
        kept: ``(A,)`` who keep the recorded path and pace, but wait where it is blocked.
        no_lane: ``(A,)`` vehicles that are replayed since the map has no lane for them.
        scripted: ``(A,)`` who are replayed since they are scripted, and `static` ``(A,)`` since they
            are parked; absent ones included.
        vehicle: ``(A,)`` cars, trucks and the like, whoever moves them.
        walks: ``(A,)`` pedestrians.
        goes_on: ``(A,)`` whose track ends with the recording, and not before.
        paths: One per actor.
        timetable: Of the recording.
        entry, last: ``(A,)`` first and last column of the timetable with the actor; -1 if never.
        sizes_m: ``(A, 3)``.
    """

    driven: Mask
    kept: Mask
    no_lane: Mask
    scripted: Mask
    static: Mask
    vehicle: Mask
    walks: Mask
    goes_on: Mask
    paths: list[Path]
    timetable: Timetable
    entry: np.ndarray
    last: np.ndarray
    sizes_m: np.ndarray


def cast_of(
    scene: Scene, lanes: LaneIndex, handover_us: int, end_us: int, free_mps: float | None
) -> Cast:
    """Look at every track of a scene.

    Args:
        lanes: Of the scene's map.
        handover_us: The timetable's grid is anchored there.
        end_us: Until when actors may have to be moved.
        free_mps: The speed at which actors may outrun the recording; None if they never do.
    """
    times_us = grid_around(handover_us, scene)
    recorded = scene.recorded_actors(times_us)
    valid, poses = recorded.valid, recorded.local_to_aabb
    times_s = (times_us - handover_us) / US_PER_S
    n = len(scene.tracks)
    driven, kept, no_lane, walks, goes_on, vehicle = (np.zeros(n, dtype=bool) for _ in range(6))
    scripted = np.array([a.is_scripted for a in scene.actors], dtype=bool)
    static = np.array([a.is_static for a in scene.actors], dtype=bool) & ~scripted
    entry, last = np.full(n, -1), np.full(n, -1)
    done = np.zeros((n, len(times_us)))
    paths = []
    for i, actor in enumerate(scene.actors):
        vehicle[i], walks[i] = is_vehicle(actor), actor.actor_class is ActorClass.PEDESTRIAN
        if not valid[i].any():
            paths.append(_nowhere(len(times_us)))
            continue
        seen = np.flatnonzero(valid[i])
        entry[i], last[i] = seen[0], seen[-1]
        path = recorded_path(times_s, poses[i], valid[i])
        goes_on[i] = times_us[last[i]] >= scene.end_us - _ENDS_WITH_SCENE_US
        if scripted[i] or static[i]:
            pass
        elif not vehicle[i] or _extent_m(path) < _STANDS_M:
            kept[i] = True
        else:
            lane = lanes.nearest(path.local_to_aabb[:, :2], path.tangent_rad)
            driven[i] = np.mean(lane >= 0) >= _LANE_SHARE
            no_lane[i] = not driven[i]
        done[i] = path.done_m
        if driven[i]:
            path = _gone_on(path, lanes, times_s[last[i]], (end_us - handover_us) / US_PER_S,
                            bool(goes_on[i]), free_mps)  # fmt: skip
        paths.append(path)
    return Cast(
        driven, kept, no_lane, scripted, static, vehicle, walks, goes_on, paths,
        Timetable(times_us, done, valid), entry, last, scene.actor_sizes_m,
    )  # fmt: skip


def grid_around(handover_us: int, scene: Scene) -> Times:
    """Times 100 ms apart over the scene's range, through the handover."""
    step = MAX_STATE_STEP_US
    before = -(-(handover_us - scene.start_us) // step)
    after = max(-(-(scene.end_us - handover_us) // step), 1)
    return handover_us + step * np.arange(-before, after + 1, dtype=np.int64)


def is_vehicle(actor: Actor) -> bool:
    """Whether an actor drives in lanes: cars, trucks, motorcycles and other motor vehicles."""
    if actor.actor_class in (ActorClass.CAR, ActorClass.TRUCK):
        return True
    if actor.actor_class is ActorClass.PEDESTRIAN:
        return False
    return any(word in actor.label.lower() for word in _MOTOR_WORDS)


def _extent_m(path: Path) -> float:
    """How far a path goes from its start, whatever its length: annotations tremble."""
    away = path.local_to_aabb[:, :2] - path.local_to_aabb[0, :2]
    return float(np.hypot(away[:, 0], away[:, 1]).max())


def _gone_on(
    path: Path, lanes: LaneIndex, left_s: float, end_s: float, goes_on: bool, free_mps: float | None
) -> Path:
    """Continue a path along lanes, or straight on where there is none.

    Whose track lasts as long as the recording drives on there; others only look along it.
    """
    fastest = float(path.pace_mps.max())
    ahead = fastest * max(end_s - left_s, 0.0) if goes_on else 0.0
    if free_mps is not None and goes_on:
        ahead = max(ahead, max(free_mps, fastest) * end_s - path.recorded_m)
    end = path.local_to_aabb[-1]
    heading = float(path.tangent_rad[-1])
    beyond = lanes.onward(end[:3], heading, ahead + _LOOK_M)
    drivable = float(geometry.arc_length_m(np.vstack([end[:3], beyond])[:, :2])[-1])
    if drivable < _LOOK_M:
        last = beyond[-1] if len(beyond) else end[:3]
        if len(beyond) > 1:
            step = beyond[-1] - beyond[-2]
            heading = float(np.arctan2(step[1], step[0]))
        way = np.array([np.cos(heading), np.sin(heading), 0.0])
        beyond = np.vstack([beyond, last + way * (_LOOK_M - drivable)])
    longer = continued(path, beyond, path.recorded_m, 5.0)
    return replace(longer, end_m=path.recorded_m + min(ahead, drivable))


def _nowhere(n_times: int) -> Path:
    zero = np.zeros(1)
    return Path(
        zero, geometry.IDENTITY[None].copy(), zero, zero, zero + np.inf, 0.0, 0.0, np.zeros(n_times)
    )
