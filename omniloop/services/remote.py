"""What all clients have in common: settings, addresses, first contact, leases."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from omniloop.core.calls import CallFunnel
from omniloop.core.errors import ConfigError, OmniloopError, SceneError, nearest
from omniloop.core.scene import Scene
from omniloop.services.connection import (
    OWN,
    Answers,
    Connection,
    Loopback,
    Settings,
    Tls,
    wait_ready,
)
from omniloop.services.pool import Lease, Pool, parse_addresses, parse_capacity
from omniloop.services.protos.common_pb2 import Empty
from omniloop.services.rpc import (
    API_VERSION,
    MAX_MESSAGE_MIB,
    VERSION_KEY,
    methods_of,
    version_facts,
)

ANY_SCENE = "*"


@dataclass(frozen=True)
class Peer:
    """What first contact told about an address.

    Attributes:
        version: As run.yaml holds it.
        metadata: The peer's initial metadata.
        scenes: Ids that it serves; None if it was not asked, or serves any.
        reply: Its whole reply; None before first contact.
    """

    version: dict[str, str]
    metadata: Mapping[str, str] = field(default_factory=dict)
    scenes: frozenset[str] | None = None
    reply: Any = None

    @property
    def is_omniloop(self) -> bool:
        """Whether it is a server of this project, which understands its extensions."""
        return VERSION_KEY in self.metadata


class RemoteService:
    """The common part of a client; its keyword arguments are config keys of every client.

    Args:
        address: ``HOST:PORT``, several with commas between.
        sessions: Rollouts at once at each address: one number for all or a list; None for any.
        timeouts_s: Deadline by method, over the defaults.
        tls: Files: ``{ca: ..., cert: ..., key: ...}``; an empty mapping uses the system's roots.
        connect_timeout_s: How long first contact may take.
        max_message_mib: Largest message either way.

    Raises:
        ConfigError: a setting is wrong.
    """

    kind: ClassVar[str]
    service: ClassVar[ServiceDescriptor]
    timeouts_s: ClassVar[Mapping[str, float]] = {}
    version_method: ClassVar[str] = "get_version"
    asks_for_scenes: ClassVar[bool] = False

    def __init__(
        self,
        address: str,
        sessions: int | Sequence[int] | None = None,
        timeouts_s: Mapping[str, float] | None = None,
        tls: Mapping[str, str] | None = None,
        connect_timeout_s: float = 20.0,
        max_message_mib: int = 64,
    ) -> None:
        kind = self.kind
        self._settings = Settings(
            timeouts_s={**self.timeouts_s, **self._checked_timeouts(timeouts_s or {})},
            tls=None if tls is None else _tls(tls, kind),
            max_message_mib=_message_mib(max_message_mib, f"{kind}.max_message_mib"),
        )
        self._connect_timeout_s = _positive(connect_timeout_s, f"{kind}.connect_timeout_s")
        addresses = parse_addresses(address, f"{kind}.address")
        self._pool = Pool(
            [Connection(kind, self.service, a, self._settings) for a in addresses],
            parse_capacity(sessions, len(addresses), f"{kind}.sessions"),
        )
        self.peers: dict[str, Peer] = {}

    def loop_back(self, server: Answers) -> None:
        """Talk to a server in this process instead of an address."""
        self._pool = Pool([Loopback(self.kind, self.service, server, self._settings)], [None])

    def _checked_timeouts(self, given: Mapping[str, float]) -> dict[str, float]:
        known = methods_of(self.service)
        if not isinstance(given, Mapping):
            raise ConfigError(
                f"timeouts_s is {given!r}", where=f"{self.kind}.timeouts_s",
                remedy=f"give seconds by method, such as {self.kind}.timeouts_s.{next(iter(known))}=30",
            )  # fmt: skip
        for method, seconds in given.items():
            key = f"{self.kind}.timeouts_s.{method}"
            if method not in known:
                raise ConfigError(
                    f"there is no method '{method}'.{nearest(method, known)}", where=key,
                    remedy=f"methods: {', '.join(known)}",
                )  # fmt: skip
            _positive(seconds, key)
        return dict(given)

    @property
    def versions(self) -> dict[str, dict[str, str]]:
        """What runs at each address, as first contact told."""
        return {address: peer.version for address, peer in self.peers.items()}

    @property
    def capacity(self) -> int | None:
        """Rollouts at once over all addresses; None for any number."""
        return self._pool.capacity

    async def connect(self) -> None:
        """First contact with every address: readiness, versions, scenes.

        Raises:
            ConfigError: an address does not answer, speaks another version, or two differ.
        """
        for connection in self._pool.connections:
            connection.hold(self)
        found = await asyncio.gather(*(self._meet(c) for c in self._pool.connections))
        self.peers = {c.address: p for c, p in zip(self._pool.connections, found, strict=True)}
        first = self._pool.connections[0].address
        for address, peer in self.peers.items():
            if peer.version != self.peers[first].version:
                raise ConfigError(
                    f"{first} and {address} run different versions: {self.peers[first].version}"
                    f" and {peer.version}",
                    where=f"{self.kind}.address", remedy="run the same version at every address",
                )  # fmt: skip

    async def _meet(self, connection: Connection) -> Peer:
        if not isinstance(connection, Loopback):
            await wait_ready(connection.address, self._settings, self._connect_timeout_s, self.kind)
        funnel = CallFunnel("first contact")
        try:
            reply, metadata = await connection.introduce(self.version_method, Empty(), funnel)
        except OmniloopError as error:
            raise ConfigError(
                f"{connection.address} does not introduce itself as {self.service.full_name}:"
                f" {error.what}",
                where=f"{self.kind}.address", remedy=error.remedy,
            ) from error  # fmt: skip
        version = reply.version_id if self.version_method == "get_metadata" else reply
        facts = version_facts(version)
        major = version.grpc_api_version.major
        if major != API_VERSION[0]:
            raise ConfigError(
                f"{connection.address} speaks version {facts['api']} of the interface, Omniloop"
                f" version {'.'.join(map(str, API_VERSION))}",
                where=f"{self.kind}.address", remedy="use a server of the v0 interface",
            )  # fmt: skip
        scenes = None
        if self.asks_for_scenes:
            listed = await connection.call("get_available_scenes", Empty(), funnel)
            scenes = None if ANY_SCENE in listed.scene_ids else frozenset(listed.scene_ids)
        peer = Peer(facts, metadata, scenes, reply)
        connection.own = OWN if peer.is_omniloop else ()
        return peer

    async def disconnect(self) -> None:
        """Close its channels of the running event loop that no other service holds."""
        await asyncio.gather(*(c.let_go(self) for c in self._pool.connections))

    def check_scene(self, scene: Scene) -> None:
        """Refuse a scene that some address does not serve.

        Raises:
            SceneError: an address lists its scenes, and not this one.
        """
        for address, peer in self.peers.items():
            if peer.scenes is not None and scene.id not in peer.scenes:
                some = ", ".join(sorted(peer.scenes)[:5]) or "none"
                raise SceneError(
                    f"{self.kind} at {address} does not serve scene '{scene.id}'",
                    where=f"{self.kind}.address", remedy=f"serve it there too; it serves: {some}",
                )  # fmt: skip

    async def lease(self, address: str = "") -> Lease:
        """Wait for a session of the pool; at an address, if one is given."""
        return await self._pool.lease(address)

    @property
    def limits(self) -> dict[str, int | None]:
        """Sessions at once by address; None for any number."""
        return self._pool.limits

    def peer(self, connection: Connection) -> Peer:
        """What is known of a connection's address."""
        return self.peers.get(connection.address, Peer({}))


def new_session_uuid() -> str:
    """A name for a session that no other run, and no earlier attempt, has.

    It is on the wire only, never in the log.
    """
    return str(uuid.uuid4())


def _tls(files: Mapping[str, str], kind: str) -> Tls:
    known = ("ca", "cert", "key")
    if not isinstance(files, Mapping):
        raise ConfigError(
            f"tls is {files!r}", where=f"{kind}.tls",
            remedy=f"give files, such as {kind}.tls.ca=FILE; {kind}.tls={{}} uses the system's roots",
        )  # fmt: skip
    for key in files:
        if key not in known:
            raise ConfigError(
                f"tls has no setting '{key}'.{nearest(key, known)}", where=f"{kind}.tls.{key}",
                remedy=f"its settings: {', '.join(known)}",
            )  # fmt: skip
    tls = Tls(**files)
    tls.credentials()  # a file that cannot be read is found before the start
    return tls


def _positive(value: Any, key: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f"{key} is {value!r}", where=key, remedy="give a positive number")
    return value


def _message_mib(value: Any, key: str) -> Any:
    if _positive(value, key) > MAX_MESSAGE_MIB:
        raise ConfigError(
            f"{key} is {value!r}", where=key, remedy=f"give at most {MAX_MESSAGE_MIB}"
        )
    return value
