"""Runs of many rollouts: the same over any workers, and nothing is lost when something dies."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from omniloop.configs.compose import compose
from omniloop.core.errors import RunFolderError
from omniloop.live.events import Event, RolloutEnded, WorkerLost
from omniloop.runlog.digest import digest_run
from omniloop.runlog.results import find_results, read_result
from omniloop.runner.batch import inline, rollouts
from omniloop.runner.run import Finished, execute
from tests.runner.batch.clock import watched_clock
from tests.runner.batch.processes import LONG_S, is_dead, wait_until, workers_of

pytestmark = pytest.mark.timeout(600)

SMALL = ["renderer=none", "scenes.ids=curve,straight_road", "sync.duration_s=1.0", "policy=constant_velocity"]  # fmt: skip


class Told(list[Event]):
    """A listener that keeps what it is told."""

    def tell(self, event: Event) -> None:
        self.append(event)


def run(folder: Path, name: str, *settings: str, told: Sequence[Told] = ()) -> Finished:
    config = compose([*SMALL, f"run.dir={folder}", f"run.name={name}", *settings])
    return execute(config, told)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder, "run", "run.seeds=6", "run.workers=1", "run.concurrency=1")
    return digest_run(folder / "run")


@pytest.mark.parametrize(
    "settings",
    [
        ["run.workers=1", "run.concurrency=8"],
        ["run.workers=2", "run.concurrency=2"],
        ["run.workers=4", "run.concurrency=32"],
    ],
)
def test_digests_are_the_same_over_any_workers_and_concurrency(
    tmp_path: Path, undisturbed: list[tuple[str, str]], settings: list[str]
) -> None:
    finished = run(tmp_path, "run", "run.seeds=6", *settings)
    assert [r.outcome for r in finished.results] == ["completed"] * 12
    assert digest_run(tmp_path / "run") == undisturbed


def start(folder: Path, *settings: str) -> subprocess.Popen[bytes]:
    """``omniloop run`` in a process of its own, told to go on."""
    return subprocess.Popen(
        [sys.executable, "-m", "omniloop.cli.main", "run", *SMALL, f"run.dir={folder}",
         "run.name=run", "run.seeds=6", "run.workers=2", "run.resume=true", *settings],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def wait_for_results(folder: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    def are_there() -> bool:
        found = len(list(folder.glob("run/rollouts/*/*/result.json")))
        return found >= count or process.poll() is not None

    wait_until(are_there)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_run_killed_at_any_moment_goes_on_and_loses_nothing(
    tmp_path: Path,
    undisturbed: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    monkeypatch.setattr("omniloop.runlog.folder._ORPHANS_S", LONG_S)
    moment = random.Random(seed)
    process = start(tmp_path)
    wait_for_results(tmp_path, moment.randrange(0, 8), process)
    time.sleep(moment.uniform(0.0, 0.1))
    orphans = workers_of(process.pid) if process.poll() is None else []
    process.kill()
    process.wait()
    before = {r.key: r for r in find_results(tmp_path / "run").results}
    finished = run(tmp_path, "run", "run.seeds=6", "run.workers=1", "run.resume=true")
    assert finished.resumed >= len(before)
    assert all(r == before.get(r.key, r) for r in finished.results)
    assert digest_run(tmp_path / "run") == undisturbed
    wait_until(lambda: all(map(is_dead, orphans)))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_worker_killed_at_any_moment_is_replaced_and_only_its_rollouts_run_again(
    tmp_path: Path, undisturbed: list[tuple[str, str]], seed: int
) -> None:
    moment = random.Random(100 + seed)

    class Kills(Told):
        def __init__(self) -> None:
            super().__init__()
            self.after = moment.randrange(1, 10)

        def tell(self, event: Event) -> None:
            super().tell(event)
            ended = sum(isinstance(e, RolloutEnded) for e in self)
            if isinstance(event, RolloutEnded) and ended == self.after:
                os.kill(moment.choice(workers_of(os.getpid())), signal.SIGKILL)

    told = Kills()
    finished = run(tmp_path, "run", "run.seeds=6", "run.workers=2", told=(told,))
    assert [r.outcome for r in finished.results] == ["completed"] * 12
    assert digest_run(tmp_path / "run") == undisturbed
    lost = [name for event in told if isinstance(event, WorkerLost) for name in event.rollouts]
    again = [e.result.session_id for e in told if isinstance(e, RolloutEnded) and e.retry_in_s]
    assert sorted(again) == sorted(name for name in lost if name in again)
    kept = [e.result.session_id for e in told if isinstance(e, RolloutEnded) and e.retry_in_s is None]  # fmt: skip
    assert len(kept) == len(set(kept)) == 12


@pytest.fixture
def own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins that make this process's watch go by a clock of theirs leave no trace."""
    for module in (rollouts, inline):
        monkeypatch.setattr(module, "time", module.time)  # type: ignore[attr-defined]
    watched_clock()


@pytest.mark.parametrize(
    ("settings", "hung", "least_s"),
    [
        (["policy=tests.runner.batch.batch_plugins:NeverAnswers", "run.workers=1", "run.concurrency=2"], [1], 1.0),
        # the run itself has no such clock
        (["policy=tests.runner.batch.batch_plugins:HangsTwice", "run.workers=2", "run.concurrency=3"], [1, 4], 0.0),
    ],
    ids=["here", "in_workers"],
)  # fmt: skip
def test_a_hung_rollout_is_ended_and_recorded_and_the_others_go_on(
    tmp_path: Path, own_clock: None, settings: list[str], hung: list[int], least_s: float
) -> None:
    finished = run(
        tmp_path, "run", "run.seeds=6", "run.hang_s=1", "scenes.ids=curve", "run.retries=0",
        f"policy.rollouts={tmp_path}/run/rollouts/curve", f"policy.others={6 - len(hung)}", *settings,
    )  # fmt: skip
    for seed, result in enumerate(finished.results):
        if seed not in hung:
            assert result.outcome == "completed"
            continue
        assert (result.outcome, result.attempts) == ("infrastructure_failed", 1)
        assert result.error is not None
        assert "hung: no service answered for 1 s" in result.error["what"]
        assert result.timings["wall_s"] > least_s
    assert len(finished.results) == 6
    assert finished.exit_code == 1


def test_a_plugin_that_blocks_the_runs_own_process_is_recorded_and_the_run_can_go_on(
    tmp_path: Path,
) -> None:
    settings = ["run.workers=1", "run.hang_s=1.5", "run.seeds=2", "scenes.ids=curve"]
    done = subprocess.run(
        [sys.executable, "-m", "omniloop.cli.main", "run", *SMALL, f"run.dir={tmp_path}",
         "run.name=run", *settings, "policy=tests.runner.batch.batch_plugins:Blocks"],
        check=False, capture_output=True, text=True, timeout=LONG_S,
    )  # fmt: skip
    assert done.returncode == 1
    assert "stood still" in done.stderr
    assert "run.resume=true" in done.stderr
    hung = read_result(tmp_path / "run/rollouts/curve/1/result.json")
    assert hung.outcome == "infrastructure_failed"
    assert hung.timings["wall_s"] > 1.5


def test_only_what_may_pass_is_tried_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "marker").mkdir()
    flaky = run(
        tmp_path, "flaky", "scenes.ids=curve",
        "traffic=tests.runner.batch.batch_plugins:FlakyTraffic", f"traffic.marker={tmp_path}/marker",
    )  # fmt: skip
    assert [(r.outcome, r.attempts) for r in flaky.results] == [("completed", 2)]
    told = Told()
    broken = run(
        tmp_path, "broken", "scenes.ids=curve", "run.retries=5",
        "traffic=tests.runner.batch.batch_plugins:BrokenTraffic", told=(told,),
    )  # fmt: skip
    assert [(r.outcome, r.attempts) for r in broken.results] == [("infrastructure_failed", 2)]


def test_a_changed_config_is_named_and_force_new_runs_only_what_differs(tmp_path: Path) -> None:
    run(tmp_path, "run", "scenes.ids=curve", "run.seeds=2")
    changed = ["scenes.ids=curve", "run.seeds=2", "controller=bicycle"]
    with pytest.raises(RunFolderError, match=r"controller.name: perfect -> bicycle") as refused:
        run(tmp_path, "run", *changed, "run.resume=true")
    assert "--force-new" in refused.value.remedy
    anew = run(tmp_path, "run", *changed, "run.force_new=true")
    assert anew.resumed == 0
    assert {r.plugins["controller"] for r in anew.results} == {"bicycle"}
    assert len(list((tmp_path / "run" / "replaced").glob("*/curve/*/result.json"))) == 2
    assert run(tmp_path, "run", *changed, "run.force_new=true").resumed == 2


def test_two_runs_on_one_folder_exclude_each_other_and_sigterm_ends_one_cleanly_and_it_goes_on(
    tmp_path: Path, undisturbed: list[tuple[str, str]]
) -> None:
    process = start(tmp_path, "run.seeds=500")  # so many that it does not end meanwhile
    try:
        wait_for_results(tmp_path, 2, process)
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(RunFolderError, match=f"in use by process {process.pid}"):
            run(tmp_path, "run", "run.seeds=6", "run.resume=true")
        process.terminate()
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=LONG_S) == 1
    finally:
        process.kill()
        process.wait()
    there = {r.session_id for r in find_results(tmp_path / "run").results}
    wanted = {name for _, name in undisturbed}
    finished = run(tmp_path, "run", "run.seeds=6", "run.resume=true", "run.workers=1")
    assert finished.resumed == len(there & wanted)
    assert len(there) >= 2
    assert [d for d in digest_run(tmp_path / "run") if d[1] in wanted] == undisturbed
