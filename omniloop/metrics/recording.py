"""Where ego is relative to the recorded ego path."""

from __future__ import annotations

from dataclasses import dataclass

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Times
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import Scene
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NOTHING_DRIVEN
from omniloop.scenes.recorded_path import recorded_path


@dataclass(frozen=True, eq=False)
class PathOffsets:
    """The rig origin on the score grid, projected on the whole recorded ego path.

    Attributes:
        s_m: ``(K,)`` distance along the path of the nearest point on it.
        distance_m: ``(K,)`` distance to that point.
    """

    s_m: Array
    distance_m: Array


@once_per_object
def path_offsets(record: RolloutRecord) -> PathOffsets:
    """Project ego on the recorded path.

    Raises:
        ValueError: the record has no score samples.
    """
    samples = score_samples(record)
    if samples is None:
        raise ValueError(f"{record.session_id}: {NOTHING_DRIVEN}")
    return PathOffsets(
        *geometry.project_on_polyline(samples.ego.local_to_rig[:, :2], recorded_path(record.scene))
    )


def recorded_xy(scene: Scene, times_us: Times) -> Array:
    """Recorded positions ``(K, 2)`` of the rig origin at times inside the recording."""
    return scene.ego.sample(times_us)[:, :2]
