"""``results-summary.json`` as AlpaSim writes it, from results of this program."""

from __future__ import annotations

from collections.abc import Sequence

from omniloop.metrics.alpasim_definitions import PREFIX
from omniloop.metrics.alpasim_settings import Settings
from omniloop.metrics.alpasim_table import SCORE, Scored, Table, table

SCHEMA_VERSION = 1

_SCORE_METRICS = ("progress_clipped_rel", "gt_dist_traveled_m", "collision_at_fault", "offroad")


def results_summary(
    results: Sequence[Scored], run_name: str, run_uuid: str, settings: Settings | None = None
) -> dict[str, object]:
    """The document, JSON-able; what is not defined is null.

    A rollout passes if its scene score has no failure reason. One without a score that was
    dropped for a black image, or lacks a part, is unscored; one that broke off, and so has no
    scores, fails with 0.

    Args:
        results: One per rollout.
        run_name, run_uuid: What AlpaSim calls the run.
        settings: Those of the scores; the defaults if None.
    """
    criteria = settings or Settings()
    return {
        "schema_version": SCHEMA_VERSION,
        "scene_score_enabled": True,
        "rollouts": [_rollout(r, run_name, run_uuid) for r in results],
        "metrics_results": [metrics_results(table(results), run_name, run_uuid)],
        "score_criteria": {
            "min_gt_distance_for_full_score_m": criteria.min_gt_distance_m,
            "progress_saturation_threshold": criteria.progress_saturation,
        },
    }


def metrics_results(whole: Table, run_name: str, run_uuid: str) -> dict[str, object]:
    """The run's row of ``metrics_results``: means and standard deviations; None if undefined."""
    lines = [line for line in whole.lines if PREFIX + line.name != SCORE]  # AlpaSim averages none
    return {
        "run_uuid": run_uuid,
        "run_name": run_name,
        "n_clips": whole.clips,
        "n_rollouts": whole.numbers,
        **{line.name: line.mean for line in lines},
        **{f"{line.name}_std": line.std for line in lines},
    }


def _rollout(result: Scored, run_name: str, run_uuid: str) -> dict[str, object]:
    metrics = {
        name.removeprefix(PREFIX): metric.value
        for name, metric in result.metrics.items()
        if name.startswith(PREFIX) and name != SCORE
    }
    score = result.metrics.get(SCORE)
    failure: object = None
    if score is None or _broke_off(result):
        status, value, failure = "fail", 0.0, "rollout_failed"
    elif score.value is None:
        status, value = "unscored", None
    else:
        failure = score.details.get("failure_reason")
        status, value = "fail" if failure else "pass", score.value
    return {
        "run_uuid": run_uuid,
        "run_name": run_name,
        "clipgt_id": result.scene,
        "rollout_id": str(result.seed),
        "metrics": metrics,
        "status": status,
        "passed": status == "pass",
        "score": value,
        "failure_reason": failure,
        "score_metrics": {name: metrics.get(name) for name in _SCORE_METRICS},
    }


def _broke_off(result: Scored) -> bool:
    return getattr(result, "outcome", "completed") != "completed"
