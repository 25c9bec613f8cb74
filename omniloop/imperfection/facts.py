"""What was injected where no session could tell: into ego motion and decisions."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.record import RolloutRecord
from omniloop.imperfection.settings import ImperfectionSettings


def facts_of(
    record: RolloutRecord, settings: ImperfectionSettings, latency_us: int
) -> dict[str, object]:
    """Facts of `ego_motion` and `latency`, as far as they are on.

    Args:
        latency_us: The latency that every decision has.
    """
    out: dict[str, object] = {}
    if settings.ego_motion.is_on:
        out["ego_motion"] = {"delay_us": settings.ego_motion.delay_us, **ego_errors(record)}
    if settings.latency.is_on:
        extra = [d.available_us - d.time_us - latency_us for d in record.decisions]
        if extra:
            out["latency"] = {
                "decisions": len(extra),
                "min_us": min(extra),
                "mean_us": sum(extra) / len(extra),
                "max_us": max(extra),
            }
    return out


def ego_errors(record: RolloutRecord) -> dict[str, float]:
    """How far the policy's ego motion was off, on the score grid.

    It is the estimate at t against the truth at t: the way driven in the delay is a part of it.
    Position is counted in the plane, speed along the rig's x axis.
    """
    times = record.schedule.score_times_us(record.frontier_us)
    true = record.ego.trajectory.sample(times)
    told = record.ego_estimated.trajectory.sample(times)
    speed = np.interp(
        times, record.ego.times_us, record.ego_estimated.dynamics[:, 0] - record.ego.dynamics[:, 0]
    )
    errors = {
        "position": ("m", np.linalg.norm(told[:, :2] - true[:, :2], axis=1)),
        "yaw": ("rad", geometry.wrap_rad(geometry.yaw_rad(told) - geometry.yaw_rad(true))),
        "speed": ("mps", speed),
    }
    out: dict[str, float] = {}
    for name, (unit, values) in errors.items():
        out[f"{name}_rms_{unit}"] = _rms(values)
        out[f"{name}_max_{unit}"] = float(np.abs(values).max())
    return out


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
