"""The policy's plans of a rollout, sampled together.

Plans are those of decisions from handover on: what warm-up drops is left out. All are sampled
every 100 ms after their decision. A plan has no position where it does not reach; it is read
as it was given, in `local` as the policy knows it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.motion import Times, Trajectory
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.core.time import SCORE_STEP_US, US_PER_S
from omniloop.metrics.contacts import Index

HORIZONS_S = (0.5, 1.0, 2.5, 5.0)
"""Horizons at which plans are compared (AlpaSim, `min_ade`)."""

LONGEST_US = 5_000_000
STEPS = LONGEST_US // SCORE_STEP_US

NO_PLANS = "the policy made no plan after handover"

_APART_US = 1 << 30
"""Plans are put on one line of time, 18 minutes apart: all are then interpolated at once."""


@dataclass(frozen=True, eq=False)
class Plans:
    """Plans of D decisions, and the N >= D trajectories in them.

    Attributes:
        times_us: ``(D,)`` when the decisions were taken.
        decision: ``(N,)`` which decision a trajectory is of.
        chosen: ``(D,)`` the trajectory that is the plan; others are further samples.
    """

    times_us: Times
    decision: Index
    chosen: Index
    _line_us: Times
    _xy: Array
    _ends: Index

    def at(self, row: Index, since_us: Times) -> Array:
        """Positions of the rig origin ``(R, S, 2)``; NaN where a trajectory does not reach.

        Args:
            row: ``(R,)`` trajectories.
            since_us: ``(S,)`` or ``(R, S)`` times after the decision.
        """
        ask = since_us + row[:, None] * _APART_US
        xy = np.stack([np.interp(ask, self._line_us, self._xy[:, i]) for i in range(2)], axis=-1)
        first, last = self._line_us[self._ends[row]].T
        xy[(ask < first[:, None]) | (ask > last[:, None])] = np.nan
        return xy

    @functools.cached_property
    def xy(self) -> Array:
        """``(N, STEPS, 2)`` positions 0.1, 0.2, ... 5.0 s after the decision."""
        return self.at(np.arange(len(self.decision)), offsets_us(STEPS))


def offsets_us(count: int) -> Times:
    """``(count,)`` the first times after a decision."""
    return SCORE_STEP_US * np.arange(1, count + 1, dtype=np.int64)


@once_per_object
def plans_of(record: RolloutRecord) -> Plans | None:
    """The plans of a rollout; None if there are none after handover."""
    decisions = [
        d for d in record.decisions
        if not d.dropped and d.time_us >= record.schedule.handover_us and len(d.plan.local_to_rig)
    ]  # fmt: skip
    found: list[Trajectory] = []
    decision: list[int] = []
    chosen: list[int] = []
    for i, made in enumerate(decisions):
        chosen.append(len(found))
        found.append(made.plan.local_to_rig)
        found += [sample for sample in made.plan.samples if len(sample)]
        decision += [i] * (len(found) - len(decision))
    if not found:
        return None
    times_us = np.array([d.time_us for d in decisions], dtype=np.int64)
    lengths = np.array([len(t) for t in found])
    which = np.repeat(np.arange(len(found)), lengths)
    since = np.concatenate([t.times_us for t in found]) - times_us[np.array(decision)][which]
    ends = np.cumsum(lengths)
    return Plans(
        times_us, np.array(decision, dtype=np.intp), np.array(chosen, dtype=np.intp),
        since + which * _APART_US, np.concatenate([t.poses[:, :2] for t in found]),
        np.stack([ends - lengths, ends - 1], axis=1),
    )  # fmt: skip


def sampled_xy(of: Trajectory, times_us: Times) -> Array:
    """Positions ``(..., 2)`` of a trajectory at times ``(...)``; NaN outside it."""
    # Times are subtracted as integers, so that epoch-sized ones lose nothing.
    ask, line = times_us - of.start_us, of.times_us - of.start_us
    xy = np.stack([np.interp(ask, line, of.poses[:, i]) for i in range(2)], axis=-1)
    xy[(times_us < of.start_us) | (times_us > of.end_us)] = np.nan
    return xy


def min_ade_m(plans: Plans, truth: Trajectory, horizon_s: float) -> Array:
    """Least mean displacement ``(D,)`` of each decision's trajectories up to a horizon.

    NaN where no trajectory of the decision, or not the truth, reaches the horizon.
    """
    steps = steps_of(horizon_s)
    true_xy = sampled_xy(truth, plans.times_us[:, None] + offsets_us(steps))
    away = plans.xy[:, :steps] - true_xy[plans.decision]
    ade = np.hypot(away[..., 0], away[..., 1]).mean(axis=1)
    least = np.full(len(plans.times_us), np.inf)
    np.fmin.at(least, plans.decision, ade)
    least[np.isinf(least)] = np.nan
    return least


def deviation_m(plans: Plans, horizon_s: float) -> Array:
    """How far each plan departs from the one before it, ``(D - 1,)``.

    The mean distance of both at the same times, every 100 ms after the later decision, up to
    the horizon; NaN where one of them does not reach it.
    """
    steps = steps_of(horizon_s)
    later = offsets_us(steps) + np.diff(plans.times_us)[:, None]
    away = plans.xy[plans.chosen[1:], :steps] - plans.at(plans.chosen[:-1], later)
    return np.asarray(np.hypot(away[..., 0], away[..., 1]).mean(axis=1))


def steps_of(horizon_s: float) -> int:
    """Steps of 100 ms up to a horizon."""
    return round(horizon_s * US_PER_S) // SCORE_STEP_US
