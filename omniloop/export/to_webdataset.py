"""Tar shards of samples, one per decision, in the convention of WebDataset.

Members of a sample are adjacent and share the name up to its first dot, the sample's key.
https://github.com/webdataset/webdataset
"""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from omniloop.core.contracts import CameraFrame
from omniloop.core.errors import ConfigError
from omniloop.core.time import US_PER_S
from omniloop.export.calibration import calibration
from omniloop.export.columns import value_at
from omniloop.export.files import HashedFile, Written, writable
from omniloop.export.folder import ExportFolder
from omniloop.export.frame_index import suffix_of
from omniloop.export.names import safe_name, sample_key
from omniloop.export.packer import Packer
from omniloop.export.rollout import Rollout
from omniloop.export.rows import actor_columns, decision_columns
from omniloop.export.schema import ACTORS, DECISIONS
from omniloop.export.settings import ExportSettings
from omniloop.runlog.reader import iter_frames

_BLOCK = 512
_END = tarfile.RECORDSIZE
_AT_ONCE = 64
"""Decisions whose numbers are worked out together."""

_NOT_OF_ACTOR = ("scene", "seed", "decision", "time_us", "valid")


@dataclass(frozen=True, eq=False)
class Sample:
    """One decision: file names in the sample, without its key, and their content."""

    key: str
    files: dict[str, bytes]
    count: int = 1

    @property
    def size(self) -> int:
        """Bytes in a tar; a long name takes two further blocks."""
        return sum(4 * _BLOCK + -(-len(data) // _BLOCK) * _BLOCK for data in self.files.values())


class TarShard:
    """A tar whose bytes depend on its samples alone."""

    def __init__(self, folder: ExportFolder, number: int) -> None:
        self._name = f"shard-{number:06d}.tar"
        path = folder.partial(self._name)
        with writable(path):
            self._file = HashedFile(path)
        self._tar = tarfile.open(  # noqa: SIM115, closed by finish
            fileobj=self._file, mode="w", format=tarfile.GNU_FORMAT
        )

    @property
    def size(self) -> int:
        """See `ShardWriter`."""
        return self._file.size + _END + 2 * _BLOCK

    def add(self, piece: Sample) -> None:
        """See `ShardWriter`."""
        with writable(self._file.path):
            for name, data in sorted(piece.files.items()):
                info = tarfile.TarInfo(f"{piece.key}.{name}")
                info.size = len(data)
                self._tar.addfile(info, io.BytesIO(data))

    def finish(self) -> list[Written]:
        """See `ShardWriter`."""
        with writable(self._file.path):
            self._tar.close()
            self._file.close()
        return [self._file.written(self._name)]

    def abandon(self) -> None:
        """See `ShardWriter`."""
        with contextlib.suppress(OSError):  # what went wrong is known already
            self._file.close()


class ToWebDataset:
    """Exports decisions with the images that were delivered by then."""

    def __init__(self, folder: ExportFolder, settings: ExportSettings) -> None:
        folder.remove_unlisted("shard-*.tar")
        self._settings = settings
        self._packer: Packer[Sample] = Packer(folder, settings, lambda n: TarShard(folder, n))

    def add(self, rollout: Rollout, first: int) -> int:
        """Export a rollout from sample `first` on; return how many samples it has in all.

        Raises:
            RunFolderError: a shard cannot be written.
            ConfigError: two cameras have names that WebDataset takes for one.
        """
        names = {camera: safe_name(camera) for camera in rollout.frames.cameras}
        _check_distinct(names)
        self._packer.begin(*rollout.source.key, first)
        count = 0
        for meta, seen in samples(rollout, self._settings):
            if count >= first:
                self._packer.add(_sample(rollout, meta, seen, names))
            count += 1
        self._packer.end()
        return count

    def close(self) -> None:
        """Finish the last shard."""
        self._packer.close()

    def abandon(self) -> None:
        """Close what is open; it is of no use."""
        self._packer.abandon()


def samples(
    rollout: Rollout, settings: ExportSettings
) -> Iterator[tuple[dict[str, Any], dict[str, list[CameraFrame]]]]:
    """The numbers of each chosen decision, and each camera's newest frames, newest last.

    Decisions at which a camera has fewer frames than wanted are left out. No more images are in
    memory than one sample holds.
    """
    delivered = iter_frames(rollout.source.log)
    upcoming = next(delivered, None)
    held: dict[str, list[CameraFrame]] = {camera: [] for camera in rollout.frames.cameras}
    for meta in _metas(rollout, round(settings.incident_within_s * US_PER_S)):
        while upcoming is not None and upcoming.available_us <= meta["time_us"]:
            if upcoming.camera_id in held:
                frames = held[upcoming.camera_id]
                insort(frames, upcoming, key=lambda frame: frame.capture_us)  # it may come late
                del frames[: -settings.history]
            upcoming = next(delivered, None)
        if held and all(len(frames) == settings.history for frames in held.values()):
            yield meta, held


def _metas(rollout: Rollout, incident_within_us: int) -> Iterator[dict[str, Any]]:
    """What ``meta.json`` says of each chosen decision, its frames and cameras aside."""
    of_actor = [f.name for f in ACTORS if f.name not in _NOT_OF_ACTOR]
    count = len(rollout.record.scene.actors)
    for k in range(0, len(rollout.chosen), _AT_ONCE):
        which = rollout.chosen[k : k + _AT_ONCE]
        columns = decision_columns(rollout, which, incident_within_us)
        others = actor_columns(rollout, which)
        there = np.asarray(others["valid"]).reshape(len(which), count)
        for row in range(len(which)):
            meta = {f.name: value_at(columns[f.name], row) for f in DECISIONS}
            present = (row * count + np.flatnonzero(there[row])).tolist()
            meta["actors"] = [{n: value_at(others[n], i) for n in of_actor} for i in present]
            yield meta


def _sample(
    rollout: Rollout, meta: dict[str, Any], seen: dict[str, list[CameraFrame]],
    names: dict[str, str],
) -> Sample:  # fmt: skip
    files: dict[str, bytes] = {}
    frames = []
    for camera, history in seen.items():
        poses = rollout.ego_at(np.array([frame.capture_us for frame in history])).tolist()
        for k, frame in enumerate(history):
            back = len(history) - 1 - k
            file = f"{names[camera]}{f'.{back}' if back else ''}.{suffix_of(frame)}"
            files[file] = frame.image
            frames.append(
                {
                    "file": file, "camera": camera, "start_us": frame.start_us,
                    "capture_us": frame.capture_us, "available_us": frame.available_us,
                    "local_to_rig": poses[k],
                }
            )  # fmt: skip
    cameras = {camera: calibration(rollout.cameras[camera]) for camera in seen}
    document = {**meta, "frames": frames, "cameras": cameras}
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    files["meta.json"] = text.encode()
    return Sample(sample_key(*rollout.source.key, meta["decision"]), files)


def _check_distinct(names: dict[str, str]) -> None:
    lower: dict[str, str] = {}
    for camera, name in names.items():
        other = lower.setdefault(name.lower(), camera)
        if other != camera:
            raise ConfigError(
                f"WebDataset takes cameras '{other}' and '{camera}' for one: it ignores case",
                where="--cameras", remedy="export one of them",
            )  # fmt: skip
