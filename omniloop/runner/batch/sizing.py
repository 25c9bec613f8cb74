"""How many workers, and how many rollouts at once: as asked, or as the machine and services allow."""

from __future__ import annotations

from omniloop.configs.schema import RunConfig
from omniloop.core.errors import ConfigError
from omniloop.runner.assemble import Setup
from omniloop.runner.batch.machine import cores, memory_mib, resident_mib

_WORTH = 8
"""A worker process is started for at least so many rollouts: it takes a second or two."""
_MOST_IN_FLIGHT = 64
_MEMORY_SHARE = 0.6
_LEAST_FREE = 0.05


def workers_for(setup: Setup, todo: int) -> int:
    """Worker processes of a run; 1 is the run's own process.

    By default as many as cores, if each gets at least 8 rollouts, all fit in memory as this
    process does, and nothing of this process is on a GPU, of which each worker would want its
    own. On Ray, one per CPU of the cluster.

    Raises:
        ConfigError: there is no Ray cluster to count.
    """
    wanted = setup.config.run.workers
    if isinstance(wanted, int):
        return min(wanted, max(todo, 1))
    if setup.config.run.executor == "ray":
        from omniloop.runner.batch.ray_workers import connect

        return max(min(connect(setup.config.run.ray_address), todo), 1)
    if _is_on_gpu(setup.config):
        return 1
    most = min(cores(), todo // _WORTH)
    memory = memory_mib()
    if memory is not None:
        most = min(most, int(_MEMORY_SHARE * memory[1] / max(resident_mib(), 1.0)))
    return max(most, 1)


def _is_on_gpu(config: RunConfig) -> bool:
    groups = (config.policy, config.traffic, config.controller, config.ground, config.renderer)
    return any(str(g.arguments.get("device", "")).startswith("cuda") for g in groups)


def concurrency_for(setup: Setup, workers: int) -> int:
    """Rollouts at once over all workers: as asked, one per core up to 8, or what services hold."""
    wanted = setup.config.run.concurrency
    if isinstance(wanted, int):
        return wanted
    return max(workers, min(cores(), 8), setup.services.capacity or 0)


def check_sizes(config: RunConfig, planned: int) -> None:
    """Find numbers that do not fit together before anything is written.

    Raises:
        ConfigError: more workers are asked for than rollouts at once.
    """
    workers, concurrency = config.run.workers, config.run.concurrency
    if isinstance(workers, int) and isinstance(concurrency, int):
        used = min(workers, planned)
        if concurrency < used:
            raise ConfigError(
                f"{used} workers cannot share {concurrency} rollout(s) at once",
                where="run.concurrency", remedy=f"give at least {used}, or fewer run.workers",
            )  # fmt: skip


def per_worker(setup: Setup) -> int:
    """Rollouts that one worker can simulate at once: a renderer in its process may limit them."""
    renderer, spec = setup.services.renderer, setup.renderer_spec
    if renderer is None or spec is None or getattr(renderer, "limits", None):
        return _MOST_IN_FLIGHT
    return spec.max_sessions or _MOST_IN_FLIGHT


def is_memory_short() -> bool:
    """Whether another rollout could be one too many."""
    memory = memory_mib()
    return memory is not None and memory[1] < _LEAST_FREE * memory[0]
