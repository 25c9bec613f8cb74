"""What the orchestrator asks of its services, and what a service plugin is.

Each service contract is a small async Protocol: a service opens one session per rollout, and
the session answers one kind of request. A service may also have ``connect()`` and
``disconnect()``, coroutines called before specs are read and when an event loop is done with
it, `capacity` (sessions at once), `versions` (what runs where, for run.yaml) and `notes`
(texts that every result must carry); a session may have ``facts()``, what its rollout's result
tells of it.
Plugin authors write less: plain synchronous methods, wrapped once by `omniloop.core.local`. The messages are those of
`omniloop.core.messages`, and can be imported from here as well.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from omniloop.core.cameras import Camera
from omniloop.core.messages import (
    CameraFrame,
    ChunkRule,
    GroundRequest,
    GroundResult,
    GroundStatus,
    ImageHistory,
    Observation,
    Plan,
    PolicySpec,
    RendererSpec,
    RenderRequest,
    RenderResult,
    Route,
    SessionInfo,
    TrafficRequest,
    VehicleRequest,
)
from omniloop.core.metric_value import MetricValue
from omniloop.core.motion import ActorMotion, EgoMotion
from omniloop.core.scene import Scene

__all__ = [
    "CameraFrame",
    "ChunkRule",
    "GroundModel",
    "GroundRequest",
    "GroundResult",
    "GroundSession",
    "GroundStatus",
    "ImageHistory",
    "MetricValue",
    "Observation",
    "Plan",
    "Policy",
    "PolicySession",
    "PolicySpec",
    "RenderRequest",
    "RenderResult",
    "RenderSession",
    "Renderer",
    "RendererSpec",
    "Route",
    "SceneSource",
    "SessionInfo",
    "Traffic",
    "TrafficRequest",
    "TrafficSession",
    "VehicleController",
    "VehicleRequest",
    "VehicleSession",
]


# --------------------------------------------------------------------------- policy


class PolicySession(Protocol):
    """One rollout's policy.

    It may also have ``anticipate(time_us, ego, route)``: it is told, while the frames before the
    decision at `time_us` are being rendered, which ego states and route its observation will
    hold, and may pass them on to wherever it plans.
    """

    async def plan(self, observation: Observation) -> Plan:
        """Plan from an observation."""
        ...

    async def close(self) -> None:
        """End the session."""
        ...


class Policy(Protocol):
    """A policy service."""

    spec: PolicySpec

    async def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> PolicySession:
        """Begin a rollout; `cameras` are those whose frames will come, at delivered size."""
        ...


# -------------------------------------------------------------------------- traffic


class TrafficSession(Protocol):
    """One rollout's traffic."""

    async def step(self, request: TrafficRequest) -> ActorMotion:
        """Return motion at times in ``(time_us, target_us]``, at most 100 ms apart, the
        last exactly `target_us`, actors in the scene's order."""
        ...

    async def close(self) -> None:
        """End the session."""
        ...


class Traffic(Protocol):
    """A traffic service."""

    async def open(self, session: SessionInfo) -> TrafficSession:
        """Begin a rollout."""
        ...


# ------------------------------------------------------------- controller and ground


class VehicleSession(Protocol):
    """One rollout's controller and vehicle."""

    async def step(self, request: VehicleRequest) -> EgoMotion:
        """Return states in ``(time_us, target_us]``, at most 100 ms apart, the last at
        `target_us`."""
        ...

    async def close(self) -> None:
        """End the session."""
        ...


class VehicleController(Protocol):
    """A controller-and-vehicle service."""

    async def open(self, session: SessionInfo) -> VehicleSession:
        """Begin a rollout."""
        ...


class GroundSession(Protocol):
    """One rollout's ground."""

    async def correct(self, request: GroundRequest) -> GroundResult:
        """Set boxes on the ground."""
        ...

    async def close(self) -> None:
        """End the session."""
        ...


class GroundModel(Protocol):
    """A ground service."""

    async def open(self, session: SessionInfo) -> GroundSession:
        """Begin a rollout."""
        ...


# ------------------------------------------------------------------------- renderer


class RenderSession(Protocol):
    """One rollout's renderer."""

    async def render(self, request: RenderRequest) -> RenderResult:
        """Render the frames asked for, exactly."""
        ...

    async def close(self) -> None:
        """End the session."""
        ...


class Renderer(Protocol):
    """A renderer service."""

    spec: RendererSpec

    async def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> RenderSession:
        """Begin a rollout with cameras at delivered size."""
        ...


# -------------------------------------------------------------------------- metrics


@runtime_checkable
class SceneSource(Protocol):
    """A reader of scenes."""

    def ids(self) -> list[str]:
        """Names of all scenes it can load, sorted."""
        ...

    def load(self, scene_id: str) -> Scene:
        """Load one scene.

        Raises:
            SceneError: it is missing, damaged or impossible.
        """
        ...
