"""When frames are asked for and when they reach the policy: pre-fetch and post-fetch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from omniloop.core.motion import Times
from omniloop.core.schedule import FrameTimes, Schedule


@dataclass(frozen=True, eq=False)
class Fetch:
    """One call of the renderer.

    Attributes:
        frames: What to ask for; every capture time is committed.
        available_us: ``(F,)`` when each frame reaches the policy.
    """

    frames: FrameTimes
    available_us: Times


class FetchStrategy(Protocol):
    """Decides what to fetch after each commit."""

    def initial(self) -> Fetch:
        """The request before the first decision."""
        ...

    def after_commit(self, index: int) -> Fetch | None:
        """The request due once decision `index` is committed, if any."""
        ...


@dataclass(frozen=True)
class Prefetch:
    """Ask for the frames of each interval before the clock enters it."""

    schedule: Schedule

    def initial(self) -> Fetch:
        """See `FetchStrategy`."""
        frames = self.schedule.initial_frames()
        return Fetch(frames, frames.capture_us)

    def after_commit(self, index: int) -> Fetch | None:
        """See `FetchStrategy`."""
        start_us = self.schedule.first_decision_us + index * self.schedule.decision_period_us
        frames = self.schedule.frames_in(start_us, start_us + self.schedule.decision_period_us)
        return Fetch(frames, frames.capture_us) if len(frames) else None


@dataclass(frozen=True)
class Postfetch:
    """Ask for a chunk once all its decisions are committed; it arrives as a whole."""

    schedule: Schedule

    def initial(self) -> Fetch:
        """See `FetchStrategy`."""
        frames = self.schedule.initial_frames()
        return Fetch(frames, np.full(len(frames), self.schedule.first_decision_us, dtype=np.int64))

    def after_commit(self, index: int) -> Fetch | None:
        """See `FetchStrategy`."""
        per_chunk, period = self.schedule.decisions_per_chunk, self.schedule.decision_period_us
        if (index + 1) % per_chunk:
            return None
        until_us = self.schedule.first_decision_us + (index + 1) * period
        frames = self.schedule.frames_in(until_us - per_chunk * period, until_us)
        if not len(frames):
            return None
        return Fetch(frames, np.full(len(frames), until_us, dtype=np.int64))


def fetch_strategy(schedule: Schedule) -> FetchStrategy:
    """The strategy that a schedule was made for."""
    return Postfetch(schedule) if schedule.postfetch else Prefetch(schedule)
