"""Checks of recorded motion: speeds, headings, and boxes that overlap."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

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

_MOST_PAIRS = 200_000
"""Of actors, looked at together: all pairs of thousands would take gigabytes."""

Indices = NDArray[np.intp]


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
    sizes = scene.actor_sizes_m
    for actor, track, size in zip(scene.actors, scene.tracks, sizes, strict=True):
        lo, hi = (
            np.searchsorted(times, track.times_us[[0, -1]] + [0, 1])
            if len(track.times_us)
            else (0, 0)
        )
        when = times[lo:hi]
        poses, valid = track.at(when)
        depth = np.where(valid, overlap_m(ego[lo:hi], scene.vehicle.size_m, poses, size), -np.inf)
        hit = depth > MIN_DEPTH_M
        if hit.any():
            first, last = when[hit][[0, -1]]
            yield Finding(
                "warning", f"track {actor.id}",
                f"overlaps recorded ego from {_s(first, scene)} to {_s(last, scene)}, by up to {depth.max():.2f} m"
                f" ({actor.label})",
                "expect a collision that no policy caused; edit the actor out, or leave the scene out",
            )  # fmt: skip
    a, b, depth = _overlaps_at(scene, times[:1])
    pairs = np.arange(len(depth))
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


def _overlaps_at(scene: Scene, time_us: Times) -> tuple[Indices, Indices, Array]:
    """Pairs of actors that overlap at a time ``(1,)``, and by how much: three times ``(P,)``."""
    actors = scene.recorded_actors(time_us)
    here = np.flatnonzero(actors.valid[:, 0])
    poses, sizes = actors.local_to_aabb[here, 0], scene.actor_sizes_m[here]
    radius = np.linalg.norm(sizes[:, :2], axis=1) / 2
    found: list[tuple[Indices, Indices, Array]] = []
    step = max(1, _MOST_PAIRS // max(1, len(here)))
    for start in range(0, len(here), step):
        rows = np.arange(start, min(start + step, len(here)))
        away = np.linalg.norm(poses[rows, None, :2] - poses[None, :, :2], axis=2)
        near = (away <= radius[rows, None] + radius) & (np.arange(len(here)) > rows[:, None])
        k, b = np.nonzero(near)
        a = rows[k]
        depth = overlap_m(poses[a], sizes[a], poses[b], sizes[b])
        hit = depth > MIN_DEPTH_M
        found.append((here[a[hit]], here[b[hit]], depth[hit]))
    none = np.zeros(0, dtype=np.int64)
    first, second, depths = (
        zip(*found, strict=True) if found else ((none,), (none,), (np.zeros(0),))
    )
    return np.concatenate(first), np.concatenate(second), np.concatenate(depths)


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
