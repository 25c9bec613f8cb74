"""A clock for the watch over hanging rollouts that stands still until it is told to go on.

By the real one a rollout may seem to hang on a busy machine, and a test must wait until one does.
"""

from __future__ import annotations

import threading
import time

from omniloop.runner.batch import inline, rollouts

_WATCH = "watch"
_A_PASS = 8
"""Looks at the clock of which at least one pass of the watch, from its begin to its end, is made."""


class Clock:
    """Stands in for the module `time` where rollouts are watched, in this process."""

    thread_time = staticmethod(time.thread_time)
    process_time = staticmethod(time.process_time)

    def __init__(self) -> None:
        self._now_s = time.monotonic()
        self._looks = 0

    def monotonic(self) -> float:
        """The time [s]."""
        if threading.current_thread().name == _WATCH:
            self._looks += 1
        return self._now_s

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self._now_s += seconds

    def pass_and_be_seen(self, seconds: float) -> None:
        """Let time pass, and return once the watch has drawn its conclusions, or is over."""
        self.pass_by(seconds)
        looks = self._looks + _A_PASS
        while self._looks < looks and any(t.name == _WATCH for t in threading.enumerate()):
            time.sleep(0.001)


def watched_clock() -> Clock:
    """This process's, put in its place with the first call; a test that is of it restores both."""
    if not isinstance(rollouts.time, Clock):
        rollouts.time = inline.time = Clock()  # type: ignore[attr-defined]
    return rollouts.time  # type: ignore[return-value]
