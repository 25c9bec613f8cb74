"""`omniloop rerender` and `omniloop backends` as users meet them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("renderer.width=64", "renderer.height=48", "sync.duration_s=2", "scenes.ids=curve")


def omniloop(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "omniloop.cli.main", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli")
    done = omniloop("run", f"run.dir={path}", "run.name=demo", "policy=constant_velocity", *QUICK)
    assert done.returncode == 0, done.stderr
    return path


def test_a_run_is_drawn_again_and_compared(folder, tmp_path):
    worse = tmp_path / "worse"
    drawn = omniloop("rerender", folder / "demo", "renderer=degraded", "--out", worse)
    assert drawn.returncode == 0, drawn.stderr
    assert "[1/1] curve/0: " in drawn.stdout
    assert f"drawn again: {worse}" in drawn.stdout
    reported = omniloop("report", worse)
    assert reported.returncode == 0, reported.stderr
    scored = omniloop("score", worse)
    assert "0 score(s) changed" in scored.stdout, scored.stderr
    compared = omniloop(
        "backends", folder / "demo", worse, "--format", "csv", "--out", tmp_path / "t"
    )
    assert compared.returncode == 0, compared.stderr
    assert compared.stdout.startswith("backend,reference,from_m,to_m,")
    assert compared.stdout == (tmp_path / "t" / "backends.csv").read_text()
    suffixes = {path.suffix for path in (tmp_path / "t").iterdir()}
    assert suffixes == {".csv", ".md", ".tex", ".svg"}


def test_bad_input_exits_2_with_one_clear_message(folder, tmp_path):
    demo, out = folder / "demo", tmp_path / "out"
    for arguments, says in (
        (("rerender", demo, "policy=log_replay", "--out", out), "is not of the renderer"),
        (("rerender", folder / "nothing", "--out", out), "does not exist"),
        (("rerender", demo, "--out", demo), "into itself"),
        (("backends", demo), "two runs or more"),
        (("backends", demo, demo), "two runs or more"),
        (("backends", demo, tmp_path, "--bins", "a,b"), "'a,b' are no metres"),
        (("backends", demo, tmp_path, "--bins", "2,1"), "bins end at 2, 1 m"),
    ):
        done = omniloop(*arguments)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert done.stderr.startswith("error: ")
        assert says in done.stderr
        assert "Traceback" not in done.stderr
