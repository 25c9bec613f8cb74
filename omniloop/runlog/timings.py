"""Where the time of a rollout went, from the timings in its result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from omniloop.core.calls import CONTRACT_METHODS
from omniloop.runlog.results import RolloutResult


@dataclass(frozen=True)
class RolloutTimes:
    """Wall-clock times of a rollout [s]; None where its result does not tell.

    Attributes:
        queued_s: From the run's start until it began.
        rollout_s: To simulate it.
        services: Of that, waiting for each service that was called.
        own_s: Of that, the rest: the loop's own work, and waiting for its turn in the process.
        scoring_s: To score it.
        wall_s: From its beginning to its result.
    """

    queued_s: float | None
    rollout_s: float | None
    services: Mapping[str, float]
    scoring_s: float | None
    wall_s: float | None

    @property
    def own_s(self) -> float | None:
        """See the class."""
        if self.rollout_s is None:
            return None
        return max(self.rollout_s - sum(self.services.values()), 0.0)

    @property
    def rest_s(self) -> float | None:
        """After simulating and scoring: the video, and the result put together."""
        if self.wall_s is None or self.rollout_s is None or self.scoring_s is None:
            return None
        return max(self.wall_s - self.rollout_s - self.scoring_s, 0.0)


def times_of(result: RolloutResult) -> RolloutTimes:
    """The times of a rollout."""
    services: dict[str, float] = {}
    for (service, method), (_, total_s, _) in calls_of(result).items():
        if method in CONTRACT_METHODS:  # remote calls within them would count twice
            services[service] = services.get(service, 0.0) + total_s
    timings = result.timings
    return RolloutTimes(
        queued_s=seconds(timings.get("queued_s")), rollout_s=seconds(timings.get("rollout_s")),
        services=services, scoring_s=seconds(timings.get("scoring_s")),
        wall_s=seconds(timings.get("wall_s")),
    )  # fmt: skip


def calls_of(result: RolloutResult) -> dict[tuple[str, str], tuple[int, float, float]]:
    """Calls, seconds and the longest call of a rollout, by service and method."""
    services = result.timings.get("services")
    found = {}
    for name, facts in services.items() if isinstance(services, Mapping) else ():
        if isinstance(facts, Mapping):
            service, _, method = str(name).partition(".")
            count = int(seconds(facts.get("calls")) or 0)
            total_s = seconds(facts.get("total_s")) or 0.0
            longest_s = seconds(facts.get("longest_s")) or 0.0
            found[service, method] = (count, total_s, longest_s)
    return found


def seconds(value: object) -> float | None:
    """A number of a result's timings, if it is one."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None
