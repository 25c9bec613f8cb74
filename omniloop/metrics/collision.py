"""Collisions of ego with other actors, every contact kept and classified."""

from __future__ import annotations

from dataclasses import asdict
from typing import ClassVar

from omniloop.core.contracts import MetricValue
from omniloop.core.record import RolloutRecord
from omniloop.metrics.contacts import STOPPED_MPS, VERTICAL_TOLERANCE_M, Contact, contacts
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NOTHING_DRIVEN, threshold, undefined

KINDS = ("front", "rear", "lateral", "ego_stopped")


class CollisionMetric:
    """Whether ego touched another actor after handover, and how.

    A contact is positive overlap of the exact footprints while the vertical extents
    meet; see `omniloop.metrics.contacts` for when it is looked for. Each contact of each
    actor is classified on its own at its first sample: "ego_stopped" at or below
    `stopped_mps` (nuPlan), else "front" if ego's front edge touches the actor's box, else
    "rear" if the rear edge does, else "lateral" (AlpaSim's order). At fault are front and
    lateral (AlpaSim). A pair that overlaps at handover counts once it has parted.

    Values are 1 or 0, and `contacts` is a count. Undefined when nothing was driven.

    Args:
        stopped_mps: Ego stands at or below this speed.
        vertical_tolerance_m: Free height between boxes that still counts as meeting.
    """

    names: ClassVar[tuple[str, ...]] = (
        "collision", *(f"collision_{kind}" for kind in KINDS), "collision_at_fault", "contacts",
    )  # fmt: skip

    def __init__(
        self, stopped_mps: float = STOPPED_MPS, vertical_tolerance_m: float = VERTICAL_TOLERANCE_M
    ) -> None:
        self.stopped_mps = threshold("metrics.collision.stopped_mps", stopped_mps)
        self.vertical_tolerance_m = threshold(
            "metrics.collision.vertical_tolerance_m", vertical_tolerance_m
        )

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`; the contacts are in the details of `collision`."""
        if score_samples(record) is None:
            return undefined(self.names, NOTHING_DRIVEN)
        found = contacts(record, self.stopped_mps, self.vertical_tolerance_m)
        details: dict[str, object] = {
            "contacts": [_facts(contact) for contact in found.contacts],
            "ignored_since_handover": [asdict(overlap) for overlap in found.ignored],
        }
        values = [MetricValue("collision", float(bool(found.contacts)), details=details)]
        for kind in KINDS:
            hit = any(contact.kind == kind for contact in found.contacts)
            values.append(MetricValue(f"collision_{kind}", float(hit)))
        at_fault = any(contact.at_fault for contact in found.contacts)
        values.append(MetricValue("collision_at_fault", float(at_fault)))
        values.append(MetricValue("contacts", float(len(found.contacts))))
        return values


def _facts(contact: Contact) -> dict[str, object]:
    return {**asdict(contact), "at_fault": contact.at_fault}
