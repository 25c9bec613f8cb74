"""Rollouts on the machines of a Ray cluster: one actor per worker, results sent back here.

Nodes need this package and Ray, of the same versions, and what the plugins need; neither the
scenes nor a shared file system. A cluster is one trust domain: Ray itself moves pickled objects.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import omniloop
from omniloop.core.errors import ConfigError, OmniloopError, ServiceError
from omniloop.runlog.files import usable, write_atomic
from omniloop.runlog.results import RESULT_NAME, RolloutResult
from omniloop.runner.batch.executor import Source, WorkerDied
from omniloop.runner.batch.messages import (
    beat_from_json,
    beat_to_json,
    error_from_json,
    error_to_json,
    order_from_json,
    order_to_json,
)
from omniloop.runner.batch.ray_address import check_reachable
from omniloop.runner.batch.rollouts import Beat, Pulse, Rollouts
from omniloop.runner.batch.scratch import scratch_folder, sweep
from omniloop.runner.batch.worker_core import WorkerCore
from omniloop.runner.job import Order

_START_S = 180.0
_NOTICE_S = 10.0
_BEAT_S = 1.0
_HUNG_EXIT = 70
_PIECE = 32 << 20
_INSTALL = "pip install 'omniloop[ray]'"


def connect(address: str | None) -> int:
    """Join a cluster, or start one on this machine; return its CPUs.

    Args:
        address: ``HOST:PORT``, "auto", or ``ray://``; None takes RAY_ADDRESS, else starts one.

    Raises:
        ConfigError: Ray is not installed, no cluster is there, or it runs another version.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = _ray()
    if not ray.is_initialized():
        check_reachable(address or os.environ.get("RAY_ADDRESS"))
        path = os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))
        try:
            ray.init(
                address=address, include_dashboard=None if address else False, log_to_driver=True,
                configure_logging=False, runtime_env={"env_vars": {"PYTHONPATH": path}},
            )  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise ConfigError(
                f"no Ray cluster can be used: {str(error).strip().splitlines()[0]}",
                where=f"run.ray_address={address or os.environ.get('RAY_ADDRESS', '')}",
                remedy="start one with `ray start --head`, with the same versions of Ray and Python as here",
            ) from error  # fmt: skip
    return int(ray.cluster_resources().get("CPU", 1))


def _ray() -> Any:
    """The package, which is an extra.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            f"Ray is not installed: {error}", where="run.executor=ray", remedy=_INSTALL
        ) from error


class _Actor:
    """A worker on some node; the class of a Ray actor."""

    def __init__(self, hang_s: float | None) -> None:
        self._rollouts = Rollouts(hang_s, lambda late_s, orders: os._exit(_HUNG_EXIT))
        self._core = WorkerCore(self._rollouts)

    async def hello(self) -> dict[str, str]:
        """Begin to watch; tell where this is and what runs here."""
        import platform

        ray = _ray()
        self._rollouts.start()
        await asyncio.to_thread(sweep)
        return {
            "node": ray.util.get_node_ip_address(),
            "omniloop": omniloop.__version__,
            "ray": ray.__version__,
            "python": ".".join(platform.python_version_tuple()[:2]),
        }

    async def run(
        self, request: str, config: str, order: dict[str, Any], scene: list[Any]
    ) -> AsyncIterator[dict[str, Any]]:
        """Run a rollout in a folder of this node; tell as it goes, and at last its files."""
        asked = order_from_json(order)
        told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def fetch(scene_id: str) -> bytes:
            bundle: bytes = await scene[0]
            return bundle

        with scratch_folder() as place:
            task = asyncio.create_task(
                self._core.run(
                    request, config, place, asked, fetch,
                    lambda: told.put_nowait({"tell": "simulated"}),
                )
            )  # fmt: skip
            task.add_done_callback(lambda _: told.put_nowait({"tell": "over"}))
            try:
                while (document := await told.get())["tell"] != "over":
                    yield document
            finally:
                task.cancel()
            try:
                result = task.result()
            except OmniloopError as error:
                yield {"tell": "refused", "error": error_to_json(error)}
                return
            folder = place / "rollouts" / asked.job.scene_id / str(asked.job.seed)
            for path in sorted(folder.iterdir()):
                if path.name != RESULT_NAME and path.is_file():
                    with path.open("rb") as file:
                        while piece := file.read(_PIECE):
                            yield {"tell": "file", "name": path.name, "piece": piece}
            yield {"tell": "beat", "beat": beat_to_json(self._core.beat())}
            yield {"tell": "ended", "result": result.to_json()}

    async def beat(self) -> dict[str, Any]:
        """How this process is."""
        return beat_to_json(self._core.beat())

    async def forget(self, request: str) -> None:
        """Let go of a request."""
        await self._core.forget(request)


@dataclass
class _Handle:
    actor: Any
    pulse: Pulse = field(default_factory=Pulse)
    known: set[str] = field(default_factory=set)
    node: str = ""


class RayWorkers:
    """Runs rollouts in Ray actors; see this module.

    Args:
        count: How many actors, one CPU each.
        hang_s: After how long without an answer a rollout is given up; None for never.
        address: See `connect`.
    """

    kind = "ray"

    def __init__(self, count: int, hang_s: float | None, address: str | None) -> None:
        self._count = count
        self._hang_s = hang_s
        self._address = address
        self._handles: dict[str, _Handle] = {}
        self._started = 0
        self._scenes: dict[tuple[str, str], Any] = {}
        self._pulse: asyncio.Task[None] | None = None

    async def start(self) -> tuple[str, ...]:
        """See `Executor`.

        Raises:
            ConfigError: there is no cluster, too few CPUs are free, or a node has other versions.
        """
        connect(self._address)
        notice = asyncio.create_task(self._tell_waiting())
        try:
            names = await asyncio.gather(*(self._spawn() for _ in range(self._count)))
        finally:
            notice.cancel()
        self._pulse = asyncio.create_task(self._listen())
        return tuple(names)

    async def replace(self, worker: str) -> str:
        """See `Executor`."""
        ray = _ray()
        ray.kill(self._handles.pop(worker).actor)
        return await self._spawn()

    async def run(
        self, worker: str, source: Source, order: Order, simulated: Callable[[], None]
    ) -> RolloutResult:
        """See `Executor`."""
        ray = _ray()
        handle = self._handles.get(worker)
        if handle is None:  # it died, and is being replaced
            gone = WorkerDied("the worker is gone", where=worker)
            gone.began = False
            raise gone
        handle.known.add(source.name)
        scene = self._scene(source, order.job.scene_id)
        began_s = time.monotonic()
        answers = handle.actor.run.options(num_returns="streaming").remote(
            source.name, source.setup.config.model_dump_json(), order_to_json(order), [scene]
        )
        try:
            return await self._collect(handle, answers, source, order, simulated)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                ray.cancel(answers)
            raise
        except ray.exceptions.RayTaskError as error:
            raise ServiceError(
                f"the worker broke down: {error.cause!r}", where=f"{worker} on {handle.node}",
                remedy="see the log of its node; go on with run.resume=true",
            ) from error  # fmt: skip
        except ray.exceptions.RayError as error:
            died = WorkerDied(
                f"the worker died: {str(error).strip().splitlines()[0]}",
                where=f"{worker} on {handle.node}",
                remedy="see the log of its node; its rollouts are run again by another",
            )
            # Its loop stood still, so all that it had began before.
            if self._hang_s is not None and time.monotonic() - began_s > self._hang_s:
                died.hung = frozenset({order.job.name})
            raise died from error

    async def _collect(
        self,
        handle: _Handle,
        answers: Any,
        source: Source,
        order: Order,
        simulated: Callable[[], None],
    ) -> RolloutResult:
        """Write a rollout's folder as its files come; its result last."""
        target: Path | None = None
        async for reference in answers:
            told = await reference
            if told["tell"] == "simulated":
                simulated()
            elif told["tell"] == "beat":
                handle.pulse.hear(beat_from_json(told["beat"]))
            elif told["tell"] == "refused":
                raise error_from_json(told["error"])
            elif told["tell"] == "file":
                if target is None:
                    target = source.folder.begin_rollout(order.job.scene_id, order.job.seed)
                with usable(target / told["name"], "written"), (target / told["name"]).open("ab") as f:  # fmt: skip
                    f.write(told["piece"])
            else:
                result = RolloutResult.from_json(told["result"])
                if target is None:
                    target = source.folder.begin_rollout(order.job.scene_id, order.job.seed)
                write_atomic(
                    target / RESULT_NAME, told["result"].encode("utf-8", "backslashreplace")
                )
                return result
        raise WorkerDied("the worker told no result", where=order.job.name)

    def _scene(self, source: Source, scene_id: str) -> Any:
        """A scene in the cluster's object store, put there once."""
        ray = _ray()
        key = (source.name, scene_id)
        if key not in self._scenes:
            self._scenes[key] = ray.put(source.setup.bundle(scene_id))
        return self._scenes[key]

    def forget(self, source: Source) -> None:
        """See `Executor`."""
        for key in [key for key in self._scenes if key[0] == source.name]:
            del self._scenes[key]
        for handle in self._handles.values():
            if source.name in handle.known:
                handle.known.discard(source.name)
                handle.actor.forget.remote(source.name)

    def beats(self) -> Mapping[str, Beat]:
        """See `Executor`."""
        return {name: handle.pulse.read() for name, handle in self._handles.items()}

    async def stop(self) -> None:
        """See `Executor`."""
        ray = _ray()
        if self._pulse is not None:
            self._pulse.cancel()
        for name in tuple(self._handles):
            ray.kill(self._handles.pop(name).actor)

    async def _tell_waiting(self) -> None:
        await asyncio.sleep(_NOTICE_S)
        here = sum(bool(handle.node) for handle in self._handles.values())
        sys.stderr.write(
            f"notice: {here} of {self._count} workers have started; each waits for a free CPU of the"
            f" Ray cluster, {_START_S:.0f} s at most; see `ray status`\n"
        )

    async def _spawn(self) -> str:
        ray = _ray()
        self._started += 1
        name = f"ray-{self._started}"
        kind = ray.remote(num_cpus=1, max_restarts=0, max_concurrency=1000)(_Actor)
        handle = _Handle(kind.remote(self._hang_s))
        self._handles[name] = handle
        try:
            async with asyncio.timeout(_START_S):
                hello = await handle.actor.hello.remote()
        except TimeoutError:
            raise ConfigError(
                f"Ray started no worker within {_START_S:.0f} s", where="run.executor=ray",
                remedy="see `ray status`: a worker wants a free CPU; give fewer run.workers",
            ) from None  # fmt: skip
        except ray.exceptions.RayError as error:
            raise ConfigError(
                f"a worker cannot start on its node: {str(error).strip().splitlines()[-1]}",
                where="run.executor=ray", remedy=f"on every node: {_INSTALL}, the same version as here",
            ) from error  # fmt: skip
        self._check(hello)
        handle.node = hello["node"]
        return name

    def _check(self, hello: Mapping[str, str]) -> None:
        ray = _ray()
        here = {"omniloop": omniloop.__version__, "ray": ray.__version__}
        for package, version in here.items():
            if hello[package] != version:
                raise ConfigError(
                    f"the node {hello['node']} has {package} {hello[package]}, this process {version}",
                    where="run.executor=ray", remedy="install the same version on every node",
                )  # fmt: skip

    async def _listen(self) -> None:
        """Hear from every worker about once a second."""
        while True:
            await asyncio.sleep(_BEAT_S)
            await asyncio.gather(*(self._hear(h) for h in tuple(self._handles.values())))

    async def _hear(self, handle: _Handle) -> None:
        # One that does not answer is dead or stands still: its rollouts tell.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_BEAT_S):
                handle.pulse.hear(beat_from_json(await handle.actor.beat.remote()))
