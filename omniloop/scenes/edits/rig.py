"""The edit that gives a scene the standard rig."""

from __future__ import annotations

from dataclasses import replace

from omniloop.core.scene import Scene
from omniloop.scenes.edits.schema import StandardRig
from omniloop.scenes.rig import STANDARD_RIG


def standard_rig(scene: Scene, edit: StandardRig) -> tuple[Scene, str]:
    """Replace the cameras by `STANDARD_RIG`; first images of other cameras go with them."""
    names = ", ".join(camera.id for camera in STANDARD_RIG)
    had = ", ".join(camera.id for camera in scene.cameras) or "none"
    return replace(scene, cameras=STANDARD_RIG, first_frames=()), f"{names} instead of {had}"
