"""Score a run again from its logs alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from omniloop.configs.schema import validate
from omniloop.core.contracts import MetricValue
from omniloop.metrics.recorded import recorded
from omniloop.metrics.scoring import score
from omniloop.runlog.black_frames import black_frames
from omniloop.runlog.definitions import forget_definitions, write_definitions
from omniloop.runlog.folder import LOG_NAME, RunFolder, open_existing, read_run_yaml, rollout_dir
from omniloop.runlog.record import read_record
from omniloop.runlog.results import RolloutResult
from omniloop.runner.assemble import create_metrics


@dataclass
class Rescored:
    """Results with fresh scores, and a line for every score that changed."""

    results: list[RolloutResult] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)


def rescore(run_dir: Path, *, frames: bool = False) -> Rescored:
    """Compute the scores of every completed rollout again, from its log.

    Metrics and their settings are those of run.yaml. Results and tables are rewritten, and what
    the scores mean; a run whose rescoring breaks off does not say that. With `frames`, the logged
    images of the camera that a metric names are looked at.

    Raises:
        RunFolderError: the folder is no run, is in use, or a log is missing or damaged.
        InputError: run.yaml names metrics that are not there any more.
    """
    config = validate(read_run_yaml(open_existing(run_dir))["config"])
    metrics = create_metrics(config.metrics)
    out = Rescored()
    with RunFolder.acquire(run_dir, resume=True) as folder:
        for result in folder.find().results:
            if result.outcome != "completed":
                out.results.append(result)
                continue
            log = rollout_dir(run_dir, result.scene, result.seed) / LOG_NAME
            record = read_record(log)
            for camera in (getattr(m, "frames_of", None) for m in metrics if frames):
                if camera is not None:
                    record = replace(record, black_frames=black_frames(log, camera))
            fresh = {value.name: value for value in score(record, metrics)}
            out.changes += _changes(result, fresh)
            rescored = replace(result, metrics=fresh)
            forget_definitions(run_dir)  # until all results are of one meaning again
            folder.finish_rollout(rescored, record)
            out.results.append(rescored)
        write_definitions(run_dir, recorded(config.metrics))
        folder.write_tables(folder.find().results)
    return out


def _changes(result: RolloutResult, fresh: dict[str, MetricValue]) -> list[str]:
    lines = []
    for name in dict.fromkeys([*result.metrics, *fresh]):
        before, after = result.metrics.get(name), fresh.get(name)
        if _shown(before) != _shown(after):
            lines.append(f"{result.session_id} {name}: {_shown(before)} -> {_shown(after)}")
    return lines


def _shown(value: MetricValue | None) -> str:
    if value is None:
        return "absent"
    return repr(value.value) if value.valid else f"undefined ({value.reason})"
