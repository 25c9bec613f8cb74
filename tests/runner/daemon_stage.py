"""A daemon in this process on a real port, drivers beside it, and a client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest import mock

from google.protobuf.message import Message
from grpc import StatusCode, aio

from omniloop.configs.compose import compose
from omniloop.core.contracts import Observation, Plan, PolicySpec
from omniloop.core.local import as_service
from omniloop.core.registry import create
from omniloop.runner import daemon_request
from omniloop.runner.batch import local
from omniloop.runner.daemon import Daemon, DaemonRules
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.services.driver_server import EgodriverServicer
from omniloop.services.protos import runtime_pb2 as pb
from omniloop.services.roles import servicers
from omniloop.services.rpc import Caller, Refusal, methods_of
from omniloop.services.runtime_server import RuntimeServicer
from omniloop.services.serving import Listening, start_server
from omniloop.services.shelf import SceneShelf

SHORT = ("renderer=none", "metrics=alpasim", "sync.duration_s=1.0")
LONG_S = 300.0
"""For what should come at once; only a defect takes longer, however busy the machine is."""
_SERVICE = pb.DESCRIPTOR.services_by_name["RuntimeService"]


class Client:
    """Calls RuntimeService."""

    def __init__(self, port: int) -> None:
        limits = [("grpc.max_receive_message_length", 100 << 20)]
        self.channel = aio.insecure_channel(f"127.0.0.1:{port}", limits)

    def call(self, name: str, request: Message, metadata: Any = None) -> Any:
        """Begin a call; await it for its reply, or cancel it."""
        method = methods_of(_SERVICE)[name]
        return self.channel.unary_unary(
            method.path, method.request.SerializeToString, method.reply.FromString
        )(request, metadata=metadata, timeout=LONG_S)

    def simulate(
        self,
        *specs: tuple[str, int] | tuple[str, int, list[str]],
        drivers: tuple[int, ...] = (),
        at_once: int = 2,
        metadata: Any = None,
    ) -> Any:
        """Begin to simulate: scene, number of rollouts, and session uuids if there are any."""
        addresses = [
            pb.SimulationRequest.DriverAddress(ip="127.0.0.1", port=port) for port in drivers
        ]
        rollouts = [
            pb.RolloutSpec(
                scenario_id=scene, nr_rollouts=count, session_uuids=uuids[0] if uuids else []
            )
            for scene, count, *uuids in specs
        ]
        request = pb.SimulationRequest(
            available_drivers=addresses, rollout_specs=rollouts, n_concurrent_per_driver=at_once
        )
        return self.call("simulate", request, metadata)


class Watched(EgodriverServicer):
    """A driver server that knows which sessions it had, and how many are open."""

    def __init__(self, policy: Any) -> None:
        super().__init__(as_service("policy", policy), SceneShelf(EmbeddedScenes()))
        self.began: list[str] = []
        self._at_present: set[str] = set()
        self.most = 0

    async def start_session(self, request: Any, caller: Caller) -> Any:
        reply = await super().start_session(request, caller)
        self.began.append(request.session_uuid)
        self._at_present.add(request.session_uuid)
        self.most = max(self.most, self.open)
        return reply

    async def close_session(self, request: Any, caller: Caller) -> Any:
        self._at_present.discard(request.session_uuid)
        return await super().close_session(request, caller)

    @property
    def open(self) -> int:
        """Sessions at present."""
        return len(self._at_present)


class Interrupted(Watched):
    """Cannot be reached in its first session, which is left open."""

    failures = 2

    async def answer(self, method: str, request: Any, caller: Caller) -> Any:
        if method in ("drive", "close_session") and self.failures:
            self.failures -= 1
            raise Refusal(StatusCode.UNAVAILABLE, "interrupted")
        return await super().answer(method, request, caller)


class Held:
    """Stands where it is, and thinks about it until it is let go; made in a running event loop."""

    spec = PolicySpec(horizon_s=2.0)

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self._inner = create("policy", "brake_to_stop", {})

    async def plan(self, observation: Observation) -> Plan:
        await self.go.wait()
        return self._inner.plan(observation)


@contextlib.asynccontextmanager
async def driver(
    policy: Any, served: type[Watched] = Watched
) -> AsyncIterator[tuple[Watched, int]]:
    """Serve a policy."""
    servicer = served(policy)
    server, port = await start_server([servicer], Listening())
    try:
        yield servicer, port
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def service(kind: str, name: str, port: int) -> AsyncIterator[int]:
    """Serve a plugin of any kind."""
    plugin = as_service(kind, create(kind, name, {}))
    shelf = SceneShelf(EmbeddedScenes())
    server, port = await start_server(servicers(kind, plugin, shelf), Listening(port=port))
    try:
        yield port
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def daemon(runs: Path, *settings: str, **rules: Any) -> AsyncIterator[tuple[Daemon, Client]]:
    """Run a daemon that gives drivers and workers all the time that they need."""
    found = Daemon(compose([*SHORT, *settings]), DaemonRules(runs, **rules))
    patient = {"connect_timeout_s": LONG_S, "timeouts_s": {"close_session": LONG_S}}
    with (
        mock.patch.dict(daemon_request._DRIVER, patient),
        mock.patch.object(local, "_CANCEL_S", LONG_S),
    ):
        await found.start()
        server, port = await start_server([RuntimeServicer(found)], Listening())
        client = Client(port)
        try:
            yield found, client
        finally:
            await client.channel.close()
            found.cancel()
            await found.drained()
            await server.stop(None)
            await found.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.005)
