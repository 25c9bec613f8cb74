"""Where rollouts run: what every executor does, and what a request to it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from omniloop.core.errors import OmniloopError
from omniloop.runlog.folder import RunFolder
from omniloop.runlog.results import RolloutResult
from omniloop.runner.assemble import Setup
from omniloop.runner.batch.rollouts import Beat
from omniloop.runner.job import Order


class WorkerDied(OmniloopError):
    """A worker ended, or was killed, while it had rollouts.

    Attributes:
        hung: Names of the rollouts on which it stood still.
        began: Whether it may have begun with the rollout that it was given last.
    """

    hung: frozenset[str] = frozenset()
    began: bool = True


@dataclass(frozen=True, eq=False)
class Source:
    """What the rollouts of a request are made from.

    Attributes:
        name: Unique among the requests of an executor.
        folder: Where they go.
    """

    name: str
    setup: Setup
    folder: RunFolder


class Executor(Protocol):
    """Runs rollouts on workers; the batch decides which and when."""

    kind: str

    async def start(self) -> tuple[str, ...]:
        """Start the workers; return their names.

        Raises:
            OmniloopError: one cannot be started.
        """
        ...

    async def run(
        self, worker: str, source: Source, order: Order, simulated: Callable[[], None]
    ) -> RolloutResult:
        """Run a rollout and leave its folder complete.

        Args:
            simulated: Called when its sessions are closed, before it is scored.

        Raises:
            WorkerDied: the worker ended first.
            RunFolderError: the folder cannot be written.
            InputError: the worker cannot construct what the rollout needs.
        """
        ...

    async def replace(self, worker: str) -> str:
        """Start a worker in the place of one that died; return its name.

        Raises:
            OmniloopError: it cannot be started.
        """
        ...

    def forget(self, source: Source) -> None:
        """Let go of a request that has no more rollouts."""
        ...

    def beats(self) -> Mapping[str, Beat]:
        """How each worker was lately."""
        ...

    async def stop(self) -> None:
        """End all workers and what they do; a second call does nothing."""
        ...


def limits_of(source: Source) -> dict[str, dict[str, int | None]]:
    """Sessions at once by service and address, of services elsewhere."""
    found = {name: getattr(service, "limits", None) for name, service in source.setup.services}
    return {name: limits for name, limits in found.items() if limits}
