"""Lanes and actors that the tests of nuPlan's and NAVSIM's scores share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import EgoMotion
from omniloop.core.record import RolloutRecord
from omniloop.core.replay import RecordedActors, recorded_motion_at
from omniloop.core.scene import ActorClass, Lane, Scene, VectorMap
from omniloop.core.schedule import Schedule
from tests.metrics.records import Body, lane, moving, poses_of, record, rectangle
from tests.metrics.records import Path as EgoPath

HANDOVER_US = 1_500_000


def line(*points: tuple[float, float]) -> Array:
    return np.array([[x, y, 0.0] for x, y in points])


def straight(
    id: str,
    y: float,
    x0: float = -100.0,
    x1: float = 200.0,
    *,
    back: bool = False,
    **kwargs: object,
) -> Lane:
    """A lane of 4 m width along x; `back` against it."""
    ends = ((x1, y), (x0, y)) if back else ((x0, y), (x1, y))
    return lane(rectangle(x0, y - 2, x1, y + 2), id, centerline=line(*ends), **kwargs)


TWO_LANES = VectorMap(lanes=(straight("right", 0.0), straight("left", 4.0)))
"""Side by side: y from -2 to 2, and from 2 to 6."""


def with_class(
    of: RolloutRecord, actor_class: ActorClass, is_static: bool = False
) -> RolloutRecord:
    """The same rollout with all actors of another class."""
    tracks = tuple(
        replace(t, actor=replace(t.actor, actor_class=actor_class, is_static=is_static))
        for t in of.scene.tracks
    )
    return replace(of, scene=replace(of.scene, tracks=tracks))


def with_exact_motion(of: RolloutRecord, path: EgoPath) -> RolloutRecord:
    """The same rollout with the velocities of its path, which `record` takes by differences."""
    t_s = (of.ego.times_us - of.schedule.handover_us) / 1e6
    before, after = (poses_of(path, t_s + h) for h in (-1e-4, 1e-4))
    dynamics = of.ego.dynamics.copy()
    to_body = geometry.conjugate(of.ego.local_to_rig[:, 3:])
    dynamics[:, :3] = geometry.rotate(to_body, (after - before)[:, :3] / 2e-4)
    turn = geometry.yaw_rad(after) - geometry.yaw_rad(before)
    dynamics[:, 5] = geometry.wrap_rad(turn) / 2e-4
    return replace(of, ego=EgoMotion(of.ego.times_us, of.ego.local_to_rig, dynamics))


def replayed(scene: Scene, n_warmup: int = 5) -> RolloutRecord:
    """The recording driven again, every 100 ms."""
    steps = int((scene.end_us - scene.start_us) // 100_000)
    times_us = scene.start_us + 100_000 * np.arange(steps + 1, dtype=np.int64)
    ego = recorded_motion_at(scene.ego, times_us)
    schedule = Schedule(
        context_start_us=scene.start_us, render_start_us=scene.start_us,
        first_decision_us=scene.start_us, decision_period_us=100_000, n_decisions=steps,
        n_warmup=n_warmup,
    )  # fmt: skip
    actors = RecordedActors(scene).at(times_us)
    return RolloutRecord(f"{scene.id}/0", scene, schedule, ego, ego, actors, ())


def shared_scene(shared_data: Path, source: str, number: int) -> Scene:
    """A real scene, by the name of its reader and its place among them."""
    from omniloop.core import registry

    folder = {"nuscenes": "nuscenes_mini", "av2": "av2/sensor"}[source]
    reader = registry.create("scenes", source, {"path": str(shared_data / folder)})
    scene: Scene = reader.load(reader.ids()[number])
    return scene


def random_record(seed: int) -> RolloutRecord:
    """An ego that weaves along a road of two ways among four cars."""
    rng = np.random.default_rng(seed)
    sway, rate, speed = rng.uniform(0, 4), rng.uniform(0.3, 1.5), rng.uniform(0, 12)
    limit = float(rng.uniform(5, 12))
    lanes = (
        straight("right", 0, -100, 15.3, speed_limit_mps=limit, successors=("on",)),
        straight("on", 0, 15.3, 200, speed_limit_mps=limit, in_intersection=bool(rng.integers(2))),
        straight("left", 4, back=True, speed_limit_mps=limit),
    )

    def weaving(t: np.ndarray) -> tuple[object, object, object]:
        slope = np.arctan2(sway * rate * np.cos(rate * t), max(speed, 1.0))
        return speed * t, sway * np.sin(rate * t), slope

    def body() -> Body:
        return Body(
            moving(rng.uniform(-12, 30), rng.uniform(-2, 6), rng.uniform(0, 10), rng.normal(0, 0.4))
        )

    return record(
        weaving, [body() for _ in range(4)], recorded=moving(0, 0, rng.uniform(0.5, 12)),
        vector_map=VectorMap(lanes=lanes),
    )  # fmt: skip
