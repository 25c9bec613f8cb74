"""Text in pictures: OpenCV's built-in fonts, sized in pixels."""

from __future__ import annotations

import functools
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from omniloop.report.palette import Color

Image = NDArray[np.uint8]
"""``(H, W, 3)`` red, green, blue."""

_REGULAR, _BOLD = cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX


@functools.cache
def _scale(bold: bool, cap_px: int) -> float:
    """Font scale at which a capital letter is `cap_px` high."""
    (_, height), _ = cv2.getTextSize("H", _BOLD if bold else _REGULAR, 1.0, 1)
    return float(cap_px / max(height, 1))


def printable(text: str) -> str:
    """The text with what the fonts cannot show replaced by question marks."""
    return text.encode("ascii", "replace").decode()


@functools.lru_cache(maxsize=512)
def text_width_px(text: str, cap_px: int, bold: bool = False) -> int:
    """Width of a text whose capitals are `cap_px` high."""
    font = _BOLD if bold else _REGULAR
    (width, _), _ = cv2.getTextSize(printable(text), font, _scale(bold, cap_px), 1)
    return int(width)


def put_text(
    image: Image,
    text: str,
    xy: tuple[int, int],
    color: Color,
    cap_px: int = 9,
    *,
    bold: bool = False,
    align: Literal["left", "right", "center"] = "left",
) -> int:
    """Write one line whose baseline starts (ends, is centred) at `xy`; return its width in px."""
    width = text_width_px(text, cap_px, bold)
    x = xy[0] - {"left": 0, "center": width // 2, "right": width}[align]
    font = _BOLD if bold else _REGULAR
    scale = _scale(bold, cap_px)
    cv2.putText(image, printable(text), (x, xy[1]), font, scale, color, 1, cv2.LINE_AA)
    return width


def shorten(text: str, max_px: int, cap_px: int = 9, bold: bool = False) -> str:
    """Cut the middle out of a text until it fits `max_px`."""
    if text_width_px(text, cap_px, bold) <= max_px:
        return text
    keep = len(text) - 1
    while keep > 2:
        head = (keep + 1) // 2
        cut = f"{text[:head]}..{text[len(text) - (keep - head) :]}"
        if text_width_px(cut, cap_px, bold) <= max_px:
            return cut
        keep -= 1
    return text[:2]


def wrapped(text: str, max_px: int, most_lines: int, cap_px: int = 9) -> list[str]:
    """Break a text between words into lines of at most `max_px`; what does not fit is cut off."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or text_width_px(longer, cap_px) <= max_px:
            lines[-1] = longer
        else:
            lines.append(word)
    shown = lines[:most_lines]
    if len(lines) > most_lines:
        shown[-1] += " ..."
    return [shorten(line, max_px, cap_px) for line in shown if line]
