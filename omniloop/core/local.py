"""What a plugin author writes, and the wrapping that makes a service of it.

An author's class is plain and synchronous:

* a policy has `spec` and ``plan(observation) -> Plan``;
* a renderer has `spec` and ``open(session, cameras)`` returning an object with
  ``render(request) -> RenderResult``;
* traffic, a controller or a ground has ``open(session)`` returning an object with
  ``step(request)`` or ``correct(request)``.

A stateful policy may also have ``open(session, cameras)`` returning an object with
`plan`. A policy may have ``plan_batch(observations) -> list`` instead of `plan`, or with `open`
``plan_batch(observations, sessions)``: requests of concurrent rollouts then come
together (`omniloop.core.batching`), at most `batch_size`, the first after `batch_wait_ms`. Session objects may have ``close()``, and ``facts()``: counts and other JSON-able facts
of the rollout, asked for once it is closed and carried into its result. Any plugin may have
``connect()``, called before anything starts: the place to load weights; ``check_scene(scene)``, which
raises an `InputError` for a scene that it cannot serve, before anything starts; for a policy or
renderer ``check_cameras(cameras)``, likewise for the cameras whose frames will come; and
``requirements()``, see `omniloop.core.requirement`. A class whose `open` is a coroutine function
is a service already and is used as it is.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from omniloop.core.batching import SIZE, WAIT_MS, Batcher
from omniloop.core.cameras import Camera
from omniloop.core.errors import PluginError
from omniloop.core.scene import Scene

_METHODS = {
    "policy": "plan",
    "traffic": "step",
    "controller": "step",
    "ground": "correct",
    "renderer": "render",
}

_RENDER_THREADS = 2


@functools.cache
def render_pool() -> ThreadPoolExecutor:
    """The threads of this process that make pictures."""
    return ThreadPoolExecutor(_RENDER_THREADS, thread_name_prefix="render")


class _LocalSession:
    """Answers each request by one call; a renderer's runs in a thread.

    A method that its author made a coroutine function is awaited.
    """

    def __init__(
        self,
        call: Callable[[Any], Any],
        close: Callable[[], object] | None,
        facts: Callable[[], Mapping[str, object]] | None = None,
    ) -> None:
        self._call = call
        self._close = close
        if facts is not None:
            self.facts = facts

    async def _inline(self, request: Any) -> Any:
        answer = self._call(request)
        return await answer if inspect.isawaitable(answer) else answer

    async def render(self, request: Any) -> Any:
        # Drawing and encoding leave the interpreter lock, so the loop goes on meanwhile.
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(render_pool(), self._call, request)
        return await answer if inspect.isawaitable(answer) else answer

    plan = step = correct = _inline

    async def close(self) -> None:
        if self._close is not None:
            ended = self._close()
            if inspect.isawaitable(ended):
                await ended


class LocalService:
    """A service made of an author's object in this process."""

    def __init__(self, kind: str, plugin: Any) -> None:
        self._plugin = plugin
        self._method = _METHODS[kind]
        if kind in ("policy", "renderer"):
            self.spec = plugin.spec
        self._batcher = _batcher(plugin) if kind == "policy" else None

    @property
    def plugin(self) -> Any:
        """The author's object."""
        return self._plugin

    async def connect(self) -> None:
        """Let the plugin make itself ready, if it has a `connect`.

        Raises:
            PluginError: something that it needs is missing.
        """
        connect = getattr(self._plugin, "connect", None)
        if connect is not None:
            made = connect()
            if inspect.isawaitable(made):
                await made

    def check_scene(self, scene: Scene) -> None:
        """Let the plugin refuse a scene before anything starts, if it has a `check_scene`.

        Raises:
            InputError: the plugin cannot serve this scene.
        """
        check = getattr(self._plugin, "check_scene", None)
        if check is not None:
            check(scene)

    def check_cameras(self, cameras: tuple[Camera, ...]) -> None:
        """Let the plugin refuse the cameras that will be delivered, if it has a `check_cameras`.

        Raises:
            InputError: it cannot do with these.
        """
        check = getattr(self._plugin, "check_cameras", None)
        if check is not None:
            check(cameras)

    async def open(self, *session: Any) -> _LocalSession:
        """Begin a rollout.

        Raises:
            PluginError: what the author's `open` returned lacks the method of its kind.
        """
        opener = getattr(self._plugin, "open", None)
        if self._batcher is not None:
            target = None if opener is None else opener(*session)
            return _batched(self._batcher, target)
        if opener is None:
            # One object serves all rollouts, so the end of one must not close it.
            return _LocalSession(getattr(self._plugin, self._method), None)
        target = opener(*session)
        call = getattr(target, self._method, None)
        if not callable(call):
            raise PluginError(
                f"{type(self._plugin).__qualname__}.open returned a {type(target).__qualname__}"
                f" without a method '{self._method}'",
                remedy=f"return an object with {self._method}(request)",
            )
        return _LocalSession(call, getattr(target, "close", None), getattr(target, "facts", None))


def _batcher(policy: Any) -> Batcher | None:
    plan_batch = getattr(policy, "plan_batch", None)
    if plan_batch is None:
        return None
    size, wait_ms = getattr(policy, "batch_size", SIZE), getattr(policy, "batch_wait_ms", WAIT_MS)
    return Batcher(plan_batch, hasattr(policy, "open"), size, wait_ms)


def _batched(batcher: Batcher, target: Any) -> _LocalSession:
    """A session whose requests join those of others."""
    batcher.opened()

    def close() -> object:
        batcher.closed()
        end = getattr(target, "close", None)
        return None if end is None else end()

    return _LocalSession(lambda o: batcher.ask(o, target), close, getattr(target, "facts", None))


def as_service(kind: str, plugin: Any) -> Any:
    """Return `plugin` if it is a service, else wrap it.

    Raises:
        PluginError: it has neither the method of its kind nor `open`, or lacks `spec`.
    """
    name = type(plugin).__qualname__
    if kind in ("policy", "renderer") and not hasattr(plugin, "spec"):
        raise PluginError(
            f"{kind} {name} declares no spec",
            remedy=f"give the class `spec = {'PolicySpec' if kind == 'policy' else 'RendererSpec'}(...)`",
        )
    opener = getattr(plugin, "open", None)
    if inspect.iscoroutinefunction(opener):
        return plugin
    has_batch = kind == "policy" and hasattr(plugin, "plan_batch")
    if opener is None and not has_batch and not hasattr(plugin, _METHODS[kind]):
        raise PluginError(
            f"{kind} {name} has neither a method '{_METHODS[kind]}' nor 'open'",
            remedy=f"write {_METHODS[kind]}(request)",
        )
    return LocalService(kind, plugin)
