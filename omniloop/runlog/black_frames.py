"""Which images of a log are black: the record of a rollout holds none of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from omniloop.core.record import BlackFrames
from omniloop.runlog.reader import iter_frames

BLACK = 10
"""No value of a black image is above this (AlpaSim, `img_is_black`)."""

_MARGIN = 2
"""Of the small decoding below, whose values are rounded."""


def black_frames(log: Path, camera_id: str) -> BlackFrames:
    """Look at every delivered frame of a camera.

    Raises:
        RunFolderError: the log cannot be read, or an image cannot be decoded.
    """
    found: dict[int, bool] = {}
    for frame in iter_frames(log, camera_id):
        try:
            found[frame.capture_us] = is_black(frame.image)
        except ValueError as error:
            raise _unreadable(log, camera_id, frame.capture_us, error) from error
    times = sorted(found)
    return BlackFrames(
        camera_id,
        np.array(times, dtype=np.int64),
        np.array([found[t] for t in times], dtype=bool),
    )


def is_black(image: bytes) -> bool:
    """Whether no value of an encoded image is above `BLACK`.

    A JPEG is decoded at an eighth of its size first: such a pixel is the mean brightness of
    8 x 8 pixels, and where that is above, one of them is. Few images need more.

    Raises:
        ValueError: it is no image that can be decoded.
    """
    import cv2
    import simplejpeg

    if simplejpeg.is_jpeg(image):
        small = simplejpeg.decode_jpeg(image, colorspace="GRAY", min_height=1, min_width=1)
        if small.max() > BLACK + _MARGIN:
            return False
        pixels = simplejpeg.decode_jpeg(image, fastdct=False, fastupsample=False)
    else:
        pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR) if image else None
        if pixels is None:
            raise ValueError(f"{len(image)} bytes are no image")
    return bool(pixels.max() <= BLACK)


def _unreadable(log: Path, camera_id: str, capture_us: int, error: Exception) -> Exception:
    from omniloop.core.errors import RunFolderError

    return RunFolderError(
        f"the frame of {camera_id} at {capture_us} us cannot be decoded: {error}", where=str(log),
        remedy="score without --frames, or run the rollout again",
    )  # fmt: skip
