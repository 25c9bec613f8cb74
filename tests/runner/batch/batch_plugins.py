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
    """Does not return."""

    def misbehave(self) -> None:
        time.sleep(3600)


class Dies(_Misbehaving):
    """Is killed, as by the kernel when memory is short."""

    def misbehave(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class NeverAnswers:
    """A policy whose session waits for ever in rollouts of one seed."""

    def __init__(self, seed: int = 1) -> None:
        self.spec = ConstantVelocityPolicy().spec
        self._seed = seed

    async def open(self, session: SessionInfo, cameras: Any) -> _Session:
        return _Session(session.session_id.endswith(f"/{self._seed}"))


class HangsTwice(NeverAnswers):
    """As `NeverAnswers`, and does not return in rollouts of seed 4."""

    async def open(self, session: SessionInfo, cameras: Any) -> _Session:
        opened = await super().open(session, cameras)
        opened.blocks = session.session_id.endswith("/4")
        return opened


class _Session:
    def __init__(self, waits: bool) -> None:
        self._inner = ConstantVelocityPolicy()
        self._waits = waits
        self.blocks = False

    async def plan(self, observation: Observation) -> Plan:
        if self.blocks:
            time.sleep(3600)
        if self._waits:
            await asyncio.Event().wait()
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


class Sleeps(_Misbehaving):
    """Takes a tenth of a second for every plan of one seed."""

    def plan(self, observation: Observation) -> Plan:
        if observation.session_id.endswith(f"/{self._seed}"):
            time.sleep(0.1)
        return self._inner.plan(observation)


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
    """Takes two seconds to be constructed in a worker."""

    def __init__(self) -> None:
        super().__init__(seed=-1)
        if in_worker():
            time.sleep(2.0)


class Forks(_Misbehaving):
    """Has a child that keeps what it inherited, as a data loader does; writes its process id."""

    def __init__(self, marker: str) -> None:
        super().__init__(seed=-1)
        if in_worker() and os.fork() == 0:
            Path(marker, f"child-{os.getpid()}").touch()
            time.sleep(3600)
