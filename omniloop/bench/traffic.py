"""What reactive traffic costs, and how many actors it lets overlap.

Cost: the same requests are put to sessions in turn, ego off its recording so that everybody has
somebody to look at; of every interval the fastest of several counts. Overlaps: ego moves as
recorded, or brakes to a stop, and pairs of boxes that come to overlap after handover are counted
for log replay and for the reactive traffic.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Iterable
from typing import Any

import numpy as np

from omniloop.core.contracts import SessionInfo, TrafficRequest
from omniloop.core.errors import ConfigError
from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion, Times, Trajectory
from omniloop.core.replay import RecordedActors
from omniloop.core.scene import Scene
from omniloop.core.time import SCORE_STEP_US, US_PER_S
from omniloop.metrics.boxes import TOUCH_M, footprints, penetration_m, vertical_gap_m
from omniloop.metrics.contacts import VERTICAL_TOLERANCE_M
from omniloop.traffic.idm import IdmTraffic
from omniloop.traffic.laws import idm_accel
from omniloop.traffic.log_replay import LogReplayTraffic
from omniloop.traffic.parameters import parameter_set

EGO_MOTIONS = ("recorded", "brakes", "slower")
_BRAKES_AFTER_S, _STOPS_IN_S = 2.0, 3.0
_SLOWER = 0.6


def ego_motion(scene: Scene, how: str, times_us: Times) -> Trajectory:
    """Ego's box at some times: as recorded, or on its recorded path at another pace.

    Args:
        how: "recorded"; "brakes" to a stop from 2 s on in 3 s; "slower" drives at 60 % of the
            recorded speed from 1 s on.

    Raises:
        ConfigError: there is no such motion.
    """
    if how not in EGO_MOTIONS:
        raise ConfigError(
            f"no ego motion '{how}'", where="--ego", remedy=f"one of {', '.join(EGO_MOTIONS)}"
        )
    t = (times_us - times_us[0]) / US_PER_S
    own = t.copy()
    if how == "brakes":
        since = np.clip(t - _BRAKES_AFTER_S, 0.0, _STOPS_IN_S)
        own = np.minimum(t, _BRAKES_AFTER_S) + since - since**2 / (2 * _STOPS_IN_S)
    elif how == "slower":
        own = np.where(t < 1.0, t, 1.0 + _SLOWER * (t - 1.0))
    recorded = scene.ego.shift_body(scene.vehicle.rig_to_aabb)
    return Trajectory(times_us, recorded.sample_clamped(times_us[0] + np.rint(own * US_PER_S)))


def _info(scene: Scene, step_us: int) -> SessionInfo:
    """A session over a whole scene in steps of one length, handover at its start."""
    end_us = scene.end_us - (scene.end_us - scene.start_us) % step_us
    return SessionInfo(
        f"{scene.id}/0", scene, 0, scene.vehicle, scene.start_us, scene.start_us, end_us
    )


def simulate(
    scene: Scene, traffic: Any, how: str, step_us: int
) -> tuple[ActorMotion, Trajectory, Any, list[float]]:
    """Drive a traffic plugin over a whole scene, handover at its start.

    Returns:
        Everybody's motion on the grid of steps, ego's, the session and seconds per step.
    """
    times = np.arange(scene.start_us, scene.end_us + 1, step_us, dtype=np.int64)
    fine = np.arange(scene.start_us, times[-1] + 1, min(step_us, SCORE_STEP_US), dtype=np.int64)
    ego = ego_motion(scene, how, np.union1d(fine, times))
    session = traffic.open(_info(scene, step_us))
    current = RecordedActors(scene).at(times[:1])
    parts, spent = [current], []
    for since, until in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        request = TrafficRequest(since, until, ego.between(since, until), current)
        began = time.perf_counter()
        answer = session.step(request)
        spent.append(time.perf_counter() - began)
        parts.append(answer)
        current = ActorMotion(
            answer.times_us[-1:], answer.local_to_aabb[:, -1:], answer.valid[:, -1:]
        )
    whole = ActorMotion(
        np.concatenate([p.times_us for p in parts]),
        np.concatenate([p.local_to_aabb for p in parts], axis=1),
        np.concatenate([p.valid for p in parts], axis=1),
    )
    return whole.sample(fine), ego_motion(scene, how, fine), session, spent


def overlapping_pairs(
    actors: ActorMotion,
    sizes_m: Array,
    ego: Trajectory | None = None,
    ego_size_m: Array | None = None,
) -> dict[tuple[int, int], tuple[int, float]]:
    """Pairs that overlap at some sample; those that overlap at the first are left out.

    Two overlap as ego and an actor do for the collision score (`metrics.contacts`): footprints
    with positive area, vertical extents within 0.3 m of each other.

    Args:
        actors: On one grid of times; `ego` at the same times, to be counted as the last actor.

    Returns:
        Pair of indices to the first overlapping sample and its depth [m].
    """
    poses, valid, sizes = actors.local_to_aabb, actors.valid, sizes_m
    if ego is not None and ego_size_m is not None:
        poses = np.concatenate([poses, ego.poses[None]])
        valid = np.concatenate([valid, np.ones((1, len(ego)), dtype=bool)])
        sizes = np.concatenate([sizes, ego_size_m[None]])
    reach = np.hypot(sizes[:, 0], sizes[:, 1]) / 2
    at_first: set[tuple[int, int]] = set()
    found: dict[tuple[int, int], tuple[int, float]] = {}
    for k in range(len(actors.times_us)):
        there = np.flatnonzero(valid[:, k])
        boxes, size, r = poses[there, k], sizes[there], reach[there]
        away = boxes[:, None, :2] - boxes[None, :, :2]
        near = np.hypot(away[..., 0], away[..., 1]) < r[:, None] + r[None]
        i, j = np.nonzero(np.triu(near, 1))
        if len(i) == 0:
            continue
        depth = penetration_m(footprints(boxes[i], size[i]), footprints(boxes[j], size[j]))
        hit = depth > TOUCH_M
        hit &= vertical_gap_m(boxes[i], size[i], boxes[j], size[j]) <= VERTICAL_TOLERANCE_M
        for a, b, d in zip(
            there[i[hit]].tolist(), there[j[hit]].tolist(), depth[hit].tolist(), strict=True
        ):
            if k == 0:
                at_first.add((a, b))
            elif (a, b) not in at_first and (a, b) not in found:
                found[a, b] = (k, d)
    return found


def overlaps(scenes: Iterable[Scene], params: str, how: str) -> dict[str, Any]:
    """Count overlapping pairs in log replay and in reactive traffic.

    Returns:
        Per scene and in all: pairs of actors (`actors_log`, `actors_idm`) and of ego and an
        actor (`ego_log`, `ego_idm`), and what the session says of itself.
    """
    rows: dict[str, Any] = {}
    keys = ("actors_log", "actors_idm", "ego_log", "ego_idm")
    total = dict.fromkeys(keys, 0)
    for scene in scenes:
        counts: dict[str, Any] = {}
        for name, traffic in (("log", LogReplayTraffic()), ("idm", IdmTraffic(params))):
            motion, ego, session, _ = simulate(scene, traffic, how, SCORE_STEP_US)
            pairs = overlapping_pairs(motion, scene.actor_sizes_m, ego, scene.vehicle.size_m)
            with_ego = sum(b == len(scene.tracks) for _, b in pairs)
            counts[f"actors_{name}"] = len(pairs) - with_ego
            counts[f"ego_{name}"] = with_ego
            if name == "idm":
                counts["facts"] = session.facts()
        rows[scene.id] = counts
        for key in keys:
            total[key] += counts[key]
    return {"params": params, "ego": how, "scenes": len(rows), "total": total, "by_scene": rows}


def cost(scene: Scene, params: str, how: str, interval_us: int, repeat: int) -> dict[str, Any]:
    """Time intervals of reactive traffic against log replay and a bare call of the law.

    Returns:
        `interval_ms` median and `slowest_ms` of intervals, each the fastest of `repeat` runs;
        `setup_ms` of a scene's first session and `next_setup_ms` of a later one; `scene_mb` held
        for all sessions of the scene and `session_mb` for one more, at its end;
        `per_actor_step_us`: one actor for 100 ms; and its ratio to log replay's and to `idm_accel`
        for as many actors.
    """
    if repeat < 1:
        raise ConfigError(f"repeat is {repeat}", remedy="give at least 1")
    runs: list[list[float]] = []
    replays: list[list[float]] = []
    setups: list[float] = []
    later: list[float] = []
    traffic = IdmTraffic(params)
    traffic.open(_info(scene, interval_us))
    for _ in range(repeat):
        _Timed(IdmTraffic(params), setups).open(_info(scene, interval_us))
        runs.append(simulate(scene, _Timed(traffic, later), how, interval_us)[3])
        replays.append(simulate(scene, LogReplayTraffic(), how, interval_us)[3])
    scene_mb, session_mb, facts = _memory(scene, params, how, interval_us)
    best, best_replay = np.array(runs).min(axis=0), np.array(replays).min(axis=0)
    steps = -(-interval_us // SCORE_STEP_US)
    n = max(len(scene.tracks), 1)
    bare_s = _bare_law_s(n, params)
    median_s = float(np.median(best))
    return {
        "scene": scene.id,
        "actors": len(scene.tracks),
        "params": params,
        "ego": how,
        "interval_s": interval_us / US_PER_S,
        "interval_ms": round(1e3 * median_s, 3),
        "slowest_ms": round(1e3 * float(best.max()), 3),
        "setup_ms": round(1e3 * min(setups), 1),
        "next_setup_ms": round(1e3 * min(later), 2),
        "scene_mb": round(scene_mb, 1),
        "session_mb": round(session_mb, 1),
        "per_actor_step_us": round(1e6 * median_s / (n * steps), 3),
        "to_log_replay": round(median_s / float(np.median(best_replay)), 1),
        "to_bare_law": round(median_s / steps / bare_s, 1),
        "facts": facts,
    }


class _Timed:
    """A plugin whose set-up is timed."""

    def __init__(self, traffic: IdmTraffic, seconds: list[float]) -> None:
        self._traffic, self._seconds = traffic, seconds

    def open(self, session: SessionInfo) -> Any:
        began = time.perf_counter()
        out = self._traffic.open(session)
        self._seconds.append(time.perf_counter() - began)
        return out


def _memory(
    scene: Scene, params: str, how: str, interval_us: int
) -> tuple[float, float, dict[str, object]]:
    """Megabytes that a scene's first session leaves behind and those of another; its facts."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        traffic = IdmTraffic(params)
        simulate(scene, traffic, how, interval_us)
        gc.collect()
        shared = tracemalloc.get_traced_memory()[0]
        session = simulate(scene, traffic, how, interval_us)[2]
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    return (shared - before) / 1e6, (after - shared) / 1e6, session.facts()


def _bare_law_s(n: int, params: str) -> float:
    p = parameter_set(params).idm
    v = np.linspace(5.0, 15.0, n)
    gap, lead, wish = v + 10.0, v - 1.0, v + 2.0
    best = np.inf
    for _ in range(200):
        began = time.perf_counter()
        idm_accel(v, wish, gap, lead, p)
        best = min(best, time.perf_counter() - began)
    return float(best)
