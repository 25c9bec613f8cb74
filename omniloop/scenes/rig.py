"""The standard rig: the two front cameras that trained policies look through."""

from __future__ import annotations

import numpy as np

from omniloop.core.cameras import Camera, FThetaCamera, default_camera

FRONT_WIDE = "camera_front_wide_120fov"
FRONT_TELE = "camera_front_tele_30fov"


def front_tele_camera() -> Camera:
    """A forward f-theta camera of 30 degrees at the place and pitch of `default_camera`."""
    model = FThetaCamera.equidistant(1280, 704, np.deg2rad(30.0))
    return Camera(id=FRONT_TELE, model=model, rig_to_camera=default_camera().rig_to_camera)


STANDARD_RIG = (default_camera(), front_tele_camera())
"""Wide and tele; ids and fields of view are those of NVIDIA's PhysicalAI recordings."""
