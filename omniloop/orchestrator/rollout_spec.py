"""What one rollout needs to know besides its services."""

from __future__ import annotations

from dataclasses import dataclass

from omniloop.core.cameras import Camera
from omniloop.core.replay import RecordedActors
from omniloop.core.route import RouteLine
from omniloop.core.scene import Scene
from omniloop.core.schedule import Schedule


@dataclass(frozen=True)
class RolloutSpec:
    """What one rollout needs to know besides its services.

    Attributes:
        cameras: Cameras to render, at delivered size, in the order of the schedule's clocks.
        seeds: A seed per service.
        recorded_actors: The scene's recorded traffic.
        route: The way ahead; None if there is none.
        latency_us: From a decision to its plan's first effect.
        skip_services_in_warmup: Do not call policy, controller and traffic in warm-up.
    """

    scene: Scene
    seed: int
    schedule: Schedule
    cameras: tuple[Camera, ...]
    seeds: dict[str, int]
    recorded_actors: RecordedActors
    route: RouteLine | None
    latency_us: int = 0
    skip_services_in_warmup: bool = False

    @property
    def session_id(self) -> str:
        """``<scene>/<seed>``."""
        return f"{self.scene.id}/{self.seed}"
