"""Requests that share an executor: paused, resumed, cancelled, and fair to one another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from omniloop.configs.compose import compose
from omniloop.core.errors import ConfigError
from omniloop.live.events import Event, RolloutEnded, RolloutStarted
from omniloop.runlog.folder import RunFolder
from omniloop.runner.assemble import Setup, assemble
from omniloop.runner.batch.control import RunControl, failing, progress_of
from omniloop.runner.batch.engine import Batch, Request, Rules
from omniloop.runner.batch.executor import Source
from omniloop.runner.batch.inline import Inline
from omniloop.runner.batch.scheduler import Address, Scheduler
from omniloop.runner.job import Job
from tests.runner.batch.processes import LONG_S

pytestmark = pytest.mark.timeout(600)


class Told(list[Event]):
    """A listener that keeps what it is told."""

    def tell(self, event: Event) -> None:
        self.append(event)

    @property
    def ended(self) -> list[str]:
        return [e.result.session_id for e in self if isinstance(e, RolloutEnded)]

    @property
    def started(self) -> int:
        return sum(isinstance(e, RolloutStarted) for e in self)


@pytest.fixture(scope="module")
def setup() -> Setup:
    return assemble(
        compose(
            ["renderer=none", "scenes.ids=curve", "sync.duration_s=0.5", "policy=constant_velocity"]
        )
    )


def request(setup: Setup, folder: RunFolder, name: str, rollouts: int, told: Told) -> Request:
    jobs = [Job("curve", seed) for seed in range(rollouts)]
    return Request(Source(name, setup, folder), jobs, lambda _: "", (told,))


def with_batch(at_once: int, body: Callable[[Batch], Awaitable[None]]) -> None:
    async def main() -> None:
        batch = Batch(Inline(None), Rules(per_worker=64, concurrency=at_once))
        await batch.start()
        try:
            await asyncio.wait_for(body(batch), LONG_S)
        finally:
            await batch.stop()
        assert len(asyncio.all_tasks()) == 1  # nothing is left behind

    asyncio.run(main())


def test_a_paused_run_begins_nothing_and_goes_on_when_resumed(setup: Setup, tmp_path: Path) -> None:
    told = Told()

    async def body(batch: Batch) -> None:
        with RunFolder.acquire(tmp_path / "run") as folder:
            mine = request(setup, folder, "run", 6, told)
            control = RunControl(batch, mine, 1)
            control.pause()
            await asyncio.sleep(0)
            batch.add(mine)
            await asyncio.sleep(0.2)
            assert (told.started, control.state) == (0, "paused")
            control.resume()
            await mine.done
            assert len(told.ended) == 6
            progress = progress_of(batch, mine, control, 0)
            assert (progress.done, progress.planned, progress.outcomes) == (6, 6, {"completed": 6})

    with_batch(1, body)


def test_concurrency_can_be_set_while_a_run_goes(setup: Setup, tmp_path: Path) -> None:
    most = 0

    class Counts(Told):
        def tell(self, event: Event) -> None:
            nonlocal most
            super().tell(event)
            most = max(most, self.started - len(self.ended))

    told = Counts()

    async def body(batch: Batch) -> None:
        with RunFolder.acquire(tmp_path / "run") as folder:
            mine = request(setup, folder, "run", 12, told)
            control = RunControl(batch, mine, 1)
            control.set_concurrency(4)
            await asyncio.sleep(0)
            batch.add(mine)
            await mine.done
            with pytest.raises(ConfigError, match="concurrency is 0"):
                control.set_concurrency(0)

    with_batch(1, body)
    assert most >= 4


def test_a_cancelled_request_ends_at_once_and_others_go_on(setup: Setup, tmp_path: Path) -> None:
    gone, stays = Told(), Told()

    async def body(batch: Batch) -> None:
        with RunFolder.acquire(tmp_path / "a") as a, RunFolder.acquire(tmp_path / "b") as b:
            first = request(setup, a, "a", 200, gone)
            second = request(setup, b, "b", 5, stays)
            batch.add(first)
            batch.add(second)
            while not gone.ended:
                await asyncio.sleep(0.01)
            batch.cancel(first)
            batch.cancel(first)
            await first.done
            await second.done
            assert first.cancelled
            assert first.outcomes.total() < 200
            assert second.outcomes == {"completed": 5}
            assert not list((tmp_path / "a").glob("rollouts/*/*/.result*"))

    with_batch(2, body)


def test_a_small_request_does_not_wait_for_a_large_one(setup: Setup, tmp_path: Path) -> None:
    large, small = Told(), Told()

    async def body(batch: Batch) -> None:
        with RunFolder.acquire(tmp_path / "a") as a, RunFolder.acquire(tmp_path / "b") as b:
            first = request(setup, a, "a", 200, large)
            second = request(setup, b, "b", 5, small)
            batch.add(first)
            batch.add(second)
            await second.done
            assert len(large.ended) < 100  # turn and turn about, not 200 first
            batch.cancel(first)
            await first.done

    with_batch(2, body)


def test_a_request_without_rollouts_is_done_at_once(setup: Setup, tmp_path: Path) -> None:
    async def body(batch: Batch) -> None:
        with RunFolder.acquire(tmp_path / "run") as folder:
            mine = request(setup, folder, "run", 0, Told())
            batch.add(mine)
            await mine.done

    with_batch(1, body)


def test_a_service_is_failing_once_every_address_of_it_is_avoided() -> None:
    limits: dict[str, int | None] = {"a:1": 1, "a:2": None}
    scheduler = Scheduler(Address("policy", at, limit) for at, limit in limits.items())
    services = [("policy", SimpleNamespace(limits=limits)), ("traffic", object())]
    source = SimpleNamespace(setup=SimpleNamespace(services=services))

    def told() -> str:
        batch, asked = SimpleNamespace(scheduler=scheduler), SimpleNamespace(source=source)
        return failing(batch, asked)  # type: ignore[arg-type]

    for at in limits:
        assert told() == ""
        for _ in range(3):
            scheduler.failed("policy", at, 0.0)
    assert told() == "policy at a:1, a:2"
    scheduler.answered("policy", "a:2")
    assert told() == ""
