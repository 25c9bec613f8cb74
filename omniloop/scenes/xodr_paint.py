"""Road marks of OpenDRIVE as lane lines (ASAM OpenDRIVE 1.7, section 11.9)."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.scene import LaneLine, MarkColor, MarkStyle
from omniloop.scenes.xodr_roads import LaneKey, Section
from omniloop.scenes.xodr_xml import value

_STYLES = {
    "solid": MarkStyle.SOLID_SINGLE,
    "broken": MarkStyle.DASHED_SINGLE,
    "solid solid": MarkStyle.SOLID_GROUP,
    "broken broken": MarkStyle.DASHED_GROUP,
    "botts dots": MarkStyle.SHORT_DASHED_SINGLE,
}
"""Painted marks; "curb", "grass", "edge", "custom" and "none" are no paint."""

_COLORS = {
    "standard": MarkColor.WHITE,
    "white": MarkColor.WHITE,
    "yellow": MarkColor.YELLOW,
    "blue": MarkColor.BLUE,
}


def lane_lines(section: Section) -> tuple[list[LaneLine], dict[int, str]]:
    """Lines ``(N, 3)`` along the reference line, and the line at the middle of each border.

    Raises:
        SceneError: a number is not finite.
    """
    lines: list[LaneLine] = []
    at_border: dict[int, str] = {}
    middle = (section.start_m + section.end_m) / 2
    owners: list[tuple[int, LaneKey, Element]] = []
    for i, lane in enumerate(section.lanes):
        owners.append((i if lane.key[2] < 0 else i + 1, lane.key, lane.element))
    if section.center is not None:
        owners.append((section.center_border, (section.road.id, section.index, 0), section.center))
    for border, key, element in sorted(owners, key=lambda owner: owner[0]):
        marks = element.findall("roadMark")
        starts = [section.start_m + value(m, "sOffset", section.road.where, 0.0) for m in marks]
        for k in np.argsort(starts, kind="stable").tolist():
            style = _style(marks[k].get("type", "none"), key[2])
            later = [s for s in starts if s > starts[k]]
            start, end = starts[k], min([*later, section.end_m])
            points = _between(section.borders[border], section.s_m, start, end)
            if style is None or len(points) < 2:
                continue
            name = f"{key[0]}_{key[1]}_{key[2]}_mark{k}"
            color = _COLORS.get(marks[k].get("color", "standard"), MarkColor.UNKNOWN)
            lines.append(LaneLine(name, points, style, color))
            if start <= middle < end:
                at_border[border] = name
    return lines, at_border


def _style(kind: str, lane_id: int) -> MarkStyle | None:
    """A mixed line is named from the road's middle outwards, that of lane 0 from left to right.

    Our names go from right to left.
    """
    if kind in ("solid broken", "broken solid"):
        solid_right = (kind == "solid broken") == (lane_id > 0)
        return MarkStyle.SOLID_DASHED if solid_right else MarkStyle.DASHED_SOLID
    return _STYLES.get(kind)


def _between(border: Array, s_m: Array, start_m: float, end_m: float) -> Array:
    inside = (s_m >= start_m - 1e-6) & (s_m <= end_m + 1e-6)
    return border[inside]
