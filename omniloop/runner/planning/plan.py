"""How long a batch of rollouts takes, what it costs and what holds it up, before it is run.

Two answers stand side by side: a bound that no schedule can beat, with its terms, and a simulation
of every call of every step (`omniloop.runner.planning.simulation`) under the rules that runs follow.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from omniloop.core.errors import ConfigError, nearest

WORKERS = "workers"
SESSION = "rollouts of one session"
MOST_IN_FLIGHT = 64
"""Rollouts that one worker simulates at once."""
_BY_DEFAULT = 8
_LEAST_VARIED, _MOST_VARIED = 4, 64


@dataclass(frozen=True)
class Service:
    """A service elsewhere.

    Attributes:
        name: "renderer", "policy", ...
        call_s: What a call takes that has an address to itself.
        calls: In a step, one after the other.
        addresses: How many.
        sessions: At once at each address; None for any number.
        at_once: Calls that an address works on together, each for its whole time.
        batch: Calls that it answers in one go of its time.
        gpus: Of each address.
    """

    name: str
    call_s: float
    calls: int = 1
    addresses: int = 1
    sessions: int | None = None
    at_once: int = 1
    batch: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        for key in ("calls", "addresses", "sessions", "at_once", "batch"):
            number = getattr(self, key)
            if number is not None and number < 1:
                raise ConfigError(
                    f"{self.name}.{key} is {number}", where=self.name, remedy="give 1 or more"
                )
        for key in ("call_s", "gpus"):
            if not 0 <= getattr(self, key) < math.inf:
                raise ConfigError(
                    f"{self.name}.{key} is {getattr(self, key)}", where=self.name,
                    remedy="give 0 or more",
                )  # fmt: skip

    @property
    def calls_per_s(self) -> float:
        """Calls that all addresses together answer in a second."""
        return self.addresses * self.at_once * self.batch / self.call_s if self.call_s else math.inf


@dataclass(frozen=True)
class Workload:
    """What is to be run, and on what.

    A rollout begins with `start_s` and one call of the renderer, if there is one; each step then
    calls every service in order and takes the worker `loop_s`; it ends with `scoring_s` of the
    worker, in which it holds no session. A worker does one thing at a time.

    Attributes:
        services: Those elsewhere, in the order in which a step calls them.
        loop_s: CPU time of a worker in a step, with what runs in its own process.
        start_s: Until its sessions are open, which keeps nothing busy.
        workers: Processes.
        cores: That they share; None for one each.
        concurrency: Rollouts at once; None for as many as the services hold or, where none limits
            them, one per worker or core up to 8.
        notes: What a reader should know of where these come from.
    """

    rollouts: int
    steps: int
    services: tuple[Service, ...] = ()
    loop_s: float = 0.0
    start_s: float = 0.0
    scoring_s: float = 0.0
    workers: int = 1
    cores: int | None = None
    concurrency: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key in ("rollouts", "steps", "workers", "cores", "concurrency"):
            number = getattr(self, key)
            if number is not None and number < 1:
                raise ConfigError(f"{key} is {number}", remedy="give 1 or more")
        for key in ("loop_s", "start_s", "scoring_s"):
            if not 0 <= getattr(self, key) < math.inf:
                raise ConfigError(f"{key} is {getattr(self, key)}", remedy="give 0 or more")
        if not self.path_s and not self.own_s:
            raise ConfigError(
                "nothing takes any time",
                remedy="give a service's time, such as policy=80ms, or loop=",
            )

    @property
    def slowdown(self) -> float:
        """How much longer a worker's own time takes because cores are shared."""
        return max(1.0, self.workers / (self.cores or self.workers))

    @property
    def path_s(self) -> float:
        """The critical path of a step: every call and the worker, with nothing to wait for."""
        return sum(s.calls * s.call_s for s in self.services) + self.loop_s

    @property
    def own_s(self) -> float:
        """CPU time of a worker for a rollout."""
        return self.steps * self.loop_s + self.scoring_s

    @property
    def first_s(self) -> float:
        """The first call of the renderer."""
        return sum(s.call_s for s in self.services if s.name == "renderer")

    @property
    def session_s(self) -> float:
        """How long a rollout holds its sessions at least."""
        return self.start_s + self.first_s + self.steps * self.path_s

    @property
    def at_once(self) -> int:
        """Rollouts that are simulated at once."""
        return min(self._limits().values())

    @property
    def limited_by(self) -> str:
        """Which limit `at_once` is."""
        limits = self._limits()
        return min(limits, key=lambda name: limits[name])

    @property
    def cap(self) -> int | None:
        """Rollouts at once but for what services and workers hold."""
        if self.concurrency is not None or any(s.sessions for s in self.services):
            return self.concurrency
        return max(self.workers, min(self.cores or _BY_DEFAULT, _BY_DEFAULT))

    def _limits(self) -> dict[str, int]:
        held = {f"{s.name}.sessions": s.addresses * s.sessions for s in self.services if s.sessions}
        return {
            **held,
            **({} if self.cap is None else {"concurrency": self.cap}),
            "rollouts": self.rollouts,
            WORKERS: self.workers * MOST_IN_FLIGHT,
        }

    def calls(self, service: Service) -> int:
        """Calls of a service in a rollout."""
        return self.steps * service.calls + (service.name == "renderer")

    @property
    def gpus(self) -> float:
        """Of all services."""
        return sum(s.addresses * s.gpus for s in self.services)

    def with_number(self, what: str, number: int) -> Workload:
        """The same with so many addresses of a service, or so many workers.

        Raises:
            ConfigError: there is no such service.
        """
        if what == WORKERS:
            return replace(self, workers=number)
        names = [s.name for s in self.services]
        if what not in names:
            raise ConfigError(
                f"there is no '{what}' elsewhere to have more of.{nearest(what, [*names, WORKERS])}",
                remedy=f"choose of: {', '.join([*names, WORKERS])}",
            )
        return replace(
            self,
            services=tuple(
                replace(s, addresses=number) if s.name == what else s for s in self.services
            ),
        )


@dataclass(frozen=True)
class Term:
    """One reason why a batch cannot be quicker.

    Attributes:
        name: What would take the time.
        seconds: How much.
        how: The numbers that make it.
    """

    name: str
    seconds: float
    how: str


def bound(batch: Workload) -> tuple[Term, ...]:
    """What the batch takes at least, by what it would be that takes it; the largest counts.

    The terms: for each service and for the workers, all its work over its capacity; and the
    rollouts that one session must simulate one after the other, each as long as its critical
    path.
    """
    terms = []
    for s in batch.services:
        each = "".join(
            f" x {n} {what}" for n, what in ((s.at_once, "at once"), (s.batch, "in one")) if n > 1
        )
        terms.append(Term(
            f"{s.name} busy", batch.rollouts * batch.calls(s) / s.calls_per_s,
            f"{batch.rollouts} x {batch.calls(s)} calls x {_ms(s.call_s)} / {s.addresses} address(es)"
            + each,
        ))  # fmt: skip
    terms.append(Term(
        f"{WORKERS} busy", batch.rollouts * batch.own_s * batch.slowdown / batch.workers,
        f"{batch.rollouts} x {_ms(batch.own_s)} / {min(batch.workers, batch.cores or batch.workers)}"
        f" of {batch.workers} worker(s) at a time",
    ))  # fmt: skip
    waves = math.ceil(batch.rollouts / batch.at_once)
    parts = [f"{s.calls} x {_ms(s.call_s)} {s.name}" for s in batch.services]
    terms.append(Term(
        SESSION, waves * batch.session_s,
        f"{waves} x ({_ms(batch.start_s + batch.first_s)} + {batch.steps} steps x"
        f" ({' + '.join([*parts, f'{_ms(batch.loop_s)} loop'])}))",
    ))  # fmt: skip
    return tuple(terms)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.4g} ms"


@dataclass(frozen=True)
class Forecast:
    """What is expected of a batch.

    Attributes:
        wall_s: By simulation.
        bound: See `bound`.
        bottleneck: The service that is busy all the time, "workers", or what limits the rollouts at
            once ("renderer.sessions", "concurrency", ...): more of it makes the batch quicker.
        efficiency: The bound over the time by simulation.
        gpu_hours: Of all GPUs declared, idle or not.
        busy: Share of its capacity in use, by service and for the workers.
        queueing_s: See `omniloop.runner.batch.scheduler.Scheduler.queueing_s`; of what was simulated.
        simulated: Rollouts that were simulated; fewer than the batch has means that the steady pace
            of these stands for the rest.
        drift: By what share that pace still changed over the last half of these.
    """

    batch: Workload
    wall_s: float
    bound: tuple[Term, ...]
    bottleneck: str
    efficiency: float
    gpu_hours: float
    busy: dict[str, float]
    queueing_s: dict[str, float]
    simulated: int
    drift: float

    @property
    def is_exact(self) -> bool:
        """Whether every rollout was simulated."""
        return self.simulated >= self.batch.rollouts

    def document(self) -> dict[str, Any]:
        """As JSON."""
        facts = asdict(self)
        batch = facts.pop("batch")
        return {**facts, "at_once": self.batch.at_once, "exact": self.is_exact, "batch": batch}


@dataclass(frozen=True)
class Plan:
    """A forecast, and others with more or fewer of one thing.

    Attributes:
        varied: A service, or "workers".
        others: By how many there are.
    """

    forecast: Forecast
    varied: str
    others: dict[int, Forecast] = field(default_factory=dict)

    @property
    def enough(self) -> int | None:
        """The fewest with which something else is what holds the batch up; None if none is."""
        return next((n for n, o in self.others.items() if not _holds_up(self.varied, o)), None)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            **self.forecast.document(),
            "varied": self.varied,
            "enough": self.enough,
            "with": {
                str(n): {k: v for k, v in other.document().items() if k != "batch"}
                for n, other in self.others.items()
            },
        }


def forecast(batch: Workload, *, exact: bool = False) -> Forecast:
    """Expect something of a batch.

    Args:
        exact: Simulate every rollout, however long that takes.
    """
    from omniloop.runner.planning.simulation import simulate

    ran = simulate(batch, None) if exact else simulate(batch)
    terms = bound(batch)
    highest = max(terms, key=lambda term: term.seconds)
    held_up = highest.name.removesuffix(" busy")
    return Forecast(
        batch=batch,
        wall_s=ran.wall_s,
        bound=terms,
        bottleneck=batch.limited_by if highest.name == SESSION else held_up,
        efficiency=highest.seconds / ran.wall_s,
        gpu_hours=ran.wall_s * batch.gpus / 3600,
        busy=ran.busy,
        queueing_s=ran.queueing_s,
        simulated=ran.rollouts,
        drift=ran.drift,
    )


def plan(batch: Workload, vary: str | None = None, *, exact: bool = False) -> Plan:
    """Expect something of a batch, and of 1, 2, 4, 8, ... addresses of a service.

    Args:
        vary: The service, or "workers"; the renderer if None, else the first service.

    Raises:
        ConfigError: there is no such service.
    """
    names = [s.name for s in batch.services]
    varied = vary or ("renderer" if "renderer" in names else (names or [WORKERS])[0])
    expected = forecast(batch, exact=exact)
    there = {s.name: s.addresses for s in batch.services} | {WORKERS: batch.workers}
    others: dict[int, Forecast] = {}
    for number in sorted({2**k for k in range(_MOST_VARIED.bit_length())} | {there.get(varied, 1)}):
        other = (
            forecast(batch.with_number(varied, number)) if number != there.get(varied) else expected
        )
        others[number] = other
        if (
            not _holds_up(varied, other)
            and len(others) >= _LEAST_VARIED
            and number >= there[varied]
        ):
            break
    return Plan(expected, varied, others)


def _holds_up(what: str, expected: Forecast) -> bool:
    """Whether more of a service, or of the workers, makes a batch quicker."""
    return expected.bottleneck in (what, f"{what}.sessions")
