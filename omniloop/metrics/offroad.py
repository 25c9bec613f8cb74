"""Whether ego left the drivable surface."""

from __future__ import annotations

from dataclasses import asdict
from typing import ClassVar

from omniloop.core.contracts import MetricValue
from omniloop.core.record import RolloutRecord
from omniloop.metrics.excursions import TOLERANCE_M, excursions, recording_depth_m
from omniloop.metrics.values import threshold, undefined
from omniloop.scenes.surface import drivable_surface


class OffroadMetric:
    """Whether a corner of ego's footprint was too far outside the drivable surface.

    The depth of a sample is the distance of the outermost corner from the surface
    (`omniloop.scenes.surface`), 0 inside. `offroad` is 1 if the depth exceeds
    `tolerance_m` at any sample of the score grid, else 0; `offroad_depth_m` is the
    greatest depth. Samples from handover on at which ego has not been on the surface yet
    do not count.

    Undefined when nothing was driven, when the map has no polygons, and when ego is off
    the surface throughout.

    Args:
        tolerance_m: nuPlan's 0.3 m (`drivable_area_compliance`).
    """

    names: ClassVar[tuple[str, ...]] = ("offroad", "offroad_depth_m")

    def __init__(self, tolerance_m: float = TOLERANCE_M) -> None:
        self.tolerance_m = threshold("metrics.offroad.tolerance_m", tolerance_m)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`; the excursions are in the details of `offroad`."""
        found = excursions(record, self.tolerance_m)
        if found.reason:
            return undefined(self.names, found.reason)
        surface = drivable_surface(record.scene.map)
        details: dict[str, object] = {
            "surface": found.surface,
            "lanes_from_centerlines": surface.from_centerlines if surface else 0,
            "tolerance_m": self.tolerance_m,
            "first_us": found.excursions[0].start_us if found.excursions else None,
            "excursions": [asdict(excursion) for excursion in found.excursions],
            "ignored_until_us": found.ignored_until_us,
            "recording_depth_m": recording_depth_m(record.scene),
        }
        return [
            MetricValue("offroad", float(bool(found.excursions)), details=details),
            MetricValue("offroad_depth_m", found.depth_m),
        ]
