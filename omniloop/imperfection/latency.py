"""Decision latency that varies from decision to decision."""

from __future__ import annotations

from omniloop.core.motion import Times, as_times
from omniloop.imperfection.draws import uniform_us
from omniloop.imperfection.settings import LatencySettings


def extra_latency_us(settings: LatencySettings, n_decisions: int, seed: int) -> Times | None:
    """``(n_decisions,)`` extra latency of each decision; None if this is off.

    Args:
        seed: Of the rollout's disturbances.
    """
    if not settings.is_on:
        return None
    jitter = uniform_us(settings.jitter_us, n_decisions, seed, "latency", "jitter")
    return as_times(settings.extra_us + jitter)
