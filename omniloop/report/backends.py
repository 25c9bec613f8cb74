"""Renderers compared on the same driven states, by how far ego was from the recorded path.

Source of the design: OmniDreams, `seeds/omnidreams.txt`, Visual Realism and figure 14: closed-loop
trajectories are frozen, drawn by several renderers, and clips grouped by their mean distance
from the recorded trajectory. There the score is FVD against recorded video; here it is the
difference from a reference renderer's frame of the same moment.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omniloop.core.contracts import CameraFrame
from omniloop.core.errors import ConfigError
from omniloop.core.geometry import Array
from omniloop.core.record import RolloutRecord
from omniloop.core.time import US_PER_S
from omniloop.report.image_difference import difference
from omniloop.runlog.folder import LOG_NAME, open_existing, rollout_dir
from omniloop.runlog.reader import iter_frames
from omniloop.runlog.record import read_record
from omniloop.runlog.results import find_results
from omniloop.scenes.recorded_path import distance_from_recording_m

_SAME_STATES = (
    "draw the first run's frames again: omniloop rerender FIRST renderer=... --out SECOND"
)


@dataclass(frozen=True, eq=False)
class Clips:
    """Clips of a backend against those of the reference.

    Attributes:
        name: The backend's run.
        scenes: ``(N,)`` scene of each clip.
        rollouts: ``(N,)`` ``<scene>/<seed>``.
        deviation_m: ``(N,)`` mean over the clip's frames of ego's distance from the recorded path.
        frames: ``(N,)`` pairs compared, of all cameras.
        sums: ``(N, 3)`` sums over these of SSIM, squared error and gradient error.
        notes: What a reader should know.
    """

    name: str
    scenes: NDArray[np.str_]
    rollouts: NDArray[np.str_]
    deviation_m: Array
    frames: NDArray[np.int64]
    sums: Array
    notes: tuple[str, ...] = ()


def clips_of(
    reference: Path, other: Path, name: str, *, clip_s: float = 1.0, every: int = 1
) -> Clips:
    """Compare the frames of two runs that hold the same states.

    A clip is what all cameras saw in `clip_s` of a rollout, counted from its first frame.

    Args:
        every: Compare every so many of a camera's frames only.

    Raises:
        ConfigError: they share no completed rollout or no frame, one has other states or images
            of other sizes, or `clip_s` or `every` is not positive.
        RunFolderError: a folder is no run, or a log cannot be read.
    """
    if not clip_s * US_PER_S >= 1 or every < 1:
        raise ConfigError(
            f"clips of {clip_s} s, every {every} frames", where="--clip, --every",
            remedy="give positive numbers",
        )  # fmt: skip
    runs = [_completed(path) for path in (reference, other)]
    keys = sorted(runs[0].keys() & runs[1].keys())
    if not keys:
        raise ConfigError(
            "the runs have no completed rollout in common", where=f"{reference} and {other}",
            remedy=_SAME_STATES,
        )  # fmt: skip
    alone = sorted(runs[0].keys() ^ runs[1].keys())
    notes = [f"{scene}/{seed} is in one run only" for scene, seed in alone]
    clip_us = round(clip_s * US_PER_S)
    parts = [_rollout_clips(runs[0][key], runs[1][key], clip_us, every) for key in keys]
    empty = [key for key, part in zip(keys, parts, strict=True) if not len(part[0])]
    notes += [f"{scene}/{seed} holds no frames" for scene, seed in empty]
    if len(empty) == len(keys):
        raise ConfigError(
            "no rollout holds frames", where=f"{reference} and {other}",
            remedy="run with a renderer, such as renderer=rasterizer",
        )  # fmt: skip
    counts = [len(part[0]) for part in parts]
    return Clips(
        name=name,
        scenes=np.repeat([scene for scene, _ in keys], counts),
        rollouts=np.repeat([f"{scene}/{seed}" for scene, seed in keys], counts),
        deviation_m=np.concatenate([part[0] for part in parts]),
        frames=np.concatenate([part[1] for part in parts]),
        sums=np.concatenate([part[2] for part in parts]),
        notes=tuple(notes),
    )


def _completed(run_dir: Path) -> Mapping[tuple[str, int], Path]:
    results = find_results(open_existing(run_dir)).results
    return {
        r.key: rollout_dir(run_dir, *r.key) / LOG_NAME for r in results if r.outcome == "completed"
    }


def _rollout_clips(
    first: Path, second: Path, clip_us: int, every: int
) -> tuple[Array, NDArray[np.int64], Array]:
    """Deviations, counts of frames and sums of the clips of one rollout."""
    record = _same_states(first, second)
    captured: list[int] = []
    scores: list[tuple[float, float, float]] = []
    seen: dict[str, int] = {}
    for a, b in itertools.zip_longest(iter_frames(first), iter_frames(second)):
        _check_pair(a, b, second)
        seen[a.camera_id] = seen.get(a.camera_id, -1) + 1
        if seen[a.camera_id] % every:
            continue
        try:
            found = difference(a.image, b.image)
        except ValueError as error:
            raise ConfigError(
                f"frames of {a.camera_id} at {a.capture_us} us cannot be compared: {error}",
                where=f"{first} and {second}", remedy="draw them at one size: renderer.width, renderer.height",
            ) from error  # fmt: skip
        captured.append(a.capture_us)
        scores.append((found.ssim, found.mse, found.gradient_error))
    times = np.array(captured, dtype=np.int64)
    away_m = distance_from_recording_m(record.scene, record.ego.trajectory.sample(times)) if captured else np.zeros(0)  # fmt: skip
    clip = (times - times.min(initial=np.iinfo(np.int64).max)) // clip_us
    numbers, place, counts = np.unique(clip, return_inverse=True, return_counts=True)
    sums = np.zeros((len(numbers), 4))
    np.add.at(sums, place, np.column_stack([np.array(scores).reshape(-1, 3), away_m]))
    return sums[:, 3] / np.maximum(counts, 1), counts, sums[:, :3]


def _same_states(first: Path, second: Path) -> RolloutRecord:
    one = read_record(first)
    two = read_record(second, scene=one.scene)
    pairs = (
        (one.ego.times_us, two.ego.times_us),
        (one.ego.local_to_rig, two.ego.local_to_rig),
        (one.actors.times_us, two.actors.times_us),
        (one.actors.local_to_aabb, two.actors.local_to_aabb),
        (one.actors.valid, two.actors.valid),
    )
    if not all(np.array_equal(a, b) for a, b in pairs):
        raise ConfigError(
            f"{one.session_id} was driven otherwise in the second run", where=f"{first} and {second}",
            remedy=_SAME_STATES,
        )  # fmt: skip
    return one


def _check_pair(a: CameraFrame | None, b: CameraFrame | None, log: Path) -> None:
    if a is None or b is None or (a.camera_id, a.capture_us) != (b.camera_id, b.capture_us):
        there, here = (
            "none" if f is None else f"{f.camera_id} at {f.capture_us} us" for f in (a, b)
        )
        raise ConfigError(
            f"the frames are not the same ones: {there} in the first run, {here} in the second",
            where=str(log), remedy=_SAME_STATES,
        )  # fmt: skip
