"""Plugins given as module:Class by tests of whole runs."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera
from omniloop.core.contracts import (
    GroundRequest,
    GroundResult,
    Observation,
    Plan,
    PolicySpec,
    RenderRequest,
    RenderResult,
    SessionInfo,
    TrafficRequest,
)
from omniloop.core.errors import SessionEvicted
from omniloop.core.motion import ActorMotion, Trajectory
from omniloop.core.replay import RecordedActors
from omniloop.core.scene import Scene
from omniloop.renderer_client.rasterizer import Rasterizer, RasterSession
from omniloop.scenes.embedded import EmbeddedScenes


class Straight:
    """Goes straight on at a speed."""

    spec = PolicySpec(horizon_s=3.0, route=False)

    def __init__(self, speed_mps: float = 10.0, label: str = "") -> None:
        self.speed_mps = speed_mps
        self.label = label

    def plan(self, observation: Observation) -> Plan:
        times = observation.time_us + np.arange(31, dtype=np.int64) * 100_000
        ahead = np.zeros((31, 7))
        ahead[:, 0] = self.speed_mps * np.arange(31) / 10
        ahead[:, 6] = 1
        return Plan(Trajectory(times, geometry.compose(observation.ego.local_to_rig[-1], ahead)))


class FailsOnSeedOne(Straight):
    """Raises in the rollout of seed 1, a second after its start."""

    def plan(self, observation: Observation) -> Plan:
        if observation.session_id.endswith("/1") and observation.time_us > 1_000_000:
            raise RuntimeError("out of ideas")
        return super().plan(observation)


class Slow(Straight):
    """Takes a while for each plan, so that a run can be interrupted."""

    def plan(self, observation: Observation) -> Plan:
        import time

        time.sleep(0.05)
        return super().plan(observation)


class NoPlan(Straight):
    """Forgets to return its plan."""

    def plan(self, observation: Observation) -> Plan:
        return None  # type: ignore[return-value]


class BarePlan(Straight):
    """Returns a plan without a trajectory."""

    def plan(self, observation: Observation) -> Plan:
        return Plan(None)  # type: ignore[arg-type]


class ClosesBadly:
    """A policy whose sessions cannot be closed."""

    spec = Straight.spec

    def open(self, session: SessionInfo, cameras: object) -> ClosesBadly._Session:
        return ClosesBadly._Session()

    class _Session(Straight):
        def close(self) -> None:
            raise RuntimeError("the door is stuck")


class GroundInPlace:
    """A ground that writes into its request."""

    def open(self, session: SessionInfo) -> GroundInPlace:
        return self

    def correct(self, request: GroundRequest) -> GroundResult:
        poses = request.local_to_aabb
        poses[:, 2] += 1.0
        return GroundResult(poses, np.zeros(len(poses), dtype=np.int8))


class Silent:
    """Traffic, controller or ground that answers nothing."""

    def open(self, session: SessionInfo) -> Silent:
        return self

    def step(self, request: object) -> None:
        return None

    correct = step


class FlatPoses:
    """A ground that forgets the poses' last axis."""

    def open(self, session: SessionInfo) -> FlatPoses:
        return self

    def correct(self, request: GroundRequest) -> GroundResult:
        poses = request.local_to_aabb
        return GroundResult(poses[:, 0].copy(), np.zeros(len(poses), dtype=np.int8))


class BrokenTraffic:
    """Raises in the rollout of seed 1."""

    def open(self, session: SessionInfo) -> BrokenTraffic._Session:
        return BrokenTraffic._Session(session)

    class _Session:
        def __init__(self, session: SessionInfo) -> None:
            self._fails = session.session_id.endswith("/1")
            self._recorded = RecordedActors(session.scene)

        def step(self, request: TrafficRequest) -> ActorMotion:
            if self._fails:
                raise ConnectionError("traffic went away")
            return self._recorded.between(request.time_us, request.target_us)


class OneScene:
    """A source of scenes that needs no path."""

    def ids(self) -> list[str]:
        return ["curve"]

    def load(self, scene_id: str) -> Scene:
        return EmbeddedScenes().load(scene_id)


class Evicted(Rasterizer):
    """Loses its session in the second chunk of the first `losses` sessions of a rollout."""

    def __init__(self, losses: int = 1) -> None:
        super().__init__(width=64, height=48)
        self._losses = losses
        self._opened: dict[str, int] = {}

    def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> EvictedSession:
        opened = self._opened[session.session_id] = self._opened.get(session.session_id, 0) + 1
        return EvictedSession(super().open(session, cameras), opened <= self._losses)


class EvictedSession:
    def __init__(self, drawn: RasterSession, is_lost: bool) -> None:
        self._drawn = drawn
        self._is_lost = is_lost
        self._calls = 0

    def render(self, request: RenderRequest) -> RenderResult:
        self._calls += 1
        if self._is_lost and self._calls == 2:
            raise SessionEvicted("renderer lost the session")
        return self._drawn.render(request)
