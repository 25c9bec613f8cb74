"""Embedded in one process, or with every service behind gRPC: the same bytes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from omniloop.configs.compose import compose
from omniloop.runlog import messages as topics
from omniloop.runlog.digest import digest_run
from omniloop.runlog.reader import LogReader
from omniloop.runner.run import execute

PLUGINS = {
    "policy": "route_follower",
    "traffic": "log_replay",
    "controller": "bicycle",
    "ground": "flat",
    "renderer": "rasterizer",
}
SIZE = ["renderer.width=320", "renderer.height=176"]
SCENES = ["scenes.ids=curve,crossing_pedestrian", "sync.duration_s=4"]


def start(kind: str, *settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "omniloop.cli.main", "serve", kind, f"{kind}={PLUGINS[kind]}",
         *settings, "--port", "0", "--max-sessions", "8"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@contextmanager
def served(kinds: tuple[str, ...], *settings: str) -> Iterator[dict[str, str]]:
    """Services and their addresses, each in a process of its own as a user would start it."""
    processes = {kind: start(kind, *settings) for kind in kinds}
    try:
        found = {}
        for kind, process in processes.items():
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith(f"serving {kind} {PLUGINS[kind]} at 127.0.0.1:"), line
            found[kind] = line.split(" at ")[1].split(" ")[0]
        yield found
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        codes = {}
        for kind, process in processes.items():
            _, said = process.communicate(timeout=30)
            codes[kind] = (process.returncode, said)
        assert {kind: code for kind, (code, _) in codes.items()} == dict.fromkeys(kinds, 0), codes


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, str]]:
    with served(tuple(PLUGINS)) as found:
        yield found


def digests(
    folder: Path, name: str, settings: list[str], scenes: list[str] = SCENES
) -> list[tuple[str, str]]:
    finished = execute(
        compose([*scenes, *settings, f"run.dir={folder}", f"run.name={name}", "run.concurrency=2"])
    )
    assert [r.outcome for r in finished.results] == ["completed", "completed"], finished.results
    return digest_run(folder / name)


@pytest.mark.parametrize("client", ["omnidreams", "nurec"])
def test_a_rollout_gives_the_same_bytes_embedded_and_with_every_service_behind_grpc(
    addresses: dict[str, str], tmp_path: Path, client: str
) -> None:
    chunk = 8 if client == "omnidreams" else 0
    here = [f"{kind}={name}" for kind, name in PLUGINS.items()]
    here += [*SIZE, f"renderer.chunk={chunk}", *(["renderer.fps=10"] if not chunk else [])]
    there = [f"{kind}=remote" for kind in PLUGINS if kind != "renderer"] + [f"renderer={client}"]
    there += [f"{kind}.address={address}" for kind, address in addresses.items()]
    there += [*SIZE, *(["renderer.fps=10"] if not chunk else [])]
    if chunk:
        there += ["renderer.first_frame=raster", "renderer.sessions=8"]
    embedded = digests(tmp_path, "embedded", [*here, "run.wire_precision=float32"])
    assert digests(tmp_path, "remote", there) == embedded
    # Rounding is what makes them equal: without it the rollout differs.
    assert digests(tmp_path, "unrounded", here) != embedded


SUITE = """
scenes:
  - {source: embedded, ids: [curve]}
  - {source: embedded, ids: [curve], edit: [recipe:cut_in], rename: "{scene}-cut_in"}
settings: {sync.duration_s: 3}
"""


def simulated(log: Path) -> list[tuple[str, int, bytes]]:
    """The messages that a digest is made of."""
    return [
        (m.topic, m.time_us, m.data)
        for m in LogReader(log).messages()
        if m.topic.startswith((topics.PREFIX, topics.CAMERA_PREFIX)) and m.topic != topics.HEADER
    ]


def test_a_suite_with_some_services_elsewhere_needs_the_rest_rounded_too(tmp_path: Path) -> None:
    suite = tmp_path / "mine.yaml"
    suite.write_text(SUITE)
    scenes = [f"suite={suite}"]
    rounded = "run.wire_precision=float32"
    with served(("policy", "renderer"), *scenes) as found:
        there = ["policy=remote", f"policy.address={found['policy']}", "renderer=omnidreams"]
        there += [f"renderer.address={found['renderer']}", "renderer.sessions=8"]
        there += ["renderer.first_frame=raster", *SIZE]
        embedded = digests(tmp_path, "embedded", [*SIZE, rounded], scenes)
        assert [name for _, name in embedded] == ["curve/0", "curve-cut_in/0"]
        assert digests(tmp_path, "remote", [*there, rounded], scenes) == embedded
        assert digests(tmp_path, "mixed", there, scenes) != embedded
    here, mixed = (
        simulated(tmp_path / name / "rollouts/curve/0/log.mcap") for name in ("embedded", "mixed")
    )
    first = next(a[0] for a, b in zip(here, mixed, strict=True) if a != b)
    assert first == topics.VEHICLE  # the controller is in this process, and not rounded
