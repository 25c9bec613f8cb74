"""Hand-made rollout records: a straight recording, an ego and boxes that go their ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import MetricValue, Plan
from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion, EgoMotion, Times, Trajectory
from omniloop.core.record import Decision, Metric, RolloutRecord
from omniloop.core.scene import (
    Actor,
    ActorClass,
    Area,
    Lane,
    LaneLine,
    Polyline,
    Scene,
    Track,
    VectorMap,
    Vehicle,
)
from omniloop.core.schedule import Schedule
from tests.kinematics import finite_difference_motion

EGO = Vehicle(length_m=4.0, width_m=2.0, height_m=1.5, rear_axle_to_center_m=1.0)
"""Its box reaches from 1 m behind the rig origin to 3 m ahead of it."""

SIZE = (4.0, 2.0, 1.5)
CENTRE_Z = SIZE[2] / 2
STEP_US = 100_000

Path = Callable[[Array], tuple[object, object, object]]
"""Seconds since handover ``(T,)`` to x, y and yaw."""


@dataclass(frozen=True)
class Body:
    """An actor: where it is at what time, and when it is there at all."""

    path: Path
    size: tuple[float, float, float] = SIZE
    z: float = CENTRE_Z
    present: Callable[[Array], object] = lambda t: np.ones(len(t), dtype=bool)
    id: str = ""


def still(x: float, y: float, yaw: float = 0.0) -> Path:
    return lambda t: (x, y, yaw)


def moving(x: float, y: float, speed: float, yaw: float = 0.0) -> Path:
    """From ``(x, y)`` at handover along its heading."""
    return lambda t: (x + speed * np.cos(yaw) * t, y + speed * np.sin(yaw) * t, yaw)


def poses_of(path: Path, t_s: Array, z: float = 0.0) -> Array:
    x, y, yaw = (np.broadcast_to(np.asarray(v, dtype=float), t_s.shape) for v in path(t_s))
    return geometry.poses_from_xyz_yaw(np.stack([x, y, np.full(t_s.shape, z)], axis=1), yaw)


def states(times_us: Times, path: Path, handover_us: int) -> EgoMotion:
    poses = poses_of(path, (times_us - handover_us) / 1e6)
    return EgoMotion(times_us, poses, finite_difference_motion(times_us, poses))


def record(
    ego: Path,
    bodies: Sequence[Body] = (),
    *,
    recorded: Path | None = None,
    duration_s: float = 2.0,
    recorded_s: float | None = None,
    vector_map: VectorMap | None = None,
    vehicle: Vehicle = EGO,
    start_us: int = 1_000_000,
    step_us: int = STEP_US,
    driven_s: float | None = None,
    decisions: Sequence[Decision] = (),
) -> RolloutRecord:
    """A rollout with 0.5 s of warm-up, committed every `step_us`.

    Args:
        recorded: The recorded ego; by default the simulated one.
        duration_s: Scheduled time after handover.
        recorded_s: How long the recording goes on after handover.
        driven_s: Where it was stopped; by default at the end.
        decisions: Calls of the policy, see `decision`.
    """
    handover_us = start_us + 500_000
    end_us = handover_us + round((duration_s if driven_s is None else driven_s) * 1e6)
    times = np.unique(
        np.append(np.arange(start_us, end_us, step_us), [min(handover_us, end_us), end_us])
    )
    recorded_end = handover_us + round((duration_s if recorded_s is None else recorded_s) * 1e6)
    recorded_times = np.unique(np.append(np.arange(start_us, recorded_end, step_us), recorded_end))
    path = recorded or ego
    t_s = (times - handover_us) / 1e6
    tracks, poses, valid = [], [], []
    for number, body in enumerate(bodies):
        boxes = poses_of(body.path, t_s, body.z)
        there = np.broadcast_to(np.asarray(body.present(t_s), dtype=bool), t_s.shape).copy()
        actor = Actor(body.id or f"actor{number}", ActorClass.CAR, "car", np.array(body.size))
        boxes[~there] = geometry.IDENTITY
        tracks.append(Track(actor, times, boxes, there))
        poses.append(boxes)
        valid.append(there)
    scene = Scene(
        id="made", source="test", vehicle=vehicle, tracks=tuple(tracks),
        ego=Trajectory(recorded_times, poses_of(path, (recorded_times - handover_us) / 1e6)),
        map=vector_map or VectorMap(),
    )  # fmt: skip
    motion = states(times, ego, handover_us)
    schedule = Schedule(
        context_start_us=start_us, render_start_us=start_us, first_decision_us=start_us,
        decision_period_us=100_000, n_decisions=5 + round(duration_s * 10), n_warmup=5,
    )  # fmt: skip
    actors = ActorMotion(
        times,
        np.array(poses).reshape(-1, len(times), 7),
        np.array(valid, dtype=bool).reshape(-1, len(times)),
    )
    return RolloutRecord("made/0", scene, schedule, motion, motion, actors, tuple(decisions))


def decision(
    t_s: float,
    plan: Path,
    horizon_s: float = 5.0,
    *,
    samples: Sequence[Path] = (),
    late_s: float = 0.0,
    step_us: int = STEP_US,
    start_us: int = 1_000_000,
) -> Decision:
    """A decision `t_s` after handover; paths are over seconds since handover."""
    at_us = start_us + 500_000 + round(t_s * 1e6)

    def planned(path: Path) -> Trajectory:
        times = np.arange(at_us, at_us + round(horizon_s * 1e6) + 1, step_us)
        return Trajectory(times, poses_of(path, (times - start_us - 500_000) / 1e6))

    made = Plan(planned(plan), tuple(planned(path) for path in samples))
    return Decision(at_us, at_us + round(late_s * 1e6), made, dropped=t_s < 0)


def by_name(metric: Metric, of: RolloutRecord) -> dict[str, MetricValue]:
    values = metric.compute(of)
    out = {value.name: value for value in values}
    assert len(out) == len(values)
    for value in values:
        assert (value.value is None) == bool(value.reason), value
    return out


def rectangle(x0: float, y0: float, x1: float, y1: float) -> Array:
    """An outline ``(4, 3)`` at z = 0."""
    return np.array([[x0, y0, 0.0], [x1, y0, 0.0], [x1, y1, 0.0], [x0, y1, 0.0]])


def lane(outline: Array | None, id: str = "lane", **kwargs: object) -> Lane:
    line = np.zeros((2, 3)) if outline is None else outline[:2]
    return Lane(id, kwargs.pop("centerline", line), polygon=outline, **kwargs)  # type: ignore[arg-type]


def road(half_width: float = 4.0, x0: float = -50.0, x1: float = 200.0) -> VectorMap:
    """One drivable area along x."""
    return VectorMap(drivable_areas=(Area("road", rectangle(x0, -half_width, x1, half_width)),))


def transformed(of: RolloutRecord, local_to_made: Array, shift_us: int = 0) -> RolloutRecord:
    """The same rollout, seen from another frame and on another clock."""

    def points(p: Array) -> Array:
        return geometry.transform_points(local_to_made, p)

    def moved(trajectory: Trajectory) -> Trajectory:
        poses = geometry.compose(local_to_made, trajectory.poses)
        return Trajectory(trajectory.times_us + shift_us, poses)

    def some(p: Array | None) -> Array | None:
        return None if p is None else points(p)

    def motion(m: EgoMotion) -> EgoMotion:
        poses = geometry.compose(local_to_made, m.local_to_rig)
        return EgoMotion(m.times_us + shift_us, poses, m.dynamics)

    scene, old = of.scene, of.scene.map
    vector_map = VectorMap(
        lanes=tuple(
            replace(
                la, centerline=points(la.centerline), left=some(la.left), right=some(la.right),
                polygon=some(la.polygon),
            )
            for la in old.lanes
        ),
        lane_lines=tuple(LaneLine(e.id, points(e.points)) for e in old.lane_lines),
        road_boundaries=tuple(Polyline(e.id, points(e.points)) for e in old.road_boundaries),
        drivable_areas=tuple(
            Area(a.id, points(a.outline), tuple(points(h) for h in a.holes)) for a in old.drivable_areas
        ),
        stop_lines=tuple(Polyline(e.id, points(e.points), e.lanes) for e in old.stop_lines),
        lights=tuple(replace(e, times_us=e.times_us + shift_us) for e in old.lights),
    )  # fmt: skip
    tracks = tuple(
        replace(t, times_us=t.times_us + shift_us, local_to_aabb=geometry.compose(local_to_made, t.local_to_aabb))
        for t in scene.tracks
    )  # fmt: skip
    decisions = tuple(
        replace(
            d, time_us=d.time_us + shift_us, available_us=d.available_us + shift_us,
            plan=Plan(moved(d.plan.local_to_rig), tuple(moved(x) for x in d.plan.samples)),
        )
        for d in of.decisions
    )  # fmt: skip
    poses = geometry.compose(local_to_made, of.actors.local_to_aabb)
    poses[~of.actors.valid] = geometry.IDENTITY
    schedule = of.schedule
    return replace(
        of,
        scene=replace(scene, ego=moved(scene.ego), tracks=tracks, map=vector_map),
        schedule=replace(
            schedule,
            context_start_us=schedule.context_start_us + shift_us,
            render_start_us=schedule.render_start_us + shift_us,
            first_decision_us=schedule.first_decision_us + shift_us,
        ),
        ego=motion(of.ego),
        ego_estimated=motion(of.ego_estimated),
        actors=ActorMotion(of.actors.times_us + shift_us, poses, of.actors.valid),
        decisions=decisions,
    )
