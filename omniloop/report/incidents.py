"""Incidents as people read them: when, what, with whom, at whose fault."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from omniloop.core.contracts import MetricValue
from omniloop.core.record import RolloutRecord
from omniloop.metrics.collision import CollisionMetric
from omniloop.metrics.offroad import OffroadMetric


@dataclass(frozen=True)
class Incident:
    """A contact or an excursion off the road.

    Attributes:
        kind: "collision" or "offroad".
        label: A few words: "front collision", "off-road".
        facts: Who, how fast, how deep.
        details: The score's own entry of it, see `CollisionMetric` and `OffroadMetric`.
    """

    start_us: int
    end_us: int
    kind: str
    label: str
    facts: str
    at_fault: bool
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)


def incidents_from_metrics(metrics: Mapping[str, MetricValue]) -> list[Incident]:
    """Incidents in the details of the scores `collision` and `offroad`, by time.

    A score that is absent or undefined gives none.
    """
    found = []
    for contact in _details(metrics, "collision", "contacts"):
        facts = f"{str(contact['actor_class']).lower()} {contact['actor_id']}"
        if contact.get("relative_speed_mps") is not None:
            facts += f" at {contact['relative_speed_mps']:.1f} m/s relative"
        facts += f", ego {contact['ego_speed_mps']:.1f} m/s"
        kind = str(contact["kind"])
        label = "collision, ego stopped" if kind == "ego_stopped" else f"{kind} collision"
        at_fault = bool(contact.get("at_fault"))
        found.append(
            Incident(
                int(contact["start_us"]),
                int(contact["end_us"]),
                "collision",
                label,
                facts,
                at_fault,
                contact,
            )
        )
    for excursion in _details(metrics, "offroad", "excursions"):
        facts = f"{excursion['depth_m']:.2f} m outside at most"
        start, end = int(excursion["start_us"]), int(excursion["end_us"])
        found.append(Incident(start, end, "offroad", "off-road", facts, True, excursion))
    found.sort(key=lambda incident: (incident.start_us, incident.kind))
    return found


def _details(metrics: Mapping[str, MetricValue], score: str, key: str) -> Iterable[dict[str, Any]]:
    value = metrics.get(score)
    if value is None:
        return ()
    entries: Any = value.details.get(key, ())
    return entries if isinstance(entries, list) else ()


def incidents_of_record(record: RolloutRecord) -> list[Incident]:
    """Incidents of a rollout by the default thresholds."""
    values = [*CollisionMetric().compute(record), *OffroadMetric().compute(record)]
    return incidents_from_metrics({value.name: value for value in values})
