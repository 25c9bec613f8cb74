"""The one funnel through which every service is called: timing, retries, error mapping.

A call of a plugin in this process and a remote procedure call go the same way; how a
transport's errors become errors of Omniloop is the transport's knowledge.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from omniloop.core.errors import OmniloopError, PolicyError, ServiceError
from omniloop.core.load import Load

T = TypeVar("T")

CONTRACT_METHODS = frozenset({"open", "plan", "step", "correct", "render", "close"})
"""What a rollout calls and waits for; remote calls have other names, and go on within these."""

Explain = Callable[[BaseException], OmniloopError | None]
"""Turns a transport's exception into an error of Omniloop; None for one it does not know."""


class WrongAnswer(TypeError):
    """An answer is not of the type that its method must answer with."""

    def __init__(self, got: object, wanted: type) -> None:
        article = "an" if wanted.__name__[0] in "AEIOaeio" else "a"
        super().__init__(f"a {type(got).__name__}, not {article} {wanted.__name__}")
        self.wanted = wanted


@dataclass
class CallStats:
    """Wall-clock time of one method: for result.json, never for the log."""

    calls: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0
    retries: int = 0


@dataclass(frozen=True)
class RetryRule:
    """When a call is made again.

    Attributes:
        delays_s: Waits before the second, third, ... attempt.
        passing: Whether the cause of an error is known to be passing.
    """

    delays_s: tuple[float, ...]
    passing: Callable[[OmniloopError], bool]


@dataclass
class CallFunnel:
    """Calls services for one rollout.

    Attributes:
        where: The rollout's name, for messages.
        stats: Wall-clock time by ``service.method``.
        facts: What each service's session told of itself as it closed.
        loads: Load by service, shared with other rollouts.
        under_way: Service and method of each call that is awaited now, the oldest first.
    """

    where: str
    stats: dict[str, CallStats] = field(default_factory=dict)
    facts: dict[str, dict[str, object]] = field(default_factory=dict)
    loads: Mapping[str, Load] = field(default_factory=dict)
    under_way: list[tuple[str, str]] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """Calls that ended so far."""
        return sum(s.calls for s in self.stats.values())

    async def __call__(
        self,
        service: str,
        method: str,
        answer: Awaitable[T],
        time_us: int | None = None,
        wanted: type = object,
        explain: Explain | None = None,
        began_s: float | None = None,
    ) -> T:
        """Await a service's answer.

        Args:
            time_us: The simulated time, for messages.
            wanted: The type that the answer must have.
            explain: What a transport knows of its own exceptions.
            began_s: When the call began, by `time.perf_counter`, if that was earlier.

        Raises:
            PolicyError: the policy raised anything of its own, or returned no plan.
            ServiceError: another service raised anything of its own, or returned
                something that is no answer to this method.
            OmniloopError: passed through; its place is filled in where it names none.
        """
        began = time.perf_counter() if began_s is None else began_s
        load = self.loads.get(service) if method in CONTRACT_METHODS else None
        if load is not None:
            load.begin(began)
        named = (service, method)
        self.under_way.append(named)
        try:
            got = await answer
            if wanted is not object and not isinstance(got, wanted):
                raise WrongAnswer(got, wanted)
            return got
        except OmniloopError as error:
            error.where = error.where or self.place(service, method, time_us)
            raise
        except (Exception, SystemExit) as error:  # a plugin may be anybody's code
            known = explain(error) if explain is not None else None
            if known is not None:
                raise known from error
            if isinstance(error, WrongAnswer):
                raise _kind(service)(
                    f"{service} returned {error}", where=self.place(service, method, time_us),
                    remedy=f"return an omniloop {error.wanted.__name__}",
                ) from None  # fmt: skip
            raise _kind(service)(
                f"{service} raised {type(error).__name__}: {error}",
                where=self.place(service, method, time_us),
            ) from error
        finally:
            now = time.perf_counter()
            took = now - began
            self.under_way.remove(named)
            if load is not None:
                load.end(now, took)
            stats = self.stats.get(f"{service}.{method}")
            if stats is None:
                stats = self.stats.setdefault(f"{service}.{method}", CallStats())
            stats.calls += 1
            stats.total_s += took
            stats.longest_s = max(stats.longest_s, took)

    async def retried(
        self,
        service: str,
        method: str,
        attempt: Callable[[], Awaitable[T]],
        rule: RetryRule,
        time_us: int | None = None,
        wanted: type = object,
        explain: Explain | None = None,
    ) -> T:
        """Like a call, made again while the rule says that the cause is passing."""
        for number, delay_s in enumerate((*rule.delays_s, None)):
            try:
                return await self(service, method, attempt(), time_us, wanted, explain)
            except OmniloopError as error:
                if delay_s is None or not rule.passing(error):
                    if number:
                        error.what += f" (after {number + 1} attempts)"
                    raise
            self.stats[f"{service}.{method}"].retries += 1
            await asyncio.sleep(delay_s)
        raise AssertionError("the last attempt returns or raises")

    def place(self, service: str, method: str, time_us: int | None) -> str:
        """``<rollout>, <service>.<method> at <time> us``."""
        when = "" if time_us is None else f" at {time_us} us"
        return f"{self.where}, {service}.{method}{when}"


def _kind(service: str) -> type[OmniloopError]:
    return PolicyError if service == "policy" else ServiceError
