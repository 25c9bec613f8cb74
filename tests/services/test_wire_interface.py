"""The compiled interface is the public one, and all of it is covered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import ServiceDescriptor

from omniloop.services.controller_client import RemoteController
from omniloop.services.controller_server import ControllerServicer
from omniloop.services.driver_client import RemotePolicy
from omniloop.services.driver_server import EgodriverServicer
from omniloop.services.ground_client import RemoteGround
from omniloop.services.ground_server import PhysicsServicer
from omniloop.services.remote import RemoteService
from omniloop.services.sensorsim_client import NuRec
from omniloop.services.sensorsim_server import SensorsimServicer
from omniloop.services.serving import Servicer
from omniloop.services.traffic_client import RemoteTraffic
from omniloop.services.traffic_server import TrafficServicer
from omniloop.services.video_client import OmniDreams
from omniloop.services.video_server import WorldModelServicer

WIRE = Path(__file__).parents[3] / "shared" / "wire"
MODULES = [
    f"omniloop.services.protos.{name}_pb2"
    for name in (
        "common", "controller", "sensorsim", "egodriver", "physics", "traffic", "video_model",
        "logging", "runtime",
    )
]  # fmt: skip
CLIENTS: tuple[type[RemoteService], ...] = (
    RemotePolicy, RemoteTraffic, RemoteController, RemoteGround, NuRec, OmniDreams,
)  # fmt: skip
SERVERS: tuple[type[Servicer], ...] = (
    EgodriverServicer, TrafficServicer, ControllerServicer, PhysicsServicer, SensorsimServicer,
    WorldModelServicer,
)  # fmt: skip


@pytest.fixture(scope="module")
def wire() -> Path:
    if not WIRE.is_dir():
        pytest.skip("the wire table ../shared/wire is not here")
    return WIRE


def test_every_message_field_and_method_is_that_of_the_public_interface(wire: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(wire / "check_wire.py"), *MODULES],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1].endswith(", 0 differ"), done.stdout
    assert done.returncode == 0


def called_by(client: type[RemoteService]) -> set[str]:
    """Methods whose name a client's code calls, besides those of first contact."""
    sources = "".join(
        path.read_text()
        for path in Path(sys.modules[client.__module__].__file__ or "").parent.glob(
            client.__module__.rpartition(".")[2].rpartition("_")[0] + "_*.py"
        )
        if "server" not in path.name
    )
    first_contact = {client.version_method}
    if client.asks_for_scenes:
        first_contact.add("get_available_scenes")
    return first_contact | {
        method.name for method in client.service.methods if f'"{method.name}"' in sources
    }


def named(service: ServiceDescriptor, methods: set[str]) -> set[str]:
    return {f"{service.full_name}/{method}" for method in methods}


def test_every_method_of_the_table_has_a_client_and_a_server(wire: Path) -> None:
    table = json.loads((wire / "alpasim_v0.json").read_text())
    wanted = {
        f"{service.lstrip('.')}/{method}"
        for proto, content in table.items()
        if proto != "about"
        for service, methods in content["services"].items()
        for method in methods
        if service.lstrip(".")
        != "RuntimeService"  # the daemon's own interface, no service of a rollout
    }
    clients = set().union(*(named(c.service, called_by(c)) for c in CLIENTS))
    servers = set().union(
        *(
            named(
                s.service, {m.name for m in s.service.methods if callable(getattr(s, m.name, None))}
            )
            for s in SERVERS
        )
    )
    assert wanted - clients == set()
    assert wanted - servers == set()
