"""A connection to one address of one service: deadlines, limits, TLS, the call itself."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from grpc import aio

import omniloop
from omniloop.core.calls import CallFunnel, RetryRule
from omniloop.core.errors import ConfigError
from omniloop.services.rpc import MIB, VERSION_KEY, Caller, Method, Refusal, methods_of
from omniloop.services.status import failure

Metadata = tuple[tuple[str, str], ...]

_OWN: Metadata = ((VERSION_KEY, omniloop.__version__),)
_DEFAULT_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Tls:
    """Files for an encrypted channel; `cert` and `key` are the client's own, if asked for."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises:
            ConfigError: one cannot be read, or only one of `cert` and `key` is given.
        """
        if (self.cert is None) != (self.key is None):
            raise ConfigError("tls.cert and tls.key come together", remedy="give both or neither")
        return grpc.ssl_channel_credentials(
            read_file(self.ca, "tls.ca"), read_file(self.key, "tls.key"),
            read_file(self.cert, "tls.cert"),
        )  # fmt: skip


def read_file(path: str | None, key: str) -> bytes | None:
    """The bytes of a TLS file, or None for None.

    Raises:
        ConfigError: it cannot be read.
    """
    if path is None:
        return None
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{key} cannot be read: {error.strerror}", where=path, remedy="give a PEM file"
        ) from error


@dataclass(frozen=True)
class Settings:
    """How to talk to the addresses of a service.

    Attributes:
        timeouts_s: Deadline by method; others have `default_timeout_s`.
        tls: None for a plain channel.
    """

    timeouts_s: Mapping[str, float] = field(default_factory=dict)
    tls: Tls | None = None
    max_message_mib: int = 64
    default_timeout_s: float = _DEFAULT_TIMEOUT_S

    def timeout_s(self, method: str) -> float:
        """The deadline of a method."""
        return self.timeouts_s.get(method, self.default_timeout_s)


class Connection:
    """Calls the methods of one service at one address.

    Args:
        kind: Which service of a rollout it is, for messages and timings: "policy", ...
        service: The compiled descriptor.
    """

    def __init__(
        self, kind: str, service: ServiceDescriptor, address: str, settings: Settings
    ) -> None:
        self.kind = kind
        self.address = address
        self._settings = settings
        self._methods = methods_of(service)

    async def call(
        self,
        method: str,
        request: Message,
        funnel: CallFunnel,
        time_us: int | None = None,
        *,
        metadata: Metadata = (),
        retry: RetryRule | None = None,
    ) -> Any:
        """Call a method through the rollout's funnel and return the reply.

        Raises:
            OmniloopError: the call failed; see `omniloop.services.status`.
        """

        async def attempt() -> Any:
            reply, _ = await self._checked(method, request, funnel, time_us, metadata, False)
            return reply

        if retry is None:
            return await funnel(self.kind, method, attempt(), time_us)
        return await funnel.retried(self.kind, method, attempt, retry, time_us)

    async def introduce(
        self, method: str, request: Message, funnel: CallFunnel
    ) -> tuple[Any, dict[str, str]]:
        """Call a method and return its reply and the peer's initial metadata."""
        answer = self._checked(method, request, funnel, None, (), True)
        return await funnel(self.kind, method, answer)

    async def _checked(
        self,
        method: str,
        request: Message,
        funnel: CallFunnel,
        time_us: int | None,
        metadata: Metadata,
        wants_metadata: bool,
    ) -> tuple[Any, dict[str, str]]:
        timeout_s = self._settings.timeout_s(method)
        try:
            return await self._send(
                self._methods[method], request, timeout_s, _OWN + metadata, wants_metadata
            )
        except (aio.AioRpcError, Refusal) as error:
            code, details = (
                (error.code, error.details)
                if isinstance(error, Refusal)
                else (error.code(), error.details() or "")
            )
            raise failure(
                code, details, kind=self.kind, method=method, address=self.address,
                timeout_s=timeout_s, where=funnel.place(self.kind, method, time_us),
            ) from error  # fmt: skip

    async def _send(
        self,
        method: Method,
        request: Message,
        timeout_s: float,
        metadata: Metadata,
        wants_metadata: bool,
    ) -> tuple[Any, dict[str, str]]:
        call = _channel(self.address, self._settings).stub(method)(
            request, timeout=timeout_s, metadata=metadata
        )
        reply = await call
        if not wants_metadata:
            return reply, {}
        return reply, {k: v for k, v in await call.initial_metadata() if isinstance(v, str)}


class Answers(Protocol):
    """A server's methods, called in this process."""

    async def answer(self, method: str, request: Message, caller: Caller) -> Message:
        """Answer a call.

        Raises:
            Refusal: the server refuses it.
        """
        ...


class Loopback(Connection):
    """A connection to a server in this process: the same messages, no socket.

    Numbers are rounded as on the wire, since they go through the same messages.
    """

    def __init__(
        self, kind: str, service: ServiceDescriptor, server: Answers, settings: Settings
    ) -> None:
        super().__init__(kind, service, "in this process", settings)
        self._server = server

    async def _send(
        self,
        method: Method,
        request: Message,
        timeout_s: float,
        metadata: Metadata,
        wants_metadata: bool,
    ) -> tuple[Any, dict[str, str]]:
        caller = Caller(dict(metadata))
        return await self._server.answer(method.name, request, caller), caller.reply_metadata


# -------------------------------------------------------------------------- channels


class _Channel:
    """A channel with the stubs that were asked for."""

    def __init__(self, channel: aio.Channel) -> None:
        self.channel = channel
        self._stubs: dict[str, Any] = {}

    def stub(self, method: Method) -> Any:
        found = self._stubs.get(method.path)
        if found is None:
            found = self._stubs[method.path] = self.channel.unary_unary(
                method.path, method.request.SerializeToString, method.reply.FromString
            )
        return found


_channels: weakref.WeakKeyDictionary[
    asyncio.AbstractEventLoop, dict[tuple[str, Tls | None, int], _Channel]
] = weakref.WeakKeyDictionary()
"""One channel per address, kept as long as its event loop."""


def _channel(address: str, settings: Settings) -> _Channel:
    held = _channels.setdefault(asyncio.get_running_loop(), {})
    key = (address, settings.tls, settings.max_message_mib)
    found = held.get(key)
    if found is None:
        limit = settings.max_message_mib * MIB
        options = [
            ("grpc.max_send_message_length", limit),
            ("grpc.max_receive_message_length", limit),
        ]
        if settings.tls is None:
            channel = aio.insecure_channel(address, options)
        else:
            channel = aio.secure_channel(address, settings.tls.credentials(), options)
        found = held[key] = _Channel(channel)
    return found


def open_channels() -> int:
    """How many channels the running event loop holds."""
    return len(_channels.get(asyncio.get_running_loop(), ()))


async def wait_ready(address: str, settings: Settings, timeout_s: float, kind: str) -> None:
    """Wait until an address accepts connections.

    Raises:
        ConfigError: it does not within `timeout_s`.
    """
    channel = _channel(address, settings).channel
    try:
        async with asyncio.timeout(timeout_s):
            await channel.channel_ready()
    except TimeoutError:
        raise ConfigError(
            f"nothing answers at {address} within {timeout_s:g} s", where=f"{kind}.address",
            remedy="start the server, mend the address, or raise"
            f" {kind}.connect_timeout_s; with TLS, check its files",
        ) from None  # fmt: skip


async def close_channels() -> None:
    """Close all channels of the running event loop."""
    for channel in _channels.pop(asyncio.get_running_loop(), {}).values():
        await channel.channel.close()
