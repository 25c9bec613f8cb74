"""Real runs, told over a real broker and to their folders."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from omniloop.configs.compose import compose
from omniloop.core.errors import ConfigError
from omniloop.live.run_dir import RunDir
from omniloop.runner import run as module
from omniloop.runner.run import execute
from tests.live.brokers import BrokerProcess, free_port
from tests.live.made_run import Ear, wait_for

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ["renderer=none", "policy=constant_velocity", "run.workers=1", "run.name=real+1"]


@pytest.fixture(autouse=True)
def time_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a run's end what is still to be told is waited for, on a busy machine too."""
    monkeypatch.setattr(
        module, "listeners_for", functools.partial(module.listeners_for, close_s=120.0)
    )


def test_what_is_told_of_a_run_is_what_its_folder_holds(
    broker: BrokerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = broker.url.replace("://", "://eva:s3cret@")
    own = [f"run.dir={tmp_path}", f"run.mqtt={url}", "scenes.ids=[cut_in,junction]"]
    with Ear(broker.url) as ear:
        finished = execute(compose([*SETTINGS, *own]))
        wait_for(lambda: ear.states()[-1:] == ["completed"])
        wait_for(lambda: len({d["scene"] for d in ear.of("rollout")}) == 2)
        told = {(d["scene"], d["seed"]): d["outcome"] for d in ear.of("rollout")}
        assert told == {(r.scene, r.seed): r.outcome for r in finished.results}
        incidents = sum({d["scene"]: d["incidents"] for d in ear.of("rollout")}.values())
        assert incidents > 0
        wait_for(lambda: len({d["sequence"] for d in ear.of("incident")}) == incidents)
        assert ear.of("status")[-1]["done"] == 2
        assert all("/real%2B1/" in topic for topic, _, _ in ear.heard)
        assert not any(b"s3cret" in payload for _, payload, _ in ear.heard)
    row = RunDir(finished.run_dir).row(0.0)
    assert (row.state, row.done, row.planned) == ("completed", 2, 2)
    assert row.memory_mib is not None
    for path in finished.run_dir.rglob("*"):
        assert path.is_dir() or b"s3cret" not in path.read_bytes(), path
    assert capsys.readouterr().err == ""


def test_a_run_does_not_need_its_broker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}/x"
    own = [f"run.dir={tmp_path}", f"run.mqtt={url}", "scenes.ids=[cut_in]"]
    finished = execute(compose([*SETTINGS, *own]))
    assert (finished.state, finished.exit_code) == ("completed", 0)
    assert "cannot be reached" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="port is no number"):
        execute(compose([*SETTINGS, f"run.dir={tmp_path}/other", "run.mqtt=mqtt://h:x"]))
    assert not (tmp_path / "other").exists()


@pytest.mark.timeout(400)
def test_a_run_is_steered_and_when_killed_told_as_lost(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    own = ["run.seeds=200", "run.concurrency=2", f"run.dir={tmp_path}", f"run.mqtt={broker.url}"]
    command = [sys.executable, "-m", "omniloop.cli.main", "run", *SETTINGS, *own]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with Ear(broker.url) as ear:
            wait_for(ear.seeds, "a process that starts", timeout_s=200)
            orders = ({"command": "set_concurrency", "value": 1}, {"command": "pause"})
            for number, order in enumerate(orders):
                ear.say("real%2B1/command", json.dumps({"id": str(number), **order}))
            wait_for(lambda: ear.states()[-1:] == ["paused"] and len(ear.of("ack")) == 2)
            assert [ack["ok"] for ack in ear.of("ack")] == [True, True]
            wait_for(lambda: [d["in_flight"] for d in ear.of("progress")][-1:] == [0])
            assert ear.of("progress")[-1]["concurrency"] == 1

            def rollouts() -> int:
                return len({(d["scene"], d["seed"]) for d in ear.of("rollout")})

            done = rollouts()
            watched = RunDir(tmp_path / "real+1")
            wait_for(lambda: watched.row(0.0).state == "paused")
            ear.say("real%2B1/command", json.dumps({"id": "on", "command": "resume"}))
            wait_for(lambda: rollouts() > done)
            process.send_signal(signal.SIGKILL)
            process.wait()
            wait_for(lambda: ear.states()[-1] == "lost")
        watched.row(100.0)  # reads what it wrote last
        assert watched.row(110.0).state == "lost"
    finally:
        process.kill()
        process.wait()
