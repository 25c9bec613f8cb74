"""A rollout as whole numbers: what the page's bird's-eye player needs, and no more."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask, Times
from omniloop.core.record import Decision, RolloutRecord
from omniloop.report.incidents import Incident
from omniloop.report.moment import Playback
from omniloop.report.player_map import REACH_M, UNIT_M, deltas, packed_line, player_map

VERSION = 1
YAW_UNIT_RAD = 0.01
SPEED_UNIT_MPS = 0.1
STEP_US = 100_000
"""The finest step of a player's samples; between them it interpolates."""

_PLAN_PIECES = 12
_ROUTE_TOLERANCE_M = 0.08
_US_PER_MS = 1000


def player_data(
    record: RolloutRecord, incidents: Sequence[Incident] = (), step_us: int = STEP_US
) -> dict[str, Any]:
    """What a player shows of a rollout, ready for `to_json`.

    Times are whole milliseconds from handover. Positions are in `local`, counted from
    "origin" in units of "unit_m", as first value and steps; yaws likewise in 0.01 rad,
    unwrapped; speeds in 0.1 m/s. An actor is absent outside its "runs" of
    ``[first sample, count, x, y, yaw]``; a run that never moves holds one value.
    A plan is ``[start, step in ms, dropped, x, y, dx, dy, ...]`` and "force" says of each
    sample which plan was in force (-1: none); "routes" belong to the plans.

    Args:
        step_us: Between samples.

    Raises:
        ValueError: the step is finer than 100 ms.
    """
    if step_us < STEP_US:
        raise ValueError(f"a step of {step_us} us is finer than {STEP_US} us")
    ego, handover_us = record.ego, record.schedule.handover_us
    start_us, end_us = int(ego.times_us[0]), int(ego.times_us[-1])
    times = np.arange(start_us, end_us + 1, step_us, dtype=np.int64)
    poses = ego.trajectory.sample(times)
    driven = poses[:, :2]
    origin = np.round(driven[0])
    speed = np.interp(
        (times - start_us).astype(float),
        (ego.times_us - start_us).astype(float),
        np.hypot(ego.dynamics[:, 0], ego.dynamics[:, 1]),
    )
    vehicle = record.scene.vehicle
    plans, routes, force = _plans(record, times, origin)

    def ms(time_us: int) -> int:
        return round((time_us - handover_us) / _US_PER_MS)

    return {
        "v": VERSION,
        "unit_m": UNIT_M,
        "origin": origin.tolist(),
        "start_ms": ms(start_us),
        "step_ms": step_us // _US_PER_MS,
        "samples": len(times),
        "ego": {
            "size_m": [vehicle.length_m, vehicle.width_m],
            "ahead_m": vehicle.rear_axle_to_center_m,
            "run": [0, len(times), *_motion(poses, origin)],
            "speed": deltas(speed, SPEED_UNIT_MPS),
        },
        "actors": _actors(record, times, poses, origin),
        "plans": plans,
        "routes": routes,
        "force": force,
        "recorded": _simplified([record.scene.ego.poses[:, :2]], origin)[0],
        "map": player_map(record.scene.map, driven, origin),
        "lights": [
            [
                *packed_line(light.local_to_light[None, :2], origin),
                [ms(t) for t in light.times_us.tolist()],
                list(light.states),
            ]
            for light in record.scene.map.lights
            if len(light.times_us)
            and np.linalg.norm(driven - light.local_to_light[:2], axis=1).min() < REACH_M
        ],
        "incidents": [[ms(i.start_us), ms(i.end_us), i.label, int(i.at_fault)] for i in incidents],
    }


def to_json(data: dict[str, Any]) -> str:
    """Compact JSON that may stand in a ``<script>`` of a page: it holds no ``<``, ``>``, ``&``."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def _motion(poses: Array, origin: Array) -> list[list[int]]:
    """Steps of x, y and yaw of poses ``(N, 7)``; a body that never moves gives one value each."""
    track = [
        deltas(poses[:, 0] - origin[0], UNIT_M),
        deltas(poses[:, 1] - origin[1], UNIT_M),
        deltas(np.unwrap(geometry.yaw_rad(poses)), YAW_UNIT_RAD),
    ]
    if any(any(steps[1:]) for steps in track):
        return track
    return [steps[:1] for steps in track]


def _actors(record: RolloutRecord, times: Times, ego: Array, origin: Array) -> list[dict[str, Any]]:
    motion = record.actors
    if not len(motion.times_us) or not len(motion.valid):
        return []
    states = motion.sample(np.clip(times, motion.times_us[0], motion.times_us[-1]))
    apart = np.linalg.norm(states.local_to_aabb[:, :, :2] - ego[None, :, :2], axis=2)
    near = ((apart < REACH_M) & states.valid).any(axis=1)
    out = []
    for k in np.flatnonzero(near).tolist():
        actor = record.scene.actors[k]
        out.append(
            {
                "class": actor.actor_class.name.lower(),
                "id": actor.id,
                "size_m": [round(float(s), 2) for s in record.scene.actor_sizes_m[k, :2]],
                "static": int(actor.is_static),
                "runs": [
                    [first, last - first, *_motion(states.local_to_aabb[k, first:last], origin)]
                    for first, last in _runs(states.valid[k])
                ],
            }
        )
    return out


def _runs(valid: Mask) -> list[tuple[int, int]]:
    """First and one past the last of each run of True in ``(N,)``."""
    edges = np.flatnonzero(np.diff(valid.astype(np.int8), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _plans(
    record: RolloutRecord, times: Times, origin: Array
) -> tuple[list[list[int]], list[list[int]], list[int]]:
    """Plans that are in force at a sample, their routes, and which one it is at each sample."""
    playback, handover_us = Playback(record), record.schedule.handover_us
    in_force = [playback.in_force(t) for t in times.tolist()]
    used: dict[int, Decision] = {}
    for decision in in_force:
        if decision is not None:
            used.setdefault(decision.time_us, decision)
    place = {time_us: k for k, time_us in enumerate(used)}
    plans, ahead = [], []
    for decision in used.values():
        plan = playback.plan_at(decision, decision.time_us)
        ahead.append(_route(record, decision))
        start_ms = round((decision.time_us - handover_us) / _US_PER_MS)
        if not len(plan):
            plans.append([start_ms, 0, int(decision.dropped)])
            continue
        spots = np.linspace(plan.start_us, plan.end_us, _PLAN_PIECES + 1).astype(np.int64)
        xy = plan.sample(np.minimum(spots, plan.end_us))[:, :2]
        step_ms = round((plan.end_us - plan.start_us) / _PLAN_PIECES / _US_PER_MS)
        first_ms = round((plan.start_us - handover_us) / _US_PER_MS)
        plans.append([first_ms, step_ms, int(decision.dropped), *packed_line(xy, origin)])
    force = [-1 if decision is None else place[decision.time_us] for decision in in_force]
    return plans, _simplified(ahead, origin), force


def _route(record: RolloutRecord, decision: Decision) -> Array:
    """Waypoints ``(N, 2)`` in `local` by the pose that the policy was told; empty if none."""
    if decision.route is None or len(decision.route.waypoints_rig) < 2:
        return np.zeros((0, 2))
    believed = record.ego_estimated.trajectory.sample_clamped(decision.route.time_us)[0]
    return geometry.transform_points(believed, decision.route.waypoints_rig)[:, :2]


def _simplified(lines: Sequence[Array], origin: Array) -> list[list[int]]:
    """Packed polylines without the points that change them by less than 8 cm."""
    out: list[list[int]] = []
    for xy in lines:
        if len(xy) < 2:
            out.append([])
            continue
        line = shapely.simplify(shapely.linestrings(xy), _ROUTE_TOLERANCE_M)
        out.append(packed_line(shapely.get_coordinates(line), origin))
    return out
