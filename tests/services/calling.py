"""Calls of a server as by a client that is not of this project, servers in threads, and ports."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

import grpc
from grpc import aio

from omniloop.bench.batch_live import hold_port
from omniloop.services.rpc import methods_of
from omniloop.services.serving import Listening, Servicer, start_server

T = TypeVar("T")


def called(servicer: Servicer, *calls: tuple[str, Any]) -> list[Any]:
    """Replies, or status codes, of calls by a client that tells nothing of itself."""

    async def run() -> list[Any]:
        server, port = await start_server([servicer], Listening())
        replies: list[Any] = []
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for name, request in calls:
                method = methods_of(servicer.service)[name]
                call = channel.unary_unary(
                    method.path, method.request.SerializeToString, method.reply.FromString
                )
                try:
                    replies.append(await call(request, timeout=30))
                except grpc.RpcError as error:
                    replies.append((error.code(), error.details()))
        await server.stop(None)
        await servicer.aclose()
        return replies

    return asyncio.run(run())


async def until(condition: Callable[[], object]) -> None:
    """Wait for what must come, however busy the machine is.

    Raises:
        TimeoutError: it does not come.
    """
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


@contextmanager
def held_port() -> Iterator[int]:
    """A port of 127.0.0.1 where nobody listens but a server that is told of it.

    A plain free port may be anybody's before its server has started, or after it has died.
    """
    with hold_port() as held:
        yield int(held.getsockname()[1])


@contextmanager
def hosted(serving: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """What `serving` gives, held in a thread of its own, for runs that have their own event loop."""
    given: Future[T] = Future()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def hold() -> None:
        try:
            async with serving as found:
                given.set_result(found)
                await stop.wait()
        except BaseException as error:
            if given.done():
                raise
            given.set_exception(error)

    thread = threading.Thread(target=loop.run_until_complete, args=(hold(),))
    thread.start()
    try:
        yield given.result(60.0)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
