"""Poses and intrinsics of cameras at the size of their images, as JSON holds them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from omniloop.core.cameras import Camera, FThetaCamera, select_cameras
from omniloop.core.scene import Scene
from omniloop.export.frame_index import FrameIndex


def cameras_of(scene: Scene, frames: FrameIndex) -> dict[str, Camera]:
    """The cameras that have frames, at the size of their first one.

    Raises:
        ConfigError: the scene lacks a camera.
    """
    out = {}
    for k, name in enumerate(frames.cameras):
        own = np.flatnonzero(frames.camera == k)
        if len(own):
            (camera,) = select_cameras(scene.cameras, (name,), scene.id)
            width, height = frames.size_px[own[0]].tolist()
            model = camera.model.resized(width, height)
            out[name] = Camera(name, model, camera.rig_to_camera)
    return out


def calibration(camera: Camera) -> dict[str, Any]:
    """``rig_to_camera`` and ``intrinsics``: the fields of `PinholeCamera` or `FThetaCamera`."""
    kind = "ftheta" if isinstance(camera.model, FThetaCamera) else "pinhole"
    fields = {name: _plain(value) for name, value in asdict(camera.model).items()}
    return {
        "rig_to_camera": camera.rig_to_camera.tolist(),
        "intrinsics": {"model": kind, **fields},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [float(part) for part in value]
    return value if isinstance(value, int) else float(value)
