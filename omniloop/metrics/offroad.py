"""Whether ego left the drivable surface."""

from __future__ import annotations

from dataclasses import asdict
from typing import ClassVar

from omniloop.core.contracts import MetricValue
from omniloop.core.record import RolloutRecord
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.excursions import TOLERANCE_M, excursions, recording_depth_m
from omniloop.metrics.values import FLAG, NEVER_DRIVEN, own, threshold, undefined
from omniloop.scenes.surface import drivable_surface

_UNDEFINED = (
    f"{NEVER_DRIVEN}; the map has no drivable areas and no lane polygons; ego is off the surface "
    "at handover and never comes onto it"
)
_SOURCE = "corners and tolerance: nuPlan, `drivable_area_compliance`; strips of 3.7 m: AlpaSim"


class OffroadMetric:
    """Whether a corner of ego's footprint was too far outside the drivable surface.

    The *depth* of a sample is the distance from the drivable surface of that corner of ego's
    footprint which lies farthest outside, 0 if all four are inside. Samples from handover on at
    which ego has not been on the surface yet do not count. A kerb or island between the wheels
    that no corner passes over is not seen.

    The *drivable surface* is the union of the map's drivable areas, with their holes. Where the
    map has none, it is the union of its lanes: their polygons, or what their boundaries enclose.
    Lanes of which only the centre line is known take part as strips of 3.7 m width, but only
    beside lanes with an outline; the details count them. All lanes count but those for
    pedestrians and rails (`Lane.kind` with the word sidewalk, crosswalk, walkway, footway,
    pedestrian, stairs, rail or tram): bus and bicycle lanes are carriageway, and driving on them
    is another offence. Each part is grown by 5 cm and the union shrunk by as much, which closes
    seams of up to 10 cm. Heights are not looked at.

    Lanes are less than the carriageway, so a lane union gets two things more. Gaps up to 4 m wide
    are closed: strips between opposing lanes, and the wedges that turning lanes leave inside a
    junction. And where a lane begins or ends with nothing mapped beyond, the surface goes on for
    5 m: the map ends there, not the road. Both are lenient on purpose: without them (`GAP_M` and
    `MAP_END_M` of `omniloop/scenes/surface.py` at 0) 8 of 108 recordings of CommonRoad score as
    off-road under their own drivers, with them 2 do ([log_replay.md](../log_replay.md)).

    *Details*: `surface` ("drivable areas" or "lane union"), `lanes_from_centerlines`,
    `tolerance_m`, `first_us`, `excursions` (each with `start_us`, `end_us`, `depth_m`),
    `ignored_until_us` (off the surface at handover: when ego came onto it), `recording_depth_m`
    (the greatest depth of the recorded ego, every 100 ms of the recording: above the tolerance,
    the map does not show all that is drivable, and the score says more about the map than about
    the policy).

    Args:
        tolerance_m: A corner may be so far outside.
    """

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        own(
            "offroad", FLAG, "1 if the depth exceeds tolerance_m at any sample",
            "any sample", "rate", undefined=_UNDEFINED, source=_SOURCE,
            settings=(("tolerance_m", TOLERANCE_M),),
        ),
        own(
            "offroad_depth_m", "m", "max over t of the depth", "greatest sample",
            undefined=_UNDEFINED, source=_SOURCE,
        ),
    )  # fmt: skip
    names = tuple(d.name for d in definitions)

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
