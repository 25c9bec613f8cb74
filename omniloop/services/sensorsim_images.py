"""Encoded images on the wire: told apart and measured by their headers, made into each other."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import simplejpeg

from omniloop.services.protos import sensorsim_pb2 as pb

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_IHDR = struct.Struct(">II5xI")

FORMATS = {"jpeg": pb.JPEG, "png": pb.PNG}
"""The formats that Omniloop reads, by their names in a config."""


def format_of(image: bytes) -> int:
    """`pb.JPEG`, `pb.PNG`, or `pb.UNDEFINED` for anything else."""
    if image.startswith(_JPEG):
        return int(pb.JPEG)
    return int(pb.PNG) if image.startswith(_PNG) else int(pb.UNDEFINED)


def image_size(image: bytes) -> tuple[int, int]:
    """Width and height as a JPEG's or PNG's header has them; the rest is not looked at.

    Raises:
        ValueError: it is neither, or its header is damaged.
    """
    if not image:
        raise ValueError("it is empty")
    kind = format_of(image)
    if kind == pb.JPEG:
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(image, strict=False)
        except KeyError as error:  # of simplejpeg's own: no known chroma sampling was found
            raise ValueError("its JPEG header is damaged") from error
        return int(width), int(height)
    if kind == pb.PNG:
        if len(image) < len(_PNG) + _IHDR.size:
            raise ValueError(f"its PNG header ends after {len(image)} bytes")
        width, height, checksum = _IHDR.unpack_from(image, len(_PNG))
        covered = image[len(_PNG) - 4 : len(_PNG) + _IHDR.size - 4]
        if zlib.crc32(covered) != checksum or not width or not height:
            raise ValueError("its PNG header is damaged")
        return width, height
    raise ValueError(f"it is neither JPEG nor PNG but begins with {image[:8].hex(' ')}")


def encoded_as(image: bytes, wanted: int, quality: float) -> bytes:
    """A JPEG or PNG decoded and encoded as the one that is wanted.

    Args:
        wanted: `pb.JPEG` or `pb.PNG`.
        quality: Of a new JPEG, 1 to 100.

    Raises:
        ValueError: it cannot be decoded.
    """
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR) if image else None
    if pixels is None:
        raise ValueError("it is neither JPEG nor PNG, or damaged")
    if wanted == pb.PNG:
        done, out = cv2.imencode(".png", pixels)
    else:
        done, out = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, round(quality)])
    if not done:
        raise ValueError(f"its {pixels.shape[1]}x{pixels.shape[0]} pixels cannot be encoded")
    return bytes(out)
