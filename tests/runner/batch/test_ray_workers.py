"""The same run on a Ray cluster: two nodes on this machine, the same results, nothing lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import omniloop
from omniloop.configs.compose import compose
from omniloop.core.errors import ConfigError
from omniloop.live.events import Event, RolloutEnded, WorkerLost
from omniloop.runlog.digest import digest_run
from omniloop.runner.batch.ray_workers import RayWorkers, connect
from omniloop.runner.run import Finished, execute

ray = pytest.importorskip("ray")

SMALL = [
    "renderer=none", "scenes.ids=curve,straight_road", "sync.duration_s=1.0",
    "policy=constant_velocity", "run.seeds=4",
]  # fmt: skip


class Told(list[Event]):
    """A listener that keeps what it is told."""

    def tell(self, event: Event) -> None:
        self.append(event)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A cluster of two nodes with one CPU each, as two machines would be."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    nodes = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    nodes.add_node(num_cpus=1)
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
    found = []
    for name in sorted(os.listdir("/proc")):
        if name.isdecimal():
            try:
                text = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if text.startswith(b"ray::_Actor"):
                found.append(int(name))
    return found


def test_an_address_without_a_cluster_is_a_clear_error() -> None:
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(ConfigError, match="no Ray cluster can be used"):
        connect("127.0.0.1:1")


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
