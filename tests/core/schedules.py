"""Scenes and cameras that have times only, for schedules."""

from __future__ import annotations

import numpy as np

from omniloop.core.cameras import Camera, default_camera
from omniloop.core.contracts import ChunkRule, ImageHistory, PolicySpec, RendererSpec
from omniloop.core.geometry import IDENTITY
from omniloop.core.motion import Trajectory
from omniloop.core.scene import Scene
from omniloop.core.schedule import Schedule, build_schedule

STARTS_US = (0, 1_600_000_000_123_457)
"""A synthetic clock and one of a recording, microseconds since 1970."""


def scene_of(start_us: int, duration_us: int, *, may_run_on: bool = False) -> Scene:
    """A scene that is recorded over ``[start_us, start_us + duration_us]``."""
    ego = Trajectory(np.array([start_us, start_us + duration_us]), np.tile(IDENTITY, (2, 1)))
    return Scene("town-7", "embedded", ego, may_run_on=may_run_on)


def camera_of(
    name: str = "front",
    first_end_us: int | None = None,
    interval_us: int | None = None,
    shutter_us: int = 0,
) -> Camera:
    """A camera with times."""
    base = default_camera()
    return Camera(name, base.model, base.rig_to_camera, first_end_us, interval_us, shutter_us)


def policy_of(
    *,
    ego_s: float = 0.0,
    count: int = 1,
    rate_hz: float = 10.0,
    cameras: tuple[str, ...] | None = None,
) -> PolicySpec:
    """A policy with histories."""
    images = ImageHistory(count, rate_hz)
    return PolicySpec(cameras=cameras, images=images, ego_history_s=ego_s)


def schedule_of(
    scene: Scene,
    cameras: tuple[Camera, ...] = (),
    *,
    frames: int | None = None,
    fps: int = 30,
    policy: PolicySpec | None = None,
    period_us: int = 100_000,
    warmup_s: float | None = 0.0,
    duration_s: float | None = None,
    decisions_per_chunk: int = 1,
    postfetch: bool = False,
) -> Schedule:
    """A schedule, chunked if `frames` is given, per frame if there are cameras."""
    chunk = ChunkRule(frames, fps) if frames else None
    renderer = RendererSpec(chunk, fps=fps) if cameras else None
    return build_schedule(
        scene,
        cameras,
        renderer,
        policy or policy_of(),
        decision_period_us=period_us,
        warmup_s=warmup_s,
        duration_s=duration_s,
        decisions_per_chunk=decisions_per_chunk,
        postfetch=postfetch,
    )
