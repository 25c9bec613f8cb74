"""`omniloop replay` and `omniloop serve --from-log` as users meet them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from omniloop.runlog.digest import digest_run
from tests.command import omniloop
from tests.runner.replaying.altering import altered

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("renderer.width=64", "renderer.height=48", "sync.duration_s=1", "scenes.ids=curve",
         "run.wire_precision=float32")  # fmt: skip


@contextmanager
def served(*arguments: str | Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a server, and what it said once it has ended: its code, then its lines."""
    process = subprocess.Popen(
        [sys.executable, "-m", "omniloop.cli.main", "serve", *map(str, arguments), "--port", "0"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    told: list[str] = []
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving "), process.communicate()
        yield line.split(" at ")[1].split(" ")[0], told
    finally:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=120)
        told += [str(process.returncode), *out.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose policy was elsewhere, and is gone."""
    path = tmp_path_factory.mktemp("cli")
    with served("policy", "policy=route_follower") as (address, _):
        done = omniloop(
            "run", f"run.dir={path}", "run.name=demo", "policy=remote", f"policy.address={address}",
            *QUICK,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return path


def test_a_run_with_a_driver_that_is_gone_replays(folder, tmp_path):
    done = omniloop("replay", folder / "demo", "--out", tmp_path / "kept")
    assert done.returncode == 0, done.stderr
    assert "1 rollout(s) replayed, none with a difference" in done.stdout
    assert digest_run(tmp_path / "kept") == digest_run(folder / "demo")
    live = omniloop("replay", folder / "demo", "--service", "policy")
    assert live.returncode == 0, live.stdout + live.stderr


def test_a_difference_is_told_and_the_exit_code_is_1(folder, tmp_path):
    log = folder / "demo" / "rollouts" / "curve" / "0" / "log.mcap"
    time_us, column = altered(log, tmp_path / "log.mcap", "controller", 2, 14)
    done = omniloop("replay", tmp_path / "log.mcap", "--service", "policy,traffic,ground,renderer")
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(
        f"curve/0: at {time_us} us the controller answered something else: answer.local_to_rig[2].{column} is "
    )
    assert "1 rollout(s) replayed, 1 with a difference" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("replay", "nowhere"), "the folder does not exist"),
        (("export", "{run}/run.yaml", "--to", "frames"), "it is a file, no run's folder"),
        (("serve", "policy", "--lenient"), "add --from-log RUN"),
        (("replay", "{run}", "sync.duration_s=1"), "no setting of a service"),
        (("replay", "{run}", "--service", "polcy"), "Did you mean 'policy'"),
        (("serve", "policy", "--from-log", "nowhere"), "the folder does not exist"),
        (("serve", "policy", "policy=x", "--from-log", "{run}"), "cannot be set"),
        (("serve", "policy", "--from-log", "{run}", "--tolerance", "-1"), "tolerance of -1"),
    ],
)
def test_bad_input_exits_2_with_one_clear_message(folder, arguments, said):
    done = omniloop(*(a.replace("{run}", str(folder / "demo")) for a in arguments))
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_log_is_served_checks_and_tells_what_it_did(folder, tmp_path):
    run = ("run", f"run.dir={tmp_path}", "policy=remote", *QUICK)
    with served("policy", "--from-log", folder / "demo") as (address, told):
        done = omniloop(*run, "run.name=same", f"policy.address={address}")
        assert done.returncode == 0, done.stderr
    assert told[0] == "0"
    assert "answered in 1 session(s), all as recorded" in told[-1]
    with served("policy", "--from-log", folder / "demo") as (address, told):
        done = omniloop(*run, "run.name=other", f"policy.address={address}", "run.root_seed=7")
        assert "curve/0: seed is" in done.stdout + done.stderr
    assert told[0] == "1"
    assert "1 not as recorded; first curve/0: seed is " in told[-1]
