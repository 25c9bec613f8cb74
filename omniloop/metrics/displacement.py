"""How far ego is from where the recorded ego was at the same time."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from omniloop.core.contracts import MetricValue
from omniloop.core.record import RolloutRecord
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.recording import recorded_xy
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NEVER_DRIVEN, NOTHING_DRIVEN, own, undefined

_UNDEFINED = f"{NEVER_DRIVEN}; the recording ends before the rollout"
_SOURCE = "FDE and ADE of motion forecasting, applied to what was driven (Waymax, `log_divergence`)"


class DisplacementMetric:
    """Distance of the rig origin from the recorded one at the same times, in the plane.

    It tells how far ego is ahead or behind as well as how far beside.
    """

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        own(
            "displacement_final_m", "m", "distance of ego from the recorded ego at the end",
            "last sample", undefined=_UNDEFINED, source=_SOURCE,
        ),
        own(
            "displacement_mean_m", "m", "mean over t of the distance of ego from the recorded ego",
            "mean over samples", undefined=_UNDEFINED, source=_SOURCE,
        ),
    )  # fmt: skip
    names = tuple(d.name for d in definitions)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`."""
        samples = score_samples(record)
        if samples is None:
            return undefined(self.names, NOTHING_DRIVEN)
        if samples.times_us[-1] > record.scene.ego.end_us:
            return undefined(self.names, "the recording ends before the rollout")
        away = samples.ego.local_to_rig[:, :2] - recorded_xy(record.scene, samples.times_us)
        away_m = np.hypot(away[:, 0], away[:, 1])
        return [
            MetricValue("displacement_final_m", float(away_m[-1])),
            MetricValue("displacement_mean_m", float(away_m.mean())),
        ]
