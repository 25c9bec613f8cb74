"""A policy that waits until it is let go, so that a run is met in its middle on any machine."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from omniloop.core.contracts import Observation, Plan
from tests.plugins import Straight

_VARIABLE = "OMNILOOP_TEST_HOLD"


class Hold:
    """A file that holds the policies of processes with this environment, while it is there."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "hold"
        self._file.touch()
        self.environment = {**os.environ, _VARIABLE: str(self._file)}

    @property
    def reached(self) -> bool:
        """Whether a plan was asked for."""
        return self._file.with_suffix(".reached").exists()

    def release(self) -> None:
        self._file.unlink()


class Held(Straight):
    """Answers nothing while it is held; as quick as any where nothing holds it."""

    async def plan(self, observation: Observation) -> Plan:
        hold = os.environ.get(_VARIABLE)
        if hold is not None:
            Path(hold).with_suffix(".reached").touch()
            while Path(hold).exists():
                await asyncio.sleep(0.02)
        return super().plan(observation)
