"""Incidents: collisions and off-road driving as one, in the tube around the recording too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from omniloop.core.contracts import MetricValue
from omniloop.core.record import RolloutRecord
from omniloop.core.time import US_PER_S
from omniloop.metrics.contacts import STOPPED_MPS, VERTICAL_TOLERANCE_M, contacts
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.excursions import TOLERANCE_M, excursions
from omniloop.metrics.recording import path_offsets
from omniloop.metrics.samples import ScoreSamples, score_samples
from omniloop.metrics.values import FLAG, NEVER_DRIVEN, NOTHING_DRIVEN, own, threshold, undefined

TUBE_M = 4.0
"""Radius of the tube around the recorded path (AlpaSim, `max_dist_to_gt_trajectory`)."""

_SETTINGS = (
    ("stopped_mps", STOPPED_MPS), ("vertical_tolerance_m", VERTICAL_TOLERANCE_M),
    ("offroad_tolerance_m", TOLERANCE_M),
)  # fmt: skip
_TUBE_SETTINGS = (("tube_m", TUBE_M), *_SETTINGS)
_UNDEFINED = f"{NEVER_DRIVEN}; the tube is off"
_SOURCE = "AlpaSim, `max_dist_to_gt_trajectory`, the crossing row kept"


@dataclass(frozen=True)
class _Incident:
    start_us: int
    kind: str
    at_fault: bool


class IncidentsMetric:
    """Whether a collision or an excursion off the road happened after handover.

    Contacts are those of `collision`, excursions those of `offroad`, with the same defaults. An
    excursion counts as at fault. A contact that is not at fault does not hide a later incident
    that is. Where `offroad` is undefined, collisions alone count, and the details say so. Set the
    thresholds together with those of `collision` and `offroad` if the values are to agree.

    *The tube* holds everything up to and including the first score sample at which the rig origin
    is `tube_m` or more from the recorded path (`path_distance`). That sample itself still counts.
    What follows does not, even if ego comes back: far from the recording, replayed traffic and
    reconstructed images mean little. A policy that leaves the tube early is judged on a short and
    easy part, so state `distance_in_tube_m` beside every rate.

    *Details*: `incident` says what counts ("collisions and off-road", or collisions alone and
    why); `incident_in_tube` gives `tube_m`, `left_us` (null if ego stays inside) and `at_fault`;
    `time_to_incident_s` gives the `kind` and `distance_driven_m` up to it.

    Args:
        tube_m: Radius of the tube; None for none.
        stopped_mps: As `CollisionMetric`.
        vertical_tolerance_m: As `CollisionMetric`.
        offroad_tolerance_m: `tolerance_m` of `OffroadMetric`.
    """

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        own(
            "incident", FLAG, "1 if there is a contact or an excursion off the road",
            "any sample", "rate", settings=_SETTINGS,
        ),
        own(
            "incident_at_fault", FLAG, "as `incident`, without contacts that are not at fault",
            "any sample", "rate", settings=_SETTINGS,
        ),
        own(
            "incident_in_tube", FLAG, "1 if an incident began in the tube",
            "any sample in the tube", "rate", undefined=_UNDEFINED, source=_SOURCE,
            settings=_TUBE_SETTINGS,
        ),
        own(
            "distance_in_tube_m", "m", "distance driven in the tube", "sum over samples in the tube",
            "sum", "neither", undefined=_UNDEFINED, source=_SOURCE, settings=_TUBE_SETTINGS,
        ),
        own(
            "time_to_incident_s", "s", "from handover to the start of the first incident",
            "first incident", "mean", "higher", undefined=f"{NEVER_DRIVEN}; there is no incident",
            settings=_SETTINGS,
        ),
    )  # fmt: skip
    names = tuple(d.name for d in definitions)

    def __init__(
        self,
        tube_m: float | None = TUBE_M,
        stopped_mps: float = STOPPED_MPS,
        vertical_tolerance_m: float = VERTICAL_TOLERANCE_M,
        offroad_tolerance_m: float = TOLERANCE_M,
    ) -> None:
        self.tube_m = None if tube_m is None else threshold("metrics.incidents.tube_m", tube_m)
        self.stopped_mps = threshold("metrics.incidents.stopped_mps", stopped_mps)
        self.vertical_tolerance_m = threshold(
            "metrics.incidents.vertical_tolerance_m", vertical_tolerance_m
        )
        self.offroad_tolerance_m = threshold(
            "metrics.incidents.offroad_tolerance_m", offroad_tolerance_m
        )

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`."""
        samples = score_samples(record)
        if samples is None:
            return undefined(self.names, NOTHING_DRIVEN)
        touched = contacts(record, self.stopped_mps, self.vertical_tolerance_m).contacts
        off = excursions(record, self.offroad_tolerance_m)
        found = [_Incident(c.start_us, "collision", c.at_fault) for c in touched]
        found += [_Incident(e.start_us, "offroad", True) for e in off.excursions]
        found.sort(key=lambda incident: (incident.start_us, incident.kind))
        counts = "collisions and off-road"
        if off.reason:
            counts = f"collisions only: off-road is undefined, {off.reason}"
        details: dict[str, object] = {"counts": counts}
        at_fault = any(incident.at_fault for incident in found)
        return [
            MetricValue("incident", float(bool(found)), details=details),
            MetricValue("incident_at_fault", float(at_fault)),
            *self._in_tube(record, samples, found),
            _time_to(found, samples),
        ]

    def _in_tube(
        self, record: RolloutRecord, samples: ScoreSamples, found: list[_Incident]
    ) -> list[MetricValue]:
        if self.tube_m is None:
            return undefined(("incident_in_tube", "distance_in_tube_m"), "the tube is off")
        left = np.flatnonzero(path_offsets(record).distance_m >= self.tube_m)
        last = int(left[0]) if len(left) else len(samples.times_us) - 1
        inside = [i for i in found if i.start_us <= samples.times_us[last]]
        details: dict[str, object] = {
            "tube_m": self.tube_m,
            "left_us": int(samples.times_us[last]) if len(left) else None,
            "at_fault": any(incident.at_fault for incident in inside),
        }
        return [
            MetricValue("incident_in_tube", float(bool(inside)), details=details),
            MetricValue("distance_in_tube_m", float(samples.driven_m[last])),
        ]


def _time_to(found: list[_Incident], samples: ScoreSamples) -> MetricValue:
    if not found:
        return MetricValue("time_to_incident_s", None, "no incident")
    first, times_us = found[0], samples.times_us
    driven_m = float(
        np.interp(first.start_us - times_us[0], times_us - times_us[0], samples.driven_m)
    )
    return MetricValue(
        "time_to_incident_s",
        (first.start_us - int(times_us[0])) / US_PER_S,
        details={"kind": first.kind, "distance_driven_m": driven_m},
    )
