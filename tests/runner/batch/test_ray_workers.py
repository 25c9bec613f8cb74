"""The same run on a Ray cluster: two nodes on this machine, the same results, nothing lost."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import psutil
import pytest

import omniloop
from omniloop.configs.compose import compose
from omniloop.core.errors import ConfigError
from omniloop.live.events import Event, RolloutEnded, WorkerLost
from omniloop.runlog.digest import digest_run
from omniloop.runner.batch import ray_address, ray_workers
from omniloop.runner.batch.ray_workers import RayWorkers, connect
from omniloop.runner.run import Finished, execute

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.timeout(900)  # a cluster starts slowly where cores are scarce

SMALL = [
    "renderer=none", "scenes.ids=curve,straight_road", "sync.duration_s=1.0",
    "policy=constant_velocity", "run.seeds=4",
]  # fmt: skip


class Told(list[Event]):
    """A listener that keeps what it is told."""

    def tell(self, event: Event) -> None:
        self.append(event)


class _Slow:
    """The module `time`, whose clock goes ten times slower."""

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)

    def monotonic(self) -> float:
        return time.monotonic() / 10


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A cluster of two nodes with one CPU each, as two machines would be, and patient with both."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_register_timeout_seconds", "600")
        patch.setenv("RAY_gcs_server_port_wait_time_s", "300")
        patch.setenv("RAY_health_check_failure_threshold", "100")
        patch.setattr(ray_workers, "_START_S", 600.0)
        patch.setattr("ray._private.node.time", _Slow())  # it gives a node 30 s to start
        head = {"num_cpus": 1, "include_dashboard": False, "wait": False}
        nodes = Cluster(initialize_head=True, head_node_args=head)
        nodes.wait_for_nodes(300)
        nodes.add_node(num_cpus=1, wait=False)
        nodes.wait_for_nodes(300)
        connect(nodes.address)
        yield nodes.address
        ray.shutdown()
        nodes.shutdown()


def run(folder: Path, name: str, *settings: str, told: tuple[Told, ...] = ()) -> Finished:
    return execute(compose([*SMALL, f"run.dir={folder}", f"run.name={name}", *settings]), told)


def on_ray(address: str) -> list[str]:
    return ["run.executor=ray", f"run.ray_address={address}"]


def test_a_run_on_two_nodes_that_loses_a_worker_leaves_the_same_as_one_here(
    cluster: str, tmp_path: Path
) -> None:
    run(tmp_path, "here", "run.workers=1")

    class Kills(Told):
        def tell(self, event: Event) -> None:
            super().tell(event)
            ended = sum(isinstance(e, RolloutEnded) for e in self)
            if isinstance(event, RolloutEnded) and ended == 2:
                os.kill(actor_pids()[0], signal.SIGKILL)

    told = Kills()
    there = run(tmp_path, "there", *on_ray(cluster), "run.concurrency=4", told=(told,))
    assert sum(node["Alive"] for node in ray.nodes()) == 2
    assert any(isinstance(event, WorkerLost) for event in told)
    assert [r.outcome for r in there.results] == ["completed"] * 8
    assert digest_run(tmp_path / "there") == digest_run(tmp_path / "here")
    files = {
        name: sorted(str(p.relative_to(tmp_path / name)) for p in (tmp_path / name).rglob("*"))
        for name in ("here", "there")
    }
    assert files["there"] == files["here"]
    kept = [e.result.session_id for e in told if isinstance(e, RolloutEnded) and e.retry_in_s is None]  # fmt: skip
    assert len(kept) == len(set(kept)) == 8


def actor_pids() -> list[int]:
    """Those of this process's clusters; another's tests may have some, too."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::_Actor"):
                found.append(process.pid)
    return sorted(found)


def test_an_address_without_a_cluster_is_a_clear_error() -> None:
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(ConfigError, match="no Ray cluster can be used"):
        connect("127.0.0.1:1")


@pytest.fixture
def silent() -> Iterator[str]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def http() -> Iterator[str]:
    """A web server."""
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def service() -> Iterator[str]:
    """A gRPC server, as those of policies and renderers are."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("listener", "prefix", "why"),
    [
        ("http", "", "does not speak gRPC"),
        ("http", "ray://", "does not speak gRPC"),
        ("service", "", "is another gRPC service"),
        ("silent", "", r"gives no answer within 0\.3 s"),
    ],
)
def test_what_listens_and_is_no_ray_is_refused_before_ray_tries(
    listener: str,
    prefix: str,
    why: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if ray.is_initialized():
        ray.shutdown()
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray itself was asked"))
    monkeypatch.setattr(ray_address, "_ANSWER_S", 0.3 if listener == "silent" else 120.0)
    address = request.getfixturevalue(listener)
    with pytest.raises(ConfigError, match=f"what listens at {address} {why}") as refused:
        connect(prefix + address)
    assert refused.value.where == f"run.ray_address={prefix}{address}"
    assert "ray start --head" in refused.value.remedy


def test_what_asks_for_tls_is_left_to_ray(http: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USE_TLS", "1")
    ray_address.check_reachable(http)


def test_a_node_with_another_version_is_refused_by_name() -> None:
    here = {"node": "10.0.0.7", "omniloop": omniloop.__version__, "ray": ray.__version__}
    workers = RayWorkers(1, None, None)
    workers._check(here)
    for package in ("omniloop", "ray"):
        with pytest.raises(ConfigError, match=f"the node 10.0.0.7 has {package} 0.0.1"):
            workers._check({**here, package: "0.0.1"})


def test_a_missing_ray_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ConfigError, match="Ray is not installed"):
        connect(None)
