"""Videos of rollouts: a camera beside the bird's-eye view, streamed into an mp4."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from omniloop.core.contracts import CameraFrame
from omniloop.core.errors import ConfigError, RunFolderError, nearest
from omniloop.core.record import RolloutRecord
from omniloop.core.time import US_PER_S
from omniloop.report.incidents import Incident, incidents_of_record
from omniloop.report.overlay import camera_of
from omniloop.report.stage import Stage
from omniloop.report.text import Image
from omniloop.runlog.reader import LogReader, iter_frames
from omniloop.runlog.record import read_record

MAP_ONLY_FPS = 10
"""Frame rate of a video without camera pictures."""

_JPEG_START = b"\xff\xd8"
_LIMITED_RANGE, _BT601 = 1, 6


def require_pyav() -> Any:
    """Return the PyAV module.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ConfigError(
            f"videos need PyAV, which cannot be imported: {error}",
            where="run.video",
            remedy="pip install 'omniloop[video]'",
        ) from error
    return av


def decode(image: bytes, at_least: tuple[int, int] | None = None) -> Image:
    """Decode a JPEG or PNG into ``(H, W, 3)`` RGB.

    Args:
        image: The encoded picture.
        at_least: A JPEG may come out at a half or a quarter of its size, which costs less,
            but not below this ``(width, height)``.

    Raises:
        ValueError: the bytes are no picture.
    """
    if image[:2] == _JPEG_START:
        width, height = at_least or (0, 0)
        picture: Image = simplejpeg.decode_jpeg(
            image, "RGB", fastdct=True, fastupsample=True,
            min_width=width, min_height=height, min_factor=2,
        )  # fmt: skip
        return picture
    decoded = cv2.imdecode(np.frombuffer(image, dtype=np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise ValueError(f"{len(image)} bytes that are neither JPEG nor PNG")
    return np.ascontiguousarray(decoded[..., ::-1])


class VideoWriter:
    """Encodes RGB pictures into an mp4, one at a time.

    H.264, 4:2:0, one thread, index at the front. The file appears under its name when it
    is complete; a failure leaves nothing.

    Args:
        path: The file to write.
        size: ``(width, height)``, both even.
        fps: Frames per second; pictures are timed by `index` in these units.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: Fraction) -> None:
        self._av = require_pyav()
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._fps = fps
        try:
            self._container = self._av.open(
                str(self._part), "w", format="mp4", options={"movflags": "+faststart"}
            )
        except OSError as error:
            raise _cannot_write(path, error) from error
        stream = self._container.add_stream("libx264", rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = 1 / fps
        stream.codec_context.thread_count = 1
        stream.codec_context.color_range = _LIMITED_RANGE
        stream.codec_context.colorspace = _BT601
        # No B-frames and one reference: 25 MiB less of pictures held back.
        stream.options = {
            "preset": "superfast", "crf": "22", "bf": "0", "refs": "1", "g": str(max(round(2 * fps), 1)),
        }  # fmt: skip
        self._stream = stream

    def add(self, image: Image, index: int) -> None:
        """Encode a picture ``(H, W, 3)`` shown from ``index / fps`` on; indices increase."""
        planes = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)
        frame = self._av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts = index
        frame.time_base = 1 / self._fps
        self._mux(frame)

    def _mux(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except OSError as error:
            raise _cannot_write(self._path, error) from error

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._mux(None)
                self._container.close()
                os.replace(self._part, self._path)
        except OSError as error:
            raise _cannot_write(self._path, error) from error
        finally:
            with contextlib.suppress(OSError):
                self._container.close()
            self._part.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"cannot write the video: {error.strerror or error}", where=str(path),
        remedy="check that the folder exists and the disk has space",
    )  # fmt: skip


def frame_rate(record: RolloutRecord, camera_id: str) -> Fraction:
    """Frames per second of a camera: 30 for an interval of 33,333 us."""
    for clock in record.schedule.clocks:
        if clock.camera_id == camera_id:
            return Fraction(US_PER_S, clock.interval_us).limit_denominator(1001)
    return Fraction(MAP_ONLY_FPS)


def write_video(
    path: Path,
    record: RolloutRecord,
    frames: Iterable[CameraFrame] = (),
    *,
    fps: float | None = None,
    width: int = 1280,
    policy: str = "",
    incidents: Sequence[Incident] | None = None,
) -> int:
    """Write the video of a rollout.

    A picture shows the world at a frame's capture time; a frame that was never delivered
    leaves its predecessor standing. Without frames the map alone is shown at 10 Hz.

    Args:
        path: The mp4 to write.
        record: The rollout.
        frames: Frames of one camera by capture time; they are read as they are drawn.
        fps: Frames per second; None for the camera's own.
        width: Pixels from left to right.
        policy: The policy's name for the header.
        incidents: Flags; None to find them in the record by the default thresholds.

    Returns:
        How many pictures were encoded.

    Raises:
        ConfigError: PyAV is not installed, or `fps` is not positive.
        RunFolderError: the file cannot be written.
    """
    require_pyav()
    if fps is not None and not fps > 0:
        raise ConfigError(f"fps is {fps}", remedy="give a positive frame rate")
    stream = iter(frames)
    first = next(stream, None)
    if incidents is None:
        incidents = incidents_of_record(record)
    if first is None:
        rate = Fraction(MAP_ONLY_FPS) if fps is None else Fraction(fps).limit_denominator(1001)
        stage = Stage(record, width, None, None, policy, incidents)
        start, end = record.schedule.context_start_us, record.frontier_us
        count = (end - start) * rate // US_PER_S + 1
        shown: Iterator[tuple[int, Image | None]] = (
            (start + round(k * US_PER_S / rate), None) for k in range(count)
        )
    else:
        rate = (
            frame_rate(record, first.camera_id)
            if fps is None
            else Fraction(fps).limit_denominator(1001)
        )
        height, full_width = decode(first.image).shape[:2]
        camera = camera_of(record.scene, first.camera_id)
        stage = Stage(record, width, (full_width, height), camera, policy, incidents)
        shown = (
            (frame.capture_us, decode(frame.image, stage.picture_size))
            for frame in itertools.chain([first], stream)
        )
    return _encode(path, stage, shown, rate)


def video_from_log(
    log_path: Path,
    out_path: Path,
    camera_id: str | None = None,
    *,
    incidents: Sequence[Incident] | None = None,
) -> int:
    """Write the video of a rollout from its log alone; a log that is cut off gives what it holds.

    Args:
        log_path: The rollout's log.
        out_path: The mp4 to write.
        camera_id: The camera to show; None for the first of those rendered.
        incidents: See `write_video`.

    Returns:
        How many pictures were encoded.

    Raises:
        ConfigError: PyAV is not installed, or nothing was rendered for `camera_id`.
        RunFolderError: the log cannot be read, or the file cannot be written.
    """
    require_pyav()
    record = read_record(log_path, allow_cut_off=True)
    cameras = [clock.camera_id for clock in record.schedule.clocks]
    if camera_id is not None and camera_id not in cameras:
        raise ConfigError(
            f"no camera '{camera_id}' was rendered.{nearest(camera_id, cameras)}", where=str(log_path),
            remedy=f"cameras in the log: {', '.join(cameras) or 'none'}",
        )  # fmt: skip
    frames: Iterable[CameraFrame] = ()
    if cameras:
        frames = iter_frames(log_path, camera_id or cameras[0])
    policy = LogReader(log_path).header().plugins.get("policy", "")
    return write_video(out_path, record, frames, policy=policy, incidents=incidents)


def _encode(
    path: Path, stage: Stage, shown: Iterator[tuple[int, Image | None]], rate: Fraction
) -> int:
    count, index, began_us = 0, -1, 0
    with VideoWriter(path, (stage.layout.width, stage.layout.height), rate) as writer:
        for time_us, picture in shown:
            if count == 0:
                began_us = time_us
            index = max(round((time_us - began_us) * rate / US_PER_S), index + 1)
            writer.add(stage.draw(time_us, picture), index)
            count += 1
    return count
