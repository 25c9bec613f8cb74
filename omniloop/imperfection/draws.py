"""Seeds and draws that all disturbances share."""

from __future__ import annotations

import numpy as np

from omniloop.core.motion import Times
from omniloop.core.seeds import derive_seed, generator


def rollout_seed(root_seed: int, session_id: str) -> int:
    """The seed of all disturbances of a rollout; every service derives the same."""
    return derive_seed(root_seed, session_id, "imperfection")


def uniform_us(most_us: int, count: int, seed: int, *names: str) -> Times:
    """``(count,)`` whole microseconds, uniform in ``[0, most_us]``.

    The first of them do not depend on how many are drawn.
    """
    drawn = generator(seed, *names).random(count)
    return np.minimum((drawn * (most_us + 1)).astype(np.int64), most_us)
