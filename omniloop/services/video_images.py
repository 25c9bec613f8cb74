"""Images of a video model's protocol: cut to a size, and those that come as plain pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from omniloop.services.sensorsim_images import image_size


def covering(image: bytes, width: int, height: int) -> bytes:
    """A JPEG or PNG scaled to cover a size and cut about its middle, without loss.

    This is what `CameraModel.resized` does to a camera; a video model's server would
    squeeze the image instead. One of the right size stays as it is.

    Raises:
        ValueError: it cannot be decoded.
    """
    has_width, has_height = image_size(image)
    if (has_width, has_height) == (width, height):
        return image
    scale = max(width / has_width, height / has_height)
    scaled = (max(round(has_width * scale), width), max(round(has_height * scale), height))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    whole = cv2.resize(decoded(image), scaled, interpolation=way)
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    return _as_png(whole[top : top + height, left : left + width])


def decoded(image: bytes) -> NDArray[np.uint8]:
    """A JPEG or PNG as ``(H, W, 3)`` in OpenCV's order blue, green, red.

    Raises:
        ValueError: it cannot be decoded.
    """
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR) if image else None
    if pixels is None:
        raise ValueError(f"{len(image)} bytes are no image, or a damaged one")
    return np.asarray(pixels, dtype=np.uint8)


def from_planar(pixels: bytes, width: int, height: int) -> bytes:
    """RGB planes ``(3, H, W)`` of bytes as a PNG.

    Raises:
        ValueError: they are not as many as an image of that size has.
    """
    if len(pixels) != 3 * width * height:
        raise ValueError(f"{len(pixels)} bytes are no RGB planes of {width}x{height}")
    planes = np.frombuffer(pixels, dtype=np.uint8).reshape(3, height, width)
    return _as_png(np.ascontiguousarray(planes[::-1].transpose(1, 2, 0)))


def _as_png(image: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", image)[1])
