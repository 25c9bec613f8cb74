"""Drive a policy and keep what its sessions are asked and answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from omniloop.configs.compose import compose
from omniloop.core.cameras import Camera
from omniloop.core.contracts import Observation, Plan, Policy, PolicySession, SessionInfo
from omniloop.runlog.digest import digest_run
from omniloop.runlog.folder import RunFolder
from omniloop.runlog.results import RolloutResult
from omniloop.runner.assemble import assemble
from omniloop.runner.run import describe, planned_jobs, run_here


@dataclass(eq=False)
class Tape:
    """All that one session was asked and answered.

    Attributes:
        opened: What the session was opened with.
        took_s: Wall-clock of each answer, waiting for others included.
    """

    opened: tuple[SessionInfo, tuple[Camera, ...]]
    asked: list[Observation] = field(default_factory=list)
    answers: list[Plan] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)


class _Taping:
    """A policy service that keeps what it is asked."""

    def __init__(self, policy: Policy, tapes: list[Tape]) -> None:
        self._policy, self._tapes = policy, tapes
        self.spec = policy.spec

    async def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> _TapingSession:
        tape = Tape((session, cameras))
        opened = await self._policy.open(session, cameras)
        self._tapes.append(tape)
        return _TapingSession(opened, tape)


class _TapingSession:
    def __init__(self, session: PolicySession, tape: Tape) -> None:
        self._session, self._tape = session, tape

    async def plan(self, observation: Observation) -> Plan:
        began = time.perf_counter()
        plan = await self._session.plan(observation)
        self._tape.took_s.append(time.perf_counter() - began)
        self._tape.asked.append(observation)
        self._tape.answers.append(plan)
        return plan

    async def close(self) -> None:
        await self._session.close()


@dataclass(frozen=True)
class Driven:
    """A policy's rollouts.

    Attributes:
        digests: Of each rollout, with its name; none if one did not complete.
        tapes: One a rollout, in the order in which they began.
        policy: The service itself.
    """

    results: list[RolloutResult]
    digests: list[tuple[str, str]]
    tapes: list[Tape]
    policy: Policy


_USUAL = {
    "sync.duration_s": "5", "run.seeds": "2", "renderer.width": "320", "renderer.height": "176",
}  # fmt: skip


def drive(settings: Sequence[str], run_dir: Path, at_once: int = 1) -> Driven:
    """Run what settings say: two rollouts of an embedded scene, unless they say otherwise.

    Raises:
        InputError: a setting is not right.
    """
    chosen = {setting.partition("=")[0] for setting in settings}
    usual = dict(_USUAL)
    if not chosen & {"scenes", "scenes.ids", "suite"}:
        usual["scenes.ids"] = "curve"
    config = compose([
        *(f"{k}={v}" for k, v in usual.items() if k not in chosen), *settings,
        f"run.dir={run_dir.parent}", f"run.name={run_dir.name}", f"run.concurrency={at_once}",
    ])  # fmt: skip
    setup = assemble(config)
    tapes: list[Tape] = []
    policy = setup.services.policy
    setup.services = replace(setup.services, policy=_Taping(policy, tapes))
    with RunFolder.acquire(run_dir, resume=False) as run_folder:
        run_folder.write_run_yaml(describe(setup))
        jobs = planned_jobs(setup)
        asyncio.run(run_here(setup, run_folder, jobs))
        results = run_folder.find().of((job.scene_id, job.seed) for job in jobs)
    whole = all(r.outcome == "completed" for r in results)
    return Driven(results, digest_run(run_dir) if whole else [], tapes, policy)
