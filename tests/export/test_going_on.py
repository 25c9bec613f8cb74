"""An export that was ended at any moment goes on: nothing lost, nothing doubled, same bytes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from omniloop.core.errors import RunFolderError
from omniloop.export import files as export_files
from omniloop.export import folder as export_folder
from omniloop.export.export import export_run
from omniloop.export.manifest import read_manifest
from omniloop.export.settings import FORMS, ExportSettings
from tests.export.runs import add_rollout, make_run, tree

ROOT = Path(__file__).resolve().parents[2]


def settings(form: str) -> ExportSettings:
    """Choices with which a rollout goes over several shards, and a shard over several rollouts."""
    return ExportSettings(form, shard_samples=12, every=3 if form == "frames" else 1)


class Killed(BaseException):
    """Ends an export as a signal would: no handler of errors is for it."""


def every_write(monkeypatch, end_at: int) -> list[int]:
    """Count writes, renames and removals; raise `Killed` before number `end_at`."""
    count = [0]

    def counted(function):
        def call(*args, **kwargs):
            count[0] += 1
            if count[0] == end_at:
                raise Killed
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(export_files.HashedFile, "write", counted(export_files.HashedFile.write))
    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))
    monkeypatch.setattr(export_folder.shutil, "rmtree", counted(export_folder.shutil.rmtree))
    return count


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("going_on") / "run", ["a", "b"], seeds=2, seconds=3.0)


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """What each form gives undisturbed."""
    out = tmp_path_factory.mktemp("whole")
    for form in FORMS:
        export_run(run, out / form, settings(form))
    return {form: tree(out / form) for form in FORMS}


@pytest.mark.parametrize("form", FORMS)
def test_an_export_that_is_ended_again_and_again_ends_with_the_same_files(
    form, run, whole, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        writes = every_write(patch, -1)
        export_run(run, tmp_path / "counted", settings(form))
    rng = np.random.default_rng(7)
    for trial in range(3):
        out = tmp_path / f"out{trial}"
        ended = 0
        for _ in range(40):
            try:
                with monkeypatch.context() as patch:
                    every_write(patch, int(rng.integers(1, writes[0] // 2)))
                    export_run(run, out, settings(form))
                break
            except Killed:
                ended += 1
            check_listed(out)
        else:
            export_run(run, out, settings(form))
        assert ended > 0
        assert tree(out) == whole[form]


def check_listed(out: Path) -> None:
    """What the manifest lists is there, whole, and no sample is in it twice."""
    manifest = read_manifest(out)
    if manifest is None:
        return
    for name, file in manifest.files.items():
        assert (out / name).stat().st_size == file.size
    reached: dict[tuple[str, int], int] = {}
    for shard in manifest.shards:
        for span in shard.spans:
            assert reached.get((span.scene, span.seed), 0) == span.first
            reached[span.scene, span.seed] = span.first + span.count


_KILLED = """
import os, signal, sys
from pathlib import Path
from omniloop.export.export import export_run
from omniloop.export.settings import ExportSettings
import omniloop.export.to_frames, omniloop.export.to_parquet, omniloop.export.to_webdataset
run, out = Path(sys.argv[1]), Path(sys.argv[2])
replace = Path.replace
for number, case in enumerate(sys.argv[3:]):
    form, every, at = case.split()
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        continue
    left = [int(at)]
    def dying(self, target):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)
    Path.replace = dying
    export_run(run, out / str(number), ExportSettings(form, shard_samples=12, every=int(every)))
    os._exit(0)
"""


@pytest.mark.timeout(600)
def test_a_killed_process_leaves_an_export_that_goes_on(run, whole, tmp_path):
    """The last is killed before anything was finished: it leaves a folder to begin in."""
    cases = [("webdataset", 6), ("parquet", 9), ("frames", 5), ("parquet", 1)]
    words = [f"{form} {settings(form).every} {at}" for form, at in cases]
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, run, tmp_path, *words],
        cwd=ROOT, check=True, timeout=500, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == [str(-signal.SIGKILL.value)] * len(cases)
    for number, (form, at) in enumerate(cases):
        out = tmp_path / str(number)
        manifest = read_manifest(out)
        if at == 1:
            assert manifest is None
        else:
            assert manifest is not None
            assert not manifest.complete
            assert manifest.shards, "it was killed before anything was finished"
        export_run(run, out, settings(form))
        assert tree(out) == whole[form]


@pytest.mark.parametrize("form", FORMS)
def test_a_run_that_has_grown_adds_its_new_rollouts_and_leaves_the_rest(form, tmp_path):
    run = make_run(tmp_path / "run", ["b"], seconds=3.0)
    first = export_run(run, tmp_path / "out", settings(form))
    before = tree(tmp_path / "out")
    add_rollout(run, "a", seconds=3.0)
    grown = export_run(run, tmp_path / "out", settings(form))
    assert (grown.rollouts, grown.added, grown.samples) == (2, 1, 2 * first.samples)
    after = tree(tmp_path / "out")
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"manifest.json"}
    again = export_run(run, tmp_path / "out", settings(form))
    assert (again.added, again.samples) == (0, grown.samples)
    assert tree(tmp_path / "out") == after


def test_only_one_process_exports_into_a_folder(run, tmp_path):
    def told(line, done, count):
        with pytest.raises(RunFolderError, match="in use"):
            export_run(run, tmp_path / "out", settings("parquet"))

    export_run(run, tmp_path / "out", settings("parquet"), told)


@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_a_shard_that_was_renamed_but_not_listed_is_not_counted_twice(form, run, whole, tmp_path):
    out = tmp_path / "out"
    export_run(run, out, settings(form))
    manifest = read_manifest(out)
    manifest.shards.pop()  # as if it had been killed before it listed the last shard
    manifest.complete = False
    manifest.write(out, tmp_path / "manifest.json")
    export_run(run, out, settings(form))
    assert tree(out) == whole[form]
    assert not (out / ".partial").exists()
