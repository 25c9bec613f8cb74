"""`omniloop daemon` as a process: clients, signals, health, reflection, and a trainer."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from omniloop.services.protos import runtime_pb2 as pb
from tests.cli.held import Hold
from tests.command import ROOT
from tests.live.made_run import wait_for

_SHORT = ("renderer=none", "metrics=alpasim", "run.concurrency=2")
_REMOTE = (
    "policy=remote", "policy.connect_timeout_s=120", "policy.timeouts_s.close_session=120",
    "policy.timeouts_s.drive=600",
)  # fmt: skip
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def start(*words: str, hold: Hold | None = None) -> subprocess.Popen[str]:
    environment = dict(os.environ) if hold is None else hold.environment
    return subprocess.Popen(
        [sys.executable, "-m", "omniloop.cli.main", *words], stdout=subprocess.PIPE, cwd=ROOT,
        stderr=subprocess.STDOUT, text=True, env={**environment, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


def port_of(process: subprocess.Popen[str]) -> int:
    said: IO[str] | None = process.stdout
    assert said is not None
    before = ""
    for line in said:  # what a library warns of may come first
        if " at 127.0.0.1:" in line:
            return int(line.split(" at 127.0.0.1:")[1].split()[0])
        before += line
    raise AssertionError(before)


@contextlib.contextmanager
def process(*words: str, hold: Hold | None = None) -> Iterator[tuple[subprocess.Popen[str], int]]:
    found = start(*words, hold=hold)
    try:
        yield found, port_of(found)
    finally:
        found.kill()
        found.communicate()


@contextlib.contextmanager
def connected(port: int) -> Iterator[grpc.Channel]:
    limits = [("grpc.max_receive_message_length", 100 << 20)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", limits) as channel:
        yield channel


def simulating(channel: grpc.Channel, count: int, *drivers: int) -> Any:
    simulate = channel.unary_unary(
        "/RuntimeService/simulate", pb.SimulationRequest.SerializeToString,
        pb.SimulationReturn.FromString,
    )  # fmt: skip
    request = pb.SimulationRequest(
        available_drivers=[
            pb.SimulationRequest.DriverAddress(ip="localhost", port=port) for port in drivers
        ],
        rollout_specs=[pb.RolloutSpec(scenario_id="curve", nr_rollouts=count)],
        n_concurrent_per_driver=2,
    )
    return simulate.future(request, timeout=150)


def health(channel: grpc.Channel, service: str = "") -> int:
    asked = health_pb2.HealthCheckRequest(service=service)
    status: int = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=120).status
    return status


def test_sigterm_drains_and_health_and_reflection_tell_what_runs(tmp_path: Path) -> None:
    hold, runs = Hold(tmp_path), tmp_path / "runs"
    words = ("--port", "0", "--runs", str(runs), *_SHORT, *_REMOTE)
    policy = ("serve", "policy", "policy=tests.cli.held:Held")
    with (
        process(*policy, "--port", "0", hold=hold) as (_, driver),
        process("daemon", *words) as (served, port),
        connected(port) as channel,
        connected(driver) as other,
    ):
        assert health(channel) == health(channel, "RuntimeService") == _SERVING
        assert health(other, "egodriver.EgodriverService") == _SERVING
        told = ProtoReflectionDescriptorDatabase(channel)
        assert {"RuntimeService", "grpc.health.v1.Health"} <= set(told.get_services())
        assert "simulate" in str(told.FindFileContainingSymbol("RuntimeService"))

        asked = simulating(channel, 3, driver)
        wait_for(lambda: hold.reached)
        served.send_signal(signal.SIGTERM)
        wait_for(lambda: health(channel) == _NOT_SERVING)
        with pytest.raises(grpc.RpcError) as refused:
            simulating(channel, 1, driver).result()
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "stopping" in refused.value.details()
        assert health(channel, "RuntimeService") == _NOT_SERVING
        hold.release()
        assert [r.success for r in asked.result().rollout_returns] == [True] * 3
        assert served.wait(120) == 0


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    hold, runs = Hold(tmp_path), tmp_path / "runs"
    words = ("--port", "0", "--runs", str(runs), *_SHORT, "policy=tests.cli.held:Held")
    with process("daemon", *words, hold=hold) as (served, port), connected(port) as channel:
        asked = simulating(channel, 3)
        wait_for(lambda: hold.reached)
        served.send_signal(signal.SIGTERM)
        wait_for(lambda: health(channel) == _NOT_SERVING)
        assert served.poll() is None
        served.send_signal(signal.SIGINT)
        assert served.wait(120) == 1
        assert served.stdout is not None
        assert "interrupted: 1 request(s) without an answer" in served.stdout.read()
        with contextlib.suppress(grpc.RpcError):
            assert not all(r.success for r in asked.result().rollout_returns)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["polcy=remote"], "unknown setting 'polcy'"),
        (["--host", "203.0.113.7"], "cannot listen at 203.0.113.7"),
    ],
)
def test_a_daemon_that_cannot_start_says_why(words: list[str], said: str) -> None:
    failed = start("daemon", "--port", "0", "renderer=none", *words)
    out, _ = failed.communicate(timeout=150)
    assert (failed.returncode, said in out) == (2, True), out


def test_a_trainer_learns_from_its_rollouts(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "rl_trainer.py"
    spec = importlib.util.spec_from_file_location("rl_trainer", example)
    assert spec is not None
    assert spec.loader is not None
    trainer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(trainer)
    quick = ("sync.decision_period_us=200000", "sync.duration_s=12", "run.stop_on=collision")
    runs = ("--runs", str(tmp_path), "--keep", "1")
    with process("daemon", "--port", "0", *runs, *_SHORT, *_REMOTE, *quick) as (_, port):
        rewards = asyncio.run(trainer.train(f"127.0.0.1:{port}", steps=3))
    assert rewards[-1] > rewards[0] + 0.1
    assert len(list(tmp_path.iterdir())) == 1
