"""What a policy does where its inputs or its answers were disturbed on purpose."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from omniloop.core.contracts import MetricValue
from omniloop.core.motion import Mask
from omniloop.core.record import RolloutRecord
from omniloop.core.time import US_PER_S
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.plan_consistency import HORIZON_S, horizon
from omniloop.metrics.plans import NO_PLANS, deviation_m, plans_of
from omniloop.metrics.samples import ScoreSamples, score_samples
from omniloop.metrics.values import NEVER_DRIVEN, NOTHING_DRIVEN, own, undefined

NOISE_M, NOISE_MPS = 1e-3, 1e-3
"""An estimate of ego's motion that is off by more was disturbed; float32 on a wire is not."""

NOT_INJECTED = "no decision after handover was disturbed"
_NO_SECOND = "no disturbed decision is followed by a second of driving"


def disturbed(record: RolloutRecord) -> Mask:
    """Which decisions ``(D,)`` of `record` were disturbed, as far as it tells.

    A decision is, if its plan came later than the quickest of the rollout's plans, if ego's
    position or speed was told wrong at it, or if a frame of any camera that it would have been
    the first to see was lost.
    """
    decisions = record.decisions
    if not decisions:
        return np.zeros(0, dtype=bool)
    times = np.array([d.time_us for d in decisions], dtype=np.int64)
    late = np.array([d.available_us for d in decisions], dtype=np.int64) - times
    true, told = record.ego, record.ego_estimated
    off = (
        told.trajectory.sample_clamped(times)[:, :3] - true.trajectory.sample_clamped(times)[:, :3]
    )
    since = times - true.times_us[0]
    speed = np.interp(since, true.times_us - true.times_us[0], true.dynamics[:, 0])
    told_speed = np.interp(since, told.times_us - true.times_us[0], told.dynamics[:, 0])
    wrong = (np.linalg.norm(off, axis=1) > NOISE_M) | (np.abs(told_speed - speed) > NOISE_MPS)
    out = np.asarray((late > late.min()) | wrong)
    for lost in record.lost_frames:
        first = np.searchsorted(times, lost.available_us)
        out[first[first < len(times)]] = True
    return out


class FaultReactionMetric:
    """How plans and speed change at decisions that injected faults disturbed.

    A decision is disturbed if its plan came later than the quickest plan of the rollout
    (latency with jitter), if the policy was told a position or speed of ego that is off by
    more than 1 mm or 1 mm/s (noise, delay), or if a frame was lost that would have reached it
    since its decision before. A frame that stays in the policy's history for longer counts at
    the first decision only. Late and worse frames and hidden actors do not count here.

    The deviation of a plan from the one before is that of `plan_consistency`, over pairs of
    which a plan is of a disturbed decision; the details hold that of all other pairs. The change
    of speed is |v(t + 1 s) - v(t)| for each disturbed decision at t.

    Args:
        horizon_s: Over which plans are compared, at most 5 s.
    """

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        own(
            "fault_plan_deviation_m", "m", "mean deviation of consecutive plans, one of them disturbed",
            "mean over pairs", settings=(("horizon_s", HORIZON_S),),
            undefined=f"{NEVER_DRIVEN}; {NO_PLANS}; {NOT_INJECTED}; no such pair reaches the horizon",
        ),
        own(
            "fault_speed_change_mps", "m/s", "mean of |v(t + 1 s) - v(t)| over disturbed decisions at t",
            "mean over decisions",
            undefined=f"{NEVER_DRIVEN}; {NO_PLANS}; {NOT_INJECTED}; {_NO_SECOND}",
        ),
    )  # fmt: skip
    names = tuple(d.name for d in definitions)

    def __init__(self, horizon_s: float = HORIZON_S) -> None:
        self.horizon_s = horizon("metrics.fault_reaction.horizon_s", horizon_s)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`."""
        samples = score_samples(record)
        if samples is None:
            return undefined(self.names, NOTHING_DRIVEN)
        plans = plans_of(record)
        if plans is None:
            return undefined(self.names, NO_PLANS)
        at = np.array([d.time_us for d in record.decisions], dtype=np.int64)
        hit = disturbed(record)[np.searchsorted(at, plans.times_us)]
        if not hit.any():
            return undefined(self.names, NOT_INJECTED)
        apart = deviation_m(plans, self.horizon_s)
        pair, known = hit[1:] | hit[:-1], ~np.isnan(apart)
        around, others = apart[pair & known], apart[~pair & known]
        if len(around):
            details: dict[str, object] = {
                "pairs": len(around),
                "other_pairs": len(others),
                "others_m": float(others.mean()) if len(others) else None,
            }
            first = MetricValue(self.names[0], float(around.mean()), details=details)
        else:
            first = MetricValue(self.names[0], None, "no such pair of plans reaches the horizon")
        return [first, _speed_change(samples, plans.times_us[hit])]


def _speed_change(samples: ScoreSamples, times_us: np.ndarray) -> MetricValue:
    since = samples.times_us - samples.times_us[0]
    began = times_us - samples.times_us[0]
    began = began[began + US_PER_S <= since[-1]]
    if not len(began):
        return MetricValue("fault_speed_change_mps", None, _NO_SECOND)
    speed = samples.ego.speed_mps
    change = np.interp(began + US_PER_S, since, speed) - np.interp(began, since, speed)
    details: dict[str, object] = {"decisions": len(began)}
    return MetricValue("fault_speed_change_mps", float(np.abs(change).mean()), details=details)
