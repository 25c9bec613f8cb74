"""The rows of a rollout in every table, as columns of arrays over its decisions."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import EgoMotion, Times, bracket
from omniloop.export.columns import Columns, Masked, Ragged
from omniloop.export.rollout import Rollout
from omniloop.export.schema import DRIVEN_STEP_US, DRIVEN_STEPS
from omniloop.runlog.results import jsonable

Index = NDArray[np.intp]


def decision_columns(rollout: Rollout, which: Index, incident_within_us: int) -> Columns:
    """Rows of `DECISIONS`.

    Args:
        rollout: Of this rollout.
        which: ``(N,)`` indices of its decisions.
        incident_within_us: How far ahead ``incident_ahead`` looks.
    """
    record = rollout.record
    times = rollout.decisions_us[which]
    decisions = [record.decisions[k] for k in which.tolist()]
    true = rollout.ego_at(times)
    estimated = record.ego_estimated.trajectory.sample_clamped(times)
    plans = [d.plan.local_to_rig for d in decisions]
    planned = Ragged.of([plan.poses for plan in plans], (7,))
    routes = [d.route for d in decisions]
    has_route = np.array([route is not None for route in routes], dtype=bool)
    waypoints = Ragged.of([r.waypoints_rig if r else np.zeros((0, 3)) for r in routes], (3,))
    return {
        **_key(rollout, len(which)),
        "decision": which.astype(np.int64),
        "time_us": times,
        "period_us": np.full(len(which), record.schedule.decision_period_us, dtype=np.int64),
        "warmup": np.array([d.dropped for d in decisions], dtype=bool),
        "latency_us": np.array([d.available_us for d in decisions], dtype=np.int64) - times,
        "privileged": Ragged.words([record.privileged] * len(which)),
        "local_to_rig": true,
        "dynamics": _dynamics(record.ego, times),
        "estimated_local_to_rig": estimated,
        "estimated_dynamics": _dynamics(record.ego_estimated, times),
        "plan_time_us": Ragged.of([plan.times_us for plan in plans], kind=np.int64),
        "plan_rig_to_future_rig": _relative(estimated, planned),
        "plan_reasoning": [_text(d.plan.reasoning) for d in decisions],
        "plan_terminates": np.array([d.plan.terminate for d in decisions], dtype=bool),
        "route_time_us": Masked(
            np.array([r.time_us if r else 0 for r in routes], dtype=np.int64), has_route
        ),
        "route_rig": Masked(waypoints, has_route),
        "driven_rig_to_future_rig": _driven(rollout, times, true),
        **_incident_columns(rollout, times, incident_within_us),
    }


def _key(rollout: Rollout, count: int) -> dict[str, Sequence[str] | np.ndarray]:
    scene, seed = rollout.source.key
    return {"scene": [_text(scene)] * count, "seed": np.full(count, seed, dtype=np.int64)}


def _text(text: str) -> str:
    """Text that UTF-8 can hold."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _dynamics(ego: EgoMotion, times: Times) -> Array:
    """Motion ``(N, 12)``, interpolated."""
    lo, hi, alpha = bracket(ego.times_us, np.clip(times, ego.times_us[0], ego.times_us[-1]))
    return np.asarray(ego.dynamics[lo] + alpha[:, None] * (ego.dynamics[hi] - ego.dynamics[lo]))


def _relative(base: Array, poses: Ragged) -> Ragged:
    """Poses of row k relative to ``base[k]``."""
    if len(poses.values) == 0:
        return poses
    origins = np.repeat(geometry.inverse(base), poses.lengths, axis=0)
    return Ragged(geometry.compose(origins, np.asarray(poses.values)), poses.offsets)


def _driven(rollout: Rollout, times: Times, true: Array) -> Ragged:
    """What ego did after each decision, as far as it drove."""
    ahead = times[:, None] + DRIVEN_STEP_US * np.arange(1, DRIVEN_STEPS + 1)
    known = ahead <= rollout.record.frontier_us
    offsets = np.concatenate([[0], np.cumsum(known.sum(axis=1))]).astype(np.int32)
    poses = rollout.ego_at(ahead[known]) if known.any() else np.zeros((0, 7))
    return _relative(true, Ragged(poses, offsets))


def _incident_columns(rollout: Rollout, times: Times, within_us: int) -> Columns:
    incidents = rollout.incidents
    starts = np.array([i.start_us for i in incidents], dtype=np.int64)  # sorted
    ends = np.array([i.end_us for i in incidents], dtype=np.int64)
    at = starts.searchsorted(times)
    there = at < len(starts)
    following = np.append(starts, np.iinfo(np.int64).max)[at]
    soon = following - times <= within_us
    seen = times + within_us <= rollout.record.frontier_us
    going_on = (starts <= times[:, None]) & (times[:, None] <= ends)
    kinds = [*(i.kind for i in incidents), None]
    return {
        "in_incident": np.asarray(going_on.any(axis=1)),
        "next_incident_us": Masked(following, there),
        "next_incident_kind": [kinds[k] for k in at.tolist()],
        "incident_ahead": Masked(soon, soon | seen),
    }


def newest_frames(rollout: Rollout, which: Index) -> Columns:
    """Rows of `FRAMES_SEEN`: cameras in their order, those without a frame yet left out."""
    frames, times = rollout.frames, rollout.decisions_us[which]
    capture = np.zeros((len(which), len(frames.cameras)), dtype=np.int64)
    seen = np.zeros(capture.shape, dtype=bool)
    for k in range(len(frames.cameras)):
        own = np.flatnonzero(frames.camera == k)
        at = frames.available_us[own].searchsorted(times, side="right") - 1
        seen[:, k] = at >= 0
        if len(own):  # a frame that came late does not hide a newer one
            capture[:, k] = np.maximum.accumulate(frames.capture_us[own])[at]
    names = [[c for c, s in zip(frames.cameras, row, strict=True) if s] for row in seen.tolist()]
    offsets = np.concatenate([[0], np.cumsum(seen.sum(axis=1))]).astype(np.int32)
    return {
        "frame_cameras": Ragged.words(names),
        "frame_capture_us": Ragged(capture[seen], offsets),
    }


def actor_columns(rollout: Rollout, which: Index) -> Columns:
    """Rows of `ACTORS`: every actor of the scene at each decision, decision by decision."""
    scene, times = rollout.record.scene, rollout.decisions_us[which]
    count, actors = len(which), scene.actors
    poses = relative = np.zeros((count, len(actors), 7))
    valid = np.zeros((count, len(actors)), dtype=bool)
    if valid.size:
        motion = rollout.record.actors.sample(times)
        poses, valid = motion.local_to_aabb.transpose(1, 0, 2), motion.valid.T
        relative = geometry.compose(geometry.inverse(rollout.ego_at(times))[:, None], poses)
    flat = valid.reshape(-1)
    return {
        **_key(rollout, flat.size),
        "decision": np.repeat(which.astype(np.int64), len(actors)),
        "time_us": np.repeat(times, len(actors)),
        "actor_id": [_text(a.id) for a in actors] * count,
        "actor_class": [a.actor_class.name for a in actors] * count,
        "label": [_text(a.label) for a in actors] * count,
        "size_m": np.tile(scene.actor_sizes_m, (count, 1)),
        "valid": flat,
        "local_to_aabb": Masked(poses.reshape(-1, 7), flat),
        "rig_to_aabb": Masked(relative.reshape(-1, 7), flat),
    }


def incident_rows(rollout: Rollout) -> Columns:
    """Rows of `INCIDENTS`."""
    found = rollout.incidents
    return {
        **_key(rollout, len(found)),
        "kind": [i.kind for i in found],
        "label": [i.label for i in found],
        "start_us": np.array([i.start_us for i in found], dtype=np.int64),
        "end_us": np.array([i.end_us for i in found], dtype=np.int64),
        "at_fault": np.array([i.at_fault for i in found], dtype=bool),
        "actor_id": [i.details.get("actor_id") for i in found],
        "actor_class": [i.details.get("actor_class") for i in found],
        "details": [json.dumps(jsonable(i.details), sort_keys=True) for i in found],
        "found_by": [rollout.found_by] * len(found),
    }


def rollout_row(rollout: Rollout, tags: Sequence[str], settings_sha256: str) -> Columns:
    """The row of `ROLLOUTS`."""
    record, result = rollout.record, rollout.source.result
    scores = sorted(result.metrics.items())
    return {
        **_key(rollout, 1),
        "outcome": [result.outcome],
        "error": [_text(result.error.get("what", "")) if result.error else None],
        "stopped_by": [_text(record.stopped_by)],
        **{
            kind: [result.plugins.get(kind)]
            for kind in ("policy", "traffic", "controller", "ground", "renderer")
        },
        "privileged": [list(record.privileged)],
        "tags": [[_text(str(tag)) for tag in tags]],
        "edits": [[_text(edit) for edit in record.scene.edits]],
        "start_us": [int(record.ego.times_us[0])],
        "handover_us": [record.schedule.handover_us],
        "end_us": [record.frontier_us],
        "decision_period_us": [record.schedule.decision_period_us],
        "decisions": [len(rollout.decisions_us)],
        "exported": [len(rollout.chosen)],
        "scores": [[(name, m.value) for name, m in scores if m.value is not None]],
        "undefined": [[(name, _text(m.reason)) for name, m in scores if m.value is None]],
        "settings_sha256": [settings_sha256],
        "scene_sha256": [rollout.scene_sha256],
    }
