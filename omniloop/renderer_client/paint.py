"""Drawing commands and their execution by OpenCV; JPEG encoding.

What to draw is computed first and kept as a list of commands. Painting the list is
nothing but OpenCV calls, so the cost of the rest can be measured against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from omniloop.core.geometry import Array
from omniloop.renderer_client.palette import Rgb

SHIFT = 4
"""Fractional bits of the coordinates given to OpenCV."""

Pixels = NDArray[np.int32]
Image = NDArray[np.uint8]


class Lines(NamedTuple):
    """Polylines ``(K, 2)`` of one colour and thickness, anti-aliased, with round caps."""

    polylines: list[Pixels]
    rgb: Rgb
    thickness: int


class Fill(NamedTuple):
    """A polygon ``(K, 2)``, filled by the even-odd rule, anti-aliased."""

    polygon: Pixels
    rgb: Rgb


class Faces(NamedTuple):
    """Polygons ``(K, 2)`` of one box, each with its colour.

    Attributes:
        smooth: Anti-aliased. Without it edges are hard and polygons tile without seams.
        convex: All polygons are convex.
    """

    polygons: list[Pixels]
    rgbs: list[Rgb]
    smooth: bool
    convex: bool


Command = Lines | Fill | Faces


def subpixels(pixels: Array) -> Pixels:
    """Fixed-point coordinates for OpenCV."""
    return np.rint(pixels * (1 << SHIFT)).astype(np.int32)


def thickness_for(width_px: Array) -> NDArray[np.int64]:
    """OpenCV's thickness that comes nearest to widths in pixels.

    An anti-aliased line of thickness 1 has 1.35 px of ink across; one of an even
    thickness t has t + 1.5 px and caps that fit it. Odd ones are wider than their caps.
    """
    even = 2 * np.rint((width_px - 1.5) / 2)
    return np.where(width_px < 2.4, 1, np.maximum(even, 2)).astype(np.int64)


def paint(image: Image, commands: Iterable[Command]) -> None:
    """Execute commands in order on an RGB image ``(H, W, 3)``."""
    for command in commands:
        if isinstance(command, Faces):
            line_type = cv2.LINE_AA if command.smooth else cv2.LINE_8
            for polygon, rgb in zip(command.polygons, command.rgbs, strict=True):
                if command.convex:
                    cv2.fillConvexPoly(image, polygon, rgb, line_type, SHIFT)
                else:
                    cv2.fillPoly(image, [polygon], rgb, line_type, SHIFT)
        elif isinstance(command, Lines):
            cv2.polylines(
                image, command.polylines, False, command.rgb, command.thickness, cv2.LINE_AA, SHIFT
            )
        else:
            cv2.fillPoly(image, [command.polygon], command.rgb, cv2.LINE_AA, SHIFT)


def encode_jpeg(image: Image, quality: int) -> bytes:
    """Encode an RGB image with 4:2:0 colour and the exact integer DCT."""
    return bytes(
        simplejpeg.encode_jpeg(
            image, quality=quality, colorspace="RGB", colorsubsampling="420", fastdct=False
        )
    )
