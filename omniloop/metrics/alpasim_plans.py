"""AlpaSim's scores of plans: open-loop collision, minADE, deviation of consecutive plans.

Plans are taken as the policy gave them, in the frame that it knows; warm-up plans too,
though rows before handover do not count. A value stands at the row of its decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask, Times, Trajectory
from omniloop.core.record import Decision, RolloutRecord
from omniloop.core.time import seconds_to_us
from omniloop.metrics.alpasim_contacts import plans_collide
from omniloop.metrics.alpasim_recording import RECORDING_ENDS
from omniloop.metrics.alpasim_rows import Rows, box_centres, recorded_centres
from omniloop.metrics.alpasim_settings import HORIZONS_S, OPEN_LOOP_US, Settings

Index = NDArray[np.intp]

_NONE = np.zeros(0)

NO_PLANS = "the policy made no plan"
NO_SAMPLES = "the policy gives no sampled trajectories"
SAMPLES_SHORT = (
    "AlpaSim's scorer fails: a sampled trajectory does not reach over all rows of its window"
)


@dataclass(frozen=True, eq=False)
class RowPlans:
    """Scores of plans; ``(K,)`` with NaN at rows without one, or a reason.

    Attributes:
        collision: 1 where the plan of the row meets an actor within 3 s, else 0.
        deviation_m: How far the plan of the row is from the one before.
        min_ade_m: By the name ``min_ade@<horizon>s(<target>)``.
    """

    collision: Array | str
    deviation_m: Array | str
    min_ade_m: dict[str, Array | str]


@dataclass(frozen=True, eq=False)
class _Path:
    """A trajectory of ego's box centre: times ``(N,)``, ``(N, 2)`` and headings ``(N,)``."""

    times_us: Times
    xy: Array
    yaw_rad: Array


def row_plans(record: RolloutRecord, rows: Rows, settings: Settings) -> RowPlans:
    """Score the plans of a rollout."""
    decisions = [d for d in record.decisions if len(d.plan.local_to_rig)]
    names = [f"min_ade@{h}s({target})" for target in ("gt", "self") for h in HORIZONS_S]
    if not decisions:
        return RowPlans(NO_PLANS, NO_PLANS, dict.fromkeys(names, NO_PLANS))
    at = rows.at(np.array([d.time_us for d in decisions], dtype=np.int64))
    plans = _paths(record, [d.plan.local_to_rig for d in decisions])
    collision, deviation_m = (np.full(len(rows.times_us), np.nan) for _ in range(2))
    collision[at] = _collisions(record, decisions, plans, settings)
    deviation_m[at[1:]] = _deviations_m(plans, settings)
    return RowPlans(collision, deviation_m, _min_ade(record, rows, settings))


def _paths(record: RolloutRecord, trajectories: Sequence[Trajectory]) -> list[_Path]:
    """Box centres of many trajectories of the rig, none of them empty."""
    boxes = box_centres(record.scene, np.concatenate([t.poses for t in trajectories]))
    yaw = geometry.yaw_rad(boxes)
    ends = np.cumsum([len(t) for t in trajectories]).tolist()
    return [
        _Path(t.times_us, boxes[end - len(t) : end, :2], yaw[end - len(t) : end])
        for t, end in zip(trajectories, ends, strict=True)
    ]


def _collisions(
    record: RolloutRecord, decisions: Sequence[Decision], plans: list[_Path], settings: Settings
) -> Array:
    """Whether each plan collides; without a pose in its window NaN, in strict 0."""
    times = np.concatenate([p.times_us for p in plans])
    counts = [len(p.times_us) for p in plans]
    now = np.repeat(np.array([d.time_us for d in decisions], dtype=np.int64), counts)
    which = np.repeat(np.arange(len(plans)), counts)
    ahead = (times > now) & (times <= now + OPEN_LOOP_US)
    xy = np.concatenate([p.xy for p in plans])[ahead]
    yaw = np.concatenate([p.yaw_rad for p in plans])[ahead]
    hit = plans_collide(record, xy, yaw, times[ahead], settings)
    out = np.full(len(plans), 0.0 if settings.strict else np.nan)
    out[which[ahead]] = 0.0
    out[which[ahead][hit]] = 1.0
    return out


def _deviations_m(plans: list[_Path], settings: Settings) -> Array:
    """Weighted distance of each plan but the first from the one before it; NaN if none.

    The first pose of a plan is where ego is, not planned, and does not take part.
    """
    counts = np.array([len(p.times_us) for p in plans])
    times = np.concatenate([p.times_us for p in plans])
    xy = np.concatenate([p.xy for p in plans])
    plan = np.repeat(np.arange(len(plans)), counts)
    place = np.arange(len(times)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts, ends = (np.array([p.times_us[i] for p in plans]) for i in (0, -1))
    later = np.flatnonzero((plan > 0) & (place > 0))
    before = plan[later] - 1
    later = later[(times[later] >= starts[before]) & (times[later] <= ends[before])]
    away = xy[later] - _positions(plans, plan[later] - 1, times[later])
    # Common times of two plans are consecutive: weights count from the first of them.
    first = np.searchsorted(plan[later], np.arange(len(plans)))
    rank = np.arange(len(later)) - first[plan[later]]
    weights = np.exp(-settings.plan_decay * rank)
    total = np.bincount(plan[later], weights, len(plans))
    weighted = np.bincount(plan[later], weights * np.hypot(away[:, 0], away[:, 1]), len(plans))
    enough = np.bincount(plan[later], minlength=len(plans)) >= (
        1 if settings.strict else settings.plan_min_timesteps
    )
    return np.where(enough, weighted / np.where(enough, total, 1.0), np.nan)[1:]


def _positions(paths: Sequence[_Path], which: Index, times_us: Times) -> Array:
    """Positions ``(N, 2)`` of paths at times ``(N,)``; a time outside its path gives an end."""
    starts, ends = (np.array([p.times_us[i] for p in paths]) for i in (0, -1))
    # All paths one after another on one axis, so that one call interpolates them all.
    origin, span_us = int(starts.min()), int(ends.max() - starts.min()) + 1
    held = np.concatenate([p.times_us - origin + i * span_us for i, p in enumerate(paths)])
    asked = np.clip(times_us, starts[which], ends[which]) - origin + which * span_us
    xy = np.concatenate([p.xy for p in paths])
    return np.stack([np.interp(asked, held, xy[:, i]) for i in (0, 1)], axis=1)


def _min_ade(record: RolloutRecord, rows: Rows, settings: Settings) -> dict[str, Array | str]:
    """``min_ade`` at every horizon, against the recording and against what was driven."""
    sampled = [d for d in record.decisions if any(len(s) for s in d.plan.samples)]
    names = {t: [f"min_ade@{h}s({t})" for h in HORIZONS_S] for t in ("gt", "self")}
    if not sampled:
        return dict.fromkeys([*names["gt"], *names["self"]], NO_SAMPLES)
    window = _windows(record, rows, sampled)
    out: dict[str, Array | str] = {}
    for target in ("gt", "self"):
        reference, reason = rows.ego_xy, ""
        if target == "gt" and rows.times_us[-1] > record.scene.ego.end_us:
            reason = RECORDING_ENDS
        elif target == "gt":
            recorded = _Path(record.scene.ego.times_us, recorded_centres(record.scene), _NONE)
            reference = _positions([recorded], np.zeros_like(rows.times_us), rows.times_us)
        if settings.strict and not reason and (window.inside & ~window.covered).any():
            reason = SAMPLES_SHORT
        if reason:
            out.update(dict.fromkeys(names[target], reason))
            continue
        away = window.xy - reference[window.row]
        means = np.cumsum(np.hypot(away[..., 0], away[..., 1]), axis=1)
        means /= np.arange(1, means.shape[1] + 1)
        for name, horizon_s in zip(names[target], HORIZONS_S, strict=True):
            out[name] = _at_horizon(window, rows, means, seconds_to_us(horizon_s), settings.strict)
    return out


@dataclass(frozen=True, eq=False)
class _Windows:
    """N samples of D decisions at up to W rows, from the next decision to the last horizon.

    Attributes:
        at: ``(D,)`` row of each decision.
        first: ``(D,)`` row of the next decision.
        decision: ``(N,)`` which decision a sample is of.
        row: ``(N, W)`` rows; those after the last horizon repeat some row.
        inside: ``(N, W)`` whether a row is within the window.
        covered: ``(N, W)`` whether it is, and the sample holds its time.
        xy: ``(N, W, 2)`` the sample's position.
    """

    at: Index
    first: Index
    decision: Index
    row: Index
    inside: Mask
    covered: Mask
    xy: Array


def _windows(record: RolloutRecord, rows: Rows, sampled: Sequence[Decision]) -> _Windows:
    times = rows.times_us
    every = [(i, s) for i, d in enumerate(sampled) for s in d.plan.samples if len(s)]
    decision = np.array([i for i, _ in every])
    paths = _paths(record, [s for _, s in every])
    now = np.array([d.time_us for d in sampled], dtype=np.int64)
    first = np.searchsorted(times, now + record.schedule.decision_period_us)
    end = np.searchsorted(times, now + seconds_to_us(max(HORIZONS_S)), side="right")
    row = first[:, None] + np.arange(max(int((end - first).max()), 1))
    inside = (row < end[:, None])[decision]
    row = np.minimum(row, len(times) - 1)[decision]
    starts, ends = (np.array([p.times_us[i] for p in paths])[:, None] for i in (0, -1))
    covered = inside & (times[row] >= starts) & (times[row] <= ends)
    which = np.repeat(np.arange(len(paths)), row.shape[1])
    xy = _positions(paths, which, times[row].reshape(-1)).reshape(*row.shape, 2)
    return _Windows(rows.at(now), first, decision, row, inside, covered, xy)


def _at_horizon(window: _Windows, rows: Rows, means: Array, horizon_us: int, strict: bool) -> Array:
    """The least mean of each decision's samples at a horizon ``(K,)``; NaN without one.

    Corrected takes the rows up to the horizon, and the samples that hold them; without one,
    or if the rollout ends before, there is no value. Strict takes as many rows as there are
    from the decision to the horizon, though the first of them lies at the next decision.
    """
    times = rows.times_us
    until_us = times[window.at] + horizon_us
    if strict:
        last = np.searchsorted(times, until_us) - window.at - 1
        reached = last >= 0
    else:
        last = np.searchsorted(times, until_us, side="right") - window.first - 1
        reached = (last >= 0) & (until_us <= times[-1])
    last = last[window.decision]
    sample = np.arange(len(last))
    at = np.clip(last, 0, means.shape[1] - 1)
    held = reached[window.decision] & (last < means.shape[1])
    held &= window.covered[sample, at] & window.covered[:, 0]
    best = np.full(len(window.at), np.inf)
    np.minimum.at(best, window.decision[held], means[sample, at][held])
    out = np.full(len(times), np.nan)
    out[window.at] = np.where(np.isfinite(best), best, np.nan)
    return out
