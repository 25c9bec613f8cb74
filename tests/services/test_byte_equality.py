"""Embedded in one process, or with every service behind gRPC: the same bytes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
SIZE = ["renderer.width=160", "renderer.height=96"]
SUITE = """
scenes:
  - {source: embedded, ids: [curve]}
  - {source: embedded, ids: [crossing_pedestrian], edit: [recipe:cut_in], rename: "{scene}-cut_in"}
settings: {sync.duration_s: 1.5}
"""
HERE = {
    "omnidreams": ["renderer.chunk=8"],
    "nurec": ["renderer.chunk=0", "renderer.fps=10"],
}
"""How the rasteriser here renders as it does behind each protocol."""
THERE = {
    "omnidreams": ["renderer.first_frame=raster", "renderer.sessions=8"],
    "nurec": ["renderer.fps=10"],
}


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
            _, said = process.communicate(timeout=120)
            codes[kind] = (process.returncode, said)
        assert {kind: code for kind, (code, _) in codes.items()} == dict.fromkeys(kinds, 0), codes


def digests(folder: Path, name: str, *settings: str) -> list[tuple[str, str]]:
    finished = execute(
        compose([*settings, *SIZE, f"run.dir={folder}", f"run.name={name}", "run.concurrency=2"])
    )
    assert [r.outcome for r in finished.results] == ["completed", "completed"], finished.results
    return digest_run(folder / name)


def simulated(log: Path) -> list[tuple[str, int, bytes]]:
    """The messages that a digest is made of."""
    return [
        (m.topic, m.time_us, m.data)
        for m in LogReader(log).messages()
        if m.topic.startswith((topics.PREFIX, topics.CAMERA_PREFIX)) and m.topic != topics.HEADER
    ]


@pytest.mark.timeout(900)  # a dozen runs
def test_rollouts_give_the_same_bytes_embedded_and_with_services_behind_grpc(
    tmp_path: Path,
) -> None:
    """With all of them there, by either protocol of renderers, and with only some.

    One test, as its five processes are its cost.
    """
    suite = tmp_path / "mine.yaml"
    suite.write_text(SUITE)
    scenes, rounded = f"suite={suite}", "run.wire_precision=float32"
    here = {kind: [f"{kind}={name}"] for kind, name in PLUGINS.items()}
    with served(tuple(PLUGINS), scenes) as addresses:
        there = {
            kind: [f"{kind}=remote", f"{kind}.address={address}"]
            for kind, address in addresses.items()
        }
        renderer = there.pop("renderer")[1]

        def digested(name: str, elsewhere: tuple[str, ...], client: str, *more: str) -> Any:
            there["renderer"] = [f"renderer={client}", renderer]
            chosen = {kind: (there if kind in elsewhere else here)[kind] for kind in PLUGINS}
            words = [word for kind in PLUGINS for word in chosen[kind]]
            words += (THERE if "renderer" in elsewhere else HERE)[client]
            return digests(tmp_path, name, scenes, *words, *more)

        embedded = digested("embedded", (), "omnidreams", rounded)
        assert [name for _, name in embedded] == ["crossing_pedestrian-cut_in/0", "curve/0"]
        assert digested("remote", tuple(PLUGINS), "omnidreams") == embedded
        frames = digested("frames", (), "nurec", rounded)
        assert digested("remote-frames", tuple(PLUGINS), "nurec") == frames != embedded
        # Rounding is what makes them equal: without it the rollout differs.
        assert digested("unrounded", (), "omnidreams") != embedded
        # With only some elsewhere, the rest needs rounding too.
        some = ("policy", "ground", "renderer")
        assert digested("some", some, "omnidreams", rounded) == embedded
        assert digested("mixed", some, "omnidreams") != embedded
    one, other = (
        simulated(tmp_path / name / "rollouts/curve/0/log.mcap") for name in ("embedded", "mixed")
    )
    first = next(a[0] for a, b in zip(one, other, strict=True) if a != b)
    assert first == topics.VEHICLE  # the controller is in this process, and not rounded
