"""Worker processes that die idle, freeze, or break: every rollout ends, and none is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from omniloop.configs.compose import compose
from omniloop.core.errors import ConfigError, ServiceError
from omniloop.live.events import Event, RolloutEnded, RolloutStarted, WorkerLost
from omniloop.runlog.folder import RunFolder
from omniloop.runner.assemble import Setup, assemble
from omniloop.runner.batch import inline, local, rollouts
from omniloop.runner.batch.engine import Batch, Request, Rules
from omniloop.runner.batch.executor import Source
from omniloop.runner.batch.inline import Inline
from omniloop.runner.batch.local import LocalWorkers
from omniloop.runner.batch.rollouts import Rollouts
from omniloop.runner.batch.worker_core import WorkerCore
from omniloop.runner.job import Job, Order
from omniloop.runner.run import Finished, execute
from tests.runner.batch.clock import Clock
from tests.runner.batch.processes import LONG_S, is_dead, wait_until, workers_of

pytestmark = pytest.mark.timeout(600)

PLUGINS = "tests.runner.batch.batch_plugins"
SMALL = ["renderer=none", "scenes.ids=curve", "sync.duration_s=1.0", "policy=constant_velocity"]


class Told(list[Event]):
    """A listener that keeps what it is told, and acts on it."""

    def __init__(self, act: Callable[[Event], None] = lambda _: None) -> None:
        super().__init__()
        self.act = act

    def tell(self, event: Event) -> None:
        self.append(event)
        self.act(event)


def run(folder: Path, *settings: str, told: Told | None = None) -> Finished:
    config = compose([*SMALL, f"run.dir={folder}", "run.name=run", *settings])
    return execute(config, () if told is None else (told,))


class AtItsNext(Told):
    """Does something to the process of the worker that ended a rollout first, as it is given another.

    It has not been sent the other then, so that it cannot end it.
    """

    def __init__(
        self, do: Callable[[int], None], act: Callable[[Event], None] = lambda _: None
    ) -> None:
        super().__init__(act)
        self._do = do
        self._first = ""
        self.pid: int | None = None

    def tell(self, event: Event) -> None:
        super().tell(event)
        if isinstance(event, RolloutEnded):
            self._first = self._first or event.worker
        elif isinstance(event, RolloutStarted) and event.worker == self._first and not self.pid:
            self.pid = workers_of(os.getpid())[int(event.worker.rpartition("-")[2]) - 1]
            self._do(self.pid)


@pytest.fixture(scope="module")
def setup() -> Setup:
    return assemble(compose(SMALL))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the watch of this process goes by."""
    found = Clock()
    for module in (rollouts, inline):
        monkeypatch.setattr(module, "time", found)
    monkeypatch.setattr(rollouts, "_TICK_S", 0.001)
    return found


def test_a_worker_that_dies_idle_is_replaced_and_costs_no_attempt(
    setup: Setup, tmp_path: Path
) -> None:
    told = Told()

    async def main() -> list[int]:
        executor = LocalWorkers(1, None)
        batch = Batch(executor, Rules(attempts=1, per_worker=4))
        await batch.start()
        try:
            os.kill(executor.pids["worker-1"], signal.SIGKILL)
            while not executor._processes["worker-1"].why:  # it has been noticed
                await asyncio.sleep(0.01)
            with RunFolder.acquire(tmp_path / "run") as folder:
                jobs = [Job("curve", seed) for seed in range(3)]
                request = Request(Source("run", setup, folder), jobs, lambda _: "", (told,))
                batch.add(request)
                await asyncio.wait_for(request.done, LONG_S)
                results = folder.find().results
            assert request.outcomes == {"completed": 3}
            return [r.attempts for r in results]
        finally:
            await batch.stop()

    assert asyncio.run(main()) == [1, 1, 1]
    assert sum(isinstance(event, WorkerLost) for event in told) == 1


@pytest.mark.parametrize("turns", range(5))
def test_a_request_cancelled_as_its_rollouts_begin_ends(
    setup: Setup, tmp_path: Path, turns: int
) -> None:
    async def main() -> None:
        batch = Batch(Inline(None), Rules(per_worker=4))
        await batch.start()
        try:
            with RunFolder.acquire(tmp_path / "run") as folder:
                jobs = [Job("curve", seed) for seed in range(9)]
                request = Request(Source("run", setup, folder), jobs, lambda _: "")
                batch.add(request)
                for _ in range(turns):
                    await asyncio.sleep(0)
                batch.cancel(request)
                await asyncio.wait_for(request.done, LONG_S)
            assert batch.scheduler.idle
        finally:
            await batch.stop()

    asyncio.run(main())


@pytest.mark.parametrize("count", [1, 2])
def test_a_rollout_that_a_plugin_cancels_has_failed_and_is_not_lost(
    tmp_path: Path, count: int
) -> None:
    finished = run(
        tmp_path,
        f"run.workers={count}",
        "run.seeds=2",
        "run.retries=0",
        f"policy={PLUGINS}:Cancels",
    )
    fine, cancelled = finished.results
    assert (fine.outcome, cancelled.outcome) == ("completed", "infrastructure_failed")
    assert cancelled.error is not None
    assert "cancelled from within" in cancelled.error["what"]


def test_a_frozen_worker_is_killed_and_what_it_had_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang_s = 60
    monkeypatch.setattr(local, "_GUARD_S", 0.05)

    def freeze(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(local, "_UNHEARD_S", 1.5 - hang_s)

    def be_patient(event: Event) -> None:  # again: nobody else is frozen
        if isinstance(event, WorkerLost):
            monkeypatch.setattr(local, "_UNHEARD_S", 60.0)

    told = AtItsNext(freeze, be_patient)
    finished = run(
        tmp_path, "run.workers=2", "run.concurrency=2", "run.seeds=12", f"run.hang_s={hang_s}",
        "run.retries=0", told=told,
    )  # fmt: skip
    lost = [name for e in told if isinstance(e, WorkerLost) for name in e.rollouts]
    failed = [r.session_id for r in finished.results if r.outcome != "completed"]
    assert len(finished.results) == 12
    assert failed
    assert set(failed) <= set(lost)  # one may have been written before
    assert told.pid is not None
    assert is_dead(told.pid)


@pytest.mark.parametrize(("hang_s", "takes_s"), [(1, 0.4), (2, 1000.0)], ids=["slow", "stopped"])
def test_plugins_that_answer_and_never_wait_do_not_hang_and_time_in_which_nobody_watched_is_none(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, hang_s: int, takes_s: float
) -> None:
    blocked: list[float] = []
    monkeypatch.setattr(Inline, "_blocked", lambda _, late_s, orders: blocked.append(late_s))
    began_s = clock.monotonic()
    finished = run(
        tmp_path, "run.workers=1", "run.concurrency=1", "run.seeds=2", f"run.hang_s={hang_s}",
        f"policy={PLUGINS}:Ponders", f"policy.takes_s={takes_s}",
    )  # fmt: skip
    assert blocked == []
    assert [(r.outcome, r.attempts) for r in finished.results] == [("completed", 1)] * 2
    assert clock.monotonic() - began_s > hang_s


def test_a_worker_whose_child_outlives_it_is_found_dead_and_the_child_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_GUARD_S", 0.1)
    told = AtItsNext(lambda pid: os.kill(pid, signal.SIGKILL))
    finished = run(
        tmp_path, "run.workers=2", "run.concurrency=2", "run.seeds=6", f"policy={PLUGINS}:Forks",
        f"policy.marker={tmp_path}", told=told,
    )  # fmt: skip
    assert [r.outcome for r in finished.results] == ["completed"] * 6
    assert any(isinstance(event, WorkerLost) for event in told)
    children = [int(path.name.partition("-")[2]) for path in tmp_path.glob("child-*")]
    assert len(children) >= 2
    wait_until(lambda: all(map(is_dead, children)))


def test_constructing_plugins_may_take_longer_than_hang_s(
    setup: Setup, tmp_path: Path, clock: Clock
) -> None:
    blocked: list[float] = []
    config = compose([*SMALL, f"policy={PLUGINS}:SlowToStart"])

    async def fetch(scene_id: str) -> bytes:
        return setup.bundle(scene_id)

    async def main() -> str:
        watched = Rollouts(1.0, lambda late_s, orders: blocked.append(late_s))
        watched.start()
        core = WorkerCore(watched)
        try:
            result = await core.run(
                "run", config.model_dump_json(), tmp_path, Order(Job("curve", 0)), fetch,
                lambda: None,
            )  # fmt: skip
            return result.outcome
        finally:
            await core.close()

    began_s = clock.monotonic()
    assert asyncio.run(main()) == "completed"
    assert blocked == []
    assert clock.monotonic() - began_s > 4.0


def test_what_only_a_worker_cannot_construct_ends_the_run_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="KeyError: 'LICENCE_FILE'"):
        run(tmp_path, "run.workers=2", "run.seeds=2", f"policy={PLUGINS}:NoLicence")


def test_rollouts_that_kill_every_worker_are_recorded_when_nothing_else_is_left(
    tmp_path: Path,
) -> None:
    finished = run(
        tmp_path, "run.workers=2", "run.seeds=[1]", "scenes.ids=curve,straight_road",
        f"policy={PLUGINS}:Dies",
    )  # fmt: skip
    for result in finished.results:
        assert (result.outcome, result.attempts) == ("infrastructure_failed", 3)
        assert result.error is not None
        assert "killed by SIGKILL" in result.error["what"]
    assert len(finished.results) == 2


@pytest.mark.parametrize("kind", [RolloutStarted, RolloutEnded])
def test_a_listener_that_breaks_ends_the_run_with_its_words(
    tmp_path: Path, kind: type[Event]
) -> None:
    def breaks(event: Event) -> None:
        if isinstance(event, kind):
            raise RuntimeError("the display is gone")

    with pytest.raises(ServiceError, match="the display is gone"):
        run(tmp_path, "run.workers=1", "run.seeds=2", told=Told(breaks))


def test_numbers_that_do_not_fit_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="4 workers cannot share 1 rollout"):
        run(tmp_path, "run.workers=4", "run.concurrency=1", "run.seeds=4")
    assert not (tmp_path / "run").exists()


def test_a_call_from_inside_an_event_loop_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    async def notebook() -> Finished:
        with pytest.raises(ConfigError, match="inside a running event loop"):
            run(tmp_path, "run.seeds=1")
        assert not (tmp_path / "run").exists()
        return await asyncio.to_thread(run, tmp_path, "run.seeds=1", "run.workers=1")

    assert asyncio.run(notebook()).exit_code == 0
