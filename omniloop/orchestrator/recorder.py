"""What the loop tells whoever records it; the run log is one implementation."""

from __future__ import annotations

from typing import Protocol

from omniloop.core.contracts import (
    CameraFrame,
    GroundResult,
    Observation,
    RenderRequest,
    VehicleRequest,
)
from omniloop.core.motion import ActorMotion, EgoMotion
from omniloop.core.record import Decision


class Recorder(Protocol):
    """Receives every message of the loop in simulated order.

    `time_us` is the simulated time at which the message belongs.
    """

    def observation(self, observation: Observation) -> None:
        """The policy is told this."""
        ...

    def plan(self, decision: Decision) -> None:
        """The policy answered."""
        ...

    def vehicle(self, request: VehicleRequest, answer: EgoMotion) -> None:
        """The controller answered."""
        ...

    def ground(self, time_us: int, subject: str, result: GroundResult) -> None:
        """The ground corrected "ego" or "actors"."""
        ...

    def traffic(self, time_us: int, answer: ActorMotion) -> None:
        """The traffic answered."""
        ...

    def commit(
        self, time_us: int, ego_true: EgoMotion, ego_estimated: EgoMotion, actors: ActorMotion
    ) -> None:
        """States were committed; the frontier is the last of them."""
        ...

    def render_request(self, time_us: int, request: RenderRequest) -> None:
        """Frames were asked for."""
        ...

    def frame(self, frame: CameraFrame) -> None:
        """A frame was delivered."""
        ...

    def lost_frame(self, frame: CameraFrame) -> None:
        """A frame was not delivered, as a fault was injected."""
        ...

    def notice(self, time_us: int, text: str) -> None:
        """Something that a reader of the log should know."""
        ...

    def end(self, time_us: int, stopped_by: str) -> None:
        """The rollout ended; `stopped_by` is empty at the schedule's end."""
        ...
