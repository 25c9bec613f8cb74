"""A small authored scene and rollouts in it, for pictures whose truth is known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from omniloop.core import geometry
from omniloop.core.cameras import default_camera
from omniloop.core.contracts import CameraFrame, Observation, Plan, Route
from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion, EgoMotion, Trajectory
from omniloop.core.record import Decision, RolloutRecord
from omniloop.core.scene import (
    Actor,
    ActorClass,
    Area,
    Lane,
    LaneLine,
    MarkColor,
    MarkStyle,
    Polyline,
    Scene,
    Track,
    VectorMap,
)
from omniloop.core.schedule import CameraClock, Schedule
from omniloop.metrics.collision import CollisionMetric
from omniloop.metrics.incidents import IncidentsMetric
from omniloop.metrics.offroad import OffroadMetric
from omniloop.metrics.path_distance import PathDistanceMetric
from omniloop.metrics.progress import ProgressMetric
from omniloop.runlog.messages import LogHeader
from omniloop.runlog.results import RolloutResult
from omniloop.runlog.writer import LogWriter
from omniloop.scenes.native import scene_to_bytes
from tests.kinematics import finite_difference_motion

START_US = 1_700_000_000_000_000
SPEED_MPS = 10.0
METRICS = (
    CollisionMetric(),
    OffroadMetric(),
    IncidentsMetric(),
    ProgressMetric(),
    PathDistanceMetric(),
)
ACTORS = (
    ("car", ActorClass.CAR, (4.6, 1.9, 1.5), (30.0, 0.0), 5.0),
    ("truck", ActorClass.TRUCK, (9.0, 2.5, 3.2), (12.0, 3.5), 8.0),
    ("walker", ActorClass.PEDESTRIAN, (0.6, 0.6, 1.7), (40.0, -5.0), 1.0),
    ("cyclist", ActorClass.CYCLIST, (1.8, 0.6, 1.7), (20.0, -3.0), 4.0),
    ("parked", ActorClass.CAR, (4.6, 1.9, 1.5), (25.0, -8.0), 0.0),
)


def straight(x0: float, y: float, speed_mps: float, times_us: Array, height_m: float) -> Array:
    """Poses along +x."""
    xyz = np.zeros((len(times_us), 3))
    xyz[:, 0] = x0 + speed_mps * (times_us - START_US) / 1e6
    xyz[:, 1:] = y, height_m
    return geometry.poses_from_xyz_yaw(xyz, np.zeros(len(times_us)))


def road_map() -> VectorMap:
    """Two lanes along +x with a crossing."""
    x = np.arange(-60.0, 201.0, 4.0)

    def along(y: float) -> Array:
        return np.stack([x, np.full_like(x, y), np.zeros_like(x)], axis=1)

    return VectorMap(
        lanes=(
            Lane("right", along(0.0), along(1.75), along(-1.75), left_lane="left"),
            Lane("left", along(3.5), along(5.25), along(1.75), right_lane="right"),
        ),
        lane_lines=(
            LaneLine("middle", along(1.75), MarkStyle.DASHED_SINGLE, MarkColor.WHITE),
            LaneLine("outer", along(5.25), MarkStyle.SOLID_GROUP, MarkColor.YELLOW),
            LaneLine("kerb", along(-1.75), MarkStyle.SOLID_DASHED, MarkColor.WHITE),
        ),
        road_boundaries=(Polyline("edge", along(-4.0)),),
        drivable_areas=(
            Area(
                "road",
                np.array([[-60, -4, 0], [200, -4, 0], [200, 5.5, 0], [-60, 5.5, 0]], dtype=float),
            ),
        ),
        crosswalks=(
            Area(
                "zebra",
                np.array([[50, -4, 0], [54, -4, 0], [54, 5.5, 0], [50, 5.5, 0]], dtype=float),
            ),
        ),
        stop_lines=(Polyline("stop", np.array([[48.5, -1.75, 0], [48.5, 1.75, 0]])),),
    )


def make_scene(scene_id: str = "authored", seconds: float = 6.0) -> Scene:
    """Ego drives along +x at 10 m/s on the right lane."""
    times = START_US + np.arange(0, int(seconds * 1e6) + 1, 100_000, dtype=np.int64)
    tracks = tuple(
        Track(
            Actor(name, kind, name, np.array(size), is_static=speed == 0.0),
            times, straight(x, y, speed, times, size[2] / 2), np.ones(len(times), dtype=bool),
        )
        for name, kind, size, (x, y), speed in ACTORS
    )  # fmt: skip
    return Scene(
        id=scene_id, source="test", ego=Trajectory(times, straight(0.0, 0.0, SPEED_MPS, times, 0.0)),
        tracks=tracks, map=road_map(), cameras=(default_camera(),),
    )  # fmt: skip


def make_schedule(scene: Scene, *, camera: bool = True) -> Schedule:
    """Decisions every 0.2 s from the start, 1 s of warm-up, one camera at 10 Hz."""
    seconds = (scene.end_us - scene.start_us) / 1e6
    clocks = (CameraClock(default_camera().id, scene.start_us, 100_000, 0),) if camera else ()
    return Schedule(
        context_start_us=scene.start_us, render_start_us=scene.start_us, first_decision_us=scene.start_us,
        decision_period_us=200_000, n_decisions=int(seconds / 0.2), n_warmup=5, clocks=clocks,
    )  # fmt: skip


def make_record(
    scene: Scene | None = None, *, seed: int = 0, speed_mps: float = SPEED_MPS, camera: bool = True
) -> RolloutRecord:
    """Ego follows the recording in warm-up and drives on at `speed_mps`.

    At 10 m/s it runs into the slower car, whose rear it reaches after 4 s.
    """
    scene = scene or make_scene()
    schedule = make_schedule(scene, camera=camera)
    times = np.arange(scene.start_us, schedule.end_us + 1, 100_000, dtype=np.int64)
    poses = scene.ego.sample(times)
    later = np.maximum(times - schedule.handover_us, 0) / 1e6
    poses[:, 0] += (speed_mps - SPEED_MPS) * later
    ego = EgoMotion(times, poses, finite_difference_motion(times, poses))
    decisions = []
    for t in schedule.decisions_us.tolist():
        here = ego.trajectory.sample(t)[0]
        ahead = t + np.arange(0, 3_000_001, 250_000, dtype=np.int64)
        plan = np.repeat(here[None], len(ahead), axis=0)
        plan[:, 0] += speed_mps * (ahead - t) / 1e6
        waypoints = np.stack([np.linspace(0, 60, 31), np.zeros(31), np.zeros(31)], axis=1)
        decisions.append(
            Decision(
                t, t, Plan(Trajectory(ahead, plan)), schedule.is_warmup(t), Route(t, waypoints)
            )
        )
    return RolloutRecord(
        session_id=f"{scene.id}/{seed}", scene=scene, schedule=schedule, ego=ego, ego_estimated=ego,
        actors=scene.recorded_actors(times) if scene.tracks else ActorMotion(
            times, np.zeros((0, len(times), 7)), np.zeros((0, len(times)), dtype=bool)),
        decisions=decisions,
    )  # fmt: skip


def make_frames(record: RolloutRecord, size: tuple[int, int] = (320, 176)) -> list[CameraFrame]:
    """Grey pictures that get brighter, at the schedule's capture times."""
    clock = record.schedule.clocks[0]
    times = np.arange(clock.first_end_us, record.schedule.end_us + 1, clock.interval_us)
    frames = []
    for k, t in enumerate(times.tolist()):
        shade = np.full((size[1], size[0], 3), 40 + 2 * (k % 90), dtype=np.uint8)
        frames.append(
            CameraFrame(clock.camera_id, simplejpeg.encode_jpeg(shade, quality=90), t, t, t)
        )
    return frames


def write_log(path: Path, record: RolloutRecord, frames: Iterable[CameraFrame] = ()) -> None:
    """Write a record as the loop would: commits, observations, plans and frames by time."""
    scene, schedule = record.scene, record.schedule
    bundle = scene_to_bytes(scene)
    name, _, seed = record.session_id.rpartition("/")
    header = LogHeader(
        session_id=record.session_id, scene_id=name, seed=int(seed), schedule=schedule, seeds={},
        plugins={"policy": "straight_on"}, privileged=record.privileged,
        scene_sha256=hashlib.sha256(bundle).hexdigest(),
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with LogWriter(path) as log:
        log.scene(bundle)
        log.header(header, scene)
        ego = record.ego
        log.commit(schedule.context_start_us, ego, record.ego_estimated, record.actors)
        for decision in record.decisions:
            told = Observation(
                record.session_id, scene.id, 1, decision.time_us,
                decision.time_us + schedule.decision_period_us, ego, {}, decision.route, scene.vehicle,
            )  # fmt: skip
            log.observation(told)
            log.plan(decision)
        for frame in frames:
            log.frame(frame)
        log.end(record.frontier_us, record.stopped_by)


def make_result(record: RolloutRecord, outcome: str = "completed", **changes: Any) -> RolloutResult:
    """The result of a record with the scores that belong to it."""
    name, _, seed = record.session_id.rpartition("/")
    values = [m for metric in METRICS for m in metric.compute(record)]
    return replace(
        RolloutResult(
            scene=name, seed=int(seed), session_id=record.session_id, outcome=outcome,
            metrics={m.name: m for m in values}, plugins={"policy": "straight_on"},
            handover_us=record.schedule.handover_us, end_us=record.frontier_us, warmup_s=1.0,
            decisions=record.schedule.n_decisions, decision_period_us=record.schedule.decision_period_us,
            timings={
                "services": {"policy.plan": {"calls": 30, "total_s": 0.6, "longest_s": 0.05}},
                "rollout_s": 1.5, "scoring_s": 0.25, "wall_s": 2.0,
            },
        ),
        **changes,
    )  # fmt: skip
