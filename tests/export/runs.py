"""Runs made by hand, small enough to export many times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from omniloop.core.contracts import CameraFrame
from omniloop.core.record import RolloutRecord
from omniloop.runlog.folder import rollout_dir
from omniloop.runlog.results import RESULT_NAME, write_result
from tests.report.builders import make_frames, make_record, make_result, make_scene, write_log

SIZE = (64, 48)
CONFIG = {"policy": {"name": "straight_on"}, "run": {"root_seed": 0, "seeds": [0]}}


def make_run(folder: Path, names: list[str], *, seeds: int = 1, seconds: float = 6.0) -> Path:
    """A run of rollouts in which ego hits the car ahead, front to rear."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"config": CONFIG, "root_seed": 0, "tags": {name: ["made"] for name in names}}
    (folder / "run.yaml").write_text(yaml.safe_dump(document))
    for name in names:
        for seed in range(seeds):
            add_rollout(folder, name, seed, seconds=seconds)
    return folder


def add_rollout(
    folder: Path,
    name: str,
    seed: int = 0,
    *,
    seconds: float = 6.0,
    outcome: str = "completed",
    camera: bool = True,
    frames: Callable[[RolloutRecord], list[CameraFrame]] | None = None,
    change: Callable[[RolloutRecord], RolloutRecord] = lambda record: record,
    **result: Any,
) -> RolloutRecord:
    """Write one rollout with its result."""
    scene = make_scene(name, seconds)
    record = change(make_record(scene, seed=seed, camera=camera))
    place = rollout_dir(folder, name, seed)
    images = frames(record) if frames else make_frames(record, SIZE) if camera else []
    write_log_in_order(place / "log.mcap", record, images)
    write_result(place / RESULT_NAME, replace(make_result(record, outcome), **result))
    return record


def write_log_in_order(path: Path, record: RolloutRecord, frames: list[CameraFrame]) -> None:
    """Frames in order of delivery, as the loop tells them."""
    write_log(path, record, sorted(frames, key=lambda f: f.available_us))


def tree(folder: Path) -> dict[str, bytes]:
    """All files of an export by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
