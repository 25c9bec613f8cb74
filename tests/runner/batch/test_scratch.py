"""Scratch folders: gone after use, and those of killed processes with the next worker."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from omniloop.runner.batch.scratch import scratch_folder, sweep
from tests.command import ROOT

HOLDS = """
import os, signal
from omniloop.runner.batch.scratch import scratch_folder
with scratch_folder() as place:
    (place / "log.mcap").write_bytes(b"half")
    print(place, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_it_goes_when_the_block_ends_even_by_an_error(temporary: Path) -> None:
    def breaks() -> None:
        with scratch_folder() as place:
            (place / "a").write_text("")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        breaks()
    assert not list(temporary.iterdir())


def test_only_what_a_killed_process_left_is_swept(temporary: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    (temporary / "elsewhere").mkdir()
    (temporary / "omniloop-rollout-link").symlink_to(temporary / "elsewhere")
    (temporary / "omniloop-rollout-file").write_text("")
    with scratch_folder() as held:
        sweep()
        assert held.is_dir()
        assert left.is_dir()
        process.kill()
        process.communicate()
        sweep()
        assert held.is_dir()
    assert not left.exists()
    assert sorted(path.name for path in temporary.iterdir()) == [
        "elsewhere", "omniloop-rollout-file", "omniloop-rollout-link",
    ]  # fmt: skip
