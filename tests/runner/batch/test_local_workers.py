"""Worker processes that die idle, freeze, or break: every rollout ends, and none is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from omniloop.configs.compose import compose
from omniloop.core.errors import ConfigError, ServiceError
from omniloop.live.events import Event, RolloutEnded, RolloutStarted, WorkerLost
from omniloop.runlog.folder import RunFolder
from omniloop.runner.assemble import Setup, assemble
from omniloop.runner.batch import local
from omniloop.runner.batch.engine import Batch, Request, Rules
from omniloop.runner.batch.executor import Source
from omniloop.runner.batch.inline import Inline
from omniloop.runner.batch.local import LocalWorkers
from omniloop.runner.job import Job
from omniloop.runner.run import Finished, execute

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


def workers() -> list[int]:
    children = Path(f"/proc/{os.getpid()}/task/{threading.main_thread().native_id}/children")
    pids = [int(pid) for pid in children.read_text().split()]
    return [p for p in pids if b"batch.worker" in Path(f"/proc/{p}/cmdline").read_bytes()]


def is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture(scope="module")
def setup() -> Setup:
    return assemble(compose(SMALL))


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
            while executor.pids and not is_dead(executor.pids["worker-1"]):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            with RunFolder.acquire(tmp_path / "run") as folder:
                jobs = [Job("curve", seed) for seed in range(3)]
                request = Request(Source("run", setup, folder), jobs, lambda _: "", (told,))
                batch.add(request)
                await asyncio.wait_for(request.done, 60)
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
                await asyncio.wait_for(request.done, 60)
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
    monkeypatch.setattr(local, "_UNHEARD_S", 0.5)
    monkeypatch.setattr(local, "_GUARD_S", 0.1)
    frozen: list[int] = []

    def freeze(event: Event) -> None:
        if isinstance(event, RolloutEnded) and not frozen:
            frozen.append(workers()[0])
            os.kill(frozen[0], signal.SIGSTOP)

    told = Told(freeze)
    finished = run(
        tmp_path, "run.workers=2", "run.seeds=12", "run.hang_s=1", "run.retries=0", told=told
    )
    lost = [name for e in told if isinstance(e, WorkerLost) for name in e.rollouts]
    failed = [r.session_id for r in finished.results if r.outcome != "completed"]
    assert len(finished.results) == 12
    assert lost
    assert set(failed) <= set(lost)  # one may have been written before
    assert is_dead(frozen[0])


def test_plugins_that_answer_and_never_wait_do_not_hang(tmp_path: Path) -> None:
    finished = run(
        tmp_path, "run.workers=1", "run.seeds=2", "run.hang_s=0.5", f"policy={PLUGINS}:Sleeps"
    )
    assert [(r.outcome, r.attempts) for r in finished.results] == [("completed", 1)] * 2
    assert finished.results[1].timings["wall_s"] > 0.8


def test_a_worker_that_was_stopped_for_longer_than_hang_s_goes_on(tmp_path: Path) -> None:
    stopped: list[threading.Timer] = []

    def stop(event: Event) -> None:
        if isinstance(event, RolloutStarted) and event.seed == 1 and not stopped:
            for pid in workers():
                stopped.append(threading.Timer(0.4, os.kill, (pid, signal.SIGSTOP)))
                stopped.append(threading.Timer(2.4, os.kill, (pid, signal.SIGCONT)))
            for timer in stopped:
                timer.start()

    began_s = time.monotonic()
    finished = run(
        tmp_path, "run.workers=2", "run.seeds=2", "run.hang_s=1", f"policy={PLUGINS}:Sleeps",
        told=Told(stop),
    )  # fmt: skip
    assert time.monotonic() - began_s > 2.3
    assert [(r.outcome, r.attempts) for r in finished.results] == [("completed", 1)] * 2


def test_a_worker_whose_child_outlives_it_is_found_dead_and_the_child_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_GUARD_S", 0.1)
    killed: list[int] = []

    def kill(event: Event) -> None:
        if isinstance(event, RolloutEnded) and not killed:
            killed.append(workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    finished = run(
        tmp_path, "run.workers=2", "run.seeds=6", f"policy={PLUGINS}:Forks",
        f"policy.marker={tmp_path}", told=Told(kill),
    )  # fmt: skip
    assert [r.outcome for r in finished.results] == ["completed"] * 6
    children = [int(path.name.partition("-")[2]) for path in tmp_path.glob("child-*")]
    until_s = time.monotonic() + 30
    while not all(map(is_dead, children)) and time.monotonic() < until_s:
        time.sleep(0.01)
    assert len(children) >= 2
    assert all(map(is_dead, children))


def test_constructing_plugins_may_take_longer_than_hang_s(tmp_path: Path) -> None:
    finished = run(
        tmp_path, "run.workers=2", "run.seeds=2", "run.hang_s=1", f"policy={PLUGINS}:SlowToStart"
    )
    assert [(r.outcome, r.attempts) for r in finished.results] == [("completed", 1)] * 2


def test_what_only_a_worker_cannot_construct_ends_the_run_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="KeyError: 'LICENCE_FILE'"):
        run(tmp_path, "run.workers=2", "run.seeds=2", f"policy={PLUGINS}:NoLicence")


def test_rollouts_that_kill_every_worker_are_recorded_when_nothing_else_is_left(
    tmp_path: Path,
) -> None:
    finished = run(
        tmp_path, "run.workers=2", "run.seeds=2", "scenes.ids=curve,straight_road",
        f"policy={PLUGINS}:Dies",
    )  # fmt: skip
    outcomes = {r.session_id: (r.outcome, r.attempts) for r in finished.results}
    assert outcomes == {
        "curve/0": ("completed", 1), "curve/1": ("infrastructure_failed", 3),
        "straight_road/0": ("completed", 1), "straight_road/1": ("infrastructure_failed", 3),
    }  # fmt: skip
    error = finished.results[1].error
    assert error is not None
    assert "killed by SIGKILL" in error["what"]


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
