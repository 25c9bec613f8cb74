"""Calls of a server as by a client that is not of this project."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc import aio

from omniloop.services.rpc import methods_of
from omniloop.services.serving import Listening, Servicer, start_server


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
                    replies.append(await call(request, timeout=5))
                except grpc.RpcError as error:
                    replies.append((error.code(), error.details()))
        await server.stop(None)
        await servicer.aclose()
        return replies

    return asyncio.run(run())
