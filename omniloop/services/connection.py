"""A connection to one address of one service: deadlines, limits, TLS, the call itself."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
import weakref
from collections.abc import Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from grpc import aio

import omniloop
from omniloop.core.calls import CallFunnel, RetryRule, WrongAnswer
from omniloop.core.errors import ConfigError, OmniloopError, TransientError
from omniloop.services.rpc import MIB, VERSION_KEY, Caller, Method, Refusal, methods_of
from omniloop.services.status import failure

Metadata = tuple[tuple[str, str], ...]

OWN: Metadata = ((VERSION_KEY, omniloop.__version__),)
"""What our clients tell of themselves: at first contact, and then to who understands it."""
_DEFAULT_TIMEOUT_S = 30.0
_RECONNECT_MS = 2_000
_AVOIDED_S = 30.0
"""How long an address that did not answer gets no rollout that another can take."""


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
        ConfigError: it cannot be read, or is no PEM file.
    """
    if path is None:
        return None
    try:
        data = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{key} cannot be read: {error.strerror}", where=path, remedy="give a PEM file"
        ) from error
    if b"-----BEGIN " not in data:  # gRPC would only say that it cannot connect, or listen
        raise ConfigError(f"{key} is no PEM file", where=path, remedy="give a PEM file")
    return data


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


class Started:
    """A call that is on its way: await its reply, or cancel it.

    Calls that are started together are in flight together; no task is needed for each.
    """

    __slots__ = ("_answer", "_result")

    def __init__(self, answer: Any, result: Coroutine[Any, Any, Any]) -> None:
        self._answer = answer
        self._result = result

    def __await__(self) -> Generator[Any, None, Any]:
        return self._result.__await__()

    async def initial_metadata(self) -> dict[str, str]:
        """What the server told before its reply."""
        return _texts(await self._answer.initial_metadata())

    def cancel(self) -> None:
        """Give up the call, whether it is done or not."""
        self._result.close()
        if self._answer is not None:
            self._answer.cancel()


def _texts(metadata: Any) -> dict[str, str]:
    return {k: v for k, v in metadata or () if isinstance(v, str)}


async def together(calls: Sequence[Started]) -> list[Any]:
    """Await all replies; if one fails, the others are cancelled."""
    try:
        return [await call for call in calls]
    except BaseException:
        for call in calls:
            call.cancel()
        raise


class Connection:
    """Calls the methods of one service at one address.

    Args:
        kind: Which service of a rollout it is, for messages and timings: "policy", ...
        service: The compiled descriptor.

    Attributes:
        own: What every call tells of us; nothing to a foreign peer, once it is known as one.
    """

    def __init__(
        self, kind: str, service: ServiceDescriptor, address: str, settings: Settings
    ) -> None:
        self.kind = kind
        self.address = address
        self.own: Metadata = OWN
        self._failed_s = -math.inf
        self._settings = settings
        self._methods = methods_of(service)

    @property
    def avoided(self) -> bool:
        """Whether a call did not get through, or was not answered in time, lately."""
        return time.monotonic() - self._failed_s < _AVOIDED_S

    def failed(self) -> None:
        """Note that a call did not get through, or was not answered in time."""
        self._failed_s = time.monotonic()

    def hold(self, holder: object) -> None:
        """Keep the running event loop's channel until `holder`, and all others, let go of it."""
        _channel(self.address, self._settings).holders.add(holder)

    async def let_go(self, holder: object) -> None:
        """Close the running event loop's channel, unless somebody else holds it."""
        held = _channels.get(asyncio.get_running_loop(), {})
        found = held.get(key := _key(self.address, self._settings))
        if found is not None:
            found.holders.discard(holder)
            if not found.holders:
                await held.pop(key).channel.close()

    def place(self, funnel: CallFunnel, method: str, time_us: int | None) -> str:
        """Where a call went wrong, for messages: rollout, method, time and address."""
        return f"{funnel.place(self.kind, method, time_us)}, {self.address}"

    def call(
        self,
        method: str,
        request: Message | bytes,
        funnel: CallFunnel,
        time_us: int | None = None,
        *,
        metadata: Metadata = (),
        retry: RetryRule | None = None,
    ) -> Started:
        """Start a call through the rollout's funnel; await what is returned for the reply.

        Args:
            request: A message, or one that is serialised already.

        Awaiting raises an OmniloopError if the call failed; see `omniloop.services.status`.
        """
        began_s = time.perf_counter()
        timeout_s = self._settings.timeout_s(method)
        found = self._methods[method]
        explain = _Explained(self, method, timeout_s, funnel, time_us)
        metadata = self.own + metadata
        answer = self._begin(found, request, timeout_s, metadata)
        if retry is None:
            result = funnel(self.kind, method, answer, time_us, found.reply, explain, began_s)
            return Started(answer, result)
        attempts = itertools.chain(
            [answer], iter(lambda: self._begin(found, request, timeout_s, metadata), None)
        )
        result = funnel.retried(
            self.kind, method, lambda: next(attempts), retry, time_us, found.reply, explain
        )
        return Started(answer, result)

    async def introduce(
        self, method: str, request: Message, funnel: CallFunnel
    ) -> tuple[Any, dict[str, str]]:
        """Tell who we are; return the reply and the peer's initial metadata."""
        timeout_s = self._settings.timeout_s(method)
        explain = _Explained(self, method, timeout_s, funnel, None)
        call = self._begin(self._methods[method], request, timeout_s, OWN)
        reply = await funnel(self.kind, method, call, None, self._methods[method].reply, explain)
        return reply, _texts(await call.initial_metadata())

    def _begin(
        self, method: Method, request: Message | bytes, timeout_s: float, metadata: Metadata
    ) -> Any:
        """Start a call: an awaitable with `cancel` and `initial_metadata`."""
        return _channel(self.address, self._settings).stub(method)(
            request, timeout=timeout_s, metadata=metadata or None
        )


@dataclass(frozen=True, slots=True)
class _Explained:
    """What a call's exceptions mean, worked out only if there is one."""

    connection: Connection
    method: str
    timeout_s: float
    funnel: CallFunnel
    time_us: int | None

    def __call__(self, error: BaseException) -> OmniloopError | None:
        if isinstance(error, Refusal):
            code, details = error.code, error.details
        elif isinstance(error, aio.AioRpcError):
            code, details = error.code(), error.details() or ""
        elif isinstance(error, WrongAnswer):  # grpc hands on None for what it cannot parse
            code, details = grpc.StatusCode.INTERNAL, "Exception deserializing response!"
        else:
            return None
        connection = self.connection
        found = failure(
            code, details, kind=connection.kind, method=self.method, address=connection.address,
            timeout_s=self.timeout_s, where=connection.place(self.funnel, self.method, self.time_us),
        )  # fmt: skip
        found.address = connection.address
        if isinstance(found, TransientError):
            self.connection.failed()
        return found


class Answers(Protocol):
    """A server's methods, called in this process."""

    def answer(self, method: str, request: Message, caller: Caller) -> Coroutine[Any, Any, Message]:
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

    def hold(self, holder: object) -> None:
        """There is no channel."""

    async def let_go(self, holder: object) -> None:
        """There is no channel."""

    def _begin(
        self, method: Method, request: Message | bytes, timeout_s: float, metadata: Metadata
    ) -> Any:
        if isinstance(request, bytes):
            request = method.request.FromString(request)
        return _InProcess(self._server, method.name, request, metadata)


class _InProcess:
    """A call to a server in this process."""

    def __init__(self, server: Answers, method: str, request: Message, metadata: Metadata) -> None:
        self._caller = Caller(dict(metadata))
        self._answer = server.answer(method, request, self._caller)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answer.__await__()

    async def initial_metadata(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._caller.reply_metadata.items())

    def cancel(self) -> None:
        self._answer.close()


def _serialised(request: Message | bytes) -> bytes:
    return request if isinstance(request, bytes) else request.SerializeToString()


class _Channel:
    """A channel with the stubs that were asked for.

    Attributes:
        holders: Who wants it to stay.
    """

    def __init__(self, channel: aio.Channel) -> None:
        self.channel = channel
        self.holders: weakref.WeakSet[object] = weakref.WeakSet()
        self._stubs: dict[str, Any] = {}

    def stub(self, method: Method) -> Any:
        found = self._stubs.get(method.path)
        if found is None:
            found = self._stubs[method.path] = self.channel.unary_unary(
                method.path, _serialised, method.reply.FromString
            )
        return found


_channels: weakref.WeakKeyDictionary[
    asyncio.AbstractEventLoop, dict[tuple[str, Tls | None, int], _Channel]
] = weakref.WeakKeyDictionary()
"""One channel per address, kept until its holders let go of it."""


def _key(address: str, settings: Settings) -> tuple[str, Tls | None, int]:
    return address, settings.tls, settings.max_message_mib


def _channel(address: str, settings: Settings) -> _Channel:
    held = _channels.setdefault(asyncio.get_running_loop(), {})
    key = _key(address, settings)
    found = held.get(key)
    if found is None:
        limit = settings.max_message_mib * MIB
        options = [
            *((f"grpc.max_{way}_message_length", limit) for way in ("send", "receive")),
            ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS),  # a restarted server is found soon
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
            remedy=f"start the server, mend the address, or raise {kind}.connect_timeout_s;"
            f" if the server has TLS, set {kind}.tls and check its files",
        ) from None  # fmt: skip


async def close_channels() -> None:
    """Close all channels of the running event loop."""
    for found in _channels.pop(asyncio.get_running_loop(), {}).values():
        await found.channel.close()
