"""A run's folder made of ASL logs: scored, and read by every command that reads runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from omniloop.configs.compose import compose
from omniloop.configs.schema import PluginConfig, RunConfig
from omniloop.core.contracts import SceneSource
from omniloop.core.errors import OmniloopError, RunFolderError, SceneError
from omniloop.core.record import Metric
from omniloop.core.time import US_PER_S
from omniloop.metrics.scoring import score
from omniloop.runlog.files import usable
from omniloop.runlog.folder import LOG_NAME, RunFolder
from omniloop.runlog.record import read_record
from omniloop.runlog.results import RolloutResult
from omniloop.runner.assemble import create_metrics
from omniloop.runner.score_meaning import keep_meaning
from omniloop.scenes.native import scene_hash
from omniloop.services.asl_read import mcap_from_asl, rollout_of

Progress = Callable[[Path, RolloutResult], None]
"""Called after each log with what came of it."""


@dataclass
class AslRun:
    """What became of ASL logs.

    Attributes:
        results: One per log, in the order of their scenes.
        resumed: How many of them were there before.
        errors: Why a log has no result, one for each.
    """

    run_dir: Path
    results: list[RolloutResult] = field(default_factory=list)
    resumed: int = 0
    errors: list[OmniloopError] = field(default_factory=list)


def run_from_asl(
    logs: Sequence[Path],
    run_dir: Path,
    scenes: SceneSource | None = None,
    progress: Progress | None = None,
) -> AslRun:
    """Make a run of ASL logs; what an earlier attempt has made is kept.

    A rollout's seed is AlpaSim's number of the rollout; of logs of one scene with one number, the
    later ones by path get the next free ones.

    Args:
        scenes: See `mcap_from_asl`.

    Raises:
        RunFolderError: no file is an ASL log, or the folder cannot be written.
    """
    done = AslRun(run_dir)
    keys: dict[tuple[str, int], Path] = {}
    contents: dict[tuple[str, int], str] = {}
    for log in sorted(logs):
        with _told(done):
            scene_id, seed = rollout_of(log)
            while (scene_id, seed) in keys:
                seed += 1
            contents[scene_id, seed] = _content(log, scene_id, scenes)
            keys[scene_id, seed] = log
    if not keys:
        raise done.errors[0]
    config = compose(["renderer=none", f"run.dir={run_dir.parent}", f"run.name={run_dir.name}"])
    metrics = create_metrics(config.metrics)
    with RunFolder.acquire(run_dir, resume=True) as folder:
        there = folder.find().results
        before = folder.completed(contents, there)
        done.resumed = len(before & keys.keys())
        keep_meaning(folder, config.metrics, begun=bool(before))
        for key, log in sorted(keys.items()):
            if key in before:
                continue
            with _told(done):
                result = _convert(folder, key, log, scenes, metrics, contents[key])
                if progress is not None:
                    progress(log, result)
        found = folder.find([r for r in there if r.key in before or r.key not in keys])
        done.results = found.of(sorted(keys))
        folder.write_run_yaml(_document(config, done.results, keys))
        folder.write_tables(found.results)
    return done


@contextmanager
def _told(done: AslRun) -> Iterator[None]:
    """Keep what is wrong with a log, and go on with the others."""
    try:
        yield
    except (RunFolderError, SceneError) as error:
        done.errors.append(error)


def _convert(
    folder: RunFolder,
    key: tuple[str, int],
    log: Path,
    scenes: SceneSource | None,
    metrics: list[Metric],
    content_sha256: str,
) -> RolloutResult:
    target = folder.begin_rollout(*key) / LOG_NAME
    read = mcap_from_asl(log, target, scenes, seed=key[1])
    record, header, schedule = read_record(target), read.header, read.header.schedule
    result = RolloutResult(
        scene=key[0], seed=key[1], session_id=header.session_id, outcome="completed",
        metrics={value.name: value for value in score(record, metrics)},
        plugins=dict(header.plugins), privileged=list(header.privileged),
        warmup_s=(schedule.handover_us - schedule.render_start_us) / US_PER_S,
        handover_us=schedule.handover_us, end_us=record.frontier_us,
        stopped_by=record.stopped_by, decisions=schedule.n_decisions,
        decision_period_us=schedule.decision_period_us, frames=dict(read.frames),
        seeds=dict(header.seeds), content_sha256=content_sha256,
        notices=[f"read from the ASL log {log.name}", *read.notes],
    )  # fmt: skip
    folder.finish_rollout(result, record)
    return result


def _content(log: Path, scene_id: str, scenes: SceneSource | None) -> str:
    """SHA-256 of all that decides a result: the log, and the scene if it is at hand."""
    with usable(log, "read"), log.open("rb") as file:
        content = hashlib.file_digest(file, "sha256")
    if scenes is not None:
        content.update(scene_hash(scenes.load(scene_id)).encode())
    return content.hexdigest()


def _document(
    config: RunConfig, results: Sequence[RolloutResult], logs: dict[tuple[str, int], Path]
) -> dict[str, object]:
    """The content of run.yaml: settings of the scores, and who drove as the logs name them."""
    named = {}
    for kind in ("policy", "traffic", "controller", "ground", "renderer"):
        names = {result.plugins.get(kind, "unknown") for result in results}
        if len(names) == 1:
            named[kind] = PluginConfig(name=names.pop())
    return {
        "config": config.model_copy(update=named).model_dump(mode="json"),
        "converted": {f"{scene}/{seed}": str(path) for (scene, seed), path in sorted(logs.items())},
    }


def asl_logs(path: Path) -> list[Path]:
    """The ASL logs of a run, ours or AlpaSim's: ``rollouts/<scene>/<rollout>/rollout.asl``.

    Raises:
        RunFolderError: there are none.
    """
    found = sorted(path.glob("rollouts/*/*/*.asl"))
    if not found:
        raise RunFolderError(
            "the folder holds no ASL log", where=str(path),
            remedy="give a rollout.asl, or a folder with rollouts/SCENE/ROLLOUT/rollout.asl",
        )  # fmt: skip
    return found
