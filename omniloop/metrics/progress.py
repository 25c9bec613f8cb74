"""How far ego gets along the recorded ego path."""

from __future__ import annotations

from typing import ClassVar

from omniloop.core import geometry
from omniloop.core.contracts import MetricValue
from omniloop.core.motion import as_times
from omniloop.core.record import RolloutRecord
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.recording import path_offsets, recorded_xy
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NEVER_DRIVEN, NOTHING_DRIVEN, own, threshold, undefined
from omniloop.scenes.recorded_path import recorded_path

MIN_RECORDED_M = 2.0
"""Below this a ratio of progress says nothing (nuPlan's floor of 2 m)."""


class ProgressMetric:
    """Progress along the recorded ego path from handover to the last score sample.

    `progress_m` is the distance along the path from the point nearest to the rig origin
    at handover to the one nearest at the end; it is negative for an ego that goes back.
    `progress_rel` is max(0, progress) over the recording's own progress in the same
    period: above 1 for an ego that is ahead of the recording. `distance_driven_m` is the
    length of what the rig origin drove, sampled on the score grid. Where the path crosses or
    doubles itself, the nearest point may jump. See `incidents` for the distance in the tube.

    Args:
        min_recorded_m: The least progress of the recording to compare with.
    """

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        own(
            "progress_m", "m", "s(end) - s(handover), s the place of the nearest point of the recorded path",
            "last sample less the first", "mean", "higher",
        ),
        own(
            "progress_rel", "1", "max(0, progress_m) / the recording's own progress in the same period",
            "last sample less the first", "mean", "higher",
            undefined=f"{NEVER_DRIVEN}; the recording ends before the rollout; it makes less than "
            "min_recorded_m of progress",
            source="Omniloop; the floor is nuPlan's, `ego_progress_along_expert_route`",
            settings=(("min_recorded_m", MIN_RECORDED_M),),
        ),
        own(
            "distance_driven_m", "m", "length of the way of the rig origin in the plane",
            "sum over samples", "sum", "neither",
        ),
    )  # fmt: skip
    names = tuple(d.name for d in definitions)

    def __init__(self, min_recorded_m: float = MIN_RECORDED_M) -> None:
        self.min_recorded_m = threshold("metrics.progress.min_recorded_m", min_recorded_m)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`."""
        samples = score_samples(record)
        if samples is None:
            return undefined(self.names, NOTHING_DRIVEN)
        s_m = path_offsets(record).s_m
        progress_m = float(s_m[-1] - s_m[0])
        return [
            MetricValue("progress_m", progress_m),
            self._relative(record, progress_m, int(samples.times_us[0]), int(samples.times_us[-1])),
            MetricValue("distance_driven_m", float(samples.driven_m[-1])),
        ]

    def _relative(
        self, record: RolloutRecord, progress_m: float, start_us: int, end_us: int
    ) -> MetricValue:
        scene = record.scene
        if end_us > scene.ego.end_us:
            return MetricValue("progress_rel", None, "the recording ends before the rollout")
        ends = recorded_xy(scene, as_times([start_us, end_us]))
        before_m, after_m = geometry.project_on_polyline(ends, recorded_path(scene))[0]
        recorded_m = float(after_m - before_m)
        if recorded_m < self.min_recorded_m or recorded_m <= 0:
            return MetricValue(
                "progress_rel",
                None,
                f"the recording makes {recorded_m:.2f} m of progress in this period,"
                f" less than {self.min_recorded_m:g} m",
            )
        return MetricValue(
            "progress_rel",
            max(progress_m, 0.0) / recorded_m,
            details={"recorded_progress_m": recorded_m},
        )
