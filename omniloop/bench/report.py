"""What the page of a large run costs: time, memory, bytes."""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from omniloop.configs.compose import compose
from omniloop.core.contracts import MetricValue
from omniloop.core.seeds import generator
from omniloop.report.html import choose_pictured, write_report
from omniloop.report.player_budget import FOLDER
from omniloop.runlog.folder import LOG_NAME, rollout_dir
from omniloop.runlog.results import RolloutResult, write_result
from omniloop.runner.run import execute
from omniloop.scenes.embedded import synthetic_scene
from omniloop.scenes.native import write_bundle

_EVERY = 10
"""One rollout of so many has a contact."""


def run(rollouts: int = 1000, actors: int = 60, seconds: float = 20.0) -> dict[str, Any]:
    """Time the page of a run made of one simulated rollout with camera, told many times.

    Scores differ, every tenth rollout has a contact, and each rollout with pictures has the log.

    Returns:
        ``build_s`` (wall-clock), ``cpu_s`` and ``peak_mib`` of a fresh process that writes the
        page, ``page_mb``, how many rollouts have pictures, and how many players lie beside it.
    """
    with tempfile.TemporaryDirectory() as folder:
        big = Path(folder) / "big"
        write_bundle(synthetic_scene(actors, seconds), Path(folder) / "scenes" / "synthetic.zip")
        settings = [f"scenes.path={folder}/scenes", f"run.dir={folder}", "run.name=one"]
        finished = execute(compose(["scenes=native", *settings, "run.concurrency=1"]))
        source = finished.results[0]
        log = rollout_dir(finished.run_dir, source.scene, source.seed) / LOG_NAME
        results = [_told(source, k) for k in range(rollouts)]
        pictured = choose_pictured(results)
        for k, result in enumerate(results):
            place = rollout_dir(big, result.scene, result.seed)
            place.mkdir(parents=True)
            write_result(place / "result.json", result)
            if k in pictured:
                os.link(log, place / LOG_NAME)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            build_s, cpu_s, peak_mib, page_bytes = pool.apply(_build, (big,))
        beside = len(list((big / FOLDER).glob("*.js")))
        return {
            "rollouts": rollouts, "actors": actors, "simulated_s": seconds,
            "with_pictures": len(pictured), "players_beside": beside,
            "build_s": round(build_s, 2), "cpu_s": round(cpu_s, 2), "peak_mib": round(peak_mib, 1),
            "page_mb": round(page_bytes / 1e6, 2),
        }  # fmt: skip


def _told(source: RolloutResult, k: int) -> RolloutResult:
    """The rollout under another name, its scores changed by up to a tenth."""
    scale = generator(0, "bench", "report", str(k)).uniform(0.9, 1.1, len(source.metrics))
    metrics = {
        name: replace(m, value=m.value * float(s)) if m.value is not None else m
        for (name, m), s in zip(source.metrics.items(), scale, strict=True)
    }
    hit = k % _EVERY == 0
    contact = {
        "start_us": (source.handover_us or 0) + 8_000_000,
        "end_us": (source.handover_us or 0) + 9_000_000, "kind": "front", "actor_id": "bench",
        "actor_class": "CAR", "ego_speed_mps": 8.0, "at_fault": True,
    }  # fmt: skip
    details: dict[str, object] = {"contacts": [contact]} if hit else {}
    metrics["collision"] = MetricValue("collision", float(hit), details=details)
    metrics["incident"] = MetricValue("incident", float(hit))
    scene = f"scene{k:05d}"
    return replace(source, scene=scene, session_id=f"{scene}/0", seed=0, metrics=metrics)


def _build(run_dir: Path) -> tuple[float, float, float, int]:
    began, began_cpu = time.perf_counter(), time.process_time()
    page = write_report(run_dir)
    spent, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return spent, cpu, peak_mib, page.stat().st_size
