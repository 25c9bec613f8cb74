"""A small rollout told to a log and kept in memory, to compare the two."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import default_camera
from omniloop.core.contracts import (
    CameraFrame,
    ChunkRule,
    GroundResult,
    Observation,
    Plan,
    RenderRequest,
    Route,
    VehicleRequest,
)
from omniloop.core.motion import ActorMotion, EgoMotion, Trajectory
from omniloop.core.record import Decision, RolloutRecord
from omniloop.core.scene import Actor, ActorClass, Scene, Track
from omniloop.core.schedule import CameraClock, Schedule
from omniloop.runlog.messages import LogHeader
from omniloop.runlog.writer import LogWriter
from omniloop.scenes.native import scene_to_bytes

START_US = 1_700_000_000_000_000
PERIOD_US = 100_000


def make_scene(n_actors: int = 3, scene_id: str = "line") -> Scene:
    """A straight drive at 10 m/s beside cars of which one is there in the middle only."""
    times = START_US + np.arange(0, 5_000_001, 50_000, dtype=np.int64)
    s = (times - START_US) / 1e6
    ego = Trajectory(times, geometry.poses_from_xyz_yaw(np.stack([10 * s, 0 * s, 0 * s], 1), 0 * s))
    tracks = []
    for i in range(n_actors):
        xyz = np.stack([20 + 10 * i + 7.3 * s, 3.5 * np.ones_like(s), 0.75 * np.ones_like(s)], 1)
        valid = (s >= 1) & (s <= 2) if i == 1 else np.ones(len(s), dtype=bool)
        actor = Actor(f"car{i}", ActorClass.CAR, "car", np.array([4.5, 1.9, 1.5]))
        tracks.append(Track(actor, times, geometry.poses_from_xyz_yaw(xyz, 0.1 * s), valid))
    return Scene(
        id=scene_id, source="test", ego=ego, tracks=tuple(tracks), cameras=(default_camera(),)
    )


def make_schedule(n: int = 6) -> Schedule:
    camera = default_camera().id
    return Schedule(
        context_start_us=START_US, render_start_us=START_US, first_decision_us=START_US + PERIOD_US,
        decision_period_us=PERIOD_US, n_decisions=n, n_warmup=2, chunk=ChunkRule(8, 30),
        clocks=(CameraClock(camera, START_US, 33_333, 0),), postfetch=False,
    )  # fmt: skip


def ego_states(rng: np.random.Generator, after_us: int, until_us: int) -> EgoMotion:
    times = np.arange(after_us + 50_000, until_us + 1, 50_000, dtype=np.int64)
    xyz = rng.normal(size=(len(times), 3)) * 1e3
    poses = geometry.poses_from_xyz_yaw(xyz, rng.uniform(-3, 3, len(times)))
    return EgoMotion(times, poses, rng.normal(size=(len(times), 12)))


def play(
    path: Path,
    *,
    scene: Scene | None = None,
    n: int = 6,
    seed: int = 0,
    noisy: bool = True,
    images: int = 1,
    image_bytes: int = 200,
    config: dict[str, object] | None = None,
    nudge_m: float = 0.0,
    stopped_by: str = "",
) -> RolloutRecord:
    """Write a log of random but repeatable content; return what a record of it must be.

    `nudge_m` is added to the x of one committed ego pose.
    """
    scene = scene or make_scene()
    rng = np.random.default_rng(seed)
    schedule = make_schedule(n)
    bundle = scene_to_bytes(scene)
    camera = schedule.clocks[0].camera_id
    egos, estimates, actors, decisions = [], [], [], []
    log = LogWriter(path)

    def commit(time_us: int, after_us: int, until_us: int) -> None:
        true = ego_states(rng, after_us, until_us)
        if len(egos) == 2:
            true.local_to_rig[0, 0] += nudge_m
        noise = rng.normal(size=true.local_to_rig.shape) * [1, 1, 1, 0, 0, 0, 0] if noisy else 0.0
        estimate = EgoMotion(true.times_us, true.local_to_rig + noise, true.dynamics)
        motion = scene.recorded_actors(np.unique(true.times_us))
        log.commit(time_us, true, estimate, motion)
        egos.append(true)
        estimates.append(estimate)
        actors.append(motion)

    log.scene(bundle)
    log.header(
        LogHeader(
            session_id=f"{scene.id}/{seed}", scene_id=scene.id, seed=seed, schedule=schedule,
            seeds={"policy": 2**62 + seed, "traffic": 7}, plugins={"policy": "route_follower"},
            privileged=("actors",), scene_sha256=hashlib.sha256(bundle).hexdigest(), config=config or {},
        ),
        scene,
    )  # fmt: skip
    commit(START_US, START_US - 50_000, schedule.first_decision_us)
    for t in schedule.decisions_us.tolist():
        frames = tuple(
            CameraFrame(camera, b"\xff\xd8" + rng.bytes(image_bytes), t - 33_333, t - k, t)
            for k in range(images, 0, -1)
        )
        for frame in frames:
            log.frame(frame)
        route = Route(t, rng.normal(size=(20, 3))) if t % 200_000 == 0 else None
        observation = Observation(
            session_id=f"{scene.id}/{seed}", scene_id=scene.id, seed=1, time_us=t, next_decision_us=t + PERIOD_US,
            ego=estimates[-1], frames={camera: frames}, route=route, vehicle=scene.vehicle,
            actors=scene.actors, actor_motion=actors[-1],
        )  # fmt: skip
        log.observation(observation)
        plan = Plan(
            Trajectory(egos[-1].times_us + PERIOD_US, egos[-1].local_to_rig),
            samples=(scene.ego, scene.ego.between(t, t + 500_000)),
            reasoning="yield to car1 \u2192 brake",
        )
        decisions.append(Decision(t, t + 20_000, plan, schedule.is_warmup(t), route))
        log.plan(decisions[-1])
        request = VehicleRequest(
            t, t + PERIOD_US, egos[-1].local_to_rig[-1], egos[-1].dynamics[-1], plan.local_to_rig,
            coerce=schedule.is_warmup(t),
        )  # fmt: skip
        log.vehicle(request, egos[-1])
        log.ground(
            t, "ego", GroundResult(egos[-1].local_to_rig, np.zeros(len(egos[-1]), dtype=np.int64))
        )
        log.traffic(t, actors[-1])
        boxes = actors[-1].local_to_aabb[actors[-1].valid]
        log.ground(t, "actors", GroundResult(boxes, np.arange(len(boxes)) % 5))
        commit(t, t, t + PERIOD_US)
        times = np.array([t + 33_333, t + 66_666], dtype=np.int64)
        index = np.array([0, 1])
        log.render_request(
            t,
            RenderRequest(
                times,
                np.zeros((2, 7)),
                scene.actors,
                scene.recorded_actors(times),
                0 * index,
                index,
                index,
            ),
        )
    log.notice(schedule.end_us, "one frame was dropped on purpose")
    log.end(schedule.end_us, stopped_by)
    log.close()
    return RolloutRecord(
        session_id=f"{scene.id}/{seed}", scene=scene, schedule=schedule, ego=join(egos),
        ego_estimated=join(estimates), actors=join_actors(actors), decisions=tuple(decisions),
        privileged=("actors",), stopped_by=stopped_by,
    )  # fmt: skip


def join(parts: list[EgoMotion]) -> EgoMotion:
    fields = ("times_us", "local_to_rig", "dynamics")
    return EgoMotion(*(np.concatenate([getattr(p, f) for p in parts]) for f in fields))


def join_actors(parts: list[ActorMotion]) -> ActorMotion:
    return ActorMotion(
        np.concatenate([p.times_us for p in parts]),
        np.concatenate([p.local_to_aabb for p in parts], axis=1),
        np.concatenate([p.valid for p in parts], axis=1),
    )


def assert_same_bits(a: object, b: object, place: str = "record") -> None:
    """Equal in every field; arrays equal in type, shape and every bit."""
    if isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray), place
        assert (a.dtype, a.shape) == (b.dtype, b.shape), place
        assert a.tobytes() == b.tobytes(), place
    elif dataclasses.is_dataclass(a) and not isinstance(a, type):
        assert type(a) is type(b), place
        for field in dataclasses.fields(a):
            assert_same_bits(
                getattr(a, field.name), getattr(b, field.name), f"{place}.{field.name}"
            )
    elif isinstance(a, tuple | list):
        assert len(a) == len(b), place  # type: ignore[arg-type]
        for i, (x, y) in enumerate(zip(a, b, strict=True)):  # type: ignore[call-overload]
            assert_same_bits(x, y, f"{place}[{i}]")
    else:
        assert a == b, f"{place}: {a!r} is not {b!r}"
