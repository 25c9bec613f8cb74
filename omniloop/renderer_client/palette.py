"""Colours, widths and line styles of the world-scenario map.

They are those of the world-scenario renderer (colour scheme v3) whose images OmniDreams is
conditioned on: RGB on black, widths in pixels of a 1280 px wide image.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from omniloop.core.scene import ActorClass, MarkColor, MarkStyle

Rgb = tuple[int, int, int]


class Layer(IntEnum):
    """Kinds of flat map elements, in the order in which they are drawn."""

    CROSSWALK = 0
    LANE_LINE_WHITE = 1
    LANE_LINE_YELLOW = 2
    WAIT_LINE = 3
    ROAD_BOUNDARY = 4


LAYER_RGB: dict[Layer, Rgb] = {
    Layer.CROSSWALK: (139, 93, 255),
    Layer.LANE_LINE_WHITE: (255, 255, 255),
    Layer.LANE_LINE_YELLOW: (255, 255, 0),
    Layer.WAIT_LINE: (108, 179, 59),
    Layer.ROAD_BOUNDARY: (253, 1, 232),
}

TRAFFIC_LIGHT_RGB: Rgb = (100, 100, 100)
TRAFFIC_SIGN_RGB: Rgb = (8, 2, 255)
WIREFRAME_RGB: Rgb = (200, 200, 200)

CUBOID_RGB: dict[ActorClass, tuple[Rgb, Rgb]] = {
    ActorClass.CAR: ((0, 46, 136), (126, 206, 255)),
    ActorClass.TRUCK: ((204, 55, 0), (255, 192, 64)),
    ActorClass.PEDESTRIAN: ((148, 0, 62), (255, 124, 171)),
    ActorClass.CYCLIST: ((0, 80, 66), (102, 208, 198)),
    ActorClass.OTHER: ((53, 26, 20), (166, 136, 125)),
}
"""Colours at the front (+x) and at the back of a cuboid; between them linear along x."""

LINE_WIDTH_PX = 7.0
WIREFRAME_WIDTH_PX = 2.0
REFERENCE_WIDTH_PX = 1280

DEPTH_MAX_M = 200.0
"""Nothing farther is drawn; line widths shrink linearly to zero at this depth."""

DUAL_SEPARATION_M = 0.15
"""Between the two lines of a double line."""


@dataclass(frozen=True)
class Stroke:
    """One of the parallel lines that make up a lane line.

    Attributes:
        offset_m: To the left of the line's direction.
        dash_m: Length of a dash; 0 for a solid line.
        gap_m: Between dashes.
    """

    offset_m: float = 0.0
    dash_m: float = 0.0
    gap_m: float = 0.0


_HALF_M = DUAL_SEPARATION_M / 2
_LONG = (3.0, 9.0)
_SHORT = (1.0, 1.0)

STYLE_STROKES: dict[MarkStyle, tuple[Stroke, ...]] = {
    MarkStyle.SOLID_SINGLE: (Stroke(),),
    MarkStyle.SOLID_GROUP: (Stroke(_HALF_M), Stroke(-_HALF_M)),
    MarkStyle.DASHED_SINGLE: (Stroke(0.0, *_LONG),),
    MarkStyle.LONG_DASHED_SINGLE: (Stroke(0.0, *_LONG),),
    MarkStyle.SHORT_DASHED_SINGLE: (Stroke(0.0, *_SHORT),),
    MarkStyle.DASHED_GROUP: (Stroke(_HALF_M, *_LONG), Stroke(-_HALF_M, *_LONG)),
    # The world-scenario renderer reads ClipGT's mixed styles from right to left.
    MarkStyle.SOLID_DASHED: (Stroke(_HALF_M, *_LONG), Stroke(-_HALF_M)),
    MarkStyle.DASHED_SOLID: (Stroke(_HALF_M), Stroke(-_HALF_M, *_LONG)),
    MarkStyle.NONE: (),
}


def lane_line_layer(color: MarkColor) -> Layer:
    """Layer of a lane line; every colour but yellow is drawn white."""
    return Layer.LANE_LINE_YELLOW if color is MarkColor.YELLOW else Layer.LANE_LINE_WHITE
