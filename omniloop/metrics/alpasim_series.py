"""Everything that AlpaSim scores, as series over the rows of a rollout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.motion import Mask, Times
from omniloop.core.once import once_per_object
from omniloop.core.record import BlackFrames, RolloutRecord
from omniloop.metrics.alpasim_contacts import row_contacts
from omniloop.metrics.alpasim_plans import row_plans
from omniloop.metrics.alpasim_recording import row_recording
from omniloop.metrics.alpasim_road import row_road
from omniloop.metrics.alpasim_rows import rows
from omniloop.metrics.alpasim_settings import Settings

NO_SAFETY_MONITOR = (
    "plans carry no state of a safety monitor: AlpaSim's drivers send it pickled, and bytes"
    " of a peer are never unpickled"
)
NO_FRAMES = (
    "the record of a rollout holds no images: `omniloop score --frames` looks at those of its log"
)


@dataclass(frozen=True, eq=False)
class Series:
    """Series by AlpaSim's names, without `eval_relevant`.

    Attributes:
        times_us: ``(K,)`` the rows.
        relevant: ``(K,)`` AlpaSim's `eval_relevant`.
        values: Name to ``(K,)`` values, NaN at rows without one; or to the reason why there
            are none.
    """

    times_us: Times
    relevant: Mask
    values: Mapping[str, Array | str]


@once_per_object
def series(record: RolloutRecord, settings: Settings) -> Series:
    """Compute all series of a rollout."""
    at = rows(record)
    contacts = row_contacts(record, at, settings)
    road = row_road(record, at, settings)
    recording = row_recording(record, at, settings)
    plans = row_plans(record, at, settings)
    values: dict[str, Array | str | Mask] = {
        "collision_front": contacts.front,
        "collision_rear": contacts.rear,
        "collision_lateral": contacts.lateral,
        "collision_any": contacts.front | contacts.rear | contacts.lateral,
        "offroad": road.offroad,
        "wrong_lane": road.wrong_lane,
        "min_distance_to_lane_boundary_m": road.boundary_m,
        "min_distance_to_obstacle_m": contacts.obstacle_m,
        "open_loop_collision": plans.collision,
        "progress": recording.progress,
        "progress_rel_to_total": recording.progress,
        "progress_rel": recording.progress_rel,
        "dist_to_gt_trajectory": recording.from_path_m,
        "dist_to_gt_location": recording.from_location_m,
        "dist_traveled_m": recording.driven_m,
        "gt_dist_traveled_m": recording.recorded_m,
        **plans.min_ade_m,
        "plan_deviation": plans.deviation_m,
        "img_is_black": black_at(at.times_us, record.black_frames, settings.camera),
        "safety_monitor_triggered": NO_SAFETY_MONITOR,
    }
    return Series(
        at.times_us,
        at.relevant,
        {k: v if isinstance(v, str) else v.astype(np.float64) for k, v in values.items()},
    )


def black_at(times_us: Times, frames: BlackFrames | None, camera: str) -> Array | str:
    """Whether the newest frame at each of ``(K,)`` times is black; NaN before the first."""
    if frames is None or frames.camera_id != camera:
        return NO_FRAMES
    if not len(frames.capture_us):
        return f"no frame of {camera} was delivered"
    newest = np.searchsorted(frames.capture_us, times_us, side="right") - 1
    return np.where(newest >= 0, frames.black[newest], np.nan)
