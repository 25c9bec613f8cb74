"""`omniloop watch`: against a real broker, and on folders."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from omniloop.cli.main import app
from omniloop.cli.watch_view import Changes, draw, duration
from omniloop.core.errors import OmniloopError
from omniloop.live.board import Load, Note, Row
from omniloop.live.events import RolloutEnded, RunEnded
from omniloop.live.mqtt import MqttPublisher
from omniloop.runlog.folder import RunFolder, rollout_dir
from omniloop.runlog.results import RESULT_NAME, write_result
from tests.live.brokers import BrokerProcess, free_port
from tests.live.made_run import Spy, progress, result_of, rollouts, started, telling_again, wait_for

AT_LAST = ("--timeout", "120")
OMNILOOP = [sys.executable, "-m", "omniloop.cli.main", "watch"]


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def watch(*words: str) -> Done:
    """What the command does, in this process."""
    done = CliRunner().invoke(app, ["watch", *words])
    if isinstance(done.exception, OmniloopError):  # `main` prints it and exits with 2
        return Done(2, done.stdout, f"error: {done.exception}")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


@pytest.fixture(autouse=True)
def time_to_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that go on are waited for until each has told its progress."""
    monkeypatch.setattr("omniloop.cli.watch._FIRST_WORD_S", 120.0)


def going_on(publisher: MqttPublisher) -> AbstractContextManager[None]:
    """A run that goes on tells its progress again and again."""
    wait_for(lambda: publisher._telling._progress is not None)
    return telling_again(partial(publisher.tell, publisher._telling._progress))


@pytest.fixture(scope="module")
def one_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    process = BrokerProcess(tmp_path_factory.mktemp("broker")).start()
    yield process
    process.stop()


@pytest.fixture
def broker(one_broker: BrokerProcess, request: pytest.FixtureRequest) -> BrokerProcess:
    return replace(one_broker, prefix=f"lab/{request.node.name}")


@pytest.fixture
def run(broker: BrokerProcess) -> Iterator[tuple[MqttPublisher, Spy]]:
    spy = Spy()
    publisher = MqttPublisher(broker.url, spy, [].append)
    publisher.tell(started("demo"))
    publisher.tell(progress(3))
    wait_for(lambda: publisher.delivered >= 3)
    yield publisher, spy
    publisher.close(120.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "demo"
    path.mkdir()
    document = {"config": {"run": {"seeds": [0, 1]}}, "scenes": {"line": "sha256:1"}}
    (path / "run.yaml").write_text(yaml.safe_dump(document))
    result = result_of(0, crash=True)
    target = rollout_dir(path, result.scene, result.seed)
    target.mkdir(parents=True)
    write_result(target / RESULT_NAME, result)
    return path


def test_two_runs_on_one_broker_are_seen_at_once(
    broker: BrokerProcess, run: tuple[MqttPublisher, Spy]
) -> None:
    other = MqttPublisher(broker.url, Spy())
    other.tell(started("other +1"))
    other.tell(progress(4))
    other.tell(RunEnded("completed"))
    other.close(120.0)
    with going_on(run[0]):
        rows = {
            row["name"]: row for row in json.loads(watch(broker.url, "--once", "--json").stdout)
        }
    assert rows["demo"]["state"] == "running"
    assert (rows["demo"]["done"], rows["demo"]["in_flight"]) == (3, 2)
    assert rows["other +1"]["state"] == "completed"
    assert rows["other +1"]["done"] == 4


def test_runs_of_one_name_are_seen_and_steered_one_by_one(
    broker: BrokerProcess, run: tuple[MqttPublisher, Spy]
) -> None:
    spy, said = Spy(), list[str]()
    other = MqttPublisher(broker.url, spy, said.append)
    other.tell(started("demo", run_dir="elsewhere/demo"))
    other.tell(progress(5))
    wait_for(lambda: said and other.delivered >= 3)
    found: dict[int, str] = {}

    def both_are_seen() -> bool:  # what one of them says within a second
        for row in json.loads(watch(broker.url, "--once", "--json").stdout):
            found[row["done"]] = row["instance"]
        return found.keys() == {3, 5}

    with going_on(run[0]), going_on(other):
        wait_for(both_are_seen)
        mine = found[5]
        refused = watch(broker.url, "--run", "demo", "--cancel", *AT_LAST)
        assert refused.returncode == 1
        assert mine in refused.stderr
        chosen = (broker.url, "--run", "demo", "--instance", mine)
        assert watch(*chosen, "--pause", *AT_LAST).returncode == 0
        nobody = watch(*chosen[:-1], "nobody", "--pause", "--timeout", "0.5")
        assert "no answer of run 'demo', instance nobody" in nobody.stderr
        [row] = json.loads(watch(*chosen, "--once", "--json").stdout)
        assert row["instance"] == mine
    other.close(120.0)
    assert (spy.told, run[1].told) == (["pause"], [])


def test_the_view_of_one_run_prints_changes_and_ends_with_it(
    broker: BrokerProcess, run: tuple[MqttPublisher, Spy]
) -> None:
    watcher = subprocess.Popen(
        [*OMNILOOP, broker.url, "--run", "demo"], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert watcher.stdout is not None
    lines = iter(watcher.stdout.readline, "")
    first = next((line for line in lines if line.startswith("demo: ")), "")  # once it is connected
    assert first.startswith("demo: running"), first
    for event in (RolloutEnded(result_of(4, crash=True), 1, "w0"), *rollouts(1), RunEnded("failed", "disk full")):  # fmt: skip
        run[0].tell(event)
    run[0].close(120.0)
    out = watcher.stdout.read()
    assert "demo: incident: line/4: 4.0 s after handover front collision" in out
    assert "demo: failed" in out
    assert "disk full" in out
    assert watcher.wait(120) == 1


def test_commands_are_carried_out_and_answered(
    broker: BrokerProcess, run: tuple[MqttPublisher, Spy]
) -> None:
    done = watch(broker.url, "--run", "demo", "--pause", *AT_LAST)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("demo: paused")
    assert watch(broker.url, "--run", "demo", "--concurrency", "5", *AT_LAST).returncode == 0
    assert run[1].told == ["pause", 5]


def test_a_command_to_nobody_is_an_error_with_what_to_look_at(broker: BrokerProcess) -> None:
    done = watch(broker.url, "--run", "nobody", "--cancel", "--timeout", "0.5")
    assert done.returncode == 1
    assert "no answer of run 'nobody'" in done.stderr
    done = watch(broker.url, "--run", "nobody", "--once")
    assert done.returncode == 1
    assert "no run 'nobody' under" in done.stdout


@pytest.mark.parametrize(
    ("words", "fault"),
    [(("--concurrency", "100001"), "100000"), (("--pause", "--instance", ""), "instance")],
)
def test_a_command_that_cannot_be_is_not_told(words: tuple[str, ...], fault: str) -> None:
    done = watch("mqtt://127.0.0.1:9/x", "--run", "a", *words)
    assert done.returncode == 1
    assert fault in done.stderr


def test_a_run_that_is_gone_can_be_forgotten(broker: BrokerProcess) -> None:
    gone = MqttPublisher(broker.url, Spy(), [].append)
    gone.tell(started("left"))
    gone.close(120.0)
    assert "left: lost" in watch(broker.url, "--once").stdout
    assert watch(broker.url, "--once", "--run", "left").returncode == 1
    assert watch(broker.url, "--run", "left", "--forget").returncode == 0
    assert "left" not in watch(broker.url, "--once").stdout


def test_a_broker_that_is_away_is_said() -> None:
    url = f"mqtt://127.0.0.1:{free_port()}/x"
    done = watch(url, "--once")
    assert done.returncode == 1
    assert "cannot be reached" in done.stdout
    done = watch(url, "--run", "x", "--pause")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ((), "nothing to watch"),
        (("mqtt://h/x", "--pause"), "one at a time"),
        (("mqtt://h/x", "--run", "a", "--pause", "--resume"), "one at a time"),
        (("runs/demo", "--run", "a", "--pause"), "one at a time"),
        (("runs/demo", "--run", "a"), "--run chooses"),
        (("/nowhere",), "does not exist"),
        (("mqtt://u:s3cret@h:port/x",), "port is no number"),
        (("mqtt://h/x", "--run", "a", "--concurrency", "0"), "concurrency"),
        (("mqtt://h/x", "--instance", "a"), "--run NAME"),
        (("runs/demo", "--instance", "a"), "--run NAME"),
    ],
)
def test_bad_input_is_refused(words: tuple[str, ...], fault: str) -> None:
    done = watch(*words)
    assert done.returncode == 2
    assert fault in done.stderr
    assert "s3cret" not in done.stderr


def test_a_folder_is_watched_without_a_broker(folder: Path) -> None:
    done = watch(str(folder), "--once")
    assert done.returncode == 1
    assert "demo: lost, 1/2, 1 completed" in done.stdout
    assert "incident: line/0" in done.stdout
    with RunFolder.acquire(folder, resume=True):
        [row] = json.loads(watch(str(folder), "--once", "--json").stdout)
        assert row["state"] == "running"


def test_the_view_of_a_folder_ends_with_the_run(folder: Path) -> None:
    with RunFolder.acquire(folder, resume=True):
        watcher = subprocess.Popen(
            [*OMNILOOP, str(folder), "--json"], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert watcher.stdout is not None
        assert json.loads(watcher.stdout.readline())["state"] == "running"
        target = rollout_dir(folder, "line", 1)
        target.mkdir(parents=True)
        write_result(target / RESULT_NAME, result_of(1))
    last = json.loads(watcher.stdout.read().splitlines()[-1])
    assert (last["state"], last["done"]) == ("completed", 2)
    assert watcher.wait(120) == 0


def test_on_a_terminal_it_is_drawn(folder: Path) -> None:
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "LINES": "50", "TERM": "xterm"}
    watcher = subprocess.Popen(
        [*OMNILOOP, str(folder)], stdout=follower, stderr=follower, env=environment
    )
    os.close(follower)
    seen = b""
    while True:
        try:
            more = os.read(leader, 4096)
        except OSError:  # the other end was closed
            break
        if not more:
            break
        seen += more
    os.close(leader)
    assert watcher.wait(120) == 1
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode())
    assert "memory" in text
    assert "lost" in text
    assert "front collision" in text


def test_the_schema_is_printed() -> None:
    schema = json.loads(watch("--schema").stdout)
    assert schema["title"] == "omniloop-live, version 1"
    assert "Command" in schema["$defs"]


def test_a_terminal_of_any_width_shows_runs_services_and_notes() -> None:
    load = Load("policy", "host:50051", 40, 0.5, 12.0, 3.0, 2, None, True)
    note = Note("incident", "line/0: [red]front collision", 1)
    row = Row(
        "de[bold]mo", "running", planned=10, done=3, outcomes={"completed": 3}, in_flight=2,
        concurrency=4, left_s=75.0, lag_ms=1.0, memory_mib=300.0, services=(load,), notes=(note,),
        silent_s=40.0,
    )  # fmt: skip
    for width in (80, 120):
        console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
        console.print(draw([row], "2 messages ignored", width))
        text = console.export_text()
        for part in ("de[bold]mo", "3/10", "1:15 min", "[red]front", "not heard of for 40 s", "2 of any", "2 messages"):  # fmt: skip
            assert part in text, (width, part, text)
    assert draw([], "") is not None


def test_lines_are_of_changes_and_not_of_every_step() -> None:
    changes = Changes()
    rows = [Row("demo", "running", planned=100, done=n) for n in range(100)]
    lines = [line for n, row in enumerate(rows) for line in changes.lines([row], 0.5 * n)]
    assert len(lines) == 5  # at 0, 10, 20, 30 and 40 s
    assert changes.lines([rows[-1]], 60.0) == ["demo: running, 99/100"]
    noted = Row("demo", "running", planned=100, done=99, notes=(Note("failure", "x", 1),))
    assert changes.lines([noted], 60.1) == ["demo: failure: x"]
    assert changes.lines([noted], 60.2) == []


def test_rows_of_one_name_are_told_apart_and_no_note_is_told_twice() -> None:
    def rows(*shown: tuple[str, str, int]) -> list[Row]:
        return [
            Row(
                "demo", "running", planned=9, done=1, instance=instance, where=where,
                shared=len(shown) > 1,
                notes=tuple(Note("worker", f"note {n}", n) for n in range(1, last + 1) if n % 2 == k),
            )
            for k, (instance, where, last) in enumerate(shown)
        ]  # fmt: skip

    changes = Changes()
    assert changes.lines(rows(("aa", "h:/x", 2)), 0.0) == [
        "demo: worker: note 2", "demo: running, 1/9",
    ]  # fmt: skip
    both = rows(("aa", "h:/x", 4), ("bb", "g:/y", 3))
    assert changes.lines(both, 0.1) == [
        "demo (aa): worker: note 4", "demo (aa): running, 1/9, h:/x",
        "demo (bb): worker: note 3", "demo (bb): running, 1/9, g:/y",
    ]  # fmt: skip
    assert changes.lines(both, 0.2) == []
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(draw(both, ""))
    text = console.export_text()
    assert "demo (aa): h:/x; another run has this name, give each its own run.name" in text


def test_durations_are_read_at_a_glance() -> None:
    assert [duration(s) for s in (0.4, 42, 59.6, 185, 7400)] == [
        "0 s", "42 s", "1:00 min", "3:05 min", "2:03 h",
    ]  # fmt: skip
