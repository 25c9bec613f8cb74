"""How far ego strays from the recorded ego path."""

from __future__ import annotations

from typing import ClassVar

from omniloop.core.contracts import MetricValue
from omniloop.core.record import RolloutRecord
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.recording import path_offsets
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NOTHING_DRIVEN, own, undefined

_SOURCE = "AlpaSim, `dist_to_gt_trajectory`, which measures from the centroid of ego's polygon"


class PathDistanceMetric:
    """Distance of the rig origin from the whole recorded ego path, in the plane.

    Whatever the time at which the recording was there. The path is thinned to one recorded
    pose per 25 cm: faster pose streams carry millimetres of noise, which would add up to metres
    of path while the vehicle stands. This moves the path by millimetres, by up to 2 cm in the
    real recordings tried.
    """

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        own(
            "path_distance_max_m", "m", "max over t of the distance from the recorded ego path",
            "greatest sample", source=_SOURCE,
        ),
        own(
            "path_distance_mean_m", "m", "mean over t of the distance from the recorded ego path",
            "mean over samples", source=_SOURCE,
        ),
    )  # fmt: skip
    names = tuple(d.name for d in definitions)

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
