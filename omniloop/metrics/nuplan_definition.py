"""What the definitions of nuPlan's scores have in common."""

from __future__ import annotations

from omniloop.metrics.definition import MetricDefinition, Reduction
from omniloop.metrics.values import NEVER_DRIVEN


def nuplan_score(
    name: str,
    *,
    formula: str,
    over_time: str,
    undefined: str,
    source: str,
    unit: str = "1",
    over_rollouts: Reduction = "mean",
) -> MetricDefinition:
    """Define a score of the family `nuplan`: 1 is best.

    Args:
        undefined: When there is none, besides that nothing was driven.
        source: Files of nuplan-devkit.
    """
    return MetricDefinition(
        name, "nuplan", unit, formula, over_time, over_rollouts, "higher",
        f"{NEVER_DRIVEN}; {undefined}", f"nuplan-devkit, {source}",
    )  # fmt: skip
