"""What the manifest lists has reached the disk before the manifest lists it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from omniloop.core.errors import RunFolderError
from omniloop.export.export import export_run
from omniloop.export.manifest import MANIFEST_NAME, Manifest, read_manifest
from omniloop.export.settings import FORMS, ExportSettings
from tests.export.runs import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("power_cut") / "run", ["a"], seeds=2, seconds=3.0)


@pytest.mark.parametrize("form", FORMS)
def test_files_and_the_folders_with_their_names_are_synced_before_they_are_listed(
    form, run, tmp_path, monkeypatch
):
    """A folder counts as synced until a name in it changes."""
    out, fsync, write = tmp_path / "out", os.fsync, Manifest.write
    synced: dict[int, int] = {}  # inode to the time of its last change, ns
    listed = []

    def noted(opened):
        status = os.fstat(opened)
        synced[status.st_ino] = status.st_mtime_ns
        fsync(opened)

    def checked(manifest, folder, unfinished):
        # Every folder on the way counts, but the export's own has the manifest's and .partial.
        finished = [p for p in out.rglob("*") if p.relative_to(out).parts[0][0] != "."]
        for path in finished if manifest.shards else ():
            if path.name != MANIFEST_NAME:
                status = path.stat()
                assert synced.get(status.st_ino) == status.st_mtime_ns, path
                listed.append(path)
        write(manifest, folder, unfinished)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Manifest, "write", checked)
    export_run(run, out, ExportSettings(form, shard_samples=12))
    written = {p for p in out.rglob("*") if p.is_file()} - {out / MANIFEST_NAME, out / ".lock"}
    assert written <= set(listed)
    assert out.stat().st_ino in synced


def refusing(monkeypatch, wanted, number: int) -> None:
    """Have fsync fail for what `wanted` holds of."""
    fsync = os.fsync

    def refused(opened):
        if wanted(Path(os.readlink(f"/proc/self/fd/{opened}"))):
            raise OSError(number, os.strerror(number))
        fsync(opened)

    monkeypatch.setattr(os, "fsync", refused)


def test_an_image_that_does_not_reach_the_disk_is_named_and_not_listed(run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        refusing(patch, lambda path: path.suffix == ".jpg", errno.EIO)
        with pytest.raises(RunFolderError, match=r"\.jpg cannot be written: Input/output error"):
            export_run(run, tmp_path / "out", ExportSettings("frames"))
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert not manifest.shards
    assert export_run(run, tmp_path / "out", ExportSettings("frames")).added == 2


def test_a_file_system_without_fsync_of_folders_can_hold_an_export(run, tmp_path, monkeypatch):
    def is_folder(path: Path) -> bool:
        return stat.S_ISDIR(path.stat().st_mode)

    with monkeypatch.context() as patch:
        refusing(patch, is_folder, errno.EINVAL)
        assert export_run(run, tmp_path / "out", ExportSettings("frames")).added == 2
    refusing(monkeypatch, is_folder, errno.EIO)
    with pytest.raises(RunFolderError, match="Input/output error"):
        export_run(run, tmp_path / "other", ExportSettings("frames"))
