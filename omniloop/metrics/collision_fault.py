"""Whose fault collisions are, by nuPlan's table."""

from __future__ import annotations

from dataclasses import asdict
from typing import ClassVar

from omniloop.core.contracts import MetricValue
from omniloop.core.record import RolloutRecord
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.nuplan_collisions import beside_lane
from omniloop.metrics.nuplan_faults import ACTIVE_REAR, KINDS, STOPPED_EGO, collisions
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import FLAG, NEVER_DRIVEN, NOTHING_DRIVEN, own, undefined

_SOURCE = "nuPlan, `common/no_ego_at_fault_collisions.py`"
_UNKNOWN = "a lateral contact decides, and the map has no lanes to tell whose fault it is"
_FORMULA = dict(
    zip(
        KINDS,
        (
            "ego's speed is at most 0.05 m/s",
            "the actor's speed is at most 0.05 m/s, and ego's is more",
            "the actor's centre is behind ego, and both move",
            "ego's front edge touches the actor, which is not behind, and both move",
            "none of the other kinds",
        ),
        strict=True,
    )
)


class CollisionFaultMetric:
    """Collisions with the kinds and the fault of nuPlan's closed-loop metric.

    Contacts are those of `collision`; of each actor the first counts. Its kind is the first
    of this table that holds at its first sample:

    | kind | test | at fault |
    |---|---|---|
    | `stopped_ego` | ego's speed is at most 0.05 m/s | no |
    | `stopped_track` | the actor's speed is at most 0.05 m/s | yes |
    | `active_rear` | the actor's centre lies more than 150 deg off ego's heading, seen from the rig origin | no |
    | `active_front` | ego's front edge touches the actor's rectangle, its border included | yes |
    | `active_lateral` | all else | only if ego's corners are not all in one lane, or in it and its successors |

    An actor that the recording never moves, and one that is neither vehicle, pedestrian nor
    cyclist, counts as standing. These are flags of the single kinds; the score of nuPlan, which
    weighs classes of actors, is `nuplan_no_ego_at_fault_collisions`.
    """

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        own(
            "collision_at_fault_nuplan", FLAG, "1 if the first contact with an actor is at fault",
            "any contact", "rate", source=_SOURCE, undefined=f"{NEVER_DRIVEN}; {_UNKNOWN}",
        ),
        *(
            own(
                f"collision_{kind}_nuplan", FLAG, f"1 if {_FORMULA[kind]}, at the first contact with an actor",
                "any contact", "rate", source=_SOURCE,
                better="neither" if kind in (STOPPED_EGO, ACTIVE_REAR) else "lower",
            )
            for kind in KINDS
        ),
    )  # fmt: skip
    names = tuple(d.name for d in definitions)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`; the contacts are in the details of `collision_at_fault_nuplan`."""
        if score_samples(record) is None:
            return undefined(self.names, NOTHING_DRIVEN)
        found = collisions(record)
        beside = beside_lane(record) if found else None
        faults = [one.at_fault(beside) for one in found]
        details: dict[str, object] = {
            "contacts": [
                {**asdict(one), "at_fault": fault} for one, fault in zip(found, faults, strict=True)
            ]
        }
        if None in faults and True not in faults:
            at_fault = MetricValue(self.names[0], None, _UNKNOWN, details)
        else:
            at_fault = MetricValue(self.names[0], float(True in faults), details=details)
        return [
            at_fault,
            *(
                MetricValue(name, float(any(one.kind == kind for one in found)))
                for name, kind in zip(self.names[1:], KINDS, strict=True)
            ),
        ]
