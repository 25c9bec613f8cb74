"""The daemon: simulates for clients, several requests at once, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grpc import StatusCode

from omniloop.configs.schema import PluginConfig, RunConfig
from omniloop.core.errors import OmniloopError
from omniloop.runlog.files import usable
from omniloop.runner.assemble import Setup, chosen_ids, construct, open_source
from omniloop.runner.batch.choose import executor_for
from omniloop.runner.batch.control import mind_memory
from omniloop.runner.batch.engine import Batch, Rules
from omniloop.runner.batch.sizing import concurrency_for, per_worker, workers_for
from omniloop.runner.daemon_request import DaemonRequest, request_config, versions_of
from omniloop.runner.daemon_scenes import SharedScenes, facts_of
from omniloop.runner.run import default_name
from omniloop.scenes.native import scene_hash
from omniloop.scenes.opening import check_ids
from omniloop.services.rpc import Refusal
from omniloop.services.runtime_codec import (
    Asked,
    RolloutAnswer,
    RuntimeFacts,
    SceneFacts,
    Versions,
)

log = logging.getLogger("omniloop.daemon")

_LOADING_S = 2.0
"""How long the question for scenes may load those that nobody asked for yet."""
_TICK_S = 1.0
_NOWHERE = "127.0.0.1:1"
_NAMES = {
    "policy": "driver", "traffic": "trafficsim", "controller": "controller", "ground": "physics",
    "renderer": "renderer",
}  # fmt: skip
"""What AlpaSim calls the services."""


@dataclass(frozen=True)
class DaemonRules:
    """What a daemon takes, and keeps.

    Attributes:
        runs: Every request leaves a run's folder in it.
        keep: How many of these folders stay, the latest; None for all.
        requests: How many may be under way.
    """

    runs: Path = Path("runs")
    keep: int | None = None
    requests: int = 256


class Daemon:
    """Runs requests on one executor, see `omniloop.services.runtime_server.Runtime`.

    Services of its settings are constructed once and shared; drivers are a request's own. A policy
    `remote` without an address means that every request must bring drivers.

    Raises:
        InputError: the settings are unusable, or there is no scene.

    Attributes:
        stopping: Set once nothing more is taken.
    """

    def __init__(self, config: RunConfig, rules: DaemonRules) -> None:
        self.stopping = asyncio.Event()
        self._rules = rules
        self._config = config
        self._needs_drivers = config.policy.name == "remote" and not config.policy.arguments.get(
            "address"
        )
        if self._needs_drivers:
            arguments = {**config.policy.arguments, "address": _NOWHERE}
            policy = PluginConfig(name="remote", **arguments)
            config = config.model_copy(update={"policy": policy})
        if config.run.video:
            from omniloop.report.video import require_pyav

            require_pyav()
        self._setup = construct(config, open_source(config.scenes))
        self._ids = chosen_ids(config.scenes, self._setup.source)
        run = config.run
        single = run.workers == "auto" and run.executor == "local"
        self._workers = 1 if single else workers_for(self._setup, 1_000_000)
        self._concurrency = 0
        self._batch: Batch | None = None
        self._scenes = SharedScenes()
        self._requests: dict[asyncio.Task[object], DaemonRequest] = {}
        self._uuids: set[str] = set()
        self._prefix = f"daemon-{default_name()}-{os.getpid()}"
        self._count = 0
        self._folders: deque[Path] = deque()
        self._ticker: asyncio.Task[None] | None = None

    @property
    def scene_ids(self) -> Sequence[str]:
        """What can be asked for."""
        return self._ids

    @property
    def workers(self) -> int:
        """Processes that run rollouts; 1 is this one."""
        return self._workers

    @property
    def concurrency(self) -> int:
        """Rollouts at once."""
        return self._concurrency

    @property
    def under_way(self) -> int:
        """Requests that have no answer yet."""
        return len(self._requests)

    async def start(self) -> None:
        """Meet services elsewhere and start the workers.

        Raises:
            InputError: a service cannot be reached.
            RunFolderError: the folder of results cannot be written.
            OmniloopError: a worker cannot be started.
        """
        runs = self._rules.runs
        with usable(runs, "used", "choose a writable folder with --runs"):
            await asyncio.to_thread(_make_writable, runs)
        services = [s for name, s in self._setup.services if hasattr(s, "connect")]
        if self._needs_drivers:
            services.remove(self._setup.services.policy)
        await asyncio.gather(*(service.connect() for service in services))
        setup, run = self._setup, self._setup.config.run
        self._concurrency = concurrency_for(setup, self._workers)
        rules = Rules(run.retries + 1, run.hang_s, per_worker(setup), self._concurrency)
        self._batch = Batch(executor_for(setup.config, self._workers, None), rules)
        await self._batch.start()
        self._ticker = asyncio.create_task(self._tick())

    async def simulate(self, asked: Asked) -> tuple[Sequence[RolloutAnswer], Versions, str]:
        """See `Runtime`; a request goes on to its end in its own task."""
        batch = self._accept(asked)
        name = self._next_name()
        config = request_config(self._setup.config, asked, name, self._rules.runs)
        request = DaemonRequest(asked, self._setup, batch, self._scenes, config)
        task = asyncio.create_task(self._run(request), name=name)
        self._requests[task] = request
        uuids = {rollout.uuid for rollout in asked.rollouts}
        self._uuids |= uuids
        try:
            answers, versions = await asyncio.shield(task)
        except asyncio.CancelledError:
            log.info("%s is cancelled: its client is gone", name)
            request.cancel()
            raise
        finally:
            self._uuids -= uuids
        return answers, versions, str(request.folder)

    def _next_name(self) -> str:
        """The name of a folder that is not there."""
        while True:
            self._count += 1
            name = f"{self._prefix}-{self._count:06d}"
            if not (self._rules.runs / name).exists():
                return name

    def _accept(self, asked: Asked) -> Batch:
        if self.stopping.is_set():
            raise Refusal(StatusCode.UNAVAILABLE, "the daemon is stopping; ask another one")
        if self._batch is None or self._batch.is_broken:
            raise Refusal(StatusCode.UNAVAILABLE, "no worker is left; see the daemon's log")
        if len(self._requests) >= self._rules.requests:
            raise Refusal(
                StatusCode.RESOURCE_EXHAUSTED,
                f"{len(self._requests)} requests are under way, which is the limit; wait for one",
            )
        if self._needs_drivers and not asked.drivers:
            raise Refusal(
                StatusCode.INVALID_ARGUMENT,
                "available_drivers is empty, and the daemon has no policy; give a driver",
            )
        check_ids(asked.scene_ids, self._ids, f"scenes={self._config.scenes.name}")
        taken = next((r.uuid for r in asked.rollouts if r.uuid in self._uuids), None)
        if taken is not None:
            raise Refusal(
                StatusCode.ALREADY_EXISTS, f"a rollout with the session uuid {taken!r} is under way"
            )
        return self._batch

    async def _run(self, request: DaemonRequest) -> tuple[Sequence[RolloutAnswer], Versions]:
        rollouts, name = len(request.asked.rollouts), request.folder.name
        log.info("%s: %d rollout(s), %d under way", name, rollouts, self.under_way)
        began = time.perf_counter()
        try:
            answers, versions = await request.run()
        except OmniloopError as error:
            log.info("%s failed: %s", name, error.what)
            raise
        finally:
            task = asyncio.current_task()
            assert task is not None  # this is its coroutine
            self._requests.pop(task, None)
            await self._forget_folders(request.folder)
        failed = sum(bool(answer.error) for answer in answers)
        log.info("%s ended after %.1f s, %d failed", name, time.perf_counter() - began, failed)
        return answers, versions

    async def _forget_folders(self, newest: Path) -> None:
        if self._rules.keep is None:
            return
        self._folders.append(newest)
        while len(self._folders) > self._rules.keep:
            await asyncio.to_thread(shutil.rmtree, self._folders.popleft(), ignore_errors=True)

    async def facts(self) -> RuntimeFacts:
        """See `Runtime`; scenes are loaded for it, those that nobody needed yet for up to 2 s."""
        until_s = time.monotonic() + _LOADING_S
        for scene_id in self._ids:
            if time.monotonic() > until_s:
                break
            if scene_id not in self._scenes.facts:
                found = await asyncio.to_thread(_facts, self._setup, scene_id)
                if found is not None:
                    self._scenes.facts[scene_id] = found
        spec = self._setup.renderer_spec
        kind = "sensorsim" if spec is None or spec.chunk is None else "video_model"
        return RuntimeFacts(
            concurrency=self._concurrency,
            workers=self._workers,
            renderer_type="none" if spec is None else kind,
            provider=self._config.scenes.name,
            scenes={scene_id: self._scenes.facts.get(scene_id) for scene_id in self._ids},
            capacities=self._capacities(),
            versions=versions_of(self._setup),
        )

    def _capacities(self) -> dict[str, int | None]:
        found: dict[str, int | None] = dict.fromkeys(_NAMES.values())
        for name, service in self._setup.services:
            capacity = getattr(service, "capacity", None)
            found[_NAMES[name]] = self._concurrency if capacity is None else capacity
        if self._needs_drivers:
            found["driver"] = 0
        return found

    def shut_down(self) -> None:
        """See `Runtime`."""
        if not self.stopping.is_set():
            log.info("stopping once %d request(s) have ended", self.under_way)
            self.stopping.set()

    def cancel(self) -> None:
        """Take nothing more and end all requests."""
        self.shut_down()
        for request in tuple(self._requests.values()):
            request.cancel()

    async def drained(self) -> None:
        """Wait until no request is under way."""
        while self._requests:
            await asyncio.wait(tuple(self._requests))

    async def stop(self) -> None:
        """End everything."""
        if self._ticker is not None:
            self._ticker.cancel()
        if self._batch is not None:
            await self._batch.stop()
        await self._setup.services.disconnect()

    async def _tick(self) -> None:
        while self._batch is not None:
            mind_memory(self._batch, self._concurrency)
            await asyncio.sleep(_TICK_S)


def _make_writable(folder: Path) -> None:
    """Make a folder, and find out now whether anything can be made in it.

    Raises:
        OSError: it cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()


def _facts(setup: Setup, scene_id: str) -> SceneFacts | None:
    """Load a scene; None if it cannot be, which who asks for its rollouts is told."""
    try:
        scene = setup.source.load(scene_id)
        return facts_of(scene, scene_hash(scene), setup.source)
    except OmniloopError as error:
        log.info("scene %s cannot be loaded: %s", scene_id, error.what)
        return None
