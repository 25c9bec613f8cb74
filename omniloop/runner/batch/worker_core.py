"""What a worker does, whatever carries its messages: constructs services, runs rollouts."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from omniloop.configs.schema import RunConfig
from omniloop.core.errors import SceneError
from omniloop.core.scene import Scene
from omniloop.runlog.folder import RunFolder
from omniloop.runlog.results import RolloutResult
from omniloop.runner.assemble import Setup, construct
from omniloop.runner.batch.rollouts import Beat, Rollouts
from omniloop.runner.job import Order
from omniloop.scenes.native import scene_from_bytes

_BUNDLE_BYTES = 64 << 20

FetchScene = Callable[[str], Awaitable[bytes]]


class SentScenes:
    """Scenes that the run sends as bundles; the latest stay, up to 64 MiB.

    A worker needs no dataset of its own, and parses none.

    Attributes:
        bundles: By scene, the latest last.
    """

    def __init__(self) -> None:
        self.bundles: OrderedDict[str, bytes] = OrderedDict()

    def __contains__(self, scene_id: str) -> bool:
        return scene_id in self.bundles

    def add(self, scene_id: str, bundle: bytes) -> None:
        """Keep a scene; the oldest go."""
        self.bundles[scene_id] = bundle
        self.bundles.move_to_end(scene_id)
        while sum(map(len, self.bundles.values())) > _BUNDLE_BYTES and len(self.bundles) > 1:
            self.bundles.popitem(last=False)

    def ids(self) -> list[str]:
        """See `omniloop.core.contracts.SceneSource`."""
        return sorted(self.bundles)

    def load(self, scene_id: str) -> Scene:
        """See `omniloop.core.contracts.SceneSource`."""
        try:
            bundle = self.bundles[scene_id]
        except KeyError:
            raise SceneError(f"the scene '{scene_id}' was not sent to this worker") from None
        return scene_from_bytes(bundle, scene_id)


@dataclass
class _Open:
    setup: Setup
    scenes: SentScenes
    fetching: dict[str, asyncio.Lock] = field(default_factory=dict)


class WorkerCore:
    """The requests that a worker has opened, and their rollouts.

    Args:
        rollouts: Runs them.
    """

    def __init__(self, rollouts: Rollouts) -> None:
        self._rollouts = rollouts
        self._open: dict[str, _Open] = {}
        self._last: Setup | None = None
        self._opening = asyncio.Lock()

    async def run(
        self,
        request: str,
        config: str,
        run_dir: Path,
        order: Order,
        fetch: FetchScene,
        simulated: Callable[[], None],
    ) -> RolloutResult:
        """Run a rollout of a request, whose services are constructed at its first.

        Args:
            config: The request's, as JSON.
            run_dir: Where this rollout goes.
            fetch: Gets a scene's bundle.

        Raises:
            InputError: services cannot be constructed here, or not be reached from here.
            RunFolderError: the folder cannot be written.
        """
        async with self._opening:
            if request not in self._open:
                scenes = SentScenes()
                with self._rollouts.opening():
                    setup = construct(RunConfig.model_validate_json(config), scenes, self._last)
                setup.bundles = scenes.bundles
                await setup.connect()
                self._open[request] = _Open(setup, scenes)
                self._last = setup
        opened = self._open[request]
        scene_id = order.job.scene_id
        async with opened.fetching.setdefault(scene_id, asyncio.Lock()):
            if scene_id not in opened.scenes:
                opened.scenes.add(scene_id, await fetch(scene_id))
            with self._rollouts.opening():
                opened.setup.prepare(scene_id)  # now, while the bundle is certainly here
        folder = RunFolder.joined(run_dir)
        return await self._rollouts.run(opened.setup, folder, order, simulated)

    async def forget(self, request: str) -> None:
        """Let go of a request; services that another may share stay."""
        opened = self._open.pop(request, None)
        if opened is not None:
            self._rollouts.forget(opened.setup)
            await opened.setup.leave()

    def beat(self) -> Beat:
        """How this process is."""
        return self._rollouts.beat()

    async def close(self) -> None:
        """Let go of what the event loop holds of services elsewhere."""
        self._rollouts.stop()
        for setup in (*(opened.setup for opened in self._open.values()), self._last):
            if setup is not None:
                await setup.services.disconnect()
