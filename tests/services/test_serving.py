"""Servers and connections: TLS, limits, deadlines, first contact."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
from grpc import StatusCode

from omniloop.core import geometry
from omniloop.core.calls import CallFunnel, RetryRule
from omniloop.core.contracts import GroundRequest, SessionInfo
from omniloop.core.errors import (
    ConfigError,
    OmniloopError,
    SceneError,
    ServiceError,
    TransientError,
)
from omniloop.core.local import as_service
from omniloop.core.registry import create
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.services.connection import Connection, Settings, close_channels, open_channels
from omniloop.services.controller_client import RemoteController
from omniloop.services.ground_client import RemoteGround
from omniloop.services.ground_server import PhysicsServicer
from omniloop.services.protos import physics_pb2 as pb
from omniloop.services.protos.common_pb2 import AvailableScenesReturn, Empty, VersionId
from omniloop.services.rpc import MIB, Caller, Refusal
from omniloop.services.serving import Listening, start_server
from omniloop.services.shelf import SceneShelf

SERVICE = pb.DESCRIPTOR.services_by_name["PhysicsService"]
SCENE = EmbeddedScenes().load("straight_road")
INFO = SessionInfo("s/0", SCENE, 0, SCENE.vehicle, SCENE.start_us, SCENE.start_us, SCENE.end_us)


def flat() -> PhysicsServicer:
    return PhysicsServicer(
        as_service("ground", create("ground", "flat", {})), SceneShelf(EmbeddedScenes())
    )


class Hung(PhysicsServicer):
    async def get_available_scenes(self, request: Any, caller: Caller) -> Any:
        await asyncio.sleep(3600)


class Unsteady(PhysicsServicer):
    """Fails its first two calls as a server that is just starting."""

    calls = 0

    async def get_available_scenes(self, request: Any, caller: Caller) -> Any:
        self.calls += 1
        if self.calls < 3:
            raise Refusal(StatusCode.UNAVAILABLE, "just starting")
        return AvailableScenesReturn(scene_ids=["*"])


class Weighing(PhysicsServicer):
    request_bytes = 0

    async def ground_intersection(self, request: Any, caller: Caller) -> Any:
        self.request_bytes = request.ByteSize()
        return await super().ground_intersection(request, caller)


def boxes(count: int) -> GroundRequest:
    poses = np.tile(geometry.pose(1.0, 1.0, 1.0, 0.5), (count, 1))
    times = np.arange(count, dtype=np.int64) + 1
    return GroundRequest(poses, np.ones((count, 3)), times, 0, count, is_ego=False)


def with_server(
    servicer: PhysicsServicer,
    use: Callable[[int], Awaitable[Any]],
    listening: Listening = Listening(),  # noqa: B008 - frozen
) -> Any:
    async def run() -> Any:
        server, port = await start_server([servicer], listening)
        try:
            return await use(port)
        finally:
            await close_channels()
            await server.stop(None)

    return asyncio.run(run())


async def correct(client: RemoteGround, count: int = 1) -> int:
    await client.connect()
    result = await (await client.open(INFO)).correct(boxes(count))
    return len(result.status)


# ------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder: Path = tmp_path_factory.mktemp("pem")
    authority, stranger = trustme.CA(), trustme.CA()
    files = {
        "ca": authority.cert_pem.bytes(),
        "other_ca": stranger.cert_pem.bytes(),
    }
    for name, signer in (("server", authority), ("client", authority), ("stranger", stranger)):
        leaf = signer.issue_cert("localhost")
        files[f"{name}_cert"] = leaf.cert_chain_pems[0].bytes()
        files[f"{name}_key"] = leaf.private_key_pem.bytes()
    for name, data in files.items():
        (folder / f"{name}.pem").write_bytes(data)
    return {name: str(folder / f"{name}.pem") for name in files}


NEVER_S = 1.0
"""How long first contact is waited for that never comes about."""


def ground_over_tls(port: int, connect_timeout_s: float = 60.0, **tls: str) -> RemoteGround:
    return RemoteGround(f"localhost:{port}", tls=tls, connect_timeout_s=connect_timeout_s)


def ground_without_tls(port: int) -> RemoteGround:
    return RemoteGround(f"localhost:{port}", connect_timeout_s=NEVER_S)


def test_an_encrypted_service_is_called_by_who_trusts_it(pem: dict[str, str]) -> None:
    listening = Listening(tls_cert=pem["server_cert"], tls_key=pem["server_key"])
    assert with_server(flat(), lambda p: correct(ground_over_tls(p, ca=pem["ca"])), listening) == 1
    with pytest.raises(ConfigError, match="nothing answers"):
        with_server(
            flat(), lambda p: correct(ground_over_tls(p, NEVER_S, ca=pem["other_ca"])), listening
        )
    with pytest.raises(ConfigError, match="nothing answers"):
        with_server(flat(), lambda p: correct(ground_without_tls(p)), listening)


def test_a_server_that_asks_for_certificates_turns_strangers_away(pem: dict[str, str]) -> None:
    listening = Listening(
        tls_cert=pem["server_cert"], tls_key=pem["server_key"], tls_client_ca=pem["ca"]
    )
    known = {"ca": pem["ca"], "cert": pem["client_cert"], "key": pem["client_key"]}
    strange = {"ca": pem["ca"], "cert": pem["stranger_cert"], "key": pem["stranger_key"]}
    assert with_server(flat(), lambda p: correct(ground_over_tls(p, **known)), listening) == 1
    for wrong in ({"ca": pem["ca"]}, strange):
        with pytest.raises(OmniloopError):
            with_server(
                flat(), lambda p, w=wrong: correct(ground_over_tls(p, NEVER_S, **w)), listening
            )


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        ({"ca": "no/such.pem"}, "tls.ca cannot be read"),
        ({"cert": __file__}, "come together"),
        ({"certificate": "x"}, "Did you mean 'cert'"),
    ],
)
def test_wrong_tls_files_are_named_before_the_start(tls: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RemoteGround("h:1", tls=tls)


def test_a_server_needs_both_its_files(pem: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="come together"):
        with_server(flat(), correct, Listening(tls_cert=pem["server_cert"]))
    with pytest.raises(ConfigError, match="needs --tls-cert"):
        with_server(flat(), correct, Listening(tls_client_ca=pem["ca"]))


# ------------------------------------------------------------------ limits, deadlines


def test_a_large_message_passes_and_a_larger_one_names_the_setting() -> None:
    boxes_over_4_mib, boxes_over_1_mib = 54_000, 14_000
    patient = {"ground_intersection": 150.0}  # so many boxes take seconds
    use = lambda p: correct(RemoteGround(f"127.0.0.1:{p}", timeouts_s=patient), boxes_over_4_mib)  # noqa: E731
    server = Weighing(as_service("ground", create("ground", "flat", {})), SceneShelf(EmbeddedScenes()))  # fmt: skip
    assert with_server(server, use) == boxes_over_4_mib
    assert server.request_bytes > 4 * MIB  # where gRPC stops on its own
    small = lambda p: correct(RemoteGround(f"127.0.0.1:{p}", max_message_mib=1), boxes_over_1_mib)  # noqa: E731
    with pytest.raises(ServiceError, match="too large") as caught:
        with_server(flat(), small)
    assert "ground.max_message_mib" in caught.value.remedy


def connection_to(port: int, timeout_s: float) -> Connection:
    return Connection(
        "ground",
        SERVICE,
        f"127.0.0.1:{port}",
        Settings(timeouts_s={"get_available_scenes": timeout_s}),
    )


def test_a_service_that_hangs_meets_its_deadline() -> None:
    hung = Hung(as_service("ground", create("ground", "flat", {})), SceneShelf(EmbeddedScenes()))

    async def use(port: int) -> Any:
        connection = connection_to(port, 0.1)
        return await connection.call("get_available_scenes", Empty(), CallFunnel("s/0"), 5)

    with pytest.raises(
        TransientError, match=r"did not answer get_available_scenes within 0\.1 s"
    ) as caught:
        with_server(hung, use)
    assert caught.value.where.startswith("s/0, ground.get_available_scenes at 5 us, 127.0.0.1:")


def test_a_passing_cause_is_tried_again_and_counted() -> None:
    unsteady = Unsteady(
        as_service("ground", create("ground", "flat", {})), SceneShelf(EmbeddedScenes())
    )
    funnel = CallFunnel("s/0")
    rule = RetryRule((0.01, 0.01), lambda error: isinstance(error, TransientError))

    async def use(port: int) -> Any:
        return await connection_to(port, 60.0).call(
            "get_available_scenes", Empty(), funnel, retry=rule
        )

    assert with_server(unsteady, use).scene_ids == ["*"]
    assert funnel.stats["ground.get_available_scenes"].retries == 2


def test_a_cause_that_stays_ends_after_the_last_attempt() -> None:
    hung = Hung(as_service("ground", create("ground", "flat", {})), SceneShelf(EmbeddedScenes()))
    rule = RetryRule((0.01,), lambda error: isinstance(error, TransientError))

    async def use(port: int) -> Any:
        return await connection_to(port, 0.05).call(
            "get_available_scenes", Empty(), CallFunnel("s"), retry=rule
        )

    with pytest.raises(TransientError, match="after 2 attempts"):
        with_server(hung, use)


# ----------------------------------------------------------------------- first contact


def test_clients_of_one_address_share_a_channel() -> None:
    async def use(port: int) -> int:
        for _ in range(3):
            await correct(RemoteGround(f"127.0.0.1:{port}"))
        return open_channels()

    assert with_server(flat(), use) == 1


def test_a_channel_stays_until_the_last_client_lets_go_of_it() -> None:
    async def use(port: int) -> list[int]:
        one, two = (RemoteGround(f"127.0.0.1:{port}") for _ in range(2))
        await correct(one)
        await correct(two)
        counts = []
        for client in (one, one, two):
            await client.disconnect()
            counts.append(open_channels())
            if client is one:
                await (await two.open(INFO)).correct(boxes(1))
        return counts

    assert with_server(flat(), use) == [1, 1, 0]


def test_an_address_where_nothing_listens_is_named() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(ConfigError, match=rf"nothing answers at {address} within 0\.3 s"):
            asyncio.run(RemoteGround(address, connect_timeout_s=0.3).connect())


class OtherVersion(PhysicsServicer):
    version = VersionId(version_id="other", grpc_api_version={"major": 1})

    async def get_version(self, request: Any, caller: Caller) -> Any:
        return self.version


class OtherBuild(OtherVersion):
    version = VersionId(version_id="other", grpc_api_version={"minor": 55})


def test_another_major_version_of_the_interface_is_refused() -> None:
    server = OtherVersion(
        as_service("ground", create("ground", "flat", {})), SceneShelf(EmbeddedScenes())
    )
    with pytest.raises(ConfigError, match=r"speaks version 1\.0\.0 of the interface"):
        with_server(server, lambda p: RemoteGround(f"127.0.0.1:{p}").connect())


def test_addresses_that_run_different_versions_are_refused() -> None:
    other = OtherBuild(
        as_service("ground", create("ground", "flat", {})), SceneShelf(EmbeddedScenes())
    )

    async def run() -> None:
        servers = [await start_server([s], Listening()) for s in (flat(), other)]
        ports = [port for _, port in servers]
        try:
            await RemoteGround(",".join(f"127.0.0.1:{p}" for p in ports)).connect()
        finally:
            await close_channels()
            for server, _ in servers:
                await server.stop(None)

    with pytest.raises(ConfigError, match="run different versions"):
        asyncio.run(run())


def test_another_service_at_the_address_is_named() -> None:
    from omniloop.services.protos import controller_pb2

    async def use(port: int) -> None:
        service = controller_pb2.DESCRIPTOR.services_by_name["VDCService"]
        connection = Connection("controller", service, f"127.0.0.1:{port}", Settings())
        await connection.introduce("get_version", Empty(), CallFunnel("first contact"))

    with pytest.raises(ServiceError, match="does not implement get_version") as caught:
        with_server(flat(), use)
    assert "serves this protocol" in caught.value.remedy


def test_a_port_that_is_taken_is_named() -> None:
    async def use(port: int) -> None:
        await start_server([flat()], Listening(port=port))

    with pytest.raises(
        ConfigError, match=r"cannot listen at 127\.0\.0\.1:\d+: Address already in use"
    ):
        with_server(flat(), use)


def test_a_client_of_another_service_is_told_before_the_start() -> None:
    with pytest.raises(
        ConfigError, match=r"does not introduce itself as controller\.VDCService"
    ) as caught:
        with_server(flat(), lambda port: RemoteController(f"127.0.0.1:{port}").connect())
    assert caught.value.where == "controller.address"
    assert "serves this protocol" in caught.value.remedy


def test_a_file_that_is_no_pem_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no certificate")
    with pytest.raises(ConfigError, match="--tls-key is no PEM file"):
        Listening(tls_cert=str(path), tls_key=str(path)).credentials()
    with pytest.raises(ConfigError, match=r"tls\.ca is no PEM file"):
        RemoteGround("h:1", tls={"ca": str(path)})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"timeouts_s": 3}, "timeouts_s is 3"),
        ({"tls": True}, "tls is True"),
        ({"max_message_mib": 5000}, "max_message_mib is 5000"),
        ({"sessions": "many"}, "sessions is 'many'"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        RemoteGround("h:1", **settings)
    assert caught.value.where == f"ground.{next(iter(settings))}"


def test_a_scene_that_the_server_lacks_is_a_scene_error() -> None:
    async def use(port: int) -> Any:
        request = pb.PhysicsGroundIntersectionRequest(scene_id="nowhere")
        return await connection_to(port, 60.0).call("ground_intersection", request, CallFunnel("s"))

    with pytest.raises(SceneError, match="Unknown scene 'nowhere'"):
        with_server(flat(), use)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"timeouts_s": {"ground_intersect": 3}}, "Did you mean 'ground_intersection'"),
        ({"timeouts_s": {"get_version": 0}}, "ground.timeouts_s.get_version is 0"),
        ({"connect_timeout_s": -1}, "ground.connect_timeout_s is -1"),
        ({"max_message_mib": True}, "ground.max_message_mib is True"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RemoteGround("h:1", **settings)


def test_a_server_tells_what_it_serves_and_addresses_that_serve_other_things_are_refused() -> None:
    async def run() -> None:
        servers, ports = [], []
        for name in ("flat", "raster"):
            servicer = flat()
            servicer.served = name
            server, port = await start_server([servicer], Listening())
            servers.append(server)
            ports.append(port)
        try:
            one = RemoteGround(f"127.0.0.1:{ports[0]}")
            await one.connect()
            (facts,) = one.versions.values()
            assert facts["version_id"].endswith(" flat")
            with pytest.raises(ConfigError, match="raster"):
                await RemoteGround(",".join(f"127.0.0.1:{p}" for p in ports)).connect()
        finally:
            await close_channels()
            for server in servers:
                await server.stop(None)

    asyncio.run(run())
