"""How near a run was to its bound, as far as that can be told from the side of the calls.

What a service does inside is not known here. Known is when a call was on its way, how long each
took, how many rollouts could be simulated at once, and what the run's own processes computed.
So every term is at least what the same term is as the services would measure it, and the
efficiency is at most what it truly is; ``docs/time_budget.md`` derives them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from omniloop.runlog.budget import AddressTimes, Efficiency

FULL = 0.85
"""Share of the time from which something counts as the bottleneck."""

PLACES = "rollouts of one place"


@dataclass
class Paths:
    """What the completed rollouts of a run went through, one step after the other.

    Attributes:
        rollouts: How many completed.
        decisions: Of all of them.
    """

    rollouts: int = 0
    decisions: int = 0
    _fewest: int = 0
    _most: int = 0
    _least_own_s: float = math.inf
    _calls: dict[str, int] = field(default_factory=dict)
    _least_s: dict[str, float] = field(default_factory=dict)

    def add(self, decisions: int, calls: Mapping[str, tuple[int, float]], own_s: float) -> None:
        """Add a rollout.

        Args:
            decisions: 1 or more.
            calls: Calls and seconds, by ``service.method``.
            own_s: What else it took.
        """
        self._fewest = min(self._fewest, decisions) if self.rollouts else decisions
        self._most = max(self._most, decisions)
        self.rollouts += 1
        self.decisions += decisions
        self._least_own_s = min(self._least_own_s, max(own_s, 0.0) / decisions)
        for name, (count, total_s) in calls.items():
            if count:
                self._calls[name] = self._calls.get(name, 0) + count
                mean_s = total_s / count
                self._least_s[name] = min(self._least_s.get(name, mean_s), mean_s)

    @property
    def one_s(self) -> float:
        """A mean rollout whose calls are as short as in the rollout in which they were shortest."""
        calls_s = sum(count * self._least_s[name] for name, count in self._calls.items())
        return (calls_s + self.decisions * self._least_own_s) / self.rollouts

    def bound_s(self, slots: float) -> float:
        """The time that they take at least if so many go on side by side.

        Rollouts of one length follow one another in whole rounds; of several, the longest
        takes as much longer than the mean as it has more decisions.
        """
        rounds = self.rollouts / slots
        if self._fewest == self._most:
            return math.ceil(rounds - 1e-6) * self.one_s
        return max(rounds, self._most * self.rollouts / self.decisions) * self.one_s


@dataclass(frozen=True)
class Observed:
    """What was observed of a run.

    Attributes:
        addresses: Of all services; only those elsewhere are resources of their own.
        loops_s: CPU time of each worker's event loop, of workers that are there.
        cpu_s: CPU time of all workers.
        cores: That the workers share; None if not known.
        slots: Rollouts that could be simulated at once, on average over time.
        filled_s: Time that rollouts took to be simulated, summed.
    """

    wall_s: float
    addresses: Sequence[AddressTimes]
    loops_s: Sequence[float]
    cpu_s: float
    cores: int | None
    slots: float
    filled_s: float
    paths: Paths

    def elsewhere(self) -> dict[str, list[AddressTimes]]:
        """Addresses of services elsewhere, by service."""
        found: dict[str, list[AddressTimes]] = {}
        for times in self.addresses:
            if times.address:
                found.setdefault(times.service, []).append(times)
        return found

    @property
    def slots_filled(self) -> float | None:
        """Share of the places' time in which they were taken."""
        whole_s = self.slots * self.wall_s
        return min(self.filled_s / whole_s, 1.0) if whole_s > 0 else None


def terms_of(seen: Observed) -> dict[str, float]:
    """What the run's time cannot go below [s], by its reason; see this module."""
    terms = {
        f"{service} busy": sum(a.busy_s for a in addresses) / len(addresses)
        for service, addresses in seen.elsewhere().items()
    }
    if seen.loops_s:
        terms["event loops busy"] = sum(seen.loops_s) / len(seen.loops_s)
    if seen.cores:
        terms["cores busy"] = seen.cpu_s / seen.cores
    if seen.paths.rollouts and seen.slots > 0:
        terms[PLACES] = seen.paths.bound_s(seen.slots)
    return terms


def efficiency_of(seen: Observed) -> Efficiency:
    """The largest term over the wall time, and what held the run up."""
    reason = ""
    if not seen.wall_s > 0:
        reason = "the run ended before anything was measured"
    elif not seen.paths.rollouts:
        reason = "no rollout completed"
    if reason:
        return Efficiency(None, reason, {}, f"not known: {reason}")
    terms = terms_of(seen)
    at_most = min(max(terms.values()) / seen.wall_s, 1.0)
    rounded = {name: round(value, 3) for name, value in terms.items()}
    return Efficiency(round(at_most, 4), "", rounded, bottleneck_of(seen, terms))


def bottleneck_of(seen: Observed, terms: Mapping[str, float]) -> str:
    """What held a run up, in words, with what would help."""
    shares = {name: min(value / seen.wall_s, 1.0) for name, value in terms.items()}
    shares.pop(PLACES, None)
    busy = {s: shares[f"{s} busy"] for s in seen.elsewhere()}
    fullest = max(busy, key=lambda service: busy[service], default="")
    if fullest and busy[fullest] >= FULL:
        return _service_words(fullest, seen.elsewhere()[fullest], busy[fullest], seen.wall_s)
    for name, remedy in (
        ("cores busy", "more cores, or more machines, would help"),
        ("event loops busy", "more workers (run.workers) would help where cores are free"),
    ):
        if shares.get(name, 0.0) >= FULL:
            subject = "the cores that the workers share" if name[0] == "c" else "the event loops"
            return f"{subject}: busy {percent(shares[name])} of the time{_inside(seen)}; {remedy}"
    filled = seen.slots_filled or 0.0
    if filled >= FULL:
        return _place_words(seen, filled, fullest, busy)
    most = max(shares, key=lambda name: shares[name], default="")
    told = f"; of all, {most} most: {percent(shares[most])}" if most else ""
    return (
        f"nothing was full: places for rollouts were taken {percent(filled)} of the time{told};"
        " a short run spends its time on starting and on its last rollouts"
    )


def percent(share: float) -> str:
    """A share as people read it; the space does not break."""
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _service_words(
    service: str, addresses: Sequence[AddressTimes], share: float, wall_s: float
) -> str:
    each = [min(a.busy_s / wall_s, 1.0) for a in addresses]
    count = {1: "its one address", 2: "both addresses"}.get(len(each), f"all {len(each)} addresses")
    spread = ""
    if max(each) - min(each) >= 0.02:
        spread = f" ({percent(min(each))} to {percent(max(each))})"
    at_once = sum(a.waiting_s for a in addresses) / sum(a.busy_s for a in addresses)
    return (
        f"{service}: busy {percent(share)} of the time at {count}{spread}, with"
        f" {at_once:.1f} calls on their way then; more addresses would help"
    )


def _place_words(seen: Observed, filled: float, fullest: str, busy: Mapping[str, float]) -> str:
    """All places for rollouts are taken, and nothing that they wait for is full."""
    count = f"{seen.slots:.3g}"
    meanwhile = f" while {fullest} is busy {percent(busy[fullest])}" if fullest else ""
    for service, addresses in seen.elsewhere().items():
        limits = [a.limit for a in addresses if a.limit is not None]
        if len(limits) == len(addresses) and sum(limits) <= seen.slots + 1e-6:
            return (
                f"sessions of {service}: all {count} taken {percent(filled)} of the time"
                f"{meanwhile}; more sessions or addresses of it would help"
            )
    remedy = "a higher run.concurrency would help"
    if not busy:
        remedy = "more workers (run.workers) would help where cores are free"
    return (
        f"places for rollouts: all {count} taken {percent(filled)} of the time{meanwhile}"
        f"{_inside(seen)}; {remedy}"
    )


def _inside(seen: Observed) -> str:
    """Which service in the workers' own processes takes most, if it takes much."""
    inside = [a for a in seen.addresses if not a.address]
    most = max(inside, key=lambda a: a.waiting_s, default=None)
    if most is None or not seen.filled_s or most.waiting_s < 0.25 * seen.filled_s:
        return ""
    share = min(most.waiting_s / seen.filled_s, 1.0)
    return f", {percent(share)} of the rollouts' time in {most.service}"
