"""One request to the daemon, from its settings to the answers of its rollouts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omniloop.configs.schema import PluginConfig, RunConfig
from omniloop.core.errors import OmniloopError, SceneError
from omniloop.live.events import Event, RolloutEnded, WorkerLost
from omniloop.orchestrator.compat import check_specs
from omniloop.runlog.folder import RunFolder, rollout_dir
from omniloop.runlog.results import RolloutResult
from omniloop.runner.assemble import Setup, construct
from omniloop.runner.batch.content import content_of
from omniloop.runner.batch.engine import Batch, Request
from omniloop.runner.batch.executor import Source
from omniloop.runner.daemon_scenes import SharedScenes, facts_of
from omniloop.runner.job import Job
from omniloop.runner.run import describe
from omniloop.runner.score_meaning import keep_meaning
from omniloop.runner.step_metrics import read_step_metrics
from omniloop.services.runtime_codec import (
    Asked,
    AskedRollout,
    RolloutAnswer,
    SceneFacts,
    Versions,
    version_id,
)

log = logging.getLogger("omniloop.daemon")

_DRIVER: dict[str, Any] = {"connect_timeout_s": 5.0, "timeouts_s": {"close_session": 5.0}}
"""Settings of a request's drivers that the daemon's `policy` does not have: a client waits for its
error, and a cancelled rollout for its session's end."""


def request_config(base: RunConfig, asked: Asked, name: str, runs: Path) -> RunConfig:
    """The settings of a request: the daemon's, with its scenes, seeds and drivers."""
    policy = base.policy
    if asked.drivers:
        own = {**_DRIVER, **(policy.arguments if policy.name == "remote" else {})}
        places = {"address": ",".join(asked.drivers), "sessions": asked.sessions}
        policy = PluginConfig(name="remote", **{**own, **places})
    scenes = {"ids": asked.scene_ids, "limit": None}
    run = {
        "dir": str(runs), "name": name, "resume": False, "force_new": False,
        "seeds": sorted({rollout.seed for rollout in asked.rollouts}),
        "mqtt": None, "prometheus": None,
    }  # fmt: skip
    return base.model_copy(
        update={
            "policy": policy,
            "scenes": base.scenes.model_copy(update=scenes),
            "run": base.run.model_copy(update=run),
            "metrics": {**base.metrics, "alpasim": base.metrics.get("alpasim", {})},
            "suite": None,
        }
    )


@dataclass(eq=False)
class DaemonRequest:
    """One request: `run` does everything, `cancel` ends it from outside.

    Attributes:
        like: The daemon's own setup, whose services are shared.
        batch: Runs the rollouts of all requests.
        scenes: What requests prepare for one another.
        config: See `request_config`.
    """

    asked: Asked
    like: Setup
    batch: Batch
    scenes: SharedScenes
    config: RunConfig
    _facts: dict[str, SceneFacts] = field(default_factory=dict)
    _invalid: dict[str, SceneError] = field(default_factory=dict)
    _request: Request | None = None
    _is_cancelled: bool = False

    @property
    def folder(self) -> Path:
        """Where its results are."""
        return Path(self.config.run.dir) / str(self.config.run.name)

    def cancel(self) -> None:
        """End it: what is queued is dropped, what is under way is ended, slots are free."""
        self._is_cancelled = True
        if self._request is not None:
            self.batch.cancel(self._request)

    def tell(self, event: Event) -> None:
        """Log what an operator should know; see `omniloop.live.events.Listener`."""
        name = self.folder.name
        if isinstance(event, WorkerLost):
            log.warning(
                "%s: %s had %s: %s", name, event.worker, ", ".join(event.rollouts), event.why
            )
        elif isinstance(event, RolloutEnded) and event.retry_in_s is not None:
            result, why = event.result, (event.result.error or {}).get("what")
            log.info("%s: %s is tried again: %s", name, result.session_id, why)

    async def run(self) -> tuple[Sequence[RolloutAnswer], Versions]:
        """Run everything.

        Raises:
            OmniloopError: nothing can be run, or the folder cannot be written.
        """
        setup = construct(self.config, self.like.source, self.like)
        try:
            await setup.connect()
            check_specs(setup.policy_spec, setup.renderer_spec)
            self.scenes.lend(setup)
            await asyncio.to_thread(self._admit, setup)
            self.scenes.keep(setup)
            self.scenes.facts.update(self._facts)
            some = bool(setup.ids) and not self._is_cancelled
            results = await self._simulate(setup) if some else {}
            answers = await asyncio.to_thread(self._answers, results)
            return answers, versions_of(setup)
        finally:
            await setup.leave()

    def _admit(self, setup: Setup) -> None:
        """In a thread: prepare every scene; those that cannot be run are noted."""
        for scene_id in self.asked.scene_ids:
            if self._is_cancelled:
                return
            try:
                prepared = setup.admit(scene_id)
                known = self.scenes.facts.get(scene_id)
                if known is None or known.sha256 != prepared.sha256:
                    self._facts[scene_id] = facts_of(prepared.scene, prepared.sha256, setup.source)
            except SceneError as error:
                self._invalid[scene_id] = error

    async def _simulate(self, setup: Setup) -> dict[Job, RolloutResult]:
        jobs = {
            Job(rollout.scene_id, rollout.seed): rollout.uuid
            for rollout in self.asked.rollouts
            if rollout.scene_id not in self._invalid
        }
        folder = await asyncio.to_thread(self._open, setup, jobs)
        with folder:
            content = content_of(setup)
            request = self._request = Request(
                Source(folder.path.name, setup, folder), list(jobs),
                lambda job: content(job.scene_id, job.seed),
                (self,), own=frozenset({"policy"} if self.asked.drivers else ()), wire_uuids=jobs,
                keep_steps=True,
            )  # fmt: skip
            self.batch.add(request)
            if self._is_cancelled:
                self.batch.cancel(request)
            try:
                await request.done
            finally:
                found = await asyncio.to_thread(folder.find)
                await asyncio.to_thread(folder.write_tables, found.results)
        return {Job(result.scene, result.seed): result for result in found.results}

    def _open(self, setup: Setup, jobs: dict[Job, str]) -> RunFolder:
        """In a thread: make the run's folder."""
        folder = RunFolder.acquire(self.folder)
        try:
            uuids = {job.name: uuid for job, uuid in jobs.items()}
            folder.write_run_yaml({**describe(setup), "rollout_uuids": uuids})
            keep_meaning(folder, setup.config.metrics, begun=False)
        except BaseException:
            folder.close()
            raise
        return folder

    def _answers(self, results: dict[Job, RolloutResult]) -> list[RolloutAnswer]:
        """In a thread: an answer for each rollout, with the series that it left."""
        return [self._answer(rollout, results) for rollout in self.asked.rollouts]

    def _answer(self, rollout: AskedRollout, results: dict[Job, RolloutResult]) -> RolloutAnswer:
        invalid = self._invalid.get(rollout.scene_id)
        if invalid is not None:
            return RolloutAnswer(rollout, str(invalid), is_scene_invalid=True)
        result = results.get(Job(rollout.scene_id, rollout.seed))
        if result is None:
            return RolloutAnswer(rollout, "the rollout was cancelled")
        if result.error is not None:
            return RolloutAnswer(rollout, _told(result))
        place = rollout_dir(self.folder, rollout.scene_id, rollout.seed)
        return RolloutAnswer(rollout, steps=read_step_metrics(place))


def _told(result: RolloutResult) -> str:
    error = result.error or {}
    cause = OmniloopError(
        f"{result.outcome}: {error.get('what', '')}", where=error.get("where", ""),
        remedy=error.get("remedy", ""),
    )  # fmt: skip
    return str(cause)


def versions_of(setup: Setup) -> Versions:
    """The version of each service, as RuntimeService names them."""
    found = setup.services.versions

    def version(kind: str, plugin: PluginConfig) -> Any:
        addresses = found.get(kind)
        name = "" if plugin.name == "none" else plugin.name
        return version_id(None if addresses is None else next(iter(addresses.values())), name)

    config = setup.config
    renderer = version("renderer", config.renderer)
    nothing = version_id(None, "")
    chunked = setup.renderer_spec is not None and setup.renderer_spec.chunk is not None
    return {
        "driver": version("policy", config.policy),
        "traffic": version("traffic", config.traffic),
        "physics": version("ground", config.ground),
        "nre": nothing if chunked else renderer,
        "video_model": renderer if chunked else nothing,
    }
