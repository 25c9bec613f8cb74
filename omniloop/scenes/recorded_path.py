"""The way that ego took in the recording, and how far from it something is."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.once import once_per_object
from omniloop.core.scene import Scene

PATH_STEP_M = 0.25
"""One recorded pose per so much path makes the polyline: poses at 170 Hz carry noise of
millimetres, which adds up to metres of path while ego stands. On a circle of 5 m radius
such a chord is 1.6 mm off; in real recordings it is up to 2 cm."""


@once_per_object
def recorded_path(scene: Scene) -> Array:
    """The recorded ego path as a polyline ``(M, 2)``; its first and last pose are kept."""
    xy = scene.ego.poses[:, :2]
    # The offset keeps poses exactly one step apart from being told apart by rounding.
    bucket = np.floor((geometry.arc_length_m(xy) + 1e-6) / PATH_STEP_M)
    keep = np.append(np.flatnonzero(np.diff(bucket, prepend=-1.0)), len(xy) - 1)
    return np.asarray(xy[np.unique(keep)])


def distance_from_recording_m(scene: Scene, local_to_rig: Array) -> Array:
    """Distances ``(N,)`` of the rig's origin from the whole recorded path, in the plane.

    Args:
        local_to_rig: ``(N, 7)`` poses of ego.
    """
    return geometry.project_on_polyline(local_to_rig[:, :2], recorded_path(scene))[1]
