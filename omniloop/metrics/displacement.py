"""How far ego is from where the recorded ego was at the same time."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from omniloop.core.contracts import MetricValue
from omniloop.core.record import RolloutRecord
from omniloop.metrics.recording import recorded_xy
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NOTHING_DRIVEN, undefined


class DisplacementMetric:
    """Distance of the rig origin from the recorded one at the same times, in the plane.

    At the last score sample and the mean over all of them, in metres. Undefined when
    nothing was driven and when the recording ends before the rollout.
    """

    names: ClassVar[tuple[str, ...]] = ("displacement_final_m", "displacement_mean_m")

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
