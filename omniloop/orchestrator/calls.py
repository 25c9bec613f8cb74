"""The one funnel through which every service is called: timing and error mapping."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from omniloop.core.contracts import GroundResult, Plan, RenderResult
from omniloop.core.errors import OmniloopError, PolicyError, ServiceError
from omniloop.core.motion import ActorMotion, EgoMotion

T = TypeVar("T")

_ANSWERS: dict[tuple[str, str], type] = {
    ("policy", "plan"): Plan,
    ("controller", "step"): EgoMotion,
    ("traffic", "step"): ActorMotion,
    ("ground", "correct"): GroundResult,
    ("renderer", "render"): RenderResult,
}
"""What each service must answer with."""


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
            PolicyError: the policy raised anything of its own, or returned no plan.
            ServiceError: another service raised anything of its own, or returned
                something that is no answer to this method.
            OmniloopError: passed through as it is.
        """
        began = time.perf_counter()
        try:
            got = await answer
            wanted = _ANSWERS.get((service, method), object)
            if not isinstance(got, wanted):
                article = "an" if wanted.__name__[0] in "AE" else "a"
                raise _kind(service)(
                    f"{service} returned a {type(got).__name__}, not {article} {wanted.__name__}",
                    where=self._place(service, method, time_us), remedy=f"return an omniloop {wanted.__name__}",
                )  # fmt: skip
            return got
        except OmniloopError:
            raise
        except (Exception, SystemExit) as error:  # a plugin may be anybody's code
            raise _kind(service)(
                f"{service} raised {type(error).__name__}: {error}",
                where=self._place(service, method, time_us),
            ) from error
        finally:
            took = time.perf_counter() - began
            stats = self.stats.setdefault(f"{service}.{method}", CallStats())
            stats.calls += 1
            stats.total_s += took
            stats.longest_s = max(stats.longest_s, took)

    def _place(self, service: str, method: str, time_us: int | None) -> str:
        when = "" if time_us is None else f" at {time_us} us"
        return f"{self.where}, {service}.{method}{when}"


def _kind(service: str) -> type[OmniloopError]:
    return PolicyError if service == "policy" else ServiceError
