"""Incidents and progress as one number."""

from __future__ import annotations

from typing import ClassVar

from omniloop.core.contracts import MetricValue
from omniloop.core.record import RolloutRecord
from omniloop.metrics.contacts import STOPPED_MPS, VERTICAL_TOLERANCE_M
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.excursions import TOLERANCE_M
from omniloop.metrics.incidents import IncidentsMetric
from omniloop.metrics.progress import MIN_RECORDED_M, ProgressMetric
from omniloop.metrics.values import NEVER_DRIVEN, own

_SETTINGS = (
    ("min_recorded_m", MIN_RECORDED_M), ("stopped_mps", STOPPED_MPS),
    ("vertical_tolerance_m", VERTICAL_TOLERANCE_M), ("offroad_tolerance_m", TOLERANCE_M),
)  # fmt: skip


class SceneScoreMetric:
    """Progress of a rollout without an incident, 0 with one.

    Either alone is won by a policy that does not drive: one that stands has no incident of its
    own, one that goes straight on makes progress. The incident is `incident_at_fault`: an ego that
    is run into from behind loses nothing. Progress counts up to the recording's; who is further
    gains nothing. Set the thresholds together with those of `incidents` and `progress` if the
    values are to agree.

    *Details*: `progress` (cut at 1) and `incident`, the two factors.

    Args:
        min_recorded_m: As `ProgressMetric`.
        stopped_mps: As `IncidentsMetric`.
        vertical_tolerance_m: As `IncidentsMetric`.
        offroad_tolerance_m: As `IncidentsMetric`.
    """

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        own(
            "scene_score", "1", "min(`progress_rel`, 1) * (1 - `incident_at_fault`)",
            "the whole rollout", "mean", "higher",
            undefined=f"{NEVER_DRIVEN}; `progress_rel` is undefined and there is no incident",
            settings=_SETTINGS,
        ),
    )  # fmt: skip
    names = tuple(d.name for d in definitions)

    def __init__(
        self,
        min_recorded_m: float = MIN_RECORDED_M,
        stopped_mps: float = STOPPED_MPS,
        vertical_tolerance_m: float = VERTICAL_TOLERANCE_M,
        offroad_tolerance_m: float = TOLERANCE_M,
    ) -> None:
        self._progress = ProgressMetric(min_recorded_m)
        self._incidents = IncidentsMetric(
            None, stopped_mps, vertical_tolerance_m, offroad_tolerance_m
        )

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`."""
        parts = [*self._progress.compute(record), *self._incidents.compute(record)]
        found = {value.name: value for value in parts}
        progress, incident = found["progress_rel"], found["incident_at_fault"]
        if incident.value is None:
            return [MetricValue("scene_score", None, incident.reason)]
        if incident.value:
            return [MetricValue("scene_score", 0.0, details={"progress": None, "incident": 1.0})]
        if progress.value is None:
            return [MetricValue("scene_score", None, progress.reason)]
        reached = min(float(progress.value), 1.0)
        details: dict[str, object] = {"progress": reached, "incident": 0.0}
        return [MetricValue("scene_score", reached, details=details)]
