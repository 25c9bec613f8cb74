"""How far ego strays from the recorded ego path."""

from __future__ import annotations

from typing import ClassVar

from omniloop.core.contracts import MetricValue
from omniloop.core.record import RolloutRecord
from omniloop.metrics.recording import path_offsets
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NOTHING_DRIVEN, undefined


class PathDistanceMetric:
    """Distance of the rig origin from the whole recorded ego path, in the plane.

    Greatest and mean over the score grid, in metres, whatever the time at which the
    recording was there. Undefined when nothing was driven.
    """

    names: ClassVar[tuple[str, ...]] = ("path_distance_max_m", "path_distance_mean_m")

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`."""
        samples = score_samples(record)
        if samples is None:
            return undefined(self.names, NOTHING_DRIVEN)
        distance_m = path_offsets(record).distance_m
        farthest = int(distance_m.argmax())
        return [
            MetricValue(
                "path_distance_max_m",
                float(distance_m[farthest]),
                details={"at_us": int(samples.times_us[farthest])},
            ),
            MetricValue("path_distance_mean_m", float(distance_m.mean())),
        ]
