"""Cameras and first images beside a nuScenes scene."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from omniloop.core import geometry
from omniloop.core.cameras import Camera, PinholeCamera
from omniloop.core.errors import SceneError
from omniloop.core.scene import FirstFrame
from omniloop.core.time import seconds_to_us
from omniloop.scenes import bounds, build
from omniloop.scenes.usdz_documents import rigid

FRAME_INTERVAL_US = 83_333
"""nuScenes' cameras run at 12 Hz (Caesar et al., nuScenes, CVPR 2020, table 2)."""

_MAX_CAMERAS = 32
_MAX_IMAGE_BYTES = 8 << 20
"""A JPEG of nuScenes has 0.2 MB."""

_COPY = "copy the folder again"


def read_first_frame(folder: Path) -> tuple[tuple[Camera, ...], tuple[FirstFrame, ...]]:
    """Cameras and first images; none if the folder is missing.

    ``info.json`` is mmdetection3d's (info_version 1.1): intrinsics ``cam2img`` and the pose
    ``cam2ego`` of the optical frame in the rig. Images were taken up to 43 ms before the
    keyframe, the scene's time 0, and their `capture_us` says so. Shutter times being outside
    the recording, cameras do not fix when rendering starts.
    """
    if not os.path.isdir(folder):
        return (), ()
    file = folder / "info.json"
    if not os.path.isfile(file):
        raise SceneError("lacks the file info.json", where=str(folder), remedy=_COPY)
    where = str(file)
    entries = build.member(build.read_json(file), "data_list", where)
    if not isinstance(entries, list) or len(entries) != 1:
        raise SceneError("data_list does not hold one keyframe", where=where, remedy=_COPY)
    keyframe_s = _time_s(entries[0], where)
    images = build.member(entries[0], "images", where)
    if not isinstance(images, dict):
        raise SceneError("images is not a mapping", where=where, remedy=_COPY)
    bounds.check_count(len(images), _MAX_CAMERAS, "cameras", where)
    bounds.check_names(images, f"{where}, images")
    cameras, frames = [], []
    for name, info in images.items():
        here = f"{where}, image {name}"
        cam2ego = rigid(build.member(info, "cam2ego", here), (), "cam2ego", here)
        taken_s = _time_s(info, here)
        image = _jpeg(folder, info, here)
        cameras.append(
            Camera(
                name,
                _model(info, _jpeg_size(image, here), here),
                geometry.normalise(cam2ego),
                frame_interval_us=FRAME_INTERVAL_US,
            )
        )
        frames.append(FirstFrame(name, seconds_to_us(taken_s - keyframe_s), image))
    return tuple(cameras), tuple(frames)


def _time_s(mapping: Any, where: str) -> float:
    time_s = float(
        build.finite_array(build.member(mapping, "timestamp", where), (), "timestamp", where)
    )
    if abs(time_s) > bounds.LATEST_S:
        raise SceneError(f"a time of {time_s:g} s", where=where, remedy=_COPY)
    return time_s


def _model(info: Any, size_px: tuple[int, int], where: str) -> PinholeCamera:
    """The camera of an image of some height and width."""
    k = build.finite_array(build.member(info, "cam2img", where), (3, 3), "cam2img", where)
    fx, fy, cx, cy = bounds.check_numbers(k[[0, 1, 0, 1], [0, 1, 2, 2]], "fx, fy, cx, cy", where)
    if fx <= 0 or fy <= 0:
        raise SceneError(
            f"cam2img has focal lengths of {fx:g} and {fy:g} px", where=where, remedy=_COPY
        )
    height, width = size_px
    return PinholeCamera(width, height, float(fx), float(fy), float(cx), float(cy))


def _jpeg(folder: Path, info: Any, where: str) -> bytes:
    """The image's file, which lies in the folder itself."""
    name = bounds.name_of(build.member(info, "img_path", where), "img_path", where)
    if Path(name).name != name or "\0" in name:
        raise SceneError(
            f"img_path is {bounds.shown(name)}, not the name of a file", where=where, remedy=_COPY
        )
    return build.read_bytes(folder / name, _MAX_IMAGE_BYTES)


def _jpeg_size(image: bytes, where: str) -> tuple[int, int]:
    """Height and width."""
    import simplejpeg

    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(image)
    except ValueError as error:
        raise SceneError(f"the image is no JPEG: {error}", where=where, remedy=_COPY) from error
    return int(height), int(width)
