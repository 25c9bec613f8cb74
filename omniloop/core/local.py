"""What a plugin author writes, and the wrapping that makes a service of it.

An author's class is plain and synchronous:

* a policy has `spec` and ``plan(observation) -> Plan``;
* a renderer has `spec` and ``open(session, cameras)`` returning an object with
  ``render(request) -> RenderResult``;
* traffic, a controller or a ground has ``open(session)`` returning an object with
  ``step(request)`` or ``correct(request)``.

A stateful policy may also have ``open(session, cameras)`` returning an object with
`plan`. Session objects may have ``close()``. A class whose `open` is a coroutine function
is a service already and is used as it is.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from omniloop.core.errors import PluginError

_METHODS = {"policy": "plan", "traffic": "step", "controller": "step", "ground": "correct", "renderer": "render"}

_RENDER_THREADS = 2


@functools.cache
def _render_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_RENDER_THREADS, thread_name_prefix="render")


class _LocalSession:
    """Answers each request by one synchronous call; a renderer's runs in a thread."""

    def __init__(self, target: object, method: str) -> None:
        self._target = target
        self._call: Callable[[Any], Any] = getattr(target, method)

    async def _inline(self, request: Any) -> Any:
        return self._call(request)

    async def render(self, request: Any) -> Any:
        # Drawing and encoding leave the interpreter lock, so the loop goes on meanwhile.
        return await asyncio.get_running_loop().run_in_executor(_render_pool(), self._call, request)

    plan = step = correct = _inline

    async def close(self) -> None:
        close = getattr(self._target, "close", None)
        if close is not None:
            close()


class LocalService:
    """A service made of an author's object in this process."""

    def __init__(self, kind: str, plugin: Any) -> None:
        self._plugin = plugin
        self._method = _METHODS[kind]
        if kind in ("policy", "renderer"):
            self.spec = plugin.spec

    async def open(self, *session: Any) -> _LocalSession:
        """Begin a rollout."""
        opener = getattr(self._plugin, "open", None)
        return _LocalSession(opener(*session) if opener else self._plugin, self._method)


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
    if opener is None and not hasattr(plugin, _METHODS[kind]):
        raise PluginError(f"{kind} {name} has no method '{_METHODS[kind]}'", remedy=f"write {_METHODS[kind]}(request)")
    return LocalService(kind, plugin)
