"""Check a scene before anything is simulated in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.scene import HeightRaster, Scene
from omniloop.core.time import US_PER_S
from omniloop.scenes.findings import SEVERITIES, Finding, some
from omniloop.scenes.validate_map import check_map_geometry, check_map_ids, check_surface
from omniloop.scenes.validate_motion import check_contacts, check_ego_motion, sample_times_us

__all__ = ["Finding", "validate_scene"]

MIN_DURATION_S = 3.0
MAX_DURATION_S = 1e6
UNIT_TOLERANCE = 1e-6
GROUND_TOLERANCE_M = 0.5
FRAME_TOLERANCE_US = 100_000
"""Cameras are not in step with poses: the first image may be this much older."""


def validate_scene(scene: Scene) -> list[Finding]:
    """Return what is wrong or odd about a scene, the worst first.

    Not looked for is what `Trajectory` and `Track` refuse anyway: poses that are not finite
    or far from a unit quaternion, and times out of order.
    """
    if len(scene.ego) == 0:
        return [Finding("error", "ego", "has no recorded pose", "give a recorded ego")]
    checks = (
        _check_times(scene), _check_numbers(scene), _check_ids(scene), check_map_geometry(scene.map),
        check_map_ids(scene.map),
    )  # fmt: skip
    findings = [finding for check in checks for finding in check]
    if not any(finding.severity == "error" for finding in findings):
        # The checks of motion and place compute with all these numbers.
        later = (
            check_ego_motion(scene), check_contacts(scene), check_surface(scene),
            _check_ground(scene), _check_length(scene), _check_pictures(scene),
        )  # fmt: skip
        findings += [finding for check in later for finding in check]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def _check_times(scene: Scene) -> Iterator[Finding]:
    if scene.start_us < 0:
        yield Finding(
            "error", "ego", f"is recorded from {scene.start_us} us on, before 0",
            "shift the recording's times so that they start at 0 or later: a log holds no others",
        )  # fmt: skip
    duration_s = (scene.end_us - scene.start_us) / US_PER_S
    if duration_s > MAX_DURATION_S:
        yield Finding(
            "error", "ego", f"is recorded for {duration_s:.0f} s, more than {MAX_DURATION_S:.0f} s",
            "mend the times of its poses: are they in microseconds?",
        )  # fmt: skip


def _check_numbers(scene: Scene) -> Iterator[Finding]:
    sizes = {"vehicle": scene.vehicle.size_m}
    sizes |= {f"track {actor.id}": np.asarray(actor.size_m) for actor in scene.actors}
    for where, size in sizes.items():
        if size.shape != (3,) or not np.isfinite(size).all() or (size <= 0).any():
            yield Finding(
                "error", where, f"box size {size.tolist()} m is not three positive numbers",
                "mend the size, or drop the track",
            )  # fmt: skip
    poses = {"ego": scene.ego.poses}
    poses |= {f"camera {camera.id}": camera.rig_to_camera[None] for camera in scene.cameras}
    poses |= {f"track {t.actor.id}": t.local_to_aabb[t.valid] for t in scene.tracks}
    for where, values in poses.items():
        if not np.isfinite(values).all():
            yield Finding("error", where, "has a pose that is not finite", "mend the pose")
            continue
        off = np.abs(np.linalg.norm(values[:, 3:], axis=1) - 1)
        if len(off) and off.max() > UNIT_TOLERANCE:
            yield Finding(
                "warning", where, f"a quaternion's length is off by {off.max():.1e}",
                "normalise the poses when reading them: lengths are off by as much",
            )  # fmt: skip
    matrix = np.asarray(scene.dataset_to_local)
    rotation = matrix[:3, :3] if matrix.shape == (4, 4) else np.zeros((3, 3))
    if not np.isfinite(matrix).all() or not np.allclose(
        rotation @ rotation.T, np.eye(3), atol=1e-6
    ):
        yield Finding(
            "error", "dataset_to_local", "is not a finite rigid transform", "mend the reader"
        )


def _check_ids(scene: Scene) -> Iterator[Finding]:
    for kind, names in (
        ("tracks", [actor.id for actor in scene.actors]),
        ("cameras", [camera.id for camera in scene.cameras]),
    ):
        twice = [name for name, n in Counter(names).items() if n > 1]
        if twice:
            yield Finding(
                "error", kind, f"{len(twice)} ids occur more than once: {some(twice)}",
                "give each its own id",
            )  # fmt: skip


def _check_ground(scene: Scene) -> Iterator[Finding]:
    if scene.ground is None:
        return
    path = scene.ego.sample(sample_times_us(scene))
    heights = _heights_m(scene.ground, path[:, :2])
    known = np.isfinite(heights)
    if not known.all():
        yield Finding(
            "warning", "ground", f"no height is known under {1 - known.mean():.0%} of ego's path",
            "none, if the recorded height will do there",
        )  # fmt: skip
    gap = np.abs(path[known, 2] - heights[known])
    if known.any() and np.median(gap) > GROUND_TOLERANCE_M:
        yield Finding(
            "warning", "ground", f"lies {np.median(gap):.2f} m off ego's recorded path (median)",
            "check that ground and poses share a frame; the rig is on the ground",
        )  # fmt: skip


def _heights_m(ground: HeightRaster, xy: Array) -> Array:
    """Height of the cell under each point ``(N, 2)``: ``(N,)``, NaN where unknown."""
    cells = np.rint(xy @ ground.local_xy_to_cell[:, :2].T + ground.local_xy_to_cell[:, 2])
    column, row = cells[:, 0].astype(np.int64), cells[:, 1].astype(np.int64)
    rows, columns = ground.heights_m.shape
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    out = np.full(len(xy), np.nan)
    out[inside] = ground.heights_m[row[inside], column[inside]]
    return out


def _check_length(scene: Scene) -> Iterator[Finding]:
    duration_s = (scene.end_us - scene.start_us) / US_PER_S
    if duration_s < MIN_DURATION_S:
        yield Finding(
            "warning", "ego", f"recorded for {duration_s:.1f} s, less than {MIN_DURATION_S:.0f} s",
            "expect few closed-loop decisions or none: warm-up comes off it",
        )  # fmt: skip
    moved = geometry.arc_length_m(scene.ego.poses[:, :2])[-1]
    if duration_s >= MIN_DURATION_S and moved < 1.0:
        yield Finding(
            "info", "ego", f"stands still: {moved:.2f} m in {duration_s:.1f} s",
            "none, if that is wanted; progress will not be valid",
        )  # fmt: skip


def _check_pictures(scene: Scene) -> Iterator[Finding]:
    if not scene.cameras:
        yield Finding(
            "info", "cameras", "there are none: a default forward camera of 120 degrees stands in",
            "none, if that will do",
        )  # fmt: skip
    known = {camera.id for camera in scene.cameras}
    for frame in scene.first_frames:
        where = f"first frame of {frame.camera_id}"
        if frame.camera_id not in known:
            yield Finding(
                "warning", where, "the scene has no such camera", "add it, or drop the image"
            )
        early, late = scene.start_us - FRAME_TOLERANCE_US, scene.end_us + FRAME_TOLERANCE_US
        if not early <= frame.capture_us <= late:
            away = (frame.capture_us - scene.start_us) / US_PER_S
            yield Finding(
                "warning", where, f"was taken at {away:.2f} s, outside the recording",
                "give an image from the time that ego was recorded",
            )  # fmt: skip
