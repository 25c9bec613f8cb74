"""Hand-made rollouts for the `alpasim` family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from omniloop.core.contracts import MetricValue, Plan
from omniloop.core.geometry import Array
from omniloop.core.motion import Trajectory
from omniloop.core.record import Decision, RolloutRecord
from omniloop.core.scene import Lane, Polyline, VectorMap
from omniloop.metrics.alpasim_metric import AlpasimMetric
from tests.metrics.records import Path, by_name, poses_of

PlanAt = Callable[[float], Path | None]
"""Seconds of a decision since handover to what it plans; None for no plan."""


def scores(of: RolloutRecord, **settings: object) -> dict[str, MetricValue]:
    """Values by AlpaSim's names, without our prefix."""
    metric = AlpasimMetric(**settings)  # type: ignore[arg-type]
    found = by_name(metric, of)
    assert tuple(found) == metric.names
    return {name.removeprefix("alpasim_"): value for name, value in found.items()}


def both(of: RolloutRecord, name: str) -> tuple[float | None, float | None]:
    """A score corrected and strict."""
    return scores(of)[name].value, scores(of, compat="strict")[name].value


def line(points: Sequence[tuple[float, float]], id: str = "edge") -> Polyline:
    return Polyline(id, np.array([[x, y, 0.0] for x, y in points]))


def lane_along_x(
    y0: float, y1: float, x0: float = -50.0, x1: float = 200.0, id: str = "", back: bool = False
) -> Lane:
    """A lane between two values of y; `back` against x."""
    xs = (x1, x0) if back else (x0, x1)
    low, high = (np.array([[x, y, 0.0] for x in xs]) for y in (y0, y1))
    left, right = (low, high) if back else (high, low)
    return Lane(id or f"lane {y0} {y1}", (low + high) / 2, left=left, right=right)


def two_lanes(edges: float | None = 4.0) -> VectorMap:
    """Two lanes of 3.5 m along x, and road edges at +-`edges`."""
    found = () if edges is None else (
        line([(-50, edges), (200, edges)], "left"), line([(-50, -edges), (200, -edges)], "right"),
    )  # fmt: skip
    return VectorMap(lanes=(lane_along_x(-3.5, 0.0), lane_along_x(0.0, 3.5)), road_boundaries=found)


def planned(
    of: RolloutRecord,
    plan: PlanAt,
    *,
    samples: Sequence[PlanAt] = (),
    horizon_s: float = 6.0,
    step_us: int = 100_000,
) -> RolloutRecord:
    """The same rollout with a plan of the rig at every decision, the first pose at its time."""
    decisions = []
    handover_us = of.schedule.handover_us
    for time_us in of.schedule.decisions_us.tolist():
        if time_us >= of.frontier_us:
            break
        now_s = (time_us - handover_us) / 1e6
        times = np.arange(time_us, time_us + round(horizon_s * 1e6) + 1, step_us)

        def trajectory(plan_at: PlanAt, now_s: float = now_s, times: Array = times) -> Trajectory:
            path = plan_at(now_s)
            if path is None:
                return Plan().local_to_rig
            return Trajectory(times, poses_of(path, (times - handover_us) / 1e6))

        made = Plan(trajectory(plan), tuple(trajectory(s) for s in samples))
        decisions.append(Decision(time_us, time_us, made, time_us < handover_us))
    return replace(of, decisions=tuple(decisions))
