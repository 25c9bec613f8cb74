"""A rollout as it is exported: its record, its incidents, its frames without their images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omniloop.core.cameras import Camera
from omniloop.core.errors import RunFolderError
from omniloop.core.geometry import Array
from omniloop.core.motion import Times
from omniloop.core.record import RolloutRecord
from omniloop.export.calibration import cameras_of
from omniloop.export.frame_index import AGAIN, FrameIndex, index_frames
from omniloop.export.settings import ExportSettings
from omniloop.export.sources import Source
from omniloop.report.incidents import Incident, incidents_from_metrics, incidents_of_record
from omniloop.runlog.reader import LogReader
from omniloop.runlog.record import read_record

_SCORES = ("collision", "offroad")


@dataclass(frozen=True, eq=False)
class Rollout:
    """One rollout, everything but its images.

    Attributes:
        source: Where it is from.
        record: What was simulated.
        scene_sha256: Hash of the scene's bundle.
        incidents: By time.
        found_by: "result" or "defaults", see the table `incidents`.
        frames: Delivered frames.
        cameras: Those with frames, at the size of their images.
        decisions_us: ``(D,)`` times of all decisions.
        chosen: ``(N,)`` indices of the decisions to export.
        within_us: Frames captured in ``[within_us[0], within_us[1])`` are exported.
    """

    source: Source
    record: RolloutRecord
    scene_sha256: str
    incidents: tuple[Incident, ...]
    found_by: str
    frames: FrameIndex
    cameras: dict[str, Camera]
    decisions_us: Times
    chosen: NDArray[np.intp]
    within_us: tuple[int, int]

    def ego_at(self, times_us: Times) -> Array:
        """True poses ``(N, 7)``, ``local_to_rig``, interpolated at committed times."""
        return self.record.ego.trajectory.sample(times_us)


def open_rollout(source: Source, settings: ExportSettings) -> Rollout:
    """Read a rollout's log, all of it: what is damaged is found before anything is written.

    Raises:
        RunFolderError: the log is damaged, cut off, or contradicts itself.
        SceneError: the scene in it cannot be read.
        ConfigError: the scene lacks a camera of which there are frames.
    """
    record = read_record(source.log)
    frames = index_frames(source.log, source.cameras)
    decisions_us = np.array([d.time_us for d in record.decisions], dtype=np.int64)
    for what, times in (("decision", decisions_us), ("frame", frames.capture_us)):
        _check_committed(what, times, record, source)
    incidents, found_by = _incidents(source, record)
    first_us = record.schedule.handover_us if settings.after_handover_only else 0
    first_us = max(first_us, int(record.ego.times_us[0]))
    end_us = record.frontier_us + 1
    if settings.until_incident and incidents:
        end_us = min(end_us, incidents[0].start_us)
    wanted = (decisions_us >= first_us) & (decisions_us < end_us)
    wanted &= np.arange(len(decisions_us)) % settings.every == 0
    return Rollout(
        source=source, record=record, scene_sha256=LogReader(source.log).header().scene_sha256,
        incidents=incidents, found_by=found_by, frames=frames,
        cameras=cameras_of(record.scene, frames), decisions_us=decisions_us,
        chosen=np.flatnonzero(wanted), within_us=(first_us, end_us),
    )  # fmt: skip


def _incidents(source: Source, record: RolloutRecord) -> tuple[tuple[Incident, ...], str]:
    scores = [source.result.metrics.get(name) for name in _SCORES]
    if any(score is not None and score.valid for score in scores):
        return tuple(incidents_from_metrics(source.result.metrics)), "result"
    return tuple(incidents_of_record(record)), "defaults"


def _check_committed(what: str, times: Times, record: RolloutRecord, source: Source) -> None:
    first_us, last_us = int(record.ego.times_us[0]), record.frontier_us
    outside = times[(times < first_us) | (times > last_us)]
    if len(outside):
        raise RunFolderError(
            f"the {what} of {outside[0]} us is outside the committed states,"
            f" {first_us} to {last_us} us",
            where=str(source.log), remedy=AGAIN,
        )  # fmt: skip
