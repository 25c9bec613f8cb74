"""Images as files, byte for byte as they were delivered, with a table of poses per rollout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from omniloop.core import geometry
from omniloop.core.motion import Mask
from omniloop.export.calibration import calibration
from omniloop.export.columns import Columns
from omniloop.export.files import HashedFile, reach_disk, writable, write_hashed
from omniloop.export.folder import ExportFolder
from omniloop.export.frame_index import FrameIndex, suffix_of
from omniloop.export.manifest import Span
from omniloop.export.names import safe_name
from omniloop.export.rollout import Rollout
from omniloop.export.schema import arrow_table
from omniloop.export.settings import ExportSettings
from omniloop.runlog.reader import iter_frames

_TABLE = "frames.parquet"
_CALIBRATION = "cameras.json"


class ToFrames:
    """Exports ``<scene>/<seed>/``, each folder whole or not at all."""

    def __init__(self, folder: ExportFolder, settings: ExportSettings) -> None:
        folder.remove_unlisted(f"*/*/{_TABLE}", with_folder=True)
        self._folder, self._settings = folder, settings

    def add(self, rollout: Rollout, first: int) -> int:
        """Export a rollout; return how many images it has. `first` is 0: no rollout is split.

        Raises:
            RunFolderError: the folder cannot be written, or two frames of a camera have one time.
        """
        import pyarrow.parquet as pq

        scene, seed = rollout.source.key
        name = f"{safe_name(scene)}/{seed}"
        place = self._folder.partial(name)
        kept = kept_frames(rollout.frames, self._settings.every, rollout.within_us)
        files = _write_images(place, rollout, kept)
        cameras = {camera: calibration(held) for camera, held in rollout.cameras.items()}
        text = json.dumps(cameras, indent=1) + "\n"
        written = [write_hashed(place / _CALIBRATION, text.encode(), f"{name}/{_CALIBRATION}")]
        table = arrow_table("frames", _columns(rollout, kept, files))
        with writable(place / _TABLE), HashedFile(place / _TABLE) as out:
            pq.write_table(table, out, compression="zstd", compression_level=1)
        written.append(out.written(f"{name}/{_TABLE}"))
        images = [place / file for file in files]
        reach_disk([*images, *dict.fromkeys(image.parent for image in images), place])
        self._folder.commit([name], written, [Span(scene, seed, 0, len(files), True)])
        return len(files)

    def close(self) -> None:
        """Nothing is open between rollouts."""

    def abandon(self) -> None:
        """Nor when something goes wrong."""


def kept_frames(frames: FrameIndex, every: int, within_us: tuple[int, int]) -> Mask:
    """``(F,)`` which frames are exported: every so-manieth of a camera, captured in a time."""
    kept = np.zeros(len(frames.camera), dtype=bool)
    for camera in range(len(frames.cameras)):
        kept[np.flatnonzero(frames.camera == camera)[::every]] = True
    return kept & (frames.capture_us >= within_us[0]) & (frames.capture_us < within_us[1])


def _write_images(place: Path, rollout: Rollout, kept: Mask) -> list[str]:
    """Write the images one by one; return their paths in the rollout's folder."""
    names = {camera: safe_name(camera) for camera in rollout.frames.cameras}
    with writable(place, "made"):
        place.mkdir()
        for name in sorted(set(names.values())):
            (place / name).mkdir()
    chosen = (f for f in iter_frames(rollout.source.log) if f.camera_id in names)
    files = []
    for frame, wanted in zip(chosen, kept.tolist(), strict=True):
        if wanted:
            file = f"{names[frame.camera_id]}/{frame.capture_us}.{suffix_of(frame)}"
            # A second frame of one time is refused by "x".
            with writable(place / file), (place / file).open("xb") as out:
                out.write(frame.image)
            files.append(file)
    return files


def _columns(rollout: Rollout, kept: Mask, files: list[str]) -> Columns:
    frames, (scene, seed) = rollout.frames, rollout.source.key
    camera, capture_us = frames.camera[kept], frames.capture_us[kept]
    count = len(files)
    mounted = [rollout.cameras[c].rig_to_camera if c in rollout.cameras else geometry.IDENTITY
               for c in frames.cameras]  # fmt: skip
    return {
        "scene": [scene] * count,
        "seed": np.full(count, seed, dtype=np.int64),
        "camera": [frames.cameras[k] for k in camera.tolist()],
        "file": files,
        "start_us": frames.start_us[kept],
        "capture_us": capture_us,
        "available_us": frames.available_us[kept],
        "warmup": capture_us < rollout.record.schedule.handover_us,
        "width_px": frames.size_px[kept, 0],
        "height_px": frames.size_px[kept, 1],
        "local_to_rig": rollout.ego_at(capture_us) if count else np.zeros((0, 7)),
        "rig_to_camera": np.array(mounted).reshape(-1, 7)[camera],
    }
