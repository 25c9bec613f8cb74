"""Renderers compared on the same driven states, by how far ego was from the recorded path.

Source of the design: OmniDreams, `seeds/omnidreams.txt`, Visual Realism and figure 14: closed-loop
trajectories are frozen, drawn by several renderers, and clips grouped by their mean distance
from the recorded trajectory. There the score is FVD against recorded video; here the reference
is another renderer's frames of the same moments, and the scores are image-metric plugins.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omniloop.core.contracts import CameraFrame
from omniloop.core.errors import ConfigError
from omniloop.core.geometry import Array
from omniloop.core.record import RolloutRecord
from omniloop.core.time import US_PER_S
from omniloop.report.image_metrics.contract import FramePair, ImageMetric
from omniloop.report.image_metrics.difference import DifferenceMetric
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
        metrics: Image metrics by name.
        measured: By image metric, what it kept of each clip; ``N`` each.
        notes: What a reader should know.
    """

    name: str
    scenes: NDArray[np.str_]
    rollouts: NDArray[np.str_]
    deviation_m: Array
    frames: NDArray[np.int64]
    metrics: Mapping[str, ImageMetric]
    measured: Mapping[str, tuple[Any, ...]]
    notes: tuple[str, ...] = ()


def clips_of(
    reference: Path,
    other: Path,
    name: str,
    *,
    metrics: Mapping[str, ImageMetric] | None = None,
    clip_s: float = 1.0,
    every: int = 1,
) -> Clips:
    """Compare the frames of two runs that hold the same states.

    A clip is what all cameras saw in `clip_s` of a rollout, counted from its first frame.

    Args:
        metrics: By name, none of them `absent`; None for what needs no weights.
        every: Compare every so many of a camera's frames only.

    Raises:
        ConfigError: they share no completed rollout or no frame, one has other states or images
            of other sizes, `clip_s` or `every` is not positive, or a metric cannot be used.
        RunFolderError: a folder is no run, or a log cannot be read.
    """
    if not clip_s * US_PER_S >= 1 or every < 1:
        raise ConfigError(
            f"clips of {clip_s} s, every {every} frames", where="--clip, --every",
            remedy="give positive numbers",
        )  # fmt: skip
    metrics = {"difference": DifferenceMetric()} if metrics is None else metrics
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
    parts = [_rollout_clips(runs[0][key], runs[1][key], clip_us, every, metrics) for key in keys]
    counts = [len(part.deviation_m) for part in parts]
    empty = [key for key, count in zip(keys, counts, strict=True) if not count]
    notes += [f"{scene}/{seed} holds no frames" for scene, seed in empty]
    if len(empty) == len(keys):
        raise ConfigError(
            "no rollout holds frames", where=f"{reference} and {other}",
            remedy="run with a renderer, such as renderer=rasterizer",
        )  # fmt: skip
    measured = {m: tuple(clip for part in parts for clip in part.measured[m]) for m in metrics}
    notes += [note for m, metric in metrics.items() for note in metric.notes(measured[m])]
    return Clips(
        name=name,
        scenes=np.repeat([scene for scene, _ in keys], counts),
        rollouts=np.repeat([f"{scene}/{seed}" for scene, seed in keys], counts),
        deviation_m=np.concatenate([part.deviation_m for part in parts]),
        frames=np.concatenate([part.frames for part in parts]),
        metrics=metrics,
        measured=measured,
        notes=tuple(notes),
    )


@dataclass(frozen=True, eq=False)
class _RolloutClips:
    deviation_m: Array
    frames: NDArray[np.int64]
    measured: Mapping[str, list[Any]]


def _completed(run_dir: Path) -> Mapping[tuple[str, int], Path]:
    results = find_results(open_existing(run_dir)).results
    return {
        r.key: rollout_dir(run_dir, *r.key) / LOG_NAME for r in results if r.outcome == "completed"
    }


def _rollout_clips(
    first: Path, second: Path, clip_us: int, every: int, metrics: Mapping[str, ImageMetric]
) -> _RolloutClips:
    record = _same_states(first, second)
    # Times before pictures: a late frame may belong to an earlier clip, and only the clips that
    # are not complete yet should be in memory.
    times = np.array([pair.capture_us for pair in _pairs(first, second, every)], dtype=np.int64)
    clip_of = (times - times.min(initial=np.iinfo(np.int64).max)) // clip_us
    numbers, place, counts = np.unique(clip_of, return_inverse=True, return_counts=True)
    away_m = distance_from_recording_m(record.scene, record.ego.trajectory.sample(times)) if len(times) else np.zeros(0)  # fmt: skip
    deviation_m = np.zeros(len(numbers))
    np.add.at(deviation_m, place, away_m)
    waiting: list[list[FramePair]] = [[] for _ in numbers]
    measured: dict[str, list[Any]] = {name: [None] * len(numbers) for name in metrics}
    for k, pair in zip(place.tolist(), _pairs(first, second, every), strict=True):
        waiting[k].append(pair)
        if len(waiting[k]) == counts[k]:
            clip = sorted(waiting[k], key=lambda p: (p.camera_id, p.capture_us))
            waiting[k] = []
            for name, metric in metrics.items():
                measured[name][k] = metric.measure(clip)
    return _RolloutClips(deviation_m / np.maximum(counts, 1), counts, measured)


def _pairs(first: Path, second: Path, every: int) -> Iterator[FramePair]:
    """Frames of two logs, every so many of each camera, in order of delivery."""
    seen: dict[str, int] = {}
    for a, b in itertools.zip_longest(iter_frames(first), iter_frames(second)):
        pair = _pair(a, b, second)
        seen[pair.camera_id] = seen.get(pair.camera_id, -1) + 1
        if seen[pair.camera_id] % every == 0:
            yield pair


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


def _pair(a: CameraFrame | None, b: CameraFrame | None, log: Path) -> FramePair:
    if a is None or b is None or (a.camera_id, a.capture_us) != (b.camera_id, b.capture_us):
        there, here = (
            "none" if f is None else f"{f.camera_id} at {f.capture_us} us" for f in (a, b)
        )
        raise ConfigError(
            f"the frames are not the same ones: {there} in the first run, {here} in the second",
            where=str(log), remedy=_SAME_STATES,
        )  # fmt: skip
    return FramePair(a.camera_id, a.capture_us, a.image, b.image)
