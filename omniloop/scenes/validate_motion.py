"""Checks of recorded motion: speeds, headings, and boxes that overlap."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Times, grid_times_us
from omniloop.core.scene import Scene
from omniloop.core.time import SCORE_STEP_US
from omniloop.scenes.findings import Finding, some

MAX_SPEED_MPS = 70.0
MAX_SPEED_STEP_MPS = 3.0
"""Between speeds 100 ms apart: 30 m/s^2, three times what tyres can do."""

MAX_SLIP_RAD = np.deg2rad(15.0)
"""Between ego's heading and its motion; a rear axle hardly slips."""

MIN_MOVING_MPS = 2.0
MIN_DEPTH_M = 0.01
"""Boxes that overlap by less only touch."""


def check_ego_motion(scene: Scene) -> Iterator[Finding]:
    """Speed, jumps and heading of ego, on its poses every 100 ms."""
    times = sample_times_us(scene)
    poses = scene.ego.sample(times)
    if len(times) < 3:
        return
    step = np.diff(poses[:, :2], axis=0)
    speed = np.linalg.norm(step, axis=1) / (np.diff(times) / 1e6)
    if speed.max() > MAX_SPEED_MPS:
        at = int(np.argmax(speed))
        yield Finding(
            "error", "ego", f"moves at {speed[at]:.1f} m/s at {_s(times[at], scene)}",
            "mend the recording: a pose or a time is wrong",
        )  # fmt: skip
    change = np.abs(np.diff(speed))
    jumps = change > MAX_SPEED_STEP_MPS * np.maximum(np.diff(times)[1:] / SCORE_STEP_US, 1e-3)
    if jumps.any():
        at = int(np.argmax(jumps))
        yield Finding(
            "warning", "ego",
            f"jumps {jumps.sum()} times, first at {_s(times[at + 1], scene)}: speed goes from"
            f" {speed[at]:.1f} to {speed[at + 1]:.1f} m/s in 100 ms",
            "smooth or mend the poses: controllers and comfort scores see the jump",
        )  # fmt: skip
    heading = geometry.yaw_rad(poses)
    middle = heading[:-1] + geometry.wrap_rad(np.diff(heading)) / 2
    slip = np.abs(geometry.wrap_rad(np.arctan2(step[:, 1], step[:, 0]) - middle))
    bad = (speed > MIN_MOVING_MPS) & (slip > MAX_SLIP_RAD)
    if bad.any():
        at = int(np.argmax(np.where(bad, slip, 0.0)))
        yield Finding(
            "warning", "ego",
            f"moves up to {np.rad2deg(slip[at]):.0f} degrees off its heading (at {_s(times[at], scene)},"
            f" {bad.sum()} of {len(bad)} steps above {np.rad2deg(MAX_SLIP_RAD):.0f})",
            "check that poses are of the rear axle with x ahead; noisy headings shake the camera",
        )  # fmt: skip


def check_contacts(scene: Scene) -> Iterator[Finding]:
    """Actors whose box overlaps ego's in the recording, and each other's at its start."""
    if not scene.tracks:
        return
    times = sample_times_us(scene)
    ego = geometry.compose(scene.ego.sample(times), scene.vehicle.rig_to_aabb)
    actors = scene.recorded_actors(times)
    sizes = scene.actor_sizes_m
    for i, actor in enumerate(scene.actors):
        depth = np.where(
            actors.valid[i],
            overlap_m(ego, scene.vehicle.size_m, actors.local_to_aabb[i], sizes[i]), -np.inf,
        )  # fmt: skip
        hit = depth > MIN_DEPTH_M
        if hit.any():
            first, last = times[hit][[0, -1]]
            yield Finding(
                "warning", f"track {actor.id}",
                f"overlaps recorded ego from {_s(first, scene)} to {_s(last, scene)}, by up to {depth.max():.2f} m"
                f" ({actor.label})",
                "expect a collision that no policy caused; edit the actor out, or leave the scene out",
            )  # fmt: skip
    here = np.flatnonzero(actors.valid[:, 0])
    first_of, second_of = np.triu_indices(len(here), 1)
    a, b = here[first_of], here[second_of]
    start = actors.local_to_aabb[:, 0]
    depth = overlap_m(start[a], sizes[a], start[b], sizes[b])
    pairs = np.flatnonzero(depth > MIN_DEPTH_M)
    if len(pairs):
        worst = pairs[np.argsort(-depth[pairs], kind="stable")]
        names = [
            f"{scene.actors[a[k]].id} and {scene.actors[b[k]].id} by {depth[k]:.2f} m"
            for k in worst
        ]
        yield Finding(
            "warning", "tracks", f"{len(pairs)} pair(s) of actors overlap at the start: {some(names)}",
            "reactive traffic may stand still or push: edit one of each pair out, or replay these",
        )  # fmt: skip


def overlap_m(poses_a: Array, sizes_a: Array, poses_b: Array, sizes_b: Array) -> Array:
    """How deep upright boxes overlap; not above 0 where they do not.

    Args:
        poses_a: ``(..., 7)`` box centres.
        sizes_a: ``(..., 3)`` lengths, widths and heights; likewise `poses_b`, `sizes_b`.

    Returns:
        ``(...)``: the smallest overlap of the footprints along the normals of all their
        sides (separating axis theorem); not above 0 where one box is above the other.
    """
    corners = [geometry.box_corners_xy(p, s) for p, s in ((poses_a, sizes_a), (poses_b, sizes_b))]
    shape = np.broadcast_shapes(corners[0].shape, corners[1].shape)
    a, b = (np.broadcast_to(c, shape) for c in corners)
    depth = np.full(shape[:-2], np.inf)
    for box in (a, b):
        for k in (0, 1):
            side = box[..., k + 1, :] - box[..., k, :]
            side = side / np.maximum(np.linalg.norm(side, axis=-1, keepdims=True), 1e-12)
            along_a, along_b = (np.einsum("...ki,...i->...k", c, side) for c in (a, b))
            common = np.minimum(along_a.max(axis=-1), along_b.max(axis=-1)) - np.maximum(
                along_a.min(axis=-1), along_b.min(axis=-1)
            )
            depth = np.minimum(depth, common)
    above = np.abs(poses_a[..., 2] - poses_b[..., 2]) - (sizes_a[..., 2] + sizes_b[..., 2]) / 2
    return np.where(above < 0, depth, np.minimum(depth, -above))


def sample_times_us(scene: Scene) -> Times:
    """The scene's start, every 100 ms after it, and its end."""
    if scene.end_us == scene.start_us:
        return np.array([scene.start_us])
    return np.append(scene.start_us, grid_times_us(scene.start_us, scene.end_us, SCORE_STEP_US))


def _s(time_us: int, scene: Scene) -> str:
    return f"{(int(time_us) - scene.start_us) / 1e6:.1f} s"
