"""Which executor a run gets."""

from __future__ import annotations

from omniloop.configs.schema import RunConfig
from omniloop.runlog.folder import RunFolder
from omniloop.runner.batch.executor import Executor
from omniloop.runner.batch.inline import Inline
from omniloop.runner.batch.local import LocalWorkers


def check_reachable(config: RunConfig) -> None:
    """Find out that there is no cluster before anything is written.

    Raises:
        ConfigError: what the executor needs is not installed, or not to be reached.
    """
    if config.run.executor == "ray":
        from omniloop.runner.batch.ray_workers import connect

        connect(config.run.ray_address)


def executor_for(config: RunConfig, workers: int, folder: RunFolder | None) -> Executor:
    """The executor of a run.

    Args:
        folder: The run's, which its workers hold as long as they live; None without such a one.

    Raises:
        ConfigError: what it needs is not installed, or not to be reached.
    """
    if config.run.executor == "ray":
        from omniloop.runner.batch.ray_workers import RayWorkers

        return RayWorkers(workers, config.run.hang_s, config.run.ray_address)
    if workers == 1:
        return Inline(config.run.hang_s)
    return LocalWorkers(workers, config.run.hang_s, None if folder is None else folder.lock)
