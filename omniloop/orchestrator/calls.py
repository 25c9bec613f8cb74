"""The one funnel through which every service is called: timing and error mapping."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from omniloop.core.errors import OmniloopError, PolicyError, ServiceError

T = TypeVar("T")


@dataclass
class CallStats:
    """Wall-clock time of one method: for result.json, never for the log."""

    calls: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0


@dataclass
class CallFunnel:
    """Calls services for one rollout.

    Attributes:
        where: The rollout's name, for messages.
        stats: Wall-clock time by ``service.method``.
    """

    where: str
    stats: dict[str, CallStats] = field(default_factory=dict)

    async def __call__(
        self, service: str, method: str, answer: Awaitable[T], time_us: int | None = None
    ) -> T:
        """Await a service's answer.

        Raises:
            PolicyError: the policy raised anything of its own.
            ServiceError: another service raised anything of its own.
            OmniloopError: passed through as it is.
        """
        began = time.perf_counter()
        try:
            return await answer
        except OmniloopError:
            raise
        except (Exception, SystemExit) as error:  # a plugin may be anybody's code
            place = f"{self.where}, {service}.{method}" + (
                "" if time_us is None else f" at {time_us} us"
            )
            kind = PolicyError if service == "policy" else ServiceError
            raise kind(f"{service} raised {type(error).__name__}: {error}", where=place) from error
        finally:
            took = time.perf_counter() - began
            stats = self.stats.setdefault(f"{service}.{method}", CallStats())
            stats.calls += 1
            stats.total_s += took
            stats.longest_s = max(stats.longest_s, took)
