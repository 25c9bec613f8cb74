"""Which lanes of OpenDRIVE follow which.

Links between sections, between roads and through junctions say which ends of two lanes
touch (ASAM OpenDRIVE 1.7, sections 10.3, 11.5 and 12); the directions of traffic then say
which of the two is first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from omniloop.scenes.xodr_roads import LaneKey, Section
from omniloop.scenes.xodr_xml import whole

_START, _END = "start", "end"

Contact = tuple[LaneKey, str, LaneKey, str]
"""A lane and its end, another and its end: ends along the reference line."""


@dataclass(frozen=True, eq=False)
class LaneLinks:
    """Links of lanes, in the directions of traffic.

    Attributes:
        after, before: Lanes by lane, in the file's order.
        lost: How many links name a road or a lane that is not there.
    """

    after: Mapping[LaneKey, tuple[LaneKey, ...]]
    before: Mapping[LaneKey, tuple[LaneKey, ...]]
    lost: int


def link_lanes(root: Element, roads: Mapping[str, Sequence[Section]], where: str) -> LaneLinks:
    """Work out the links of all lanes.

    Args:
        roads: Lane sections by road.

    Raises:
        SceneError: the id of a linked lane is no whole number.
    """
    forward = {
        lane.key: lane.forward
        for sections in roads.values()
        for section in sections
        for lane in section.lanes
    }
    after: dict[LaneKey, dict[LaneKey, None]] = {}
    before: dict[LaneKey, dict[LaneKey, None]] = {}
    lost = 0
    for one, one_end, other, other_end in (
        *_along_roads(roads, where),
        *_through_junctions(root, roads, where),
    ):
        if one not in forward or other not in forward:
            lost += 1
            continue
        leaves_one = forward[one] == (one_end == _END)
        leaves_other = forward[other] == (other_end == _END)
        if leaves_one == leaves_other:
            continue  # their traffic meets head on, or parts
        first, second = (one, other) if leaves_one else (other, one)
        after.setdefault(first, {})[second] = None
        before.setdefault(second, {})[first] = None
    return LaneLinks(
        {k: tuple(v) for k, v in after.items()}, {k: tuple(v) for k, v in before.items()}, lost
    )


def _along_roads(roads: Mapping[str, Sequence[Section]], where: str) -> Iterator[Contact]:
    for name, sections in roads.items():
        place = f"{where}, road {name}"
        for section in sections:
            for tag, own_end, step in (("predecessor", _START, -1), ("successor", _END, 1)):
                index = section.index + step
                if 0 <= index < len(sections):
                    there, their_end, at = name, _START if step > 0 else _END, index
                else:
                    link = section.road.element.find(f"link/{tag}")
                    if link is None or link.get("elementType", "road") != "road":
                        continue
                    there = link.get("elementId", "")
                    default = _START if step > 0 else _END
                    their_end = link.get("contactPoint", default)
                    at = 0 if their_end == _START else len(roads.get(there, ())) - 1
                for lane in section.lanes:
                    for found in lane.element.findall(f"link/{tag}"):
                        yield lane.key, own_end, (there, at, whole(found, "id", place)), their_end


def _through_junctions(
    root: Element, roads: Mapping[str, Sequence[Section]], where: str
) -> Iterator[Contact]:
    for junction in root.findall("junction"):
        name = junction.get("id", "")
        place = f"{where}, junction {name}"
        for connection in junction.findall("connection"):
            incoming = connection.get("incomingRoad", "")
            leading = connection.get("connectingRoad", connection.get("linkedRoad", ""))
            here, there = roads.get(incoming, ()), roads.get(leading, ())
            their_end = connection.get("contactPoint", _START)
            links = connection.findall("laneLink")
            if not here or not there:
                nowhere = (leading, 0, 0)
                yield from (((incoming, 0, 0), _END, nowhere, _START) for _ in links or (None,))
                continue
            other = there[0 if their_end == _START else -1]
            own_end = _touching_end(here, other, their_end, name)
            own = here[-1 if own_end == _END else 0]
            pairs = [(whole(e, "from", place), whole(e, "to", place)) for e in links]
            if not links:  # then lanes lead to those of their own numbers
                theirs = {lane.key[2] for lane in other.lanes}
                pairs = [(x.key[2], x.key[2]) for x in own.lanes if x.key[2] in theirs]
            for a, b in pairs:
                yield (incoming, own.index, a), own_end, (leading, other.index, b), their_end


def _touching_end(here: Sequence[Section], other: Section, their_end: str, junction: str) -> str:
    """Which end of an incoming road is at the junction: as it says, of two the nearer."""
    road = here[0].road
    ends = [
        end
        for tag, end in (("predecessor", _START), ("successor", _END))
        for link in road.element.findall(f"link/{tag}")
        if link.get("elementType") == "junction" and link.get("elementId") == junction
    ]
    if len(ends) == 1:
        return ends[0]
    at = other.road.points(
        np.array([other.start_m if their_end == _START else other.end_m]), np.zeros(1)
    )
    own = road.points(np.array([0.0, road.line.length_m]), np.zeros(2))
    gap = np.linalg.norm(own - at, axis=1)
    return _START if gap[0] < gap[1] else _END
