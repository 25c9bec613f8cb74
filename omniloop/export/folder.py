"""The folder of an export: held by one process, gone on with after any end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from omniloop.core.errors import RunFolderError
from omniloop.export.files import Written, reach_disk, writable
from omniloop.export.manifest import MANIFEST_NAME, Manifest, Shard, Span, read_manifest
from omniloop.export.settings import ExportSettings, differences
from omniloop.export.sources import Key, Source, Sources
from omniloop.runlog.files import usable
from omniloop.runlog.folder import RUN_YAML

_PARTIAL = ".partial"
_LOCK = ".lock"
_ELSEWHERE = "choose another folder with --out"


class ExportFolder:
    """Where an export goes.

    What is not finished lies below ``.partial``; it is renamed into place, and then counts
    as soon as the manifest lists it.

    Attributes:
        path: The folder.
        manifest: What is finished.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._sources: dict[Key, str] = {}

    @classmethod
    @contextlib.contextmanager
    def hold(cls, path: Path, settings: ExportSettings, sources: Sources) -> Iterator[ExportFolder]:
        """Begin an export or take one up, with nothing left over from one that was killed.

        Raises:
            RunFolderError: the folder is in use, holds something else or another export, or
                belongs to a run.
        """
        _check_place(path, sources.run_dir)
        with usable(path, "made", "choose a writable folder with --out"):
            path.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            manifest = read_manifest(path)
            if manifest is None:
                strays = sorted({p.name for p in path.iterdir()} - {_LOCK, _PARTIAL})
                if strays:
                    raise RunFolderError(
                        f"the folder is not empty and holds no export: {strays[0]}",
                        where=str(path), remedy=_ELSEWHERE,
                    )  # fmt: skip
                manifest = Manifest(
                    sources.run_dir.resolve().name, sources.settings_sha256, settings.document()
                )
            else:
                _check_same(manifest, settings, sources, path)
            folder = cls(path, manifest)
            folder._sources = {s.key: s.sha256 for s in sources.chosen}
            folder._begin()
            try:
                yield folder
            finally:
                with contextlib.suppress(OSError):
                    shutil.rmtree(path / _PARTIAL)

    def _begin(self) -> None:
        with writable(self.path, "cleared"):
            if (self.path / _PARTIAL).exists():
                shutil.rmtree(self.path / _PARTIAL)
            (self.path / _PARTIAL).mkdir()
        self.manifest.complete, self.manifest.skipped = False, []
        self.manifest.write(self.path, self.partial(MANIFEST_NAME))

    def remove_unlisted(self, pattern: str, *, with_folder: bool = False) -> None:
        """Remove files that match and that the manifest does not list, or their folders.

        Raises:
            RunFolderError: that cannot be done.
        """
        listed = self.manifest.files
        for file in sorted(self.path.glob(pattern)):
            if file.relative_to(self.path).as_posix() not in listed:
                with writable(file, "removed"):
                    shutil.rmtree(file.parent) if with_folder else file.unlink()

    def order(self, chosen: Sequence[Source]) -> list[tuple[Source, int]]:
        """Rollouts that are not finished, with the samples each has: one begun comes first."""
        progress = self.manifest.progress()
        todo = [(source, *progress.get(source.key, (0, False))) for source in chosen]
        left = [(source, first) for source, first, done in todo if not done]
        return sorted(left, key=lambda item: item[1] == 0)

    def partial(self, name: str) -> Path:
        """The place of an unfinished file or folder that is to be called `name`."""
        return self.path / _PARTIAL / name.replace("/", "%2F")

    def commit(self, moved: Sequence[str], files: Sequence[Written], spans: Sequence[Span]) -> None:
        """Put finished files into place, then list them.

        Args:
            moved: Names of the files or folders to rename out of `partial`.
            files: The files to list.
            spans: What they hold.

        Raises:
            RunFolderError: that cannot be done.
        """
        renamed_in: dict[Path, None] = {}
        for name in moved:
            target = self.path / name
            with writable(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.is_dir():  # left over from an export that was killed right here
                    shutil.rmtree(target)
                self.partial(name).replace(target)
            depth = len(target.relative_to(self.path).parts)
            renamed_in.update(dict.fromkeys(target.parents[:depth]))
        reach_disk(renamed_in)  # what the manifest lists is there after a power cut, too
        for span in spans:
            key = (span.scene, span.seed)
            self.manifest.sources[f"{span.scene}/{span.seed}"] = self._sources[key]
        self.manifest.shards.append(Shard(tuple(files), tuple(spans)))
        self.manifest.write(self.path, self.partial(MANIFEST_NAME))

    def finish(self, skipped: Sequence[str]) -> None:
        """Say that all is exported but what was skipped.

        Raises:
            RunFolderError: the manifest cannot be written.
        """
        self.manifest.complete, self.manifest.skipped = True, list(skipped)
        self.manifest.write(self.path, self.partial(MANIFEST_NAME))


def _check_place(path: Path, run_dir: Path) -> None:
    """Refuse a folder that belongs to a run; beside a run's own files it may be."""
    here, own = path.resolve(), run_dir.resolve()
    for folder in (here, *here.parents):
        is_run = (folder / RUN_YAML).is_file() and (folder / "rollouts").is_dir()
        if is_run and (folder != own or here == own or here.is_relative_to(own / "rollouts")):
            raise RunFolderError(
                f"the folder belongs to the run {folder.name}", where=str(path), remedy=_ELSEWHERE
            )


def _check_same(manifest: Manifest, settings: ExportSettings, sources: Sources, path: Path) -> None:
    if manifest.settings_sha256 != sources.settings_sha256:
        raise RunFolderError(
            f"the folder holds an export of another run, {manifest.run}", where=str(path),
            remedy=_ELSEWHERE,
        )  # fmt: skip
    changed = differences(manifest.settings, settings.document())
    if changed:
        raise RunFolderError(
            f"the export was begun with other choices: {'; '.join(changed)}", where=str(path),
            remedy="give the choices that it was begun with, or choose another folder with --out",
        )  # fmt: skip
    now = {f"{s.key[0]}/{s.key[1]}": s.sha256 for s in sources.chosen}
    for name, sha256 in manifest.sources.items():
        if now.get(name) != sha256:
            what = "has changed since" if name in now else "is no longer among those of the run"
            raise RunFolderError(
                f"rollout {name}, which is exported, {what}", where=str(path),
                remedy="export the run as it is now to another folder with --out",
            )  # fmt: skip
    for file in manifest.files.values():
        found = path / file.name
        size = found.stat().st_size if found.is_file() else None
        if size != file.size:
            what = "is missing" if size is None else f"has {size} bytes, not {file.size}"
            raise RunFolderError(
                f"{file.name} of the export {what}", where=str(path),
                remedy="remove the folder and export again",
            )  # fmt: skip


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the folder's lock; the operating system lets it go with the process."""
    with writable(path, "locked"):
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunFolderError(
                f"the folder is in use or cannot be locked: {error.strerror}", where=str(path),
                remedy="wait until the other export is done, or choose another folder with --out",
            ) from error  # fmt: skip
        yield
    finally:
        os.close(lock)
