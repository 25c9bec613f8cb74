"""Plugins that fail on purpose; named in settings as ``tests.runner.batch.batch_plugins:NAME``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from omniloop.core.contracts import Observation, Plan, PolicySpec, SessionInfo
from omniloop.policies.constant_velocity import ConstantVelocityPolicy
from tests.runner.batch.clock import watched_clock


def once(marker: str, name: str) -> bool:
    """Whether this is the first time that a name is seen, over all processes."""
    try:
        (Path(marker) / name.replace("/", "_")).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class _Misbehaving:
    """Drives at constant velocity, and misbehaves in rollouts of one seed.

    Args:
        seed: Of the rollouts in which it misbehaves.
        marker: A folder: it then misbehaves only the first time in each rollout.
    """

    def __init__(self, seed: int = 1, marker: str = "") -> None:
        self._inner = ConstantVelocityPolicy()
        self._seed = seed
        self._marker = marker
        self.spec: PolicySpec = self._inner.spec

    def plan(self, observation: Observation) -> Plan:
        if observation.session_id.endswith(f"/{self._seed}") and (
            not self._marker or once(self._marker, observation.session_id)
        ):
            self.misbehave()
        return self._inner.plan(observation)

    def misbehave(self) -> None:
        raise NotImplementedError


class Blocks(_Misbehaving):
    """Does not return, and time passes meanwhile, by the watch's clock; else none does."""

    def __init__(self) -> None:
        super().__init__()
        watched_clock()

    def misbehave(self) -> None:
        stand_still()


def stand_still() -> None:
    """Never return."""
    while True:
        watched_clock().pass_by(0.3)
        time.sleep(0.01)


class Dies(_Misbehaving):
    """Is killed, as by the kernel when memory is short."""

    def misbehave(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class NeverAnswers:
    """A policy whose session waits for ever in rollouts of one seed.

    Time passes, by the watch's clock, from when other rollouts have ended.

    Args:
        rollouts: The folder of the scene's rollouts.
        others: How many these are.
    """

    def __init__(self, rollouts: str, others: int, seed: int = 1) -> None:
        self.spec = ConstantVelocityPolicy().spec
        self._rollouts, self._others = Path(rollouts), others
        self._seed = seed
        watched_clock()

    async def open(self, session: SessionInfo, cameras: Any) -> _Session:
        return _Session(self, waits=session.session_id.endswith(f"/{self._seed}"))

    async def others_ended(self) -> None:
        while len(list(self._rollouts.glob("*/result.json"))) < self._others:
            await asyncio.sleep(0.01)


class HangsTwice(NeverAnswers):
    """As `NeverAnswers`, and does not return in rollouts of seed 4."""

    async def open(self, session: SessionInfo, cameras: Any) -> _Session:
        opened = await super().open(session, cameras)
        opened.blocks = session.session_id.endswith("/4")
        return opened


class _Session:
    def __init__(self, policy: NeverAnswers, waits: bool) -> None:
        self._inner = ConstantVelocityPolicy()
        self._policy = policy
        self._waits = waits
        self.blocks = False

    async def plan(self, observation: Observation) -> Plan:
        if self._waits or self.blocks:
            await self._policy.others_ended()
        if self.blocks:
            stand_still()
        while self._waits:
            watched_clock().pass_by(0.3)
            await asyncio.sleep(0.01)
        return self._inner.plan(observation)

    async def close(self) -> None:
        return None


class FlakyTraffic:
    """Traffic whose first step of each rollout fails, once over all processes."""

    def __init__(self, marker: str, words: str = "different") -> None:
        self._marker, self._words = marker, words

    def open(self, session: SessionInfo) -> Any:
        from omniloop.traffic.log_replay import LogReplayTraffic

        words = "" if self._words == "same" else f" in process {os.getpid()}"
        if once(self._marker, session.session_id):
            raise RuntimeError(f"the simulator has no licence{words}")
        return LogReplayTraffic().open(session)


class BrokenTraffic:
    """Traffic that never opens."""

    def open(self, session: SessionInfo) -> Any:
        raise RuntimeError("the simulator has no licence")


class Ponders(_Misbehaving):
    """Takes for every plan of one seed so long by the watch's clock, by which nothing else does."""

    def __init__(self, takes_s: float) -> None:
        super().__init__()
        self._takes_s = takes_s

    def misbehave(self) -> None:
        for seconds in (0.0, self._takes_s):  # first is seen that the plan before was made
            watched_clock().pass_and_be_seen(seconds)


class Cancels(_Misbehaving):
    """Raises what a cancelled call raises."""

    def misbehave(self) -> None:
        raise asyncio.CancelledError


def in_worker() -> bool:
    """Whether this process is a worker of a run."""
    return "omniloop.runner.batch.worker" in sys.orig_argv


class NoLicence(_Misbehaving):
    """Cannot be constructed in a worker."""

    def __init__(self) -> None:
        super().__init__()
        if in_worker():
            raise KeyError("LICENCE_FILE")


class SlowToStart(_Misbehaving):
    """Takes 4.5 s to be constructed, by the watch's clock."""

    def __init__(self) -> None:
        super().__init__(seed=-1)
        for _ in range(5):
            watched_clock().pass_and_be_seen(0.9)


class Forks(_Misbehaving):
    """Has a child that keeps what it inherited, as a data loader does; writes its process id."""

    def __init__(self, marker: str) -> None:
        super().__init__(seed=-1)
        if in_worker():
            child = os.fork()
            if not child:
                time.sleep(3600)
            Path(marker, f"child-{child}").touch()
