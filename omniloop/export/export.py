"""A run exported as training data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from omniloop.core.errors import InputError, RunFolderError
from omniloop.export.folder import ExportFolder
from omniloop.export.rollout import Rollout, open_rollout
from omniloop.export.settings import ExportSettings
from omniloop.export.sources import Source, Sources, find_sources

Progress = Callable[[str, int, int], None]
"""Is told a line on a rollout, how many are done and how many there are."""


class Form(Protocol):
    """One way to write rollouts."""

    def add(self, rollout: Rollout, first: int) -> int:
        """Export a rollout from sample `first` on; return how many samples it has in all."""
        ...

    def close(self) -> None:
        """Finish what is open."""
        ...

    def abandon(self) -> None:
        """Close what is open after an error."""
        ...


@dataclass(frozen=True)
class Exported:
    """What an export did.

    Attributes:
        out: The folder.
        rollouts: Rollouts that are in it now.
        added: Of them, those that this call finished.
        samples: Decisions in it; of `frames`, images.
        files: Files that its manifest lists.
        skipped: A line for each rollout that could not be exported, with the reason.
    """

    out: Path
    rollouts: int
    added: int
    samples: int
    files: int
    skipped: tuple[str, ...]


def export_run(
    run_dir: Path, out: Path | None, settings: ExportSettings, progress: Progress | None = None
) -> Exported:
    """Export the rollouts of a run, or go on with an earlier export.

    What is exported already is left as it is. The same run and settings give the same bytes,
    however often the export was ended, and at whatever moment.

    Args:
        run_dir: The run's folder.
        out: Where to; ``export/<form>`` in the run's folder if None.
        settings: What, and how.
        progress: Is told how it goes on.

    Raises:
        RunFolderError: the run cannot be read, or the folder is another's or cannot be written.
        ConfigError: a choice does not fit the run.
    """
    sources = find_sources(run_dir, settings)
    out = out if out is not None else sources.run_dir / "export" / settings.form
    skipped, added = list(sources.skipped), 0
    tell = progress or (lambda line, done, count: None)
    with ExportFolder.hold(out, settings, sources) as folder:
        form = _form(folder, settings, sources)
        todo = folder.order(sources.chosen)
        try:
            for done, (source, first) in enumerate(todo, 1):
                rollout = _opened(source, settings, skipped)
                if rollout is None:
                    tell(skipped[-1], done, len(todo))
                    continue
                count = form.add(rollout, first)
                added += 1
                tell(f"{source.result.session_id}: {count} {_unit(settings)}", done, len(todo))
            form.close()
        finally:
            form.abandon()
        folder.finish(skipped)
        progress_by_key = folder.manifest.progress()
        return Exported(
            out=out, rollouts=sum(done for _, done in progress_by_key.values()), added=added,
            samples=sum(count for count, _ in progress_by_key.values()),
            files=len(folder.manifest.files), skipped=tuple(skipped),
        )  # fmt: skip


def _unit(settings: ExportSettings) -> str:
    return {"frames": "images", "parquet": "decisions", "webdataset": "samples"}[settings.form]


def _opened(source: Source, settings: ExportSettings, skipped: list[str]) -> Rollout | None:
    """The rollout, or None if its log is damaged, which is added to `skipped`."""
    try:
        return open_rollout(source, settings)
    except (RunFolderError, InputError) as error:
        skipped.append(f"{source.result.session_id}: {error.what}")
        return None


def _form(folder: ExportFolder, settings: ExportSettings, sources: Sources) -> Form:
    if settings.form == "frames":
        from omniloop.export.to_frames import ToFrames

        return ToFrames(folder, settings)
    if settings.form == "parquet":
        from omniloop.export.to_parquet import ToParquet

        return ToParquet(folder, settings, sources)
    from omniloop.export.to_webdataset import ToWebDataset

    return ToWebDataset(folder, settings)
