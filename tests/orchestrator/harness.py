"""Small services that keep the contracts, for watching the loop from all sides."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass, field

import numpy as np

from omniloop.core import geometry
from omniloop.core.calls import CallFunnel
from omniloop.core.cameras import Camera, default_camera
from omniloop.core.contracts import (
    ChunkRule,
    GroundRequest,
    GroundResult,
    Observation,
    Plan,
    PolicySpec,
    RendererSpec,
    RenderRequest,
    RenderResult,
    SessionInfo,
    TrafficRequest,
    VehicleRequest,
)
from omniloop.core.local import as_service
from omniloop.core.motion import ActorMotion, EgoMotion, Trajectory, grid_times_us
from omniloop.core.record import RolloutRecord
from omniloop.core.replay import RecordedActors, recorded_motion_at
from omniloop.core.route import route_from_recording
from omniloop.core.scene import Actor, ActorClass, Scene, Track
from omniloop.core.schedule import Schedule, build_schedule
from omniloop.orchestrator.rollout import run_rollout
from omniloop.orchestrator.rollout_spec import RolloutSpec
from omniloop.orchestrator.services import Services, service_seeds


def make_scene(
    duration_s: float = 6.0, start_us: int = 0, cameras: tuple[Camera, ...] = ()
) -> Scene:
    """A straight drive at 10 m/s with a slower car ahead and one that appears late."""
    times = start_us + np.arange(0, int(duration_s * 1e6) + 1, 20_000, dtype=np.int64)
    seconds = (times - start_us) / 1e6
    ego = Trajectory(
        times,
        geometry.poses_from_xyz_yaw(
            np.stack([10 * seconds, 0 * seconds, 0 * seconds], 1), 0 * seconds
        ),
    )
    ticks = start_us + np.arange(0, int(duration_s * 1e6) + 1, 100_000, dtype=np.int64)
    s = (ticks - start_us) / 1e6
    tracks = []
    for index, (x, speed, born_s) in enumerate([(40.0, 8.0, 0.0), (80.0, 2.0, 1.5)]):
        xyz = np.stack([x + speed * s, np.full_like(s, 3.5 * index), np.full_like(s, 0.75)], 1)
        actor = Actor(f"car{index}", ActorClass.CAR, "car", np.array([4.5, 1.9, 1.5]))
        tracks.append(Track(actor, ticks, geometry.poses_from_xyz_yaw(xyz, 0 * s), s >= born_s))
    return Scene(id="line", source="test", ego=ego, tracks=tuple(tracks), cameras=cameras)


class StampRenderer:
    """Writes into each image what it was asked to show, so that tests can read it back."""

    def __init__(self, chunk: int, fps: int = 30, cameras: tuple[str, ...] | None = None) -> None:
        self.spec = RendererSpec(ChunkRule(chunk, fps) if chunk else None, fps=fps, cameras=cameras)
        self.requests: list[RenderRequest] = []

    def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> StampRenderer:
        return self

    def render(self, request: RenderRequest) -> RenderResult:
        self.requests.append(request)
        images = []
        for f in range(len(request)):
            at = int(request.end_index[f])
            state = (
                request.local_to_rig[at].tobytes()
                + request.actor_motion.local_to_aabb[:, at].tobytes()
            )
            images.append(
                json.dumps(
                    {
                        "camera": int(request.camera_index[f]),
                        "start_us": int(request.times_us[request.start_index[f]]),
                        "capture_us": int(request.times_us[at]),
                        "state": hashlib.sha256(state).hexdigest(),
                        "x_m": float(request.local_to_rig[at, 0]),
                    }
                ).encode()
            )
        return RenderResult(tuple(images))


class FramePolicy:
    """Drives straight at a speed that depends on every byte of the frames it sees."""

    def __init__(
        self, rate_hz: float | None = None, count: int = 2, horizon_s: float = 4.0
    ) -> None:
        from omniloop.core.contracts import ImageHistory

        self.spec = PolicySpec(
            cameras=None,
            images=ImageHistory(count, 10.0),
            ego_history_s=0.5,
            rate_hz=rate_hz,
            horizon_s=horizon_s,
        )
        self.seen: list[Observation] = []

    def plan(self, observation: Observation) -> Plan:
        self.seen.append(observation)
        digest = hashlib.sha256()
        for camera in sorted(observation.frames):
            for frame in observation.frames[camera]:
                digest.update(camera.encode() + frame.image)
        speed_mps = 5.0 + digest.digest()[0] / 64
        return straight_plan(observation, speed_mps, self.spec.horizon_s)


def straight_plan(observation: Observation, speed_mps: float, horizon_s: float) -> Plan:
    times = observation.time_us + np.arange(0, int(horizon_s * 1e6) + 1, 100_000, dtype=np.int64)
    offset = np.zeros((len(times), 7))
    offset[:, 6] = 1
    offset[:, 0] = speed_mps * (times - observation.time_us) / 1e6
    return Plan(Trajectory(times, geometry.compose(observation.ego.local_to_rig[-1], offset)))


class ReplayTraffic:
    def open(self, session: SessionInfo) -> ReplayTraffic:
        self.recorded = RecordedActors(session.scene)
        return self

    def step(self, request: TrafficRequest) -> ActorMotion:
        return self.recorded.between(request.time_us, request.target_us)


class FollowPlan:
    def __init__(self) -> None:
        self.requests: list[VehicleRequest] = []

    def open(self, session: SessionInfo) -> FollowPlan:
        return self

    def step(self, request: VehicleRequest) -> EgoMotion:
        self.requests.append(request)
        return recorded_motion_at(
            request.plan_local_to_rig, grid_times_us(request.time_us, request.target_us, 100_000)
        )


class NoGround:
    def open(self, session: SessionInfo) -> NoGround:
        return self

    def correct(self, request: GroundRequest) -> GroundResult:
        return GroundResult(
            request.local_to_aabb.copy(), np.zeros(len(request.local_to_aabb), dtype=np.int64)
        )


@dataclass
class MemoryRecorder:
    """Keeps every message with its kind, in order."""

    messages: list[tuple[str, tuple]] = field(default_factory=list)

    def __getattr__(self, kind: str):
        if kind.startswith("_"):
            raise AttributeError(kind)
        return lambda *arguments: self.messages.append((kind, arguments))

    def of(self, kind: str) -> list[tuple]:
        return [arguments for name, arguments in self.messages if name == kind]


@dataclass
class Watched:
    """One rollout with everything that went in and out."""

    record: RolloutRecord
    schedule: Schedule
    recorder: MemoryRecorder
    renderer: StampRenderer | None
    policy: object
    controller: FollowPlan
    call: CallFunnel


def drive(
    scene: Scene,
    policy: object | None = None,
    renderer: StampRenderer | None = None,
    *,
    traffic: object | None = None,
    controller: object | None = None,
    postfetch: bool = False,
    decisions_per_chunk: int = 1,
    decision_period_us: int = 100_000,
    warmup_s: float | None = None,
    duration_s: float | None = None,
    latency_us: int = 0,
    skip: bool = False,
    watch=None,
    ground: object | None = None,
    extra_latency_us=None,
    estimator=None,
) -> Watched:
    policy = policy or FramePolicy()
    controller = controller or FollowPlan()
    services = Services(
        policy=as_service("policy", policy),
        traffic=as_service("traffic", traffic or ReplayTraffic()),
        controller=as_service("controller", controller),
        ground=as_service("ground", ground or NoGround()),
        renderer=None if renderer is None else as_service("renderer", renderer),
    )
    cameras = () if renderer is None else (scene.cameras or (default_camera(),))
    schedule = build_schedule(
        scene, cameras, renderer.spec if renderer else None, policy.spec,
        decision_period_us=decision_period_us, warmup_s=warmup_s, duration_s=duration_s,
        decisions_per_chunk=decisions_per_chunk, postfetch=postfetch,
    )  # fmt: skip
    spec = RolloutSpec(
        scene=scene, seed=0, schedule=schedule, cameras=cameras, seeds=service_seeds(0, scene.id, 0),
        recorded_actors=RecordedActors(scene), route=route_from_recording(scene.ego), latency_us=latency_us,
        skip_services_in_warmup=skip, extra_latency_us=extra_latency_us, estimator=estimator,
    )  # fmt: skip
    recorder, call = MemoryRecorder(), CallFunnel(spec.session_id)
    record = asyncio.run(run_rollout(spec, services, recorder, call, watch))
    return Watched(record, schedule, recorder, renderer, policy, controller, call)
