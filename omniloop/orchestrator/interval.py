"""What the phases of one decision hand to each other."""

from __future__ import annotations

from dataclasses import dataclass

from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion, EgoMotion


@dataclass
class Interval:
    """From a decision to the next, with the motion through it as it comes about."""

    index: int
    time_us: int
    target_us: int
    warmup: bool
    ego: EgoMotion | None = None
    ego_local_to_aabb: Array | None = None
    actors: ActorMotion | None = None
