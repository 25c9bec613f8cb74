"""The cost of the loop itself: no camera, log and scores on."""

from __future__ import annotations

import cProfile
import pstats
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from omniloop.configs.compose import compose
from omniloop.runlog.results import RolloutResult
from omniloop.runner.run import Finished, execute
from omniloop.scenes.embedded import synthetic_scene
from omniloop.scenes.native import write_bundle


def run(seconds: float, actors: int, rollouts: int, policy: str, profile: bool) -> dict[str, Any]:
    """Time a step: decision, vehicle, traffic, commit, log, and its share of the scores.

    Args:
        seconds: Simulated time of a rollout, decisions at 10 Hz.
        actors: Replayed actors.
        rollouts: Rollouts of the longer of two runs; the shorter has a quarter.
        policy: Whose plans are driven; its own time is in the figures, and apart.
        profile: Add the functions in which the time goes.

    Returns:
        ``ms_per_step`` (median, least and largest over rollouts), the time per rollout of
        the longer run over that of the shorter (1 if linear), and memory growth.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(synthetic_scene(actors, seconds), Path(folder) / "scenes" / "synthetic.zip")
        _execute(folder, "warm", 1, policy)
        few = _execute(folder, "few", max(rollouts // 4, 1), policy)
        before_mib = resident_mib()
        many = _execute(folder, "many", rollouts, policy)
        after_mib = resident_mib()
        out: dict[str, Any] = {
            "simulated_s": seconds,
            "actors": actors,
            "policy": policy,
            "rollouts": rollouts,
            "steps_per_rollout": many.results[0].decisions,
            "ms_per_step": spread([_ms_per_step(r) for r in many.results]),
            "per_rollout_s": {"few": _per_rollout_s(few), "many": _per_rollout_s(many)},
            "linearity": round(_per_rollout_s(many) / _per_rollout_s(few), 3),
            "resident_mib": {"before": before_mib, "after": after_mib},
            "milliseconds_by_service_per_step": _by_service(many),
        }
        if profile:
            out["profile"] = _profile(folder, policy)
        return out


def _execute(folder: str, name: str, seeds: int, policy: str) -> Finished:
    return execute(
        compose(
            [
                "scenes=native",
                f"scenes.path={folder}/scenes",
                "renderer=none",
                f"policy={policy}",
                "run.workers=1",
                "run.concurrency=1",
                "sync.decision_period_us=100000",
                f"run.dir={folder}/runs",
                f"run.name={name}",
                f"run.seeds={seeds}",
            ]
        )
    )


def _ms_per_step(result: RolloutResult) -> float:
    spent_s = float(result.timings["rollout_s"]) + float(result.timings["scoring_s"])
    return 1e3 * spent_s / (result.decisions or 1)


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


def _per_rollout_s(finished: Finished) -> float:
    return round(statistics.median(float(r.timings["wall_s"]) for r in finished.results), 5)


def _by_service(finished: Finished) -> dict[str, float]:
    steps = sum(r.decisions or 0 for r in finished.results)
    totals: dict[str, float] = {}
    for result in finished.results:
        for name, stats in result.timings["services"].items():
            totals[name] = totals.get(name, 0.0) + stats["total_s"]
    return {name: round(1e3 * total / steps, 4) for name, total in sorted(totals.items())}


def resident_mib() -> float:
    """This process's resident memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * 4096 / 2**20, 1)


def _profile(folder: str, policy: str) -> list[str]:
    profiler = cProfile.Profile()
    began = time.perf_counter()
    profiler.enable()
    finished = _execute(folder, "profile", 2, policy)
    profiler.disable()
    stats = pstats.Stats(profiler)
    steps = sum(r.decisions or 0 for r in finished.results)
    rows = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:25]  # type: ignore[attr-defined]
    head = f"{time.perf_counter() - began:.2f} s under the profiler, {steps} steps; own time, us a step:"
    lines = [
        f"{1e6 * own / steps:8.1f}  {Path(file).name}:{line} {function}"
        for (file, line, function), (_, _, own, _, _) in rows
    ]
    return [head, *lines]
