"""Which rollouts of a run are exported."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from omniloop.core.errors import ConfigError, RunFolderError, nearest
from omniloop.export.settings import ExportSettings
from omniloop.runlog.folder import LOG_NAME, RUN_YAML, open_existing, read_run_yaml, rollout_dir
from omniloop.runlog.messages import LogHeader
from omniloop.runlog.reader import LogReader
from omniloop.runlog.results import RolloutResult, find_results
from omniloop.runlog.run_yaml import settings_sha256

_WALL_CLOCK = ("timings", "attempts", "addresses")
"""What differs in the results of equal simulations."""

Key = tuple[str, int]


@dataclass(frozen=True, eq=False)
class Source:
    """A rollout of the run.

    Attributes:
        result: How it ended.
        log: Its log.
        sha256: Hash of its result but for wall-clock facts, and of its log's size.
        cameras: Those that were rendered and are chosen, in the log's order.
    """

    result: RolloutResult
    log: Path
    sha256: str
    cameras: tuple[str, ...]

    @property
    def key(self) -> Key:
        """Scene and seed."""
        return self.result.key


@dataclass(frozen=True, eq=False)
class Sources:
    """What a run offers to an export.

    Attributes:
        run_dir: The run's folder.
        settings_sha256: Hash of the settings that decide what is simulated.
        tags: Scene id to its words.
        chosen: Rollouts to export, by scene and seed.
        skipped: A line for each rollout that cannot be exported, with the reason.
    """

    run_dir: Path
    settings_sha256: str
    tags: Mapping[str, Sequence[str]]
    chosen: tuple[Source, ...]
    skipped: tuple[str, ...]


def find_sources(run_dir: Path, settings: ExportSettings) -> Sources:
    """Choose rollouts by their results and the headers of their logs.

    Raises:
        RunFolderError: the folder is no run, or holds no result that could be exported.
        ConfigError: a scene, outcome or camera that is chosen is nowhere in the run, or
            images are wanted and nothing was rendered.
    """
    folder = open_existing(run_dir)
    document = read_run_yaml(folder) if (folder / RUN_YAML).is_file() else {}
    found = find_results(folder)
    skipped = list(found.damaged)
    ended = [r for r in found.results if r.outcome in settings.outcomes]
    if not ended:
        have = sorted({r.outcome for r in found.results})
        detail = f": {found.damaged[0]}" if found.damaged else ""
        raise RunFolderError(
            f"no rollout of the run ended as {' or '.join(settings.outcomes)}{detail}",
            where=str(run_dir),
            remedy=f"choose --outcome {' or '.join(have)}" if have else "let the run finish first",
        )
    chosen: list[Source] = []
    cameras_seen: set[str] = set()
    for result in _of_scenes(ended, settings.scenes):
        log = rollout_dir(folder, *result.key) / LOG_NAME
        try:
            header = LogReader(log).header()
        except RunFolderError as error:
            skipped.append(f"{result.session_id}: {error.what}")
            continue
        cameras = tuple(clock.camera_id for clock in header.schedule.clocks)
        cameras_seen |= {*cameras}
        missing = [c for c in settings.cameras if c not in cameras]
        if header.session_id != result.session_id:
            skipped.append(f"{result.session_id}: the log is of rollout {header.session_id}")
        elif missing and settings.form != "parquet":
            skipped.append(f"{result.session_id}: camera '{missing[0]}' was not rendered")
        else:
            wanted = tuple(c for c in cameras if not settings.cameras or c in settings.cameras)
            chosen.append(Source(result, log, _sha256(result, log, header), wanted))
    _check_cameras(chosen, sorted(cameras_seen), settings, run_dir)
    tags = document.get("tags")
    return Sources(
        folder, settings_sha256(document), tags if isinstance(tags, dict) else {},
        tuple(chosen), tuple(skipped),
    )  # fmt: skip


def _of_scenes(results: Sequence[RolloutResult], wanted: Sequence[str]) -> list[RolloutResult]:
    known = sorted({r.scene for r in results})
    for pattern in wanted:
        if not any(fnmatchcase(scene, pattern) for scene in known):
            raise ConfigError(
                f"no rollout that is chosen is of scene '{pattern}'.{nearest(pattern, known)}",
                where="--scenes", remedy=f"its scenes: {', '.join(known)}",
            )  # fmt: skip
    return [
        r for r in results if not wanted or any(fnmatchcase(r.scene, pattern) for pattern in wanted)
    ]


def _check_cameras(
    chosen: Sequence[Source], seen: Sequence[str], settings: ExportSettings, run_dir: Path
) -> None:
    for camera in settings.cameras if seen else ():
        if camera not in seen:
            raise ConfigError(
                f"no rollout that is chosen has camera '{camera}'.{nearest(camera, seen)}",
                where="--cameras", remedy=f"its cameras: {', '.join(seen)}",
            )  # fmt: skip
    if chosen and settings.form != "parquet" and not any(s.cameras for s in chosen):
        raise ConfigError(
            f"the run has no frames to export --to {settings.form}", where=str(run_dir),
            remedy="export --to parquet, or run it with a renderer (`omniloop rerender` draws frames)",
        )  # fmt: skip


def _sha256(result: RolloutResult, log: Path, header: LogHeader) -> str:
    document: dict[str, Any] = json.loads(result.to_json())
    content = {key: value for key, value in document.items() if key not in _WALL_CLOCK}
    content |= {"log_bytes": log.stat().st_size, "scene_sha256": header.scene_sha256}
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
