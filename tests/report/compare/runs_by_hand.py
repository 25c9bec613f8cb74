"""Run folders made by hand: scores, settings and logs that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omniloop.core.contracts import MetricValue
from omniloop.metrics.recorded import recorded
from omniloop.report.runs import Run, read_run
from omniloop.runlog.definitions import write_definitions
from omniloop.runlog.folder import LOG_NAME, rollout_dir
from omniloop.runlog.results import RESULT_NAME, RolloutResult, write_result
from omniloop.runlog.run_yaml import write_run_yaml
from tests.report.builders import make_record, make_scene, write_log

Scores = dict[tuple[str, int], dict[str, float | None]]


def make_run(
    path: Path,
    scores: Scores,
    *,
    config: dict[str, Any] | None = None,
    hashes: dict[str, str] | None = None,
    seeds: tuple[int, ...] = (0,),
    speeds_mps: dict[str, float] | None = None,
    **facts: Any,
) -> Run:
    """A run with these scores by scene and seed, and logs of the scenes with a speed."""
    scenes = sorted({scene for scene, _ in scores})
    document = {
        "config": {
            "policy": {"name": "p"}, "renderer": {"name": "none"}, "sync": {"strategy": "prefetch"},
            "metrics": {"collision": {}}, "run": {"seeds": list(seeds)}, **(config or {}),
        },
        "root_seed": 0,
        "scenes": {scene: (hashes or {}).get(scene, f"hash of {scene}") for scene in scenes},
    }  # fmt: skip
    for (scene, seed), values in scores.items():
        metrics = {
            name: MetricValue(name, value, "" if value is not None else "undefined by hand")
            for name, value in values.items()
        }
        told = {"outcome": "completed", "handover_us": 1_000_000, "end_us": 9_000_000,
                "decision_period_us": 100_000, "decisions": 80, **facts}  # fmt: skip
        result = RolloutResult(scene, seed, f"{scene}/{seed}", metrics=metrics, **told)
        place = rollout_dir(path, scene, seed)
        place.mkdir(parents=True)
        write_result(place / RESULT_NAME, result)
        if speeds_mps and scene in speeds_mps:
            record = make_record(make_scene(scene), seed=seed, speed_mps=speeds_mps[scene])
            write_log(place / LOG_NAME, record)
    write_run_yaml(path, document)
    write_definitions(path, recorded(document["config"]["metrics"]))
    return read_run(path)
