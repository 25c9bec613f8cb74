"""How busy a service is: for live displays and the time budget, never for the log."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Load:
    """Wall-clock load of one service at one address, as one process sees it.

    Attributes:
        calls: Calls that ended.
        waiting_s: Time that rollouts waited for answers, over all rollouts.
        longest_s: The longest that a call took.
    """

    calls: int = 0
    waiting_s: float = 0.0
    longest_s: float = 0.0
    _busy_s: float = 0.0
    _in_flight: int = 0
    _since_s: float = 0.0
    clock: Callable[[], float] = time.perf_counter

    def begin(self, now_s: float) -> None:
        """A call is on its way."""
        if not self._in_flight:
            self._since_s = now_s
        self._in_flight += 1

    def end(self, now_s: float, took_s: float) -> None:
        """A call ended; it took so long."""
        self.calls += 1
        self.waiting_s += took_s
        self.longest_s = max(self.longest_s, took_s)
        self._in_flight -= 1
        if not self._in_flight:
            self._busy_s += now_s - self._since_s

    @property
    def busy_s(self) -> float:
        """Time in which at least one call was on its way."""
        return self._busy_s + (self.clock() - self._since_s if self._in_flight else 0.0)
