"""A service, or the broker, is killed and started again while a batch runs: no rollout is lost, none is done twice."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from omniloop.bench.batch_kill import served_policy
from omniloop.bench.batch_live import broker
from omniloop.configs.compose import compose
from omniloop.live.events import Event, Progress, RolloutEnded
from omniloop.runlog.digest import digest_run
from omniloop.runner.run import Finished, execute

pytestmark = pytest.mark.timeout(600)

SMALL = ["renderer=none", "scenes.ids=curve,straight_road", "sync.duration_s=1.0", "run.seeds=6"]


class Told(list[Event]):
    """A listener that keeps what it is told."""

    def tell(self, event: Event) -> None:
        self.append(event)


def run(folder: Path, name: str, address: str, told: Told, *settings: str) -> Finished:
    return execute(
        compose([
            *SMALL, "policy=remote", f"policy.address={address}", "policy.connect_timeout_s=300",
            f"run.dir={folder}", f"run.name={name}", *settings,
        ]),
        (told,),
    )  # fmt: skip


@dataclass
class Service:
    """A served policy, what kills it and starts it again, and the digests of a run with it."""

    address: str
    restart: Callable[[random.Random], None]
    undisturbed: list[tuple[str, str]]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with served_policy() as (address, restart):
        run(folder, "run", address, Told())
        yield Service(address, restart, digest_run(folder / "run"))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_service_killed_at_any_moment_costs_no_rollout(
    tmp_path: Path, service: Service, seed: int
) -> None:
    moment = random.Random(seed)
    after = moment.randrange(0, 9)
    killers: list[threading.Thread] = []

    class Kills(Told):
        def tell(self, event: Event) -> None:
            super().tell(event)
            ended = sum(isinstance(e, RolloutEnded) for e in self)
            if not killers and ended >= after:
                killers.append(threading.Thread(target=service.restart, args=(moment,)))
                killers[0].start()

    told = Kills()
    first = run(tmp_path, "run", service.address, told, "run.workers=2", "run.concurrency=4")
    killers[0].join()
    last = run(tmp_path, "run", service.address, Told(), "run.resume=true")
    assert [r.outcome for r in last.results] == ["completed"] * 12
    assert last.resumed >= sum(r.outcome == "completed" for r in first.results)
    assert digest_run(tmp_path / "run") == service.undisturbed
    kept = [e.result for e in told if isinstance(e, RolloutEnded) and e.retry_in_s is None]
    assert len({r.session_id for r in kept}) == len(kept) == 12


@pytest.mark.parametrize(("seed", "workers"), [(0, 1), (1, 1), (2, 2)])
def test_a_broker_killed_at_any_moment_changes_nothing(
    tmp_path: Path, without_broker: list[tuple[str, str]], seed: int, workers: int
) -> None:
    moment = random.Random(seed)
    after, is_replaced, killed = moment.randrange(0, 9), seed != 0, False
    with broker() as local:

        class Kills(Told):
            def tell(self, event: Event) -> None:
                nonlocal killed
                super().tell(event)
                ended = sum(isinstance(e, RolloutEnded) for e in self)
                if ended == after and not isinstance(event, Progress) and not killed:
                    killed = True
                    local.kill()
                    if is_replaced:
                        local.restart(0.0)

        finished = execute(
            compose([
                *SMALL, "policy=constant_velocity", f"run.workers={workers}", f"run.dir={tmp_path}",
                "run.name=run", f"run.mqtt=mqtt://127.0.0.1:{local.port}/tests",
            ]),
            (Kills(),),
        )  # fmt: skip
    assert killed
    assert [r.outcome for r in finished.results] == ["completed"] * 12
    assert digest_run(tmp_path / "run") == without_broker


@pytest.fixture(scope="module")
def without_broker(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    folder = tmp_path_factory.mktemp("without_broker")
    execute(compose([*SMALL, "policy=constant_velocity", f"run.dir={folder}", "run.name=run"]))
    return digest_run(folder / "run")
