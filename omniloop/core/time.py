"""Simulated time: integers of microseconds, never floats, never the wall clock."""

from __future__ import annotations

from omniloop.core.errors import ConfigError

US_PER_S = 1_000_000

MAX_STATE_STEP_US = 100_000
"""Controllers and traffic return states at most this far apart."""

SCORE_STEP_US = 100_000
"""Scores are sampled on one grid of this step, anchored at handover."""


def seconds_to_us(seconds: float) -> int:
    """Convert seconds to whole microseconds, rounding half to even."""
    return round(seconds * US_PER_S)


def us_to_seconds(time_us: int) -> float:
    """Convert microseconds to seconds."""
    return time_us / US_PER_S


def frame_interval_us(fps: int) -> int:
    """Return ``1_000_000 // fps``: 33 333 us at 30 fps, as OmniDreams and AlpaSim count.

    Raises:
        ConfigError: `fps` is not between 1 and 1000.
    """
    if not 1 <= fps <= 1000:
        raise ConfigError(
            f"fps is {fps}", where="renderer.fps", remedy="give a frame rate between 1 and 1000"
        )
    return US_PER_S // fps
