"""What one rollout needs to know besides its services."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from omniloop.core.cameras import Camera
from omniloop.core.motion import EgoMotion, Times
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
        extra_latency_us: ``(n_decisions,)`` more of it, one for each decision; None for none.
        estimator: Makes what tells, for newly committed true states, what the policy is told;
            None for the truth.
        skip_services_in_warmup: Do not call policy, controller and traffic in warm-up.
        addresses: Where services that are elsewhere shall open their sessions, by name; those
            left out choose.
        wire_uuid: What a driver that is elsewhere shall know its session by; empty if its client
            may choose.
        is_retry: Whether an earlier attempt may have left that session open.
    """

    scene: Scene
    seed: int
    schedule: Schedule
    cameras: tuple[Camera, ...]
    seeds: dict[str, int]
    recorded_actors: RecordedActors
    route: RouteLine | None
    latency_us: int = 0
    extra_latency_us: Times | None = None
    estimator: Callable[[], Callable[[EgoMotion], EgoMotion]] | None = None
    skip_services_in_warmup: bool = False
    addresses: Mapping[str, str] = field(default_factory=dict)
    wire_uuid: str = ""
    is_retry: bool = False

    def latency_of(self, index: int) -> int:
        """Latency of a decision, by its number."""
        extra = self.extra_latency_us
        return self.latency_us + (0 if extra is None else int(extra[index]))

    @property
    def longest_latency_us(self) -> int:
        """The longest latency of any decision."""
        extra = self.extra_latency_us
        return self.latency_us + (0 if extra is None else int(extra.max(initial=0)))

    @property
    def session_id(self) -> str:
        """``<scene>/<seed>``."""
        return f"{self.scene.id}/{self.seed}"
