"""Collisions of ego with other actors, every contact kept and classified."""

from __future__ import annotations

from dataclasses import asdict
from typing import ClassVar

from omniloop.core.contracts import MetricValue
from omniloop.core.record import RolloutRecord
from omniloop.metrics.contacts import STOPPED_MPS, VERTICAL_TOLERANCE_M, Contact, contacts
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import FLAG, NOTHING_DRIVEN, own, threshold, undefined

KINDS = ("front", "rear", "lateral", "ego_stopped")
FAULTY = ("front", "lateral")

_SETTINGS = (("stopped_mps", STOPPED_MPS), ("vertical_tolerance_m", VERTICAL_TOLERANCE_M))
_SOURCE = "AlpaSim, `eval/scorers/collision`, but of every contact; the stopped ego: nuPlan"


class CollisionMetric:
    """Whether ego touched another actor after handover, and how.

    *Contact.* Ego and an actor are in contact while their footprints overlap with positive area
    and their vertical extents meet. Overlap is decided by the separating axis theorem and must be
    deeper than 1 µm, so that boxes which merely touch are apart in every frame of reference.
    Vertical extents (pitch and roll included) meet if the free height between them is at most
    `vertical_tolerance_m`: a bridge above is no collision, a labelled box that floats by a
    decimetre is. A pair that overlaps at handover counts once it has parted.

    *Sampling.* Every pair is looked at on the score grid. Where the circles around both footprints
    are closer than 5 m at either end of a grid step, the pair is also looked at every 20 ms inside
    the step: a small actor that crosses ego's path at 30 m/s is in contact for less than 100 ms.

    *Episodes.* A contact lasts from the first overlapping sample to the last before a sample at
    which both are present and apart. A pair that parts and meets again makes two contacts. An
    actor that is absent for a while has not parted.

    *Kind*, for each contact of each actor on its own, at its first sample; the first that holds:

    1. `ego_stopped`: ego's speed is at most `stopped_mps`;
    2. `front`: ego's front edge touches the actor's rectangle, its border included;
    3. `rear`: ego's rear edge does;
    4. `lateral`: all else.

    A vehicle level with ego and at least as long, which is pushed into its flank, touches the
    front edge and counts as front; this is the order of AlpaSim. Contacts of an ego that drives
    backwards into something are `rear`, and so not at fault. For nuPlan's table see
    `collision_fault`.

    *Details of a contact*: `actor_id`, `actor_class`, `start_us`, `end_us`, `kind`, `at_fault`,
    `ego_speed_mps`, `actor_speed_mps` and `relative_speed_mps` (the actor's mean velocity over
    that grid step; null if the actor is not seen at its two ends), `depth_m` (the greatest
    overlap of the footprints: the shortest shift that parts them).

    Args:
        stopped_mps: Ego stands at or below this speed.
        vertical_tolerance_m: Free height between boxes that still counts as meeting.
    """

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        own(
            "collision", FLAG, "1 if there is any contact", "any contact", "rate", settings=_SETTINGS,
        ),
        *(
            own(
                f"collision_{kind}", FLAG, f"1 if there is a contact of the kind `{kind}`",
                "any contact", "rate", better="lower" if kind in FAULTY else "neither",
                source=_SOURCE, settings=_SETTINGS,
            )
            for kind in KINDS
        ),
        own(
            "collision_at_fault", FLAG, "1 if there is a front or a lateral contact",
            "any contact", "rate", source=_SOURCE, settings=_SETTINGS,
        ),
        own("contacts", "1", "number of contacts", "sum", "mean", settings=_SETTINGS),
    )  # fmt: skip
    names = tuple(d.name for d in definitions)

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
