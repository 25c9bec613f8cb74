"""Rollouts one of whose services is played by a log, behind its own wire."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

from omniloop.configs.compose import compose
from omniloop.imperfection.service import imperfect
from omniloop.runlog.folder import RunFolder
from omniloop.runlog.results import RolloutResult
from omniloop.runner.assemble import assemble
from omniloop.runner.job import Job, Order, run_job
from omniloop.runner.replaying.replay import find_recordings
from omniloop.runner.replaying.server import ReplayedService
from omniloop.runner.replaying.setup import RecordedScenes
from omniloop.services.roles import looped_back
from omniloop.services.shelf import SceneShelf

composed = functools.cache(lambda *words: compose(words))
"""Hydra is half of such a short run's time, and a config is frozen."""


def played(kind: str, source: Path, **options: Any) -> ReplayedService:
    return ReplayedService(kind, {r.session_id: r for r in find_recordings(source)}, **options)


def drive_against(
    service: ReplayedService, source: Path, out: Path, words: list[str], seeds: int = 1
) -> list[RolloutResult]:
    """Run what `words` say with one service answered from logs through client and server."""
    recordings = {r.session_id: r for r in find_recordings(source)}
    wire = looped_back(service.kind, service, SceneShelf(RecordedScenes(recordings)))
    setup = assemble(composed(*words, f"run.seeds={seeds}"))
    config = setup.config
    outer = imperfect(service.kind, wire, config.imperfection, config.run.root_seed)
    setup.services = setup.here = replace(setup.services, **{service.kind: outer})

    async def run() -> list[RolloutResult]:
        await wire.connect()
        with RunFolder.acquire(out) as folder:
            return [
                await run_job(setup, folder, Order(Job(scene_id, seed)))
                for scene_id in setup.ids
                for seed in range(seeds)
            ]

    return asyncio.run(run())
