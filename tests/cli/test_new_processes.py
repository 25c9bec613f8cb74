"""Each command in a process of its own: nothing that it needs was imported by another."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import ROOT, omniloop


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    done = omniloop(
        "run", f"run.dir={folder}", "run.name=a", "scenes.ids=curve", "sync.duration_s=1",
        "renderer.width=64", "renderer.height=48", "run.asl=true",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shutil.copytree(folder / "a", folder / "a-copy")
    return folder


@pytest.mark.parametrize(
    "words",
    [
        "export {run} --to frames --out {out}",
        "export {run} --to parquet --out {out}",
        "export {run} --to webdataset --out {out}",
        "convert {run} --to asl --out {out}",
        "rerender {run} renderer=degraded --out {out}",
        "replay {run} --service policy",
        "score {run}",
        "tables {run} --out {out}",
        "compare {run} {run}-copy",
        "scenes convert --to usdz scenes.ids=curve --out {out}",
        "plan {run}",
    ],
)
def test_a_command_runs_alone(words: str, runs: Path, tmp_path: Path) -> None:
    command = words.format(run=runs / "a", out=tmp_path / "out").split()
    done = subprocess.run(
        [sys.executable, "-m", "omniloop.cli.main", *command],
        cwd=ROOT, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
