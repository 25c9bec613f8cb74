"""Camera pictures of a rollout: small ones for its player, whole ones at given instants."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import simplejpeg

from omniloop.core.contracts import CameraFrame
from omniloop.report.video import decode
from omniloop.runlog.reader import iter_frames

FILM_STEP_US = 500_000
"""The shortest time between two pictures of a film."""

FILM_WIDTH_PX = 320
_QUALITY = 55


@dataclass(frozen=True)
class Film:
    """Small camera pictures of a rollout.

    Attributes:
        camera_id: The camera.
        times_us: Capture times.
        jpegs: One picture each.
    """

    camera_id: str
    times_us: tuple[int, ...]
    jpegs: tuple[bytes, ...]

    def every(self, nth: int) -> Film:
        """The film with each nth picture alone; 0 for none at all."""
        keep = slice(None, None, nth) if nth else slice(0)
        return Film(self.camera_id, self.times_us[keep], self.jpegs[keep])

    def uris(self) -> list[str]:
        """Data URIs."""
        return [jpeg_uri(jpeg) for jpeg in self.jpegs]


def jpeg_uri(jpeg: bytes) -> str:
    """A JPEG as a data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def read_camera(
    log_path: Path, camera_id: str, instants_us: Iterable[int]
) -> tuple[Film, dict[int, CameraFrame]]:
    """Read one camera's film and its frames at some instants, in one pass of a log.

    Args:
        instants_us: Of each the newest frame captured at or before it is kept, or the
            first of all.

    Raises:
        RunFolderError: the log cannot be read.
        ValueError: a frame is no picture.
    """
    wanted = sorted(set(instants_us))
    kept: dict[int, CameraFrame] = {}
    times: list[int] = []
    jpegs: list[bytes] = []
    last: CameraFrame | None = None
    for frame in iter_frames(log_path, camera_id):
        while wanted and last is not None and wanted[0] < frame.capture_us:
            kept[wanted.pop(0)] = last
        if not times or frame.capture_us >= times[-1] + FILM_STEP_US:
            times.append(frame.capture_us)
            jpegs.append(_small(frame.image))
        last = frame
    if last is not None:
        kept.update(dict.fromkeys(wanted, last))
    return Film(camera_id, tuple(times), tuple(jpegs)), kept


def _small(image: bytes) -> bytes:
    picture = decode(image, (FILM_WIDTH_PX, 1))
    height, width = picture.shape[:2]
    size = (FILM_WIDTH_PX, max(round(height * FILM_WIDTH_PX / width), 1))
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    out: bytes = simplejpeg.encode_jpeg(picture, quality=_QUALITY, colorsubsampling="420")
    return out
