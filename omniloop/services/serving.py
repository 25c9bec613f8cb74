"""Serving: protocol servicers behind one gRPC server, its errors, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from grpc import StatusCode, aio

import omniloop
from omniloop.core.errors import ConfigError, InputError, OmniloopError, PolicyError, SceneError
from omniloop.services.connection import read_file
from omniloop.services.health import Health
from omniloop.services.rpc import MIB, VERSION_KEY, Caller, Refusal, methods_of, own_version
from omniloop.services.status import POLICY_PREFIX

log = logging.getLogger("omniloop.serve")

SWEEP_S = 10.0
"""How often idle sessions are looked for."""


class Servicer:
    """One protocol's server: a coroutine method ``name(request, caller)`` per method.

    A subclass names its `service`; `served` is the plugin's name, if it is known. What its methods raise becomes a status: a `Refusal`
    its own, a SceneError NOT_FOUND, other input errors INVALID_ARGUMENT, a PolicyError
    FAILED_PRECONDITION, anything else UNKNOWN with the text of the exception, as Python's gRPC servers answer.
    """

    service: ClassVar[ServiceDescriptor]
    served: str = ""

    async def get_version(self, request: Message, caller: Caller) -> Message:
        """Which program answers, and what it serves."""
        return own_version(self.served)

    async def answer(self, method: str, request: Message, caller: Caller) -> Any:
        """Answer a call, whatever transport it came by.

        Raises:
            Refusal: the call is refused, or failed.
        """
        if method in ("get_version", "get_metadata"):
            caller.reply_metadata[VERSION_KEY] = omniloop.__version__
        try:
            return await getattr(self, method)(request, caller)
        except Refusal:
            raise
        except SceneError as error:
            raise Refusal(StatusCode.NOT_FOUND, str(error)) from error
        except InputError as error:
            raise Refusal(StatusCode.INVALID_ARGUMENT, str(error)) from error
        except PolicyError as error:
            raise Refusal(StatusCode.FAILED_PRECONDITION, f"{POLICY_PREFIX}{error.what}") from error
        except OmniloopError as error:
            raise Refusal(StatusCode.UNKNOWN, f"Exception calling application: {error}") from error
        except Exception as error:  # a served plugin may be anybody's code
            log.exception("%s failed", method)
            raise Refusal(
                StatusCode.UNKNOWN,
                f"Exception calling application: {type(error).__name__}: {error}",
            ) from error

    async def sweep(self) -> None:
        """End what has been idle for too long."""

    async def aclose(self) -> None:
        """End everything that is open."""


@dataclass(frozen=True)
class Listening:
    """Where and how a server listens.

    Attributes:
        host: Loopback unless told otherwise.
        port: 0 for any free one.
        tls_cert, tls_key: PEM files; None for a plain server.
        tls_client_ca: Clients must show a certificate that this one signed.
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    max_message_mib: int = 100

    def credentials(self) -> grpc.ServerCredentials | None:
        """Read the TLS files; None without.

        Raises:
            ConfigError: one cannot be read, or one is missing.
        """
        if self.tls_cert is None and self.tls_key is None:
            if self.tls_client_ca is not None:
                raise ConfigError("--tls-client-ca needs --tls-cert and --tls-key")
            return None
        if self.tls_cert is None or self.tls_key is None:
            raise ConfigError("--tls-cert and --tls-key come together", remedy="give both")
        ca = read_file(self.tls_client_ca, "--tls-client-ca")
        pair = (read_file(self.tls_key, "--tls-key"), read_file(self.tls_cert, "--tls-cert"))
        return grpc.ssl_server_credentials([pair], ca, require_client_auth=ca is not None)


async def start_server(
    servicers: Sequence[Servicer], listening: Listening, health: Health | None = None
) -> tuple[aio.Server, int]:
    """Start a server and return it with its port.

    Besides the protocols it answers health checks, and tells by reflection what it serves.

    Args:
        health: What it tells; healthy for good if None.

    Raises:
        ConfigError: the address cannot be bound, or a TLS file cannot be read.
    """
    limit = listening.max_message_mib * MIB
    server = aio.server(
        options=[
            ("grpc.max_send_message_length", limit),
            ("grpc.max_receive_message_length", limit),
            ("grpc.so_reuseport", 0),  # else a second server shares the port unnoticed
        ]
    )
    for servicer in servicers:
        handlers = {
            method.name: grpc.unary_unary_rpc_method_handler(
                _handler(servicer, method.name),
                request_deserializer=method.request.FromString,
                response_serializer=_in_order,
            )
            for method in methods_of(servicer.service).values()
        }
        generic = grpc.method_handlers_generic_handler(servicer.service.full_name, handlers)
        server.add_generic_rpc_handlers((generic,))
    await (health or Health()).add_to(server, [s.service.full_name for s in servicers])
    where = f"{listening.host}:{listening.port}"
    credentials = listening.credentials()
    try:
        if credentials is None:
            port = server.add_insecure_port(where)
        else:
            port = server.add_secure_port(where, credentials)
    except RuntimeError as error:
        raise ConfigError(
            f"cannot listen at {where}: {_why_not(listening)}", where="--host, --port",
            remedy="choose an address of this machine and a free port, or port 0 for any",
        ) from error  # fmt: skip
    await server.start()
    return server, port


def _in_order(reply: Message) -> bytes:
    """The reply's bytes; maps have another order in every process unless they are sorted."""
    return reply.SerializeToString(deterministic=True)


def _why_not(listening: Listening) -> str:
    """Why an address cannot be bound; gRPC tells it only in its own log."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            listening.host, listening.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return "gRPC refuses it; do the TLS files belong together?"


def _handler(
    servicer: Servicer, method: str
) -> Callable[[Message, aio.ServicerContext[Any, Any]], Awaitable[Message]]:
    async def handle(request: Message, context: aio.ServicerContext[Any, Any]) -> Message:
        metadata = {str(k): str(v) for k, v in context.invocation_metadata() or ()}
        caller = Caller(metadata)
        try:
            reply: Message = await servicer.answer(method, request, caller)
        except Refusal as refusal:
            await context.abort(refusal.code, refusal.details)
            raise AssertionError("abort raises") from refusal
        if caller.reply_metadata:
            await context.send_initial_metadata(tuple(caller.reply_metadata.items()))
        return reply

    return handle


async def serve_until_stopped(
    servicers: Sequence[Servicer], listening: Listening, started: Callable[[int], None]
) -> None:
    """Serve until SIGTERM or SIGINT; sessions that are open then are ended.

    Args:
        started: Told the port.
    """
    health = Health()
    server, port = await start_server(servicers, listening, health)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    started(port)
    try:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), SWEEP_S)
            for servicer in servicers:
                await servicer.sweep()
    finally:
        await health.drain()
        await server.stop(grace=2.0)
        for servicer in servicers:
            await servicer.aclose()
