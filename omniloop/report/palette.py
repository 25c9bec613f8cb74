"""Colours of the pictures: one dark palette for videos, one light for pages."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from omniloop.core.scene import ActorClass, MarkColor

Color = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""


@dataclass(frozen=True)
class Palette:
    """Colours of a bird's-eye view."""

    background: Color
    drivable: Color
    lane: Color
    faint: Color
    junction: Color
    island: Color
    pole: Color
    boundary: Color
    crosswalk: Color
    stop_line: Color
    line_white: Color
    line_yellow: Color
    line_blue: Color
    text: Color
    text_dim: Color
    panel: Color
    outline: Color
    ego: Color
    recorded: Color
    route: Color
    plan_near: Color
    plan_far: Color
    plan_dropped: Color
    contact: Color
    warmup: Color
    closed_loop: Color
    car: Color
    truck: Color
    pedestrian: Color
    cyclist: Color
    other: Color

    def line(self, color: MarkColor) -> Color:
        """Colour of a painted line."""
        return {MarkColor.YELLOW: self.line_yellow, MarkColor.BLUE: self.line_blue}.get(
            color, self.line_white
        )

    def actor(self, actor_class: ActorClass) -> Color:
        """Colour of an actor."""
        color: Color = getattr(self, actor_class.name.lower())
        return color


DARK = Palette(
    background=(19, 23, 28), drivable=(40, 46, 53), lane=(47, 54, 62), faint=(66, 74, 84),
    junction=(52, 60, 82), island=(46, 76, 58), pole=(190, 158, 126), boundary=(108, 119, 132), crosswalk=(92, 101, 112), stop_line=(214, 218, 222),
    line_white=(158, 167, 177), line_yellow=(202, 164, 72), line_blue=(98, 148, 214),
    text=(233, 237, 241), text_dim=(150, 160, 171), panel=(27, 32, 38), outline=(12, 15, 18),
    ego=(64, 224, 196), recorded=(222, 226, 230), route=(236, 200, 110),
    plan_near=(64, 224, 196), plan_far=(150, 120, 255), plan_dropped=(128, 138, 148),
    contact=(255, 72, 72), warmup=(240, 176, 64), closed_loop=(72, 190, 130),
    car=(98, 154, 226), truck=(166, 132, 228), pedestrian=(244, 146, 72), cyclist=(214, 214, 92),
    other=(148, 156, 164),
)  # fmt: skip

LIGHT = Palette(
    background=(233, 235, 231), drivable=(247, 248, 249), lane=(255, 255, 255), faint=(214, 219, 224),
    junction=(226, 231, 248), island=(200, 220, 194), pole=(122, 92, 66), boundary=(138, 147, 156), crosswalk=(205, 211, 217), stop_line=(90, 98, 106),
    line_white=(176, 184, 192), line_yellow=(222, 172, 52), line_blue=(96, 146, 214),
    text=(32, 38, 44), text_dim=(104, 113, 122), panel=(250, 251, 251), outline=(255, 255, 255),
    ego=(0, 148, 128), recorded=(120, 128, 136), route=(206, 150, 22),
    plan_near=(0, 148, 128), plan_far=(116, 84, 226), plan_dropped=(160, 168, 176),
    contact=(222, 32, 40), warmup=(214, 140, 16), closed_loop=(24, 140, 84),
    car=(62, 118, 196), truck=(126, 92, 196), pedestrian=(226, 110, 26), cyclist=(156, 148, 10),
    other=(136, 144, 152),
)  # fmt: skip

EDITED: Color = (208, 24, 128)
"""Outline of what was edited in a scene; no class of actors has this colour."""


def mix(a: Color, b: Color, share_b: float) -> Color:
    """Blend two colours."""
    r, g, b_ = (round(x + (y - x) * share_b) for x, y in zip(a, b, strict=True))
    return (r, g, b_)


@functools.lru_cache(maxsize=32)
def gradient(near: Color, far: Color, count: int) -> tuple[Color, ...]:
    """Colours from one to another, both included."""
    return tuple(mix(near, far, k / max(count - 1, 1)) for k in range(count))
