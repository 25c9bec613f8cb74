"""The delivered frames of a log without their images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omniloop.core.contracts import CameraFrame
from omniloop.core.errors import RunFolderError
from omniloop.core.motion import Times
from omniloop.runlog.reader import iter_frames
from omniloop.runlog.views import image_format

AGAIN = "run the rollout again: run.resume=true, with its result.json removed"


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """Delivered frames of some cameras, in order of delivery.

    Attributes:
        cameras: Their ids.
        camera: ``(F,)`` index into `cameras`.
        start_us, capture_us, available_us: ``(F,)``.
        size_px: ``(F, 2)`` width and height.
    """

    cameras: tuple[str, ...]
    camera: NDArray[np.int64]
    start_us: Times
    capture_us: Times
    available_us: Times
    size_px: NDArray[np.int64]


def index_frames(log: Path, cameras: tuple[str, ...]) -> FrameIndex:
    """Look at every frame of a log once; no image is kept.

    Raises:
        RunFolderError: the log cannot be read, a frame has no image, or an image is none.
    """
    place = {camera: k for k, camera in enumerate(cameras)}
    rows = []
    for frame in iter_frames(log):
        if frame.camera_id in place:
            times = (frame.start_us, frame.capture_us, frame.available_us)
            rows.append((place[frame.camera_id], *times, *size_of(frame, log)))
    table = np.array(rows, dtype=np.int64).reshape(-1, 6)
    camera, start_us, capture_us, available_us = table[:, :4].T
    return FrameIndex(cameras, camera, start_us, capture_us, available_us, table[:, 4:])


def suffix_of(frame: CameraFrame) -> str:
    """Ending of the name of a frame's file."""
    return {"jpeg": "jpg"}.get(image_format(frame.image), "png")


def size_of(frame: CameraFrame, log: Path) -> tuple[int, int]:
    """Width and height of an image, from its header.

    Raises:
        RunFolderError: it is neither JPEG nor PNG.
    """
    import simplejpeg

    kind, fault = image_format(frame.image), "neither JPEG nor PNG"
    try:
        if kind == "jpeg":
            height, width = simplejpeg.decode_jpeg_header(frame.image)[:2]
            return int(width), int(height)
    except ValueError as error:
        fault = f"no JPEG: {error}"
    if kind == "png" and len(frame.image) >= 24:  # after signature, length and "IHDR"
        return int.from_bytes(frame.image[16:20], "big"), int.from_bytes(frame.image[20:24], "big")
    raise RunFolderError(
        f"the image of {frame.camera_id} captured at {frame.capture_us} us is {fault}",
        where=str(log), remedy=AGAIN,
    )  # fmt: skip
