"""NAVSIM's parts on the driven rollout; its sums need what no rollout has."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from omniloop.core.contracts import MetricValue
from omniloop.core.record import RolloutRecord
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.navsim_comfort import extended_comfort, history_comfort
from omniloop.metrics.navsim_formulas import human_filtered
from omniloop.metrics.navsim_parts import (
    Part,
    drivable_area,
    driving_direction,
    lane_keeping,
    no_collision,
    time_to_collision,
    traffic_light,
)
from omniloop.metrics.nuplan_human import human_record
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NOTHING_DRIVEN, undefined

PARTS: dict[str, Callable[[RolloutRecord], Part]] = {
    "nc": no_collision, "dac": drivable_area, "ddc": driving_direction, "tlc": traffic_light,
    "ttc": time_to_collision, "lk": lane_keeping, "hc": history_comfort, "ec": extended_comfort,
}  # fmt: skip

NEED_PROPOSALS = ("ep", "pdms", "epdms")
NO_PROPOSALS = "needs PDM-Closed proposals"

_SOURCE = "navsim, pdm_scorer.py and docs/metrics.md"
_FILTER = "; 1 where the recording's own is 0"


def _defined(
    part: str, formula: str, over_time: str, undefined_when: str = "", unit: str = "0 or 1"
) -> MetricDefinition:
    when = "nothing was driven" + (f"; {undefined_when}" if undefined_when else "")
    return MetricDefinition(
        f"navsim_{part}_driven", "navsim", unit, formula, over_time, "mean", "higher", when, _SOURCE
    )


class NavsimDrivenMetric:
    """NAVSIM's parts, by its rules, on the whole driven rollout in place of a plan of 4 s.

    Where the recording, scored the same way in the same period, has 0 itself, a part is 1
    (NAVSIM's human filter) and the details say so; EC, which needs plans, is not filtered. EP,
    PDMS and EPDMS compare with the proposals of PDM-Closed and are never defined.
    """

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        _defined(
            "nc", "0 after a contact at fault with an agent, else 0.5 after one with an object,"
            " else 1; fault as nuplan_no_ego_at_fault_collisions, but lateral contacts are at"
            " fault if ego's corners are in several lanes and not all in one, or one is off the"
            " drivable surface and lanes" + _FILTER,
            "each actor counts once, at its first contact",
            "the fault of a lateral contact decides and the map has no lanes", "1",
        ),
        _defined(
            "dac", "0 if a corner of ego's footprint is off the drivable surface and in no lane,"
            " else 1" + _FILTER,
            "any sample; those at handover do not count until ego is on the surface",
            "no drivable surface; ego is off it throughout",
        ),
        _defined(
            "ddc", "1 if m < 2 m, 0.5 if m < 6 m, else 0; m is the most that the box's centre"
            " moves in the last 1 s (11 steps) at samples in no lane along the expert's route and"
            " in no intersection" + _FILTER,
            "the worst second", "the map has no lanes; none is under the recording", "1",
        ),
        _defined(
            "tlc", "0 if ego's footprint comes onto a lane that a red light closes, else 1; closed"
            " are, of the lanes along the expert's route, the light's own in an intersection, and"
            " those that follow on its others; who is on it as it turns red may clear it" + _FILTER,
            "any sample", "no light with known states; no lane is under the recording",
        ),
        _defined(
            "ttc", "0 if ego's box, going on at its speed and heading for 0, 0.3, 0.6 or 0.9 s,"
            " overlaps the box that an actor has then, else 1; actors as in"
            " nuplan_time_to_collision_within_bound, and left out after a first hit that does not"
            " count" + _FILTER,
            "any sample up to 0.9 s before the end", "fewer than 10 samples; the map has no lanes"
            " and that decides",
        ),
        _defined(
            "lk", "0 if the box's centre is over 0.5 m from the expert's route, matched to centre"
            " lines, at 20 samples (2 s) in a row, else 1; samples in intersections neither count"
            " nor end a row" + _FILTER,
            "any 2 s", "the map has no lanes; none is under the recording",
        ),
        _defined(
            "hc", "1 if the bounds of nuplan_ego_is_comfortable hold from up to 1.5 s before"
            " handover on, else 0" + _FILTER,
            "every sample", "fewer than 4 samples",
        ),
        _defined(
            "ec", "share of pairs of consecutive plans whose RMS differences, every 0.1 s where"
            " they overlap, are at most 0.7 m/s2, 0.5 m/s3, 0.1 rad/s and 0.1 rad/s2 (size of the"
            " acceleration, its derivative, yaw rate, yaw acceleration; filters as nuPlan's)",
            "the mean over pairs", "no such pair of plans", "1",
        ),
        *(
            _defined(part, formula, "as its parts", f"always: {NO_PROPOSALS}", "1")
            for part, formula in (
                ("ep", "clip(p / M, 0, 1); M the most progress times multipliers of PDM-Closed and"
                 " the plan"),
                ("pdms", "NC DAC (5 EP + 5 TTC + 2 C) / 12"),
                ("epdms", "NC DAC DDC TLC (5 EP + 5 TTC + 2 LK + 2 HC + 2 EC) / 16"),
            )
        ),
    )  # fmt: skip
    names: ClassVar[tuple[str, ...]] = tuple(d.name for d in definitions)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`."""
        if score_samples(record) is None:
            return undefined(self.names, NOTHING_DRIVEN)
        values = [_value(part, record) for part in PARTS]
        never = [f"navsim_{part}_driven" for part in NEED_PROPOSALS]
        return values + undefined(never, NO_PROPOSALS)


def _value(part: str, record: RolloutRecord) -> MetricValue:
    name, found = f"navsim_{part}_driven", PARTS[part](record)
    if isinstance(found, str):
        return MetricValue(name, None, found)
    if found == 1.0 or part == "ec":
        return MetricValue(name, found)
    recorded = human_record(record)
    human = PARTS[part](recorded) if score_samples(recorded) is not None else NOTHING_DRIVEN
    own = human if isinstance(human, float) else None
    details: dict[str, object] = {"driven": found, "recording": own}
    return MetricValue(name, human_filtered(found, own), details=details)
