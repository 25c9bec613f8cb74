"""AlpaSim's progress along the recorded path and distances from it.

All are of the centre of ego's box, against the recorded path of that point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.record import RolloutRecord
from omniloop.metrics.alpasim_rows import Rows, box_centres, recorded_centres
from omniloop.metrics.alpasim_settings import Settings

NO_LENGTH = "the recorded path has no length"
RECORDING_ENDS = "the recording ends before the rollout"


@dataclass(frozen=True, eq=False)
class RowRecording:
    """Ego against the recording at every row; ``(K,)`` each, or a reason.

    Attributes:
        progress: Share of the whole recorded path behind the point nearest to ego.
        progress_rel: Likewise of the path up to that time.
        from_path_m: Distance to the whole path.
        from_location_m: Distance to where the recording was at that time.
        driven_m: Distance driven since the start of the context.
        recorded_m: Length of the whole path.
    """

    progress: Array | str
    progress_rel: Array | str
    from_path_m: Array
    from_location_m: Array | str
    driven_m: Array
    recorded_m: Array


def row_recording(record: RolloutRecord, rows: Rows, settings: Settings) -> RowRecording:
    """Compare ego with the recording at every row."""
    path = recorded_centres(record.scene)
    along_m, from_path_m = geometry.project_on_polyline(rows.ego_xy, path)
    length_m = float(geometry.arc_length_m(path)[-1])
    progress: Array | str = NO_LENGTH
    if length_m > 0:
        progress = along_m / length_m
    progress_rel: Array | str = RECORDING_ENDS
    from_location_m: Array | str = RECORDING_ENDS
    if rows.times_us[-1] <= record.scene.ego.end_us:
        recorded = box_centres(record.scene, record.scene.ego.sample(rows.times_us))[:, :2]
        progress_rel = _progress_so_far(rows.ego_xy, recorded)
        from_location_m = np.linalg.norm(rows.ego_xy - recorded, axis=1)
    driven_m = geometry.arc_length_m(rows.ego_xy)
    if settings.strict:  # ego projected on the whole of its own path
        driven_m = geometry.project_on_polyline(rows.ego_xy, rows.ego_xy)[0]
        _fake_first_two(progress, _interpolated(progress))
        _fake_first_two(progress_rel, 1.0)
        for distance_m in (from_path_m, from_location_m, driven_m):
            _fake_first_two(distance_m, 0.0)
    return RowRecording(
        progress, progress_rel, from_path_m, from_location_m, driven_m,
        np.full(len(rows.times_us), length_m),
    )  # fmt: skip


def _fake_first_two(values: Array | str, put: Array | float) -> None:
    """AlpaSim does not look at the first two rows, and puts something there."""
    if not isinstance(values, str):
        values[:2] = put


def _interpolated(progress: Array | str) -> Array | float:
    """From 0 at the first row evenly to the third; NaN without a third."""
    if isinstance(progress, str) or len(progress) < 3:
        return np.nan
    return np.array([0.0, progress[2] / 2])


def _progress_so_far(points: Array, path: Array) -> Array:
    """Share of the path up to each row behind the point on it nearest to ego.

    Args:
        points: ``(K, 2)`` ego at the rows.
        path: ``(K, 2)`` the recording at the rows.

    Returns:
        ``(K,)``; 1 while the recording has not moved.
    """
    out = np.ones(len(points))
    if len(points) < 2:
        return out
    start, step = path[:-1], np.diff(path, axis=0)
    length2 = np.maximum(np.sum(step * step, axis=1), 1e-30)
    rel_x = points[:, :1] - start[:, 0]
    rel_y = points[:, 1:2] - start[:, 1]
    t = np.clip((rel_x * step[:, 0] + rel_y * step[:, 1]) / length2, 0.0, 1.0)
    gap2 = (rel_x - t * step[:, 0]) ** 2 + (rel_y - t * step[:, 1]) ** 2
    gap2[np.triu_indices(len(points), 0, len(points) - 1)] = np.inf  # not driven yet
    best = gap2.argmin(axis=1)
    at_m = geometry.arc_length_m(path)
    rows = np.arange(len(points))
    along_m = at_m[best] + t[rows, best] * np.sqrt(length2[best])
    moved = at_m > 0
    out[moved] = np.minimum(along_m[moved] / at_m[moved], 1.0)
    return out
